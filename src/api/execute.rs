//! Checks operations, executes them, and runs a mutation again if the database aborted it.

use std::{collections::HashSet, sync::Arc, time::Duration};

use async_graphql::{
    IntrospectionMode, Name, Request, Response, Variables,
    parser::types::{ExecutableDocument, OperationType},
};

use super::{
    guard::{self, Guard, GuardError, RootField},
    rate_limit::RateLimit,
    root::{complete_root, nullable_root_fields},
    schema::{ApiSchema, builder, shape},
    transaction::{Ending, EndingSlot, OperationInfo},
    variables,
};
use crate::{
    audit::sealing::Sealer,
    auth::Principal,
    db::{Operation, Purpose, TenantDb, idempotency::Claim, sign_in::SignInDb},
    graphql::{errors, object::LongStringBytes},
};

/// The API with its databases.
#[derive(Clone)]
pub struct Api {
    schema: ApiSchema,
    guard: Arc<Guard>,
    nullable_root_fields: Arc<HashSet<String>>,
    introspection: bool,
}

/// The maximum number of runs of a mutation that the database aborts in favour of another. In
/// measurements, two clients that only conflict with each other needed five.
const MAX_RUNS: u32 = 8;
/// The longest pause before the second run. It doubles with each further run, up to 160 ms.
const FIRST_PAUSE: Duration = Duration::from_millis(10);

/// An operation that passed the guard.
pub struct AdmittedOperation {
    document: ExecutableDocument,
    name: Option<Name>,
    variables: Variables,
    principal: Principal,
    root_fields: Vec<RootField>,
    info: OperationInfo,
    rate_limit: Option<RateLimit>,
}

impl AdmittedOperation {
    /// The number of rows that the operation could fetch.
    #[must_use]
    pub fn cost(&self) -> u64 {
        self.info.cost
    }

    /// Sets what the field `rateLimit` returns.
    #[must_use]
    pub fn with_rate_limit(self, rate_limit: Option<RateLimit>) -> Self {
        Self { rate_limit, ..self }
    }

    /// Whether the operation is a query.
    #[must_use]
    pub fn is_query(&self) -> bool {
        self.info.purpose == Purpose::Read
    }
}

/// The options of a request, from its headers.
#[derive(Clone, Debug, Default)]
pub struct RequestOptions {
    /// Whether the response lists the statements that were sent to the database.
    pub traced: bool,
    /// Whether the changes of a mutation are rolled back at its end.
    pub dry_run: bool,
    /// The idempotency key of a mutation: 1 to 255 characters.
    pub idempotency_key: Option<String>,
}

/// The operation in a request, as the client sent it.
#[derive(Debug)]
pub struct OperationRequest {
    /// The text of the document.
    pub query: String,
    /// The name of the operation to execute; optional if the document has only one.
    pub operation_name: Option<String>,
    /// The variables.
    pub variables: Variables,
}

/// The response to an operation.
#[derive(Debug)]
pub struct OperationReply {
    /// The response.
    pub response: Response,
    /// How the operation ended.
    pub ending: Ending,
}

impl From<Response> for OperationReply {
    /// The response to an operation that has no special ending.
    fn from(response: Response) -> Self {
        Self {
            response,
            ending: Ending::Executed,
        }
    }
}

impl Api {
    /// Creates the API. The sealer is notified of every write.
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

    /// Checks the document and the variables of a request, and selects the operation.
    pub fn admit(
        &self,
        request: OperationRequest,
        principal: Principal,
        operation: Arc<Operation>,
        options: RequestOptions,
    ) -> Result<AdmittedOperation, GuardError> {
        let OperationRequest {
            query,
            operation_name,
            variables,
        } = request;
        let name = operation_name.as_deref();
        self.guard.check_variables(&variables)?;
        let mut checked = self.guard.check(&query, name, &variables)?;
        variables::apply(&mut checked, &variables).map_err(|reason| GuardError {
            reason,
            work: checked.work,
        })?;
        let purpose = match checked.operation_type {
            OperationType::Mutation => Purpose::Write,
            _ => Purpose::Read,
        };
        let claim = options
            .idempotency_key
            .filter(|_| purpose == Purpose::Write)
            .map(|key| {
                let variables = serde_json::to_vec(&variables).unwrap_or_default();
                let name = name.unwrap_or_default();
                let parts = [query.as_bytes(), name.as_bytes(), &variables];
                Claim::new(principal.user, None, &key, &parts)
            });
        let info = OperationInfo {
            operation,
            purpose,
            traced: options.traced,
            dry_run: options.dry_run,
            claim,
            cost: checked.cost,
        };
        Ok(AdmittedOperation {
            document: checked.document,
            name: checked.operation_name,
            variables,
            principal,
            root_fields: checked.root_fields,
            info,
            rate_limit: None,
        })
    }

    /// Executes an operation in its tenant transaction. A mutation that the database aborted in favour
    /// of another runs again: nothing of it was written, and the client has not received a response.
    pub async fn execute(&self, admitted: AdmittedOperation) -> OperationReply {
        let AdmittedOperation {
            document,
            name,
            variables,
            principal,
            root_fields,
            info,
            rate_limit,
        } = admitted;
        let ending = EndingSlot::default();
        let request = |document: ExecutableDocument, variables: Variables| {
            let mut request = Request::new(String::new())
                .variables(variables)
                .data(principal)
                .data(info.clone())
                .data(ending.clone())
                .data(LongStringBytes::default());
            if let Some(limit) = rate_limit {
                request = request.data(limit);
            }
            request.operation_name = name.as_ref().map(Name::to_string);
            request.set_parsed_query(document);
            if !self.introspection {
                request.introspection_mode = IntrospectionMode::Disabled;
            }
            request
        };
        let operation = &info.operation;
        let mut response = if info.purpose == Purpose::Read {
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
                    request.id = %operation.request_id(),
                    "running request {} again: its transaction conflicted with another one",
                    operation.request_id(),
                );
                // A random pause, so that two conflicting operations do not meet again.
                let longest = FIRST_PAUSE * 2_u32.pow((run - 1).min(4));
                tokio::time::sleep(longest.mul_f64(fastrand::f64())).await;
                run += 1;
                // The last run is exclusive. Otherwise steady traffic could starve the operation.
                if run == MAX_RUNS {
                    operation.make_exclusive();
                }
            }
        };
        complete_root(&mut response, &root_fields, &self.nullable_root_fields);
        errors::finish(
            &mut response,
            operation.request_id(),
            !operation.is_cancelled(),
        );
        OperationReply {
            response,
            ending: ending.get(),
        }
    }
}
