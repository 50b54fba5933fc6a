//! How an operation is admitted, executed and, if the database aborted it in favour of another, run again.

use std::{collections::HashSet, sync::Arc, time::Duration};

use async_graphql::{
    IntrospectionMode, Request, Response, Variables, parser::types::ExecutableDocument,
};

use super::{
    guard::{self, Guard, RootField},
    rate_limit::RateLimit,
    root::{complete_root, nullable_root_fields},
    schema::{ApiSchema, builder, shape},
    transaction::OperationInfo,
    variables,
};
use crate::{
    audit::sealing::Sealer,
    auth::Principal,
    db::{TenantDb, idempotency::Claim, sign_in::SignInDb},
    graphql::{errors, object::ResponseText},
};

/// The API over its databases.
#[derive(Clone)]
pub struct Api {
    schema: ApiSchema,
    guard: Arc<Guard>,
    nullable_root_fields: Arc<HashSet<String>>,
    introspection: bool,
}

/// How often an operation is run at most that the database gave up in favour of another. Two clients
/// that do nothing but get in each other's way have been seen to use up five.
const MAX_RUNS: u32 = 8;
/// The longest wait before the second run; before each further one it is twice as long, up to 160 ms.
const FIRST_PAUSE: Duration = Duration::from_millis(10);

/// An operation that has passed the guard.
pub struct Admitted {
    document: ExecutableDocument,
    operation_name: Option<String>,
    variables: Variables,
    principal: Principal,
    root_fields: Vec<RootField>,
    info: OperationInfo,
    rate_limit: Option<RateLimit>,
}

impl Admitted {
    /// The rows that it may fetch.
    #[must_use]
    pub fn cost(&self) -> u64 {
        self.info.cost
    }

    /// Tells it what the tenant may still fetch.
    #[must_use]
    pub fn under(self, rate_limit: Option<RateLimit>) -> Self {
        Self { rate_limit, ..self }
    }

    /// Whether it only reads.
    #[must_use]
    pub fn is_query(&self) -> bool {
        self.info.purpose == crate::db::Purpose::Read
    }
}

/// How an operation is to be run.
#[derive(Clone, Debug, Default)]
pub struct Manner {
    /// Whether the answer tells what it cost.
    pub traced: bool,
    /// Whether a mutation is undone at its end.
    pub dry_run: bool,
    /// The key by which a mutation may be sent again: 1 to 255 characters.
    pub idempotency_key: Option<String>,
}

/// A request for an operation, as it came.
#[derive(Debug)]
pub struct Incoming {
    /// The document.
    pub query: String,
    /// Which of its operations.
    pub operation_name: Option<String>,
    /// Their variables.
    pub variables: async_graphql::Variables,
}

impl Api {
    /// The API over a database, and over the sign-in directory if it may use it. The sealer is told of
    /// every write.
    #[must_use]
    pub fn new(
        db: TenantDb,
        directory: Option<SignInDb>,
        sealer: Sealer,
        limits: guard::Limits,
        introspection: bool,
    ) -> Self {
        let schema = builder().data(db).data(directory).data(sealer).finish();
        let guard = Arc::new(Guard {
            limits,
            shape: shape(),
        });
        Self {
            schema,
            guard,
            introspection,
            nullable_root_fields: Arc::new(nullable_root_fields()),
        }
    }

    /// Refuses a hostile document, or says what it will run as.
    pub fn admit(
        &self,
        incoming: Incoming,
        principal: Principal,
        operation: Arc<crate::db::Operation>,
        manner: Manner,
    ) -> Result<Admitted, guard::Refusal> {
        self.guard.check_variables(&incoming.variables)?;
        let name = incoming.operation_name.as_deref();
        let mut admitted = self
            .guard
            .admit(&incoming.query, name, &incoming.variables)?;
        variables::settle(&mut admitted.document, name, &incoming.variables).map_err(|reason| {
            guard::Refusal {
                reason,
                work: admitted.work,
            }
        })?;
        let purpose = match admitted.operation {
            async_graphql::parser::types::OperationType::Mutation => crate::db::Purpose::Write,
            _ => crate::db::Purpose::Read,
        };
        let claim = manner
            .idempotency_key
            .filter(|_| purpose == crate::db::Purpose::Write)
            .map(|key| {
                let variables = serde_json::to_vec(&incoming.variables).unwrap_or_default();
                let name = name.unwrap_or_default();
                let request = [incoming.query.as_bytes(), name.as_bytes(), &variables];
                Claim::new(principal.user, None, &key, &request)
            });
        let info = OperationInfo {
            operation,
            purpose,
            traced: manner.traced,
            dry_run: manner.dry_run,
            claim,
            cost: admitted.cost,
        };
        Ok(Admitted {
            document: admitted.document,
            operation_name: incoming.operation_name,
            variables: incoming.variables,
            principal,
            root_fields: admitted.root_fields,
            info,
            rate_limit: None,
        })
    }

    /// Runs an operation in its tenant transaction. A mutation that the database gave up in favour of
    /// another is run again: nothing of it was written, and nobody has seen an answer.
    pub async fn execute(&self, admitted: Admitted) -> Response {
        let Admitted {
            document,
            operation_name,
            variables,
            principal,
            root_fields,
            info,
            rate_limit,
        } = admitted;
        let request = |document: ExecutableDocument, variables: Variables| {
            let mut request = Request::new(String::new())
                .variables(variables)
                .data(principal)
                .data(info.clone())
                .data(ResponseText::default());
            if let Some(limit) = rate_limit {
                request = request.data(limit);
            }
            request.operation_name.clone_from(&operation_name);
            request.set_parsed_query(document);
            if !self.introspection {
                request.introspection_mode = IntrospectionMode::Disabled;
            }
            request
        };
        let mut response = if info.purpose == crate::db::Purpose::Read {
            self.schema.execute(request(document, variables)).await
        } else {
            let mut run = 1;
            loop {
                let request = request(document.clone(), variables.clone());
                let response = self.schema.execute(request).await;
                if run == MAX_RUNS || !errors::is_contended(&response) {
                    break response;
                }
                tracing::debug!(
                    request.id = %info.operation.request_id(),
                    "request {} is run again: the database preferred another",
                    info.operation.request_id(),
                );
                // At random, so that two that got in each other's way do not meet again.
                let longest = FIRST_PAUSE * 2_u32.pow((run - 1).min(4));
                tokio::time::sleep(longest.mul_f64(fastrand::f64())).await;
                run += 1;
                // Whoever lost to others each time would lose to them for as long as they come.
                if run == MAX_RUNS {
                    info.operation.make_exclusive();
                }
            }
        };
        complete_root(&mut response, &root_fields, &self.nullable_root_fields);
        let operation = &info.operation;
        errors::finish(
            &mut response,
            operation.request_id(),
            !operation.is_cancelled(),
        );
        response
    }
}
