//! From a failing test's output to the functions that it may come from.
//!
//! Three sources, in this order: frames of the trace outside the tests, the innermost first; functions that the
//! failing test calls; functions that those call.

use std::sync::OnceLock;

use action::{Root, printable};
use regex::Regex;

use super::code::{Function, Language, functions};

/// Most source files that are looked at, and the largest in bytes.
const MAX_FILES: usize = 400;
const MAX_BYTES: u64 = 256 * 1024;
/// Lines of a test outside any function that are taken to belong to a failure.
const LINES_BEFORE: usize = 20;
const LINES_AFTER: usize = 5;
/// Longest function that is shown to a model, in bytes.
const MAX_FUNCTION: usize = 4000;

/// A source file with its functions.
#[derive(Debug)]
pub(crate) struct SourceFile {
    path: String,
    language: Language,
    text: String,
    functions: Vec<Function>,
}

impl SourceFile {
    pub(crate) fn new(path: String, language: Language, text: &str) -> Self {
        Self { functions: functions(language, text), path, language, text: text.to_owned() }
    }

    /// The lines around `line` (from 1), for code that stands in no function.
    fn around(&self, line: usize) -> String {
        let first = line.saturating_sub(LINES_BEFORE);
        self.text.lines().skip(first).take(LINES_BEFORE + LINES_AFTER).collect::<Vec<_>>().join("\n")
    }
}

/// A function that may hold the fault.
#[derive(Debug, Clone)]
pub(crate) struct Candidate {
    pub(crate) path: String,
    pub(crate) language: Language,
    pub(crate) function: Function,
}

/// Source files of the workspace that are not ignored.
pub(crate) fn source_files(root: &Root) -> Vec<String> {
    workspace::paths(root)
        .into_iter()
        .filter(|(path, size)| *size <= MAX_BYTES && Language::of(&printable(path)).is_some())
        .map(|(path, _)| printable(&path))
        .take(MAX_FILES)
        .collect()
}

/// The part of a test's output that says what failed, at most `limit` bytes.
pub(crate) fn relevant(output: &str, limit: usize) -> &str {
    let start = ["FAIL: ", "ERROR: ", "---- ", "--- FAIL", "Traceback", "panicked", "not ok "]
        .iter()
        .filter_map(|sign| output.find(sign))
        .min()
        .map_or(0, |at| output[..at].rfind('\n').map_or(0, |line| line + 1));
    let rest = &output[start..];
    let mut end = rest.len().min(limit);
    while !rest.is_char_boundary(end) {
        end -= 1;
    }
    rest[..end].trim_end()
}

/// Functions that the failure may come from, the likeliest first.
pub(crate) fn rank(files: &[SourceFile], output: &str) -> Vec<Candidate> {
    let mut ranked: Vec<Candidate> = Vec::new();
    let mut add = |file: &SourceFile, function: &Function| {
        let known =
            ranked.iter().any(|c| c.path == file.path && c.function.first_line == function.first_line);
        if !known && !is_test(&file.path, function) && function.text.len() <= MAX_FUNCTION {
            let (path, language, function) = (file.path.clone(), file.language, function.clone());
            ranked.push(Candidate { path, language, function });
        }
    };
    let frames = frames(files, output);
    for (file, function, _) in frames.iter().rev() {
        if let Some(function) = function {
            add(file, function);
        }
    }
    // Code of the tests that the failure went through, and what it calls.
    let mut reached: Vec<String> = Vec::new();
    for (file, function, line) in &frames {
        match function {
            Some(function) if is_test(&file.path, function) => reached.push(function.text.clone()),
            None if is_test_file(&file.path) => reached.push(file.around(*line)),
            _ => {}
        }
    }
    for _ in 0..3 {
        let mut next = Vec::new();
        for caller in &reached {
            for name in called(caller) {
                let callees = files.iter().flat_map(|file| file.functions.iter().map(move |f| (file, f)));
                for (file, function) in callees.filter(|(_, function)| function.name == name) {
                    if function.text != *caller {
                        add(file, function);
                        next.push(function.text.clone());
                    }
                }
            }
        }
        reached = next;
    }
    ranked
}

/// A place that a failure went through: the file, the innermost function around the line, the line.
type Frame<'a> = (&'a SourceFile, Option<&'a Function>, usize);

/// The places in `output` that lie in `files`, in order.
fn frames<'a>(files: &'a [SourceFile], output: &str) -> Vec<Frame<'a>> {
    let mut found = Vec::new();
    for (path, line) in places(output) {
        let file = files.iter().find(|file| path == file.path || path.ends_with(&format!("/{}", file.path)));
        let Some(file) = file else { continue };
        found.push((file, file.functions.iter().rfind(|function| function.contains(line)), line));
    }
    found
}

