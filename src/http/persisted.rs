//! Persisted operations: documents that clients name instead of sending them.
//!
//! Trusted documents come from a file when the service starts, and may be the only ones that are
//! accepted. Automatic ones are learned from clients (Apollo's APQ): per tenant, so that nobody finds
//! out what another tenant's clients ask for, and bounded in bytes.

use std::{collections::HashMap, path::Path, sync::Arc};

use moka::sync::Cache;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use std::fmt::Write as _;

use crate::{error::Code, ids::TenantId};

/// Why a document is not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Nobody has sent the document of this hash yet. The text is the one that clients know.
    #[error("PersistedQueryNotFound")]
    NotFound,
    /// Only documents of the file are run.
    #[error("this document is not one of the trusted ones")]
    NotTrusted,
    /// The hash is that of another document.
    #[error("the hash is not the SHA-256 of the document")]
    WrongHash,
}

impl Refusal {
    /// The stable `extensions.code`.
    #[must_use]
    pub fn code(self) -> Code {
        match self {
            Self::NotFound => Code::PersistedQueryNotFound,
            Self::NotTrusted => Code::DocumentNotTrusted,
            Self::WrongHash => Code::BadUserInput,
        }
    }
}

/// The file of trusted documents cannot be used. One line.
#[derive(Debug, thiserror::Error)]
#[error("cannot use the trusted documents in {path}: {reason}")]
pub struct ManifestError {
    path: String,
    reason: String,
}

/// The documents that clients may name.
#[derive(Debug)]
pub struct Documents {
    trusted: HashMap<String, Arc<str>>,
    only_trusted: bool,
    learned: Option<Cache<(TenantId, String), Arc<str>>>,
}

/// What a request says of its document.
#[derive(Debug, Default)]
pub struct Named {
    /// The document itself.
    pub query: Option<String>,
    /// The id of a trusted document.
    pub id: Option<String>,
    /// The SHA-256 of the document, in hexadecimal digits.
    pub hash: Option<String>,
}

impl Documents {
    /// No trusted documents; learned ones take at most so many bytes, none if it is 0.
    #[must_use]
    pub fn new(learned_bytes: u64) -> Self {
        let cache = || {
            Cache::builder()
                .max_capacity(learned_bytes)
                // What an entry takes beside its texts, roughly.
                .weigher(|(_, hash): &(TenantId, String), query: &Arc<str>| {
                    u32::try_from(hash.len() + query.len() + 128).unwrap_or(u32::MAX)
                })
                .build()
        };
        Self {
            trusted: HashMap::new(),
            only_trusted: false,
            learned: (learned_bytes > 0).then(cache),
        }
    }

