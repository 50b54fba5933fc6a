//! The root queries `node` and `nodes`.

use async_graphql::{Context, ID};
use futures_util::future::join_all;

use crate::{
    error::{Error, Result},
    node::Node,
};

/// The maximum number of IDs in the argument of `nodes`.
const MAX_IDS: usize = 100;

/// The root queries for objects of any type.
#[derive(Debug, Default)]
pub struct NodeQueries;

#[async_graphql::Object]
impl NodeQueries {
    /// The object with this ID, of any type. Null if the tenant has no such object. If the caller's role may not read
    /// objects of this type, the field is null with the error FORBIDDEN.
    async fn node(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The ID of an object of any type.")] id: ID,
    ) -> Result<Option<Node>> {
        Node::load(ctx, &id).await
    }

    /// The objects with these IDs, in the same order. An item is null if the tenant has no such object. If the caller's
    /// role may not read objects of this type, the item is null with the error FORBIDDEN.
    async fn nodes(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The IDs of objects of any types; at most 100.")] ids: Vec<ID>,
    ) -> Result<Vec<Option<Node>>> {
        if ids.len() > MAX_IDS {
            return Err(Error::invalid(
                "ids",
                format!("must have at most {MAX_IDS} IDs"),
            ));
        }
        // Waits for all loads, even if one fails: see `Fields::poll` in `graphql/object/tree.rs`.
        let nodes = join_all(ids.iter().map(|id| Node::load(ctx, id))).await;
        let list = ctx.with_selection_set(&ctx.item.node.selection_set);
        let nodes = nodes
            .into_iter()
            .enumerate()
            .map(|(index, node)| match node {
                Err(Error::Forbidden) => {
                    let error = async_graphql::Error::from(Error::Forbidden);
                    let error = error.into_server_error(ctx.item.pos);
                    ctx.add_error(list.with_index(index).set_error_path(error));
                    Ok(None)
                }
                node => node,
            });
        nodes.collect()
    }
}
