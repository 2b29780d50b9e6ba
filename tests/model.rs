//! The protocol as models, each checked exhaustively at small sizes: every order of events, every delay, every loss.
//!
//! A model knows the rules of its part by name and can be built without any of them. For each there is a test that
//! looks for what goes wrong then; it fails if nothing does. `docs/model.md` has the rules and the counterexamples.

#[path = "model/check.rs"]
mod check;
#[path = "model/clocks/mod.rs"]
mod clocks;
#[path = "model/commit/mod.rs"]
mod commit;
#[path = "model/compaction/mod.rs"]
mod compaction;
#[path = "model/forwarding/mod.rs"]
mod forwarding;
#[path = "model/leases/mod.rs"]
mod leases;
#[path = "model/sweep/mod.rs"]
mod sweep;
#[path = "model/truncation/mod.rs"]
mod truncation;
