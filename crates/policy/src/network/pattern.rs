//! What a rule of the network matches, as text: `[METHOD[,METHOD] ][http://|https://]HOST[:PORT|:*][/PATH]`.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use action::{Connect, Via};

use super::host::{HostError, literal, mask4, mask6, normal_host, within};
use super::path::{PathGlob, PathGlobError};

/// Longest text of a pattern in bytes.
const MAX_PATTERN: usize = 1024;
/// Most methods in a pattern.
const MAX_METHODS: usize = 16;

/// Why a text is not a pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PatternError {
    /// Over 1024 bytes.
    #[error("a network pattern has at most 1024 bytes")]
    TooLong,
    /// Before the space there is something else than methods.
    #[error("{0:?} is not a list of HTTP methods; write it like GET,HEAD")]
    Methods(String),
    /// Something other than http or https before `://`.
    #[error("{0:?} is not a scheme; only http:// and https:// are known")]
    Scheme(String),
    /// The host is none.
    #[error(transparent)]
    Host(#[from] HostError),
    /// A `*` inside a name.
    #[error("{0:?}: `*` stands for a whole name or, as in *.example.org, for everything before it")]
    Star(String),
    /// An IPv6 address without brackets.
    #[error("write the IPv6 address in brackets: [{0}]")]
    Brackets(String),
    /// Not a port.
    #[error("{0:?} is not a port (1 to 65535, or *)")]
    Port(String),
    /// Longer than the address.
    #[error("/{0} is longer than the address")]
    Prefix(String),
    /// The address has bits beyond its prefix, so something else was meant.
    #[error("the block has bits outside of its prefix; did you mean {0}?")]
    Block(String),
    /// The path is not usable.
    #[error(transparent)]
    Path(#[from] PathGlobError),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Scheme {
    Http,
    Https,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum HostPattern {
    Any,
    Name(String),
    Beneath(String),
    Address(IpAddr),
    Block(IpAddr, u8),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum PortPattern {
    Usual,
    Any,
    One(u16),
}

/// Which connections a rule is about. Made from text; prints as text that gives the same pattern.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct NetworkPattern {
    methods: Vec<String>,
    scheme: Option<Scheme>,
    host: HostPattern,
    port: PortPattern,
    path: Option<PathGlob>,
}

/// Whether a pattern matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Matched {
    No,
    Yes,
    /// Host and port do; the pattern is also about method or path, and those cannot be seen.
    Unseen,
}

impl NetworkPattern {
    /// Whether it says something about method or path, which only a request that can be seen has.
    #[must_use]
    pub fn needs_request(&self) -> bool {
        !self.methods.is_empty() || self.path.is_some()
    }

    /// The port that it names, if it names one beyond 80 and 443.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        match self.port {
            PortPattern::One(port) => Some(port),
            PortPattern::Usual | PortPattern::Any => None,
        }
    }

    /// Whether it names an address or a block of addresses.
    #[must_use]
    pub(crate) fn is_literal(&self) -> bool {
        matches!(self.host, HostPattern::Address(_) | HostPattern::Block(..))
    }

    /// Whether it names exactly this address, not a block around it.
    pub(crate) fn is_address(&self, address: IpAddr) -> bool {
        matches!(self.host, HostPattern::Address(own) if own == address.to_canonical())
    }

    pub(crate) fn matches(&self, connect: &Connect) -> Matched {
        let at = &connect.destination;
        if !self.matches_host(&at.host) || !self.matches_port(at.port) {
            return Matched::No;
        }
        // A request that is seen without TLS around it is not https.
        let plain = connect.via == Via::Http || (connect.method.is_some() && at.port == 80);
        if self.scheme == Some(Scheme::Https) && plain {
            return Matched::No;
        }
        if !self.needs_request() {
            return Matched::Yes;
        }
        let (Some(method), Some(path)) = (&connect.method, &connect.path) else { return Matched::Unseen };
        if !self.methods.is_empty() && !self.methods.contains(method) {
            return Matched::No;
        }
        match self.path.as_ref().map(|glob| glob.matches(path)) {
            None | Some(Some(true)) => Matched::Yes,
            Some(Some(false)) => Matched::No,
            // Servers disagree about what such a path means.
            Some(None) => Matched::Unseen,
        }
    }

    pub(crate) fn matches_host(&self, host: &str) -> bool {
        let address = || literal(host);
        match &self.host {
            HostPattern::Any => true,
            HostPattern::Name(name) => name == host,
            HostPattern::Beneath(apex) => host
                .strip_suffix(apex.as_str())
                .and_then(|rest| rest.strip_suffix('.'))
                .is_some_and(|label| !label.is_empty()),
            HostPattern::Address(own) => address().is_some_and(|address| address == *own),
            HostPattern::Block(network, prefix) => {
                address().is_some_and(|address| within(address, *network, *prefix))
            }
        }
    }

    pub(crate) fn matches_port(&self, port: u16) -> bool {
        match (self.port, self.scheme) {
            (PortPattern::Any, _) => true,
            (PortPattern::One(own), _) => own == port,
            (PortPattern::Usual, Some(Scheme::Http)) => port == 80,
            (PortPattern::Usual, Some(Scheme::Https)) => port == 443,
            (PortPattern::Usual, None) => port == 80 || port == 443,
        }
    }
}

