//! Functions of a source file, through tree-sitter: finding them, replacing one, checking the result.

use tree_sitter::{Node, Parser};

/// A language that is understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Language {
    Python,
    Rust,
    JavaScript,
    Go,
}

/// A function of a source file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Function {
    pub(crate) name: String,
    /// Lines that it spans, from 1.
    pub(crate) first_line: usize,
    pub(crate) last_line: usize,
    /// Its text, with the indentation of its first line removed.
    pub(crate) text: String,
    /// That indentation.
    indent: String,
    /// Whether it is marked as a test, or stands in a module that is.
    pub(crate) test: bool,
}

impl Language {
    pub(crate) fn of(path: &str) -> Option<Self> {
        match path.rsplit_once('.')?.1 {
            "py" => Some(Self::Python),
            "rs" => Some(Self::Rust),
            "js" | "mjs" | "cjs" | "jsx" => Some(Self::JavaScript),
            "go" => Some(Self::Go),
            _ => None,
        }
    }

    pub(crate) fn fence(self) -> &'static str {
        self.opening().trim_start_matches('`').trim_end()
    }

    /// The first line of a code block in this language.
    pub(crate) fn opening(self) -> &'static str {
        match self {
            Self::Python => "```python\n",
            Self::Rust => "```rust\n",
            Self::JavaScript => "```javascript\n",
            Self::Go => "```go\n",
        }
    }

    fn parser(self) -> Option<Parser> {
        let language = match self {
            Self::Python => tree_sitter_python::LANGUAGE,
            Self::Rust => tree_sitter_rust::LANGUAGE,
            Self::JavaScript => tree_sitter_javascript::LANGUAGE,
            Self::Go => tree_sitter_go::LANGUAGE,
        };
        let mut parser = Parser::new();
        parser.set_language(&language.into()).ok()?;
        Some(parser)
    }

    fn is_function(self, kind: &str) -> bool {
        match self {
            Self::Python => kind == "function_definition",
            Self::Rust => kind == "function_item",
            Self::JavaScript => {
                matches!(
                    kind,
                    "function_declaration"
                        | "method_definition"
                        | "generator_function_declaration"
                        | "lexical_declaration"
                )
            }
            Self::Go => matches!(kind, "function_declaration" | "method_declaration"),
        }
    }
}

/// All functions of `text`, in order. A function inside another is listed as well.
pub(crate) fn functions(language: Language, text: &str) -> Vec<Function> {
    let tree = language.parser().and_then(|mut parser| parser.parse(text, None));
    let Some(tree) = tree else { return Vec::new() };
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    let mut stack = vec![tree.root_node()];
    while let Some(node) = stack.pop() {
        if language.is_function(node.kind())
            && let Some(function) = function(node, text, &lines)
        {
            found.push(function);
        }
        let mut cursor = node.walk();
        stack.extend(node.children(&mut cursor));
    }
    found.sort_by_key(|function| function.first_line);
    found
}

fn function(node: Node<'_>, text: &str, lines: &[&str]) -> Option<Function> {
    let name = named(node)?.utf8_text(text.as_bytes()).ok()?.to_owned();
    let (first, last) = (node.start_position().row, node.end_position().row);
    let line = lines.get(first)?;
    let indent = line[..line.len() - line.trim_start().len()].to_owned();
    let body = lines.get(first..=last.min(lines.len().saturating_sub(1)))?;
    let dedented: Vec<&str> = body.iter().map(|line| line.strip_prefix(&indent).unwrap_or(line)).collect();
    Some(Function {
        name,
        first_line: first + 1,
        last_line: last + 1,
        text: dedented.join("\n"),
        indent,
        test: marked_as_test(node, text),
    })
}