    /// With the documents of a file: an object of ids and documents, as Relay and the GraphQL Code
    /// Generator write it, or Apollo's persisted query manifest.
    pub fn trust(mut self, path: &Path, only: bool) -> Result<Self, ManifestError> {
        let wrong = |reason: String| ManifestError {
            path: path.display().to_string(),
            reason,
        };
        let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
        let manifest: Manifest = serde_json::from_str(&text).map_err(|_| {
            wrong("it is neither an object of ids and documents nor Apollo's manifest".to_owned())
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
                .map_err(|error| wrong(format!("the document {id} is none: {error}")))?;
            let document: Arc<str> = document.into();
            // Clients of either kind name it by its hash as well.
            self.trusted.insert(hash(&document), Arc::clone(&document));
            self.trusted.insert(id, document);
        }
        self.only_trusted = only;
        Ok(self)
    }

    /// The document that a request means; `None` if it names none at all. Learns it if it came with its
    /// hash.
    pub fn resolve(&self, tenant: TenantId, named: Named) -> Result<Option<String>, Refusal> {
        let Named {
            query,
            id,
            hash: given,
        } = named;
        let name = id.as_deref().or(given.as_deref());
        if let Some(document) = name.and_then(|name| self.trusted.get(bare(name))) {
            return Ok(Some(document.to_string()));
        }
        let Some(query) = query else {
            return match (&id, given, &self.learned) {
                (None, None, _) => Ok(None),
                (None, Some(hash), Some(learned)) if !self.only_trusted => {
                    let found = learned.get(&(tenant, hash));
                    let found = found.ok_or(Refusal::NotFound)?;
                    Ok(Some(found.to_string()))
                }
                (None, Some(_), None) if !self.only_trusted => Err(Refusal::NotFound),
                _ => Err(Refusal::NotTrusted),
            };
        };
        if self.only_trusted {
            return if self.trusted.contains_key(&hash(&query)) {
                Ok(Some(query))
            } else {
                Err(Refusal::NotTrusted)
            };
        }
        if let Some(given) = given {
            if !hash(&query).eq_ignore_ascii_case(&given) {
                return Err(Refusal::WrongHash);
            }
            if let Some(learned) = &self.learned {
                learned.insert((tenant, given), query.as_str().into());
            }
        }
        Ok(Some(query))
    }
}

/// The id without the name of its algorithm (GraphQL over HTTP, appendix on persisted documents).
fn bare(id: &str) -> &str {
    id.strip_prefix("sha256:").unwrap_or(id)
}

/// The SHA-256 of a document in hexadecimal digits.
fn hash(document: &str) -> String {
    let mut text = String::with_capacity(64);
    for byte in Sha256::digest(document.as_bytes()) {
        write!(text, "{byte:02x}").expect("BUG: writing to a String fails");
    }
    text
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Manifest {
    Apollo { operations: Vec<Operation> },
    Plain(HashMap<String, String>),
}

#[derive(Deserialize)]
struct Operation {
    id: String,
    body: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCUMENT: &str = "{ viewer { role } }";

    fn by_hash(text: &str) -> Named {
        Named {
            hash: Some(hash(text)),
            ..Named::default()
        }
    }

    fn with_text(text: &str) -> Named {
        Named {
            query: Some(text.to_owned()),
            ..by_hash(text)
        }
    }

    #[test]
    fn a_document_is_learned_by_one_tenant_alone() {
        let documents = Documents::new(1_000_000);
        let (acme, globex) = (TenantId::generate(), TenantId::generate());
        assert_eq!(
            documents.resolve(acme, by_hash(DOCUMENT)),
            Err(Refusal::NotFound)
        );
        let sent = documents.resolve(acme, with_text(DOCUMENT)).unwrap();
        assert_eq!(sent.as_deref(), Some(DOCUMENT));
        let named = documents.resolve(acme, by_hash(DOCUMENT)).unwrap();
        assert_eq!(named.as_deref(), Some(DOCUMENT));
        assert_eq!(
            documents.resolve(globex, by_hash(DOCUMENT)),
            Err(Refusal::NotFound)
        );
    }

    #[test]
    fn a_hash_of_another_document_teaches_nothing() {
        let documents = Documents::new(1_000_000);
        let tenant = TenantId::generate();
        let lie = Named {
            query: Some("{ tenant { name } }".to_owned()),
            ..by_hash(DOCUMENT)
        };
        assert_eq!(documents.resolve(tenant, lie), Err(Refusal::WrongHash));
        assert_eq!(
            documents.resolve(tenant, by_hash(DOCUMENT)),
            Err(Refusal::NotFound)
        );
    }

    #[test]
    fn what_is_learned_is_bounded_in_bytes() {
        let documents = Documents::new(100_000);
        let tenant = TenantId::generate();
        for number in 0..1_000 {
            let text = format!("{{ viewer {{ role }} }} # {number:01000}");
            documents.resolve(tenant, with_text(&text)).unwrap();
        }
        let learned = documents.learned.unwrap();
        learned.run_pending_tasks();
        assert!(
            learned.weighted_size() <= 100_000,
            "{}",
            learned.weighted_size()
        );
        assert!(learned.entry_count() > 50);
    }

    #[test]
    fn only_trusted_documents_run_if_it_is_said() {
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
            let documents = Documents::new(1_000_000).trust(&path, true).unwrap();
            let by_id = |id: &str| Named {
                id: Some(id.to_owned()),
                ..Named::default()
            };
            let found = |named| documents.resolve(tenant, named);
            assert_eq!(found(by_id("role")).unwrap().as_deref(), Some(DOCUMENT));
            assert_eq!(found(by_hash(DOCUMENT)).unwrap().as_deref(), Some(DOCUMENT));
            let prefixed = by_id(&format!("sha256:{}", hash(DOCUMENT)));
            assert_eq!(found(prefixed).unwrap().as_deref(), Some(DOCUMENT));
            // The text itself is as good as its name.
            assert_eq!(
                found(with_text(DOCUMENT)).unwrap().as_deref(),
                Some(DOCUMENT)
            );
            for other in [by_id("other"), by_hash("{ a }"), with_text("{ a }")] {
                assert_eq!(found(other), Err(Refusal::NotTrusted));
            }
            assert_eq!(found(Named::default()), Ok(None));
        }
        for wrong in ["[]", r#"{ "a": 1 }"#, r#"{ "a": "{" }"#, "nonsense"] {
            std::fs::write(&path, wrong).unwrap();
            let error = Documents::new(0).trust(&path, true).unwrap_err();
            assert!(
                error
                    .to_string()
                    .starts_with("cannot use the trusted documents")
            );
        }
        std::fs::remove_file(&path).unwrap();
        assert!(Documents::new(0).trust(&path, true).is_err());
    }
}
