//! The root queries `node` and `nodes`.

use async_graphql::{Context, ID};
use futures_util::future::join_all;

use crate::{
    error::{Error, Result},
    node::Node,
};

/// The maximum number of ids in `nodes`.
const MAX_IDS: usize = 100;

/// The root queries for ids of any type.
#[derive(Debug, Default)]
pub struct NodeQueries;

#[async_graphql::Object]
impl NodeQueries {
    /// Returns the object with this id, of any type; null if it does not exist or the caller cannot see it.
    async fn node(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The id of the object.")] id: ID,
    ) -> Result<Option<Node>> {
        Node::load(ctx, &id).await
    }

    /// Returns the objects with these ids, of any types, in the order of the ids; null for an id whose
    /// object does not exist or the caller cannot see.
    async fn nodes(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The ids of the objects: at most 100.")] ids: Vec<ID>,
    ) -> Result<Vec<Option<Node>>> {
        if ids.len() > MAX_IDS {
            return Err(Error::invalid(
                "ids",
                format!("must have at most {MAX_IDS} ids"),
            ));
        }
        // Waits for all, even if one fails: see `Fields::poll`.
        join_all(ids.iter().map(|id| Node::load(ctx, id)))
            .await
            .into_iter()
            .collect()
    }
}
