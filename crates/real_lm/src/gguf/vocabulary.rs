//! The tokenizer and the chat template that a GGUF file carries.

use serde_json::{Map, Value, json};

use super::Gguf;
use crate::tokenizer::{Added, PreTokenizer, tokenizer_json};
use crate::{ChatTemplate, Error, SpecialTokens, Tokenizer};

/// Kinds of token in `tokenizer.ggml.token_type`.
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;
const UNUSED: i32 = 5;

/// Tokens by which models end a turn or a text. A file names one end token where a model may use two: Qwen2.5 ends a turn
/// with `<|im_end|>` and a text with `<|endoftext|>`.
const END_TOKENS: [&str; 6] =
    ["<|im_end|>", "<|endoftext|>", "<|eot_id|>", "<|end_of_text|>", "<|eom_id|>", "</s>"];

impl Gguf {
    /// The byte-pair tokenizer.
    pub(crate) fn tokenizer(&self) -> Result<Tokenizer, Error> {
        let model =
            self.string("tokenizer.ggml.model")?.ok_or_else(|| self.missing("value tokenizer.ggml.model"))?;
        if model != "gpt2" {
            let what =
                format!("a tokenizer of kind {model:?}; byte-level byte-pair tokenizers (\"gpt2\") are");
            return Err(Error::unsupported(&self.path, what));
        }
        let name =
            self.string("tokenizer.ggml.pre")?.ok_or_else(|| self.missing("value tokenizer.ggml.pre"))?;
        let words = PreTokenizer::from_gguf(name)
            .ok_or_else(|| Error::unsupported(&self.path, format!("the pre-tokenizer {name:?}")))?;
        let tokens = self.tokens()?;
        let kinds = self.token_kinds(tokens.len())?;
        let vocab: Map<String, Value> = (tokens.iter().zip(&kinds).enumerate())
            .filter(|&(_, (_, &kind))| kind != UNUSED)
            .map(|(id, (&token, _))| (token.to_owned(), json!(id)))
            .collect();
        let added: Vec<_> = (tokens.iter().zip(&kinds).enumerate())
            .filter(|&(_, (_, &kind))| kind == CONTROL || kind == USER_DEFINED)
            .map(|(id, (&content, &kind))| Added { id, content, special: kind == CONTROL })
            .collect();
        let merges = json!(self.required_strings("tokenizer.ggml.merges")?);
        let json = tokenizer_json(&Value::Object(vocab), &merges, words, &added);
        Tokenizer::from_json(&json.to_string(), self.special_tokens(&tokens)?)
            .map_err(|error| Error::malformed(&self.path, error.to_string()))
    }

    /// The chat template, if there is one.
    pub(crate) fn chat_template(&self) -> Result<Option<ChatTemplate>, Error> {
        let special = self.special_tokens(&self.tokens()?)?;
        self.string("tokenizer.chat_template")?.map(|source| ChatTemplate::new(source, &special)).transpose()
    }

    /// The ids that end generation, the declared one first.
    pub(crate) fn eos_token_ids(&self) -> Result<Vec<u32>, Error> {
        let tokens = self.tokens()?;
        let kinds = self.token_kinds(tokens.len())?;
        let declared = ["tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id"];
        let mut ids = Vec::new();
        for key in declared {
            ids.extend(self.unsigned(key)?.map(|id| id as u32));
        }
        let by_name =
            |&end: &&str| tokens.iter().position(|&token| token == end).filter(|&id| kinds[id] == CONTROL);
        for id in END_TOKENS.iter().filter_map(by_name).map(|id| id as u32) {
            if !ids.contains(&id) {
                ids.push(id);
            }
        }
        Ok(ids)
    }

    fn special_tokens(&self, tokens: &[&str]) -> Result<SpecialTokens, Error> {
        let token = |key: &str| -> Result<Option<String>, Error> {
            let Some(id) = self.unsigned(key)? else { return Ok(None) };
            let token = tokens.get(id as usize);
            let token = token
                .ok_or_else(|| Error::malformed(&self.path, format!("{key} is {id}, which is no token")))?;
            Ok(Some((*token).to_owned()))
        };
        Ok(SpecialTokens {
            bos: token("tokenizer.ggml.bos_token_id")?,
            eos: token("tokenizer.ggml.eos_token_id")?,
            pad: token("tokenizer.ggml.padding_token_id")?,
            additional: Vec::new(),
        })
    }

    fn tokens(&self) -> Result<Vec<&str>, Error> {
        self.required_strings("tokenizer.ggml.tokens")
    }

    fn token_kinds(&self, count: usize) -> Result<Vec<i32>, Error> {
        let key = "tokenizer.ggml.token_type";
        let kinds = self.integers(key)?.ok_or_else(|| self.missing(&format!("value {key}")))?;
        if kinds.len() == count {
            return Ok(kinds);
        }
        Err(Error::malformed(&self.path, format!("{count} tokens but {} in {key}", kinds.len())))
    }

    fn required_strings(&self, key: &str) -> Result<Vec<&str>, Error> {
        self.strings(key)?.ok_or_else(|| self.missing(&format!("value {key}")))
    }
}
