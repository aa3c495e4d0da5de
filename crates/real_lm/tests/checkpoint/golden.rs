//! The files that the scripts in `reference/` wrote.

use std::path::PathBuf;

use real_lm::{AddedTokens, ChatTemplate, EndsWith, Error, Message, Special, Tokenizer};
use serde_json::Value;

pub(crate) fn folder() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden"))
}

/// `text.json`
pub(crate) fn text() -> Value {
    serde_json::from_str(&std::fs::read_to_string(folder().join("text.json")).unwrap()).unwrap()
}

/// A tokenizer gives each text the stored ids, and the ids the stored text.
pub(crate) fn check_ids(name: &str, tokenizer: &Tokenizer) {
    let golden = text();
    for (i, text) in golden["texts"].as_array().unwrap().iter().enumerate() {
        let text = text.as_str().unwrap();
        let ids = tokenizer.encode(text, AddedTokens::Parse).unwrap();
        assert_eq!(serde_json::json!(ids), golden["ids"][name][i], "ids of {text:?}");
        assert_eq!(tokenizer.decode(&ids, Special::Skip), golden["decoded"][name][i], "text {i}");
    }
}

/// A template makes the stored text of each conversation, or refuses it with the stored words.
pub(crate) fn check_rendered(name: &str, template: &ChatTemplate) {
    let golden = text();
    for (i, conversation) in golden["conversations"].as_array().unwrap().iter().enumerate() {
        let turn = |turn: &Value| Message::new(turn[0].as_str().unwrap(), turn[1].as_str().unwrap());
        let messages: Vec<_> = conversation.as_array().unwrap().iter().map(turn).collect();
        for (j, end) in [EndsWith::LastMessage, EndsWith::GenerationPrompt].into_iter().enumerate() {
            let expected = &golden["rendered"][name][i][j];
            match template.render(&messages, end) {
                Ok(text) => assert_eq!(text, *expected, "{name}, conversation {i}"),
                Err(Error::ChatTemplate(message)) => {
                    let refusal = expected["error"].as_str().unwrap_or_else(|| panic!("{name}: {message}"));
                    assert!(message.contains(refusal), "{message:?} should say {refusal:?}");
                }
                Err(other) => panic!("{other}"),
            }
        }
    }
}
