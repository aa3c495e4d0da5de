//! Functions of the program that a library calls: `Thread(target=work, args=(name,))`, `pool.submit(work, name)`.
//!
//! Positional arguments after a function are taken as its own, and so are the elements of `args=`. A function that is handed on
//! without arguments is left alone: nothing is known of what it will be given.

use super::Site;
use crate::eval::Engine;
use crate::eval::heap::Key;
use crate::eval::strings::{Arguments, positionals};
use crate::ir::ArgKind;
use crate::library::Returns;
use crate::value::{Object, Value};

impl Engine<'_> {
    /// Calls the function among the arguments, where it is given its own. What it returns.
    pub(super) fn call_back(&mut self, arguments: &Arguments) -> Option<Value> {
        let is_function = |value: &Value| match &value.object {
            Object::Function(..) | Object::Bound(..) | Object::Partial(..) => true,
            Object::Path(path) => self.libraries.find(path).is_some_and(|api| {
                let changes = matches!(
                    api.returns,
                    Returns::ShellQuoted | Returns::HtmlEscaped | Returns::UrlQuoted | Returns::Masked(_)
                );
                changes || !api.sinks.is_empty()
            }),
            _ => false,
        };
        let at = arguments.iter().position(|(_, value)| is_function(value))?;
        let (kind, function) = arguments[at].clone();
        let mut own: Arguments = match kind {
            ArgKind::Positional => {
                let after = positionals(&arguments[at + 1..]);
                after.map(|value| (ArgKind::Positional, value.clone())).collect()
            }
            _ => Vec::new(),
        };
        if let Some(Object::Container(heap)) =
            self.keyword(arguments, "args").map(|value| value.object.clone())
        {
            let count = self.heap[heap.0 as usize].fields.len() as i64;
            let elements = (0..count).map(|index| self.load_key(heap, Some(&Key::Index(index))));
            own.extend(elements.map(|value| (ArgKind::Positional, value)));
        }
        if let Some(Object::Container(heap)) =
            self.keyword(arguments, "kwargs").map(|value| value.object.clone())
        {
            for (key, value) in self.heap[heap.0 as usize].fields.clone() {
                if let Key::Name(name) = &key
                    && let Some(name) = self.module.symbols.lookup(name)
                {
                    own.push((ArgKind::Keyword(name), value));
                }
            }
        }
        (!own.is_empty()).then(|| self.call_from_library(&function, &own))
    }

    /// A call that stands nowhere in the program.
    pub(in crate::eval) fn call_from_library(&mut self, function: &Value, arguments: &Arguments) -> Value {
        let id = self.frame().inst;
        let before = self.frame_mut().summaries.remove(&id);
        let value = self.call_object(Site { id, callee: None, args: &[] }, function, arguments);
        // What the function proves of its arguments says nothing of the arguments of the call around it.
        self.frame_mut().summaries.remove(&id);
        if let Some(before) = before {
            self.frame_mut().summaries.insert(id, before);
        }
        value
    }

    /// `map(function, values)`: one call for all elements.
    pub(super) fn call_value(&mut self, function: &Value, argument: Value) -> Value {
        self.call_from_library(function, &vec![(ArgKind::Positional, argument)])
    }
}
