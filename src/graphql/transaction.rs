//! Opens, ends and injects the tenant transaction: once per query, mutation and subscription event.

use std::sync::Arc;

use async_graphql::{
    Data, Response,
    extensions::{Extension, ExtensionContext, ExtensionFactory, NextExecute},
};

use super::errors;
use crate::{
    audit::sealing::Sealer,
    auth::Principal,
    db::{Operation, Purpose, TenantDb, TenantTx, load::Loaders},
};

/// What the HTTP layer says of an operation.
#[derive(Clone, Debug)]
pub struct OperationInfo {
    /// By which it can be found and cancelled.
    pub operation: Arc<Operation>,
    /// A query reads, a mutation writes.
    pub purpose: Purpose,
    /// Whether the answer tells what it cost, under `extensions.palisade`.
    pub traced: bool,
}

/// The extension that gives every execution its tenant transaction.
#[derive(Clone, Copy, Debug)]
pub struct TenantTransaction;

impl ExtensionFactory for TenantTransaction {
    fn create(&self) -> Arc<dyn Extension> {
        Arc::new(*self)
    }
}

#[async_trait::async_trait]
impl Extension for TenantTransaction {
    async fn execute(
        &self,
        ctx: &ExtensionContext<'_>,
        operation_name: Option<&str>,
        next: NextExecute<'_>,
    ) -> Response {
        let info = ctx.data_unchecked::<OperationInfo>();
        let tx = TenantTx::new(
            ctx.data_unchecked::<TenantDb>().clone(),
            ctx.data_unchecked::<Principal>().context(),
            info.purpose,
            Arc::clone(&info.operation),
        );
        let mut data = Data::default();
        data.insert(Arc::new(Loaders::new(tx.clone())));

        let mut response = next.run_with_data(ctx, operation_name, data).await;

        // An error anywhere means that nothing was written. What was only read needs no ending that
        // the client would wait for.
        if info.purpose == Purpose::Write && response.is_ok() {
            if let Err(error) = tx.commit().await {
                response = errors::refused(error);
            } else {
                let sealer = ctx.data_unchecked::<Sealer>();
                sealer.wrote(ctx.data_unchecked::<Principal>().context().tenant);
            }
        } else {
            tx.rollback().await;
        }
        if info.traced {
            let cost = tx.cost();
            let traced = async_graphql::value!({
                "roundTrips": cost.round_trips,
                "statements": cost.statements,
            });
            response.extensions.insert("palisade".to_owned(), traced);
        }
        response
    }
}
