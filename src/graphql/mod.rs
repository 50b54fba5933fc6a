//! The building blocks of slices. This module, `api` and `ids` are the only ones that use the registry of
//! async-graphql.

pub mod abstract_type;
pub mod arguments;
pub mod bulk;
pub mod checks;
pub mod connection;
pub mod context;
pub mod directives;
pub mod entity;
pub mod enums;
pub mod errors;
pub mod filter;
pub mod generic_input;
pub mod idempotency;
pub mod json;
pub mod mutation;
pub mod object;
pub mod relations;
pub mod scalars;
mod string_filter;
