//! Exceptions carry data: what was raised arrives where it is caught.
//!
//! ```python
//! def check(name):
//!     raise ValueError("no such user: " + name)     # leaves the function: part of its summary
//!
//! try:
//!     check(request.args["name"])                   # the call stands in a block whose handler is the one below
//! except ValueError as error:
//!     return str(error)                             # what was raised there, of this type
//! ```
//!
//! Every block of the IR knows its handler. A frame collects what is raised, with the handler that it goes to or none; evaluation
//! is in reverse postorder, so the body of a `try` comes before its handlers.

use super::Engine;
use crate::ir::{BlockId, ClassId, ValueId};
use crate::text::{Hole, Mask, Text};
use crate::value::{Object, Value};

/// Different exceptions of one function that are remembered.
const MAX_RAISED: usize = 16;

/// Built-in exceptions that others derive from.
const FAMILIES: &[(&str, &[&str])] = &[
    ("builtins.LookupError", &["builtins.KeyError", "builtins.IndexError"]),
    ("builtins.ArithmeticError", &["builtins.ZeroDivisionError", "builtins.OverflowError"]),
    ("builtins.OSError", &["builtins.IOError", "builtins.FileNotFoundError", "builtins.PermissionError"]),
    ("builtins.IOError", &["builtins.OSError", "builtins.FileNotFoundError", "builtins.PermissionError"]),
    ("builtins.ValueError", &["builtins.UnicodeError", "builtins.UnicodeDecodeError"]),
];

impl Engine<'_> {
    /// An exception is raised where evaluation stands.
    pub(super) fn raise(&mut self, exception: Value) {
        let carries = exception.taint() != 0 || matches!(exception.object, Object::Local(_, Some(_)));
        if !carries {
            return;
        }
        let handler = self.function().blocks[self.frame().block.index()].handler;
        let raised = &mut self.frame_mut().raised;
        let raise = (handler, exception);
        if raised.len() < MAX_RAISED && !raised.contains(&raise) {
            raised.push(raise);
        }
    }

    /// `int(text)` raises an exception that shows the text.
    pub(super) fn raise_of_conversion(&mut self, path: &str, subject: &Value) {
        let converts = matches!(path, "builtins.int" | "builtins.float");
        if !converts || subject.taint() == 0 || subject.is_number() {
            return;
        }
        let hole = subject.text.summary();
        let shown = Hole { mask: hole.mask.minus(Mask::ascii(b"\r\n")), ..hole };
        self.raise(Value::new(Object::Instance("builtins.ValueError".into()), Text::hole(shown)));
    }

    /// What arrives at a handler for these types.
    pub(super) fn caught(&mut self, kind: Option<ValueId>, dispatch: BlockId) -> Value {
        let kind = kind.map(|kind| self.known(kind));
        let arrived = self.frame().raised.iter().filter(|(handler, _)| *handler == Some(dispatch));
        let of_kind = arrived
            .filter(|(_, exception)| kind.as_ref().is_none_or(|kind| self.is_of_kind(exception, kind)));
        let caught =
            of_kind.map(|(_, exception)| exception.clone()).reduce(|known, value| known.join(&value));
        caught.unwrap_or_else(Value::unknown)
    }

    fn is_of_kind(&self, exception: &Value, kind: &Value) -> bool {
        match &kind.object {
            Object::Container(kinds) => {
                let kinds = &self.heap[kinds.0 as usize];
                kinds.rest.is_some() || kinds.fields.iter().any(|(_, kind)| self.is_of_kind(exception, kind))
            }
            Object::Path(path) => self.is_of_library_kind(exception, path),
            Object::Class(class) => match exception.object {
                Object::Local(raised, _) => self.derives(raised, *class),
                _ => false,
            },
            _ => true,
        }
    }

    fn is_of_library_kind(&self, exception: &Value, kind: &str) -> bool {
        let all = matches!(kind, "builtins.Exception" | "builtins.BaseException");
        let is = |name: &str| {
            let family = FAMILIES.iter().find(|(family, _)| *family == kind);
            name == kind || family.is_some_and(|(_, members)| members.contains(&name))
        };
        let unknown = |name: &str| !name.starts_with("builtins.") || !kind.starts_with("builtins.");
        all || match &exception.object {
            Object::Instance(name) | Object::Path(name) => is(name) || unknown(name),
            Object::Local(class, _) => self.library_bases(*class).any(|base| is(base) || unknown(base)),
            _ => true,
        }
    }

    fn library_bases(&self, class: ClassId) -> impl Iterator<Item = &str> {
        self.bases[class.index()].iter().filter_map(Value::path_name)
    }

    /// Whether a class is another or derives from it.
    fn derives(&self, class: ClassId, from: ClassId) -> bool {
        let (mut pending, mut seen) = (vec![class], Vec::new());
        while let Some(class) = pending.pop() {
            if class == from {
                return true;
            }
            seen.push(class);
            pending.extend(self.own_bases(class).filter(|base| !seen.contains(base)));
        }
        false
    }
}
