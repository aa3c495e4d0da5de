//! A tokenizer written out as `tokenizer.json`, from a vocabulary, its merges, and the name of its way to cut words.

use serde_json::{Value, json};

/// How a text is cut into words before merging; no token crosses a cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PreTokenizer {
    /// Words, with digits in groups of 1 to 3 and merges skipped where a whole word is a token.
    Llama3,
    /// Words, with every digit alone; text in composed Unicode form (NFC).
    Qwen2,
    /// Words of GPT-2.
    Gpt2,
    /// Words of GPT-2, with every digit alone.
    SmolLm,
    /// Bare words and numbers: each is the same token wherever it stands. See [`bare_words`].
    BareWords,
}

impl PreTokenizer {
    /// From `tokenizer.ggml.pre`.
    pub(crate) fn from_gguf(name: &str) -> Option<Self> {
        Some(match name {
            "llama-bpe" | "llama3" | "llama-v3" => Self::Llama3,
            "qwen2" => Self::Qwen2,
            "gpt-2" => Self::Gpt2,
            "smollm" | "starcoder" | "refact" | "codeshell" => Self::SmolLm,
            _ => return None,
        })
    }

    fn normalizer(self) -> Value {
        if self == Self::Qwen2 { json!({"type": "NFC"}) } else { Value::Null }
    }

    fn to_json(self) -> Value {
        let words = |digits: &str| {
            format!(
                r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|{digits}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
            )
        };
        let split = |regex: &str| json!({"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": false});
        match self {
            Self::Llama3 => {
                json!({"type": "Sequence", "pretokenizers": [split(&words(r"\p{N}{1,3}")), byte_level(false)]})
            }
            Self::Qwen2 => {
                json!({"type": "Sequence", "pretokenizers": [split(&words(r"\p{N}")), byte_level(false)]})
            }
            Self::Gpt2 => byte_level(true),
            Self::SmolLm => {
                let digits = json!({"type": "Digits", "individual_digits": true});
                json!({"type": "Sequence", "pretokenizers": [digits, byte_level(true)]})
            }
            Self::BareWords => {
                json!({"type": "Sequence", "pretokenizers": [split(&bare_words()), byte_level(false)]})
            }
        }
    }
}

/// Words that are never a name: keywords of Python, and English words of grammar. The blank behind one belongs to it.
const CLOSED_CLASS: &str = "and as assert async await class def del elif except finally for from if import in is lambda not or \
     raise return try while with yield a an the of to it its that whose any other each must be by such this";

/// Large models cut `` `orders` `` and `FROM orders` into different tokens and have seen enough text to know that they are the
/// same word. A model that trains for minutes copies a name or a number from its prompt only if it is the same token in both,
/// so a blank goes with punctuation, with closed-class words, or stands alone, and never with a name.
fn bare_words() -> String {
    let closed = CLOSED_CLASS.split_whitespace().collect::<Vec<_>>().join("|");
    format!(r"(?:{closed}) |\p{{L}}+\p{{N}}*|\p{{N}}+| ?[^\s\p{{L}}\p{{N}}]+ ?|\s*\n\s*|\s+")
}

/// A token that is not made by merging.
pub(crate) struct Added<'a> {
    pub(crate) id: usize,
    pub(crate) content: &'a str,
    pub(crate) special: bool,
}

/// The `tokenizer.json` of a byte-level byte-pair tokenizer.
pub(crate) fn tokenizer_json(
    vocab: &Value,
    merges: &Value,
    words: PreTokenizer,
    added: &[Added<'_>],
) -> Value {
    let added_token = |token: &Added<'_>| {
        json!({
            "id": token.id, "content": token.content, "special": token.special,
            "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
        })
    };
    json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added.iter().map(added_token).collect::<Vec<_>>(),
        "normalizer": words.normalizer(),
        "pre_tokenizer": words.to_json(),
        "post_processor": null,
        "decoder": byte_level(true),
        "model": {
            "type": "BPE",
            "dropout": null,
            "unk_token": null,
            "continuing_subword_prefix": null,
            "end_of_word_suffix": null,
            "fuse_unk": false,
            "byte_fallback": false,
            "ignore_merges": words == PreTokenizer::Llama3,
            "vocab": vocab,
            "merges": merges,
        },
    })
}

fn byte_level(use_regex: bool) -> Value {
    json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": use_regex})
}
