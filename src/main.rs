//! The `palisade` command. Its code is in the library, so that tests can use it too.

use std::process::ExitCode;

// A request makes thousands of small allocations. With this allocator the service handles 1.5 times as many requests as
// with glibc's (docs/performance.md).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    palisade::cli::main()
}
