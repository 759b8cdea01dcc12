//! Searching names and contents, honouring `.gitignore`.

use std::path::Path;

use action::{FileSearch, printable};
use gate::{Authorized, Report};
use grep_regex::RegexMatcherBuilder;
use grep_searcher::{BinaryDetection, SearcherBuilder, sinks};
use ledger::{Outcome, Status};

use crate::FileError;
use crate::list::walk;

/// Most hits of one search.
const MAX_HITS: usize = 200;
/// Longest line shown, in bytes.
const MAX_LINE: usize = 300;
/// Largest file searched, in bytes.
const MAX_SEARCHED: u64 = 64 * 1024 * 1024;

/// What is matched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Query {
    /// Lines of files.
    Content,
    /// Paths.
    Names,
}

/// One match.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hit {
    /// Relative to the workspace.
    pub path: String,
    /// Line number from 1, and the line; `None` when names were searched.
    pub line: Option<(u64, String)>,
}

/// The matches.
#[derive(Debug, Clone, Default)]
pub struct Hits {
    /// At most 200.
    pub hits: Vec<Hit>,
    /// Whether there were more.
    pub truncated: bool,
    /// Files of secrets that were left out.
    pub withheld: Vec<String>,
}

impl Report for Hits {
    fn outcome(&self) -> Outcome {
        Outcome::new(Status::Done).with("hits", self.hits.len())
    }
}

/// Searches beneath a directory, or in one file, for a regular expression (Rust regex syntax, case-insensitive
/// when it has no capital letter).
///
/// # Errors
/// If the pattern is not a regular expression.
pub fn search(authorized: Authorized<FileSearch>, query: Query) -> Result<Hits, FileError> {
    let FileSearch { path: target, pattern } = authorized.into_action();
    let matcher = RegexMatcherBuilder::new()
        .case_smart(true)
        .size_limit(8 << 20)
        .build(&pattern)
        .map_err(|error| FileError::Pattern { why: error.to_string() })?;
    let mut searcher = SearcherBuilder::new().binary_detection(BinaryDetection::quit(0)).build();
    let root = target.root().path();
    let mut hits = Hits::default();
    for entry in walk(&target.absolute()).build().flatten() {
        if !entry.file_type().is_some_and(|kind| kind.is_file()) {
            continue;
        }
        let relative = entry.path().strip_prefix(root).unwrap_or(entry.path());
        match query {
            Query::Names => {
                use grep_matcher::Matcher;
                let shown = printable(relative);
                if matcher.is_match(shown.as_bytes()).unwrap_or(false) {
                    hits.push(Hit { path: shown, line: None });
                }
            }
            Query::Content if policy::is_secret(relative) => hits.withheld.push(printable(relative)),
            Query::Content => {
                if entry.metadata().is_ok_and(|metadata| metadata.len() <= MAX_SEARCHED) {
                    search_file(&mut searcher, &matcher, entry.path(), relative, &mut hits);
                }
            }
        }
        if hits.truncated {
            break;
        }
    }
    Ok(hits)
}

fn search_file(
    searcher: &mut grep_searcher::Searcher,
    matcher: &grep_regex::RegexMatcher,
    path: &Path,
    relative: &Path,
    hits: &mut Hits,
) {
    let shown = printable(relative);
    let sink = sinks::Lossy(|number, line| {
        let mut line = line.trim_end().to_owned();
        if line.len() > MAX_LINE {
            let end = (0..=MAX_LINE).rev().find(|&end| line.is_char_boundary(end)).unwrap_or(0);
            line.truncate(end);
            line.push('\u{2026}');
        }
        hits.push(Hit { path: shown.clone(), line: Some((number, line)) });
        Ok(!hits.truncated)
    });
    // A file that cannot be read (or vanished) has no matches.
    let _ = searcher.search_path(matcher, path, sink);
}

impl Hits {
    fn push(&mut self, hit: Hit) {
        if self.hits.len() == MAX_HITS {
            self.truncated = true;
        } else {
            self.hits.push(hit);
        }
    }
}
