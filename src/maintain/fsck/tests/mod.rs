//! A bucket that is made by the real log, then damaged in one way.

mod compacted;
mod damage;
mod healthy;
mod live;
mod scene;
mod usage;
