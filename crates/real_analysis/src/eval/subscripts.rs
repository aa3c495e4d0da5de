//! Elements and parts: subscripts, slices, iteration, unpacking, and the displays that make containers.

use std::rc::Rc;

use super::Engine;
use super::guards::MAX_TINY;
use super::heap::{HeapObject, Key, Role, key_of};
use super::strings::{Arguments, partitioned, positional};
use crate::ir::{ArgKind, ClassId, Item, Op, Position, SequenceKind, ValueId};
use crate::library::{DOCUMENT_STORES, NAMESPACE, TEXT_PARTS, UPLOAD, UPLOADS};
use crate::text::{Checks, Text};
use crate::value::{HeapId, Object, Value};

/// Slices up to this length are short.
const MAX_SHORT: i64 = 256;

/// Attributes of requests under which the named parts of the path are.
const PATH_PARTS: &[&str] = &["match_info", "path_params", "matchdict", "view_args", "path_kwargs", "kwargs"];

impl Engine<'_> {
    pub(super) fn subscript(&mut self, object: &Value, index: &Value) -> Value {
        if let Some(item) = self.special_method(object, "__getitem__", &[index]) {
            return item;
        }
        let value = match &object.object {
            // Fields of a named tuple also have positions, and those of a typed dictionary are keys.
            Object::Local(class, Some(heap)) => {
                let field = self.field_at(*class, *heap, index);
                Value { text: field.text.join_taint(&object.text), ..field }
            }
            Object::Container(heap) => {
                let key = key_of(index);
                let heap = *heap;
                match key.as_ref().filter(|key| !self.heap[heap.0 as usize].has(key)) {
                    Some(name) if let Some(section) = self.section(heap, name) => section,
                    _ => self.load_key(heap, key.as_ref()),
                }
            }
            Object::Text
                if let (Object::Int(index), Some(text)) = (&index.object, object.text.as_constant()) =>
            {
                let at = if *index < 0 { index + text.chars().count() as i64 } else { *index };
                let character = usize::try_from(at).ok().and_then(|at| text.chars().nth(at));
                character.map_or_else(Value::unknown, |character| Value::constant(character.to_string()))
            }
            Object::Path(path) if &**path == "builtins" || path.ends_with("__dict__") => {
                let parent = path.trim_end_matches(".__dict__");
                match index.text.as_constant() {
                    Some(name) => self.library_member(&format!("{parent}.{name}").into()),
                    None => Value::path("builtins.?"),
                }
            }
            Object::Instance(path) if &**path == UPLOADS => uploaded(object),
            Object::Instance(path)
                if &**path == NAMESPACE
                    && index.text.as_constant().is_some_and(|name| self.is_harmless_option(name)) =>
            {
                Value::number()
            }
            // A database of a client, and a collection of it.
            Object::Instance(path) if is_document_store(path) => object.clone(),
            Object::Instance(path) | Object::Path(path) if is_session(path) => {
                let member = index.text.as_constant().map(session_member);
                member.and_then(|path| self.members.get(&path).cloned()).unwrap_or_else(Value::unknown)
            }
            _ => self.part_of_request(object),
        };
        match &object.elements {
            Some(elements) => value.refined(elements),
            None => value,
        }
    }

    /// A subscript of an expression that says more than its value: a match, the parts of a path.
    pub(super) fn subscript_of(&mut self, id: ValueId, object: &Value, index: &Value) -> Value {
        if matches!(&object.object, Object::Instance(path) if &**path == "re.match") {
            return self.group_of(id, &vec![(ArgKind::Positional, index.clone())], object);
        }
        if let Object::Int(position) = index.object
            && let Some(piece) = self.piece_of(id, position)
        {
            return piece;
        }
        let value = self.subscript(object, index);
        let Op::Attribute { name, .. } = self.op(id) else { return value };
        let part = index.text.as_constant();
        match part.filter(|_| PATH_PARTS.contains(&self.name(*name))) {
            Some(part) => self.as_declared(self.frame().function, part, value),
            None => value,
        }
    }

    /// `path.rsplit("/", 1)[-1]`, `line.split(":", 1)[0]`: the piece that the search began with has no separator in it.
    fn piece_of(&self, call: ValueId, position: i64) -> Option<Value> {
        let Op::Call { callee, args } = self.op(call) else { return None };
        let Op::Attribute { object, name } = self.op(*callee) else { return None };
        let [separator, _] = &args[..] else { return None };
        if !matches!((self.name(*name), position), ("rsplit", -1) | ("split", 0)) {
            return None;
        }
        let separator = self.known(separator.value);
        let separator = separator.text.as_constant().filter(|text| text.chars().count() == 1)?;
        let whole = self.known(*object);
        let is_text = whole.taint() != 0 && !matches!(whole.object, Object::Path(_) | Object::Instance(_));
        let from_end = position == -1;
        let [before, _, behind] = partitioned(&whole.text, separator, from_end);
        is_text.then_some(if from_end { behind } else { before })
    }

    /// `session.get("folder", "public")`, `session.pop("folder")`
    pub(super) fn session_method(&mut self, name: &str, arguments: &Arguments) -> Option<Value> {
        let key = positional(arguments, 0).filter(|_| matches!(name, "get" | "pop" | "setdefault"))?;
        let stored = self.subscript(&Value::path(SESSION), key);
        Some(match positional(arguments, 1) {
            Some(default) => stored.join(default),
            None => stored,
        })
    }

    /// Something inside a value; parts of a request that only hold texts give texts.
    pub(super) fn part_of_request(&self, object: &Value) -> Value {
        let part = object.any_text_keeping_mask();
        let name = match &object.object {
            Object::Path(path) => path.rsplit('.').next().unwrap_or_default(),
            Object::Method(_, name) => self.name(*name),
            _ => return part,
        };
        let is_text = object.taint() != 0 && TEXT_PARTS.contains(&name);
        if is_text { Value { object: Object::Text, ..part } } else { part }
    }

    pub(super) fn slice(&mut self, id: ValueId, object: &Value, bounds: &[Option<Value>; 3]) -> Value {
        let known = bounds.each_ref().map(|bound| match bound.as_ref().map(|bound| &bound.object) {
            None | Some(Object::None) => Some(None),
            Some(Object::Int(bound)) => Some(Some(*bound)),
            Some(_) => None,
        });
        if let [Some(start), Some(end), Some(None)] = known {
            if let Object::Container(heap) = object.object
                && let Some(part) = self.sublist(id, heap, [start, end])
            {
                return part;
            }
            if let Some(text) = object.text.as_constant().filter(|_| object.object == Object::Text) {
                return Value::constant(part_of(text, start, end));
            }
        }
        if let Object::Container(heap) = object.object {
            let part = self.copy(id, Role::Slice, heap);
            match known {
                [Some(None), Some(None), Some(Some(-1))] => self.reverse(part),
                [Some(None), Some(None), Some(None)] => {}
                _ => self.forget_positions(part),
            }
            return Value { elements: object.elements.clone(), ..self.container(part) };
        }
        if let [Some(None | Some(0)), Some(Some(0)), _] = known {
            return Value::constant("");
        }
        let mut hole = object.text.summary();
        if matches!(known, [Some(None | Some(0..)), Some(Some(0..MAX_SHORT)), _]) {
            hole.checks = hole.checks.with(Checks::SHORT);
            if matches!(known, [_, Some(Some(..=MAX_TINY)), _]) {
                hole.checks = hole.checks.with(Checks::TINY);
            }
        }
        Value { object: Object::Unknown, text: Text::hole(hole), elements: object.elements.clone() }
    }

    pub(super) fn store_subscript(&mut self, object: &Value, index: &Value, value: &Value) {
        match object.object {
            Object::Container(heap) => {
                let key = key_of(index);
                if key.is_none() {
                    self.store_dynamic_key(heap, index);
                }
                self.store_key(heap, key, value);
            }
            // What one request stores another reads.
            Object::Instance(ref path) | Object::Path(ref path) if is_session(path) => {
                if let Some(key) = index.text.as_constant() {
                    self.set_member(session_member(key), value);
                }
            }
            Object::Local(_, heap) => {
                let is_handled = self.special_method(object, "__setitem__", &[index, value]).is_some();
                if let (false, Some(heap)) = (is_handled, heap) {
                    self.store_key(heap, Some(item_key(index)), value);
                }
            }
            _ => {}
        }
    }

    pub(super) fn sequence(&mut self, id: ValueId, kind: SequenceKind, items: &[Item]) -> Value {
        let heap = self.allocate(id, false);
        for item in items {
            match item {
                Item::One(value) => {
                    let value = self.get(*value);
                    self.append(heap, &value);
                }
                Item::Starred(value) => {
                    let value = self.get(*value);
                    let element = self.element(&value);
                    self.heap[heap.0 as usize].next = None;
                    self.store_rest(heap, &element);
                }
            }
        }
        if kind == SequenceKind::Set {
            // Nobody knows the order, nor how many are equal.
            self.heap[heap.0 as usize].next = None;
        }
        self.container(heap)
    }

    pub(super) fn dict(&mut self, id: ValueId, pairs: &[(Option<ValueId>, ValueId)]) -> Value {
        let heap = self.allocate(id, true);
        for (key, value) in pairs {
            let value = self.get(*value);
            match key {
                Some(key) => {
                    let key = self.get(*key);
                    self.store_subscript(&Value::new(Object::Container(heap), Text::unknown()), &key, &value);
                }
                None => self.merge_into(heap, &value),
            }
        }
        self.container(heap)
    }

    /// The attribute at a position among the declared fields.
    fn field_at(&self, class: ClassId, heap: HeapId, index: &Value) -> Value {
        let fields = self.fields_of(class);
        let field = match index.object {
            Object::Int(index) => usize::try_from(index).ok().and_then(|index| fields.get(index)),
            _ => None,
        };
        let stored = item_key(index);
        let named = key_of(index).filter(|key| self.heap[heap.0 as usize].has(key));
        match field {
            Some(field) => self.load_key(heap, Some(&Key::Name(self.module.symbols.shared(*field)))),
            None if self.heap[heap.0 as usize].has(&stored) => self.load_key(heap, Some(&stored)),
            None if named.is_some() => self.load_key(heap, named.as_ref()),
            None => self.container(heap).any_text(),
        }
    }

    /// `{**value}` or `heap.update(value)`.
    pub(super) fn merge_into(&mut self, heap: HeapId, value: &Value) {
        if let Object::Container(from) = value.object {
            let object = self.heap[from.0 as usize].clone();
            if !object.is_dict {
                return self.merge_pairs(heap, &object);
            }
            object.rest.iter().for_each(|rest| self.join_into_fields(heap, rest));
            object.fields.into_iter().for_each(|(key, value)| self.store_key(heap, Some(key), &value));
            object.rest.iter().for_each(|rest| self.store_rest(heap, rest));
            object.keys.iter().for_each(|keys| self.store_dynamic_key(heap, keys));
        } else {
            self.join_into_fields(heap, &value.any_text());
            self.store_rest(heap, &value.any_text());
            self.store_dynamic_key(heap, &value.any_text());
        }
    }

    /// Something hostile under keys that nobody knows: any known one may be among them.
    fn join_into_fields(&mut self, heap: HeapId, value: &Value) {
        if value.taint() == 0 {
            return;
        }
        for (key, known) in self.heap[heap.0 as usize].fields.clone() {
            self.store_key(heap, Some(key), &known.join(value));
        }
    }

    /// `dict([(key, value), …])`
    fn merge_pairs(&mut self, heap: HeapId, pairs: &HeapObject) {
        let pairs = pairs.fields.iter().map(|(_, pair)| pair).chain(&pairs.rest).cloned();
        for pair in pairs.collect::<Vec<_>>() {
            let [key, value] = [0, 1].map(|index| self.subscript(&pair, &Value::int(index)));
            self.store_subscript(&Value::new(Object::Container(heap), Text::unknown()), &key, &value);
        }
    }

    /// What iterating over a value gives.
    pub(super) fn element(&mut self, iterable: &Value) -> Value {
        let element = match &iterable.object {
            Object::Container(heap) => self.iterated(*heap),
            Object::Bound(..) | Object::Function(..) => Value::unknown(),
            Object::Local(..) if let Some(element) = self.iterated_object(iterable) => element,
            _ => iterable.any_text_keeping_mask(),
        };
        match &iterable.elements {
            Some(elements) => element.refined(elements),
            None => element,
        }
    }

    pub(super) fn unpack(&mut self, id: ValueId, value: &Value, position: Position) -> Value {
        match (&value.object, position) {
            (Object::Local(class, Some(heap)), Position::Front(index)) => {
                self.field_at(*class, *heap, &Value::int(i64::from(index)))
            }
            (Object::Container(heap), Position::Front(index)) => {
                self.load_key(*heap, Some(&Key::Index(i64::from(index))))
            }
            (Object::Container(heap), Position::Back(index)) => {
                self.load_key(*heap, Some(&Key::Index(-1 - i64::from(index))))
            }
            (Object::Container(heap), Position::Rest(start)) => {
                let rest = self.sublist(id, *heap, [Some(i64::from(start)), None]);
                rest.unwrap_or_else(|| value.clone())
            }
            _ => self.element(value),
        }
    }
}

