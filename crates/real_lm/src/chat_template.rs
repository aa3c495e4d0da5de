//! From a conversation to the text that a chat model was trained on.
//!
//! Checkpoints carry this as a Jinja template. The built-in [`ChatTemplate::chatml`] turns one user message into
//!
//! ```text
//! <|im_start|>user
//! Write a function.<|im_end|>
//! <|im_start|>assistant
//! ```
//!
//! Templates see `messages`, `add_generation_prompt`, `bos_token`, `eos_token` and the function `raise_exception`, as in the
//! `transformers` library. They get no tools and no clock, so that the same conversation always gives the same text.

use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, ErrorKind, Value, context};
use serde::{Deserialize, Serialize};

use crate::{Error, SpecialTokens};

const CHATML: &str = "{% for message in messages %}\
    {{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}\
    {% endfor %}\
    {% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";

/// One turn of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// `system`, `user` or `assistant`.
    pub role: String,
    /// What was said.
    pub content: String,
}

impl Message {
    /// A turn.
    pub fn new(role: &str, content: &str) -> Self {
        Self { role: role.to_owned(), content: content.to_owned() }
    }
}

/// Where the rendered text ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndsWith {
    /// The last message: for training on a whole conversation.
    LastMessage,
    /// The beginning of the assistant's next turn: for generation.
    GenerationPrompt,
}

/// A chat template, parsed.
#[derive(Debug, Clone)]
pub struct ChatTemplate {
    source: String,
    bos_token: Option<String>,
    eos_token: Option<String>,
    environment: Environment<'static>,
}

impl ChatTemplate {
    /// Parses a Jinja template.
    ///
    /// ```
    /// use real_lm::{ChatTemplate, EndsWith, Message};
    /// let prompt = ChatTemplate::chatml().render(&[Message::new("user", "Hello")], EndsWith::GenerationPrompt)?;
    /// assert_eq!(prompt, "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n");
    /// # Ok::<(), real_lm::Error>(())
    /// ```
    pub fn new(source: &str, special: &SpecialTokens) -> Result<Self, Error> {
        let mut environment = Environment::new();
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        environment.set_syntax(syntax.map_err(failed)?);
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function("raise_exception", raise_exception);
        environment.add_template_owned("chat", source.to_owned()).map_err(failed)?;
        Ok(Self {
            source: source.to_owned(),
            bos_token: special.bos.clone(),
            eos_token: special.eos.clone(),
            environment,
        })
    }

    /// The built-in template, for models whose special tokens are [`SpecialTokens::chatml`].
    pub fn chatml() -> Self {
        Self::new(CHATML, &SpecialTokens::chatml()).expect("the built-in template parses")
    }

    /// The Jinja source.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The text of a conversation.
    pub fn render(&self, messages: &[Message], end: EndsWith) -> Result<String, Error> {
        let template = self.environment.get_template("chat").map_err(failed)?;
        let turn = |message: &Message| context! { role => message.role.as_str(), content => message.content.as_str() };
        let text = template.render(context! {
            messages => messages.iter().map(turn).collect::<Value>(),
            tools => Value::from(()),
            add_generation_prompt => end == EndsWith::GenerationPrompt,
            bos_token => self.bos_token.as_deref().unwrap_or_default(),
            eos_token => self.eos_token.as_deref().unwrap_or_default(),
        });
        text.map_err(failed)
    }
}

fn raise_exception(message: String) -> Result<Value, minijinja::Error> {
    Err(minijinja::Error::new(ErrorKind::InvalidOperation, message))
}

#[expect(clippy::needless_pass_by_value, reason = "the argument of map_err")]
fn failed(error: minijinja::Error) -> Error {
    Error::ChatTemplate(error.to_string())
}
