//! Questions for names (RFC 1035), answered without asking anybody: every name gets an address that is made up, and
//! the connection to that address says which name was meant.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr};

use policy::network::normal_host;

/// Longest question in bytes (without extensions, RFC 1035 4.2.1, and a little more for those).
pub(super) const MAX_QUESTION: usize = 1232;
/// Most names that are remembered.
const MAX_NAMES: usize = 65_536;
/// Seconds that an answer may be kept.
const TTL: u32 = 5;
/// The block of made-up addresses, 198.18.0.0/15 (RFC 2544: never on the internet).
const BLOCK: u32 = 0xC612_0000;
const BLOCK_SIZE: u32 = 1 << 17;

/// Why a message gets no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DnsError {
    /// Too short for a header and a question, or longer than 1232 bytes.
    #[error("the message has an impossible length")]
    Length,
    /// It is an answer, not a question; answering it could go on for ever.
    #[error("the message is no question")]
    NotAQuestion,
    /// Anything but one question in plain form.
    #[error("the question is malformed")]
    Malformed,
}

/// One question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    id: [u8; 2],
    recursion: bool,
    /// Bytes of the question as they came.
    raw: Vec<u8>,
    /// The name, where it is a host name.
    pub name: Option<String>,
    /// The type: 1 is A, 28 is AAAA.
    pub kind: u16,
    /// The class: 1 is the internet.
    pub class: u16,
}

/// Reads a question.
///
/// # Errors
/// See [`DnsError`].
pub fn question(bytes: &[u8]) -> Result<Question, DnsError> {
    let (head, rest) = bytes.split_at_checked(12).ok_or(DnsError::Length)?;
    if bytes.len() > MAX_QUESTION {
        return Err(DnsError::Length);
    }
    if head[2] & 0x80 != 0 {
        return Err(DnsError::NotAQuestion);
    }
    // Only standard queries with one question.
    if head[2] & 0x78 != 0 || head[4..6] != [0, 1] {
        return Err(DnsError::Malformed);
    }
    let (mut name, mut at) = (String::new(), 0);
    loop {
        let length = usize::from(*rest.get(at).ok_or(DnsError::Malformed)?);
        at += 1;
        if length == 0 {
            break;
        }
        // Compression makes no sense in a question, and is where parsers break.
        if length > 63 || at + length > 255 {
            return Err(DnsError::Malformed);
        }
        let label = rest.get(at..at + length).ok_or(DnsError::Malformed)?;
        at += length;
        if !name.is_empty() {
            name.push('.');
        }
        // What is not ASCII becomes something that no host name has.
        name.extend(
            label.iter().map(|&byte| if byte.is_ascii() && byte != b'.' { char::from(byte) } else { '?' }),
        );
    }
    let tail = rest.get(at..at + 4).ok_or(DnsError::Malformed)?;
    let literal = name.parse::<IpAddr>().is_ok();
    Ok(Question {
        id: [head[0], head[1]],
        recursion: head[2] & 1 != 0,
        raw: rest[..at + 4].to_vec(),
        name: normal_host(&name).ok().filter(|_| !literal),
        kind: u16::from_be_bytes([tail[0], tail[1]]),
        class: u16::from_be_bytes([tail[2], tail[3]]),
    })
}

/// The answer: an address where one is asked for, an empty answer for other types, "no such name" for what is no
/// host name.
#[must_use]
pub fn answer(question: &Question, names: &mut Names) -> Vec<u8> {
    let wants_address = question.class == 1 && question.kind == 1;
    let (code, address) = match &question.name {
        Some(name) if name == "localhost" => (0, wants_address.then_some(Ipv4Addr::LOCALHOST)),
        Some(name) => (0, wants_address.then(|| names.address_of(name))),
        None => (3, None),
    };
    let mut out = Vec::with_capacity(12 + question.raw.len() + 16);
    out.extend(question.id);
    out.extend([0x80 | u8::from(question.recursion), 0x80 | code]);
    out.extend([0, 1, 0, u8::from(address.is_some()), 0, 0, 0, 0]);
    out.extend(&question.raw);
    if let Some(address) = address {
        // The name of the question again, type A, class IN.
        out.extend([0xC0, 12, 0, 1, 0, 1]);
        out.extend(TTL.to_be_bytes());
        out.extend([0, 4]);
        out.extend(address.octets());
    }
    out
}

/// Which name has which made-up address. The oldest go when there are too many.
#[derive(Debug, Default)]
pub struct Names {
    addresses: HashMap<String, Ipv4Addr>,
    names: HashMap<Ipv4Addr, String>,
    order: VecDeque<Ipv4Addr>,
    next: u32,
}

