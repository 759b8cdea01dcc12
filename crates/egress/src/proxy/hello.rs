//! The server name in the first message of TLS (RFC 8446 4.1.2, RFC 6066 3). Reads, never answers.

/// Most bytes that are looked at: a ClientHello with everything is a few kilobytes.
pub(super) const MAX_HELLO: usize = 32 * 1024;

/// Why bytes are no usable ClientHello.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HelloError {
    /// The first byte is that of no TLS handshake.
    #[error("it is not TLS")]
    NotTls,
    /// A length or a value that cannot be.
    #[error("its TLS ClientHello is malformed")]
    Malformed,
    /// Over 32 kB.
    #[error("its TLS ClientHello is too long")]
    TooLong,
    /// More than one server name.
    #[error("its TLS ClientHello names more than one server")]
    TwoNames,
}

/// What a ClientHello says about where it wants to go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// The server name, as it was sent.
    pub server_name: Option<String>,
}

/// Looks at the first bytes of a connection; `None` if more are needed.
///
/// # Errors
/// If they cannot become a ClientHello.
pub fn hello(bytes: &[u8]) -> Result<Option<Hello>, HelloError> {
    let mut message = Vec::new();
    let mut rest = bytes;
    loop {
        // One record: type, version, length. A message may be spread over several.
        if let Some(&kind) = rest.first()
            && kind != 22
        {
            return Err(if message.is_empty() { HelloError::NotTls } else { HelloError::Malformed });
        }
        if rest.get(1).is_some_and(|&major| major != 3) {
            return Err(if message.is_empty() { HelloError::NotTls } else { HelloError::Malformed });
        }
        let Some((head, after)) = rest.split_at_checked(5) else { return more(bytes) };
        let length = usize::from(u16::from_be_bytes([head[3], head[4]]));
        if length == 0 || length > 16 * 1024 {
            return Err(HelloError::Malformed);
        }
        let whole = after.len() >= length;
        message.extend_from_slice(&after[..length.min(after.len())]);
        if let Some(hello) = handshake(&message)? {
            return Ok(Some(hello));
        }
        if !whole {
            return more(bytes);
        }
        rest = &after[length..];
    }
}

fn more(bytes: &[u8]) -> Result<Option<Hello>, HelloError> {
    if bytes.len() >= MAX_HELLO { Err(HelloError::TooLong) } else { Ok(None) }
}

/// The handshake message, once it is whole.
fn handshake(message: &[u8]) -> Result<Option<Hello>, HelloError> {
    if message.first().is_some_and(|&kind| kind != 1) {
        return Err(HelloError::Malformed);
    }
    let Some((head, body)) = message.split_at_checked(4) else { return Ok(None) };
    let length = usize::from(head[1]) << 16 | usize::from(head[2]) << 8 | usize::from(head[3]);
    if length > MAX_HELLO {
        return Err(HelloError::TooLong);
    }
    match body.get(..length) {
        Some(body) => client_hello(body).map(Some),
        None => Ok(None),
    }
}

fn client_hello(body: &[u8]) -> Result<Hello, HelloError> {
    let mut at = Reader(body);
    at.take(2 + 32)?;
    at.vector8()?;
    at.vector16()?;
    at.vector8()?;
    let mut found = None;
    if !at.0.is_empty() {
        let mut extensions = Reader(at.vector16()?);
        if !at.0.is_empty() {
            return Err(HelloError::Malformed);
        }
        while !extensions.0.is_empty() {
            let kind = extensions.number()?;
            let content = extensions.vector16()?;
            if kind == 0 {
                let name = server_name(content)?;
                if found.replace(name).is_some() {
                    return Err(HelloError::TwoNames);
                }
            }
        }
    }
    Ok(Hello { server_name: found })
}

fn server_name(content: &[u8]) -> Result<String, HelloError> {
    let mut outer = Reader(content);
    let mut list = Reader(outer.vector16()?);
    let kind = list.take(1)?;
    let name = list.vector16()?;
    if kind != [0] || !outer.0.is_empty() || name.is_empty() || name.len() > 255 {
        return Err(HelloError::Malformed);
    }
    if !list.0.is_empty() {
        return Err(HelloError::TwoNames);
    }
    let text = std::str::from_utf8(name).ok().filter(|text| text.is_ascii());
    text.map(str::to_owned).ok_or(HelloError::Malformed)
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], HelloError> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(HelloError::Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    fn number(&mut self) -> Result<u16, HelloError> {
        self.take(2).map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    fn vector8(&mut self) -> Result<&'a [u8], HelloError> {
        let length = self.take(1)?[0];
        self.take(usize::from(length))
    }

    fn vector16(&mut self) -> Result<&'a [u8], HelloError> {
        let length = self.number()?;
        self.take(usize::from(length))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A ClientHello with these server names, in one record.
    pub(in crate::proxy) fn sample(names: &[&str]) -> Vec<u8> {
        let vector = |bytes: &[u8]| [&u16::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat();
        let mut extensions = vec![0, 43, 0, 3, 2, 3, 4];
        for name in names {
            let list = vector(&[&[0][..], &vector(name.as_bytes())].concat());
            extensions.extend([&[0, 0][..], &vector(&list)].concat());
        }
        let mut body = vec![3, 3];
        body.extend([7; 32]);
        body.extend([0, 0, 2, 0x13, 1, 1, 0]);
        body.extend(vector(&extensions));
        let length = u32::try_from(body.len()).unwrap().to_be_bytes();
        let message = [&[1, length[1], length[2], length[3]], &body[..]].concat();
        [&[22, 3, 1][..], &vector(&message)].concat()
    }

    #[test]
    fn names() {
        let whole = sample(&["example.org"]);
        assert_eq!(hello(&whole), Ok(Some(Hello { server_name: Some("example.org".into()) })));
        assert_eq!(hello(&sample(&[])), Ok(Some(Hello { server_name: None })));
        assert_eq!(hello(&sample(&["a.test", "b.test"])), Err(HelloError::TwoNames));
        for end in 0..whole.len() {
            assert_eq!(hello(&whole[..end]), Ok(None), "{end}");
        }
        assert_eq!(hello(b"GET / HTTP/1.1\r\n"), Err(HelloError::NotTls));
        assert_eq!(hello(b"SSH-2.0-x"), Err(HelloError::NotTls));
    }

    #[test]
    fn a_message_in_many_records() {
        let whole = sample(&["example.org"]);
        let mut records = Vec::new();
        for piece in whole[5..].chunks(10) {
            records.extend([22, 3, 1, 0, u8::try_from(piece.len()).unwrap()]);
            records.extend(piece);
        }
        assert_eq!(hello(&records).unwrap().unwrap().server_name.as_deref(), Some("example.org"));
    }

    proptest! {
        #[test]
        fn any_bytes_end_in_an_answer(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = hello(&bytes);
            let _ = hello(&[&[22, 3, 1, 0, 190, 1, 0, 0, 186][..], &bytes].concat());
        }

        #[test]
        fn a_damaged_hello_never_names_two(at in 0usize..100, byte: u8) {
            let mut bytes = sample(&["example.org"]);
            let at = at % bytes.len();
            bytes[at] = byte;
            let _ = hello(&bytes);
        }
    }
}
