//! The clock of the database, as the service measures it. The database rejects a context that was signed long before or
//! after the start of its transaction, so the time of a context is that of the database.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use sqlx::PgPool;

/// How often the service compares its clock with that of the database.
const INTERVAL: Duration = Duration::from_mins(1);
/// The number of measurements, of which the shortest counts.
const ATTEMPTS: u32 = 3;

/// The difference between the two clocks.
#[derive(Debug, Default)]
pub(super) struct ServerClock {
    /// The time of the database minus the time of the service, in milliseconds.
    difference: AtomicI64,
    is_measuring: AtomicBool,
}

impl ServerClock {
    /// The present time of the database, in milliseconds since 1970.
    pub(super) fn now(&self) -> i64 {
        own_time() + self.difference.load(Ordering::Relaxed)
    }

    /// Compares the clocks.
    pub(super) async fn measure(&self, pool: &PgPool) -> sqlx::Result<()> {
        let mut best = None;
        for _ in 0..ATTEMPTS {
            let before = own_time();
            let server = sqlx::query_scalar!(
                r#"select (date_part('epoch', clock_timestamp()) * 1000)::bigint as "now!""#
            )
            .fetch_one(pool)
            .await?;
            let after = own_time();
            let measured = (after - before, server - i64::midpoint(before, after));
            // If the service's clock was set back meanwhile, the duration is negative.
            if measured.0 >= 0 && best.is_none_or(|best| measured < best) {
                best = Some(measured);
            }
        }
        if let Some((_, difference)) = best {
            let before = self.difference.swap(difference, Ordering::Relaxed);
            if (difference - before).abs() > 1_000 {
                tracing::info!("the clock of the database differs by {difference} ms");
            }
        }
        Ok(())
    }

    /// Compares the clocks every minute, until the clock is dropped or the pool is closed.
    pub(super) fn watch(self: &Arc<Self>, pool: &PgPool) {
        let (clock, pool) = (Arc::downgrade(self), pool.clone());
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(INTERVAL).await;
                let Some(clock) = clock.upgrade() else { return };
                match clock.measure(&pool).await {
                    Ok(()) => {}
                    Err(sqlx::Error::PoolClosed) => return,
                    Err(error) => {
                        tracing::warn!("cannot compare the clocks with the database: {error}");
                    }
                }
            }
        });
    }

    /// Compares the clocks now, because the database rejected a context.
    pub(super) fn measure_soon(self: &Arc<Self>, pool: &PgPool) {
        if self.is_measuring.swap(true, Ordering::Relaxed) {
            return;
        }
        let (clock, pool) = (Arc::clone(self), pool.clone());
        tokio::spawn(async move {
            clock.measure(&pool).await.ok();
            clock.is_measuring.store(false, Ordering::Relaxed);
        });
    }
}

/// The time of this machine, in milliseconds since 1970.
fn own_time() -> i64 {
    let time = SystemTime::now().duration_since(UNIX_EPOCH);
    time.map_or(0, |time| {
        i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
    })
}
