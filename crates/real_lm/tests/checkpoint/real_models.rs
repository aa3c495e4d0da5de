//! The two small models that the project is tested with, as GGUF files: in the folder `REAL_MODELS`.

use std::ops::ControlFlow;
use std::path::PathBuf;

use real_lm::{
    AddedTokens, Architecture, BlockModel, Checkpoint, Message, Sampling, Special, Weights, generate,
};

use crate::golden::{check_ids, check_rendered};

const SMOLLM2: &str = "smollm2-135m-instruct-q4_1.gguf";
const QWEN: &str = "qwen2.5-coder-0.5b-instruct-q4_k_m.gguf";

fn path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("REAL_MODELS").map(|folder| PathBuf::from(folder).join(name));
    path.filter(|path| path.is_file())
}

fn load(name: &str, test: &str) -> Option<Checkpoint> {
    let Some(path) = path(name) else {
        eprintln!("skipped: {test} needs {name} in the folder REAL_MODELS");
        return None;
    };
    Some(Checkpoint::load(path).unwrap())
}

#[test]
fn qwen() {
    let Some(checkpoint) = load(QWEN, "qwen") else { return };
    let config = &checkpoint.model.config;
    assert_eq!(config.architecture, Architecture::Qwen2);
    assert_eq!((config.vocab_size, config.hidden_size, config.num_hidden_layers), (151_936, 896, 24));
    assert_eq!((config.num_attention_heads, config.num_key_value_heads, config.head_dim), (14, 2, 64));
    assert_eq!((config.rope_theta, config.rms_norm_eps, config.max_position_embeddings), (1e6, 1e-6, 32_768));
    assert!(config.tie_word_embeddings, "token_embd and output are one matrix at two precisions");
    assert_eq!(checkpoint.eos_token_ids, [151_645, 151_643]);
    check_ids("qwen", &checkpoint.tokenizer);
    check_rendered("qwen", &checkpoint.chat_template);
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
fn smollm2() {
    let Some(checkpoint) = load(SMOLLM2, "smollm2") else { return };
    let config = &checkpoint.model.config;
    assert_eq!(config.architecture, Architecture::Llama);
    assert_eq!((config.vocab_size, config.hidden_size, config.num_hidden_layers), (49_152, 576, 30));
    assert_eq!((config.num_attention_heads, config.num_key_value_heads, config.head_dim), (9, 3, 64));
    assert!(config.tie_word_embeddings);
    assert_eq!(checkpoint.eos_token_ids, [2, 0]);
    check_ids("smollm2", &checkpoint.tokenizer);
    check_rendered("smollm2", &checkpoint.chat_template);
}

#[test]
fn quantised_weights_write_what_floats_write() {
    for name in [SMOLLM2, QWEN] {
        let Some(checkpoint) = load(name, "quantised_weights_write_what_floats_write") else { return };
        let blocks = BlockModel::from_gguf(&path(name).unwrap()).unwrap();
        let prompt = checkpoint
            .prompt_ids(&[Message::new("user", "Write a Python function that adds two numbers.")])
            .unwrap();
        let sampling = Sampling { temperature: 0.0, max_new_tokens: 8, ..Sampling::default() };
        let [full, quantised] = [Weights::from(&checkpoint.model), Weights::from(&blocks)].map(|weights| {
            let go = |_: usize, _: &[u32]| ControlFlow::Continue(());
            generate(weights, std::slice::from_ref(&prompt), &sampling, go, |_, _| ()).remove(0)
        });
        assert_eq!(full.ids[..5], quantised.ids[..5], "{name}");
        assert!((full.logprobs[0] - quantised.logprobs[0]).abs() < 0.2, "{name}: {full:?} {quantised:?}");
    }
}
