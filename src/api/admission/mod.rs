//! Admits each document once: parsing, counting and validation are not repeated for a document that has
//! passed them.
//!
//! The invariant: **a request gets the same response whether its document is cached or not.** Everything
//! that depends on the request's variables is done for each request:
//!
//! - The guard checks the size of the variables. It computes the cost again if a page size or a list
//!   length is a variable.
//! - Required variables must have a value, the values must have the types of their variables, and omitted variables are
//!   removed from the document (`variables.rs`). The validation has checked that each variable is used only where its
//!   type is allowed, so the arguments need no further check.
//! - During the execution, the engine evaluates `@skip` and `@include` on a copy of the document, and rejects
//!   introspection if it is turned off.
//!
//! The document is validated before its variables are read (`validation`). A document is stored only after it has passed
//! validation, so a rejected document is never cached.

mod size;

use std::sync::{Arc, OnceLock};

use async_graphql::{Variables, parser::types::ExecutableDocument, registry::Registry};

use super::{
    guard::{CheckedDocument, Guard, GuardError, Reason},
    schema::complete_registry,
    selection::{SelectedData, SelectionTypes},
    validation::{self, DocumentError},
    variables::{self, DeclaredVariable, OmittedVariables},
};
use crate::{error::Code, ids::TenantId, metrics, tenant_cache::TenantCache};

/// Admits the documents of requests.
pub struct Admission {
    guard: Guard,
    registry: &'static Registry,
    /// The documents that have passed validation, by tenant.
    documents: TenantCache<Arc<DocumentKey>, Arc<AdmittedDocument>>,
}

/// The key of a document among the documents of a tenant.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DocumentKey {
    /// The text of the document.
    pub text: String,
    /// The operation that the request names.
    pub operation_name: Option<String>,
}

/// A document that passed the guard and the validation.
#[derive(Debug)]
pub struct AdmittedDocument {
    checked: CheckedDocument,
    /// The variables of the selected operation.
    variables: Box<[DeclaredVariable]>,
    /// What the operation selects; not set if that depends on the variables.
    selected: OnceLock<SelectedData>,
}

/// The document of one request. The engine's hooks find it in the data of the request.
pub struct AdmittedRequest {
    admission: Arc<Admission>,
    tenant: TenantId,
    key: Arc<DocumentKey>,
    document: Arc<AdmittedDocument>,
    /// Whether the document was in the cache.
    is_cached: bool,
    omitted: OmittedVariables,
    cost: u64,
    values: u64,
}

/// Why a document or its variables were not admitted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.errors.first().map_or("", |error| &error.message))]
pub struct AdmissionError {
    /// The stable `extensions.code` of all errors.
    pub code: Code,
    /// The errors; at least one.
    pub errors: Vec<DocumentError>,
}

impl From<GuardError> for AdmissionError {
    fn from(error: GuardError) -> Self {
        let locations = match &error.reason {
            Reason::Parse { positions, .. } => positions.clone(),
            _ => Vec::new(),
        };
        Self {
            code: error.reason.code(),
            errors: vec![DocumentError {
                message: error.to_string(),
                locations,
            }],
        }
    }
}

impl Admission {
    /// Creates the admission with this guard and an empty cache of at most `cache_bytes`.
    pub fn new(guard: Guard, cache_bytes: u64) -> Self {
        Self {
            guard,
            registry: complete_registry(),
            documents: TenantCache::new(cache_bytes),
        }
    }

    /// Whether the cache has this document.
    pub fn contains(&self, tenant: TenantId, key: &DocumentKey) -> bool {
        self.documents.get(tenant, key).is_some()
    }

    /// Checks the document and the variables of a request, and selects the operation.
    pub fn admit(
        self: &Arc<Self>,
        tenant: TenantId,
        key: DocumentKey,
        variables: &Variables,
    ) -> Result<AdmittedRequest, AdmissionError> {
        self.guard.check_variables(variables)?;
        let cached = self.documents.get(tenant, &key);
        let is_cached = cached.is_some();
        let (document, (cost, values)) = if let Some(document) = cached {
            let cost = self.guard.cost(&document.checked, variables)?;
            (document, cost)
        } else {
            let name = key.operation_name.as_deref();
            let checked = self.guard.check(&key.text, name, variables)?;
            let errors = validation::validate(self.registry, &checked.document, &key.text);
            if !errors.is_empty() {
                let code = Code::GraphqlValidationFailed;
                return Err(AdmissionError { code, errors });
            }
            let cost = (checked.cost, checked.values);
            (Arc::new(AdmittedDocument::new(checked)), cost)
        };
        let omitted = variables::check(self.registry, &document.variables, variables);
        let omitted = omitted.map_err(|errors| AdmissionError {
            code: Code::BadUserInput,
            errors,
        })?;
        Ok(AdmittedRequest {
            admission: Arc::clone(self),
            tenant,
            key: Arc::new(key),
            document,
            is_cached,
            omitted,
            cost,
            values,
        })
    }
}

impl AdmittedDocument {
    fn new(checked: CheckedDocument) -> Self {
        Self {
            variables: variables::declared(&checked),
            checked,
            selected: OnceLock::new(),
        }
    }
}

impl AdmittedRequest {
    /// The document as the client sent it.
    pub fn checked(&self) -> &CheckedDocument {
        &self.document.checked
    }

    /// The text and the operation name of the request.
    pub fn key(&self) -> &DocumentKey {
        &self.key
    }

    /// The values that the response could have with the variables of the request.
    pub fn values(&self) -> u64 {
        self.values
    }

    /// The rows that the operation could fetch with the variables of the request.
    pub fn cost(&self) -> u64 {
        self.cost
    }

    /// Returns what the operation selects with the variables of the request.
    pub fn selected(&self, types: &SelectionTypes, variables: &Variables) -> SelectedData {
        if let Some(selected) = self.document.selected.get() {
            return selected.clone();
        }
        let checked = self.checked();
        let name = checked.operation_name.as_ref();
        let selected = types.select(&checked.document, name, variables);
        if !selected.depends_on_variables {
            self.document.selected.get_or_init(|| selected.clone());
        }
        selected
    }

    /// The document to execute: a copy without the omitted variables.
    pub fn executable(&self) -> ExecutableDocument {
        let checked = self.checked();
        let mut document = checked.document.clone();
        variables::remove(&mut document, &self.omitted);
        document
    }

    /// Stores the document in the cache, unless it is there.
    pub fn store(&self) {
        if self.is_cached {
            return;
        }
        let bytes = size::entry_bytes(&self.key, &self.document);
        let (key, document) = (Arc::clone(&self.key), Arc::clone(&self.document));
        let documents = &self.admission.documents;
        let displaced = documents.insert(self.tenant, key, document, bytes);
        metrics::DOCUMENTS_DISPLACED.add(displaced.len());
    }
}

#[cfg(test)]
mod tests;
