//! The versions of PostgreSQL.

/// The oldest major version of PostgreSQL that the service supports and that its tests use.
pub const OLDEST_MAJOR_VERSION: i32 = 15;

/// The major version: 17 for `17.5`, `17beta1` and `17`.
pub(super) fn major_version(version: &str) -> Option<i32> {
    let digits = version
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(version.len());
    version[..digits].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::major_version;

    #[test]
    fn the_major_version_is_the_leading_number() {
        for (version, expected) in [
            ("15.18", Some(15)),
            ("19beta1", Some(19)),
            ("17", Some(17)),
            ("", None),
            ("x1", None),
        ] {
            assert_eq!(major_version(version), expected, "{version}");
        }
    }
}
