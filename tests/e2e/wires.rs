//! The same work over every wire format, streaming and not.

use scripted::{Server, Turn, Wire};
use serde_json::{Value, json};

use crate::support::{Place, finish};

const KEY: &str = "test-key-4711";

fn works(wire: Wire, streaming: bool) {
    let server = Server::start(vec![
        Turn::call("write", json!({ "path": "made.txt", "content": "hello from the tool\n" })),
        Turn::Calls(vec![
            ("run".into(), json!({ "command": "tr a-z A-Z < made.txt" })),
            ("list".into(), json!({ "path": "." })),
        ]),
        Turn::text("All done, as asked."),
    ])
    .unwrap();
    let place = Place::new();
    let mut args = vec!["--output", "json", "Make a file."];
    if !streaming {
        args.push("--no-stream");
    }
    let done = finish(place.run_command(&server, wire, &args).env("VARVEL_API_KEY", KEY));
    assert_eq!(done.code, 0, "{wire:?}: {done:?}");
    assert_eq!(place.read("made.txt"), "hello from the tool\n");
    let result: Value = serde_json::from_str(&done.out).unwrap();
    assert_eq!(result["answer"], "All done, as asked.", "{wire:?}");
    assert_eq!(result["changed"], json!(["made.txt"]));
    assert_eq!(
        (&result["steps"], &result["input_tokens"], &result["output_tokens"]),
        (&json!(3), &json!(300), &json!(30)),
        "{wire:?}"
    );
    let requests = server.requests();
    assert_eq!(requests.len(), 3, "{wire:?}");
    assert!(requests[2].raw.contains("HELLO FROM THE TOOL"), "{wire:?}: {}", requests[2].raw);
    assert!(requests[2].raw.contains("made.txt"));
    for request in &requests {
        let key =
            ["authorization", "x-api-key", "x-goog-api-key"].iter().find_map(|name| request.header(name));
        assert!(
            wire == Wire::Ollama || key.is_some_and(|value| value.ends_with(KEY)),
            "{wire:?}: {:?}",
            request.headers
        );
        assert!(
            !request.path.contains(KEY) && !request.raw.contains(KEY),
            "the key is sent in a header only"
        );
        let asked = request.body["stream"] == true || request.path.contains("stream");
        assert_eq!(asked, streaming, "{wire:?}");
    }
    assert!(requests[0].raw.len() < 6000, "{wire:?}: the first request has {} bytes", requests[0].raw.len());
    place.verify();
}

#[test]
fn openai_streaming() {
    works(Wire::OpenAi, true);
}

#[test]
fn openai_whole() {
    works(Wire::OpenAi, false);
}

#[test]
fn responses_streaming() {
    works(Wire::Responses, true);
}

#[test]
fn responses_whole() {
    works(Wire::Responses, false);
}

#[test]
fn anthropic_streaming() {
    works(Wire::Anthropic, true);
}

#[test]
fn anthropic_whole() {
    works(Wire::Anthropic, false);
}

#[test]
fn gemini_streaming() {
    works(Wire::Gemini, true);
}

#[test]
fn gemini_whole() {
    works(Wire::Gemini, false);
}

#[test]
fn ollama_streaming() {
    works(Wire::Ollama, true);
}

#[test]
fn ollama_whole() {
    works(Wire::Ollama, false);
}
