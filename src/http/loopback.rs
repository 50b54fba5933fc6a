//! Decides which hosts are this machine.
//!
//! The invariant: **only this file decides which hosts are this machine.** Pages and requests of a loopback host get
//! rights that no other host has: they may call the API of `palisade dev` and get tokens without a password.

use std::net::IpAddr;

use axum::http::uri::Authority;

/// Whether `authority`, a host with or without a port, is this machine: the name `localhost` or an address for which
/// [`is_loopback_address`] holds. No other name is accepted, because the owner of a name decides to which address the
/// name resolves (DNS rebinding).
pub fn is_loopback(authority: &str) -> bool {
    let Ok(authority) = authority.parse::<Authority>() else {
        return false;
    };
    let host = authority.host();
    // Nothing may precede the host, and only a port may follow it.
    let is_host_and_port = match authority.as_str().strip_prefix(host) {
        Some("") => true,
        Some(rest) => rest.strip_prefix(':').is_some_and(is_port),
        None => false,
    };
    if !is_host_and_port {
        return false;
    }
    let address = match host.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']').unwrap_or(rest),
        None => host,
    };
    host.eq_ignore_ascii_case("localhost") || address.parse().is_ok_and(is_loopback_address)
}

fn is_port(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u16>().is_ok()
}

/// Whether an address belongs to the loopback interface: `127.0.0.0/8` or `::1`. An IPv4 address that is
/// mapped to IPv6 counts as the IPv4 address, because connections to both reach the same listener.
#[must_use]
pub fn is_loopback_address(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_localhost_and_loopback_addresses_are_this_machine() {
        for host in [
            "localhost",
            "LocalHost",
            "127.0.0.1",
            "127.0.0.53",
            "127.255.255.255",
            "[::1]",
            "[0:0:0:0:0:0:0:1]",
            "[::ffff:127.0.0.1]",
            "[::ffff:7f00:1]",
        ] {
            assert!(is_loopback(host), "{host}");
            assert!(is_loopback(&format!("{host}:8080")), "{host}:8080");
        }
        for host in [
            "",
            "localhost.",
            "localhost.evil.example",
            "notlocalhost",
            "127.0.0.1.evil.example",
            "127.1",
            "2130706433",
            "0.0.0.0",
            "128.0.0.1",
            "10.0.0.1",
            "[::]",
            "[::2]",
            "[::ffff:10.0.0.1]",
            "[::1].evil.example",
            "[::1",
            "::1",
            "user@localhost",
            "user@127.0.0.1",
            "localhost/path",
            "evil.example",
            "evil.example#localhost",
        ] {
            assert!(!is_loopback(host), "{host}");
            assert!(!is_loopback(&format!("{host}:8080")), "{host}:8080");
        }
        for authority in [
            "localhost:",
            "localhost:x",
            "localhost:80:80",
            "localhost:99999",
        ] {
            assert!(!is_loopback(authority), "{authority}");
        }
    }

    #[test]
    fn an_address_counts_the_same_in_every_notation() {
        for (address, expected) in [
            ("127.0.0.1", true),
            ("127.8.9.10", true),
            ("::1", true),
            ("::ffff:127.0.0.1", true),
            ("::ffff:192.0.2.1", false),
            ("192.0.2.1", false),
            ("0.0.0.0", false),
            ("::", false),
        ] {
            let address: IpAddr = address.parse().unwrap();
            assert_eq!(is_loopback_address(address), expected, "{address}");
        }
    }
}
