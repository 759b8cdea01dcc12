//! Keeping the conversation within the model's window, without asking a model to summarise it.
//!
//! First the oldest tool results are replaced by a line that says what they were; then whole old turns are dropped,
//! with a note of what was done. The person's request and the newest turns stay.

use llm::Message;
use redact::{Clean, Redactor, Source};

/// A tool result shorter than this is not worth replacing.
const SMALL: usize = 400;
/// Messages at the end that are kept whole as long as possible.
const RECENT: usize = 6;

/// Makes `messages` fit into `budget` bytes as far as it can. Returns whether anything was done.
pub(crate) fn compact(messages: &mut Vec<Message>, budget: usize, redactor: &Redactor) -> bool {
    let size = |messages: &[Message]| messages.iter().map(Message::size).sum::<usize>();
    if size(messages) <= budget {
        return false;
    }
    for recent in [RECENT, 2] {
        for index in 1..messages.len().saturating_sub(recent) {
            shorten(&mut messages[index], redactor);
            if size(messages) <= budget {
                return true;
            }
        }
    }
    // Drop whole turns, oldest first, so that every result keeps its call.
    let mut dropped = Vec::new();
    while size(messages) > budget && messages.len() > 3 {
        let Some(next_turn) = messages
            .iter()
            .enumerate()
            .skip(2)
            .find(|(_, message)| matches!(message, Message::Assistant { .. } | Message::User(_)))
            .map(|(index, _)| index)
        else {
            break;
        };
        for message in messages.drain(1..next_turn) {
            if let Message::Assistant { calls, .. } = message {
                dropped
                    .extend(calls.iter().map(|call| tools::Toolbox::describe(&call.name, &call.arguments)));
            }
        }
    }
    if !dropped.is_empty() {
        let kept = dropped.split_off(dropped.len().saturating_sub(40));
        let note = format!("[Earlier steps were left out to save space. They were: {}]", kept.join("; "));
        messages.insert(1, Message::User(redactor.clean(&note, Source::Other)));
    }
    // A single result that is too large by itself.
    while size(messages) > budget {
        let Some(Message::Tool { content, .. }) = messages
            .iter_mut()
            .filter(|message| matches!(message, Message::Tool { .. }) && message.size() > SMALL)
            .max_by_key(|message| message.size())
        else {
            break;
        };
        let half = content.clipped(content.as_str().len() / 2);
        *content = Clean::join(&[half, Clean::fixed("[cut to save space]")], "\n");
    }
    true
}

fn shorten(message: &mut Message, redactor: &Redactor) {
    if let Message::Tool { name, content, .. } = message
        && content.as_str().len() > SMALL
    {
        let note = format!(
            "[the result of {name}, {} bytes, was left out to save space; call it again if it is needed]",
            content.as_str().len()
        );
        *content = redactor.clean(&note, Source::Other);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use llm::ToolCall;
    use serde_json::json;

    fn conversation(turns: usize, result: usize) -> (Redactor, Vec<Message>) {
        let redactor = Redactor::new();
        let clean = |text: &str| redactor.clean(text, Source::Other);
        let mut messages = vec![Message::User(clean("fix the bug"))];
        for n in 0..turns {
            let id = format!("c{n}");
            let arguments = json!({ "path": format!("file{n}.rs") });
            let call = ToolCall { id: id.clone(), name: "read".into(), arguments, signatures: None };
            messages.push(Message::Assistant { text: clean(""), reasoning: None, calls: vec![call] });
            messages.push(Message::Tool {
                id,
                name: "read".into(),
                content: clean(&"x ".repeat(result / 2)),
            });
        }
        (redactor, messages)
    }

    /// Every result has its call before it, and the request is still first.
    fn well_formed(messages: &[Message]) {
        assert!(matches!(&messages[0], Message::User(text) if text.as_str() == "fix the bug"));
        for (index, message) in messages.iter().enumerate() {
            if let Message::Tool { id, .. } = message {
                assert!(messages[..index].iter().any(
                    |earlier| matches!(earlier, Message::Assistant { calls, .. } if calls.iter().any(|c| c.id == *id))
                ));
            }
        }
    }

    #[test]
    fn fits_at_any_size() {
        for (turns, result, budget) in
            [(3, 100, 10_000), (20, 2000, 20_000), (40, 3000, 6000), (1, 50_000, 4000)]
        {
            let (redactor, mut messages) = conversation(turns, result);
            compact(&mut messages, budget, &redactor);
            let size: usize = messages.iter().map(Message::size).sum();
            assert!(size <= budget, "{turns} turns of {result}: {size} > {budget}");
            well_formed(&messages);
        }
    }

    #[test]
    fn recent_results_stay_whole() {
        let (redactor, mut messages) = conversation(10, 2000);
        assert!(compact(&mut messages, 15_000, &redactor));
        assert!(messages.last().unwrap().size() >= 2000);
        let (redactor, mut messages) = conversation(2, 100);
        assert!(!compact(&mut messages, 15_000, &redactor));
    }
}
