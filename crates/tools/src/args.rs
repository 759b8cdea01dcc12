//! Arguments as the model wrote them, parsed with errors that tell it what to write instead.

use serde::de::DeserializeOwned;
use serde_json::Value;

/// Parses the arguments of `tool`.
pub(crate) fn parse<T: DeserializeOwned>(tool: &str, arguments: &Value) -> Result<T, String> {
    let parsed = match arguments {
        Value::Object(_) => serde_json::from_value(arguments.clone()),
        Value::Null => serde_json::from_value(Value::Object(serde_json::Map::new())),
        // Some models send the object as a string of JSON.
        Value::String(text) => serde_json::from_str(text),
        _ => return Err(format!("the arguments of {tool} must be one JSON object{}", usage(tool))),
    };
    parsed.map_err(|error| format!("the arguments of {tool} are not usable: {error}{}", usage(tool)))
}

fn usage(tool: &str) -> String {
    let Some(spec) = crate::specs().into_iter().find(|spec| spec.name == tool) else { return String::new() };
    let keys = |at: &str| -> Vec<String> {
        match spec.parameters.pointer(at) {
            Some(Value::Object(map)) => map.keys().cloned().collect(),
            Some(Value::Array(list)) => list.iter().filter_map(|v| v.as_str().map(str::to_owned)).collect(),
            _ => Vec::new(),
        }
    };
    let required = keys("/required");
    let required = if required.is_empty() { "none".to_owned() } else { required.join(", ") };
    format!(". {tool} takes {}; required: {required}", keys("/properties").join(", "))
}
