//! The canary: a tenant whose rows no request may ever return.
//!
//! `migrate` creates it with a row in the table of every entity. The ids of its rows begin with a marker, and their
//! strings contain it: 16 random hexadecimal digits, which are different in each database. If the service meets the
//! marker, both layers of the isolation have failed, and the response may also contain rows of real tenants. So the
//! service sends an error in its place.
//!
//! The service looks for the marker twice: in the id of each row that it reads, and in the bytes of each response. The
//! id shows a row of which a response contains only a number; it costs one comparison. The bytes show a value that got
//! into the response on any other way; the search takes a few thousand instructions for a long response.

use std::{fmt, sync::Arc};

use memchr::memmem::Finder;
use uuid::Uuid;

use crate::metrics;

/// Finds the rows of the canary.
#[derive(Clone)]
pub struct Canary {
    marker: Arc<Finder<'static>>,
    /// The first half of the ids of its rows.
    id_start: u64,
}

/// The service read a row of the canary.
#[derive(Debug, thiserror::Error)]
#[error("the database returned a row of the canary: the isolation of the tenants has failed")]
pub struct CanaryRow;

impl From<CanaryRow> for sqlx::Error {
    fn from(row: CanaryRow) -> Self {
        Self::Decode(row.into())
    }
}

impl Canary {
    /// The canary with this marker: 16 hexadecimal digits. `None` if the marker is anything else.
    #[must_use]
    pub fn new(marker: &str) -> Option<Self> {
        let is_digit = |byte: u8| byte.is_ascii_hexdigit();
        (marker.len() == 16 && marker.bytes().all(is_digit)).then_some(())?;
        Some(Self {
            marker: Arc::new(Finder::new(marker).into_owned()),
            id_start: u64::from_str_radix(marker, 16).ok()?,
        })
    }

    /// Errors: the row with this id belongs to the canary.
    #[inline]
    pub fn check_row(&self, id: Uuid) -> Result<(), CanaryRow> {
        if id.as_u64_pair().0 == self.id_start {
            metrics::CANARY_FOUND.increment();
            return Err(CanaryRow);
        }
        Ok(())
    }

    /// Whether a response contains the marker. JSON does not escape its digits.
    #[must_use]
    pub fn is_in(&self, response: &[u8]) -> bool {
        let is_found = self.marker.find(response).is_some();
        if is_found {
            metrics::CANARY_FOUND.increment();
        }
        is_found
    }
}

/// Does not print the marker: a client that knew it could have its own responses rejected.
impl fmt::Debug for Canary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Canary")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_marker_is_found_anywhere_and_never_printed() {
        let canary = Canary::new("f0123456789abcde").unwrap();
        for (text, expected) in [
            ("", false),
            ("f0123456789abcd", false),
            (r#"{"id":"prj_0123456789abcdee0123456789abcdee"}"#, false),
            ("f0123456789abcde", true),
            (r#"{"id":"prj_f0123456789abcde0000000000000001"}"#, true),
            (r#"{"name":"canary f0123456789abcde"}"#, true),
        ] {
            assert_eq!(canary.is_in(text.as_bytes()), expected, "{text}");
        }
        assert!(!format!("{canary:?}").contains("f0"));
        for invalid in [
            "",
            "f0123456789abcd",
            "f0123456789abcdg",
            "f0123456789abcdef",
        ] {
            assert!(Canary::new(invalid).is_none(), "{invalid}");
        }
    }

    #[test]
    fn a_row_is_recognized_by_the_first_half_of_its_id() {
        let canary = Canary::new("f0123456789abcde").unwrap();
        let check = |id: &str| canary.check_row(id.parse().unwrap()).is_ok();
        assert!(!check("f0123456-789a-bcde-0000-000000000001"));
        assert!(check("f0123456-789a-bcdf-0000-000000000001"));
        assert!(check("00000000-0000-0001-f012-3456789abcde"));
    }
}
