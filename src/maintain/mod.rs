//! Background work.

pub mod cleaning;
