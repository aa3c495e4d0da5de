//! Byte-level byte-pair encoding: text to token ids and back.
//!
//! Every byte of the UTF-8 text is one letter of the alphabet, so nothing is ever unknown. A regular expression first cuts
//! the text into words, then pairs of neighbours are merged in the order in which training found them. With the merges
//! `i n`, `in g` the word `sing` goes `s i n g` → `s in g` → `s ing`: two tokens. Special tokens such as `<|im_end|>` stand
//! outside this: they are single ids that only [`AddedTokens::Parse`] recognises in a text.
//!
//! Encoding and training are those of the `tokenizers` crate. Decoding is a table of bytes per id, because generation needs
//! it one token at a time: a character may be spread over several tokens, and [`DecodeStream`] holds its bytes back until it
//! is whole.

mod description;

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use serde_json::{Value, json};
use tokenizers::models::TrainerWrapper;
use tokenizers::models::bpe::BpeTrainer;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{
    AddedToken, DecoderWrapper, Model as _, ModelWrapper, NormalizedString, Normalizer as _, OffsetType,
    PreTokenizedString, PreTokenizer as _,
};

use crate::{Error, hugging_face};
pub(crate) use description::{Added, PreTokenizer, tokenizer_json};

/// A table of ids longer than this is taken for a damaged file.
const MAX_VOCAB_SIZE: u32 = 1 << 24;

/// A byte-level byte-pair tokenizer.
#[derive(Clone)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    special: SpecialTokens,
    pieces: Pieces,
}

/// The tokens that chat templates and generation refer to by role.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SpecialTokens {
    /// Begins a text.
    pub bos: Option<String>,
    /// Ends a text, or the turn of a chat model.
    pub eos: Option<String>,
    /// Fills up shorter sequences.
    pub pad: Option<String>,
    /// Others, such as the one that begins a turn.
    pub additional: Vec<String>,
}

/// Whether added tokens, such as `<|im_end|>`, are recognised in the text to encode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddedTokens {
    /// Each becomes its id: for prompts rendered from a chat template.
    Parse,
    /// They are text like any other: for text from outside that must not end a turn.
    AsText,
}

/// What decoding does with special tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Special {
    /// Leave them out.
    Skip,
    /// Write them as they are.
    Keep,
}

/// The bytes of every token, behind each other.
#[derive(Debug, Clone, Default)]
struct Pieces {
    bytes: Vec<u8>,
    /// Of id i: where its bytes end, and whether it is special.
    ends: Vec<(u32, bool)>,
}

impl SpecialTokens {
    /// Those of [`ChatTemplate::chatml`](crate::ChatTemplate::chatml).
    pub fn chatml() -> Self {
        Self {
            bos: None,
            eos: Some("<|im_end|>".to_owned()),
            pad: Some("<|endoftext|>".to_owned()),
            additional: vec!["<|im_start|>".to_owned()],
        }
    }

    /// From a `tokenizer_config.json`, where a token is a string or an object with `content`.
    pub(crate) fn from_config(config: &Value) -> Self {
        let token = |name: &str| {
            let token = &config[name];
            token.as_str().or_else(|| token["content"].as_str()).map(str::to_owned)
        };
        Self {
            bos: token("bos_token"),
            eos: token("eos_token"),
            pad: token("pad_token"),
            additional: Vec::new(),
        }
    }

    fn all(&self) -> impl Iterator<Item = &String> {
        self.pad.iter().chain(&self.bos).chain(&self.additional).chain(&self.eos)
    }
}

impl Tokenizer {
    /// Reads a `tokenizer.json`, with the special tokens that the `tokenizer_config.json` beside it names, if there is one.
    pub fn from_file(path: &Path) -> Result<Self, Error> {
        let text = std::fs::read_to_string(path).map_err(Error::io(path))?;
        let config = hugging_face::read_optional_json(&path.with_file_name("tokenizer_config.json"))?;
        let special = SpecialTokens::from_config(&config.unwrap_or_default());
        Self::from_json(&text, special).map_err(|error| Error::malformed(path, error.to_string()))
    }

    /// From the text of a `tokenizer.json`.
    pub fn from_json(text: &str, special: SpecialTokens) -> Result<Self, Error> {
        Self::new(tokenizers::Tokenizer::from_str(text).map_err(failed)?, special)
    }

