//! The log as the fold sees it: levels, time, snapshots, truncation.

mod level;
mod time;
mod truncation;
