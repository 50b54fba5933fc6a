//! The database isolates tenants. These tests attack the rows of another tenant, and check the privileges and policies
//! in the catalogue.

mod rights;
mod rows;