/// The node that holds a function's name. `const f = () => ...` has it one level deeper.
fn named(node: Node<'_>) -> Option<Node<'_>> {
    if node.kind() != "lexical_declaration" {
        return node.child_by_field_name("name");
    }
    let declarator = node.named_child(0).filter(|_| node.named_child_count() == 1)?;
    let value = declarator.child_by_field_name("value")?;
    matches!(value.kind(), "arrow_function" | "function_expression")
        .then(|| declarator.child_by_field_name("name"))?
}

/// Whether a function, or a module around it, has an attribute such as `#[test]` or `#[cfg(test)]`.
fn marked_as_test(node: Node<'_>, text: &str) -> bool {
    std::iter::successors(Some(node), Node::parent).any(|around| {
        std::iter::successors(around.prev_named_sibling(), Node::prev_named_sibling)
            .take_while(|before| matches!(before.kind(), "attribute_item" | "line_comment"))
            .any(|before| {
                before.kind() == "attribute_item"
                    && before.utf8_text(text.as_bytes()).is_ok_and(|attribute| attribute.contains("test"))
            })
    })
}

/// The code of the first fenced block of an answer; the whole answer when there is no fence.
pub(crate) fn block(answer: &str) -> String {
    let Some((_, rest)) = answer.split_once("```") else { return answer.to_owned() };
    // Text before the fence and an answer that was started inside one look alike; code has no prose before it.
    let rest = rest.split_once('\n').map_or(rest, |(_, rest)| rest);
    let code = rest.split("```").next().unwrap_or(rest);
    if code.trim().is_empty() {
        answer.split("```").next().unwrap_or(answer).to_owned()
    } else {
        code.to_owned()
    }
}

/// `text` with `function` replaced by the function of the same name in `answer`; `None` if the answer has none, is
/// unchanged, or does not parse.
pub(crate) fn splice(language: Language, text: &str, function: &Function, answer: &str) -> Option<String> {
    let proposed = functions(language, answer).into_iter().find(|new| new.name == function.name)?;
    let squeeze = |code: &str| code.split_whitespace().collect::<Vec<_>>().join(" ");
    if squeeze(&proposed.text) == squeeze(&function.text) {
        return None;
    }
    let ending = if text.contains("\r\n") { "\r\n" } else { "\n" };
    let lines: Vec<&str> = text.lines().collect();
    let mut new: Vec<String> = lines[..function.first_line - 1].iter().map(|&line| line.to_owned()).collect();
    new.extend(proposed.text.lines().map(|line| {
        if line.trim().is_empty() { String::new() } else { format!("{}{line}", function.indent) }
    }));
    new.extend(lines.get(function.last_line..)?.iter().map(|&line| line.to_owned()));
    let mut new = new.join(ending);
    if text.ends_with('\n') {
        new.push_str(ending);
    }
    let tree = language.parser()?.parse(&new, None)?;
    (!tree.root_node().has_error()).then_some(new)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PYTHON: &str = "class A:\n    def one(self, x):\n        if x > 1:\n            return 1\n        return 0\n\n    def two(self):\n        return 2\n";

    #[test]
    fn functions_with_their_lines() {
        let found = functions(Language::Python, PYTHON);
        assert_eq!(found.iter().map(|f| f.name.as_str()).collect::<Vec<_>>(), ["one", "two"]);
        assert_eq!((found[0].first_line, found[0].last_line), (2, 5));
        assert!(found[0].text.starts_with("def one(self, x):\n    if x > 1:"));
        for (language, text) in [
            (Language::Rust, "impl A {\n    fn f(&self) -> u8 {\n        1\n    }\n}\n"),
            (Language::JavaScript, "class A {\n  f() {\n    return 1;\n  }\n}\n"),
            (Language::Go, "package a\n\nfunc f() int {\n\treturn 1\n}\n"),
        ] {
            assert_eq!(functions(language, text)[0].name, "f", "{language:?}");
        }
    }

    #[test]
    fn an_answer_is_put_in_place_with_the_right_indentation() {
        let one = &functions(Language::Python, PYTHON)[0];
        let answer = "def one(self, x):\n    if x >= 1:\n        return 1\n    return 0\n";
        let new = splice(Language::Python, PYTHON, one, answer).unwrap();
        assert_eq!(new, PYTHON.replace("x > 1", "x >= 1"));
        let indented = "    def one(self, x):\n        if x >= 1:\n            return 1\n        return 0";
        assert_eq!(splice(Language::Python, PYTHON, one, indented).unwrap(), new);
    }

    #[test]
    fn useless_answers_are_rejected() {
        let one = &functions(Language::Python, PYTHON)[0];
        for answer in [
            &one.text,
            "",
            "I think it is fine.",
            "def other(self):\n    pass\n",
            "def one(self, x:\n  retur",
        ] {
            assert_eq!(splice(Language::Python, PYTHON, one, answer), None, "{answer}");
        }
    }

    #[test]
    fn blocks() {
        assert_eq!(block("Sure:\n```python\ndef f():\n    pass\n```\nDone"), "def f():\n    pass\n");
        assert_eq!(block("def f():\n    pass\n"), "def f():\n    pass\n");
        assert_eq!(block("def f():\n    pass\n```"), "def f():\n    pass\n");
    }
}
