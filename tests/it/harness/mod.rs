//! One PostgreSQL, one database and one service for the whole test binary, and callers that send requests.

mod app;
mod catalogue;
mod client;
mod context;
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
    context::{CONTEXT_KEY, enter, migrate, now, session_context, signing},
    database::{
        REMOVE_CANARY, TenantSql, TenantTable, attempt, create_database, insert_copy, lock_table,
        scratch, tenant_tables, without_predicate,
    },
    entity::{camel_case, entity, id_of, snake_case},
    model::{Field, FieldExt, Kind, model},
    rows::fill_empty_tables,
    tenant::Tenant,
    wait::eventually,
};

/// The runtime of all tests. They share one, because a connection works only on the runtime that opened it.
static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().unwrap());

thread_local! {
    /// One sender for each service that the test of this thread has started. Dropping a sender ends its service.
    static ENDINGS: RefCell<Vec<oneshot::Sender<()>>> = const { RefCell::new(Vec::new()) };
}

/// Runs a test on the shared runtime. Afterwards, ends the services that the test has started: each service has open
/// connections, and PostgreSQL's number of connections is limited.
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
