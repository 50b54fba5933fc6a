//! Persisted documents: a client sends the hash or the id of a document instead of the document.
//!
//! Trusted documents come from a file when the service starts; a setting makes the service run only these. Automatic
//! documents are stored when a client sends them with their hash (Apollo's APQ).
//!
//! The invariants: **a tenant cannot find out which documents the clients of another tenant send**, and **a tenant
//! displaces only its own documents when its share of the memory is full.** The automatic documents are stored per
//! tenant, and only after the guard has admitted them.

use std::{collections::HashMap, path::Path, sync::Arc};

use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use crate::{error::Code, ids::TenantId, metrics, tenant_cache::TenantCache};

/// Why a persisted document is rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PersistedError {
    /// No client of the tenant has sent the document with this hash yet. Apollo's clients recognize the
    /// message.
    #[error("PersistedQueryNotFound")]
    NotFound,
    /// The document is not in the file of trusted documents.
    #[error("this document is not a trusted document")]
    NotTrusted,
    /// The hash belongs to another document.
    #[error("the hash is not the SHA-256 of the document")]
    WrongHash,
}

impl PersistedError {
    /// The value of `extensions.code`.
    #[must_use]
    pub fn code(self) -> Code {
        match self {
            Self::NotFound => Code::PersistedQueryNotFound,
            Self::NotTrusted => Code::DocumentNotTrusted,
            Self::WrongHash => Code::BadUserInput,
        }
    }
}

/// The file of trusted documents is invalid. The message is one line.
#[derive(Debug, thiserror::Error)]
#[error("cannot use the trusted documents in {path}: {reason}")]
pub struct ManifestError {
    path: String,
    reason: String,
}

/// The approximate size of an automatic document in the store besides its strings.
const ENTRY_OVERHEAD_BYTES: usize = 128;

/// The documents that clients can refer to.
#[derive(Debug)]
pub struct PersistedDocuments {
    /// The trusted documents by id and by hash.
    trusted: HashMap<String, Arc<str>>,
    only_trusted: bool,
    /// The automatic documents by tenant and hash; `None` if they are turned off.
    automatic: Option<TenantCache<String, Arc<str>>>,
}

/// A document that a client sent with its hash, and that is not stored yet.
#[derive(Debug, PartialEq, Eq)]
pub struct NewDocument {
    hash: String,
    query: Arc<str>,
}

/// The members of a request that identify its document. Every member is optional.
#[derive(Debug, Default)]
pub struct QuerySource {
    /// The document itself.
    pub query: Option<String>,
    /// The id of a trusted document.
    pub id: Option<String>,
    /// The SHA-256 of the document, in hexadecimal digits.
    pub hash: Option<String>,
}

impl PersistedDocuments {
    /// Creates the store without trusted documents. The automatic ones take at most `automatic_bytes`, and those of
    /// one tenant at most its share; with 0 they are turned off.
    #[must_use]
    pub fn new(automatic_bytes: u64) -> Self {
        Self {
            trusted: HashMap::new(),
            only_trusted: false,
            automatic: (automatic_bytes > 0).then(|| TenantCache::new(automatic_bytes)),
        }
    }

    /// Adds the trusted documents of a file: an object with ids as keys and documents as values, as Relay and the
    /// GraphQL Code Generator write it, or Apollo's persisted query manifest. With `only`, the service runs no other
    /// documents.
    pub fn trust(mut self, path: &Path, only: bool) -> Result<Self, ManifestError> {
        let invalid = |reason: String| ManifestError {
            path: path.display().to_string(),
            reason,
        };
        let content = std::fs::read_to_string(path).map_err(|error| invalid(error.to_string()))?;
        let manifest: Manifest = serde_json::from_str(&content).map_err(|_| {
            invalid(
                "the file must be a JSON object that maps ids to documents, or a manifest of Apollo"
                    .to_owned(),
            )
        })?;
        let documents = match manifest {
            Manifest::Apollo { operations } => operations
                .into_iter()
                .map(|operation| (operation.id, operation.body))
                .collect(),
            Manifest::Plain(documents) => documents,
        };
        for (id, document) in documents {
            async_graphql::parser::parse_query(&document)
                .map_err(|error| invalid(format!("the document {id} is invalid: {error}")))?;
            let document: Arc<str> = document.into();
            // A client can also refer to the document by its hash.
            self.trusted.insert(hash(&document), Arc::clone(&document));
            self.trusted.insert(id, document);
        }
        self.only_trusted = only;
        Ok(self)
    }

