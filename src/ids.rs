//! Typed ids: a UUID inside, `prj_…` outside, and never one where another is meant.

use std::{fmt, str::FromStr};

use uuid::Uuid;

/// An id of one kind of row.
pub trait EntityId:
    Copy + Eq + Ord + std::hash::Hash + fmt::Debug + fmt::Display + Send + Sync + From<Uuid> + 'static
{
    /// What stands before the underscore, three letters, unique among all kinds.
    const PREFIX: &'static str;
    /// The GraphQL type of the row, for messages.
    const TYPE: &'static str;

    /// The UUID as the database stores it.
    fn uuid(self) -> Uuid;
}

/// Why a text is not an id of the expected kind. The message is for clients.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected the id of a {expected}, like {prefix}_ and 32 hexadecimal digits")]
pub struct InvalidId {
    expected: &'static str,
    prefix: &'static str,
}

/// Reads `<prefix>_<32 lower-case hex digits>`. One id has one spelling, so that caches and
/// comparisons on the client's side can trust the text.
fn parse<I: EntityId>(text: &str) -> Result<I, InvalidId> {
    let invalid = InvalidId {
        expected: I::TYPE,
        prefix: I::PREFIX,
    };
    let digits = text
        .strip_prefix(I::PREFIX)
        .and_then(|rest| rest.strip_prefix('_'))
        .filter(|digits| digits.len() == 32 && !digits.bytes().any(|b| b.is_ascii_uppercase()))
        .ok_or_else(|| invalid.clone())?;
    Uuid::try_parse(digits).map(I::from).map_err(|_| invalid)
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident = $prefix:literal of $type:literal;)+) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, sqlx::Type)]
            #[sqlx(transparent)]
            pub struct $name(Uuid);

            impl $name {
                /// A new id, of the present millisecond (UUID version 7), so that ids sort by creation.
                #[must_use]
                pub fn generate() -> Self {
                    Self(Uuid::now_v7())
                }
            }

            impl EntityId for $name {
                const PREFIX: &'static str = $prefix;
                const TYPE: &'static str = $type;

                fn uuid(self) -> Uuid {
                    self.0
                }
            }

            impl From<Uuid> for $name {
                fn from(uuid: Uuid) -> Self {
                    Self(uuid)
                }
            }

            impl fmt::Display for $name {
                fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    write!(f, concat!($prefix, "_{}"), self.0.simple())
                }
            }

            impl FromStr for $name {
                type Err = InvalidId;

                fn from_str(text: &str) -> Result<Self, InvalidId> {
                    parse(text)
                }
            }

            crate::graphql::id_scalar!($name);
        )+

        #[cfg(test)]
        const PREFIXES: &[&str] = &[$($prefix),+];
    };
}

ids! {
    /// A tenant: the wall that row level security builds.
    TenantId = "ten" of "Tenant";
    /// A person in one tenant.
    UserId = "usr" of "User";
    /// A unit inside a tenant: a client, a department, a subsidiary.
    OrganizationId = "org" of "Organization";
    /// A project.
    ProjectId = "prj" of "Project";
    /// A product.
    ProductId = "prd" of "Product";
    /// An invoice.
    InvoiceId = "inv" of "Invoice";
    /// One line of an invoice.
    InvoiceLineItemId = "ili" of "InvoiceLineItem";
    /// A comment.
    CommentId = "com" of "Comment";
    /// One entry of the audit log.
    AuditLogId = "aud" of "AuditLog";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_reads_back_from_its_text() {
        let id = ProjectId::generate();
        assert_eq!(id.to_string().parse(), Ok(id));
    }

    #[test]
    fn every_other_spelling_is_refused() {
        let id = ProjectId::generate();
        let digits = id.uuid().simple().to_string();
        for wrong in [
            String::new(),
            "prj_".to_owned(),
            digits.clone(),
            id.uuid().to_string(),
            format!("usr_{digits}"),
            format!(
                "prj_{}",
                digits.to_uppercase().replace(char::is_numeric, "A")
            ),
            format!("prj_{}", id.uuid()),
            format!("prj_{digits}0"),
            format!(" prj_{digits}"),
            "prj_zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz".to_owned(),
        ] {
            assert!(
                wrong.parse::<ProjectId>().is_err(),
                "{wrong:?} was read as an id"
            );
        }
    }

    #[test]
    fn prefixes_are_unique() {
        let mut seen = PREFIXES.to_vec();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), PREFIXES.len());
    }
}
