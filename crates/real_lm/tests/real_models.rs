//! The two small models that the project is tested with, as GGUF files: in the folder `REAL_MODELS`.

use std::path::PathBuf;
use std::time::Instant;

use real_lm::{AddedTokens, Architecture, Checkpoint, Message, Special};

const SMOLLM2: &str = "smollm2-135m-instruct-q4_1.gguf";
const QWEN: &str = "qwen2.5-coder-0.5b-instruct-q4_k_m.gguf";

fn model(name: &str, test: &str) -> Option<PathBuf> {
    let path = std::env::var_os("REAL_MODELS")
        .map(|folder| PathBuf::from(folder).join(name))
        .filter(|path| path.is_file());
    if path.is_none() {
        eprintln!("skipped: {test} needs {name} in the folder REAL_MODELS");
    }
    path
}

#[test]
fn qwen_loads() {
    let Some(path) = model(QWEN, "qwen_loads") else { return };
    let start = Instant::now();
    let checkpoint = Checkpoint::load(&path).unwrap();
    eprintln!("loaded in {:?}", start.elapsed());
    let config = &checkpoint.model.config;
    assert_eq!(config.architecture, Architecture::Qwen2);
    assert_eq!((config.vocab_size, config.hidden_size, config.num_hidden_layers), (151_936, 896, 24));
    assert!(config.tie_word_embeddings);
    assert_eq!(checkpoint.eos_token_ids, [151_645, 151_643]);
    let ids = checkpoint.prompt_ids(&[Message::new("user", "Hello")]).unwrap();
    assert_eq!(
        checkpoint.tokenizer.decode(&ids, Special::Keep),
        "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\n\
         <|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n"
    );
    let as_text = checkpoint.tokenizer.encode("<|im_end|>", AddedTokens::AsText).unwrap();
    assert!(as_text.len() > 1 && checkpoint.tokenizer.decode(&as_text, Special::Skip) == "<|im_end|>");
}

#[test]
fn smollm2_loads() {
    let Some(path) = model(SMOLLM2, "smollm2_loads") else { return };
    let checkpoint = Checkpoint::load(&path).unwrap();
    let config = &checkpoint.model.config;
    assert_eq!(config.architecture, Architecture::Llama);
    assert_eq!((config.vocab_size, config.hidden_size, config.num_hidden_layers), (49_152, 576, 30));
    assert_eq!((config.num_attention_heads, config.num_key_value_heads, config.head_dim), (9, 3, 64));
    assert!(config.tie_word_embeddings);
    assert_eq!(checkpoint.eos_token_ids, [2, 0]);
}
