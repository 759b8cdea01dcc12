//! `varvel stage`: what commands wrote into a stage, and deciding about it.

use std::path::Path;

use action::{Root, StagedKind, printable};
use gate::Gate;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::{Value, json};
use workspace::{
    Changes, Committed, Object, Recovered, Stage, StageError, StageInfo, StageState, StagedPath,
};

use crate::args::StageVerb;
use crate::exit::{Exit, Failure};
use crate::home::{Home, short};
use crate::terminal::{self, BAD, BOLD, DIM, GOOD, WARN, styled};
use crate::{approve, sessions};

/// Paths that are listed before a question; the rest are counted.
const SHOWN: usize = 60;
/// Lines of the diff that are shown before a question.
const DIFF_LINES: usize = 200;
/// Characters of a path, a note or a reason that are shown.
const WIDTH: usize = 200;

/// What becomes of a stage when its command has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Conclude {
    /// Ask the person at the terminal; where there is none, keep it.
    Ask,
    /// Commit it.
    Commit,
    /// Drop it.
    Drop,
    /// Keep it for later.
    Keep,
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Concluded {
    /// The command changed nothing; the stage is gone.
    Nothing,
    /// It is in the workspace; the stage is gone.
    Committed(Committed),
    /// It is gone.
    Dropped,
    /// It waits under this identifier.
    Kept(String),
}

pub(crate) async fn stage(verb: StageVerb) -> Result<Exit, Failure> {
    let home = Home::find()?;
    match verb {
        StageVerb::List { json } => list(&home, json)?,
        StageVerb::Show { id, json } => show(&home, &id, json)?,
        StageVerb::Commit { id, without_refused } => commit_by_hand(&home, &id, without_refused).await?,
        StageVerb::Drop { id } => drop_by_hand(&home, &id)?,
    }
    Ok(Exit::DONE)
}

/// Shows what a command changed and decides about it. All of it goes to standard error: standard output is the
/// command's.
///
/// # Errors
/// If it cannot be read or committed; then it is kept.
pub(crate) async fn conclude(
    gate: &Gate,
    stage: Stage,
    root: &Root,
    how: Conclude,
) -> Result<Concluded, Failure> {
    stage.ended()?;
    let mut changes = stage.changes()?;
    if changes.is_empty() {
        stage.drop_changes()?;
        terminal::errln(&styled(DIM, "The command changed nothing."));
        return Ok(Concluded::Nothing);
    }
    for line in overview(&changes, SHOWN) {
        terminal::errln(&line);
    }
    let asked = how == Conclude::Ask;
    let how = match how {
        Conclude::Ask if approve::somebody_is_there() => {
            for line in diff(&changes, DIFF_LINES, stage.id()) {
                terminal::errln(&line);
            }
            ask(&changes).await
        }
        Conclude::Ask => Conclude::Keep,
        told => told,
    };
    match how {
        Conclude::Commit => {
            // At the terminal, this was part of the question. Otherwise nobody said so, and the commit is refused.
            if asked && !changes.refused.is_empty() {
                stage.leave_out_refused()?;
                changes = stage.changes()?;
            }
            let committed = commit(gate, &stage, root, &changes).await.inspect_err(|_| kept(stage.id()))?;
            terminal::errln(&done(&committed));
            Ok(Concluded::Committed(committed))
        }
        Conclude::Drop => {
            stage.drop_changes()?;
            terminal::errln("Dropped. The workspace is as it was.");
            Ok(Concluded::Dropped)
        }
        Conclude::Keep | Conclude::Ask => {
            let id = stage.id().to_owned();
            kept(&id);
            Ok(Concluded::Kept(id))
        }
    }
}

/// Says where it is.
pub(super) fn kept(id: &str) {
    terminal::errln(&format!("Kept as stage {id}: varvel stage commit {id}, or varvel stage drop {id}"));
}

/// What the person at the terminal says; nothing at all means that it is kept.
async fn ask(changes: &Changes) -> Conclude {
    let commit = match (changes.conflicts.is_empty(), changes.refused.is_empty()) {
        (false, _) => None,
        (true, true) => Some("[c] commit"),
        (true, false) => Some("[c] commit without what is refused"),
    };
    loop {
        let choices = [commit, Some("[d] drop"), Some("[k] keep for later: ")];
        let choices: Vec<_> = choices.into_iter().flatten().collect();
        terminal::err(&styled(BOLD, choices.join("  ")));
        let Ok(Some(line)) = tokio::task::spawn_blocking(approve::read_line).await else {
            return Conclude::Keep;
        };
        if let Some(answer) = parse(&line, commit.is_some()) {
            return answer;
        }
    }
}

