//! The macros `relations!` and `roots!`, which generate the fields that lead from one row to other rows.
//!
//! A to-one field loads a row by its id, and each list is a connection with the same six arguments, so a slice only
//! declares the names. For a field with other logic, a slice declares the method that the field calls.

use async_graphql::{EmptyMutation, ObjectType};

/// The root queries of an entity.
pub trait RootQueries {
    /// The object whose fields become fields of the API's `Query`.
    type Queries: ObjectType + Default;
}

/// The root mutations of an entity.
pub trait RootMutations {
    /// The object whose fields become fields of the API's `Mutation`; [`NoMutations`] if there are none.
    type Mutations: ObjectType + Default;
}

/// The mutations of an entity that clients can only read: none.
pub type NoMutations = EmptyMutation;

/// Generates the fields of an object: the lists, which are connections, and the other fields as given. `= column` lists
/// the rows whose `column` holds the ID of this row. Without `= column`, the list has all rows of the tenant.
macro_rules! connections {
    (
        #[$object:meta] $owner:ident { $($others:tt)* }
        $($(#[$doc:meta])* $list:ident: $row:ident $(= $column:ident)?,)*
    ) => {
        #[$object]
        impl $owner {
            $($others)*

            $(
                $(#[$doc])*
                #[expect(clippy::too_many_arguments, reason = "the arguments of every connection")]
                async fn $list(
                    &self,
                    ctx: &async_graphql::Context<'_>,
                    #[graphql(desc = "Returns this many rows from the start: 0 to 100; 20 by default.")]
                    first: Option<i32>,
                    #[graphql(desc = "Returns the rows after this cursor.")]
                    after: Option<String>,
                    #[graphql(desc = "Returns this many rows from the end: 0 to 100. Must not be combined with `first`.")]
                    last: Option<i32>,
                    #[graphql(desc = "Returns the rows before this cursor.")]
                    before: Option<String>,
                    #[graphql(desc = "Filters the rows.")]
                    filter: Option<Box<<$row as $crate::graphql::connection::Listable>::Filter>>,
                    #[graphql(desc = "The sort order: up to 5 terms. Rows that are equal in all of them are sorted by ID.")]
                    order_by: Option<Vec<$crate::graphql::connection::Order<
                        <$row as $crate::graphql::connection::Listable>::OrderField
                    >>>,
                ) -> $crate::error::Result<<$row as $crate::graphql::connection::Listable>::List> {
                    let arguments = $crate::graphql::connection::ListArguments::<$row> {
                        first, after, last, before, filter, order_by,
                    };
                    let parent = $crate::graphql::relations::parent!(self $(, $column)?);
                    $crate::graphql::context::ContextExt::list(ctx, parent, arguments).await
                }
            )*
        }
    };
}
pub(crate) use connections;

/// The parent of a list: the column that refers to the parent, and the parent's id. `None` for a list without a
/// parent.
macro_rules! parent {
    ($row:ident) => {
        None
    };
    ($row:ident, $column:ident) => {
        Some($crate::graphql::relations::parent_of!($row, $column))
    };
}
pub(crate) use parent;

/// The column that refers to a parent, and the parent's id.
macro_rules! parent_of {
    ($row:ident, $column:ident) => {
        (stringify!($column), $crate::ids::EntityId::uuid($row.id))
    };
}
pub(crate) use parent_of;

/// The relations of a row type, and its computed fields.
///
/// ```text
/// relations! {
///     Project {
///         one {
///             /// The organization; null if the caller may not see it.
///             organization: Organization = organization_id,
///         }
///         many {
///             /// The invoices that bill the project.
///             invoices: Invoice = project_id,
///         }
///         loaded {
///             /// The invoice that was issued last; null if there is none.
///             last_invoice: Option<Object<Invoice>> = load_last_invoice(),
///         }
///         computed {
///             /// Whether the due date has passed.
///             is_overdue: bool = compute_is_overdue(due_on),
///         }
///     }
/// }
/// ```
///
/// `one name: Type = column` loads the row whose ID is in this column. `many name: Type = column` lists the rows of
/// `Type` whose column holds the ID of this row. `loaded name: Type = method(columns)` calls the method
/// `async fn method(&self, ctx: &Context<'_>) -> Result<Type>`, which may read only these columns and the ID: the
/// service fetches no other columns. `computed name: Type = method(columns)` calls
/// `fn method(&self, ctx: &Context<'_>) -> Result<Type>`, with the same restriction.
macro_rules! relations {
    ($owner:ident {
        $(one { $($(#[$one_doc:meta])* $one:ident: $one_type:ident = $id:ident),* $(,)? })?
        $(many { $($(#[$many_doc:meta])* $many:ident: $many_type:ident = $column:ident),* $(,)? })?
        $(loaded { $($(#[$loaded_doc:meta])* $loaded:ident: $loaded_type:ty = $load:ident($($load_column:ident),*)),* $(,)? })?
        $(computed { $($(#[$computed_doc:meta])* $computed:ident: $computed_type:ty = $compute:ident($($compute_column:ident),*)),* $(,)? })?
    }) => {
        $crate::graphql::relations::connections! {
            #[async_graphql::ComplexObject]
            $owner {
                $($(
                    $(#[$one_doc])*
                    async fn $one(
                        &self,
                        ctx: &async_graphql::Context<'_>,
                    ) -> $crate::error::Result<Option<$crate::graphql::object::Object<$one_type>>> {
                        $crate::graphql::context::ContextExt::load(ctx, self.$id.copied()?).await
                    }
                )*)?

                $($(
                    $(#[$loaded_doc])*
                    async fn $loaded(
                        &self,
                        ctx: &async_graphql::Context<'_>,
                    ) -> $crate::error::Result<$loaded_type> {
                        self.$load(ctx).await
                    }
                )*)?

                $($(
                    $(#[$computed_doc])*
                    async fn $computed(
                        &self,
                        ctx: &async_graphql::Context<'_>,
                    ) -> $crate::error::Result<$computed_type> {
                        self.$compute(ctx)
                    }
                )*)?
            }
            $($($(#[$many_doc])* $many: $many_type = $column,)*)?
        }

        impl $crate::graphql::entity::Relations for $owner {
            const RELATIONS: &'static [(&'static str, &'static [&'static str])] = &[
                $($((stringify!($one), &[stringify!($id)]),)*)?
                $($((stringify!($many), &[]),)*)?
                $($((stringify!($loaded), &[$(stringify!($load_column)),*]),)*)?
                $($((stringify!($computed), &[$(stringify!($compute_column)),*]),)*)?
            ];

            fn list_resolver(field: &str) -> Option<$crate::graphql::object::ListResolver<Self>> {
                $($(
                    if $crate::graphql::entity::is_field(stringify!($many), field) {
                        return Some(|row, ctx, field| {
                            let parent = $crate::graphql::relations::parent_of!(row, $column);
                            $crate::graphql::connection::resolve_list::<Self, $many_type>(parent, ctx, field)
                        });
                    }
                )*)?
                let _ = field;
                None
            }
        }
    };
}
pub(crate) use relations;

/// The root queries of a row type: one row by its id, and the list of all.
///
/// ```text
/// roots! {
///     ProjectQueries: Project {
///         /// The project with this id; null if there is none.
///         project(ProjectId)
///         /// The projects of the tenant, newest first by default.
///         projects
///     }
/// }
/// ```
macro_rules! roots {
    ($queries:ident: $row:ident {
        $(#[$one_doc:meta])* $one:ident($id:ident)
        $(#[$many_doc:meta])* $many:ident
    }) => {
        /// The root queries of this entity.
        #[derive(Debug, Default)]
        pub struct $queries;

        impl $crate::graphql::relations::RootQueries for $row {
            type Queries = $queries;
        }

        $crate::graphql::relations::connections! {
            #[async_graphql::Object]
            $queries {
                $(#[$one_doc])*
                async fn $one(
                    &self,
                    ctx: &async_graphql::Context<'_>,
                    #[graphql(desc = "The ID of the object.")] id: $id,
                ) -> $crate::error::Result<Option<$crate::graphql::object::Object<$row>>> {
                    $crate::graphql::context::ContextExt::load(ctx, id).await
                }
            }
            $(#[$many_doc])* $many: $row,
        }
    };
}
pub(crate) use roots;
