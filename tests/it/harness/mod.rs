//! One PostgreSQL, one database, one service for the whole binary, and callers to talk to it.

mod app;
mod catalogue;
mod client;
mod database;
mod entity;
mod model;
mod rows;
mod tenant;
mod wait;

use std::{cell::RefCell, future::Future, sync::LazyLock};

use tokio::{runtime::Runtime, sync::oneshot};

pub use self::{
    app::{SECRET, ServiceOptions, TestApp, settings, tokens},
    catalogue::{Column, Table, authored_entities},
    client::{Caller, Reply, Response, TRACE, id, mutation, user_errors},
    database::{
        TenantSql, TenantTable, attempt, create_database, insert_copy, scratch, tenant_tables,
    },
    entity::{camel_case, entity, id_of, snake_case},
    model::{Field, Kind, model},
    rows::fill_empty_tables,
    tenant::Tenant,
    wait::eventually,
};

/// Connections belong to the runtime that opened them, so all tests share one.
static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().unwrap());

thread_local! {
    /// When dropped, ends the services that the test of this thread has started.
    static ENDINGS: RefCell<Vec<oneshot::Sender<()>>> = const { RefCell::new(Vec::new()) };
}

/// Runs a test on the shared runtime. The services that it starts end with it: each holds connections,
/// of which PostgreSQL has no more than it was started with.
pub fn run<T>(test: impl Future<Output = T>) -> T {
    let done = RUNTIME.block_on(test);
    drop(ENDINGS.take());
    done
}

/// A value that a test takes as a parameter.
pub trait Fixture {
    async fn create() -> Self;
}

impl Fixture for &'static TestApp {
    async fn create() -> Self {
        TestApp::shared().await
    }
}

impl Fixture for Tenant {
    async fn create() -> Self {
        TestApp::shared().await.tenant().await
    }
}

/// The attribute `#[apply(palisade_test)]`: runs an async function as a test with [`run`]. Each parameter
/// is a [`Fixture`], created before the test starts.
macro_rules! palisade_test {
    (
        $(#[$attribute:meta])*
        async fn $name:ident($($argument:ident: $fixture:ty),* $(,)?) $body:block
    ) => {
        #[test]
        $(#[$attribute])*
        fn $name() {
            async fn $name($($argument: $fixture),*) $body

            $crate::harness::run(async {
                $(let $argument = <$fixture as $crate::harness::Fixture>::create().await;)*
                $name($($argument),*).await;
            });
        }
    };
}
pub(crate) use palisade_test;
