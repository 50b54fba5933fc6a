//! The threads for work that takes more than a millisecond, such as parsing a long document or writing a long response.
//!
//! The invariant: **heavy work does not delay light requests.** It does not run on the threads that serve connections,
//! and on Linux its threads have a lower priority than the other threads of the process.

use std::sync::LazyLock;

use tokio::{
    runtime::{Builder, Handle, Runtime},
    task::JoinHandle,
};

/// The nice value of the threads. If all threads want to run, one with this value gets about a tenth of the time of one
/// with the value 0 (`sched(7)`). A lower priority could stop a thread for long while it holds a lock.
#[cfg(target_os = "linux")]
const NICE: i32 = 10;

/// A runtime of which only the threads for blocking work are used. They start when there is work, and end after 10 s
/// without work. The slots of the tenants bound their number. `None` if the runtime cannot start.
static THREADS: LazyLock<Option<Runtime>> = LazyLock::new(|| {
    let mut builder = Builder::new_current_thread();
    let builder = builder.thread_name("palisade-heavy");
    let runtime = builder.on_thread_start(lower_priority).build();
    let log = |error: &_| tracing::warn!("heavy work runs without its own threads: {error}");
    runtime.inspect_err(log).ok()
});

/// Runs work that does not wait.
pub fn run<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    match &*THREADS {
        Some(threads) => threads.spawn_blocking(work),
        None => tokio::task::spawn_blocking(work),
    }
}

/// Polls a future on a thread of its own. The runtime of the caller drives its timers and sockets.
pub fn poll<T: Send + 'static>(future: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
    let runtime = Handle::current();
    run(move || runtime.block_on(future))
}

/// Lowers the priority of the calling thread. On other systems than Linux, the call would lower the priority of the
/// process.
fn lower_priority() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::setpriority_process(None, NICE) {
        tracing::warn!("heavy work runs with the usual priority: {error}");
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use rustix::process::getpriority_process;

    use super::*;

    #[tokio::test]
    async fn heavy_work_has_a_lower_priority_than_the_thread_that_waits_for_it() {
        let usual = getpriority_process(None).unwrap();
        let priority = || getpriority_process(None).unwrap();
        assert_eq!(run(priority).await.unwrap(), NICE.max(usual));
        assert_eq!(
            poll(async move { priority() }).await.unwrap(),
            NICE.max(usual)
        );
        assert_eq!(priority(), usual);
    }
}
