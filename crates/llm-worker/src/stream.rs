//! From pieces of bytes to pieces of text: characters stay whole, and nothing of a stop text is shown.

/// Collects the bytes of tokens and gives out text that is sure.
#[derive(Debug)]
pub(crate) struct Stream<'a> {
    stops: &'a [String],
    /// Bytes that are not yet given out.
    held: Vec<u8>,
    stopped: bool,
}

impl<'a> Stream<'a> {
    pub(crate) fn new(stops: &'a [String]) -> Self {
        Self { stops, held: Vec::new(), stopped: false }
    }

    /// Whether a stop text has come.
    pub(crate) fn stopped(&self) -> bool {
        self.stopped
    }

    /// Takes the bytes of one token; returns text that can be shown now.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> String {
        if self.stopped {
            return String::new();
        }
        self.held.extend_from_slice(bytes);
        let found = self
            .stops
            .iter()
            .filter(|stop| !stop.is_empty())
            .filter_map(|stop| find(&self.held, stop.as_bytes()))
            .min();
        if let Some(at) = found {
            self.stopped = true;
            self.held.truncate(at);
            return take(&mut self.held, at);
        }
        let sure = self.held.len() - self.tail();
        take(&mut self.held, sure)
    }

    /// The rest, when no more bytes come.
    pub(crate) fn finish(mut self) -> String {
        let all = self.held.len();
        take(&mut self.held, all)
    }

    /// Bytes at the end that may be the beginning of a stop text or of a character.
    fn tail(&self) -> usize {
        let of_stop = self.stops.iter().map(|stop| overlap(&self.held, stop.as_bytes())).max().unwrap_or(0);
        of_stop.max(incomplete(&self.held))
    }
}

fn take(held: &mut Vec<u8>, count: usize) -> String {
    let sure: Vec<u8> = held.drain(..count).collect();
    String::from_utf8_lossy(&sure).into_owned()
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

/// Length of the longest end of `text` that is a proper beginning of `stop`.
fn overlap(text: &[u8], stop: &[u8]) -> usize {
    let most = text.len().min(stop.len().saturating_sub(1));
    (1..=most).rev().find(|&n| text.ends_with(&stop[..n])).unwrap_or(0)
}

/// Bytes at the end that begin a UTF-8 character and do not complete it.
fn incomplete(text: &[u8]) -> usize {
    for back in 1..=text.len().min(3) {
        let byte = text[text.len() - back];
        let length = match byte {
            0xC2..=0xDF => 2,
            0xE0..=0xEF => 3,
            0xF0..=0xF4 => 4,
            0x80..=0xBF => continue,
            _ => return 0,
        };
        return if back < length { back } else { 0 };
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn run(text: &str, chunk: usize, stops: &[&str]) -> (String, bool) {
        let stops: Vec<String> = stops.iter().map(|stop| (*stop).to_owned()).collect();
        let mut stream = Stream::new(&stops);
        let mut shown = String::new();
        for piece in text.as_bytes().chunks(chunk) {
            shown += &stream.push(piece);
        }
        let stopped = stream.stopped();
        (shown + &stream.finish(), stopped)
    }

    #[test]
    fn stops_and_keeps_characters_whole() {
        for chunk in 1..8 {
            assert_eq!(run("fn f() {}\n```\nmore", chunk, &["```"]), ("fn f() {}\n".into(), true));
            assert_eq!(run("a `b` ``c`` d", chunk, &["```"]), ("a `b` ``c`` d".into(), false));
            assert_eq!(run("h\u{e9}llo \u{1f600}!", chunk, &[]), ("h\u{e9}llo \u{1f600}!".into(), false));
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_is_the_text_before_the_first_stop(
            text in "[ab`\u{e9}\u{1f600}]{0,40}", stop in "[ab`]{1,3}", chunk in 1usize..6,
        ) {
            let expected = text.split(&stop).next().unwrap_or_default();
            let (shown, stopped) = run(&text, chunk, &[&stop]);
            prop_assert_eq!(shown, expected);
            prop_assert_eq!(stopped, text.contains(&stop));
        }
    }
}
