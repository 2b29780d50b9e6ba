//! The read path: (partition, offset) -> slice -> blocks of an object -> record batches with real offsets.
//!
//! Objects never change, so a block of one that was read once is right for ever; what a node just wrote
//! or followed is put in the cache before its state is published, so consumers of the tail do not touch
//! the store. A miss is loaded once for all readers that wait for it (single flight). Loads of recent objects and of
//! old ones have separate, bounded pools and separate caches: catching up can neither starve the tail nor evict it.
//! There is no LIST on any path, and nothing here decides anything: no state is changed.
//!
//! Every batch is checked against its CRC32C before it is handed out (I4), and its base offset and leader epoch
//! are patched in the copy that goes to the client; the other bytes are as the producer sent them. Batches of compacted
//! slices carry their real offsets: their chunks are checked when they are loaded, offsets included, and handed out as
//! they lie in the cache. Where to begin in such a slice is in its index, which is small and cached.
//!
//! What lies side by side in an object and is missing is loaded by one request, up to some mebibytes, but cached block
//! by block. What is loaded at once, loaded ahead and held is bounded in bytes, whatever readers ask for.
//!
//! A future that is dropped leaves a load running for whoever else waits, or cancelled if nobody does; both are
//! harmless. An object that is missing was replaced since the reader's state was current: the caller
//! refreshes its state and asks again.

mod ahead;
mod block;
mod blocks;
mod compacted;
mod error;
mod extents;
mod files;
mod metrics;
mod reader;
mod walk;

#[cfg(test)]
mod tests;

pub use block::{Block, split};
pub use blocks::{Blocks, CacheOptions};
pub use error::ReadError;
pub use extents::BLOCK;
pub use files::{FileReadError, TableFile};
pub use metrics::FetchMetrics;
pub use reader::{ReadLimits, Reader, Wanted};
