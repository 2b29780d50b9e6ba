//! The `weir` binary.

use std::process::ExitCode;

/// Requests, blocks and segments are a megabyte and more and live for a moment; this allocator gives out their memory
/// again without asking the kernel.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// The allocator's settings, which it finds by this name (decision 0033). What was freed is kept for a minute, also
/// pieces of 8 MiB and more, since a load that swings asks for it again, and clearing it anew costs up to a quarter of
/// a producing node's processor time. Four arenas on any machine: each keeps what it has, and many would keep much.
#[allow(
    unsafe_code,
    reason = "a wrong name would be ignored, and a test looks that it is not"
)]
#[unsafe(export_name = "_rjem_malloc_conf")]
static ALLOCATOR_SETTINGS: &[u8; 52] = b"oversize_threshold:0,dirty_decay_ms:60000,narenas:4\0";

fn main() -> ExitCode {
    weir::cli::main()
}
