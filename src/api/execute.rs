//! Checks operations, executes them, and runs a mutation again if the database aborted it.

use std::{collections::HashSet, sync::Arc, time::Duration};

use async_graphql::{
    IntrospectionMode, Name, Request, Response, Variables, parser::types::OperationType,
};

use super::{
    admission::{Admission, AdmissionError, AdmittedRequest, DocumentKey},
    guard::{self, CheckedDocument, Guard},
    input_paths,
    rate_limit::RateLimit,
    root::{complete_root, nullable_root_fields},
    schema::{ApiSchema, builder, shape},
    selection::SelectionTypes,
    transaction::{Ending, EndingSlot, OperationInfo},
    variables::selected_operation,
};
use crate::{
    audit::sealing::Sealer,
    auth::Principal,
    db::{MAX_WRITTEN_ROWS, Operation, Purpose, TenantDb, idempotency::Claim, sign_in::SignInDb},
    graphql::{
        errors,
        object::{DirectJson, ResponseBytes},
    },
    ids::TenantId,
    usage::Estimate,
};

/// The API with its databases.
#[derive(Clone)]
pub struct Api {
    schema: ApiSchema,
    admission: Arc<Admission>,
    selection_types: Arc<SelectionTypes>,
    nullable_root_fields: Arc<HashSet<String>>,
    max_response_bytes: u64,
    introspection: bool,
}

/// The settings of the API.
#[derive(Clone, Debug)]
pub struct ApiSettings {
    /// The limits of the guard.
    pub limits: guard::Limits,
    /// The maximum memory of the admitted documents, in bytes.
    pub document_cache_bytes: u64,
    /// The maximum length of a response, in bytes.
    pub max_response_bytes: u64,
    /// Whether introspection queries are allowed.
    pub introspection: bool,
}

/// The rows that a root field of a mutation writes, besides those of the lists in its arguments: the row, and a second one
/// such as the invoice whose total changes with a line.
const WRITTEN_ROWS_PER_ROOT_FIELD: u64 = 2;
/// The maximum number of runs of a mutation that the database aborts because of conflicts. In measurements, two clients
/// that only conflict with each other needed five runs.
const MAX_RUNS: u32 = 8;
/// The longest pause before the second run. This limit doubles with each further run, up to 160 ms.
const FIRST_PAUSE: Duration = Duration::from_millis(10);

/// An operation that passed the guard.
pub struct AdmittedOperation {
    request: Arc<AdmittedRequest>,
    variables: Variables,
    principal: Principal,
    info: OperationInfo,
    /// Whether the response is written as JSON, without a tree of values.
    is_direct: bool,
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

    /// The number of values that the response could have.
    #[must_use]
    pub fn values(&self) -> u64 {
        self.request.values()
    }

    /// What the operation could use. A mutation could write some rows for each root field, one for each item of a list in
    /// its arguments, and no more than an operation may write. The rows that it deletes below others are not known.
    #[must_use]
    pub fn estimate(&self) -> Estimate {
        let of_query = Estimate {
            rows: self.cost(),
            values: self.values(),
            ..Estimate::default()
        };
        if self.is_query() {
            return of_query;
        }
        let checked = self.request.checked();
        let fields = u64::try_from(checked.root_fields.len()).unwrap_or(u64::MAX);
        let items = checked.arguments.list_items(&self.variables);
        let written_rows = fields.saturating_mul(WRITTEN_ROWS_PER_ROOT_FIELD);
        Estimate {
            written_rows: written_rows.saturating_add(items).min(MAX_WRITTEN_ROWS),
            written_bytes: checked.arguments.bytes(&self.variables),
            ..of_query
        }
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
    /// The document, and the operation to execute.
    pub key: DocumentKey,
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
        settings: ApiSettings,
    ) -> Self {
        let ApiSettings {
            limits,
            document_cache_bytes,
            max_response_bytes,
            introspection,
        } = settings;
        let schema = builder().data(db).data(directory).data(sealer).finish();
        let guard = Guard {
            limits,
            shape: shape(),
        };
        Self {
            schema,
            admission: Arc::new(Admission::new(guard, document_cache_bytes)),
            max_response_bytes,
            introspection,
            selection_types: Arc::new(SelectionTypes::new()),
            nullable_root_fields: Arc::new(nullable_root_fields()),
        }
    }

    /// Whether the document is in the cache of the tenant, so that it need not be parsed again.
    #[must_use]
    pub fn is_cached(&self, tenant: TenantId, key: &DocumentKey) -> bool {
        self.admission.contains(tenant, key)
    }

