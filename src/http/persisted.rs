//! Persisted documents: a client sends the hash or the id of a document instead of the document.
//!
//! Trusted documents come from a file when the service starts; a setting makes the service run only these. Automatic
//! documents are stored when a client sends them with their hash (Apollo's APQ).
//!
//! The invariant: **a tenant cannot find out which documents the clients of another tenant send.** The
//! automatic documents are stored per tenant, and their total size is bounded.

use std::{collections::HashMap, path::Path, sync::Arc};

use moka::sync::Cache;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use crate::{error::Code, ids::TenantId};

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
    automatic: Option<Cache<(TenantId, String), Arc<str>>>,
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
    /// Creates the store without trusted documents. The automatic ones take at most `automatic_bytes`; with
    /// 0 they are turned off.
    #[must_use]
    pub fn new(automatic_bytes: u64) -> Self {
        let cache = || {
            Cache::builder()
                .max_capacity(automatic_bytes)
                .weigher(|(_, hash): &(TenantId, String), query: &Arc<str>| {
                    let bytes = hash.len() + query.len() + ENTRY_OVERHEAD_BYTES;
                    u32::try_from(bytes).unwrap_or(u32::MAX)
                })
                .build()
        };
        Self {
            trusted: HashMap::new(),
            only_trusted: false,
            automatic: (automatic_bytes > 0).then(cache),
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

    /// Finds the document of a request; `None` if the request does not identify one. Stores a document that the client
    /// sent with its hash.
    pub fn resolve(
        &self,
        tenant: TenantId,
        source: QuerySource,
    ) -> Result<Option<String>, PersistedError> {
        let QuerySource {
            query,
            id,
            hash: given_hash,
        } = source;
        let key = id.as_deref().or(given_hash.as_deref());
        if let Some(document) = key.and_then(|key| self.trusted.get(without_algorithm(key))) {
            return Ok(Some(document.to_string()));
        }
        let Some(query) = query else {
            return match (&id, given_hash, &self.automatic) {
                (None, None, _) => Ok(None),
                (None, Some(hash), Some(automatic)) if !self.only_trusted => {
                    let found = automatic.get(&(tenant, hash));
                    let found = found.ok_or(PersistedError::NotFound)?;
                    Ok(Some(found.to_string()))
                }
                (None, Some(_), None) if !self.only_trusted => Err(PersistedError::NotFound),
                _ => Err(PersistedError::NotTrusted),
            };
        };
        if self.only_trusted {
            return if self.trusted.contains_key(&hash(&query)) {
                Ok(Some(query))
            } else {
                Err(PersistedError::NotTrusted)
            };
        }
        if let Some(given_hash) = given_hash {
            if !hash(&query).eq_ignore_ascii_case(&given_hash) {
                return Err(PersistedError::WrongHash);
            }
            if let Some(automatic) = &self.automatic {
                automatic.insert((tenant, given_hash), query.as_str().into());
            }
        }
        Ok(Some(query))
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

    #[test]
    fn an_automatic_document_is_known_to_one_tenant_only() {
        let documents = PersistedDocuments::new(1_000_000);
        let (acme, globex) = (TenantId::generate(), TenantId::generate());
        assert_eq!(
            documents.resolve(acme, by_hash(DOCUMENT)),
            Err(PersistedError::NotFound)
        );
        let sent = documents.resolve(acme, with_document(DOCUMENT)).unwrap();
        assert_eq!(sent.as_deref(), Some(DOCUMENT));
        let named = documents.resolve(acme, by_hash(DOCUMENT)).unwrap();
        assert_eq!(named.as_deref(), Some(DOCUMENT));
        assert_eq!(
            documents.resolve(globex, by_hash(DOCUMENT)),
            Err(PersistedError::NotFound)
        );
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
            documents.resolve(tenant, forged),
            Err(PersistedError::WrongHash)
        );
        assert_eq!(
            documents.resolve(tenant, by_hash(DOCUMENT)),
            Err(PersistedError::NotFound)
        );
    }

    #[test]
    fn the_size_of_the_automatic_documents_is_bounded() {
        let documents = PersistedDocuments::new(100_000);
        let tenant = TenantId::generate();
        for number in 0..1_000 {
            let text = format!("{{ viewer {{ role }} }} # {number:01000}");
            documents.resolve(tenant, with_document(&text)).unwrap();
        }
        let automatic = documents.automatic.unwrap();
        automatic.run_pending_tasks();
        assert!(
            automatic.weighted_size() <= 100_000,
            "{}",
            automatic.weighted_size()
        );
        assert!(automatic.entry_count() > 50);
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
            let found = |source| documents.resolve(tenant, source);
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