    /// Finds the document of a request; `None` if the request does not identify one. If the client sent the document
    /// with its hash, also returns what [`Self::store`] stores after the guard has admitted the document.
    pub fn resolve(
        &self,
        tenant: TenantId,
        source: QuerySource,
    ) -> Result<Option<(String, Option<NewDocument>)>, PersistedError> {
        let QuerySource {
            query,
            id,
            hash: given_hash,
        } = source;
        let key = id.as_deref().or(given_hash.as_deref());
        if let Some(document) = key.and_then(|key| self.trusted.get(without_algorithm(key))) {
            return Ok(Some((document.to_string(), None)));
        }
        let Some(query) = query else {
            return match (&id, given_hash, &self.automatic) {
                (None, None, _) => Ok(None),
                (None, Some(hash), Some(automatic)) if !self.only_trusted => {
                    let found = automatic.get(tenant, &hash.to_ascii_lowercase());
                    let found = found.ok_or(PersistedError::NotFound)?;
                    Ok(Some((found.to_string(), None)))
                }
                (None, Some(_), None) if !self.only_trusted => Err(PersistedError::NotFound),
                _ => Err(PersistedError::NotTrusted),
            };
        };
        if self.only_trusted {
            return if self.trusted.contains_key(&hash(&query)) {
                Ok(Some((query, None)))
            } else {
                Err(PersistedError::NotTrusted)
            };
        }
        let Some(given_hash) = given_hash else {
            return Ok(Some((query, None)));
        };
        let hash = hash(&query);
        if !hash.eq_ignore_ascii_case(&given_hash) {
            return Err(PersistedError::WrongHash);
        }
        let is_new = |automatic: &TenantCache<_, _>| automatic.get(tenant, &hash).is_none();
        let is_new = self.automatic.as_ref().is_some_and(is_new);
        let new = is_new.then(|| NewDocument {
            hash,
            query: query.as_str().into(),
        });
        Ok(Some((query, new)))
    }

    /// Stores a document that the guard has admitted, so that the clients of the tenant can refer to it by its hash.
    pub fn store(&self, tenant: TenantId, document: NewDocument) {
        let NewDocument { hash, query } = document;
        if let Some(automatic) = &self.automatic {
            let bytes = hash.len() + query.len() + ENTRY_OVERHEAD_BYTES;
            let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
            let displaced = automatic.insert(tenant, hash, query, bytes);
            metrics::PERSISTED_QUERIES_DISPLACED.add(displaced.len());
        }
    }
}

/// Removes the name of the hash algorithm from an id (GraphQL over HTTP, appendix on persisted documents).
fn without_algorithm(id: &str) -> &str {
    id.strip_prefix("sha256:").unwrap_or(id)
}

