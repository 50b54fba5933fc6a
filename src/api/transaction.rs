//! Opens, ends and injects the tenant transaction: once per query, mutation and subscription event.

use std::sync::Arc;

use async_graphql::{
    Data, Response, Value,
    extensions::{Extension, ExtensionContext, ExtensionFactory, NextExecute},
};

use axum::http::HeaderValue;

use crate::{
    audit::sealing::Sealer,
    auth::Principal,
    db::{
        Operation, OperationName, Purpose, TenantDb, TenantTx, TracedStatement,
        idempotency::{Claim, ClaimOutcome},
        load::Loaders,
    },
    error::{Error, Result},
    graphql::errors,
};

/// The header of an answer that was given before.
pub const REPLAYED: &str = "idempotency-replayed";
/// The header that says which preference was followed (RFC 7240, 3).
pub const PREFERENCE_APPLIED: &str = "preference-applied";

/// What the HTTP layer says of an operation.
#[derive(Clone, Debug)]
pub struct OperationInfo {
    /// By which it can be found and cancelled.
    pub operation: Arc<Operation>,
    /// A query reads, a mutation writes.
    pub purpose: Purpose,
    /// Whether the answer tells what it cost, under `extensions.palisade`.
    pub traced: bool,
    /// Whether a mutation is undone at its end.
    pub dry_run: bool,
    /// The idempotency key of a mutation.
    pub claim: Option<Claim>,
    /// The rows that it may fetch.
    pub cost: u64,
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
        let tx = TenantTx::with_operation_name(
            ctx.data_unchecked::<TenantDb>().clone(),
            ctx.data_unchecked::<Principal>().context(),
            info.purpose,
            Arc::clone(&info.operation),
            operation_name.and_then(OperationName::new),
        );

        let run = async || {
            let mut data = Data::default();
            data.insert(Arc::new(Loaders::new(tx.clone())));
            next.run_with_data(ctx, operation_name, data).await
        };
        let mut response = match info.purpose {
            // What was only read needs no ending that the client would wait for.
            Purpose::Read => run().await,
            Purpose::Write => write(&tx, info, run).await,
        };
        tx.rollback().await;
        // Also when the commit was lost half-way, for then nobody knows what was written.
        if info.purpose == Purpose::Write
            && !info.dry_run
            && let Some(sealer) = ctx.data_opt::<Sealer>()
        {
            sealer.wrote(ctx.data_unchecked::<Principal>().tenant);
        }
        let cost = tx.cost();
        let rows = async_graphql::value!({ "requested": info.cost, "actual": cost.rows });
        response.extensions.insert("cost".to_owned(), rows);
        if info.traced {
            let statements = cost.statements.into_iter().map(|statement| {
                let TracedStatement {
                    sql,
                    duration,
                    rows,
                } = statement;
                let ms = duration.as_secs_f64() * 1_000.0;
                async_graphql::value!({ "sql": sql, "ms": ms, "rows": rows })
            });
            let traced = async_graphql::value!({
                "roundTrips": cost.round_trips,
                "statements": (Value::List(statements.collect())),
            });
            response.extensions.insert("palisade".to_owned(), traced);
        }
        response
    }
}

/// Runs a mutation and makes it durable. An error anywhere means that nothing was written, and then
/// the answer holds no data either: what looks done in it is undone.
async fn write(
    tx: &TenantTx,
    info: &OperationInfo,
    run: impl AsyncFnOnce() -> Response,
) -> Response {
    // A dry run changes nothing, so it needs no protection from being repeated.
    let claim = info.claim.as_ref().filter(|_| !info.dry_run);
    let mut claimed_generation = 0;
    if let Some(claim) = claim {
        match claim.claim(tx).await {
            Ok(ClaimOutcome::New) => claimed_generation = tx.generation().await,
            Ok(ClaimOutcome::Repeated(answer)) => return replay(&answer),
            Err(error) => return errors::refused(error),
        }
    }
    let mut response = run().await;
    if !response.is_ok() {
        response.data = Value::Null;
        return response;
    }
    let ended = match claim {
        _ if info.dry_run => tx.check_field().await.map(|()| None),
        None => tx.commit().await.map(|()| None),
        Some(claim) => keep(claim, tx, claimed_generation, &response).await,
    };
    match ended {
        Ok(None) if info.dry_run => {
            let applied = HeaderValue::from_static("tx=rollback");
            response.http_headers.insert(PREFERENCE_APPLIED, applied);
            response
        }
        Ok(None) => response,
        Ok(Some(first)) => replay(&first),
        Err(error) => errors::refused(error),
    }
}

async fn keep(
    claim: &Claim,
    tx: &TenantTx,
    claimed_generation: u32,
    response: &Response,
) -> Result<Option<Vec<u8>>> {
    let answer = serde_json::to_vec(&response.data)
        .map_err(|error| Error::Internal(format!("an answer is no JSON: {error}").into()))?;
    claim.commit(tx, claimed_generation, &answer).await
}

/// The first answer to a request, once more.
fn replay(answer: &[u8]) -> Response {
    match serde_json::from_slice::<Value>(answer) {
        Ok(data) => {
            let mut response = Response::new(data);
            let yes = HeaderValue::from_static("true");
            response.http_headers.insert(REPLAYED, yes);
            response
        }
        Err(error) => errors::refused(Error::Internal(
            format!("a stored answer is no JSON: {error}").into(),
        )),
    }
}
