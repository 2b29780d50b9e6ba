//! How tables come, grow, are rewritten and go.