impl FromStr for NetworkPattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        if text.len() > MAX_PATTERN {
            return Err(PatternError::TooLong);
        }
        let text = text.trim();
        let (methods, rest) = match text.split_once(' ') {
            Some((methods, rest)) => (parse_methods(methods)?, rest.trim_start()),
            None => (Vec::new(), text),
        };
        let (scheme, rest) = match rest.split_once("://") {
            Some(("http", rest)) => (Some(Scheme::Http), rest),
            Some(("https", rest)) => (Some(Scheme::Https), rest),
            Some((other, _)) => return Err(PatternError::Scheme(other.to_owned())),
            None => (None, rest),
        };
        let (authority, path) = match rest.find('/') {
            Some(at) => rest.split_at(at),
            None => (rest, ""),
        };
        let (host, port) = split_port(authority)?;
        let (host, port, path) = match literal(host) {
            // `10.0.0.0/8`: digits after a bare address are its prefix.
            Some(address) if port.is_none() && prefix_of(path).is_some() => {
                let (prefix, rest) = prefix_of(path).unwrap_or_default();
                let (port, path) = match rest.strip_prefix(':') {
                    Some(rest) => {
                        let end = rest.find('/').unwrap_or(rest.len());
                        (Some(&rest[..end]), &rest[end..])
                    }
                    None => (None, rest),
                };
                (block(address, prefix)?, port, path)
            }
            Some(address) => (HostPattern::Address(address), port, path),
            None => (parse_name(host)?, port, path),
        };
        let port = match port {
            None => PortPattern::Usual,
            Some("*") => PortPattern::Any,
            Some(digits) => {
                let decimal = digits.bytes().all(|byte| byte.is_ascii_digit());
                let number = digits.parse::<u16>().ok().filter(|&port| decimal && port > 0);
                PortPattern::One(number.ok_or_else(|| PatternError::Port(digits.to_owned()))?)
            }
        };
        let path = if path.is_empty() { None } else { Some(path.parse()?) };
        Ok(Self { methods, scheme, host, port, path })
    }
}

fn parse_methods(text: &str) -> Result<Vec<String>, PatternError> {
    let bad = || PatternError::Methods(text.to_owned());
    let mut methods: Vec<String> = text.split(',').map(str::to_owned).collect();
    let token =
        |method: &String| !method.is_empty() && method.bytes().all(|b| b.is_ascii_uppercase() || b == b'-');
    if methods.len() > MAX_METHODS || !methods.iter().all(token) {
        return Err(bad());
    }
    methods.sort();
    methods.dedup();
    Ok(methods)
}

