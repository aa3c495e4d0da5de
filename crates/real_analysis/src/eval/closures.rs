//! Functions that are made while the program runs, and what decorators make of them.
//!
//! A closure remembers the variables around it. A variable that is assigned once has one value in each call of its function, so
//! the closure takes that value along, and two closures of one function stay apart:
//!
//! ```python
//! def prefixed(prefix):
//!     def add(text):
//!         return prefix + text          # the `prefix` that this closure was made with
//!     return add
//!
//! prefixed("ls ")(name)                 # "ls " and the name
//! prefixed(name)("ls")                  # the name and "ls"
//! ```
//!
//! A variable with several assignments may have any of their values, from any call.
//!
//! A decorator of the program is a call like any other: what it returns, if that can be called, is what the name means from then
//! on. Frameworks get the function itself.

use rustc_hash::FxHashSet;

use super::{Closure, Engine};
use crate::ir::{ArgKind, FunctionId, Module, Op, Symbol, ValueId};
use crate::text::Text;
use crate::value::{Captured, Object, Value};

/// Closures inside the variables of closures.
const MAX_NESTED: u32 = 3;

/// For each function the variables of enclosing functions that it, or a function in it, reads; those that are assigned once.
pub(super) fn captures(module: &Module) -> Vec<Vec<(FunctionId, Symbol)>> {
    let mut captures: Vec<Vec<(FunctionId, Symbol)>> = vec![Vec::new(); module.functions.len()];
    let stored: FxHashSet<(FunctionId, Symbol)> =
        free_variables(module, true).map(|(_, free)| free).collect();
    for (reader, (owner, name)) in free_variables(module, false) {
        let writes = module.functions[owner.index()].writes.iter().filter(|(written, _)| *written == name);
        if writes.count() != 1 || stored.contains(&(owner, name)) {
            continue;
        }
        // Whoever stands between the reader and the variable has to hand it on.
        let mut at = Some(reader);
        while let Some(function) = at.filter(|function| *function != owner) {
            if !captures[function.index()].contains(&(owner, name)) {
                captures[function.index()].push((owner, name));
            }
            at = module.functions[function.index()].parent;
        }
    }
    captures
}

/// Every instruction that reads, or stores, a variable of an enclosing function.
fn free_variables(module: &Module, stores: bool) -> impl Iterator<Item = (FunctionId, (FunctionId, Symbol))> {
    module.functions.iter().enumerate().flat_map(move |(index, function)| {
        function.insts.iter().filter_map(move |inst| match inst.op {
            Op::Free(owner, name) if !stores => Some((FunctionId(index as u32), (owner, name))),
            Op::StoreFree(owner, name, _) if stores => Some((FunctionId(index as u32), (owner, name))),
            _ => None,
        })
    })
}

impl Engine<'_> {
    /// A function is defined here: its defaults and decorators are what they are now.
    pub(super) fn closure(
        &mut self,
        function: FunctionId,
        defaults: &[(u32, ValueId)],
        decorators: &[ValueId],
    ) -> Value {
        self.check_decorators(function, decorators);
        self.note_pages(function, decorators);
        let defaults = defaults.iter().map(|(index, value)| (*index, self.get(*value))).collect();
        let decorators = decorators.iter().map(|value| self.get(*value)).collect();
        self.closures[function.index()] = Closure { defaults, decorators };
        if let Some(property) = self.property_of_setter(function) {
            return property;
        }
        let captured = self.take_along(function);
        self.decorated(function, Value::new(Object::Function(function, captured), Text::unknown()))
    }

    /// The variables around a function, as they are now.
    fn take_along(&self, function: FunctionId) -> Captured {
        let wanted = &self.captures[function.index()];
        let mut captured = Vec::with_capacity(wanted.len());
        for (owner, name) in wanted {
            let value = self.variable_around(*owner, *name);
            if let Some(value) = value.filter(|value| nested(value) < MAX_NESTED) {
                captured.push((*owner, *name, value));
            }
        }
        (!captured.is_empty()).then(|| captured.into())
    }

    /// The value of a variable that is assigned once, in the call that is being evaluated or that made the closure in it.
    fn variable_around(&self, owner: FunctionId, name: Symbol) -> Option<Value> {
        if let Some(frame) = self.frames.iter().rev().find(|frame| frame.function == owner) {
            let writes = &self.module.functions[owner.index()].writes;
            let (_, id) = writes.iter().find(|(written, _)| *written == name)?;
            return frame.values[id.index()].clone();
        }
        self.frames.iter().rev().find_map(|frame| captured_value(&frame.captured, owner, name).cloned())
    }

    /// The property that a function with the decorator `@name.setter` belongs to.
    fn property_of_setter(&mut self, function: FunctionId) -> Option<Value> {
        let body = &self.module.functions[function.index()];
        let key = (body.class?, body.name);
        let property = self.closures[function.index()].decorators.iter().find_map(|decorator| {
            match &decorator.object {
                Object::Method(property, name) if self.name(*name) == "setter" => Some((**property).clone()),
                _ => None,
            }
        })?;
        self.setters.insert(key, function);
        Some(property)
    }

    /// What the decorators make of a function. What a library's decorator returns is taken for the function, and so is what is no
    /// function; properties and static methods are told by their decorators, which stay those of the function.
    fn decorated(&mut self, function: FunctionId, value: Value) -> Value {
        let mut decorated = value;
        let is_descriptor = self.closures[function.index()]
            .decorators
            .iter()
            .any(|decorator| decorator.path_name().is_some());
        for index in (0..self.closures[function.index()].decorators.len()).rev() {
            let decorator = self.closures[function.index()].decorators[index].clone();
            let is_known = matches!(
                decorator.object,
                Object::Function(..)
                    | Object::Bound(..)
                    | Object::Class(_)
                    | Object::Local(..)
                    | Object::Partial(..)
            );
            if !is_known {
                continue;
            }
            let result = self.call_from_library(&decorator, &vec![(ArgKind::Positional, decorated.clone())]);
            if !is_descriptor && self.can_be_called(&result) {
                decorated = result;
            }
        }
        match decorated.object {
            Object::Function(target, _) if target != function => {
                self.wrappers.insert(function, decorated.clone());
            }
            _ => drop(self.wrappers.remove(&function)),
        }
        decorated
    }

    fn can_be_called(&mut self, value: &Value) -> bool {
        match value.object {
            Object::Function(..) | Object::Bound(..) | Object::Partial(..) => true,
            Object::Local(class, _) => self.method_of(class, value, "__call__").is_some(),
            _ => false,
        }
    }
}

/// The value that a closure took along.
pub(super) fn captured_value(captured: &Captured, owner: FunctionId, name: Symbol) -> Option<&Value> {
    let captured = captured.as_ref()?;
    captured.iter().find(|(of, known, _)| (*of, *known) == (owner, name)).map(|(_, _, value)| value)
}

/// How deep closures nest in the variables of a closure.
fn nested(value: &Value) -> u32 {
    match &value.object {
        Object::Function(_, Some(captured)) | Object::Bound(_, Some(captured), _) => {
            1 + captured.iter().map(|(_, _, value)| nested(value)).max().unwrap_or(0)
        }
        Object::Partial(target, _) => nested(target),
        _ => 0,
    }
}
