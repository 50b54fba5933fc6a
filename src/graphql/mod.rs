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

use std::sync::Arc;

use async_graphql::{
    EmptyMutation, EmptySubscription, IntrospectionMode, MergedObject, Name, OutputType as _,
    Request, Response, Schema, Value, indexmap::IndexMap, registry::Registry,
};

pub use node::Node;
pub(crate) use scalars::id_scalar;

use self::{
    guard::{Guard, Shape},
    transaction::{OperationInfo, TenantTransaction},
};
use crate::{
    audit::AuditLogQueries,
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
    introspection: bool,
}

/// An operation that has passed the guard.
pub struct Admitted {
    request: Request,
    root_keys: Vec<Name>,
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
    /// The API over a database, and over the sign-in directory if it may use it.
    #[must_use]
    pub fn new(
        db: TenantDb,
        directory: Option<SignInDb>,
        limits: guard::Limits,
        introspection: bool,
    ) -> Self {
        let schema = builder().data(db).data(directory).finish();
        let guard = Arc::new(Guard {
            limits,
            shape: shape(),
        });
        Self {
            schema,
            guard,
            introspection,
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
            root_keys: admitted.root_keys,
            info,
        })
    }

    /// Runs an operation in its tenant transaction.
    pub async fn execute(&self, admitted: Admitted) -> Response {
        let mut response = self.schema.execute(admitted.request).await;
        in_query_order(&mut response, &admitted.root_keys);
        errors::finish(&mut response, admitted.info.operation.request_id());
        response
    }
}

/// Puts the root fields into the order of the query; below them [`object::Object`] keeps it.
fn in_query_order(response: &mut Response, keys: &[Name]) {
    if let Value::Object(data) = &mut response.data {
        let mut ordered = IndexMap::with_capacity(data.len());
        for key in keys {
            if let Some(value) = data.swap_remove(key) {
                ordered.insert(key.clone(), value);
            }
        }
        ordered.append(data);
        *data = ordered;
    }
}

/// What the guard must know of the schema: which fields are lists, by name.
#[must_use]
pub fn shape() -> Shape {
    let mut registry = Registry::default();
    Query::create_type_info(&mut registry);
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
