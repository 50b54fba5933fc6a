//! Admits each document once: parsing, counting and validation are not repeated for a document that has
//! passed them.
//!
//! The invariant: **a request gets the same response whether its document is cached or not.** Everything
//! that depends on the request's variables is done for each request:
//!
//! - The guard checks the size of the variables. It computes the cost again if a page size or a list
//!   length is a variable.
//! - Required variables must have a value, and omitted ones are removed from the document
//!   (`variables.rs`).
//! - Of the engine's validation rules (async-graphql 7.2.1), only `ArgumentsOfCorrectType` reads the variables.
//!   `arguments.rs` repeats it for the arguments that contain variables. If a value is invalid, the engine validates
//!   the document again and reports the error. The complexity of a field could read variables too, but no field of this
//!   schema declares one.
//! - During the execution, the engine evaluates `@skip` and `@include` on a copy of the document, and rejects
//!   introspection if it is turned off.
//!
//! A document is stored only after it has passed validation, so a rejected document is never cached.

mod arguments;
mod size;

use std::sync::{Arc, OnceLock};

use async_graphql::{
    ServerError, ValidationResult, Variables, parser::types::ExecutableDocument, registry::Registry,
};
use parking_lot::Mutex;

use self::arguments::VariableArgument;
use super::{
    guard::{CheckedDocument, Guard, GuardError},
    selection::{SelectedData, SelectionTypes},
    variables::{self, OmittedVariables},
};
use crate::{ids::TenantId, tenant_cache::TenantCache};

/// The maximum number of sets of omitted variables for which a document stores the result of its validation.
const MAX_VALIDATIONS: usize = 8;

/// Admits the documents of requests.
#[derive(Debug)]
pub struct Admission {
    guard: Guard,
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

/// A document that passed the guard, and the results of the engine's validation.
#[derive(Debug)]
pub struct AdmittedDocument {
    checked: CheckedDocument,
    /// The results of the engine's validation. There is one result for each set of omitted variables, because the
    /// document without these variables is a different one.
    validations: Mutex<Vec<(OmittedVariables, ValidationResult)>>,
    /// The arguments that contain variables; set after the first validation.
    arguments: OnceLock<Vec<VariableArgument>>,
    /// What the operation selects; not set if that depends on the variables.
    selected: OnceLock<SelectedData>,
}

/// The document of one request. The engine's hooks find it in the data of the request.
#[derive(Debug)]
pub struct AdmittedRequest {
    admission: Arc<Admission>,
    tenant: TenantId,
    key: Arc<DocumentKey>,
    document: Arc<AdmittedDocument>,
    omitted: OmittedVariables,
    cost: u64,
    values: u64,
    /// The result of an earlier validation; set if the result also applies to the variables of this request.
    known: OnceLock<ValidationResult>,
}

impl Admission {
    /// Creates the admission with this guard and an empty cache of at most `cache_bytes`.
    pub fn new(guard: Guard, cache_bytes: u64) -> Self {
        Self {
            guard,
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
    ) -> Result<AdmittedRequest, GuardError> {
        self.guard.check_variables(variables)?;
        let (document, (cost, values)) = if let Some(document) = self.documents.get(tenant, &key) {
            let cost = self.guard.cost(&document.checked, variables)?;
            (document, cost)
        } else {
            let name = key.operation_name.as_deref();
            let checked = self.guard.check(&key.text, name, variables)?;
            let cost = (checked.cost, checked.values);
            (Arc::new(AdmittedDocument::new(checked)), cost)
        };
        let omitted =
            variables::check(&document.checked, variables).map_err(|reason| GuardError {
                reason,
                work: document.checked.work,
            })?;
        Ok(AdmittedRequest {
            admission: Arc::clone(self),
            tenant,
            key: Arc::new(key),
            document,
            omitted,
            cost,
            values,
            known: OnceLock::new(),
        })
    }
}

impl AdmittedDocument {
    fn new(checked: CheckedDocument) -> Self {
        Self {
            checked,
            validations: Mutex::default(),
            arguments: OnceLock::new(),
            selected: OnceLock::new(),
        }
    }

    /// The result of an earlier validation, if the result also applies to these variables.
    fn find_validation(
        &self,
        registry: &Registry,
        variables: &Variables,
        omitted: &OmittedVariables,
    ) -> Option<ValidationResult> {
        let arguments = self.arguments.get()?;
        let validations = self.validations.lock();
        let found = validations.iter().find(|(of, _)| of == omitted);
        let result = found.map(|(_, result)| *result);
        drop(validations);
        let mut arguments = arguments.iter();
        result.filter(|_| arguments.all(|one| one.is_valid(registry, variables, omitted)))
    }

    fn add_validation(
        &self,
        registry: &Registry,
        omitted: &OmittedVariables,
        result: ValidationResult,
    ) {
        self.arguments
            .get_or_init(|| arguments::collect(registry, &self.checked));
        let mut validations = self.validations.lock();
        if validations.len() < MAX_VALIDATIONS && validations.iter().all(|(of, _)| of != omitted) {
            validations.push((omitted.clone(), result));
        }
    }
}

impl AdmittedRequest {
    /// The document as the client sent it.
    pub fn checked(&self) -> &CheckedDocument {
        &self.document.checked
    }

    /// Whether the document has passed the engine's validation before.
    pub fn is_validated(&self) -> bool {
        self.document.arguments.get().is_some()
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

    /// Returns what the operation selects with the variables of the request. Ignores errors in the document, because
    /// the validation, which runs later, reports them.
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
        variables::remove(
            &mut document,
            checked.operation_name.as_ref(),
            &self.omitted,
        );
        document
    }

    /// Looks for the result of an earlier validation of the document that also applies to the variables of the request.
    pub fn check_arguments(&self, registry: &Registry, variables: &Variables) {
        let document = &self.document;
        if let Some(result) = document.find_validation(registry, variables, &self.omitted) {
            self.known.get_or_init(|| result);
        }
    }

    /// Returns the result of an earlier validation. If there is none, validates the document, and stores a valid
    /// document in the cache.
    pub async fn validate(
        &self,
        registry: &Registry,
        validation: impl Future<Output = Result<ValidationResult, Vec<ServerError>>>,
    ) -> Result<ValidationResult, Vec<ServerError>> {
        if let Some(result) = self.known.get() {
            return Ok(*result);
        }
        let result = validation.await?;
        let document = &self.document;
        document.add_validation(registry, &self.omitted, result);
        let bytes = size::entry_bytes(&self.key, document);
        let (key, document) = (Arc::clone(&self.key), Arc::clone(document));
        self.admission
            .documents
            .insert(self.tenant, key, document, bytes);
        Ok(result)
    }
}

#[cfg(test)]
mod tests;
