//! Lists, tuples, sets, dictionaries and objects that the program makes.
//!
//! A container knows its values by constant key or position as long as they are certain, and a summary of all others; an object
//! of a class knows its attributes by name. A store on the straight line of code that made the object replaces what was there;
//! any other store adds to it. The straight line leads into the functions that it calls and out of them again:
//!
//! ```python
//! box = Box(request.args["q"])      # one object of the heap, made here
//! box.clear()                       # `self.value = ""` in `clear`, which no branch guards: replaces
//! if flag:
//!     box.fill(name)                # adds: the value is now "" or the name
//! ```

use std::hash::{Hash, Hasher};
use std::rc::Rc;

use rustc_hash::{FxHashMap, FxHasher};

use super::Engine;
use crate::ir::{BlockId, FunctionId, FunctionKind, ValueId};
use crate::text::Text;
use crate::value::{HeapId, Object, Value};

/// Elements of a list that are told apart.
const MAX_POSITIONS: i64 = 64;
/// Objects that may make one call differ from another.
const MAX_REACHED: usize = 16;

/// A constant key or position.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Key {
    Index(i64),
    Name(Rc<str>),
}

/// A container, or an object with its attributes.
#[derive(Debug, Clone)]
pub(crate) struct HeapObject {
    pub(crate) fields: Vec<(Key, Value)>,
    /// What every other element may be.
    pub(crate) rest: Option<Value>,
    /// What keys that are not constant may be.
    pub(crate) keys: Option<Value>,
    /// Position of the next element, while it is known.
    pub(crate) next: Option<i64>,
    pub(crate) is_dict: bool,
    /// Where the container was made.
    place: (FunctionId, BlockId),
    /// It stands for several that one variable holds at different times.
    is_merged: bool,
    /// What it holds may be needed by somebody who evaluates later what happens earlier: the next round of a loop, another function.
    is_kept: bool,
    /// Keys that the container may lack.
    maybe: Vec<Key>,
    /// Counts the changes.
    version: u32,
}

impl HeapObject {
    pub(crate) fn has(&self, key: &Key) -> bool {
        self.fields.iter().any(|(known, _)| known == key)
    }

    fn empty(&mut self) {
        self.version += 1;
        (self.fields, self.rest, self.keys, self.next) = (Vec::new(), None, None, Some(0));
        self.maybe.clear();
    }
}

/// What an object is to the instruction that makes it: one instruction may make several.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Role {
    /// What the instruction gives.
    Whole,
    /// One of the pairs that `items()`, `zip` and the like give.
    Pair,
    /// One of the rows that `zip` gives of columns that are known.
    Row(u32),
    /// A slice, or what `*rest` unpacks.
    Slice,
    /// What `*rest` of a called function collects.
    Rest,
    /// What `**options` of a called function collects.
    Options,
    /// A copy.
    Copy,
    /// What an exception was made of.
    ExceptionArgs,
    /// An object of a class, which its call makes.
    Object,
    /// The arguments of a command, given one by one.
    Command,
}

/// The objects that an evaluation of a function made, by instruction, and those of the functions that it called: evaluated once
/// more, the same instructions of the same calls make the same objects.
#[derive(Debug, Default)]
pub(super) struct Allocations {
    own: FxHashMap<(ValueId, Role), HeapId>,
    called: FxHashMap<(ValueId, FunctionId), Allocations>,
}

impl Allocations {
    /// Whether the object was made here.
    pub(super) fn made(&self, id: HeapId) -> bool {
        self.own.values().any(|own| *own == id) || self.called.values().any(|called| called.made(id))
    }
}

