//! Small checkpoints in every format, sound and damaged.

use std::fs;
use std::path::Path;

use proptest::prelude::*;
use real_lm::{Architecture, Checkpoint, Error, Message, WeightType};
use serde_json::{Value, json};

use crate::golden::{check_ids, folder};

fn load(name: &str) -> Checkpoint {
    Checkpoint::load(folder().join(name)).unwrap()
}

#[test]
fn shape_of_a_folder() {
    let qwen2 = load("tiny-qwen2");
    let config = &qwen2.model.config;
    assert_eq!(config.architecture, Architecture::Qwen2);
    assert_eq!((config.vocab_size, config.hidden_size, config.intermediate_size), (400, 32, 48));
    assert_eq!((config.num_attention_heads, config.num_key_value_heads, config.head_dim), (4, 2, 8));
    assert_eq!((config.rms_norm_eps, config.rope_theta), (1e-6, 1e6));
    assert!(config.tie_word_embeddings);
    assert_eq!(qwen2.eos_token_ids, [2, 0]);
    check_ids("tiny", &qwen2.tokenizer);
}

/// The weights were saved as bfloat16 and as float16 shards by one library and as GGUF by another; the GGUF of the tied model
/// holds a coarser copy of its matrix, which must not be the one that is taken.
#[test]
fn gguf_and_folder_hold_the_same_model() {
    for name in ["tiny-qwen2", "tiny-llama"] {
        let (folder, gguf) = (load(name), load(&format!("{name}.gguf")));
        assert_eq!(gguf.model.config, folder.model.config, "{name}");
        assert_eq!(gguf.model.layout, folder.model.layout, "{name}");
        assert_eq!(gguf.model.params, folder.model.params, "{name}");
        assert_eq!(gguf.eos_token_ids, folder.eos_token_ids, "{name}");
        assert_eq!(gguf.chat_template.source(), folder.chat_template.source(), "{name}");
        check_ids("tiny", &gguf.tokenizer);
    }
}

#[test]
fn saving_and_loading() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["tiny-qwen2", "tiny-llama"] {
        let original = load(name);
        for weights in [WeightType::F32, WeightType::Bf16] {
            let path = dir.path().join("saved");
            original.save(&path, weights).unwrap();
            let loaded = Checkpoint::load(&path).unwrap();
            assert_eq!(loaded.model.config, original.model.config);
            assert_eq!(loaded.model.params, original.model.params);
            assert_eq!(loaded.eos_token_ids, original.eos_token_ids);
            assert_eq!(loaded.tokenizer.special_tokens(), original.tokenizer.special_tokens());
            check_ids("tiny", &loaded.tokenizer);
            let hello = [Message::new("user", "Hello")];
            assert_eq!(loaded.prompt_ids(&hello).unwrap(), original.prompt_ids(&hello).unwrap());
        }
    }
    let left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["saved"], "nothing is left beside the checkpoint");
}

/// Bfloat16 keeps eight bits: the nearest value is at most one part in 256 away.
#[test]
fn bfloat16_rounds_to_nearest() {
    let dir = tempfile::tempdir().unwrap();
    let mut checkpoint = load("tiny-qwen2");
    checkpoint.model.params.iter_mut().enumerate().for_each(|(i, x)| *x = (i as f32).sin());
    checkpoint.save(&dir.path().join("saved"), WeightType::Bf16).unwrap();
    let loaded = Checkpoint::load(dir.path().join("saved")).unwrap();
    for (&saved, &exact) in loaded.model.params.iter().zip(&checkpoint.model.params) {
        assert!((saved - exact).abs() <= exact.abs() / 256.0, "{exact} became {saved}");
    }
}

/// What loading says of a copy of a folder with a changed `config.json`.
fn error_after(change: impl Fn(&mut Value)) -> String {
    let dir = tempfile::tempdir().unwrap();
    copy(&folder().join("tiny-qwen2"), dir.path());
    let path = dir.path().join("config.json");
    let mut config = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    change(&mut config);
    fs::write(&path, config.to_string()).unwrap();
    match Checkpoint::load(dir.path()) {
        Ok(_) => "loaded".to_owned(),
        Err(error) => error.to_string().replace(&*dir.path().to_string_lossy(), "DIR"),
    }
}

fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

#[test]
fn configurations_that_cannot_be_computed() {
    let check = |name: &str, value: Value, expected: &str| {
        assert_eq!(error_after(|config| config[name] = value.clone()), expected, "{name} = {value}");
    };
    check("hidden_act", json!("silu"), "loaded");
    check("hidden_act", json!("gelu"), "DIR/config.json: not supported: hidden_act other than silu");
    check("rope_scaling", json!(null), "loaded");
    check("rope_scaling", json!({"type": "linear", "factor": 1.0}), "loaded");
    check(
        "rope_scaling",
        json!({"type": "linear", "factor": 2.0}),
        "DIR/config.json: not supported: scaled rotary embedding",
    );
    check(
        "rope_parameters",
        json!({"rope_type": "llama3", "factor": 8.0, "rope_theta": 1e6}),
        "DIR/config.json: not supported: scaled rotary embedding",
    );
    check("mlp_bias", json!(true), "DIR/config.json: not supported: mlp_bias");
    check("quantization_config", json!({"bits": 4}), "DIR/config.json: not supported: quantization_config");
    check(
        "layer_types",
        json!(["full_attention", "sliding_attention"]),
        "DIR/config.json: not supported: layer_types other than full_attention",
    );
    check(
        "architectures",
        json!(["GPT2LMHeadModel"]),
        "DIR/config.json: not supported: architecture \"GPT2LMHeadModel\"; LlamaForCausalLM and Qwen2ForCausalLM are",
    );
    check("num_hidden_layers", json!(0), "DIR/config.json: num_hidden_layers is 0");
    check(
        "num_key_value_heads",
        json!(3),
        "DIR/config.json: 4 attention heads cannot share 3 key-value heads",
    );
    check("hidden_size", json!(null), "DIR/config.json: hidden_size is missing");
    check("num_hidden_layers", json!(3), "DIR: tensor \"model.layers.2.input_layernorm.weight\" is missing");
    check(
        "vocab_size",
        json!(500),
        "DIR/model.safetensors: tensor \"model.embed_tokens.weight\" has shape [400, 32], config.json says [500, 32]",
    );
}

