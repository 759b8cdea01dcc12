//! Host names and addresses in one spelling, so that what is compared is what is meant.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Longest host name in bytes (RFC 1035).
const MAX_NAME: usize = 253;
/// Longest part of a host name in bytes.
const MAX_LABEL: usize = 63;

/// Why a text is not a host.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HostError {
    /// Nothing there.
    #[error("the host is missing")]
    Empty,
    /// Over 253 bytes, or a part over 63.
    #[error("the host name is too long (253 bytes at most, 63 in a part)")]
    TooLong,
    /// Letters outside ASCII: two spellings can look the same.
    #[error("{0:?} is not ASCII; write the name in its punycode form (xn--...)")]
    NotAscii(String),
    /// A character that no host name has, or an empty part.
    #[error("{0:?} is not a host name")]
    Character(String),
    /// `127.1`, `0x7f.1`, `2130706433`: libraries disagree about what these mean.
    #[error("{0:?} ends in a number and is no address; write all four parts of an IPv4 address")]
    Number(String),
}

/// The one spelling of a host: lower case, no trailing dot, no brackets, IPv4-mapped addresses as IPv4.
///
/// # Errors
/// If it is neither a host name in ASCII nor an address.
pub fn normal_host(text: &str) -> Result<String, HostError> {
    if let Some(address) = literal(text) {
        return Ok(address.to_string());
    }
    let shown = || text.chars().take(80).collect::<String>();
    let name = text.strip_suffix('.').unwrap_or(text);
    if name.is_empty() {
        return Err(HostError::Empty);
    }
    if !name.is_ascii() {
        return Err(HostError::NotAscii(shown()));
    }
    if name.len() > MAX_NAME || name.split('.').any(|label| label.len() > MAX_LABEL) {
        return Err(HostError::TooLong);
    }
    let name = name.to_ascii_lowercase();
    let fits = |label: &str| {
        !label.is_empty()
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    if !name.split('.').all(fits) {
        return Err(HostError::Character(shown()));
    }
    let last = name.rsplit('.').next().unwrap_or_default();
    let hexadecimal =
        last.strip_prefix("0x").is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
    if hexadecimal || last.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(HostError::Number(shown()));
    }
    Ok(name)
}

/// An address literal, with or without brackets; IPv4-mapped addresses become IPv4.
#[must_use]
pub(crate) fn literal(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    match bare {
        Some(inside) => inside.parse::<Ipv6Addr>().ok().map(|address| IpAddr::V6(address).to_canonical()),
        None => text.parse::<IpAddr>().ok().map(|address| address.to_canonical()),
    }
}

/// Whether `address` lies in the block of `network` with `prefix` bits. IPv4 and IPv6 never mix.
#[must_use]
pub(crate) fn within(address: IpAddr, network: IpAddr, prefix: u8) -> bool {
    match (address, network) {
        (IpAddr::V4(a), IpAddr::V4(b)) => a & mask4(prefix) == b & mask4(prefix),
        (IpAddr::V6(a), IpAddr::V6(b)) => a & mask6(prefix) == b & mask6(prefix),
        _ => false,
    }
}

pub(crate) fn mask4(prefix: u8) -> Ipv4Addr {
    Ipv4Addr::from_bits(u32::MAX.checked_shl(32 - u32::from(prefix.min(32))).unwrap_or(0))
}

pub(crate) fn mask6(prefix: u8) -> Ipv6Addr {
    Ipv6Addr::from_bits(u128::MAX.checked_shl(128 - u32::from(prefix.min(128))).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_spelling() {
        for (text, normal) in [
            ("Example.ORG.", "example.org"),
            ("[2001:DB8::1]", "2001:db8::1"),
            ("::ffff:10.0.0.1", "10.0.0.1"),
            ("[::FFFF:7f00:1]", "127.0.0.1"),
            ("a_b.test", "a_b.test"),
            ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        ] {
            assert_eq!(normal_host(text).as_deref(), Ok(normal), "{text}");
        }
        let long = "a".repeat(64);
        let cases = [
            "",
            ".",
            "a..b",
            "b\u{fc}cher.example",
            "127.1",
            "0x7f.1",
            "2130706433",
            "0x7f000001",
            "a b",
            "a/b",
            "user@host",
            "a:80",
            "[1.2.3.4]",
            "*.a",
            "ex\0ample.org",
            long.as_str(),
            "010.0.0.1",
        ];
        for bad in cases {
            assert!(normal_host(bad).is_err(), "{bad:?}");
        }
    }
}
