//! Paths of requests and the globs that match them.

use std::fmt;
use std::str::FromStr;

/// Longest glob in bytes.
const MAX_GLOB: usize = 256;
/// Longest path that a glob is held against; a longer one matches nothing for certain.
const MAX_PATH: usize = 8192;

/// Why a text is not a path glob.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PathGlobError {
    /// Over 256 bytes.
    #[error("a path in a network pattern has at most 256 bytes")]
    TooLong,
    /// It holds something that no normal path has.
    #[error(
        "the path {0:?} is not usable: plain ASCII without query, `..`, `//` or encoded letters and slashes"
    )]
    Unclear(String),
}

/// A path with `*` (within a segment) and `**` (anything).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct PathGlob(String);

impl FromStr for PathGlob {
    type Err = PathGlobError;

    fn from_str(text: &str) -> Result<Self, PathGlobError> {
        if text.len() > MAX_GLOB {
            return Err(PathGlobError::TooLong);
        }
        let unclear = || PathGlobError::Unclear(text.to_owned());
        if text.contains(['?', '#']) || plain(text).as_deref() != Some(text) {
            return Err(unclear());
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for PathGlob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Byte(u8),
    Segment,
    Anything,
}

impl PathGlob {
    /// Whether it matches; `None` if servers could read the path differently than we do.
    pub(crate) fn matches(&self, path: &str) -> Option<bool> {
        let path = plain(path)?;
        let parts = self.parts();
        // The set of positions in the glob that the bytes so far can have reached.
        let mut here = vec![false; parts.len() + 1];
        here[0] = true;
        skip(&parts, &mut here);
        for byte in path.bytes() {
            let mut next = vec![false; parts.len() + 1];
            for (at, part) in parts.iter().enumerate().filter(|&(at, _)| here[at]) {
                match part {
                    Part::Byte(own) if *own == byte => next[at + 1] = true,
                    Part::Segment if byte != b'/' => next[at] = true,
                    Part::Anything => next[at] = true,
                    Part::Byte(_) | Part::Segment => {}
                }
            }
            skip(&parts, &mut next);
            here = next;
        }
        here.last().copied()
    }

    fn parts(&self) -> Vec<Part> {
        let mut parts = Vec::with_capacity(self.0.len());
        let mut bytes = self.0.bytes().peekable();
        while let Some(byte) = bytes.next() {
            parts.push(match byte {
                b'*' if bytes.next_if_eq(&b'*').is_some() => Part::Anything,
                b'*' => Part::Segment,
                other => Part::Byte(other),
            });
        }
        parts
    }
}

/// Stars may stand for nothing.
fn skip(parts: &[Part], reached: &mut [bool]) {
    for (at, part) in parts.iter().enumerate() {
        if reached[at] && !matches!(part, Part::Byte(_)) {
            reached[at + 1] = true;
        }
    }
}

/// The path with unreserved characters decoded and the rest of the encoding in capitals (RFC 3986, 6.2.2), or
/// `None` where servers disagree about the meaning: `..`, `//`, encoded slashes, backslashes, control characters.
pub(crate) fn plain(path: &str) -> Option<String> {
    if path.len() > MAX_PATH || !path.starts_with('/') {
        return None;
    }
    let mut out = String::with_capacity(path.len());
    let mut bytes = path.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'%' => {
                let digits = [bytes.next()?, bytes.next()?];
                let text =
                    std::str::from_utf8(&digits).ok().filter(|_| digits.iter().all(u8::is_ascii_hexdigit))?;
                match u8::from_str_radix(text, 16).ok()? {
                    b'/' | b'\\' | 0..=0x1f | 0x7f => return None,
                    decoded if decoded.is_ascii_alphanumeric() || b"-._~".contains(&decoded) => {
                        out.push(char::from(decoded));
                    }
                    other => out.push_str(&format!("%{other:02X}")),
                }
            }
            b'\\' | 0..=0x20 | 0x7f.. => return None,
            other => out.push(char::from(other)),
        }
    }
    let dots = |segment: &str| {
        let name = segment.split(';').next().unwrap_or_default();
        name == "." || name == ".."
    };
    if out.contains("//") || out.split('/').any(dots) {
        return None;
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn glob(text: &str) -> PathGlob {
        text.parse().unwrap()
    }

    #[test]
    fn stars() {
        for (pattern, path, expected) in [
            ("/a/*", "/a/b", true),
            ("/a/*", "/a/b/c", false),
            ("/a/*", "/a/", true),
            ("/a/**", "/a/b/c", true),
            ("/a/**", "/a", false),
            ("/**/x", "/a/b/x", true),
            ("/*/x", "/a/x", true),
            ("/v1/*.json", "/v1/a.json", true),
            ("/v1/*.json", "/v1/a.jsonx", false),
            ("/a", "/A", false),
            ("/a", "/%61", true),
            ("/a%20b", "/a%20b", true),
            ("/", "/", true),
            ("/***", "/a/b", true),
        ] {
            assert_eq!(glob(pattern).matches(path), Some(expected), "{pattern} {path}");
        }
    }

    #[test]
    fn unclear_paths_match_nothing_for_certain() {
        for path in [
            "/public/../secret",
            "/public/%2e%2e/secret",
            "/public/.%2E/x",
            "/public%2fsecret",
            "/public\\..\\x",
            "//secret",
            "/public/%5c..",
            "/public/..;/secret",
            "/%",
            "/%zz",
            "/a%00",
            "*",
            "",
            "/a b",
            "/./a",
        ] {
            assert_eq!(glob("/public/**").matches(path), None, "{path}");
        }
        assert_eq!(glob("/**").matches(&format!("/{}", "a".repeat(MAX_PATH))), None);
        for bad in ["/a/../b", "/a?x", "/a#x", "/%61", "/a//b", "a"] {
            assert!(bad.parse::<PathGlob>().is_err(), "{bad}");
        }
    }

    #[test]
    fn many_stars_stay_quick() {
        let pattern = format!("/{}x", "*a".repeat(120));
        assert_eq!(glob(&pattern).matches(&format!("/{}", "a".repeat(8000))), Some(false));
    }
}