/// `None` when the question must be asked again.
fn parse(line: &str, can_commit: bool) -> Option<Conclude> {
    match line.trim().to_ascii_lowercase().as_str() {
        "c" | "commit" if can_commit => Some(Conclude::Commit),
        "d" | "drop" => Some(Conclude::Drop),
        "k" | "keep" => Some(Conclude::Keep),
        _ => None,
    }
}

async fn commit(gate: &Gate, stage: &Stage, root: &Root, changes: &Changes) -> Result<Committed, Failure> {
    let action = changes.to_action(&root.resolve(".").map_err(Failure::usage)?);
    let committed = gate.perform(action, async |authorized| stage.commit(authorized)).await?;
    Ok(committed.value)
}

fn list(home: &Home, as_json: bool) -> Result<(), Failure> {
    for info in Stage::list(home.state())? {
        if as_json {
            terminal::outln(&about(&info).to_string());
            continue;
        }
        let state = match info.state {
            StageState::Running => "running or cut short",
            StageState::Pending => "pending",
            _ => "committing, or cut short while committing",
        };
        terminal::outln(&format!(
            "{}  {}  {state}  {}  {}",
            styled(BOLD, &info.id),
            time(info.begun()),
            terminal::line(&short(Path::new(&info.workspace)), WIDTH),
            styled(DIM, terminal::line(&info.note, WIDTH))
        ));
    }
    Ok(())
}

fn show(home: &Home, id: &str, as_json: bool) -> Result<(), Failure> {
    let (stage, _) = open(home, id)?;
    let changes = stage.changes()?;
    if as_json {
        let info = Stage::info(home.state(), id)?;
        terminal::outln(&details(about(&info), &changes).to_string());
        return Ok(());
    }
    overview(&changes, usize::MAX).iter().for_each(|line| terminal::outln(line));
    diff(&changes, usize::MAX, id).iter().for_each(|line| terminal::outln(line));
    Ok(())
}

async fn commit_by_hand(home: &Home, id: &str, without_refused: bool) -> Result<(), Failure> {
    let (stage, root) = open(home, id)?;
    let about = json!({ "workspace": printable(root.path()), "stage": id });
    let (gate, _) = sessions::by_hand(home, about)?;
    if without_refused {
        let count = stage.leave_out_refused()?;
        terminal::errln(&format!("{count} left out"));
    }
    let changes = stage.changes()?;
    let committed = commit(&gate, &stage, &root, &changes).await;
    let exit = committed.as_ref().map_or_else(|failure| failure.exit, |_| Exit::DONE);
    gate.end(json!({ "exit": exit.code() }))?;
    terminal::errln(&done(&committed?));
    Ok(())
}

fn drop_by_hand(home: &Home, id: &str) -> Result<(), Failure> {
    match Stage::discard(home.state(), id) {
        // What is half in the workspace is taken back first.
        Err(StageError::Interrupted { .. }) => {
            drop(open(home, id)?);
            match Stage::discard(home.state(), id) {
                Err(StageError::NoSuchStage { .. }) => Ok(()),
                dropped => Ok(dropped?),
            }
        }
        dropped => Ok(dropped?),
    }
}

/// Opens a stage and its workspace. A commit that was cut short is taken back, or finished, first.
fn open(home: &Home, id: &str) -> Result<(Stage, Root), Failure> {
    let info = Stage::info(home.state(), id)?;
    let root = home.workspace(Path::new(&info.workspace))?;
    let stage = match Stage::open(home.state(), id, &root) {
        Err(StageError::Interrupted { .. }) => {
            match Stage::recover(home.state(), id, &root)? {
                Recovered::Completed => {
                    return Err(Failure::failed(format!(
                        "stage {id} was in the workspace already when its commit was cut short; what was left of it is removed"
                    )));
                }
                _ => terminal::warn("a commit of this stage was cut short; it is taken back"),
            }
            Stage::open(home.state(), id, &root)?
        }
        opened => opened?,
    };
    Ok((stage, root))
}

