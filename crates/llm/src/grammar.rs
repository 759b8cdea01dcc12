//! Tool calls for models without a protocol for them: the shape is enforced while the model writes.

use serde_json::{Value, json};

use crate::types::{StopReason, ToolCall, ToolSpec};

/// Name that stands for "no tool: this is the answer".
const ANSWER: &str = "answer";

/// The tools in words, one line each, for the system prompt.
pub(crate) fn describe(tools: &[ToolSpec]) -> String {
    let mut text =
        String::from("\n\nReply with one JSON object: {\"tool\": NAME, \"args\": {...}}. Tools:\n");
    for tool in tools {
        let required: Vec<&str> = tool
            .parameters
            .pointer("/required")
            .and_then(Value::as_array)
            .map(|names| names.iter().filter_map(Value::as_str).collect())
            .unwrap_or_default();
        let parameters = tool.parameters.pointer("/properties").and_then(Value::as_object);
        let parameters: Vec<String> = parameters
            .into_iter()
            .flatten()
            .map(
                |(name, _)| if required.contains(&name.as_str()) { name.clone() } else { format!("{name}?") },
            )
            .collect();
        text.push_str(&format!("- {}({}): {}\n", tool.name, parameters.join(", "), tool.description));
    }
    text.push_str("- answer(text): tell the user the result; ends the task\n");
    text
}

/// The JSON Schema of one reply: a call of one of `tools`, or the answer.
pub(crate) fn schema(tools: &[ToolSpec]) -> Value {
    let call = |name: &str, args: &Value| {
        json!({
            "type": "object",
            "properties": { "tool": { "const": name }, "args": args },
            "required": ["tool", "args"],
            "additionalProperties": false,
        })
    };
    let text = json!({
        "type": "object",
        "properties": { "text": { "type": "string" } },
        "required": ["text"],
        "additionalProperties": false,
    });
    let mut options: Vec<Value> = tools.iter().map(|tool| call(tool.name, &tool.parameters)).collect();
    options.push(call(ANSWER, &text));
    json!({ "oneOf": options })
}

/// Takes a reply apart: text, calls and why it ended.
pub(crate) fn parse(reply: &str, serial: u64) -> (String, Vec<ToolCall>, StopReason) {
    let Ok(value) = serde_json::from_str::<Value>(reply) else {
        return (reply.to_owned(), Vec::new(), StopReason::Done);
    };
    let name = value.get("tool").and_then(Value::as_str).unwrap_or(ANSWER);
    let arguments = value.get("args").cloned().unwrap_or(Value::Null);
    if name == ANSWER {
        let text = arguments.get("text").and_then(Value::as_str).unwrap_or(reply).to_owned();
        return (text, Vec::new(), StopReason::Done);
    }
    let call = ToolCall { id: format!("call_{serial}"), name: name.to_owned(), arguments, signatures: None };
    (String::new(), vec![call], StopReason::ToolCalls)
}

/// A call as the model wrote it, for the conversation so far.
pub(crate) fn render(call: &ToolCall) -> String {
    json!({ "tool": call.name, "args": call.arguments }).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tool() -> ToolSpec {
        let parameters = json!({
            "type": "object",
            "properties": { "path": { "type": "string" }, "start": { "type": "integer" } },
            "required": ["path"],
        });
        ToolSpec { name: "read", description: "reads a file", parameters }
    }

    #[test]
    fn tools_in_words_and_as_schema() {
        assert!(describe(&[tool()]).contains("- read(path, start?): reads a file"));
        let schema = schema(&[tool()]);
        assert_eq!(schema.pointer("/oneOf/0/properties/tool/const"), Some(&json!("read")));
        assert_eq!(schema.pointer("/oneOf/1/properties/tool/const"), Some(&json!("answer")));
        let keys: Vec<_> =
            schema.pointer("/oneOf/0/properties").unwrap().as_object().unwrap().keys().collect();
        assert_eq!(keys, ["tool", "args"], "the grammar follows this order");
    }

    #[test]
    fn replies_round_trip() {
        let (_, calls, stop) = parse(r#"{"tool":"read","args":{"path":"a"}}"#, 3);
        assert_eq!((calls[0].id.as_str(), stop), ("call_3", StopReason::ToolCalls));
        assert_eq!(render(&calls[0]), r#"{"tool":"read","args":{"path":"a"}}"#);
        assert_eq!(parse(r#"{"tool":"answer","args":{"text":"hi"}}"#, 1).0, "hi");
        assert_eq!(parse("plain", 1).0, "plain");
    }
}