    /// Checks the document and the variables of a request, and selects the operation.
    pub fn admit(
        &self,
        request: OperationRequest,
        principal: Principal,
        operation: Arc<Operation>,
        options: RequestOptions,
    ) -> Result<AdmittedOperation, AdmissionError> {
        let OperationRequest { key, mut variables } = request;
        let request = self.admission.admit(principal.tenant, key, &variables)?;
        let purpose = match request.checked().operation_type {
            OperationType::Mutation => Purpose::Write,
            _ => Purpose::Read,
        };
        let claim = options
            .idempotency_key
            .filter(|_| purpose == Purpose::Write)
            .map(|key| {
                let variables = serde_json::to_vec(&variables).unwrap_or_default();
                let DocumentKey {
                    text,
                    operation_name,
                } = request.key();
                let name = operation_name.as_deref().unwrap_or_default();
                let parts = [text.as_bytes(), name.as_bytes(), &variables];
                Claim::new(principal.user, principal.role, None, &key, &parts)
            });
        set_defaults(request.checked(), &mut variables);
        let selected = request.selected(&self.selection_types, &variables);
        // A response that is stored with an idempotency key stays a tree of values.
        let is_direct = claim.is_none() && !selected.merges_root_fields;
        let info = OperationInfo {
            operation,
            purpose,
            traced: options.traced,
            dry_run: options.dry_run,
            claim,
            columns: selected.columns,
            cost: request.cost(),
        };
        Ok(AdmittedOperation {
            request: Arc::new(request),
            variables,
            principal,
            info,
            is_direct,
            rate_limit: None,
        })
    }

    /// Executes an operation in its tenant transaction. A mutation that the database aborted because of a conflict runs
    /// again: the mutation wrote nothing, and the client has not received a response.
    pub async fn execute(&self, admitted: AdmittedOperation) -> OperationReply {
        let AdmittedOperation {
            request: admitted,
            variables,
            principal,
            info,
            is_direct,
            rate_limit,
        } = admitted;
        let ending = EndingSlot::default();
        let checked = admitted.checked();
        let usage = info.operation.usage();
        let request = |variables: Variables| {
            let mut request = Request::new(String::new())
                .variables(variables)
                .data(principal)
                .data(info.clone())
                .data(ending.clone())
                .data(Arc::clone(&admitted))
                .data(ResponseBytes::new(
                    self.max_response_bytes,
                    Arc::clone(usage),
                ));
            if is_direct {
                request = request.data(DirectJson);
            }
            if let Some(limit) = rate_limit {
                request = request.data(limit);
            }
            request.operation_name = checked.operation_name.as_ref().map(Name::to_string);
            request.set_parsed_query(admitted.executable());
            if !self.introspection {
                request.introspection_mode = IntrospectionMode::Disabled;
            }
            request
        };
        let operation = &info.operation;
        let is_read = info.purpose == Purpose::Read;
        let mut run = 1;
        let mut response = loop {
            let response = self.schema.execute(request(variables.clone())).await;
            // A query changes nothing, so it may run again. After a change of a table, each pooled connection can have a
            // prepared statement that no longer fits.
            let runs_again = if is_read {
                errors::is_transient(&response) && !operation.is_cancelled()
            } else {
                errors::is_contended(&response)
            };
            if run == MAX_RUNS || !runs_again {
                break response;
            }
            run += 1;
            if is_read {
                continue;
            }
            tracing::debug!(
                request.id = %operation.request_id(),
                "running request {} again: its transaction conflicted with another one",
                operation.request_id(),
            );
            // A random pause, so that two conflicting operations do not conflict again.
            let longest = FIRST_PAUSE * 2_u32.pow((run - 2).min(4));
            tokio::time::sleep(longest.mul_f64(fastrand::f64())).await;
            operation.forget_writes();
            // The last run is exclusive. Otherwise steady traffic could starve the operation.
            if run == MAX_RUNS {
                operation.make_exclusive();
            }
        };
        input_paths::name(&mut response, &checked.document, &variables);
        complete_root(
            &mut response,
            &checked.root_fields,
            &self.nullable_root_fields,
        );
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

/// Gives each variable without a value its default (specification, 6.1.2). The engine uses the defaults for
/// arguments and not for `@skip` and `@include`.
fn set_defaults(checked: &CheckedDocument, variables: &mut Variables) {
    let name = checked.operation_name.as_ref();
    let Some(operation) = selected_operation(&checked.document.operations, name) else {
        return;
    };
    for definition in &operation.node.variable_definitions {
        let definition = &definition.node;
        if let Some(default) = &definition.default_value {
            variables
                .entry(definition.name.node.clone())
                .or_insert_with(|| default.node.clone());
        }
    }
}
