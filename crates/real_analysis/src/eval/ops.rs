//! What each instruction computes. A table: one arm an instruction, details in functions below.

use std::rc::Rc;

use super::heap::{Key, key_of};
use super::{Closure, Engine};
use crate::ir::{
    BinaryOp, CompareOp, Constant, FunctionId, Item, Op, Piece, Position, SequenceKind, Symbol, UnaryOp,
    ValueId,
};
use crate::library::{Api, Returns};
use crate::text::{Hole, Mask, Text};
use crate::value::{Object, Value};

impl Engine<'_> {
    pub(super) fn evaluate(&mut self, id: ValueId, op: &Op) -> Value {
        match op {
            Op::Constant(constant) => constant_value(constant),
            Op::Param(_) | Op::Phi(_) | Op::Undefined | Op::Caught(_) => Value::unknown(),
            Op::Global(name) => self.global(*name),
            Op::Free(function, name) => self.captured(*function, *name),
            Op::Builtin(name) => self.builtin(*name),
            Op::Import(path) => self.library_member(&self.module.symbols.shared(*path)),
            Op::Attribute { object, name } => {
                let object = self.get(*object);
                self.attribute(&object, *name)
            }
            Op::Subscript { object, index } => {
                let (object, index) = (self.get(*object), self.get(*index));
                self.subscript(&object, &index)
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
                self.unpack(&value, *position)
            }
            Op::Closure { function, defaults, decorators } => self.closure(*function, defaults, decorators),
            Op::ClassObject { class, bases } => {
                self.bases[class.index()] = bases.iter().map(|base| self.get(*base)).collect();
                let body = self.module.classes[class.index()].body;
                self.run(body, &[], false);
                Value::new(Object::Class(*class), Text::unknown())
            }
            Op::Yield(value) => {
                let value = self.get(*value);
                let frame = self.frame_mut();
                frame.yielded =
                    Some(frame.yielded.as_ref().map_or_else(|| value.clone(), |known| known.join(&value)));
                Value::unknown()
            }
            Op::StoreAttribute { object, name, value } => {
                let (object, value) = (self.get(*object), self.get(*value));
                self.check_assignment(self.name(*name), &value);
                if let Object::Instance(path) = &object.object
                    && **path == *"flask.Flask"
                {
                    self.check_assignment(&format!("{path}.{}", self.name(*name)), &value);
                }
                self.store_attribute(&object, *name, &value);
                Value::none()
            }
            Op::StoreSubscript { object, index, value } => {
                let origin = *value;
                let (object, index, value) = (self.get(*object), self.get(*index), self.get(*value));
                self.check_stored(&object, &index, &value, origin);
                self.store_subscript(&object, &index, &value);
                Value::none()
            }
            Op::StoreGlobal(name, value) => {
                let value = self.get(*value);
                self.set_global(*name, &value);
                Value::none()
            }
            Op::StoreFree(function, name, value) => {
                let value = self.get(*value);
                self.set_free(*function, *name, &value);
                Value::none()
            }
            Op::Append { container, value } => {
                let value = self.get(*value);
                if let Object::Container(heap) = self.known(*container).object {
                    self.append(heap, &value);
                    self.refresh_container(*container, heap);
                }
                Value::none()
            }
        }
    }

    /// A function is defined here: its defaults and decorators are what they are now.
    fn closure(
        &mut self,
        function: FunctionId,
        defaults: &[(u32, ValueId)],
        decorators: &[ValueId],
    ) -> Value {
        self.check_decorators(decorators);
        self.note_pages(function, decorators);
        let defaults = defaults.iter().map(|(index, value)| (*index, self.get(*value))).collect();
        let decorators = decorators.iter().map(|value| self.get(*value)).collect();
        self.closures[function.index()] = Closure { defaults, decorators };
        Value::new(Object::Function(function), Text::unknown())
    }

    /// A container's elements changed: so did its taint.
    pub(super) fn refresh_container(&mut self, container: ValueId, heap: crate::value::HeapId) {
        let value = self.container(heap);
        let elements = self.known(container).elements;
        self.frame_mut().values[container.index()] = Some(Value { elements, ..value });
    }

    /// A module variable as a function sees it: any of its values.
    fn global(&mut self, name: Symbol) -> Value {
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
    fn captured(&mut self, function: crate::ir::FunctionId, name: Symbol) -> Value {
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

    fn refresh(&self, value: Value) -> Value {
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
        let path = format!("builtins.{text}");
        // A snippet that was cut out of a program uses modules that it does not import.
        if self.libraries.is_module(text) && self.libraries.find(&path).is_none() {
            return Value::path(text);
        }
        if self.libraries.find(&path).is_none()
            && let Some(module) = self.module.star_imports.last()
        {
            return Value::path(format!("{}.{text}", self.name(*module)));
        }
        self.library_member(&path.into())
    }

    /// A member of a library, which may itself be a source.
    pub(super) fn library_member(&mut self, path: &Rc<str>) -> Value {
        let object = Object::Path(path.clone());
        if let Some(bits) = path.strip_prefix("stat.S_I").and_then(permission) {
            return Value::int(bits);
        }
        match self.libraries.find(path) {
            Some(Api { returns: Returns::Source(origin, what), is_attribute: true, .. }) => {
                let range = self.current_range();
                let taint = self.source(range, *origin, what);
                Value::new(object, Text::tainted(taint))
            }
            _ => Value::new(object, Text::unknown()),
        }
    }

    pub(super) fn attribute(&mut self, object: &Value, name: Symbol) -> Value {
        let text = self.name(name);
        match &object.object {
            Object::Path(path) => {
                let path: Rc<str> = format!("{path}.{text}").into();
                if object.taint() != 0
                    && let Some(value) = self.known_member(&path, object)
                {
                    return value;
                }
                let member = self.library_member(&path);
                Value { text: member.text.join_taint(&object.text), ..member }
            }
            Object::Class(class) => self.class_attribute(*class, name, None),
            Object::Local(class) => self.class_attribute(*class, name, Some(object)),
            Object::Instance(path) if is_data_attribute(path, text) => {
                // A part of a URL, of an exception, of a parsed path.
                object.any_text()
            }
            Object::Instance(path)
                if self.libraries.has_attributes(path)
                    && let Some(value) = self.known_member(&format!("{path}.{text}"), object) =>
            {
                value
            }
            _ => Value::new(Object::Method(Rc::new(object.clone()), name), object.any_text().text),
        }
    }

    /// An attribute of an object that the tables know.
    fn known_member(&mut self, path: &str, object: &Value) -> Option<Value> {
        let api = self.libraries.find(path).filter(|api| api.is_attribute)?;
        Some(match &api.returns {
            Returns::Source(origin, what) => {
                let taint = self.source(self.current_range(), *origin, what);
                Value::new(Object::Unknown, Text::tainted(taint))
            }
            Returns::Object(path) => Value::new(Object::Instance((&**path).into()), Text::unknown()),
            Returns::Number => Value::number(),
            Returns::Masked(mask) => object.masked(*mask),
            Returns::Mixed | Returns::Same => object.any_text(),
            _ => Value::unknown(),
        })
    }

    fn class_attribute(
        &mut self,
        object_class: crate::ir::ClassId,
        name: Symbol,
        receiver: Option<&Value>,
    ) -> Value {
        let mut pending = vec![object_class];
        let mut seen = Vec::new();
        while let Some(class) = pending.pop() {
            if seen.contains(&class) {
                continue;
            }
            seen.push(class);
            if let Some(value) = self.fields.get(&(class, name)).cloned() {
                let value = self.refresh(value);
                let Object::Function(function) = value.object else { return value };
                return self.method(function, object_class, receiver);
            }
            pending.extend(self.bases[class.index()].iter().filter_map(|base| match base.object {
                Object::Class(class) => Some(class),
                _ => None,
            }));
        }
        let Some(receiver) = receiver else { return Value::unknown() };
        if let Some(base) = self.foreign_base(object_class, self.name(name))
            && let Some(value) = self.known_member(&format!("{base}.{}", self.name(name)), receiver)
        {
            return value;
        }
        Value::new(Object::Method(Rc::new(receiver.clone()), name), receiver.any_text().text)
    }

    /// A function of a class as an attribute of the class or of one of its objects.
    fn method(
        &mut self,
        function: crate::ir::FunctionId,
        class: crate::ir::ClassId,
        receiver: Option<&Value>,
    ) -> Value {
        let bound = |receiver: Value| Value::new(Object::Bound(function, Rc::new(receiver)), Text::unknown());
        if self.is_decorated(function, &["builtins.staticmethod"]) {
            return Value::new(Object::Function(function), Text::unknown());
        }
        if self.is_decorated(function, &["builtins.classmethod"]) {
            return bound(Value::new(Object::Class(class), Text::unknown()));
        }
        let Some(receiver) = receiver else { return Value::new(Object::Function(function), Text::unknown()) };
        if self.is_decorated(function, &["builtins.property", "functools.cached_property"]) {
            return self.call_from_library(&bound(receiver.clone()), &Vec::new());
        }
        bound(receiver.clone())
    }

    pub(super) fn is_decorated(&self, function: crate::ir::FunctionId, with: &[&str]) -> bool {
        let decorators = &self.closures[function.index()].decorators;
        decorators.iter().any(|decorator| decorator.path_name().is_some_and(|path| with.contains(&path)))
    }

    pub(super) fn subscript(&mut self, object: &Value, index: &Value) -> Value {
        let value = match &object.object {
            Object::Container(heap) => {
                let key = key_of(index);
                self.load_key(*heap, key.as_ref())
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
            _ => object.any_text_keeping_mask(),
        };
        match &object.elements {
            Some(elements) => value.refined(elements),
            None => value,
        }
    }

    fn slice(&mut self, id: ValueId, object: &Value, bounds: &[Option<Value>; 3]) -> Value {
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
        if let Object::Container(_) = object.object {
            return object.clone();
        }
        let text = Text::hole(object.text.summary());
        Value { object: Object::Unknown, text, elements: object.elements.clone() }
    }

    fn store_attribute(&mut self, object: &Value, name: Symbol, value: &Value) {
        if let Object::Local(class) | Object::Class(class) = object.object {
            self.set_field(class, name, value);
        }
    }

    fn store_subscript(&mut self, object: &Value, index: &Value, value: &Value) {
        if let Object::Container(heap) = object.object {
            let key = key_of(index);
            if key.is_none() {
                self.store_dynamic_key(heap, index);
            }
            self.store_key(heap, key, value);
        }
    }

    pub(super) fn binary(&mut self, id: ValueId, op: BinaryOp, left: &Value, right: &Value) -> Value {
        match op {
            BinaryOp::Add => self.add(id, left, right),
            BinaryOp::Modulo if !left.is_number() => self.percent(left, right),
            BinaryOp::Modulo | BinaryOp::FloorDivide => match (&left.object, &right.object) {
                (Object::Int(a), Object::Int(b)) if *a >= 0 && *b > 0 => {
                    Value::int(if op == BinaryOp::Modulo { a % b } else { a / b })
                }
                _ => arithmetic(left, right),
            },
            BinaryOp::Multiply => multiply(left, right),
            BinaryOp::Divide if is_path(left) || is_path(right) => {
                let text = strings_path(&left.text, &right.text);
                Value::new(Object::Instance("pathlib.Path".into()), text)
            }
            BinaryOp::Subtract => match (&left.object, &right.object) {
                (Object::Int(a), Object::Int(b)) => a.checked_sub(*b).map_or_else(Value::number, Value::int),
                _ => arithmetic(left, right),
            },
            BinaryOp::Or if is_regex_flag(left) && is_regex_flag(right) => {
                let flags = [left, right].map(|flag| flag.path_name().unwrap_or_default());
                Value::path(flags.join("|"))
            }
            BinaryOp::Or | BinaryOp::And
                if let (Object::Int(a), Object::Int(b)) = (&left.object, &right.object) =>
            {
                Value::int(if op == BinaryOp::Or { a | b } else { a & b })
            }
            BinaryOp::Or | BinaryOp::And => {
                let joined = left.join(right);
                if left.is_number() && right.is_number() { Value::number() } else { joined }
            }
            _ => arithmetic(left, right),
        }
    }

    fn add(&mut self, id: ValueId, left: &Value, right: &Value) -> Value {
        match (&left.object, &right.object) {
            (Object::Int(a), Object::Int(b)) => a.checked_add(*b).map_or_else(Value::number, Value::int),
            _ if left.is_number() && right.is_number() => Value::number(),
            (Object::Container(a), Object::Container(b)) => {
                let (a, b) = (*a, *b);
                let heap = self.allocate(id, false);
                for part in [a, b] {
                    let object = self.heap[part.0 as usize].clone();
                    object.fields.iter().for_each(|(_, value)| self.append(heap, value));
                    if let Some(rest) = &object.rest {
                        self.heap[heap.0 as usize].next = None;
                        self.store_rest(heap, rest);
                    }
                }
                self.container(heap)
            }
            (Object::Container(heap), _) => {
                let heap = *heap;
                self.store_rest(heap, &right.any_text());
                self.container(heap)
            }
            // A number plus something unknown is a number: strings do not add to numbers.
            _ if left.is_number() || right.is_number() => Value::number(),
            _ => Value::string(left.text.concat(&right.text)),
        }
    }

    fn compare(&mut self, op: CompareOp, left: &Value, right: &Value) -> Value {
        let equal = match (&left.object, &right.object) {
            (Object::Int(a), Object::Int(b)) => {
                return Value::bool(Some(match op {
                    CompareOp::Equal | CompareOp::Is => a == b,
                    CompareOp::NotEqual | CompareOp::IsNot => a != b,
                    CompareOp::Less => a < b,
                    CompareOp::LessEqual => a <= b,
                    CompareOp::Greater => a > b,
                    CompareOp::GreaterEqual => a >= b,
                    CompareOp::In | CompareOp::NotIn => return Value::bool(None),
                }));
            }
            (Object::Text, Object::Text) => match (left.text.as_constant(), right.text.as_constant()) {
                (Some(a), Some(b)) => match op {
                    CompareOp::In => return Value::bool(Some(b.contains(a))),
                    CompareOp::NotIn => return Value::bool(Some(!b.contains(a))),
                    _ => Some(a == b),
                },
                _ => None,
            },
            (Object::None, Object::None) => Some(true),
            (Object::Text | Object::Int(_) | Object::Function(_) | Object::Path(_), Object::None) => {
                Some(false)
            }
            (Object::Text, Object::Container(_)) if matches!(op, CompareOp::In | CompareOp::NotIn) => {
                let known = left.text.as_constant().map(str::to_owned);
                let members = self.constant_members(right);
                return Value::bool(known.zip(members).map(|(known, members)| {
                    members.iter().any(|member| **member == *known) == (op == CompareOp::In)
                }));
            }
            _ => None,
        };
        Value::bool(equal.and_then(|equal| match op {
            CompareOp::Equal | CompareOp::Is => Some(equal),
            CompareOp::NotEqual | CompareOp::IsNot => Some(!equal),
            _ => None,
        }))
    }

    fn format(&mut self, pieces: &[Piece]) -> Value {
        let mut text = Text::constant("");
        for piece in pieces {
            let part = match piece {
                Piece::Text(constant) => Text::constant(constant.clone()),
                Piece::Value { value, repr, spec } => {
                    let value = self.get(*value);
                    formatted(&value, *repr, spec)
                }
            };
            text = text.concat(&part);
        }
        Value::string(text)
    }

    fn sequence(&mut self, id: ValueId, _kind: SequenceKind, items: &[Item]) -> Value {
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
        self.container(heap)
    }

    fn dict(&mut self, id: ValueId, pairs: &[(Option<ValueId>, ValueId)]) -> Value {
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

    /// `{**value}` or `heap.update(value)`.
    pub(super) fn merge_into(&mut self, heap: crate::value::HeapId, value: &Value) {
        if let Object::Container(from) = value.object {
            let object = self.heap[from.0 as usize].clone();
            object.fields.into_iter().for_each(|(key, value)| self.store_key(heap, Some(key), &value));
            object.rest.iter().for_each(|rest| self.store_rest(heap, rest));
            object.keys.iter().for_each(|keys| self.store_dynamic_key(heap, keys));
        } else {
            self.store_rest(heap, &value.any_text());
            self.store_dynamic_key(heap, &value.any_text());
        }
    }

    /// What iterating over a value gives.
    pub(super) fn element(&mut self, iterable: &Value) -> Value {
        let element = match &iterable.object {
            Object::Container(heap) => self.iterated(*heap),
            Object::Bound(..) | Object::Function(_) => Value::unknown(),
            _ => iterable.any_text_keeping_mask(),
        };
        match &iterable.elements {
            Some(elements) => element.refined(elements),
            None => element,
        }
    }

    fn unpack(&mut self, value: &Value, position: Position) -> Value {
        match (&value.object, position) {
            (Object::Container(heap), Position::Front(index)) => {
                self.load_key(*heap, Some(&Key::Index(i64::from(index))))
            }
            (Object::Container(heap), Position::Back(index)) => {
                self.load_key(*heap, Some(&Key::Index(-1 - i64::from(index))))
            }
            (Object::Container(heap), Position::Rest(start)) => {
                let at = self.frame().inst;
                let rest = self.sublist(at, *heap, [Some(i64::from(start)), None]);
                rest.unwrap_or_else(|| value.clone())
            }
            _ => self.element(value),
        }
    }

    pub(super) fn current_range(&self) -> crate::ir::Range {
        self.function().insts[self.frame().inst.index()].range
    }
}

impl Text {
    /// The text with the taint of another text's holes.
    fn join_taint(&self, other: &Self) -> Self {
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

fn is_data_attribute(path: &str, name: &str) -> bool {
    match path {
        "urllib.parse.urlparse" => {
            matches!(name, "netloc" | "hostname" | "scheme" | "path" | "query" | "fragment" | "port")
        }
        "pathlib.Path" => matches!(name, "name" | "stem" | "suffix" | "parent" | "parents" | "parts"),
        _ => false,
    }
}

fn is_path(value: &Value) -> bool {
    matches!(&value.object, Object::Instance(path) if &**path == "pathlib.Path")
}

fn is_regex_flag(value: &Value) -> bool {
    value.path_name().is_some_and(|path| path.starts_with("re."))
}

fn strings_path(left: &Text, right: &Text) -> Text {
    super::strings::join_paths(&[left.clone(), right.clone()])
}

fn constant_value(constant: &Constant) -> Value {
    match constant {
        Constant::None => Value::none(),
        Constant::Bool(value) => Value::bool(Some(*value)),
        Constant::Int(value) => Value::int(*value),
        Constant::Float(_) | Constant::Other => Value::number(),
        Constant::Str(text) => Value::constant(text.clone()),
        Constant::Bytes(bytes) => Value::constant(String::from_utf8_lossy(bytes).as_ref()),
    }
}

/// Permissions of files by their names in `stat`, after `S_I`: `RWXU`, `WOTH`.
fn permission(name: &str) -> Option<i64> {
    let class = |text: &str| match text {
        "USR" | "U" => Some(6),
        "GRP" | "G" => Some(3),
        "OTH" | "O" => Some(0),
        _ => None,
    };
    if let Some(rest) = name.strip_prefix("RWX") {
        return Some(7 << class(rest)?);
    }
    let bit = match name.chars().next()? {
        'R' => 4,
        'W' => 2,
        'X' => 1,
        _ => return None,
    };
    Some(bit << class(&name[1..])?)
}

/// `text[start:end]`
fn part_of(text: &str, start: Option<i64>, end: Option<i64>) -> String {
    let length = text.chars().count() as i64;
    let clamp = |bound: i64| (if bound < 0 { bound + length } else { bound }).clamp(0, length);
    let (start, end) = (clamp(start.unwrap_or(0)), clamp(end.unwrap_or(length)));
    text.chars().skip(start as usize).take((end - start).max(0) as usize).collect()
}

fn unary(op: UnaryOp, operand: &Value) -> Value {
    match (op, &operand.object) {
        (UnaryOp::Not, _) => Value::bool(operand.truth().map(|truth| !truth)),
        (UnaryOp::Negate, Object::Int(value)) => Value::int(value.wrapping_neg()),
        _ => Value::number(),
    }
}

/// Arithmetic on what may be numbers, sets or dates: no text comes out of it.
fn arithmetic(left: &Value, right: &Value) -> Value {
    if matches!(left.object, Object::Container(_)) {
        return left.clone();
    }
    let _ = right;
    Value::number()
}

fn multiply(left: &Value, right: &Value) -> Value {
    let repeated = |text: &Value| {
        let alternatives = vec![vec![crate::text::Segment::Repeat(text.text.clone())]];
        Value::string(Text::from_alternatives(alternatives))
    };
    match (&left.object, &right.object) {
        (Object::Int(a), Object::Int(b)) => a.checked_mul(*b).map_or_else(Value::number, Value::int),
        (Object::Container(_), _) => left.clone(),
        (_, Object::Container(_)) => right.clone(),
        (Object::Text, _) => repeated(left),
        (_, Object::Text) => repeated(right),
        _ => Value::number(),
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
        return Text::hole(Hole {
            mask: hole.mask.union(Mask::ascii(b"'\"\\")).minus(Mask::ascii(b"\r\n")),
            ..hole
        });
    }
    value.text.clone()
}
