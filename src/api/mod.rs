//! The API as a whole: the root types, the schema, and the execution of operations.

pub(crate) mod admission;
mod execute;
pub mod guard;
mod input_paths;
mod node;
pub mod rate_limit;
mod root;
pub(crate) mod schema;
mod selection;
pub mod transaction;
mod validation;
mod variables;

pub use self::{
    admission::{AdmissionError, DocumentKey},
    execute::{
        AdmittedOperation, Api, ApiSettings, OperationReply, OperationRequest, RequestOptions,
    },
    schema::{ApiSchema, Mutation, Query, schema, sdl, shape},
    validation::DocumentError,
};
