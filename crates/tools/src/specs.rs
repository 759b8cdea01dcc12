//! The tools as a model sees them. Every byte here is sent with every request, so it is kept short.

use llm::ToolSpec;
use serde_json::{Value, json};

fn object(properties: Value, required: &[&str]) -> Value {
    json!({ "type": "object", "properties": properties, "required": required })
}

/// The tool definitions.
#[must_use]
pub fn specs() -> Vec<ToolSpec> {
    let text = || json!({ "type": "string" });
    let number = || json!({ "type": "integer" });
    let tool = |name, description, properties, required: &[&str]| ToolSpec {
        name,
        description,
        parameters: object(properties, required),
    };
    vec![
        tool(
            "list",
            "List a directory (default: the workspace) down to depth levels (default 2).",
            json!({ "path": text(), "depth": number() }),
            &[],
        ),
        tool(
            "read",
            "Read a file, or its lines start to end. Lines come numbered; the numbers are not part of the file.",
            json!({ "path": text(), "start": number(), "end": number() }),
            &["path"],
        ),
        tool(
            "search",
            "Search files for a regular expression; with names=true search paths instead.",
            json!({ "pattern": text(), "path": text(), "names": { "type": "boolean" } }),
            &["pattern"],
        ),
        tool(
            "edit",
            "Change a file: replace the exact text old (it must occur once) by new, or replace lines start to end by new.",
            json!({ "path": text(), "old": text(), "new": text(), "start": number(), "end": number() }),
            &["path", "new"],
        ),
        tool(
            "write",
            "Create a file or replace all of it.",
            json!({ "path": text(), "content": text() }),
            &["path", "content"],
        ),
        tool("delete", "Delete a file or an empty directory.", json!({ "path": text() }), &["path"]),
        tool(
            "run",
            "Run a shell command in the workspace, sandboxed; the network is there only where the person allows it. timeout is in seconds (default 120).",
            json!({ "command": text(), "timeout": number() }),
            &["command"],
        ),
    ]
}
