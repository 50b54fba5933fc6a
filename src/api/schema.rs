//! The root types and the schema.

use std::{
    collections::HashSet,
    sync::{Arc, LazyLock, OnceLock},
};

use async_graphql::{
    EmptySubscription, MergedObject, OutputType as _, Request, Response, Schema, SchemaBuilder,
    SchemaEnv,
    extensions::{Extension, ExtensionContext, ExtensionFactory, NextRequest},
    registry::{MetaField, MetaType, Registry},
};
use chrono::{DateTime, Utc};
use futures_util::FutureExt as _;
use uuid::Uuid;

use super::{
    guard::{IDS_ARGUMENT, Shape},
    node::NodeQueries,
    rate_limit::RateLimitQueries,
    transaction::TenantTransaction,
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

/// Creates the schema without databases, to print it and to inspect its shape.
#[must_use]
pub fn schema() -> ApiSchema {
    builder().finish()
}

pub(super) fn builder() -> SchemaBuilder<Query, Mutation, EmptySubscription> {
    Schema::build(Query::default(), Mutation::default(), EmptySubscription)
        .extension(TenantTransaction)
        // Suggestions in error messages would reveal names of the schema, and hostile documents could make them
        // expensive.
        .disable_suggestions()
        // The descriptions from the libraries mention Rust types.
        .override_output_type_description::<DateTime<Utc>>(
            "A date and time in RFC 3339 format. The service returns UTC with microseconds, such as \
             `2026-11-21T09:30:00.123456+00:00`, and accepts any offset.",
        )
        .override_output_type_description::<Uuid>(
            "A UUID with 36 characters, such as `018f9a52-7c41-7d1e-9c53-1f0b6f1d2a33`.",
        )
}

/// The schema in the schema definition language. Ends with a line feed.
#[must_use]
pub fn sdl() -> String {
    let options = async_graphql::SDLExportOptions::new()
        .sorted_fields()
        .sorted_arguments()
        .sorted_enum_items();
    let sdl = schema().sdl_with_options(options);
    format!("{}\n", sdl.trim_end())
}

/// The named type of a type: `Project` for `[Project!]!`.
pub(super) fn named_type(of: &str) -> &str {
    of.trim_matches(['[', ']', '!'])
}

pub(super) fn registry() -> Registry {
    let mut registry = Registry::default();
    Query::create_type_info(&mut registry);
    Mutation::create_type_info(&mut registry);
    registry.query_type = Query::type_name().into_owned();
    registry.mutation_type = Some(Mutation::type_name().into_owned());
    registry
}

/// The registry of the whole schema. [`registry`] lacks the introspection types and the directives of the specification.
pub(super) fn complete_registry() -> &'static Registry {
    /// Takes the registry from the context of a request, because only an extension gets it.
    #[derive(Clone, Default)]
    struct TakeSchema(Arc<OnceLock<SchemaEnv>>);

    impl ExtensionFactory for TakeSchema {
        fn create(&self) -> Arc<dyn Extension> {
            Arc::new(self.clone())
        }
    }

    #[async_trait::async_trait]
    impl Extension for TakeSchema {
        async fn request(&self, ctx: &ExtensionContext<'_>, _: NextRequest<'_>) -> Response {
            self.0.get_or_init(|| ctx.schema_env.clone());
            Response::default()
        }
    }

    static SCHEMA: LazyLock<SchemaEnv> = LazyLock::new(|| {
        let taken = TakeSchema::default();
        let schema = Schema::build(Query::default(), Mutation::default(), EmptySubscription);
        let schema = schema.extension(taken.clone()).finish();
        let _ = schema.execute(Request::new("")).now_or_never();
        let taken = taken.0.get().cloned();
        taken.expect("BUG: the extension did not run")
    });
    &SCHEMA.registry
}

/// The name of the list in the `input` of a bulk mutation. `None` if the field is not a bulk mutation: its payload has
/// no `results`.
fn bulk_list(registry: &Registry, field: &MetaField) -> Option<String> {
    let named = |name: &str| registry.types.get(name.trim_end_matches('!'));
    named(&field.ty)?.field_by_name("results")?;
    let MetaType::InputObject { input_fields, .. } = named(&field.args.get("input")?.ty)? else {
        return None;
    };
    let mut fields = input_fields.values();
    let list = fields.find(|field| field.ty.starts_with('['))?;
    Some(list.name.clone())
}

/// The properties of the schema that the guard needs: the names of the fields that are lists, and the page sizes.
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
            if field.args.contains_key(IDS_ARGUMENT) {
                shape.id_lists.insert(field.name.clone());
            }
            if let Some(list) = bulk_list(&registry, field) {
                shape.bulk_mutations.insert(field.name.clone(), list);
            }
        }
    }
    shape.values = value_fields(&registry);
    shape
}

/// The names of the fields that return an object that is not a row in every type, such as `total: Money`.
fn value_fields(registry: &Registry) -> HashSet<String> {
    let (mut values, mut others) = (HashSet::new(), HashSet::new());
    for (type_name, named) in &registry.types {
        for field in named.fields().into_iter().flatten().map(|(_, field)| field) {
            let returned = registry.types.get(named_type(&field.ty));
            let is_value = match returned {
                Some(of @ MetaType::Object { .. }) => {
                    // The fields of the root types read rows, even if what they return is not a row.
                    let is_root = *type_name == registry.query_type
                        || Some(type_name) == registry.mutation_type.as_ref();
                    let has_rows = of.fields().into_iter().flatten().any(|(name, field)| {
                        name == "id" || is_composite(registry, named_type(&field.ty))
                    });
                    // A list may be read from the database, like `memberships`.
                    !is_root && !has_rows && field.args.is_empty() && !field.ty.starts_with('[')
                }
                Some(MetaType::Interface { .. } | MetaType::Union { .. }) => false,
                _ => continue,
            };
            let names = if is_value { &mut values } else { &mut others };
            names.insert(field.name.clone());
        }
    }
    values.retain(|name| !others.contains(name));
    values
}

