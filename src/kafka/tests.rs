//! Requests and responses over a connection in this process.