impl Names {
    /// The address of a name; a new one is made up for a new name.
    pub fn address_of(&mut self, name: &str) -> Ipv4Addr {
        if let Some(&address) = self.addresses.get(name) {
            return address;
        }
        if self.order.len() >= MAX_NAMES
            && let Some(oldest) = self.order.pop_front()
            && let Some(name) = self.names.remove(&oldest)
        {
            self.addresses.remove(&name);
        }
        // Twice as many addresses as names: one that was given up is not used again at once.
        self.next = self.next % (BLOCK_SIZE - 2) + 1;
        let address = Ipv4Addr::from_bits(BLOCK + self.next);
        self.addresses.insert(name.to_owned(), address);
        self.names.insert(address, name.to_owned());
        self.order.push_back(address);
        address
    }

    /// The name that an address was made up for.
    #[must_use]
    pub fn name_of(&self, address: Ipv4Addr) -> Option<&str> {
        self.names.get(&address).map(String::as_str)
    }

    /// Whether an address is of the block of made-up ones.
    #[must_use]
    pub fn is_made_up(address: IpAddr) -> bool {
        match address.to_canonical() {
            IpAddr::V4(address) => address.to_bits() & !(BLOCK_SIZE - 1) == BLOCK,
            IpAddr::V6(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ask(name: &str, kind: u16) -> Vec<u8> {
        let mut bytes = vec![7, 9, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in name.split('.') {
            bytes.push(u8::try_from(label.len()).unwrap());
            bytes.extend(label.as_bytes());
        }
        bytes.push(0);
        bytes.extend(kind.to_be_bytes());
        bytes.extend([0, 1]);
        bytes
    }

    #[test]
    fn addresses_stand_for_names() {
        let mut names = Names::default();
        let asked = question(&ask("Example.org", 1)).unwrap();
        assert_eq!(asked.name.as_deref(), Some("example.org"));
        let answered = answer(&asked, &mut names);
        assert_eq!(answered[..4], [7, 9, 0x81, 0x80]);
        let octets: [u8; 4] = answered[answered.len() - 4..].try_into().unwrap();
        let address = Ipv4Addr::from(octets);
        assert!(Names::is_made_up(IpAddr::V4(address)));
        assert_eq!(names.name_of(address), Some("example.org"));
        assert_eq!(names.address_of("example.org"), address);
        let six = answer(&question(&ask("example.org", 28)).unwrap(), &mut names);
        assert_eq!((six[3] & 15, six[7]), (0, 0), "there is none, and the name exists");
        let odd = answer(&question(&ask("a b", 1)).unwrap(), &mut names);
        assert_eq!(odd[3] & 15, 3);
        assert!(!Names::is_made_up("198.20.0.1".parse().unwrap()));
        assert!(Names::is_made_up("::ffff:198.19.255.1".parse().unwrap()));
    }

    #[test]
    fn messages_that_get_no_answer() {
        assert_eq!(question(&[0; 11]), Err(DnsError::Length));
        assert_eq!(question(&[0; 2000]), Err(DnsError::Length));
        let mut reply = ask("a", 1);
        reply[2] |= 0x80;
        assert_eq!(question(&reply), Err(DnsError::NotAQuestion));
        let mut compressed = ask("a", 1);
        compressed[12] = 0xC0;
        assert_eq!(question(&compressed), Err(DnsError::Malformed));
        let cut = ask("example.org", 1);
        for end in 12..cut.len() {
            assert!(question(&cut[..end]).is_err());
        }
    }

    #[test]
    fn the_oldest_names_go() {
        let mut names = Names::default();
        let first = names.address_of("first.test");
        for number in 0..MAX_NAMES {
            names.address_of(&format!("{number}.test"));
        }
        assert_eq!(names.name_of(first), None);
        assert_eq!(
            (names.order.len(), names.names.len(), names.addresses.len()),
            (MAX_NAMES, MAX_NAMES, MAX_NAMES)
        );
        assert_ne!(names.address_of("first.test"), first);
    }

    proptest! {
        #[test]
        fn any_bytes_end_in_an_answer(bytes in prop::collection::vec(any::<u8>(), 0..120)) {
            let mut names = Names::default();
            for bytes in [bytes.clone(), [&[0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0][..], &bytes].concat()] {
                if let Ok(question) = question(&bytes) {
                    prop_assert!(answer(&question, &mut names).len() <= bytes.len() + 16);
                }
            }
        }
    }
}
