//! The table of contents of the API: the root types, and the schema that they make.

use async_graphql::{
    EmptySubscription, MergedObject, OutputType as _, Schema, SchemaBuilder,
    registry::{MetaField, MetaType, Registry},
};
use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{
    guard::Shape, node::NodeQueries, rate_limit::RateLimitQueries, transaction::TenantTransaction,
};
use crate::{
    currencies::CurrencyQueries,
    db::page::{DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE},
    entities::entities,
    graphql::relations::{RootMutations, RootQueries},
    viewer::ViewerQueries,
};

macro_rules! roots {
    (audited { $($audited:tt)+ } unaudited { $($unaudited:tt)+ }) => {
        roots! { @each $($audited)+ $($unaudited)+ }
    };
    (@each $($(#[$doc:meta])* $row:ident: $id:ident = $prefix:literal in $table:literal of $slice:ident;)+) => {
        /// The root of all queries.
        #[derive(Default, MergedObject)]
        pub struct Query(
            ViewerQueries,
            RateLimitQueries,
            NodeQueries,
            CurrencyQueries,
            $(<crate::$slice::$row as RootQueries>::Queries),+
        );

        /// The root of all mutations.
        #[derive(Default, MergedObject)]
        pub struct Mutation($(<crate::$slice::$row as RootMutations>::Mutations),+);
    };
}
entities!(roots);

/// The schema of the API.
pub type ApiSchema = Schema<Query, Mutation, EmptySubscription>;

/// The schema without its databases: for printing, and for asking about its shape.
#[must_use]
pub fn schema() -> ApiSchema {
    builder().finish()
}

pub(super) fn builder() -> SchemaBuilder<Query, Mutation, EmptySubscription> {
    Schema::build(Query::default(), Mutation::default(), EmptySubscription)
        .extension(TenantTransaction)
        // Suggestions would tell a stranger what exists, and cost time on hostile documents.
        .disable_suggestions()
        // The libraries' own words speak of their types.
        .override_output_type_description::<DateTime<Utc>>(
            "A date and time in RFC 3339 format. The service returns UTC with microseconds, such as \
             `2026-11-21T09:30:00.123456+00:00`, and accepts any offset.",
        )
        .override_output_type_description::<Uuid>(
            "A UUID with 36 characters, such as `018f9a52-7c41-7d1e-9c53-1f0b6f1d2a33`.",
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

pub(super) fn registry() -> Registry {
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
        default_page: u64::from(DEFAULT_PAGE_SIZE),
        max_page: u64::from(MAX_PAGE_SIZE),
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
