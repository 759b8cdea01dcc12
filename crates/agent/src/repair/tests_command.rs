//! Which command runs a project's tests.

use action::Root;

/// The shell line that runs the tests of the project in `root`, by the files it has.
#[must_use]
pub fn detect(root: &Root) -> Option<String> {
    let has = |path: &str| root.resolve(path).is_ok();
    let any = |directory: &str, test: fn(&str) -> bool| {
        std::fs::read_dir(root.path().join(directory))
            .into_iter()
            .flatten()
            .flatten()
            .take(1000)
            .any(|entry| entry.file_name().to_str().is_some_and(test))
    };
    let python_test = |name: &str| name.starts_with("test") && name.ends_with(".py");
    let command = if has("Cargo.toml") {
        "cargo test --offline --quiet"
    } else if has("go.mod") {
        "go test ./..."
    } else if has("package.json") {
        "npm test --silent"
    } else if has("pytest.ini") || has("conftest.py") || has("tests/conftest.py") {
        "python3 -m pytest -q"
    } else if any(".", python_test) {
        "python3 -m unittest -q"
    } else if any("tests", python_test) && has("tests/__init__.py") {
        "python3 -m unittest discover -q -s tests -t ."
    } else if any("tests", python_test) {
        "python3 -m unittest discover -q -s tests"
    } else if has("Makefile") {
        "make -s test"
    } else {
        return None;
    };
    Some(command.to_owned())
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "tests prepare files")]
mod tests {
    use super::*;

    #[test]
    fn by_the_files_that_are_there() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::open(dir.path()).unwrap();
        assert_eq!(detect(&root), None);
        std::fs::write(dir.path().join("test_a.py"), "").unwrap();
        assert_eq!(detect(&root).unwrap(), "python3 -m unittest -q");
        std::fs::write(dir.path().join("Cargo.toml"), "").unwrap();
        assert_eq!(detect(&root).unwrap(), "cargo test --offline --quiet");
    }
}