    /// Learns `vocab_size` tokens, special ones included, from texts; the same texts give the same tokenizer. Words are cut so
    /// that a name or number is the same token wherever it stands, which is what a small model needs to copy it. Texts too small
    /// for so many merges give a smaller vocabulary.
    ///
    /// ```
    /// use real_lm::{AddedTokens, Special, SpecialTokens, Tokenizer};
    /// let texts = ["def add(a, b):\n    return a + b\n"];
    /// let tokenizer = Tokenizer::train(texts, 300, &SpecialTokens::chatml())?;
    /// let ids = tokenizer.encode("return b<|im_end|>", AddedTokens::Parse)?;
    /// assert_eq!(tokenizer.decode(&ids, Special::Skip), "return b");
    /// assert_eq!(ids.last().copied(), tokenizer.eos_token_id());
    /// # Ok::<(), real_lm::Error>(())
    /// ```
    pub fn train<'a>(
        texts: impl IntoIterator<Item = &'a str, IntoIter: Send>,
        vocab_size: usize,
        special: &SpecialTokens,
    ) -> Result<Self, Error> {
        let added =
            special.all().map(|token| AddedToken::from(token.as_str(), true).normalized(false)).collect();
        let mut trainer: TrainerWrapper = BpeTrainer::builder()
            .vocab_size(vocab_size)
            .min_frequency(2)
            .show_progress(false)
            .special_tokens(added)
            .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
            .build()
            .into();
        let untrained = tokenizer_json(&json!({}), &json!([]), PreTokenizer::BareWords, &[]);
        let mut inner = tokenizers::Tokenizer::from_str(&untrained.to_string()).map_err(failed)?;
        inner.train(&mut trainer, texts.into_iter()).map_err(failed)?;
        Self::new(inner, special.clone())
    }

    fn new(inner: tokenizers::Tokenizer, special: SpecialTokens) -> Result<Self, Error> {
        require_byte_level(&inner)?;
        if let Some(id) = inner.get_vocab(true).into_values().find(|&id| id >= MAX_VOCAB_SIZE) {
            return Err(Error::Tokenizer(format!("the id {id} is beyond every vocabulary")));
        }
        for token in special.all() {
            if inner.token_to_id(token).is_none() {
                return Err(Error::Tokenizer(format!("the special token {token:?} has no id")));
            }
        }
        let pieces = Pieces::new(&inner);
        Ok(Self { inner, special, pieces })
    }

    /// One more than the largest id. The vocabulary of a model may be larger, filled up with ids that mean nothing.
    pub fn vocab_size(&self) -> usize {
        self.pieces.ends.len()
    }

    /// The tokens with a role.
    pub fn special_tokens(&self) -> &SpecialTokens {
        &self.special
    }

    /// The id of a token written as in `tokenizer.json`.
    pub fn token_id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// The id of the token that ends a text or a turn.
    pub fn eos_token_id(&self) -> Option<u32> {
        self.token_id(self.special.eos.as_deref()?)
    }

    /// The ids of a text. No begin or end token is added: a chat template writes them.
    pub fn encode(&self, text: &str, added: AddedTokens) -> Result<Vec<u32>, Error> {
        let encoding = match added {
            AddedTokens::Parse => self.inner.encode_fast(text, false),
            AddedTokens::AsText => encode_as_text(&self.inner, text),
        };
        Ok(encoding.map_err(failed)?.get_ids().to_vec())
    }

    /// The text of some ids. Bytes that are no UTF-8 become U+FFFD, ids without a token nothing.
    pub fn decode(&self, ids: &[u32], special: Special) -> String {
        let bytes: Vec<u8> = ids.iter().flat_map(|&id| self.pieces.get(id, special)).copied().collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The bytes that one id adds to a text.
    pub fn token_bytes(&self, id: u32, special: Special) -> &[u8] {
        self.pieces.get(id, special)
    }

    /// Decodes ids one after the other.
    pub fn decode_stream(&self, special: Special) -> DecodeStream<'_> {
        DecodeStream { pieces: &self.pieces, special, text: String::new(), pending: Vec::new() }
    }

    /// The text of a `tokenizer.json`.
    pub fn to_json(&self) -> Result<String, Error> {
        self.inner.to_string(true).map_err(failed)
    }
}

impl fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokenizer")
            .field("vocab_size", &self.vocab_size())
            .field("special", &self.special)
            .finish_non_exhaustive()
    }
}

/// Decodes ids one after the other: [`text`](Self::text) grows by whole characters, so that a stop string can be looked for
/// after every token.
#[derive(Debug, Clone)]
pub struct DecodeStream<'a> {
    pieces: &'a Pieces,
    special: Special,
    text: String,
    /// Begins a character that is not whole yet: at most three bytes.
    pending: Vec<u8>,
}

