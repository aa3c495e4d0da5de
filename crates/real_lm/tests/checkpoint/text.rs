//! Tokenizers and chat templates against `reference/text_golden.py`.

use proptest::prelude::*;
use real_lm::{AddedTokens, ChatTemplate, Special, SpecialTokens, Tokenizer};

use crate::golden::{check_ids, check_rendered, folder, text};

fn tiny() -> Tokenizer {
    let json = std::fs::read_to_string(folder().join("tiny_tokenizer.json")).unwrap();
    Tokenizer::from_json(&json, SpecialTokens::chatml()).unwrap()
}

#[test]
fn ids_of_the_tiny_tokenizer() {
    check_ids("tiny", &tiny());
}

#[test]
fn training_gives_the_tokenizer_of_python() {
    let golden = text();
    let texts = || golden["texts"].as_array().unwrap().iter().map(|text| text.as_str().unwrap());
    let trained = Tokenizer::train(texts(), 400, &SpecialTokens::chatml()).unwrap();
    check_ids("bare_words", &trained);
    let again = Tokenizer::train(texts(), 400, &SpecialTokens::chatml()).unwrap();
    assert_eq!(trained.to_json().unwrap(), again.to_json().unwrap());
}

#[test]
fn vocabulary() {
    let tokenizer = tiny();
    assert_eq!(tokenizer.vocab_size(), 400);
    assert_eq!(tokenizer.token_id("<|im_start|>"), Some(1));
    assert_eq!(tokenizer.eos_token_id(), Some(2));
    assert_eq!(tokenizer.token_id("no such token"), None);
}

#[test]
fn added_tokens_as_text() {
    let tokenizer = tiny();
    assert_eq!(tokenizer.encode("<|im_end|>", AddedTokens::Parse).unwrap(), [2]);
    let ids = tokenizer.encode("<|im_end|>", AddedTokens::AsText).unwrap();
    assert!(!ids.contains(&2));
    assert_eq!(tokenizer.decode(&ids, Special::Skip), "<|im_end|>");
}

#[test]
fn tokenizers_that_are_not_byte_level_are_refused() {
    let json = tiny().to_json().unwrap().replace("\"type\": \"ByteLevel\"", "\"type\": \"Metaspace\"");
    assert!(Tokenizer::from_json(&json, SpecialTokens::default()).is_err());
}

#[test]
fn special_tokens_must_exist() {
    let special = SpecialTokens { bos: Some("<s>".to_owned()), ..SpecialTokens::default() };
    let error = Tokenizer::from_json(&tiny().to_json().unwrap(), special).unwrap_err();
    assert_eq!(error.to_string(), "tokenizer: the special token \"<s>\" has no id");
}

#[test]
fn templates() {
    let golden = text();
    let special = SpecialTokens { bos: Some("<|im_start|>".to_owned()), ..SpecialTokens::chatml() };
    for (name, source) in golden["templates"].as_object().unwrap() {
        check_rendered(name, &ChatTemplate::new(source.as_str().unwrap(), &special).unwrap());
    }
}

#[test]
fn templates_that_do_not_parse_are_refused() {
    let error = ChatTemplate::new("{% for %}", &SpecialTokens::default()).unwrap_err();
    assert!(error.to_string().starts_with("chat template: syntax error"), "{error}");
}

#[test]
fn a_stream_holds_back_half_characters() {
    let tokenizer = tiny();
    let ids = tokenizer.encode("a🙂", AddedTokens::AsText).unwrap();
    assert_eq!(ids.len(), 4, "the tiny tokenizer has three tokens for the four bytes of the emoji");
    let mut stream = tokenizer.decode_stream(Special::Skip);
    let parts: Vec<String> = ids.iter().map(|&id| stream.push(id).to_owned()).collect();
    assert_eq!(parts, ["a", "", "", "🙂"]);
    assert_eq!(stream.text(), "a🙂");
}

proptest! {
    #[test]
    fn streaming_equals_decoding(ids in prop::collection::vec(0u32..410, 0..40)) {
        let tokenizer = tiny();
        for special in [Special::Skip, Special::Keep] {
            let whole = tokenizer.decode(&ids, special);
            let mut stream = tokenizer.decode_stream(special);
            for &id in &ids {
                stream.push(id);
                prop_assert!(whole.starts_with(stream.text()));
            }
            prop_assert_eq!(stream.finish(), whole);
        }
    }

    #[test]
    fn decoding_undoes_encoding(text in "[ -~\n\tßé世🙂]{0,60}") {
        let tokenizer = tiny();
        let ids = tokenizer.encode(&text, AddedTokens::AsText).unwrap();
        prop_assert_eq!(tokenizer.decode(&ids, Special::Skip), text);
    }
}
