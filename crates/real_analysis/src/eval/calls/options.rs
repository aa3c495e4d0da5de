//! Options of command lines: what a user can put into them is declared where the parser is built.
//!
//! `parser.add_argument("--count", type=int)` makes `args.count` a number, and so do flags and choices. A name is harmless if every
//! declaration of it in the program says so.

use crate::eval::Engine;
use crate::eval::strings::{Arguments, positional, positionals};
use crate::facts::Refinement;
use crate::ir::FunctionId;
use crate::value::{Object, Value};

impl Engine<'_> {
    /// `parser.add_argument("-c", "--count", type=int)`
    pub(super) fn note_option(&mut self, arguments: &Arguments) {
        let Some(name) = self.option_name(arguments) else { return };
        let harmless = self.is_harmless_declaration(arguments);
        let all = self.options_declared.entry(name.into()).or_insert(true);
        *all &= harmless;
    }

    /// Whether an option holds no text of the user's choice.
    pub(in crate::eval) fn is_harmless_option(&self, name: &str) -> bool {
        self.options_declared.get(name) == Some(&true)
    }

    /// `@click.option("--count", type=int)`: the parameter `count` of the function is a number.
    pub(in crate::eval) fn note_command_option(&mut self, function: FunctionId, arguments: &Arguments) {
        let Some(name) = self.option_name(arguments) else { return };
        if self.is_harmless_declaration(arguments) {
            self.declared_parts.entry(function).or_default().insert(name.into(), Refinement::number());
        }
    }

    /// The name under which the program finds the option.
    fn option_name(&self, arguments: &Arguments) -> Option<String> {
        let named = self.keyword(arguments, "dest").and_then(|dest| dest.text.as_constant());
        let texts = || positionals(arguments).filter_map(|value| value.text.as_constant());
        let long = || texts().find(|text| text.starts_with("--"));
        let name = named.or_else(long).or_else(|| texts().next())?;
        Some(name.trim_start_matches('-').replace('-', "_"))
    }

    fn is_harmless_declaration(&self, arguments: &Arguments) -> bool {
        let is_constant = |name: &str| {
            let value = self.keyword(arguments, name);
            value.is_some_and(|value| self.constant_members(value).is_some())
        };
        let is_true = |name: &str| self.keyword(arguments, name).and_then(Value::truth) == Some(true);
        let kind = self.keyword(arguments, "type").or_else(|| positional(arguments, 1));
        let number = kind.is_some_and(|kind| match &kind.object {
            Object::Path(path) => {
                matches!(
                    &**path,
                    "builtins.int" | "builtins.float" | "builtins.bool" | "click.INT" | "click.FLOAT"
                )
            }
            Object::Instance(path) => matches!(&**path, "click.Choice" | "click.IntRange"),
            _ => false,
        });
        let action = self.keyword(arguments, "action").and_then(|action| action.text.as_constant());
        let flag =
            action.is_some_and(|action| matches!(action, "store_true" | "store_false" | "count" | "version"));
        number || flag || is_true("is_flag") || is_constant("choices")
    }
}
