//! The threads for work that takes more than a millisecond, such as parsing a long document or writing a long response.
//!
//! The invariant: **heavy work does not delay light requests.** It does not run on the threads that serve connections,
//! it uses at most half of the processors, and on Linux its threads have a lower priority than the other threads of the
//! process.

use std::{
    future::poll_fn, mem, pin::pin, sync::LazyLock, task::Poll, thread::available_parallelism,
};

use tokio::{
    runtime::{Builder, Handle, Runtime},
    sync::{Semaphore, SemaphorePermit},
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

/// The turns of heavy work: half of the processors, at least one. The work that has waited longest has the next turn.
static TURNS: LazyLock<Semaphore> = LazyLock::new(|| {
    let processors = available_parallelism().map_or(1, usize::from);
    Semaphore::new((processors / 2).max(1))
});

async fn turn() -> SemaphorePermit<'static> {
    let turn = TURNS.acquire().await;
    turn.expect("BUG: the semaphore of heavy work is closed")
}

/// Runs work that does not wait.
pub fn run<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    poll(async { work() })
}

/// Polls a future on a thread of its own. The runtime of the caller drives its timers and sockets. The future has a turn
/// while it is polled, and none while it waits.
pub fn poll<T: Send + 'static>(future: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
    let runtime = Handle::current();
    let work = move || runtime.block_on(take_turns(future));
    match &*THREADS {
        Some(threads) => threads.spawn_blocking(work),
        None => tokio::task::spawn_blocking(work),
    }
}

async fn take_turns<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    loop {
        let turn = turn().await;
        let polled = poll_fn(|context| Poll::Ready(future.as_mut().poll(context))).await;
        drop(turn);
        if let Poll::Ready(output) = polled {
            return output;
        }
        // The future has registered the waker of this task.
        let mut is_woken = false;
        poll_fn(|_| {
            if mem::replace(&mut is_woken, true) {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
    }
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

    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn heavy_work_uses_at_most_half_of_the_processors() {
        let turns = (available_parallelism().unwrap().get() / 2).max(1);
        let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let works = (0..4 * turns).map(|_| {
            let (running, most) = (Arc::clone(&running), Arc::clone(&most));
            poll(async move {
                for _ in 0..50 {
                    let now = running.fetch_add(1, Ordering::SeqCst) + 1;
                    most.fetch_max(now, Ordering::SeqCst);
                    std::thread::yield_now();
                    running.fetch_sub(1, Ordering::SeqCst);
                    // It has no turn while it waits.
                    tokio::task::yield_now().await;
                }
            })
        });
        for work in works.collect::<Vec<_>>() {
            work.await.unwrap();
        }
        assert!((1..=turns).contains(&most.load(Ordering::SeqCst)));
    }

    #[tokio::test]
    async fn heavy_work_that_waits_lets_other_heavy_work_run() {
        let (senders, waiting): (Vec<_>, Vec<_>) = (0..4 * TURNS.available_permits())
            .map(|_| {
                let (sender, receiver) = oneshot::channel();
                (sender, poll(async { receiver.await.unwrap() }))
            })
            .unzip();
        // Every sender is heavy work, too.
        for (number, sender) in senders.into_iter().enumerate() {
            poll(async move { sender.send(number).unwrap() })
                .await
                .unwrap();
        }
        for (number, waiting) in waiting.into_iter().enumerate() {
            assert_eq!(waiting.await.unwrap(), number);
        }
    }

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
