//! Palisade: a GraphQL service for software that many companies share, isolated by PostgreSQL's row
//! level security.
//!
//! A GraphQL operation is one tenant transaction: opened lazily in one round trip, seen through row
//! level security, batched by dataloaders, and ended exactly once. `docs/architecture.md` tells how.

// The compiler checks the futures of the root types through all entities, one level for each.
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
