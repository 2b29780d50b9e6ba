//! The `weir` binary.

use std::process::ExitCode;

/// Requests, blocks and segments are a megabyte and more and live for a moment; this allocator gives out their memory
/// again without asking the kernel.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    weir::cli::main()
}
