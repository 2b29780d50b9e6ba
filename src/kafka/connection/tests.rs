//! Order, overlap and ends, with calls that the test finishes.
