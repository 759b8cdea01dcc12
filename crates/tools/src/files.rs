//! list, read, search, write, delete.

use action::{Effect, FileDelete, FileList, FileRead, FileSearch, FileWrite, Target};
use redact::Source;
use serde::Deserialize;
use serde_json::Value;
use workspace::{Content, Hits, Query};

use crate::args::parse;
use crate::toolbox::{Failure, Note, Outcome, Toolbox, clip};

/// Lines that `read` shows when no range is given.
const DEFAULT_LINES: usize = 800;

#[derive(Deserialize)]
struct ListArgs {
    #[serde(default)]
    path: String,
    depth: Option<usize>,
}

#[derive(Deserialize)]
struct ReadArgs {
    path: String,
    start: Option<usize>,
    end: Option<usize>,
}

#[derive(Deserialize)]
struct SearchArgs {
    pattern: String,
    #[serde(default)]
    path: String,
    #[serde(default)]
    names: bool,
}

#[derive(Deserialize)]
struct WriteArgs {
    path: String,
    content: String,
}

#[derive(Deserialize)]
struct DeleteArgs {
    path: String,
}

impl Toolbox<'_> {
    pub(crate) async fn list(&self, arguments: &Value) -> Result<Outcome, Failure> {
        let args: ListArgs = parse("list", arguments)?;
        let effect = FileList { path: self.target(&args.path)? };
        let what = effect.action().summary();
        let depth = args.depth.unwrap_or(2).clamp(1, 20);
        let listing = self
            .gate
            .perform(effect, async |authorized| workspace::list(authorized, depth))
            .await
            .map_err(|error| Failure::from_gate(what, error))?
            .value;
        let mut text: String = listing
            .entries
            .iter()
            .map(|entry| match entry.size {
                Some(size) => format!("{} ({size} bytes)\n", entry.path),
                None => format!("{}\n", entry.path),
            })
            .collect();
        if text.is_empty() {
            text.push_str("(empty)\n");
        }
        if listing.truncated {
            text.push_str("[there is more; list a subdirectory or use search with names=true]\n");
        }
        let brief = format!("{} entries", listing.entries.len());
        let (shown, cut) = clip(&text, self.limit);
        let text = if cut {
            format!("{shown}[there is more; use a smaller depth or a subdirectory]\n")
        } else {
            text
        };
        Ok(self.done(&text, Source::Other, brief, None))
    }

    pub(crate) async fn read(&self, arguments: &Value) -> Result<Outcome, Failure> {
        let args: ReadArgs = parse("read", arguments)?;
        let target = self.target(&args.path)?;
        let path = target.display();
        let content = self.content(&target).await?;
        let Some(text) = content.text() else {
            return Err(Failure::Told(format!(
                "{path} is a binary file ({} bytes); it cannot be shown as text",
                content.bytes.len()
            )));
        };
        let total = text.lines().count();
        let first = args.start.unwrap_or(1).max(1);
        let last = args.end.unwrap_or(first.saturating_add(DEFAULT_LINES - 1)).min(total);
        if total == 0 {
            return Ok(self.done("(the file is empty)\n", Source::Other, "empty".into(), None));
        }
        if first > total || last < first {
            return Err(Failure::Told(format!(
                "{path} has {total} lines; lines {first} to {last} do not exist"
            )));
        }
        // Secrets first: a key that spans lines must be seen whole.
        let clean = self.redactor.clean(text, Source::File(&path));
        let lines = clean.as_str().lines().enumerate().skip(first - 1).take(last - first + 1);
        let mut shown: String = lines.map(|(index, line)| format!("{}\t{line}\n", index + 1)).collect();
        let (clipped, cut) = clip(&shown, self.limit);
        if cut {
            let lines = clipped.lines().count();
            shown = format!(
                "{clipped}[cut here; {path} has {total} lines: go on with start={}]\n",
                first + lines
            );
        } else if last < total {
            shown.push_str(&format!("[{path} has {total} lines: go on with start={}]\n", last + 1));
        }
        let brief = format!("lines {first} to {last} of {total}");
        Ok(self.done(&shown, Source::File(&path), brief, None))
    }

    pub(crate) async fn search(&self, arguments: &Value) -> Result<Outcome, Failure> {
        let args: SearchArgs = parse("search", arguments)?;
        let path = self.target(&args.path)?;
        let mut text = String::new();
        let hits = if args.names {
            let names = self.find(path.clone(), &args.pattern, Query::Names).await?;
            if names.hits.is_empty() {
                // Small models ask for names and mean contents.
                text.push_str("no path matches; lines that do:\n");
                self.find(path, &args.pattern, Query::Content).await?
            } else {
                names
            }
        } else {
            self.find(path, &args.pattern, Query::Content).await?
        };
        for hit in &hits.hits {
            let line = match &hit.line {
                // Each hit is cleaned as a part of its own file, so that it can be written back there.
                Some((number, line)) => {
                    format!("{}:{number}: {}\n", hit.path, self.redactor.clean(line, Source::File(&hit.path)))
                }
                None => format!("{}\n", hit.path),
            };
            text.push_str(&line);
        }
        if hits.hits.is_empty() {
            text.push_str("no matches\n");
        }
        if !hits.withheld.is_empty() {
            text.push_str(&format!("[not searched, files of secrets: {}]\n", hits.withheld.join(", ")));
        }
        if hits.truncated {
            text.push_str("[there is more; use a more specific pattern or path]\n");
        }
        let (shown, cut) = clip(&text, self.limit);
        let text = if cut { format!("{shown}[there is more; use a more specific pattern]\n") } else { text };
        Ok(self.done(
            &text,
            Source::Other,
            format!("{} match{}", hits.hits.len(), if hits.hits.len() == 1 { "" } else { "es" }),
            None,
        ))
    }

    async fn find(&self, path: Target, pattern: &str, query: Query) -> Result<Hits, Failure> {
        let effect = FileSearch { path, pattern: pattern.to_owned() };
        let what = effect.action().summary();
        let found = self.gate.perform(effect, async |authorized| workspace::search(authorized, query)).await;
        Ok(found.map_err(|error| Failure::from_gate(what, error))?.value)
    }

    pub(crate) async fn write(&self, arguments: &Value) -> Result<Outcome, Failure> {
        let args: WriteArgs = parse("write", arguments)?;
        let target = self.target_or_new(&args.path)?;
        let before = match target.kind() {
            Some(_) => Some(self.content(&target).await?),
            None => None,
        };
        self.replace(target, before, &args.content).await
    }

    pub(crate) async fn delete(&self, arguments: &Value) -> Result<Outcome, Failure> {
        let args: DeleteArgs = parse("delete", arguments)?;
        let effect = FileDelete { path: self.target(&args.path)? };
        let what = effect.action().summary();
        let deleted = self
            .gate
            .perform(effect, async |authorized| workspace::delete(authorized))
            .await
            .map_err(|error| Failure::from_gate(what, error))?
            .value;
        let text = format!("deleted {}\n", deleted.path);
        Ok(self.done(&text, Source::Other, "deleted".into(), Some(Note::Deleted(deleted))))
    }

    /// Reads a whole file through the gate.
    pub(crate) async fn content(&self, target: &Target) -> Result<Content, Failure> {
        let effect = FileRead { path: target.clone() };
        let what = effect.action().summary();
        let read = self.gate.perform(effect, async |authorized| workspace::read(authorized)).await;
        Ok(read.map_err(|error| Failure::from_gate(what, error))?.value)
    }

    /// Replaces a file's content, `after` being what the model wrote.
    pub(crate) async fn replace(
        &self,
        target: Target,
        before: Option<Content>,
        after: &str,
    ) -> Result<Outcome, Failure> {
        let path = target.display();
        let after = self.redactor.restore(after, &path)?;
        let old = before.as_ref().map(|content| content.bytes.as_slice());
        if old == Some(after.as_bytes()) {
            return Err(Failure::Told(format!(
                "{path} already has exactly this content; nothing was changed"
            )));
        }
        let effect = FileWrite {
            diff: workspace::unified(&path, old, Some(after.as_bytes())),
            replaces: before.as_ref().map(|content| content.digest),
            content: after.into_bytes(),
            path: target,
        };
        let what = effect.action().summary();
        let (added, removed) = line_counts(&effect.diff);
        let change = self
            .gate
            .perform(effect, async |authorized| workspace::write(authorized))
            .await
            .map_err(|error| Failure::from_gate(what, error))?
            .value;
        let verb = if change.before.is_some() { "changed" } else { "created" };
        let text = format!("{verb} {path} (+{added} -{removed} lines)\n");
        Ok(self.done(&text, Source::Other, format!("+{added} -{removed}"), Some(Note::Changed(change))))
    }
}

fn line_counts(diff: &str) -> (usize, usize) {
    let count = |sign: char, header: &str| {
        diff.lines().filter(|line| line.starts_with(sign) && !line.starts_with(header)).count()
    };
    (count('+', "+++ "), count('-', "--- "))
}

impl From<String> for Failure {
    fn from(message: String) -> Self {
        Self::Told(message)
    }
}
