//! The only place that knows async-graphql's plumbing, and the table of contents of the API.

pub mod connection;
pub mod context;
pub mod errors;
pub mod filter;
pub mod guard;
pub mod node;
pub mod object;
pub mod relations;
pub mod scalars;
pub mod transaction;

use std::{collections::HashSet, sync::Arc};

use async_graphql::{
    EmptyMutation, EmptySubscription, IntrospectionMode, MergedObject, OutputType as _,
    PathSegment, Request, Response, Schema, ServerError, Value,
    indexmap::IndexMap,
    registry::{MetaType, Registry},
};

pub use node::Node;
pub(crate) use scalars::id_scalar;

use self::{
    guard::{Guard, RootField, Shape},
    transaction::{OperationInfo, TenantTransaction},
};
use crate::{
    audit::{AuditLogQueries, sealing::Sealer},
    auth::Principal,
    comments::CommentQueries,
    currencies::CurrencyQueries,
    db::{
        TenantDb,
        page::{DEFAULT_PAGE, MAX_PAGE},
        sign_in::SignInDb,
    },
    invoices::{InvoiceLineItemQueries, InvoiceQueries},
    organizations::OrganizationQueries,
    products::ProductQueries,
    projects::ProjectQueries,
    tenants::{TenantQueries, ViewerQueries},
    users::UserQueries,
};

/// Everything that can be read.
#[derive(Debug, Default, MergedObject)]
pub struct Query(
    ViewerQueries,
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

/// The schema of the API.
pub type ApiSchema = Schema<Query, EmptyMutation, EmptySubscription>;

/// The schema without its databases: for printing, and for asking about its shape.
#[must_use]
pub fn schema() -> ApiSchema {
    builder().finish()
}

fn builder() -> async_graphql::SchemaBuilder<Query, EmptyMutation, EmptySubscription> {
    Schema::build(Query::default(), EmptyMutation, EmptySubscription)
        .extension(TenantTransaction)
        // Suggestions would tell a stranger what exists, and cost time on hostile documents.
        .disable_suggestions()
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

/// An operation that has passed the guard.
pub struct Admitted {
    request: Request,
    root_fields: Vec<RootField>,
    info: OperationInfo,
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
        traced: bool,
    ) -> Result<Admitted, guard::Refusal> {
        self.guard.check_variables(&incoming.variables)?;
        let name = incoming.operation_name.as_deref();
        let admitted = self
            .guard
            .admit(&incoming.query, name, &incoming.variables)?;
        let purpose = match admitted.operation {
            async_graphql::parser::types::OperationType::Mutation => crate::db::Purpose::Write,
            _ => crate::db::Purpose::Read,
        };
        let info = OperationInfo {
            operation,
            purpose,
            traced,
        };
        let mut request = Request::new(incoming.query)
            .variables(incoming.variables)
            .data(principal)
            .data(info.clone());
        request.operation_name = incoming.operation_name;
        request.set_parsed_query(admitted.document);
        if !self.introspection {
            request.introspection_mode = IntrospectionMode::Disabled;
        }
        Ok(Admitted {
            request,
            root_fields: admitted.root_fields,
            info,
        })
    }

    /// Runs an operation in its tenant transaction.
    pub async fn execute(&self, admitted: Admitted) -> Response {
        let mut response = self.schema.execute(admitted.request).await;
        complete_root(
            &mut response,
            &admitted.root_fields,
            &self.nullable_root_fields,
        );
        let operation = &admitted.info.operation;
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
    registry
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
        }
    }
    shape
}
