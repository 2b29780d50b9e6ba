//! Work on a bucket beside the traffic of clients: what checks it, counts it and cleans it.
//!
//! Nothing here is needed to serve a client, and nothing here decides anything about data by itself: what must hold
//! is in [`crate::invariants`], what may go is in the state. A job that dies at any point leaves nothing worse than
//! work to repeat.

pub mod fsck;
pub mod usage;