/// Separates `HOST` and `PORT`.
fn split_port(authority: &str) -> Result<(&str, Option<&str>), PatternError> {
    if let Some(end) = authority.strip_prefix('[').and_then(|_| authority.find(']')) {
        let (host, rest) = authority.split_at(end + 1);
        return match rest.strip_prefix(':') {
            Some(port) => Ok((host, Some(port))),
            None if rest.is_empty() => Ok((host, None)),
            None => Err(PatternError::Port(rest.to_owned())),
        };
    }
    match authority.split_once(':') {
        Some((_, port)) if port.contains(':') => Err(PatternError::Brackets(authority.to_owned())),
        Some((host, port)) => Ok((host, Some(port))),
        None => Ok((authority, None)),
    }
}

/// `/8`, `/8:443` or `/8/path`: the digits, and what follows them.
fn prefix_of(path: &str) -> Option<(&str, &str)> {
    let rest = path.strip_prefix('/')?;
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let (digits, after) = rest.split_at(end);
    let ends = after.is_empty() || after.starts_with(':') || after.starts_with('/');
    ((1..=3).contains(&digits.len()) && ends).then_some((digits, after))
}

fn block(address: IpAddr, prefix: &str) -> Result<HostPattern, PatternError> {
    let bad = || PatternError::Prefix(prefix.to_owned());
    let bits: u8 = prefix.parse().map_err(|_| bad())?;
    let network = match address {
        IpAddr::V4(address) if bits <= 32 => IpAddr::V4(address & mask4(bits)),
        IpAddr::V6(address) if bits <= 128 => IpAddr::V6(address & mask6(bits)),
        _ => return Err(bad()),
    };
    if network != address {
        return Err(PatternError::Block(HostPattern::Block(network, bits).to_string()));
    }
    // `::/0` masks to an address that prints as IPv6 and stays so: only whole mapped addresses become IPv4.
    Ok(HostPattern::Block(network, bits))
}

fn parse_name(host: &str) -> Result<HostPattern, PatternError> {
    if host == "*" {
        return Ok(HostPattern::Any);
    }
    if let Some(apex) = host.strip_prefix("*.") {
        let apex = normal_host(apex).map_err(|error| match error {
            HostError::Character(_) if apex.contains('*') => PatternError::Star(host.to_owned()),
            other => other.into(),
        })?;
        if literal(&apex).is_some() {
            return Err(PatternError::Star(host.to_owned()));
        }
        return Ok(HostPattern::Beneath(apex));
    }
    if host.contains('*') {
        return Err(PatternError::Star(host.to_owned()));
    }
    Ok(HostPattern::Name(normal_host(host)?))
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Name(name) => f.write_str(name),
            Self::Beneath(apex) => write!(f, "*.{apex}"),
            Self::Address(IpAddr::V4(address)) => write!(f, "{address}"),
            Self::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
            Self::Block(IpAddr::V4(network), prefix) => write!(f, "{network}/{prefix}"),
            Self::Block(IpAddr::V6(network), prefix) => write!(f, "[{network}]/{prefix}"),
        }
    }
}

impl fmt::Display for NetworkPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.methods.is_empty() {
            write!(f, "{} ", self.methods.join(","))?;
        }
        match self.scheme {
            Some(Scheme::Http) => f.write_str("http://")?,
            Some(Scheme::Https) => f.write_str("https://")?,
            None => {}
        }
        write!(f, "{}", self.host)?;
        match self.port {
            PortPattern::Usual => {}
            PortPattern::Any => f.write_str(":*")?,
            PortPattern::One(port) => write!(f, ":{port}")?,
        }
        match &self.path {
            Some(path) => write!(f, "{path}"),
            None => Ok(()),
        }
    }
}
