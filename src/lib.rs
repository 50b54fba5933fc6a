//! Palisade: a multi-tenant GraphQL service, isolated by the row level security of PostgreSQL.
//!
//! Each GraphQL operation runs in one tenant transaction. The transaction starts before the first
//! statement, in one round trip, and ends exactly once. Row level security restricts it to the rows of
//! the tenant. Data loaders batch its reads. `docs/architecture.md` has the details.

// Each entity nests the futures of the merged root types once more; the default limit is 128.
#![recursion_limit = "256"]

pub mod api;
pub mod audit;
pub mod auth;
pub mod cli;
pub mod comments;
pub mod config;
pub mod currencies;
pub mod db;
pub mod demo;
mod duration;
pub mod embedded;
pub mod entities;
pub mod error;
pub mod graphql;
pub mod http;
pub mod ids;
pub mod invoices;
pub mod node;
pub mod organizations;
pub mod products;
pub mod projects;
pub mod tenants;
pub mod user_error;
pub mod users;
pub mod viewer;
