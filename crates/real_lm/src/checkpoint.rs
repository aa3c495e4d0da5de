//! A model with all it needs to talk: weights, tokenizer, chat template and the tokens that end its turn.
//!
//! [`Checkpoint::load`] takes a folder in Hugging Face layout, a `.gguf` file, or the name of a model in the local cache of
//! the hub. [`Checkpoint::save`] writes a folder that it and the `transformers` library read:
//!
//! | file | holds |
//! |---|---|
//! | `config.json` | shape |
//! | `generation_config.json` | ids that end generation |
//! | `model.safetensors` | weights |
//! | `tokenizer.json` | vocabulary and merges |
//! | `tokenizer_config.json` | special tokens and chat template |

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::gguf::Gguf;
use crate::{ChatTemplate, EndsWith, Error, Message, Model, SpecialTokens, Tokenizer, hugging_face};

/// A model with all it needs to talk.
#[derive(Debug, Clone)]
pub struct Checkpoint {
    /// Shape and weights.
    pub model: Model,
    /// Text to ids and back.
    pub tokenizer: Tokenizer,
    /// Conversation to text.
    pub chat_template: ChatTemplate,
    /// Ids that end generation.
    pub eos_token_ids: Vec<u32>,
}

/// How weights are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WeightType {
    /// As they are: 4 bytes.
    F32,
    /// Rounded to 2 bytes with the range of f32 and 8 significant bits.
    Bf16,
}

impl WeightType {
    pub(crate) fn torch_name(self) -> &'static str {
        match self {
            Self::F32 => "float32",
            Self::Bf16 => "bfloat16",
        }
    }

    pub(crate) fn safetensors_name(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::Bf16 => "BF16",
        }
    }

    pub(crate) fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::Bf16 => 2,
        }
    }
}

impl Checkpoint {
    /// Reads a folder, a `.gguf` file, or a hub model such as `Qwen/Qwen2.5-Coder-0.5B-Instruct` from the local cache.
    /// Nothing is downloaded.
    pub fn load(source: impl AsRef<Path>) -> Result<Self, Error> {
        let found = Self::locate(source)?;
        let checkpoint = if found.is_file() { Self::from_gguf(&found)? } else { Self::from_folder(&found)? };
        let (tokens, rows) = (checkpoint.tokenizer.vocab_size(), checkpoint.model.config.vocab_size);
        if tokens > rows {
            let what = format!("the tokenizer has {tokens} tokens, the model only {rows}");
            return Err(Error::malformed(&found, what));
        }
        Ok(checkpoint)
    }

    /// The file or folder that [`load`](Self::load) reads. It reads none of it.
    pub fn locate(source: impl AsRef<Path>) -> Result<PathBuf, Error> {
        let source = source.as_ref();
        if source.exists() {
            return Ok(source.to_owned());
        }
        hugging_face::cached_snapshot(&source.to_string_lossy())
    }

    /// The ids that the model continues to answer a conversation.
    pub fn prompt_ids(&self, messages: &[Message]) -> Result<Vec<u32>, Error> {
        let text = self.chat_template.render(messages, EndsWith::GenerationPrompt)?;
        self.tokenizer.encode(&text, crate::AddedTokens::Parse)
    }

    /// Writes a folder, all of it or nothing: it is made beside and renamed. A folder that was there is replaced.
    pub fn save(&self, folder: &Path, weights: WeightType) -> Result<(), Error> {
        self.save_with(&self.model, folder, weights)
    }

    /// The same with another model in place of its own, such as one that was trained further.
    pub fn save_with(&self, model: &Model, folder: &Path, weights: WeightType) -> Result<(), Error> {
        let (beside, replaced) = (sibling(folder, "partial"), sibling(folder, "replaced"));
        for leftover in [&beside, &replaced] {
            if leftover.exists() {
                fs::remove_dir_all(leftover).map_err(Error::io(leftover))?;
            }
        }
        fs::create_dir_all(&beside).map_err(Error::io(&beside))?;
        self.write_files(model, &beside, weights)?;
        sync_folder(&beside)?;
        let existed = folder.exists();
        if existed {
            fs::rename(folder, &replaced).map_err(Error::io(folder))?;
        }
        fs::rename(&beside, folder).map_err(Error::io(folder))?;
        if existed {
            fs::remove_dir_all(&replaced).map_err(Error::io(&replaced))?;
        }
        sync_folder(parent(folder))
    }

