//! What each instruction computes. A table: one arm an instruction; details are below and in `attributes.rs`, `operators.rs`,
//! `subscripts.rs`, `exceptions.rs` and `calls.rs`.

use super::Engine;
use super::changes::Shared;
use super::closures::captured_value;
use super::operators::unary;
use crate::ir::{Constant, FunctionId, Op, Piece, Symbol, ValueId};
use crate::library::{self, Concept};
use crate::rules::Situation;
use crate::text::{Checks, Hole, Mask, Text};
use crate::value::{Object, Value};

impl Engine<'_> {
    pub(super) fn evaluate(&mut self, id: ValueId, op: &Op) -> Value {
        match op {
            // The first three never come here: `Engine::pass` knows them.
            Op::Constant(_) | Op::Param(_) | Op::Phi(_) | Op::Undefined => Value::unknown(),
            Op::Caught { kind, dispatch } => self.caught(*kind, *dispatch),
            Op::Raise(exception) => {
                let exception = self.get(*exception);
                self.raise(exception);
                Value::none()
            }
            Op::Enter(context) => {
                let context = self.get(*context);
                self.entered(&context)
            }
            Op::Global(name) => self.global(*name),
            Op::Free(function, name) => self.captured(*function, *name),
            Op::Builtin(name) => self.builtin(*name),
            Op::Import(path) => self.library_member(&self.module.symbols.shared(*path)),
            Op::Attribute { object, name } => {
                let object = self.get(*object);
                self.attribute(&object, *name)
            }
            Op::Subscript { object, index } => {
                let (value, index) = (self.get(*object), self.get(*index));
                self.subscript_of(*object, &value, &index)
            }
            Op::Slice { object, bounds } => {
                let object = self.get(*object);
                let bounds = bounds.map(|bound| bound.map(|bound| self.get(bound)));
                self.slice(id, &object, &bounds)
            }
            Op::Call { callee, args } => self.call(id, *callee, args),
            Op::Binary { op, left, right } => {
                let (left, right) = (self.get(*left), self.get(*right));
                self.binary(id, *op, &left, &right)
            }
            Op::Unary { op, operand } => {
                let operand = self.get(*operand);
                unary(*op, &operand)
            }
            Op::Compare { op, left, right } => {
                let (left, right) = (self.get(*left), self.get(*right));
                self.compare(*op, &left, &right)
            }
            Op::Format(pieces) => self.format(pieces),
            Op::Sequence { kind, items } => self.sequence(id, *kind, items),
            Op::Dict(pairs) => self.dict(id, pairs),
            Op::Element(iterable) => {
                let iterable = self.get(*iterable);
                self.element(&iterable)
            }
            Op::Unpack { value, position } => {
                let value = self.get(*value);
                self.unpack(id, &value, *position)
            }
            Op::Closure { function, defaults, decorators } => self.closure(*function, defaults, decorators),
            Op::ClassObject { class, bases } => {
                self.bases[class.index()] = bases.iter().map(|base| self.get(*base)).collect();
                let body = self.module.classes[class.index()].body;
                self.run(body, &None, &[], false);
                Value::new(Object::Class(*class), Text::unknown())
            }
            Op::Yield(value) => {
                let value = self.get(*value);
                let frame = self.frame_mut();
                frame.yielded =
                    Some(frame.yielded.as_ref().map_or_else(|| value.clone(), |known| known.join(&value)));
                Value::unknown()
            }
            Op::StoreAttribute { .. }
            | Op::StoreSubscript { .. }
            | Op::StoreGlobal(..)
            | Op::StoreFree(..)
            | Op::Append { .. } => {
                self.store(op);
                Value::none()
            }
        }
    }

    /// Instructions that only change something.
    fn store(&mut self, op: &Op) {
        match op {
            Op::StoreAttribute { object, name, value } => {
                let origin = *value;
                let (object, value) = (self.get(*object), self.get(*value));
                self.check_assignment(self.name(*name), &value);
                self.check_content(self.name(*name), &value, origin);
                if let Object::Instance(path) = &object.object {
                    if **path == *"flask.Flask" {
                        self.check_assignment(&format!("{path}.{}", self.name(*name)), &value);
                    }
                    if path.ends_with("Response")
                        && matches!(self.name(*name), "data" | "content" | "response")
                    {
                        self.judge_as_given(Concept::Html, "", &value.text, origin, &Situation::default());
                    }
                }
                self.store_attribute(&object, *name, &value);
            }
            Op::StoreSubscript { object, index, value } => {
                let origin = *value;
                let (object, index, value) = (self.get(*object), self.get(*index), self.get(*value));
                self.check_stored(&object, &index, &value, origin);
                self.store_subscript(&object, &index, &value);
            }
            Op::StoreGlobal(name, value) => {
                let value = self.get(*value);
                self.set_global(*name, &value);
            }
            Op::StoreFree(function, name, value) => {
                let value = self.get(*value);
                self.set_free(*function, *name, &value);
            }
            Op::Append { container, value } => {
                let value = self.get(*value);
                if let Object::Container(heap) = self.known(*container).object {
                    self.append(heap, &value);
                    self.refresh_container(*container, heap);
                }
            }
            _ => unreachable!("only stores are given here"),
        }
    }

    fn format(&mut self, pieces: &[Piece]) -> Value {
        let mut text = Text::constant("");
        for piece in pieces {
            let part = match piece {
                Piece::Text(constant) => Text::constant(constant.clone()),
                Piece::Value { value, repr, spec } => {
                    let value = self.get(*value);
                    let value = self.stringified(&value);
                    formatted(&value, *repr, spec)
                }
            };
            text = text.concat(&part);
        }
        Value::string(text)
    }

    /// A container's elements changed: so did its taint.
    pub(super) fn refresh_container(&mut self, container: ValueId, heap: crate::value::HeapId) {
        let value = self.container(heap);
        let elements = self.known(container).elements;
        self.frame_mut().values[container.index()] = Some(Value { elements, ..value });
    }

    /// A module variable as a function sees it: any of its values.
    fn global(&mut self, name: Symbol) -> Value {
        self.note_read(Shared::Global(name));
        let module_frame = self.frames.iter().find(|frame| frame.function.0 == 0);
        let mut value = self.globals.get(&name).cloned();
        if let Some(frame) = module_frame {
            for (written, id) in &self.module.functions[0].writes {
                if let (true, Some(known)) = (*written == name, &frame.values[id.index()]) {
                    value = Some(value.map_or_else(|| known.clone(), |joined| joined.join(known)));
                }
            }
        }
        value.map_or_else(Value::unknown, |value| self.refresh(value))
    }

    /// A variable of an enclosing function: any of its values.
    fn captured(&mut self, function: FunctionId, name: Symbol) -> Value {
        if let Some(value) = captured_value(&self.frame().captured, function, name) {
            return self.refresh(value.clone());
        }
        self.note_read(Shared::Captured(function, name));
        let mut value = self.free.get(&(function, name)).cloned();
        if let Some(frame) = self.frames.iter().rev().find(|frame| frame.function == function) {
            for (written, id) in &self.module.functions[function.index()].writes {
                if let (true, Some(known)) = (*written == name, &frame.values[id.index()]) {
                    value = Some(value.map_or_else(|| known.clone(), |joined| joined.join(known)));
                }
            }
        }
        value.map_or_else(Value::unknown, |value| self.refresh(value))
    }

    pub(super) fn refresh(&self, value: Value) -> Value {
        match value.object {
            Object::Container(heap) => Value { elements: value.elements, ..self.container(heap) },
            _ => value,
        }
    }

    fn builtin(&mut self, name: Symbol) -> Value {
        let text = self.name(name);
        match text {
            "__builtins__" => return Value::path("builtins"),
            "__name__" => return Value::string(Text::unknown()),
            _ => {}
        }
        if let Some(value) = self.builtins.get(&name).filter(|_| self.members.is_empty()) {
            return value.clone();
        }
        let value = self.builtin_value(name, text);
        // What is no source, and what nobody assigned, stays what it is.
        if value.taint() == 0 && self.members.is_empty() && !self.globals.contains_key(&name) {
            self.builtins.insert(name, value.clone());
        }
        value
    }

    fn builtin_value(&mut self, name: Symbol, text: &str) -> Value {
        // A name that only functions bind, declared `global`.
        self.note_read(Shared::Global(name));
        if let Some(value) = self.globals.get(&name).cloned() {
            return self.refresh(value);
        }
        let path = format!("builtins.{text}");
        // A snippet that was cut out of a program uses modules that it does not import.
        if self.libraries.is_module(text) && self.libraries.find(&path).is_none() {
            return Value::path(text);
        }
        if let Some((_, path)) = library::USUAL_NAMES.iter().find(|(known, _)| *known == text) {
            return Value::path(*path);
        }
        if self.libraries.find(&path).is_none()
            && let Some(module) = self.module.star_imports.last()
        {
            return Value::path(format!("{}.{text}", self.name(*module)));
        }
        self.library_member(&path.into())
    }

    pub(super) fn current_range(&self) -> crate::ir::Range {
        self.function().insts[self.frame().inst.index()].range
    }
}

