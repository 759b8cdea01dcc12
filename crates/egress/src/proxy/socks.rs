//! SOCKS5 (RFC 1928): CONNECT without authentication. Parsing only; both functions say `None` for "more bytes".

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use action::Destination;
use policy::network::normal_host;

/// Longest message: 4 bytes, a name of 255 with its length, a port.
pub(super) const MAX_MESSAGE: usize = 4 + 256 + 2;

/// Reply codes.
pub(super) const SUCCEEDED: u8 = 0;
pub(super) const FAILURE: u8 = 1;
pub(super) const NOT_ALLOWED: u8 = 2;
pub(super) const UNREACHABLE: u8 = 4;

/// Why a message is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SocksError {
    /// Another version than 5.
    #[error("only SOCKS version 5 is spoken here")]
    Version,
    /// The client insists on authentication.
    #[error("the client offers no method without authentication")]
    Methods,
    /// BIND or UDP.
    #[error("only CONNECT is supported")]
    Command,
    /// Neither a name nor an address.
    #[error("unknown type of address")]
    AddressType,
    /// Not a host, or port 0.
    #[error("it names no usable destination")]
    Destination,
}

impl SocksError {
    /// The code for the client.
    pub(super) fn code(&self) -> u8 {
        match self {
            Self::Command => 7,
            Self::AddressType => 8,
            Self::Version | Self::Methods | Self::Destination => FAILURE,
        }
    }
}

/// The first message: the methods that the client offers. Gives its length.
///
/// # Errors
/// If it is another version, or "no authentication" is not offered.
pub fn greeting(bytes: &[u8]) -> Result<Option<usize>, SocksError> {
    if bytes.first().is_some_and(|&version| version != 5) {
        return Err(SocksError::Version);
    }
    let Some(&count) = bytes.get(1) else { return Ok(None) };
    let end = 2 + usize::from(count);
    match bytes.get(2..end) {
        None => Ok(None),
        Some(methods) if methods.contains(&0) => Ok(Some(end)),
        Some(_) => Err(SocksError::Methods),
    }
}

/// The second message: where to. Gives the destination and the length.
///
/// # Errors
/// If it is anything but a CONNECT to a name or address.
pub fn request(bytes: &[u8]) -> Result<Option<(Destination, usize)>, SocksError> {
    if bytes.first().is_some_and(|&version| version != 5) {
        return Err(SocksError::Version);
    }
    if bytes.get(1).is_some_and(|&command| command != 1) {
        return Err(SocksError::Command);
    }
    let Some(&kind) = bytes.get(3) else { return Ok(None) };
    let (from, length) = match kind {
        1 => (4, 4),
        4 => (4, 16),
        3 => match bytes.get(4) {
            Some(&length) => (5, usize::from(length)),
            None => return Ok(None),
        },
        _ => return Err(SocksError::AddressType),
    };
    let end = from + length;
    let (Some(address), Some(port)) = (bytes.get(from..end), bytes.get(end..end + 2)) else {
        return Ok(None);
    };
    let port = u16::from_be_bytes([port[0], port[1]]);
    let host = match (kind, <[u8; 4]>::try_from(address), <[u8; 16]>::try_from(address)) {
        (1, Ok(bytes), _) => IpAddr::V4(Ipv4Addr::from(bytes)).to_string(),
        (4, _, Ok(bytes)) => IpAddr::V6(Ipv6Addr::from(bytes)).to_canonical().to_string(),
        _ => {
            let text = std::str::from_utf8(address).map_err(|_| SocksError::Destination)?;
            normal_host(text).map_err(|_| SocksError::Destination)?
        }
    };
    if port == 0 {
        return Err(SocksError::Destination);
    }
    Ok(Some((Destination { host, port }, end + 2)))
}

/// The answer to the second message.
pub(super) fn reply(code: u8) -> [u8; 10] {
    [5, code, 0, 1, 0, 0, 0, 0, 0, 0]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn messages() {
        assert_eq!(greeting(&[5, 2, 2, 0, 9]), Ok(Some(4)));
        assert_eq!(greeting(&[5]), Ok(None));
        assert_eq!(greeting(&[5, 1, 2]), Err(SocksError::Methods));
        assert_eq!(greeting(&[4, 1]), Err(SocksError::Version));
        let at =
            |bytes: &[u8]| request(bytes).map(|found| found.map(|(at, length)| (at.to_string(), length)));
        let name = [&[5, 1, 0, 3, 11][..], b"Example.org", &[1, 187]].concat();
        assert_eq!(at(&name), Ok(Some(("example.org:443".into(), 18))));
        for end in 0..name.len() {
            assert_eq!(at(&name[..end]), Ok(None), "{end}");
        }
        assert_eq!(at(&[5, 1, 0, 1, 10, 0, 0, 1, 0, 80]), Ok(Some(("10.0.0.1:80".into(), 10))));
        let six = [&[5, 1, 0, 4][..], &Ipv6Addr::LOCALHOST.octets(), &[0, 80]].concat();
        assert_eq!(at(&six), Ok(Some(("[::1]:80".into(), 22))));
        let mapped = [&[5, 1, 0, 4][..], &Ipv4Addr::LOCALHOST.to_ipv6_mapped().octets(), &[0, 80]].concat();
        assert_eq!(at(&mapped), Ok(Some(("127.0.0.1:80".into(), 22))));
        assert_eq!(at(&[5, 2, 0, 1]), Err(SocksError::Command));
        assert_eq!(at(&[5, 1, 0, 9]), Err(SocksError::AddressType));
        assert_eq!(at(&[5, 1, 0, 1, 1, 1, 1, 1, 0, 0]), Err(SocksError::Destination));
        assert_eq!(at(&[5, 1, 0, 3, 0, 0, 80]), Err(SocksError::Destination));
    }

    proptest! {
        #[test]
        fn a_destination_is_always_a_normal_host(bytes in prop::collection::vec(any::<u8>(), 0..300), kind in 0u8..5) {
            let bytes = [&[5, 1, 0, kind][..], &bytes].concat();
            if let Ok(Some((at, length))) = request(&bytes) {
                prop_assert!(length <= bytes.len() && length <= MAX_MESSAGE);
                prop_assert_eq!(normal_host(&at.host), Ok(at.host));
            }
            let _ = greeting(&bytes);
        }
    }
}
