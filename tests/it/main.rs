//! The integration tests: one binary, one private PostgreSQL, one service over HTTP.
//!
//! Most tests create their own tenants in one shared database and rely on the isolation between tenants: if rows of a
//! tenant leak, another test fails.
#![expect(
    clippy::disallowed_methods,
    reason = "fixtures are dynamic SQL against a database that the build does not know"
)]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod architecture;
mod arguments;
mod audit_log;
mod audit_seals;
mod bad_resolvers;
mod budgets;
mod canary;
mod cancellations;
mod catalogue;
mod cli;
mod constraints;
mod create;
mod cross_tenant;
mod descriptions;
mod doctor;
mod embedded;
mod entities;
mod explorer;
mod faults;
mod filters;
mod guide;
mod harness;
mod http;
mod idempotency;
mod indexes;
mod invoices;
mod isolation;
mod layers;
mod lists;
mod money;
mod mutations;
mod nullability;
mod over_http;
mod pages;
mod plans;
mod protect;
mod prove;
mod readable;
mod reads;
mod rejections;
mod replay;
mod retries;
mod role_rules;
mod root_fields;
mod samples;
mod selection;
mod storm;
mod threats;
mod tokens;
mod variables;
mod writes;