impl Text {
    /// The text with the taint of another text's holes.
    pub(super) fn join_taint(&self, other: &Self) -> Self {
        let taint = other.taint();
        if taint == 0 { self.clone() } else { Self::tainted(taint | self.taint()) }
    }
}

impl Value {
    /// Something of the same origin that holds no other characters: an element, a part.
    pub(crate) fn any_text_keeping_mask(&self) -> Self {
        let hole = self.text.summary();
        Self::new(Object::Unknown, Text::hole(Hole { checks: crate::text::Checks(hole.checks.0), ..hole }))
    }
}

pub(super) fn constant_value(constant: &Constant) -> Value {
    match constant {
        Constant::None => Value::none(),
        Constant::Bool(value) => Value::bool(Some(*value)),
        Constant::Int(value) => Value::int(*value),
        Constant::Float(_) | Constant::Other => Value::number(),
        Constant::Str(text) => Value::constant(text.clone()),
        Constant::Bytes(bytes) => Value::constant(String::from_utf8_lossy(bytes).as_ref()),
    }
}

/// A value inside an f-string or `format`.
pub(super) fn formatted(value: &Value, repr: bool, spec: &str) -> Text {
    let numeric = spec.ends_with(['d', 'f', 'e', 'g', 'x', 'X', 'b', 'o', '%', 'n']) || spec.ends_with('F');
    if numeric {
        return Text::number();
    }
    if repr && !value.is_number() {
        let hole = value.text.summary();
        // Of a text it is one literal of Python's.
        let literal = Checks::QUOTE_FIRST.with(Checks::NO_QUOTE_INSIDE);
        let checks = if value.object == Object::Text { literal } else { Checks::NONE };
        let mask = hole.mask.union(Mask::ascii(b"'\"\\")).minus(Mask::ascii(b"\r\n"));
        return Text::hole(Hole { mask, checks, ..hole });
    }
    value.text.clone()
}
