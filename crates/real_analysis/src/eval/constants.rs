//! Built-in functions and methods of strings on constants: generated programs decide branches with them.

use super::Engine;
use super::heap::Key;
use super::strings::{Arguments, positional};
use crate::value::{Object, Value};

/// Pieces of a constant text that is split.
const MAX_PIECES: usize = 32;

impl Engine<'_> {
    /// A built-in function of constants. `None`: something is not constant.
    pub(super) fn constant_call(&self, path: &str, args: &Arguments) -> Option<Value> {
        let first = positional(args, 0)?;
        match path {
            "builtins.int" if args.len() == 1 && first.taint() == 0 => match &first.object {
                Object::Text => first.text.as_constant()?.trim().parse().ok().map(Value::int),
                Object::Int(_) => Some(first.clone()),
                _ => None,
            },
            "builtins.abs" => Some(Value::int(int(first)?.checked_abs()?)),
            "builtins.ord" => Some(Value::int(single(first.text.as_constant()?)? as i64)),
            "builtins.chr" => {
                let code = u32::try_from(int(first)?).ok()?;
                Some(Value::constant(char::from_u32(code)?.to_string()))
            }
            "builtins.sum" => {
                Some(Value::int(self.ints(args)?.into_iter().try_fold(0i64, i64::checked_add)?))
            }
            "builtins.min" => Some(Value::int(self.ints(args)?.into_iter().min()?)),
            "builtins.max" => Some(Value::int(self.ints(args)?.into_iter().max()?)),
            "builtins.all" | "builtins.any" => {
                let decides = path == "builtins.any";
                let truths: Option<Vec<bool>> = self.elements_of(first)?.iter().map(Value::truth).collect();
                let found = truths?.contains(&decides);
                Some(Value::bool(Some(found == decides)))
            }
            "builtins.isinstance" => is_instance(first, positional(args, 1)?),
            _ => None,
        }
    }

    /// A method of a constant text with constant arguments that gives a number or a truth value.
    pub(super) fn constant_method(text: &str, name: &str, args: &Arguments) -> Option<Value> {
        let argument = positional(args, 0).and_then(|value| value.text.as_constant());
        let at =
            |position: Option<usize>| Value::int(position.map_or(-1, |at| text[..at].chars().count() as i64));
        let every = |test: fn(char) -> bool| Value::bool(Some(!text.is_empty() && text.chars().all(test)));
        Some(match (name, args.len()) {
            ("find", 1) => at(text.find(argument?)),
            ("rfind", 1) => at(text.rfind(argument?)),
            ("index", 1) => at(Some(text.find(argument?)?)),
            ("count", 1) => {
                let part = argument.filter(|part| !part.is_empty())?;
                Value::int(text.matches(part).count() as i64)
            }
            ("isdigit" | "isdecimal" | "isnumeric", 0) => every(|c| c.is_ascii_digit()),
            ("isalpha", 0) => every(char::is_alphabetic),
            ("isalnum", 0) => every(char::is_alphanumeric),
            ("isspace", 0) => every(char::is_whitespace),
            ("isupper", 0) => Value::bool(Some(text != text.to_lowercase() && text == text.to_uppercase())),
            ("islower", 0) => Value::bool(Some(text != text.to_uppercase() && text == text.to_lowercase())),
            _ => return None,
        })
    }

    /// `"a,b".split(",")`
    pub(super) fn constant_split(&mut self, text: &str, name: &str, args: &Arguments) -> Option<Value> {
        let pieces: Vec<&str> = match (name, args.len()) {
            ("split", 0) => text.split_whitespace().collect(),
            ("split", 1) => {
                let separator = positional(args, 0)?.text.as_constant().filter(|text| !text.is_empty())?;
                text.split(separator).collect()
            }
            _ => return None,
        };
        if pieces.len() > MAX_PIECES {
            return None;
        }
        let list = self.allocate(self.frame().inst, false);
        for piece in pieces {
            self.append(list, &Value::constant(piece));
        }
        Some(self.container(list))
    }

    fn ints(&self, args: &Arguments) -> Option<Vec<i64>> {
        match &args[..] {
            [(_, only)] => self.elements_of(only)?.iter().map(int).collect(),
            several => several.iter().map(|(_, value)| int(value)).collect(),
        }
    }

    /// Every element of a list, where all are known.
    pub(super) fn elements_of(&self, value: &Value) -> Option<Vec<Value>> {
        let Object::Container(heap) = value.object else { return None };
        let length = self.length(heap)?;
        Some((0..length).map(|index| self.load_key(heap, Some(&Key::Index(index)))).collect())
    }
}

fn int(value: &Value) -> Option<i64> {
    match value.object {
        Object::Int(value) => Some(value),
        _ => None,
    }
}

fn single(text: &str) -> Option<char> {
    let mut characters = text.chars();
    characters.next().filter(|_| characters.next().is_none())
}

/// `isinstance` of a constant.
fn is_instance(value: &Value, kind: &Value) -> Option<Value> {
    let kind = kind.path_name()?.strip_prefix("builtins.")?;
    let known = ["str", "int", "float", "bool", "list", "tuple", "dict", "set", "bytes"];
    let is = match value.object {
        Object::Int(_) => matches!(kind, "int"),
        Object::Text if value.text.as_constant().is_some() && kind != "bytes" => kind == "str",
        _ => return None,
    };
    known.contains(&kind).then(|| Value::bool(Some(is)))
}
