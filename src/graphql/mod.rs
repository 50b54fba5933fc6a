//! The only place that knows async-graphql's plumbing, and the table of contents of the API.

pub mod batch;
pub mod connection;
pub mod context;
pub mod directives;
pub mod errors;
pub mod filter;
pub mod guard;
pub mod mutation;
pub mod node;
pub mod object;
pub mod relations;
pub mod scalars;
pub mod transaction;
mod variables;

use std::{collections::HashSet, sync::Arc, time::Duration};

use async_graphql::{
    EmptySubscription, IntrospectionMode, MergedObject, OutputType as _, PathSegment, Request,
    Response, Schema, ServerError, Value, Variables,
    indexmap::IndexMap,
    parser::types::ExecutableDocument,
    registry::{MetaField, MetaType, Registry},
};
use chrono::{DateTime, Utc};
use uuid::Uuid;

pub use node::Node;
pub(crate) use scalars::id_scalar;

use self::{
    guard::{Guard, RootField, Shape},
    transaction::{OperationInfo, TenantTransaction},
};
use crate::{
    audit::{AuditLogQueries, sealing::Sealer},
    auth::Principal,
    comments::{CommentMutations, CommentQueries},
    currencies::CurrencyQueries,
    db::{
        TenantDb,
        idempotency::Claim,
        page::{DEFAULT_PAGE, MAX_PAGE},
        sign_in::SignInDb,
    },
    invoices::{
        InvoiceLineItemMutations, InvoiceLineItemQueries, InvoiceMutations, InvoiceQueries,
    },
    organizations::{OrganizationMutations, OrganizationQueries},
    products::{ProductMutations, ProductQueries},
    projects::{ProjectMutations, ProjectQueries},
    tenants::{RateLimit, RateLimitQueries, TenantQueries, ViewerQueries},
    users::{UserMutations, UserQueries},
};

/// Everything that can be read.
#[derive(Debug, Default, MergedObject)]
pub struct Query(
    ViewerQueries,
    RateLimitQueries,
    TenantQueries,
    node::NodeQueries,
    UserQueries,
    OrganizationQueries,
    ProjectQueries,
    ProductQueries,
    InvoiceQueries,
    InvoiceLineItemQueries,
    CommentQueries,
    AuditLogQueries,
    CurrencyQueries,
);

/// Everything that can be changed.
#[derive(Debug, Default, MergedObject)]
pub struct Mutation(
    UserMutations,
    OrganizationMutations,
    ProjectMutations,
    ProductMutations,
    InvoiceMutations,
    InvoiceLineItemMutations,
    CommentMutations,
);

/// The schema of the API.
pub type ApiSchema = Schema<Query, Mutation, EmptySubscription>;

/// The schema without its databases: for printing, and for asking about its shape.
#[must_use]
pub fn schema() -> ApiSchema {
    builder().finish()
}

fn builder() -> async_graphql::SchemaBuilder<Query, Mutation, EmptySubscription> {
    Schema::build(Query::default(), Mutation::default(), EmptySubscription)
        .extension(TenantTransaction)
        // Suggestions would tell a stranger what exists, and cost time on hostile documents.
        .disable_suggestions()
        // The libraries' own words speak of their types.
        .override_output_type_description::<DateTime<Utc>>(
            "A moment as text in RFC 3339. Answers are in UTC, to the microsecond: `2026-11-21T09:30:00.123456+00:00`. An \
             input may have any offset.",
        )
        .override_output_type_description::<Uuid>(
            "A UUID as 36 characters of text: `018f9a52-7c41-7d1e-9c53-1f0b6f1d2a33`.",
        )
}

/// The API as text, in the schema definition language. Ends with a line feed.
#[must_use]
pub fn sdl() -> String {
    let options = async_graphql::SDLExportOptions::new()
        .sorted_fields()
        .sorted_arguments()
        .sorted_enum_items();
    let sdl = schema().sdl_with_options(options);
    format!("{}\n", sdl.trim_end())
}

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
                .data(info.clone());
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
                info.operation.forget_answer();
                // Whoever lost to others each time would lose to them for as long as they come.
                if run == MAX_RUNS {
                    info.operation.run_alone();
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

/// Completes the root of an answer as the specification demands (6.2.2, 6.4.4) and [`object::Object`]
/// does below it: fields in the order of the query, and a failed one null, or all of the data if it
/// cannot be null. The engine writes root fields as they complete and leaves failed ones out.
fn complete_root(response: &mut Response, fields: &[RootField], nullable: &HashSet<String>) {
    let mut given = match std::mem::take(&mut response.data) {
        Value::Object(data) => data,
        // The engine's word for "no field succeeded", and for "nothing was executed".
        _ => IndexMap::new(),
    };
    let has_failed = |key: &str| {
        let at_key = |error: &ServerError| match error.path.first() {
            Some(PathSegment::Field(field)) => field == key,
            _ => false,
        };
        response.errors.iter().any(at_key)
    };
    let mut data = IndexMap::with_capacity(fields.len());
    for RootField { key, name } in fields {
        match given.swap_remove(key) {
            Some(value) => {
                data.insert(key.clone(), value);
            }
            // Neither given nor failed: it was skipped by a directive.
            None if !has_failed(key) => {}
            None if nullable.contains(name.as_str()) => {
                data.insert(key.clone(), Value::Null);
            }
            None => return,
        }
    }
    let was_executed = response.errors.is_empty() || !data.is_empty();
    if was_executed {
        response.data = Value::Object(data);
    }
}

/// The root fields that can be null.
fn nullable_root_fields() -> HashSet<String> {
    let registry = registry();
    let query = registry.types.get(&*Query::type_name());
    let fields = query.and_then(MetaType::fields).into_iter().flatten();
    fields
        .filter(|(_, field)| !field.ty.ends_with('!'))
        .map(|(name, _)| name.clone())
        .collect()
}

fn registry() -> Registry {
    let mut registry = Registry::default();
    Query::create_type_info(&mut registry);
    Mutation::create_type_info(&mut registry);
    registry
}

/// The list in the `input` of a mutation that answers a result for each of its items.
fn batch_list(registry: &Registry, field: &MetaField) -> Option<String> {
    let named = |name: &str| registry.types.get(name.trim_end_matches('!'));
    named(&field.ty)?.field_by_name("results")?;
    let MetaType::InputObject { input_fields, .. } = named(&field.args.get("input")?.ty)? else {
        return None;
    };
    let mut fields = input_fields.values();
    let list = fields.find(|field| field.ty.starts_with('['))?;
    Some(list.name.clone())
}

/// What the guard must know of the schema: which fields are lists, by name.
#[must_use]
pub fn shape() -> Shape {
    let registry = registry();
    let mut shape = Shape {
        default_page: u64::from(DEFAULT_PAGE),
        max_page: u64::from(MAX_PAGE),
        ..Shape::default()
    };
    for named in registry.types.values() {
        for field in named.fields().into_iter().flatten().map(|(_, field)| field) {
            if field.args.contains_key("first") {
                shape.connections.insert(field.name.clone());
            }
            if field.args.contains_key("ids") {
                shape.id_lists.insert(field.name.clone());
            }
            if let Some(list) = batch_list(&registry, field) {
                shape.batches.insert(field.name.clone(), list);
            }
        }
    }
    shape
}
