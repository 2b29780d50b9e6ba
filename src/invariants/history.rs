//! Predicates over histories: what clients were told, and what they read.
