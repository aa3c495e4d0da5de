//! What a function says of the type of its response, in statements of their own.
//!
//! ```python
//! response.content_type = "text/plain"
//! self.set_header("Content-Type", "text/html")
//! response.headers["Content-Type"] = "application/json"
//! ```

use super::Engine;
use crate::ir::{Constant, Op, ValueId};
use crate::library::Concept;
use crate::rules::{self, Situation};
use crate::value::Value;

/// Attributes of a response that are its content.
const CONTENT: &[&str] = &["text", "body", "data"];
/// Methods that set a header.
const SETTERS: &[&str] = &["set_header", "setHeader", "add_header", "append_header", "header"];

impl Engine<'_> {
    /// Whether the current function says that its response is a page, or that it is none.
    pub(super) fn says_page(&self) -> Option<bool> {
        let text = |value: ValueId| match self.op(value) {
            Op::Constant(Constant::Str(text)) => Some(text.to_string()),
            Op::Constant(Constant::Bytes(text)) => Some(String::from_utf8_lossy(text).into_owned()),
            _ => self.frame().values[value.index()].as_ref()?.text.as_constant().map(str::to_owned),
        };
        let is_type =
            |value: ValueId| text(value).is_some_and(|name| name.eq_ignore_ascii_case("content-type"));
        let mut said = None;
        for inst in &self.function().insts {
            let kind = match &inst.op {
                Op::StoreAttribute { name, value, .. }
                    if matches!(self.name(*name), "content_type" | "mimetype" | "media_type") =>
                {
                    text(*value)
                }
                Op::StoreSubscript { index, value, .. } if is_type(*index) => text(*value),
                Op::Call { callee, args } if args.len() == 2 && is_type(args[0].value) => match self
                    .op(*callee)
                {
                    Op::Attribute { name, .. } if SETTERS.contains(&self.name(*name)) => text(args[1].value),
                    _ => None,
                },
                _ => None,
            };
            if let Some(kind) = kind {
                said = Some(said == Some(true) || rules::is_html_type(&kind));
            }
        }
        said
    }

    /// `response.text = page`, where the function says that it is one.
    pub(super) fn check_content(&mut self, attribute: &str, value: &Value, origin: ValueId) {
        if CONTENT.contains(&attribute) && value.taint() != 0 && self.says_page() == Some(true) {
            self.judge(Concept::Html, "", &value.text, origin, &Situation::default());
        }
    }
}
