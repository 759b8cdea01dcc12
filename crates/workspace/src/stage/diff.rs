//! Staged changes as one unified diff, bounded.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use action::printable;

use super::changes::{Change, Object};
use super::{Stage, place};
use crate::unified;

/// About how much diff is made, in bytes.
const MAX_DIFF: usize = 400_000;
/// Largest file of which a diff is made, in bytes.
const MAX_FILE: u64 = 256 * 1024;
/// Most content that is read for it, in bytes.
const MAX_READ: usize = 32 << 20;

/// Makes the diff and fills in the numbers of lines.
pub(super) fn diff(stage: &Stage, list: &mut [Change]) -> String {
    let Ok(upper) = stage.upper_handle() else { return String::new() };
    let Ok(lower) = place::directory(stage.root.handle(), Path::new("")) else { return String::new() };
    let mut sides = Sides { upper, lower, read: 0 };
    let mut text = String::new();
    let mut left_out = 0usize;
    for change in list {
        if text.len() >= MAX_DIFF || sides.read >= MAX_READ {
            left_out += 1;
            continue;
        }
        let part = sides.one(change);
        if text.len() + part.len() > MAX_DIFF + MAX_DIFF / 4 {
            left_out += 1;
        } else {
            text.push_str(&part);
        }
    }
    if left_out > 0 {
        text.push_str(&format!("(the diff of {left_out} more paths is left out)\n"));
    }
    text
}

struct Sides {
    upper: OwnedFd,
    lower: OwnedFd,
    read: usize,
}

/// One side of a diff.
enum Content {
    /// Nothing with content is there.
    Nothing,
    Text(Vec<u8>),
    Binary(u64),
    TooLarge(u64),
    Unreadable,
}

impl Sides {
    fn one(&mut self, change: &mut Change) -> String {
        let path = printable(&change.path);
        let mut text = header(change, &path);
        let old = content(&self.lower, &change.path, change.before.as_ref(), &mut self.read);
        let new = content(&self.upper, &change.path, change.after.as_ref(), &mut self.read);
        match (&old, &new) {
            (Content::Nothing, Content::Nothing) => {}
            (Content::Nothing | Content::Text(_), Content::Nothing | Content::Text(_)) => {
                let diff = unified(&path, old.text(), new.text());
                let count = |sign: char| diff.lines().skip(2).filter(|line| line.starts_with(sign)).count();
                change.lines = Some((count('+'), count('-')));
                text.push_str(&diff);
            }
            _ => {
                text.push_str(&format!("--- {}\n+++ {}\n", old.name("a", &path), new.name("b", &path)));
                text.push_str(&format!("({} -> {})\n", old.describe(), new.describe()));
            }
        }
        text
    }
}

/// What is not content: modes, links, directories.
fn header(change: &Change, path: &str) -> String {
    let words = |object: &Object| match object {
        Object::File { mode, .. } => format!("file, mode {mode:04o}"),
        Object::Directory { mode } => format!("directory, mode {mode:04o}"),
        Object::Link { target } => format!("link to {}", printable(target)),
        Object::Special => "special file".to_owned(),
    };
    match (&change.before, &change.after) {
        (Some(Object::File { mode: a, .. }), Some(Object::File { mode: b, .. })) if a == b => String::new(),
        (None, Some(Object::File { mode, .. })) if mode & 0o111 == 0 => String::new(),
        (Some(Object::File { .. }), None) => String::new(),
        (None, Some(after)) => format!("new {path}: {}\n", words(after)),
        (Some(before), None) => format!("deleted {path}: {}\n", words(before)),
        (Some(before), Some(after)) => format!("changed {path}: {} -> {}\n", words(before), words(after)),
        (None, None) => String::new(),
    }
}

fn content(root: &OwnedFd, path: &Path, object: Option<&Object>, read: &mut usize) -> Content {
    let Some(Object::File { size, .. }) = object else { return Content::Nothing };
    if *size > MAX_FILE {
        return Content::TooLarge(*size);
    }
    let Some(bytes) = small(root, path) else { return Content::Unreadable };
    *read += bytes.len();
    if bytes.contains(&0) || std::str::from_utf8(&bytes).is_err() {
        Content::Binary(bytes.len() as u64)
    } else {
        Content::Text(bytes)
    }
}

fn small(root: impl AsFd, path: &Path) -> Option<Vec<u8>> {
    let (parent, name) = place::split(path)?;
    let file = place::file(place::directory(root, parent).ok()?, name).ok()?;
    let mut bytes = Vec::new();
    File::from(file).take(MAX_FILE + 1).read_to_end(&mut bytes).ok()?;
    (bytes.len() as u64 <= MAX_FILE).then_some(bytes)
}

impl Content {
    fn text(&self) -> Option<&[u8]> {
        match self {
            Self::Text(bytes) => Some(bytes),
            _ => None,
        }
    }

    fn name(&self, side: &str, path: &str) -> String {
        match self {
            Self::Nothing => "/dev/null".to_owned(),
            _ => format!("{side}/{path}"),
        }
    }

    fn describe(&self) -> String {
        match self {
            Self::Nothing => "nothing".to_owned(),
            Self::Text(bytes) => format!("text, {} bytes", bytes.len()),
            Self::Binary(size) => format!("binary, {size} bytes"),
            Self::TooLarge(size) => format!("too large to show, {size} bytes"),
            Self::Unreadable => "not readable".to_owned(),
        }
    }
}