/// The SHA-256 of a document in hexadecimal digits.
fn hash(document: &str) -> String {
    base16ct::lower::encode_string(&Sha256::digest(document.as_bytes()))
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Manifest {
    Apollo { operations: Vec<ApolloOperation> },
    Plain(HashMap<String, String>),
}

#[derive(Deserialize)]
struct ApolloOperation {
    id: String,
    body: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCUMENT: &str = "{ viewer { role } }";

    fn by_hash(text: &str) -> QuerySource {
        QuerySource {
            hash: Some(hash(text)),
            ..QuerySource::default()
        }
    }

    fn with_document(text: &str) -> QuerySource {
        QuerySource {
            query: Some(text.to_owned()),
            ..by_hash(text)
        }
    }

    /// Resolves the document of a request, and stores it as if the guard had admitted it.
    fn find(
        documents: &PersistedDocuments,
        tenant: TenantId,
        source: QuerySource,
    ) -> Result<Option<String>, PersistedError> {
        let found = documents.resolve(tenant, source)?;
        Ok(found.map(|(query, new)| {
            if let Some(new) = new {
                documents.store(tenant, new);
            }
            query
        }))
    }

    #[test]
    fn an_automatic_document_is_known_to_one_tenant_only() {
        let documents = PersistedDocuments::new(1_000_000);
        let (acme, globex) = (TenantId::generate(), TenantId::generate());
        assert_eq!(
            find(&documents, acme, by_hash(DOCUMENT)),
            Err(PersistedError::NotFound)
        );
        let sent = find(&documents, acme, with_document(DOCUMENT)).unwrap();
        assert_eq!(sent.as_deref(), Some(DOCUMENT));
        let named = find(&documents, acme, by_hash(DOCUMENT)).unwrap();
        assert_eq!(named.as_deref(), Some(DOCUMENT));
        assert_eq!(
            find(&documents, globex, by_hash(DOCUMENT)),
            Err(PersistedError::NotFound)
        );
    }

    #[test]
    fn a_document_that_was_not_admitted_is_not_stored() {
        let documents = PersistedDocuments::new(1_000_000);
        let tenant = TenantId::generate();
        for _ in 0..2 {
            let (query, new) = documents
                .resolve(tenant, with_document(DOCUMENT))
                .unwrap()
                .unwrap();
            assert_eq!(query, DOCUMENT);
            assert!(new.is_some());
            assert_eq!(
                documents.resolve(tenant, by_hash(DOCUMENT)),
                Err(PersistedError::NotFound)
            );
        }
        // A stored document is not stored again.
        find(&documents, tenant, with_document(DOCUMENT)).unwrap();
        let known = documents.resolve(tenant, with_document(DOCUMENT));
        assert_eq!(known, Ok(Some((DOCUMENT.to_owned(), None))));
    }

    #[test]
    fn a_document_with_the_hash_of_another_is_not_stored() {
        let documents = PersistedDocuments::new(1_000_000);
        let tenant = TenantId::generate();
        let forged = QuerySource {
            query: Some("{ tenant { name } }".to_owned()),
            ..by_hash(DOCUMENT)
        };
        assert_eq!(
            find(&documents, tenant, forged),
            Err(PersistedError::WrongHash)
        );
        assert_eq!(
            find(&documents, tenant, by_hash(DOCUMENT)),
            Err(PersistedError::NotFound)
        );
    }

    #[test]
    fn a_hash_in_upper_and_lower_case_is_one_document() {
        let documents = PersistedDocuments::new(1_000_000);
        let tenant = TenantId::generate();
        let upper = |source: QuerySource| QuerySource {
            hash: source.hash.map(|hash| hash.to_ascii_uppercase()),
            ..source
        };
        find(&documents, tenant, upper(with_document(DOCUMENT))).unwrap();
        find(&documents, tenant, with_document(DOCUMENT)).unwrap();
        for source in [by_hash(DOCUMENT), upper(by_hash(DOCUMENT))] {
            let found = find(&documents, tenant, source).unwrap();
            assert_eq!(found.as_deref(), Some(DOCUMENT));
        }
        assert_eq!(documents.automatic.unwrap().count(tenant), 1);
    }

    #[test]
    fn the_documents_of_a_tenant_do_not_displace_those_of_another() {
        let documents = PersistedDocuments::new(1_000_000);
        let (quiet, noisy) = (TenantId::generate(), TenantId::generate());
        let quiet_documents: Vec<String> = (0..200)
            .map(|n| format!("query Q{n} {{ viewer {{ role }} }}"))
            .collect();
        for text in &quiet_documents {
            find(&documents, quiet, with_document(text)).unwrap();
        }
        for number in 0..100 {
            let text = format!("{{ viewer {{ role }} }} # {number:060000}");
            find(&documents, noisy, with_document(&text)).unwrap();
        }
        let automatic = documents.automatic.as_ref().unwrap();
        assert_eq!(automatic.count(noisy), 2, "an eighth of the bytes");
        assert!(automatic.size() <= 1_000_000);
        for text in &quiet_documents {
            let found = find(&documents, quiet, by_hash(text)).unwrap();
            assert_eq!(found.as_deref(), Some(text.as_str()));
        }
    }

    #[test]
    fn only_trusted_documents_run_if_the_setting_requires_it() {
        let path = std::env::temp_dir().join(format!("palisade-{}.json", uuid::Uuid::now_v7()));
        let tenant = TenantId::generate();
        for manifest in [
            format!(r#"{{ "role": "{DOCUMENT}" }}"#),
            format!(
                r#"{{ "format": "x", "version": 1, "operations": [
                {{ "id": "role", "name": "Role", "type": "query", "body": "{DOCUMENT}" }}] }}"#
            ),
        ] {
            std::fs::write(&path, manifest).unwrap();
            let documents = PersistedDocuments::new(1_000_000)
                .trust(&path, true)
                .unwrap();
            let by_id = |id: &str| QuerySource {
                id: Some(id.to_owned()),
                ..QuerySource::default()
            };
            let found = |source| find(&documents, tenant, source);
            assert_eq!(found(by_id("role")).unwrap().as_deref(), Some(DOCUMENT));
            assert_eq!(found(by_hash(DOCUMENT)).unwrap().as_deref(), Some(DOCUMENT));
            let prefixed = by_id(&format!("sha256:{}", hash(DOCUMENT)));
            assert_eq!(found(prefixed).unwrap().as_deref(), Some(DOCUMENT));
            // A request with the document itself is accepted like one with its id.
            assert_eq!(
                found(with_document(DOCUMENT)).unwrap().as_deref(),
                Some(DOCUMENT)
            );
            for other in [by_id("other"), by_hash("{ a }"), with_document("{ a }")] {
                assert_eq!(found(other), Err(PersistedError::NotTrusted));
            }
            assert_eq!(found(QuerySource::default()), Ok(None));
        }
        for wrong in ["[]", r#"{ "a": 1 }"#, r#"{ "a": "{" }"#, "nonsense"] {
            std::fs::write(&path, wrong).unwrap();
            let error = PersistedDocuments::new(0).trust(&path, true).unwrap_err();
            assert!(
                error
                    .to_string()
                    .starts_with("cannot use the trusted documents")
            );
        }
        std::fs::remove_file(&path).unwrap();
        assert!(PersistedDocuments::new(0).trust(&path, true).is_err());
    }
}