impl Engine<'_> {
    /// What an earlier evaluation of the same call made.
    pub(super) fn enter_heap(&mut self, function: FunctionId, is_root: bool) -> Allocations {
        if self.is_lasting(function, is_root) {
            return self.lasting.remove(&function).unwrap_or_default();
        }
        let Some(caller) = self.frames.last_mut() else { return Allocations::default() };
        caller.heap.called.remove(&(caller.inst, function)).unwrap_or_default()
    }

    pub(super) fn leave_heap(&mut self, function: FunctionId, is_root: bool, heap: Allocations) {
        if heap.own.is_empty() && heap.called.is_empty() {
            return;
        }
        if self.is_lasting(function, is_root) {
            self.lasting.insert(function, heap);
        } else if let Some(caller) = self.frames.last_mut() {
            caller.heap.called.insert((caller.inst, function), heap);
        }
    }

    /// Whether what a function makes is the same in every round.
    fn is_lasting(&self, function: FunctionId, is_root: bool) -> bool {
        is_root || self.module.functions[function.index()].kind == FunctionKind::ClassBody
    }

    /// The state of everything that the parameters lead to: a call is the same only with the same state.
    pub(super) fn heap_stamp(&self, params: &[Value]) -> u64 {
        let mut reached: Vec<HeapId> = params.iter().filter_map(receiver_or_self).collect();
        if reached.is_empty() {
            return 0;
        }
        let mut hasher = FxHasher::default();
        let mut at = 0;
        while at < reached.len() {
            let object = &self.heap[reached[at].0 as usize];
            (reached[at], object.version).hash(&mut hasher);
            let values = object.fields.iter().map(|(_, value)| value).chain(&object.rest);
            for id in values.filter_map(receiver_or_self) {
                if reached.len() < MAX_REACHED && !reached.contains(&id) {
                    reached.push(id);
                }
            }
            at += 1;
        }
        hasher.finish()
    }

    /// The container that this instruction makes.
    pub(super) fn allocate(&mut self, at: ValueId, is_dict: bool) -> HeapId {
        self.allocate_part(at, Role::Whole, is_dict)
    }

    /// One of several containers that an instruction makes.
    pub(super) fn allocate_part(&mut self, at: ValueId, role: Role, is_dict: bool) -> HeapId {
        if let Some(id) = self.frame().heap.own.get(&(at, role)).copied() {
            // Made again in a later pass: the same elements are about to be stored in the same places.
            let object = &mut self.heap[id.0 as usize];
            if object.is_kept {
                object.next = object.next.map(|_| 0);
            } else {
                object.empty();
            }
            return id;
        }
        let place = self.place();
        let fresh = HeapObject {
            fields: Vec::new(),
            rest: None,
            keys: None,
            next: Some(0),
            is_dict,
            place,
            is_merged: false,
            is_kept: self.is_in_loop(),
            maybe: Vec::new(),
            version: 0,
        };
        let id = HeapId(self.heap.len() as u32);
        self.heap.push(fresh);
        self.frame_mut().heap.own.insert((at, role), id);
        id
    }

    /// An object that outsiders made.
    pub(super) fn hostile_heap(&mut self, fields: Vec<(Key, Value)>, rest: Value) -> HeapId {
        let id = self.given_heap(fields, true);
        let object = &mut self.heap[id.0 as usize];
        (object.keys, object.rest) = (Some(rest.clone()), Some(rest));
        id
    }

    /// A container that was there before: what `*rest` or `**options` of a function hold that a framework calls.
    pub(super) fn given_heap(&mut self, fields: Vec<(Key, Value)>, is_dict: bool) -> HeapId {
        let id = HeapId(self.heap.len() as u32);
        self.heap.push(HeapObject {
            next: (!is_dict).then_some(fields.len() as i64),
            fields,
            keys: None,
            rest: None,
            is_dict,
            place: (FunctionId(0), BlockId(0)),
            is_merged: false,
            is_kept: true,
            maybe: Vec::new(),
            version: 0,
        });
        id
    }

    /// Variables outside the frames hold the value, and whatever it leads to.
    pub(super) fn share(&mut self, value: &Value) {
        let mut pending: Vec<HeapId> = receiver_or_self(value).into_iter().collect();
        while let Some(id) = pending.pop() {
            let object = &mut self.heap[id.0 as usize];
            if !std::mem::replace(&mut object.is_kept, true) {
                let values = object.fields.iter().map(|(_, value)| value).chain(&object.rest);
                pending.extend(values.filter_map(receiver_or_self));
            }
        }
    }

    /// Whether what is evaluated may run more than once in this call of the outermost function.
    pub(super) fn is_in_loop(&self) -> bool {
        self.frames.iter().rev().any(|frame| self.lines(frame).is_in_loop(frame.block))
    }

    /// The object is about to change.
    fn change(&mut self, id: HeapId) -> &mut HeapObject {
        if !self.heap[id.0 as usize].is_kept && self.is_in_loop() {
            self.heap[id.0 as usize].is_kept = true;
        }
        let object = &mut self.heap[id.0 as usize];
        object.version += 1;
        object
    }

    /// The first block of the straight line of code that is being evaluated, and its function. A function that is called on a
    /// straight line begins on it.
    fn place(&self) -> (FunctionId, BlockId) {
        let mut place = (FunctionId(0), BlockId(0));
        for frame in self.frames.iter().rev() {
            place = (frame.function, self.lines(frame).start(frame.block));
            if frame.is_root || place.1 != BlockId(0) {
                break;
            }
        }
        place
    }

    /// Whether a loop over a value has no round.
    pub(super) fn is_empty(&self, iterable: ValueId) -> bool {
        let Object::Container(heap) = self.known(iterable).object else { return false };
        let object = &self.heap[heap.0 as usize];
        let certain = object.fields.is_empty() && object.rest.is_none() && object.keys.is_none();
        certain && object.next == Some(0) && object.place.0 == self.frame().function
    }

    /// The length of a list, where all of its elements are known.
    pub(super) fn length(&self, id: HeapId) -> Option<i64> {
        let object = &self.heap[id.0 as usize];
        let certain = object.rest.is_none() && object.place == self.place();
        object.next.filter(|_| certain && !object.is_dict)
    }

    /// Whether a dictionary surely has no such key.
    pub(super) fn lacks(&self, id: HeapId, key: &Key) -> bool {
        let object = &self.heap[id.0 as usize];
        let certain = object.rest.is_none() && object.keys.is_none() && object.place == self.place();
        object.is_dict && certain && !object.has(key)
    }

    /// Whether a key that was stored may be absent all the same: the store stood in a branch.
    pub(super) fn may_lack(&self, id: HeapId, key: &Key) -> bool {
        self.heap[id.0 as usize].maybe.contains(key)
    }

    /// `del table[key]`, `table.pop(key)`
    pub(super) fn remove(&mut self, id: HeapId, key: &Key) {
        let certain = self.heap[id.0 as usize].place == self.place();
        let object = self.change(id);
        if certain {
            object.fields.retain(|(known, _)| known != key);
        } else if !object.maybe.contains(key) {
            object.maybe.push(key.clone());
        }
    }

    pub(super) fn forget_positions(&mut self, id: HeapId) {
        let object = self.change(id);
        if object.is_dict {
            return;
        }
        object.next = None;
        for (_, value) in std::mem::take(&mut object.fields) {
            self.store_rest(id, &value);
        }
    }

    /// Either of two containers.
    pub(super) fn merged(&mut self, one: HeapId, other: HeapId) -> HeapId {
        let mut merged = one;
        if !self.heap[one.0 as usize].is_merged {
            merged = HeapId(self.heap.len() as u32);
            self.heap.push(HeapObject { is_merged: true, ..self.heap[one.0 as usize].clone() });
        }
        self.pour(merged, other);
        merged
    }

    /// Everything that `other` holds may be in `kept` too.
    fn pour(&mut self, kept: HeapId, other: HeapId) {
        let object = self.heap[other.0 as usize].clone();
        if self.heap[kept.0 as usize].is_dict {
            return self.merge_into(kept, &Value::new(Object::Container(other), Text::unknown()));
        }
        if object.fields.is_empty() && object.rest.is_none() {
            return;
        }
        let same = self.heap[kept.0 as usize].fields == object.fields && object.rest.is_none();
        if !same {
            self.forget_positions(kept);
            let element = self.any_element(other);
            self.store_rest(kept, &element);
        }
    }

    /// Every key and value of a dictionary, where all are known.
    pub(super) fn entries(&self, id: HeapId) -> Option<Vec<(Key, Value)>> {
        let object = &self.heap[id.0 as usize];
        let known = object.is_dict && object.rest.is_none() && object.keys.is_none();
        known.then(|| object.fields.clone())
    }

    pub(super) fn clear(&mut self, id: HeapId) {
        let place = self.place();
        let object = self.change(id);
        if object.place == place {
            object.empty();
        }
    }

    /// `list.reverse()`, `reversed(list)`
    pub(super) fn reverse(&mut self, id: HeapId) {
        let Some(length) = self.length(id) else { return self.forget_positions(id) };
        for (key, _) in &mut self.change(id).fields {
            if let Key::Index(index) = key {
                *index = length - 1 - *index;
            }
        }
    }

    /// A new container with the same elements.
    pub(super) fn copy(&mut self, at: ValueId, role: Role, id: HeapId) -> HeapId {
        let from = self.heap[id.0 as usize].clone();
        let certain = from.place == self.place();
        let copy = self.allocate_part(at, role, from.is_dict);
        if copy == id {
            return id;
        }
        for (key, value) in &from.fields {
            self.store_key(copy, Some(key.clone()), value);
        }
        from.rest.iter().for_each(|rest| self.store_rest(copy, rest));
        from.keys.iter().for_each(|keys| self.store_dynamic_key(copy, keys));
        let object = self.change(copy);
        object.maybe = from.maybe;
        object.next = from.next.filter(|_| certain);
        copy
    }

    /// `list.insert(index, value)`
    pub(super) fn insert(&mut self, id: HeapId, index: &Value, value: &Value) {
        let (Some(length), Object::Int(index)) = (self.length(id), &index.object) else {
            self.forget_positions(id);
            return self.store_rest(id, value);
        };
        let at = (if *index < 0 { index + length } else { *index }).clamp(0, length);
        self.shift(id, at, 1);
        self.store_key(id, Some(Key::Index(at)), value);
    }

    /// `list.pop()`, `list.pop(index)`, `del list[index]`
    pub(super) fn pop(&mut self, id: HeapId, index: Option<&Value>) -> Value {
        let index = match index.map(|index| &index.object) {
            None => Some(-1),
            Some(Object::Int(index)) => Some(*index),
            Some(_) => None,
        };
        let (Some(length), Some(index)) = (self.length(id), index) else {
            let any = self.any_element(id);
            self.forget_positions(id);
            return any;
        };
        let at = if index < 0 { index + length } else { index };
        let value = self.load_key(id, Some(&Key::Index(at)));
        self.heap[id.0 as usize].fields.retain(|(key, _)| *key != Key::Index(at));
        self.shift(id, at, -1);
        value
    }

    /// Moves every element from a position on.
    fn shift(&mut self, id: HeapId, from: i64, by: i64) {
        let object = self.change(id);
        for (key, _) in &mut object.fields {
            if let Key::Index(index) = key
                && *index >= from
            {
                *index += by;
            }
        }
        object.next = object.next.map(|next| next + by);
    }

    /// `list[start:end]`, a new list.
    pub(super) fn sublist(&mut self, at: ValueId, id: HeapId, bounds: [Option<i64>; 2]) -> Option<Value> {
        let length = self.length(id)?;
        let clamp = |bound: i64| (if bound < 0 { bound + length } else { bound }).clamp(0, length);
        let (start, end) = (clamp(bounds[0].unwrap_or(0)), clamp(bounds[1].unwrap_or(length)));
        let part: Vec<Value> =
            (start..end).map(|index| self.load_key(id, Some(&Key::Index(index)))).collect();
        let list = self.allocate_part(at, Role::Slice, false);
        for value in &part {
            self.append(list, value);
        }
        Some(self.container(list))
    }

    /// A container's value: its text is what its elements look like together.
    pub(super) fn container(&self, id: HeapId) -> Value {
        let object = &self.heap[id.0 as usize];
        let parts = object.fields.iter().map(|(_, value)| value).chain(&object.rest).chain(&object.keys);
        let taint = parts.fold(0, |taint, value| taint | value.taint());
        let text = if taint == 0 { Text::unknown() } else { Text::tainted(taint) };
        Value::new(Object::Container(id), text)
    }

    pub(super) fn store_key(&mut self, id: HeapId, key: Option<Key>, value: &Value) {
        let Some(key) = key else { return self.store_rest(id, value) };
        let place = self.place();
        let object = &mut self.heap[id.0 as usize];
        let replace = object.place == place;
        if replace && !object.maybe.is_empty() {
            object.maybe.retain(|known| *known != key);
        }
        let known = object.fields.iter().position(|(known, _)| *known == key);
        if known.is_some_and(|at| object.fields[at].1 == *value) {
            return;
        }
        self.adopt(id, value);
        let object = self.change(id);
        match known {
            Some(at) if replace => object.fields[at].1 = value.clone(),
            Some(at) => object.fields[at].1 = object.fields[at].1.join(value),
            None => {
                if object.is_dict && !replace {
                    object.maybe.push(key.clone());
                }
                object.fields.push((key, value.clone()));
            }
        }
    }

    /// Whoever holds the container holds the value.
    fn adopt(&mut self, id: HeapId, value: &Value) {
        if self.heap[id.0 as usize].is_kept {
            self.share(value);
        }
    }

    pub(super) fn store_rest(&mut self, id: HeapId, value: &Value) {
        if let Some(joined) = more(self.heap[id.0 as usize].rest.as_ref(), value) {
            self.adopt(id, value);
            self.change(id).rest = Some(joined);
        }
    }

    pub(super) fn store_dynamic_key(&mut self, id: HeapId, key: &Value) {
        if let Some(joined) = more(self.heap[id.0 as usize].keys.as_ref(), key) {
            self.change(id).keys = Some(joined);
        }
    }

    pub(super) fn append(&mut self, id: HeapId, value: &Value) {
        let place = self.place();
        let object = &mut self.heap[id.0 as usize];
        match object.next {
            Some(next) if object.place == place && next < MAX_POSITIONS => {
                object.next = Some(next + 1);
                self.store_key(id, Some(Key::Index(next)), value);
            }
            _ => {
                object.next = None;
                self.store_rest(id, value);
            }
        }
    }

    pub(super) fn load_key(&self, id: HeapId, key: Option<&Key>) -> Value {
        let object = &self.heap[id.0 as usize];
        if let Some(key) = key {
            let key = match (key, object.next) {
                (Key::Index(index), Some(length)) if *index < 0 => &Key::Index(index + length),
                (key, _) => key,
            };
            if let Some((_, value)) = object.fields.iter().find(|(known, _)| known == key) {
                return object.rest.as_ref().filter(|_| object.next.is_none()).map_or_else(
                    || value.clone(),
                    |rest| if object.is_dict { value.clone() } else { value.join(rest) },
                );
            }
            return object.rest.clone().unwrap_or_else(Value::unknown);
        }
        self.any_element(id)
    }

    /// Any value of the container.
    pub(super) fn any_element(&self, id: HeapId) -> Value {
        let object = &self.heap[id.0 as usize];
        let values = object.fields.iter().map(|(_, value)| value).chain(&object.rest);
        values.cloned().reduce(|known, value| known.join(&value)).unwrap_or_else(Value::unknown)
    }

    /// What iterating over the container gives.
    pub(super) fn iterated(&self, id: HeapId) -> Value {
        let object = &self.heap[id.0 as usize];
        if !object.is_dict {
            return self.any_element(id);
        }
        let names = object.fields.iter().map(|(key, _)| key_value(key));
        names
            .chain(object.keys.clone())
            .reduce(|known, value| known.join(&value))
            .unwrap_or_else(Value::unknown)
    }

    /// The strings that the container consists of, when all are constant; the keys of a dictionary.
    pub(super) fn constant_members(&self, value: &Value) -> Option<Vec<Rc<str>>> {
        let Object::Container(id) = value.object else {
            return None;
        };
        let object = &self.heap[id.0 as usize];
        if object.keys.is_some() || (!object.is_dict && object.rest.is_some()) {
            let rest = if object.is_dict { object.keys.as_ref() } else { object.rest.as_ref() }?;
            rest.text.as_constants()?;
        }
        let mut members = Vec::new();
        if object.is_dict {
            members.extend(object.fields.iter().filter_map(|(key, _)| match key {
                Key::Name(name) => Some(name.clone()),
                Key::Index(_) => None,
            }));
        }
        let values = object.fields.iter().filter(|_| !object.is_dict).map(|(_, value)| value);
        let rest = if object.is_dict { &object.keys } else { &object.rest };
        for value in values.chain(rest) {
            members.extend(value.text.as_constants()?.into_iter().map(Rc::from));
        }
        Some(members)
    }
}

/// What a slot may be with one more value, if that is something new.
fn more(slot: Option<&Value>, value: &Value) -> Option<Value> {
    let joined = slot.map_or_else(|| value.clone(), |known| known.join(value));
    (slot != Some(&joined)).then_some(joined)
}

/// The object of the heap that a value is or is bound to.
fn receiver_or_self(value: &Value) -> Option<HeapId> {
    match &value.object {
        Object::Bound(_, _, receiver) => receiver.heap_id(),
        _ => value.heap_id(),
    }
}

pub(super) fn key_value(key: &Key) -> Value {
    match key {
        Key::Index(index) => Value::int(*index),
        Key::Name(name) => Value::constant(name.clone()),
    }
}

/// The key that a value is, when it is constant.
pub(super) fn key_of(value: &Value) -> Option<Key> {
    match &value.object {
        Object::Int(index) => Some(Key::Index(*index)),
        Object::Text => value.text.as_constant().map(|text| Key::Name(text.into())),
        _ => None,
    }
}