#[test]
fn a_sliding_window_matters_only_in_use() {
    let window = |used: bool| {
        error_after(|config| {
            config["use_sliding_window"] = json!(used);
            config["sliding_window"] = json!(64);
        })
    };
    assert_eq!(window(false), "loaded");
    assert_eq!(window(true), "DIR/config.json: not supported: attention in a sliding window");
}

#[test]
fn templates_named_in_the_tokenizer_configuration() {
    let dir = tempfile::tempdir().unwrap();
    copy(&folder().join("tiny-qwen2"), dir.path());
    fs::remove_file(dir.path().join("chat_template.jinja")).unwrap();
    let write = |template: Value| {
        let config = json!({"eos_token": {"content": "<|im_end|>"}, "chat_template": template});
        fs::write(dir.path().join("tokenizer_config.json"), config.to_string()).unwrap();
        Checkpoint::load(dir.path())
    };
    assert_eq!(write(json!("one")).unwrap().chat_template.source(), "one");
    let named = json!([{"name": "rag", "template": "two"}, {"name": "default", "template": "three"}]);
    let checkpoint = write(named).unwrap();
    assert_eq!(checkpoint.chat_template.source(), "three");
    assert_eq!(checkpoint.tokenizer.eos_token_id(), Some(2));
    assert!(matches!(write(json!(null)), Err(Error::Unsupported { .. })));
}

#[test]
fn a_name_that_is_nowhere() {
    let error = Checkpoint::load("nobody/no-such-model").unwrap_err();
    assert!(matches!(&error, Error::NotFound { name, .. } if name == "nobody/no-such-model"));
    assert!(error.to_string().contains("hf download nobody/no-such-model"), "{error}");
}

/// What loading says of bytes.
fn load_bytes(bytes: &[u8], ending: &str) -> Result<Checkpoint, Error> {
    let file = tempfile::Builder::new().suffix(ending).tempfile().unwrap();
    fs::write(file.path(), bytes).unwrap();
    Checkpoint::load(file.path())
}

#[test]
fn damaged_gguf_files() {
    let whole = fs::read(folder().join("tiny-llama.gguf")).unwrap();
    let check = |bytes: &[u8], expected: &str| {
        let error = load_bytes(bytes, ".gguf").unwrap_err().to_string();
        assert!(error.ends_with(expected) || error.contains(expected), "{error:?} should say {expected:?}");
    };
    check(b"", "at byte 0: cut off: 4 bytes expected, 0 left");
    check(b"GGML", "not a GGUF file");
    check(&whole[..20], "at byte 16: cut off: 8 bytes expected, 4 left");
    check(&whole[..whole.len() - 40], "cut off: tensor");
    check(&[&whole[..4], &[9, 0, 0, 0], &whole[8..]].concat(), "GGUF version 9");
    check(&[&whole[..16], &[255; 8], &whole[24..]].concat(), "at byte");
    let renamed = |from: &[u8], to: &[u8]| {
        let at = whole.windows(from.len()).position(|window| window == from).unwrap();
        [&whole[..at], to, &whole[at + from.len()..]].concat()
    };
    check(&renamed(b"llama", b"gemma"), "architecture \"gemma\"; llama and qwen2 are");
    check(&renamed(b"qwen2", b"qwen9"), "the pre-tokenizer \"qwen9\"");
    check(
        &renamed(b"blk.0.ffn_up.weight", b"blk.0.ffn_xx.weight"),
        "tensor \"blk.0.ffn_up.weight\" is missing",
    );
    check(&renamed(b"llama.block_count", b"llama.block_cxxxx"), "value llama.block_count is missing");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Damage anywhere, most of it in the header: an error or a model, never a panic.
    #[test]
    fn damaged_gguf_never_panics(
        changes in prop::collection::vec((0usize..12_000, any::<u8>()), 1..4),
        cut in prop::option::of(0usize..90_000),
    ) {
        let mut bytes = fs::read(folder().join("tiny-qwen2.gguf")).unwrap();
        for (at, byte) in changes {
            bytes[at] = byte;
        }
        bytes.truncate(cut.unwrap_or(usize::MAX));
        let _ = load_bytes(&bytes, ".gguf");
    }

    /// The same near the front and in the list of tensors, where lengths and counts lie.
    #[test]
    fn damaged_lengths_never_panic(at in 0usize..1_200, bytes in prop::array::uniform8(any::<u8>())) {
        let mut whole = fs::read(folder().join("tiny-llama.gguf")).unwrap();
        let tensors = whole.windows(17).position(|window| window == b"output_norm.weigh").unwrap();
        for start in [at, tensors - 600 + at] {
            whole[start..start + 8].copy_from_slice(&bytes);
            let _ = load_bytes(&whole, ".gguf");
        }
    }
}