/// Whether a type has fields.
fn is_composite(registry: &Registry, name: &str) -> bool {
    let named = registry.types.get(name);
    named.is_some_and(|named| {
        matches!(
            named,
            MetaType::Object { .. } | MetaType::Interface { .. } | MetaType::Union { .. }
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api::guard::{CONNECTION_FIELDS, INTROSPECTION_LISTS},
        entities::entities,
        graphql::json::PlainFields as _,
    };

    /// The fields whose cost the guard would compute wrongly, because the guard identifies fields by name only.
    fn misread_fields(registry: &Registry) -> Vec<String> {
        let shape = shape();
        let fields = || {
            let types = registry.types.iter();
            types.flat_map(|(name, of)| of.fields().into_iter().flatten().map(move |f| (name, f.1)))
        };
        let connections: HashSet<&str> = fields()
            .filter(|(_, field)| field.args.contains_key("first"))
            .map(|(_, field)| named_type(&field.ty))
            .collect();
        let edges: HashSet<&str> = fields()
            .filter(|(of, field)| connections.contains(of.as_str()) && field.name == "edges")
            .map(|(_, field)| named_type(&field.ty))
            .collect();
        let is_misread = |of: &str, field: &MetaField| {
            let name = field.name.as_str();
            let is_of_connection = connections.contains(of) || edges.contains(of);
            let mut arguments = field.args.values();
            // The guard treats a field as part of a connection only if the field is selected without arguments.
            let needs_argument = arguments
                .any(|argument| argument.ty.ends_with('!') && argument.default_value.is_none());
            INTROSPECTION_LISTS.contains(&name)
                || (CONNECTION_FIELDS.contains(&name) && !is_of_connection && !needs_argument)
                || (shape.connections.contains(name) && !field.args.contains_key("first"))
                || (shape.bulk_mutations.contains_key(name) && bulk_list(registry, field).is_none())
        };
        let misread = fields().filter(|(of, field)| is_misread(of, field));
        misread
            .map(|(of, field)| format!("{of}.{}", field.name))
            .collect()
    }

    #[test]
    fn an_object_that_is_not_a_row_costs_nothing() {
        let mut values: Vec<String> = shape().values.into_iter().collect();
        values.sort();
        assert_eq!(
            values,
            [
                "amount",
                "pageInfo",
                "price",
                "subtotal",
                "tax",
                "total",
                "unitPrice"
            ]
        );
    }

    #[test]
    fn the_guard_misreads_no_field_of_the_schema() {
        assert_eq!(misread_fields(&registry()), [""; 0]);
    }

    #[test]
    fn a_field_with_a_reserved_name_is_detected() {
        /// A type that no resolver returns.
        #[derive(async_graphql::SimpleObject)]
        struct Row {
            id: i32,
            nodes: Vec<i32>,
            page_info: String,
            types: Vec<i32>,
            projects: i32,
            delete_projects: bool,
        }

        let mut registry = registry();
        Row::create_type_info(&mut registry);
        assert_eq!(
            misread_fields(&registry),
            [
                "Row.nodes",
                "Row.pageInfo",
                "Row.types",
                "Row.projects",
                "Row.deleteProjects"
            ]
        );
    }

    macro_rules! list_fields {
        (audited { $($audited:tt)+ } unaudited { $($unaudited:tt)+ }) => {
            list_fields! { @each $($audited)+ $($unaudited)+ }
        };
        (@each $($(#[$doc:meta])* $row:ident: $id:ident = $prefix:literal in $table:literal of $slice:ident;)+) => {
            /// Whether a type of the schema is an entity, and if so, whether the field is resolved as a list.
            fn is_list_field(type_name: &str, field: &str) -> Option<bool> {
                match type_name {
                    $(stringify!($row) => Some(crate::$slice::$row::list_resolver(field).is_some()),)+
                    _ => None,
                }
            }
        };
    }
    entities!(list_fields);

    #[test]
    fn every_field_with_arguments_below_a_parent_reads_them_once() {
        let registry = registry();
        let all_fields = registry.types.values().filter_map(MetaType::fields);
        // The root types, and those that are merged into them, are not the type of a field.
        let below_parents: HashSet<&str> = all_fields
            .flat_map(|fields| fields.values().map(|field| named_type(&field.ty)))
            .collect();
        let mut lists = 0;
        for (name, declared) in &registry.types {
            let MetaType::Object { fields, .. } = declared else {
                continue;
            };
            if !below_parents.contains(name.as_str()) || name.starts_with("__") {
                continue;
            }
            for field in fields.values() {
                let is_list = is_list_field(name, &field.name).unwrap_or_default();
                assert_eq!(is_list, !field.args.is_empty(), "{name}.{}", field.name);
                let is_connection = named_type(&field.ty).ends_with("Connection");
                assert_eq!(is_list, is_connection, "{name}.{}", field.name);
                lists += usize::from(is_list);
            }
        }
        assert!(lists > 10, "{lists}");
    }
}
