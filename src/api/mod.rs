//! The API as a whole: its roots, its schema, and how an operation is admitted and executed.

mod execute;
pub mod guard;
mod node;
pub mod rate_limit;
mod root;
mod schema;
pub mod transaction;
mod variables;

pub use self::{
    execute::{Admitted, Api, Incoming, Manner},
    schema::{ApiSchema, Mutation, Query, schema, sdl, shape},
};
