//! Tenants are isolated by the database: attacks on the rows of another tenant, and a review of the rights
//! in the catalogue.

mod rights;
mod rows;
