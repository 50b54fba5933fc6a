//! The `palisade` command. Everything is in the library, so that tests can use it too.

use std::process::ExitCode;

// One request makes thousands of small allocations: with this allocator the service answers half as
// many requests again as with glibc's (docs/performance.md).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    palisade::cli::main()
}
