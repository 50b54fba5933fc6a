//! Palisade: a multi-tenant GraphQL service, isolated by the row level security of PostgreSQL.
//!
//! Each GraphQL operation runs in one tenant transaction. The service starts the transaction in one round trip, just
//! before the first statement, and ends it exactly once. Row level security restricts the transaction to the rows of
//! the tenant. Data loaders batch the reads. `docs/architecture.md` has the details.

// Each entity adds one level to the nested futures of the merged root types. The default limit, 128, is too low.
#![recursion_limit = "256"]

pub mod api;
pub mod audit;
pub mod auth;
pub mod canary;
pub mod cli;
pub mod comments;
pub mod config;
pub mod currencies;
pub mod db;
pub mod demo;
pub mod doctor;
mod duration;
pub mod embedded;
pub mod entities;
pub mod error;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
pub mod graphql;
pub mod http;
pub mod ids;
pub mod invoices;
pub mod metrics;
pub mod node;
pub mod organizations;
pub mod products;
pub mod projects;
pub mod prove;
mod tenant_cache;
pub mod tenants;
pub mod usage;
pub mod user_error;
pub mod users;
pub mod viewer;