/// The paths, as `git diff --stat` would show them, with what a person should know first.
fn overview(changes: &Changes, most: usize) -> Vec<String> {
    let (created, changed, deleted) = changes.counts();
    let mut lines = vec![format!(
        "{} {created} new, {changed} changed, {deleted} deleted, {}",
        styled(BOLD, "staged:"),
        terminal::bytes(changes.bytes)
    )];
    // Those that matter most are never cut off.
    let (trusted, plain): (Vec<_>, Vec<_>) = changes.list.iter().partition(|change| change.host_trusted);
    let most = most.max(trusted.len());
    lines.extend(trusted.iter().chain(&plain).take(most).map(|change| row(change)));
    if changes.list.len() > most {
        lines.push(styled(DIM, format!("  ... and {} more", changes.list.len() - most)));
    }
    if !trusted.is_empty() {
        let text = format!("  {} of them are run or trusted outside the sandbox", trusted.len());
        lines.push(styled(WARN, text));
    }
    for path in &changes.stripped {
        let path = terminal::line(&printable(path), WIDTH);
        lines.push(styled(WARN, format!("  {path}: its set-user-id or set-group-id bit is left out")));
    }
    for refusal in &changes.refused {
        let text = format!("  refused  {}: {}", printable(&refusal.path), refusal.why);
        lines.push(styled(BAD, terminal::line(&text, WIDTH)));
    }
    for path in &changes.conflicts {
        let text = format!("  conflict  {} has changed in the workspace since", printable(path));
        lines.push(styled(BAD, terminal::line(&text, WIDTH)));
    }
    lines
}

fn row(change: &StagedPath) -> String {
    let path = terminal::line(&printable(&change.path), WIDTH);
    let sign = match change.kind {
        StagedKind::Created => styled(GOOD, "+"),
        StagedKind::Deleted => styled(BAD, "-"),
        StagedKind::Changed => "~".to_owned(),
    };
    let is_directory =
        matches!(change.after.as_ref().or(change.before.as_ref()), Some(Object::Directory { .. }));
    let counts = match (change.lines, change.after.as_ref()) {
        (Some((added, removed)), _) => {
            format!("  {} {}", styled(GOOD, format!("+{added}")), styled(BAD, format!("-{removed}")))
        }
        (None, Some(Object::File { size, .. })) => format!("  {}", terminal::bytes(*size)),
        _ => String::new(),
    };
    let mark = if change.host_trusted { styled(WARN, "  runs on the host") } else { String::new() };
    format!("  {sign} {path}{}{counts}{mark}", if is_directory { "/" } else { "" })
}

fn diff(changes: &Changes, most: usize, id: &str) -> Vec<String> {
    let count = changes.diff.lines().count();
    let mut lines: Vec<_> = changes.diff.lines().take(most).map(approve::diff_line).collect();
    if count > most {
        let text = format!("  ... {} more lines: varvel stage show {id}", count - most);
        lines.push(styled(DIM, text));
    }
    lines
}

fn done(committed: &Committed) -> String {
    let Committed { created, changed, deleted, .. } = committed;
    format!("Committed: {created} new, {changed} changed, {deleted} deleted.")
}

fn about(info: &StageInfo) -> Value {
    json!({
        "id": info.id, "workspace": info.workspace, "begun": info.begun(), "state": info.state, "note": info.note,
    })
}

fn details(mut about: Value, changes: &Changes) -> Value {
    let paths = |list: &[std::path::PathBuf]| list.iter().map(|path| printable(path)).collect::<Vec<_>>();
    let list: Vec<_> = changes
        .list
        .iter()
        .map(|change| {
            json!({
                "path": printable(&change.path), "kind": change.kind, "host_trusted": change.host_trusted,
                "lines_added": change.lines.map(|lines| lines.0),
                "lines_removed": change.lines.map(|lines| lines.1),
            })
        })
        .collect();
    let refused: Vec<_> = changes
        .refused
        .iter()
        .map(|refusal| json!({ "path": printable(&refusal.path), "why": refusal.why }))
        .collect();
    about["changes"] = list.into();
    about["refused"] = refused.into();
    about["stripped"] = paths(&changes.stripped).into();
    about["conflicts"] = paths(&changes.conflicts).into();
    about["bytes"] = changes.bytes.into();
    about["digest"] = changes.digest.to_string().into();
    about["diff"] = changes.diff.clone().into();
    about
}

/// Seconds since 1970 for people.
fn time(seconds: i64) -> String {
    Timestamp::from_second(seconds).map_or_else(
        |_| seconds.to_string(),
        |time| time.to_zoned(TimeZone::UTC).strftime("%Y-%m-%d %H:%M:%S").to_string(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers() {
        assert_eq!(parse(" C\n", true), Some(Conclude::Commit));
        assert_eq!(parse("commit", false), None, "there is a conflict");
        assert_eq!(parse("drop", true), Some(Conclude::Drop));
        assert_eq!(parse("k", true), Some(Conclude::Keep));
        for again in ["", "y", "no"] {
            assert_eq!(parse(again, true), None);
        }
    }
}
