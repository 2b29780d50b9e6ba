//! Predicates over a state, a snapshot or the bytes of objects: what data at rest can show.