impl DecodeStream<'_> {
    /// Adds a token and returns the characters that it completed.
    pub fn push(&mut self, id: u32) -> &str {
        let before = self.text.len();
        self.pending.extend_from_slice(self.pieces.get(id, self.special));
        loop {
            match std::str::from_utf8(&self.pending) {
                Ok(whole) => {
                    self.text.push_str(whole);
                    self.pending.clear();
                    break;
                }
                Err(error) => {
                    let valid = error.valid_up_to();
                    self.text.push_str(&String::from_utf8_lossy(&self.pending[..valid]));
                    let Some(invalid) = error.error_len() else {
                        self.pending.drain(..valid);
                        break;
                    };
                    self.text.push(char::REPLACEMENT_CHARACTER);
                    self.pending.drain(..valid + invalid);
                }
            }
        }
        &self.text[before..]
    }

    /// All whole characters so far.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The text, where a last character that is not whole became U+FFFD: what [`Tokenizer::decode`] gives for all ids.
    pub fn finish(mut self) -> String {
        self.text.push_str(&String::from_utf8_lossy(&self.pending));
        self.text
    }
}

impl Pieces {
    fn new(inner: &tokenizers::Tokenizer) -> Self {
        let vocab = inner.get_vocab(true);
        let mut tokens = vec![None; vocab.values().max().map_or(0, |&id| id as usize + 1)];
        for (token, &id) in &vocab {
            tokens[id as usize] = Some(token.as_str());
        }
        let added = inner.get_added_tokens_decoder();
        let mut pieces = Self::default();
        for (id, token) in tokens.into_iter().enumerate() {
            let added = added.get(&(id as u32));
            match (token, added) {
                (Some(token), None) => pieces.bytes.extend(token_bytes(token)),
                (Some(token), Some(_)) => pieces.bytes.extend(token.bytes()),
                (None, _) => {}
            }
            pieces.ends.push((pieces.bytes.len() as u32, added.is_some_and(|token| token.special)));
        }
        pieces
    }

    fn get(&self, id: u32, special: Special) -> &[u8] {
        let id = id as usize;
        match self.ends.get(id) {
            Some(&(_, true)) if special == Special::Skip => &[],
            Some(&(end, _)) => {
                let start = if id == 0 { 0 } else { self.ends[id - 1].0 };
                &self.bytes[start as usize..end as usize]
            }
            None => &[],
        }
    }
}

/// The bytes that a token of the byte-level alphabet stands for. Printable characters of Latin-1 are their own byte; the
/// other 68 bytes are written, in order, as the characters from U+0100 on.
fn token_bytes(token: &str) -> Vec<u8> {
    let byte = |c: char| match u32::from(c) {
        code @ (0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff) => Some(code as u8),
        code @ 0x100..=0x120 => Some((code - 0x100) as u8),
        code @ 0x121..=0x142 => Some((code - 0x121 + 0x7f) as u8),
        0x143 => Some(0xad),
        _ => None,
    };
    token.chars().map(byte).collect::<Option<_>>().unwrap_or_else(|| token.as_bytes().to_vec())
}

/// Encoding without the search for added tokens.
fn encode_as_text(inner: &tokenizers::Tokenizer, text: &str) -> tokenizers::Result<tokenizers::Encoding> {
    let mut normalized = NormalizedString::from(text);
    if let Some(normalizer) = inner.get_normalizer() {
        normalizer.normalize(&mut normalized)?;
    }
    let mut words = PreTokenizedString::from(normalized);
    if let Some(pre_tokenizer) = inner.get_pre_tokenizer() {
        pre_tokenizer.pre_tokenize(&mut words)?;
    }
    words.tokenize(|word| inner.get_model().tokenize(word.get()))?;
    words.into_encoding(None, 0, OffsetType::None)
}

/// Decoding by a table of bytes is right for byte-level tokenizers only.
fn require_byte_level(inner: &tokenizers::Tokenizer) -> Result<(), Error> {
    let bpe = matches!(inner.get_model(), ModelWrapper::BPE(_));
    if bpe && matches!(inner.get_decoder(), Some(DecoderWrapper::ByteLevel(_))) {
        return Ok(());
    }
    Err(Error::Tokenizer("only byte-level byte-pair tokenizers are supported".to_owned()))
}

#[expect(clippy::needless_pass_by_value, reason = "the argument of map_err")]
fn failed(error: tokenizers::Error) -> Error {
    Error::Tokenizer(error.to_string())
}
