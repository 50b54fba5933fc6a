//! The database isolates tenants. These tests attack the rows of another tenant, forge contexts, and check the
//! privileges and policies in the catalogue.

mod context;
mod injection;
mod rights;
mod rows;
