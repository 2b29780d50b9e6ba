//! Hostile bytes for everything that reads bytes. Compiled for tests and for fuzzers, never into the binary.
//!
//! A [`Target`] takes any bytes and gives them to one of Weir's readers: as they are, and once more with lengths and
//! checksums made right, because a fuzzer does not find a CRC by chance and what lies behind it must hold as well. It
//! panics if the reader does, and if what was read breaks a promise: a state that cannot be written and read again, a
//! record that was not counted.
//!
//! Two things run the targets. The tests here mutate a corpus a fixed number of times in every `cargo test`, bound
//! memory and time for each input, and go on for as long as asked (`make fuzz SECONDS=600`). The fuzzers of `fuzz/`
//! are guided by coverage and need a nightly compiler. `docs/fuzzing.md` says more.
//!
//! It never does I/O (its tests read fixtures), and holds nothing from one input to the next.

mod batches;
mod compacted;
mod fold;
mod objects;
mod table;
mod text;
mod wire;

#[cfg(test)]
pub(crate) mod tests;

pub use fold::exercise;

/// Something that reads bytes.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name: that of its fuzzer, its test and its fixtures.
    pub name: &'static str,
    /// Reads an input; true if the input was understood. Panics on what must never happen.
    pub run: fn(&[u8]) -> bool,
    /// What its inputs are made of.
    pub shape: Shape,
    /// The most memory that an input of that many bytes may take.
    pub memory: fn(usize) -> usize,
}

/// What an input is made of, by which it is mutated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Bytes with lengths and numbers in them.
    Bytes,
    /// CBOR.
    Cbor,
    /// Text.
    Text,
}

/// All targets.
pub const TARGETS: &[Target] = &[
    Target {
        name: "object",
        run: objects::object,
        shape: Shape::Bytes,
        memory: |len| (1 << 20) + 64 * len,
    },
    Target {
        name: "commit",
        run: objects::commit,
        shape: Shape::Cbor,
        // A topic may have a hundred thousand partitions, and the state is held four times over here.
        memory: |len| (96 << 20) + 1024 * len,
    },
    Target {
        name: "snapshot",
        run: objects::snapshot,
        shape: Shape::Cbor,
        memory: |len| (96 << 20) + 1024 * len,
    },
    Target {
        name: "segment_index",
        run: objects::segment_index,
        shape: Shape::Cbor,
        memory: |len| (512 << 10) + 64 * len,
    },
    Target {
        name: "compacted",
        run: compacted::compacted,
        shape: Shape::Cbor,
        memory: |len| (512 << 10) + 64 * len,
    },
    Target {
        name: "batch",
        run: batches::batch,
        shape: Shape::Bytes,
        memory: batches::memory,
    },
    Target {
        name: "records",
        run: batches::records,
        shape: Shape::Bytes,
        memory: batches::memory,
    },
    Target {
        name: "kafka_request",
        run: wire::request,
        shape: Shape::Bytes,
        memory: |len| (64 << 10) + 64 * len,
    },
    Target {
        name: "kafka_stream",
        run: wire::stream,
        shape: Shape::Bytes,
        memory: |len| (512 << 10) + 64 * len,
    },
    Target {
        name: "group_metadata",
        run: wire::group_metadata,
        shape: Shape::Bytes,
        memory: |len| (64 << 10) + 256 * len,
    },
    Target {
        name: "metadata",
        run: table::metadata,
        shape: Shape::Bytes,
        memory: |len| (1 << 20) + 256 * len,
    },
    Target {
        name: "text",
        run: text::text,
        shape: Shape::Text,
        memory: |len| (1 << 20) + 256 * len,
    },
];

/// Gives `input` to the target of this name, for the fuzzers of `fuzz/`.
///
/// # Panics
///
/// If there is no such target, and if the input breaks it.
pub fn run(name: &str, input: &[u8]) {
    let target = TARGETS.iter().find(|target| target.name == name);
    (target.expect("there is a target of this name").run)(input);
}
