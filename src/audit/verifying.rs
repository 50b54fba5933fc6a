//! Verifies a tenant's audit log: finds rows that were changed, removed or inserted outside the service.

use std::{fmt, pin::pin, str::FromStr};

use futures_util::TryStreamExt as _;

use crate::{
    db::audit_snapshot::{AuditRow, AuditSeal, AuditSnapshot, Fault, MissingRow, UntrustedTable},
    error::Result,
    ids::AuditLogId,
};

/// The SHA-256 of a seal, as 64 hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealHash(Vec<u8>);

impl SealHash {
    /// The hash with these bytes.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

impl fmt::Display for SealHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&base16ct::lower::encode_string(&self.0))
    }
}

impl FromStr for SealHash {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match base16ct::mixed::decode_vec(text) {
            Ok(bytes) if text.len() == 64 => Ok(Self(bytes)),
            _ => Err("the hash of a seal is 64 hexadecimal digits"),
        }
    }
}

/// A trace of manipulation. `Display` writes one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// A sealed row was changed.
    Changed(AuditLogId, String),
    /// A row was removed.
    Removed(AuditLogId, String),
    /// A row was not written by the trigger, or its timestamp is wrong.
    Inserted(AuditLogId, String),
    /// A seal does not match its rows, or the previous seal.
    SealBroken(i32, String),
    /// No seal has the hash that the operator expects.
    HeadMissing(SealHash),
    /// No row records the creation of the tenant.
    CreationMissing,
    /// A table of the log may show other rows than those that were written.
    Untrusted(UntrustedTable),
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Changed(id, why) => write!(f, "changed {id}: {why}"),
            Self::Removed(id, why) => write!(f, "removed {id}: {why}"),
            Self::Inserted(id, why) => write!(f, "inserted {id}: {why}"),
            Self::SealBroken(number, why) => write!(f, "broken seal {number}: {why}"),
            Self::HeadMissing(head) => write!(
                f,
                "missing head {head}: no seal has this hash, so the history was rewritten"
            ),
            Self::CreationMissing => f.write_str(
                "missing tenant.created: the first row of every log records the creation of its tenant",
            ),
            Self::Untrusted(UntrustedTable { table, reason }) => {
                write!(f, "untrusted {table}: {reason}")
            }
        }
    }
}

/// The numbers of a verified log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// The number of rows.
    pub rows: u64,
    /// The number of sealed rows.
    pub sealed: u64,
    /// The number of seals.
    pub seals: u64,
    /// The hash of the last seal.
    pub head: Option<SealHash>,
    /// The number of findings.
    pub findings: u64,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            rows,
            sealed,
            seals,
            ..
        } = self;
        let waiting = rows - sealed;
        write!(
            f,
            "rows {rows}, sealed {sealed}, not yet sealed {waiting}, seals {seals}, head "
        )?;
        match &self.head {
            Some(head) => write!(f, "{head}"),
            None => f.write_str("none"),
        }
    }
}

/// Compares every row with its hash and its seal, and every seal with the previous one. Reports each finding
/// immediately, so that the use of memory does not grow with the log.
///
/// `expected_head` is the hash of the last seal at an earlier verification. One of the seals must have this hash.
///
/// If a table of the log cannot be trusted, the rows are not read.
pub async fn verify(
    log: &mut AuditSnapshot<'_>,
    expected_head: Option<SealHash>,
    mut report: impl FnMut(&Finding),
) -> Result<Summary> {
    let mut summary = Summary::default();
    let mut found = |finding: Option<Finding>| {
        finding.iter().for_each(&mut report);
        u64::from(finding.is_some())
    };

    for table in log.untrusted_tables().await? {
        summary.findings += found(Some(Finding::Untrusted(table)));
    }
    if summary.findings > 0 {
        return Ok(summary);
    }

    let mut missing_head = expected_head;
    let mut last: Option<AuditSeal> = None;
    {
        let mut seals = pin!(log.seals());
        while let Some(seal) = seals.try_next().await? {
            summary.seals += 1;
            summary.findings += found(broken(&seal, last.as_ref()));
            missing_head = missing_head.filter(|head| head.0 != seal.hash);
            last = Some(seal);
        }
    }
    summary.findings += found(missing_head.map(Finding::HeadMissing));
    summary.head = last.map(|seal| SealHash(seal.hash));

    let findings_before_rows = summary.findings;
    let mut has_creation = false;
    {
        let mut rows = pin!(log.rows());
        while let Some(row) = rows.try_next().await? {
            summary.rows += 1;
            has_creation |= row.is_creation;
            summary.sealed += u64::from(row.seal.is_some());
            summary.findings += found(faulty(row));
        }
    }

    let mut gone = pin!(log.missing_rows());
    while let Some(row) = gone.try_next().await? {
        summary.findings += found(Some(removed(row)));
    }
    // If the row of the creation was changed or removed, that is reported already.
    if !has_creation && summary.findings == findings_before_rows {
        summary.findings += found(Some(Finding::CreationMissing));
    }
    Ok(summary)
}

fn broken(seal: &AuditSeal, last: Option<&AuditSeal>) -> Option<Finding> {
    let expected = last.map_or(1, |last| last.number.saturating_add(1));
    let why = if seal.number != expected {
        format!(
            "seals {expected} to {} are missing",
            seal.number.saturating_sub(1)
        )
    } else if seal.previous_hash.as_ref() != last.map(|last| &last.hash) {
        "its previous_hash is not the hash of the previous seal".to_owned()
    } else if usize::try_from(seal.rows) != Ok(seal.entries) {
        format!(
            "the seal records {} rows, but contains {}",
            seal.rows, seal.entries
        )
    } else if seal.hash != seal.computed_hash {
        "its hash does not match its rows".to_owned()
    } else {
        return None;
    };
    Some(Finding::SealBroken(seal.number, why))
}

fn faulty(row: AuditRow) -> Option<Finding> {
    let seal = row.seal.unwrap_or_default();
    Some(match row.fault? {
        Fault::Content => {
            Finding::Changed(row.id, "its content does not match its hash".to_owned())
        }
        Fault::Hash => Finding::Changed(row.id, format!("its hash is not the hash in seal {seal}")),
        Fault::SealedLate => Finding::Inserted(
            row.id,
            format!(
                "seal {seal} contains the row, but the row is more than a day older than the newest row sealed before"
            ),
        ),
        Fault::Forged => Finding::Inserted(
            row.id,
            "not sealed, and its content does not match its hash: inserted, or changed after it was written"
                .to_owned(),
        ),
        Fault::Unannounced => Finding::Inserted(
            row.id,
            "not sealed, and not in audit_unsealed, in which the trigger lists the rows to seal".to_owned(),
        ),
        Fault::Late => Finding::Inserted(
            row.id,
            "not sealed, and more than a day older than the newest sealed row".to_owned(),
        ),
    })
}

fn removed(row: MissingRow) -> Finding {
    let why = match row.seal {
        Some(seal) => format!("seal {seal} contains the row"),
        None => "audit_unsealed lists the row as not yet sealed".to_owned(),
    };
    Finding::Removed(row.id, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_parses_from_its_string() {
        let text = "00ff".repeat(16);
        assert_eq!(text.parse::<SealHash>().unwrap().to_string(), text);
        for wrong in [
            "",
            "00",
            &"0".repeat(63),
            &"0".repeat(66),
            &"+0".repeat(32),
            &"zz".repeat(32),
            &"ä".repeat(32),
        ] {
            assert!(wrong.parse::<SealHash>().is_err(), "{wrong}");
        }
    }
}