/// One of the files that a client sent.
pub(super) fn uploaded(files: &Value) -> Value {
    Value { object: Object::Instance(UPLOAD.into()), ..files.any_text() }
}

/// Where an object of a class that is a dictionary keeps an item, beside its attributes.
fn item_key(index: &Value) -> Key {
    Key::Name(format!("[{}]", index.text.as_constant().unwrap_or_default()).into())
}

/// `text[start:end]`
fn part_of(text: &str, start: Option<i64>, end: Option<i64>) -> String {
    let length = text.chars().count() as i64;
    let clamp = |bound: i64| (if bound < 0 { bound + length } else { bound }).clamp(0, length);
    let (start, end) = (clamp(start.unwrap_or(0)), clamp(end.unwrap_or(length)));
    text.chars().skip(start as usize).take((end - start).max(0) as usize).collect()
}

/// The session of a framework that keeps one a client.
const SESSION: &str = "web.session";

pub(super) fn is_session(path: &str) -> bool {
    matches!(path, SESSION | "flask.session" | "quart.session")
}

/// A key of the session as a member of a library.
fn session_member(key: &str) -> Rc<str> {
    format!("{SESSION}.[{key}]").into()
}

/// Whether an object is of a database of documents.
pub(super) fn is_document_store(path: &str) -> bool {
    path.split_once('.').is_some_and(|(library, _)| DOCUMENT_STORES.contains(&library))
}
