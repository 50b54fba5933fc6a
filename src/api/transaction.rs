//! The tenant transaction of an operation: opened for each query and mutation, and ended after it.

use std::sync::{Arc, OnceLock};

use async_graphql::{
    CacheControl, Data, Response, ServerError, ValidationResult, Value,
    extensions::{Extension, ExtensionContext, ExtensionFactory, NextExecute, NextValidation},
};

use super::admission::AdmittedRequest;
use crate::{
    audit::sealing::Sealer,
    auth::Principal,
    db::{
        Operation, OperationName, Purpose, TenantDb, TenantTx, TracedStatement,
        entity::NeededColumns, idempotency::Claim, load::Loaders,
    },
    error::Result,
    graphql::{arguments::FieldArguments, errors, idempotency},
};

/// The properties of an operation that its transaction depends on.
#[derive(Clone, Debug)]
pub struct OperationInfo {
    /// The handle by which the running statement of the operation can be cancelled in the database.
    pub operation: Arc<Operation>,
    /// `Read` for a query, `Write` for a mutation.
    pub purpose: Purpose,
    /// Whether the response lists the statements, under `extensions.palisade`.
    pub traced: bool,
    /// Whether the changes of a mutation are rolled back at its end.
    pub dry_run: bool,
    /// The idempotency key of a mutation.
    pub claim: Option<Claim>,
    /// The columns that the fields of the operation need.
    pub columns: NeededColumns,
    /// The number of rows that the operation could fetch.
    pub cost: u64,
}

/// How an operation ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ending {
    /// The operation was executed, successfully or not.
    #[default]
    Executed,
    /// The operation was a successful dry run: its changes were rolled back.
    RolledBack,
    /// The operation was not executed: the response is the one that was stored with the idempotency key.
    Replayed,
}

/// A slot in the data of a request, in which [`TenantTransaction`] reports the ending.
#[derive(Clone, Debug, Default)]
pub struct EndingSlot(Arc<OnceLock<Ending>>);

impl EndingSlot {
    /// The reported ending.
    #[must_use]
    pub fn get(&self) -> Ending {
        self.0.get().copied().unwrap_or_default()
    }
}

/// The extension that executes each operation in a tenant transaction. It also skips the validation of the engine,
/// because the admission has validated the document. One extension does both, because each extension costs every field a future.
#[derive(Clone, Copy, Debug)]
pub struct TenantTransaction;

impl ExtensionFactory for TenantTransaction {
    fn create(&self) -> Arc<dyn Extension> {
        Arc::new(*self)
    }
}

#[async_trait::async_trait]
impl Extension for TenantTransaction {
    async fn validation(
        &self,
        ctx: &ExtensionContext<'_>,
        next: NextValidation<'_>,
    ) -> Result<ValidationResult, Vec<ServerError>> {
        match ctx.data_opt::<Arc<AdmittedRequest>>() {
            // The admission has validated the document.
            Some(request) => {
                request.store();
                Ok(ValidationResult {
                    cache_control: CacheControl::default(),
                    complexity: 0,
                    depth: 0,
                })
            }
            None => next.run(ctx).await,
        }
    }

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
            data.insert(Arc::new(Loaders::new(tx.clone(), info.columns.clone())));
            data.insert(FieldArguments::default());
            next.run_with_data(ctx, operation_name, data).await
        };
        let mut response = match info.purpose {
            // A read is not committed: the client does not wait for the reply to the rollback below.
            Purpose::Read => run().await,
            Purpose::Write => {
                let (response, ending) = write(&tx, info, run).await;
                if let Some(slot) = ctx.data_opt::<EndingSlot>()
                    && ending != Ending::Executed
                {
                    slot.0.get_or_init(|| ending);
                }
                response
            }
        };
        tx.rollback().await;
        // Also after a failed commit, because the database may have written the changes.
        if info.purpose == Purpose::Write
            && !info.dry_run
            && let Some(sealer) = ctx.data_opt::<Sealer>()
        {
            sealer.wrote(ctx.data_unchecked::<Principal>().tenant);
        }
        add_cost(&mut response, info, &tx);
        response
    }
}

/// Adds `extensions.cost` and, if the operation is traced, `extensions.palisade`.
fn add_cost(response: &mut Response, info: &OperationInfo, tx: &TenantTx) {
    let cost = tx.cost();
    let rows = format!(r#"{{"requested":{},"actual":{}}}"#, info.cost, cost.rows);
    let rows = Value::Binary(rows.into());
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
}

/// Executes a mutation and commits it. If there is any error, nothing is written, and the response does not have data,
/// because the changes that it would report were rolled back.
async fn write(
    tx: &TenantTx,
    info: &OperationInfo,
    run: impl AsyncFnOnce() -> Response,
) -> (Response, Ending) {
    let failed = |error| (errors::error_response(error), Ending::Executed);
    // A dry run changes nothing, so a retry is harmless: ignore the idempotency key.
    let claim = info.claim.as_ref().filter(|_| !info.dry_run);
    let mut claimed_generation = 0;
    if let Some(claim) = claim {
        match idempotency::claim::<Value>(claim, tx).await {
            Ok(None) => claimed_generation = tx.generation().await,
            Ok(Some(data)) => return (Response::new(data), Ending::Replayed),
            Err(error) => return failed(error),
        }
    }
    let mut response = run().await;
    if !response.is_ok() {
        response.data = Value::Null;
        return (response, Ending::Executed);
    }
    if info.dry_run {
        return match tx.check_field().await {
            Ok(()) => (response, Ending::RolledBack),
            Err(error) => failed(error),
        };
    }
    let committed = match claim {
        None => tx.commit().await.map(|()| None),
        Some(claim) => commit_with_response(claim, tx, claimed_generation, &response).await,
    };
    match committed {
        Ok(None) => (response, Ending::Executed),
        Ok(Some(first)) => (Response::new(first), Ending::Replayed),
        Err(error) => failed(error),
    }
}

/// Commits the changes together with the response. If another request with the same key has been
/// executed in the meantime, commits nothing and returns the data of its response. Errors: that response is not kept.
///
/// If every root field was rejected, or no field wrote a row, the mutation has written nothing. So nothing is committed,
/// and the key can be used again.
async fn commit_with_response(
    claim: &Claim,
    tx: &TenantTx,
    claimed_generation: u32,
    response: &Response,
) -> Result<Option<Value>> {
    let wrote_nothing = tx.wrote_nothing().await;
    if wrote_nothing {
        tx.check_field().await?;
    }
    let outcome = claim.renew(tx, claimed_generation).await?;
    let first = idempotency::read_outcome(outcome)?;
    if first.is_none() && !wrote_nothing {
        let response = idempotency::encode(&response.data)?;
        claim.store_response(tx, &response).await?;
        tx.commit().await?;
    }
    // In all other cases, the caller rolls back.
    Ok(first)
}
