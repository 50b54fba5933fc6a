//! The two root queries that take ids of any type.

use async_graphql::{Context, ID};
use futures_util::future::join_all;

use crate::{
    error::{Error, Result},
    node::Node,
};

/// Most ids of one `nodes`.
const MAX_IDS: usize = 100;

/// The root queries for ids of any type.
#[derive(Debug, Default)]
pub struct NodeQueries;

#[async_graphql::Object]
impl NodeQueries {
    /// The object with an id; null if there is none, or the caller may not see it.
    async fn node(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "An id of any type.")] id: ID,
    ) -> Result<Option<Node>> {
        Node::load(ctx, &id).await
    }

    /// The objects with these ids, in their order; null where there is none, or the caller may not
    /// see it.
    async fn nodes(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Ids of any types; at most 100.")] ids: Vec<ID>,
    ) -> Result<Vec<Option<Node>>> {
        if ids.len() > MAX_IDS {
            return Err(Error::invalid("ids", format!("at most {MAX_IDS} ids")));
        }
        // All are waited for, also if one fails: see `Fields::poll`.
        join_all(ids.iter().map(|id| Node::load(ctx, id)))
            .await
            .into_iter()
            .collect()
    }
}