    fn from_gguf(path: &Path) -> Result<Self, Error> {
        let file = Gguf::open(path)?;
        let no_template = || Error::unsupported(path, "a model without a chat template");
        Ok(Self {
            tokenizer: file.tokenizer()?,
            chat_template: file.chat_template()?.ok_or_else(no_template)?,
            eos_token_ids: file.eos_token_ids()?,
            model: file.model()?,
        })
    }

    fn from_folder(folder: &Path) -> Result<Self, Error> {
        let config_path = folder.join("config.json");
        let config = hugging_face::read_json(&config_path)?;
        let shape = hugging_face::config::parse(&config_path, &config)?;
        let tokenizer = Tokenizer::from_file(&folder.join("tokenizer.json"))?;
        let generation = hugging_face::read_optional_json(&folder.join("generation_config.json"))?;
        let mut eos_token_ids = hugging_face::config::eos_token_ids(generation.as_ref().unwrap_or(&config));
        if eos_token_ids.is_empty() {
            eos_token_ids.extend(tokenizer.eos_token_id());
        }
        Ok(Self {
            chat_template: read_chat_template(folder, tokenizer.special_tokens())?,
            tokenizer,
            eos_token_ids,
            model: hugging_face::weights::load(folder, shape)?,
        })
    }

    fn write_files(&self, model: &Model, folder: &Path, weights: WeightType) -> Result<(), Error> {
        let write = |name: &str, text: &str| write_file(&folder.join(name), text);
        let config = hugging_face::config::to_json(&model.config, weights, &self.eos_token_ids);
        let special = self.tokenizer.special_tokens();
        let mut tokenizer_config = json!({
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": model.config.max_position_embeddings,
            "clean_up_tokenization_spaces": false,
            "chat_template": self.chat_template.source(),
        });
        for (name, token) in
            [("bos_token", &special.bos), ("eos_token", &special.eos), ("pad_token", &special.pad)]
        {
            if let Some(token) = token {
                tokenizer_config[name] = json!(token);
            }
        }
        let mut generation = json!({ "eos_token_id": self.eos_token_ids });
        if let Some(id) = special.pad.as_deref().and_then(|token| self.tokenizer.token_id(token)) {
            generation["pad_token_id"] = json!(id);
        }
        write("config.json", &format!("{config:#}\n"))?;
        write("generation_config.json", &format!("{generation:#}\n"))?;
        write("tokenizer_config.json", &format!("{tokenizer_config:#}\n"))?;
        write("tokenizer.json", &self.tokenizer.to_json()?)?;
        hugging_face::weights::save(&folder.join("model.safetensors"), model, weights)
    }
}

/// From `chat_template.jinja`, else from `tokenizer_config.json`: a string, or a list of named templates of which `default` is
/// taken.
fn read_chat_template(folder: &Path, special: &SpecialTokens) -> Result<ChatTemplate, Error> {
    if let Ok(source) = fs::read_to_string(folder.join("chat_template.jinja")) {
        return ChatTemplate::new(&source, special);
    }
    let path = folder.join("tokenizer_config.json");
    let config = hugging_face::read_optional_json(&path)?.unwrap_or_default();
    let template = match &config["chat_template"] {
        Value::Array(named) => named
            .iter()
            .find(|template| template["name"] == "default")
            .and_then(|template| template["template"].as_str()),
        one => one.as_str(),
    };
    let source = template.ok_or_else(|| Error::unsupported(folder, "a model without a chat template"))?;
    ChatTemplate::new(source, special)
}

fn write_file(path: &Path, text: &str) -> Result<(), Error> {
    let write = || {
        let mut file = File::create(path)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()
    };
    write().map_err(Error::io(path))
}

fn sync_folder(folder: &Path) -> Result<(), Error> {
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(Error::io(folder))
}

fn parent(folder: &Path) -> &Path {
    folder.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// `.name.suffix` beside a folder.
fn sibling(folder: &Path, suffix: &str) -> PathBuf {
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    parent(folder).join(format!(".{name}.{suffix}"))
}
