//! The fields that lead from a row to others, written once: `relations!` and `roots!`.
//!
//! Every to-one field loads by id and every list is a connection with the same arguments, so a slice
//! only names them. async-graphql takes one `ComplexObject` block per type, hence the block `fields`
//! for whatever else the type has.

/// The relations of a row type, and its other computed fields.
///
/// ```text
/// relations! {
///     Project {
///         one {
///             /// The organization; null if the caller may not see it.
///             organization: Organization = organization_id,
///         }
///         many {
///             /// Invoices that bill the project.
///             invoices: Invoice = project_id,
///         }
///     }
/// }
/// ```
///
/// `one name: Type = column` follows the id in a column of this row. `many name: Type = column` lists
/// the rows of `Type` whose column holds this row's id.
macro_rules! relations {
    ($row:ident {
        $(one { $($(#[$one_doc:meta])* $one:ident: $one_type:ident = $id:ident),* $(,)? })?
        $(many { $($(#[$many_doc:meta])* $many:ident: $many_type:ident = $column:ident),* $(,)? })?
        $(fields { $($fields:tt)* })?
    }) => {
        #[async_graphql::ComplexObject]
        impl $row {
            $($(
                $(#[$one_doc])*
                async fn $one(
                    &self,
                    ctx: &async_graphql::Context<'_>,
                ) -> $crate::error::Result<Option<$crate::graphql::object::Object<$one_type>>> {
                    $crate::graphql::context::ContextExt::load(ctx, self.$id).await
                }
            )*)?

            $($(
                $(#[$many_doc])*
                #[expect(clippy::too_many_arguments, reason = "the arguments of every connection")]
                async fn $many(
                    &self,
                    ctx: &async_graphql::Context<'_>,
                    #[graphql(desc = "How many rows from the start: 0 to 100, 20 if not given.")]
                    first: Option<i32>,
                    #[graphql(desc = "Only rows behind this cursor.")]
                    after: Option<String>,
                    #[graphql(desc = "How many rows from the end, instead of `first`: 0 to 100.")]
                    last: Option<i32>,
                    #[graphql(desc = "Only rows in front of this cursor.")]
                    before: Option<String>,
                    #[graphql(desc = "Which rows.")]
                    filter: Option<Box<<$many_type as $crate::graphql::connection::Listable>::Filter>>,
                    #[graphql(desc = "In which order; at most 5 terms.")]
                    order_by: Option<Vec<$crate::graphql::connection::Order<<$many_type as $crate::graphql::connection::Listable>::OrderField>>>,
                ) -> $crate::error::Result<
                    $crate::graphql::object::Object<$crate::graphql::connection::Connection<$many_type>>,
                > {
                    let arguments = $crate::graphql::connection::ListArguments {
                        first, after, last, before, filter, order_by,
                    };
                    $crate::graphql::context::ContextExt::list_of(
                        ctx, stringify!($column), self.id, arguments,
                    )
                    .await
                }
            )*)?

            $($($fields)*)?
        }
    };
}
pub(crate) use relations;

/// The root queries of a row type: one by id, and the list of all.
///
/// ```text
/// roots! { ProjectQueries: Project { project(ProjectId) projects } }
/// ```
macro_rules! roots {
    ($queries:ident: $row:ident {
        $(#[$one_doc:meta])* $one:ident($id:ident)
        $(#[$many_doc:meta])* $many:ident
    }) => {
        /// The root queries of this slice.
        #[derive(Debug, Default)]
        pub struct $queries;

        #[async_graphql::Object]
        impl $queries {
            $(#[$one_doc])*
            async fn $one(
                &self,
                ctx: &async_graphql::Context<'_>,
                #[graphql(desc = "Its id.")] id: $id,
            ) -> $crate::error::Result<Option<$crate::graphql::object::Object<$row>>> {
                $crate::graphql::context::ContextExt::load(ctx, id).await
            }

            $(#[$many_doc])*
            #[expect(clippy::too_many_arguments, reason = "the arguments of every connection")]
            async fn $many(
                &self,
                ctx: &async_graphql::Context<'_>,
                #[graphql(desc = "How many rows from the start: 0 to 100, 20 if not given.")]
                first: Option<i32>,
                #[graphql(desc = "Only rows behind this cursor.")]
                after: Option<String>,
                #[graphql(desc = "How many rows from the end, instead of `first`: 0 to 100.")]
                last: Option<i32>,
                #[graphql(desc = "Only rows in front of this cursor.")]
                before: Option<String>,
                #[graphql(desc = "Which rows.")]
                filter: Option<Box<<$row as $crate::graphql::connection::Listable>::Filter>>,
                #[graphql(desc = "In which order; at most 5 terms.")]
                order_by: Option<Vec<$crate::graphql::connection::Order<<$row as $crate::graphql::connection::Listable>::OrderField>>>,
            ) -> $crate::error::Result<
                $crate::graphql::object::Object<$crate::graphql::connection::Connection<$row>>,
            > {
                let arguments = $crate::graphql::connection::ListArguments {
                    first, after, last, before, filter, order_by,
                };
                $crate::graphql::context::ContextExt::list(ctx, arguments).await
            }
        }
    };
}
pub(crate) use roots;