/// Places (`path`, line from 1) that an output names.
fn places(output: &str) -> Vec<(String, usize)> {
    static PLACE: OnceLock<Option<Regex>> = OnceLock::new();
    let pattern = r#"File "([^"\n]+)", line (\d+)|([\w./\\-]+\.(?:py|rs|m?js|cjs|jsx|go)):(\d+)"#;
    let Some(regex) = PLACE.get_or_init(|| Regex::new(pattern).ok()) else { return Vec::new() };
    regex
        .captures_iter(output)
        .filter_map(|found| {
            let path = found.get(1).or(found.get(3))?.as_str();
            let line = found.get(2).or(found.get(4))?.as_str().parse().ok()?;
            Some((path.trim_start_matches("./").to_owned(), line))
        })
        .take(200)
        .collect()
}

/// Names that are called in a piece of code, in order, once each.
fn called(text: &str) -> Vec<String> {
    static CALL: OnceLock<Option<Regex>> = OnceLock::new();
    let Some(regex) = CALL.get_or_init(|| Regex::new(r"([A-Za-z_]\w*)\s*\(").ok()) else { return Vec::new() };
    let mut names = Vec::new();
    for found in regex.captures_iter(text) {
        let name = found[1].to_owned();
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// Whether a function belongs to the tests, which are right by definition.
fn is_test(path: &str, function: &Function) -> bool {
    function.test || function.name.starts_with("test_") || is_test_file(path)
}

fn is_test_file(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    name.starts_with("test")
        || name.contains("_test.")
        || name.contains(".test.")
        || name.contains(".spec.")
        || path.split('/').any(|part| part == "tests" || part == "test" || part == "__tests__")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, text: &str) -> SourceFile {
        SourceFile::new(path.into(), Language::of(path).unwrap(), text)
    }

    fn names(candidates: &[Candidate]) -> Vec<&str> {
        candidates.iter().map(|candidate| candidate.function.name.as_str()).collect()
    }

    #[test]
    fn frames_first_then_what_the_test_calls() {
        let files = [
            file(
                "shop.py",
                "def total(x):\n    return add(x)\n\ndef add(x):\n    return x\n\ndef unused():\n    pass\n",
            ),
            file(
                "test_shop.py",
                "class T:\n    def test_total(self):\n        self.assertEqual(total(1), 2)\n",
            ),
        ];
        let output =
            "FAIL: test_total\n  File \"/w/test_shop.py\", line 3, in test_total\nAssertionError: 1 != 2\n";
        assert_eq!(names(&rank(&files, output)), ["total", "add"]);
        let crash =
            "  File \"/w/test_shop.py\", line 3, in t\n  File \"/w/shop.py\", line 5, in add\nTypeError\n";
        assert_eq!(names(&rank(&files, crash)), ["add", "total"]);
        assert!(rank(&files, "nothing useful").is_empty());
    }

    #[test]
    fn tests_beside_the_code_and_outside_functions() {
        let rust = file(
            "src/lib.rs",
            "pub fn add(a: u8) -> u8 {\n    a\n}\n\n#[cfg(test)]\nmod tests {\n    use super::*;\n\n    #[test]\n    fn it_works() {\n        assert_eq!(add(1), 2);\n    }\n}\n",
        );
        assert_eq!(names(&rank(&[rust], "thread 'tests::it_works' panicked at src/lib.rs:11:9:\n")), ["add"]);
        let files = [
            file(
                "clamp.js",
                "const clamp = (v) => {\n  return low(v);\n};\nfunction low(v) {\n  return v;\n}\n",
            ),
            file("test.js", "const { clamp } = require('./clamp');\nassert(clamp(5) === 3);\n"),
        ];
        assert_eq!(names(&rank(&files, "at Object.<anonymous> (/w/test.js:2:8)\n")), ["clamp", "low"]);
    }

    #[test]
    fn the_relevant_part_is_short_and_starts_at_the_failure() {
        let output = format!("{}\nFAIL: test_x\nTraceback\n{}", "noise\n".repeat(100), "y".repeat(5000));
        let shown = relevant(&output, 1400);
        assert!(shown.starts_with("FAIL: test_x") && shown.len() <= 1400);
        assert_eq!(relevant("", 10), "");
    }

    #[test]
    fn places_of_several_languages() {
        let text = "src/a.rs:10:5\n./b.go:7\n  File \"c.py\", line 3\nat x (/w/d.js:9:1)";
        let found = places(text);
        assert_eq!(found.len(), 4);
        assert_eq!(found[1], ("b.go".to_owned(), 7));
    }
}
