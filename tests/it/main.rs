//! The integration tests: one binary, one private PostgreSQL, one service over HTTP.
//!
//! Every test makes its own tenants in one shared database. Isolation is the product, so the tests
//! rely on it: a leak shows as a failing neighbour.
#![expect(
    clippy::disallowed_methods,
    reason = "fixtures are dynamic SQL against a database that the build does not know"
)]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod audit_seals;
mod budgets;
mod cli;
mod constraints;
mod cross_tenant;
mod embedded;
mod entities;
mod filters;
mod harness;
mod http;
mod isolation;
mod layers;
mod lists;
mod mutations;
mod pages;
mod plans;
mod reads;
mod role_rules;
mod storm;
mod tokens;
