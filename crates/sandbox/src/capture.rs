//! Output of any length in bounded memory: the beginning and the end are kept, the middle is counted.

use std::collections::VecDeque;

/// Called with output as it arrives, to show it.
pub type Tap<'a> = &'a mut dyn FnMut(&[u8]);

/// What a command printed, standard output and error in the order they were written.
#[derive(Debug, Clone, Default)]
pub struct Captured {
    head: Vec<u8>,
    tail: VecDeque<u8>,
    limit: usize,
    total: u64,
}

impl Captured {
    /// Keeps about `limit` bytes: a quarter from the beginning, the rest from the end.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { limit, ..Self::default() }
    }

    pub(crate) fn push(&mut self, mut bytes: &[u8]) {
        self.total += bytes.len() as u64;
        let head_room = (self.limit / 4).saturating_sub(self.head.len());
        let (first, rest) = bytes.split_at(head_room.min(bytes.len()));
        self.head.extend_from_slice(first);
        bytes = rest;
        let tail_limit = self.limit - self.limit / 4;
        if bytes.len() > tail_limit {
            bytes = &bytes[bytes.len() - tail_limit..];
        }
        let excess = (self.tail.len() + bytes.len()).saturating_sub(tail_limit);
        self.tail.drain(..excess.min(self.tail.len()));
        self.tail.extend(bytes);
    }

    /// Bytes printed in all.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Bytes left out of the middle.
    #[must_use]
    pub fn omitted(&self) -> u64 {
        self.total - (self.head.len() + self.tail.len()) as u64
    }

    /// As text: bytes that are not UTF-8 become U+FFFD, and a note stands where something was left out.
    #[must_use]
    pub fn text(&self) -> String {
        let mut bytes = self.head.clone();
        if self.omitted() > 0 {
            bytes.extend_from_slice(format!("\n[... {} bytes left out ...]\n", self.omitted()).as_bytes());
        }
        bytes.extend(&self.tail);
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_output_is_whole() {
        let mut captured = Captured::new(100);
        captured.push(b"hello ");
        captured.push(b"world");
        assert_eq!((captured.text().as_str(), captured.omitted()), ("hello world", 0));
    }

    #[test]
    fn long_output_keeps_both_ends_in_bounded_memory() {
        for chunk in [1, 7, 1000] {
            let mut captured = Captured::new(80);
            let all: Vec<u8> = (0..1000u32).map(|n| b'a' + u8::try_from(n % 26).unwrap()).collect();
            all.chunks(chunk).for_each(|part| captured.push(part));
            assert_eq!((captured.head.len(), captured.tail.len()), (20, 60));
            assert_eq!(captured.omitted(), 920);
            assert!(captured.text().contains("920 bytes left out"));
            assert_eq!(captured.tail.iter().copied().collect::<Vec<_>>(), all[940..]);
        }
    }
}
