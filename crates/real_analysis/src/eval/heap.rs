//! Lists, tuples, sets and dictionaries that the program makes.
//!
//! A container knows its values by constant key or position as long as they are certain, and a summary of all others.
//! A store on the straight line of code that made the container replaces what was there; any other store adds to it.

use std::rc::Rc;

use super::Engine;
use crate::ir::{BlockId, FunctionId, Terminator, ValueId};
use crate::text::Text;
use crate::value::{HeapId, Object, Value};

/// Blocks of a straight line that are looked at.
const MAX_LINE: usize = 200;

/// A constant key or position.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Key {
    Index(i64),
    Name(Rc<str>),
}

/// A container.
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
}

impl HeapObject {
    pub(crate) fn has(&self, key: &Key) -> bool {
        self.fields.iter().any(|(known, _)| known == key)
    }
}

impl Engine<'_> {
    /// The container that this instruction makes.
    pub(super) fn allocate(&mut self, at: ValueId, is_dict: bool) -> HeapId {
        self.allocate_part(at, 0, is_dict)
    }

    /// One of several containers that an instruction makes.
    pub(super) fn allocate_part(&mut self, at: ValueId, part: u8, is_dict: bool) -> HeapId {
        let place = self.place();
        let fresh = HeapObject { fields: Vec::new(), rest: None, keys: None, next: Some(0), is_dict, place };
        if let Some(id) = self.frame().heap.get(&(at, part)).copied() {
            // Made again in a later pass: the same elements are about to be stored in the same places.
            let object = &mut self.heap[id.0 as usize];
            object.next = object.next.map(|_| 0);
            return id;
        }
        let id = HeapId(self.heap.len() as u32);
        self.heap.push(fresh);
        self.frame_mut().heap.insert((at, part), id);
        id
    }

    /// The first block of the straight line of code that is being evaluated, and its function.
    fn place(&self) -> (FunctionId, BlockId) {
        let frame = self.frame();
        let blocks = &self.function().blocks;
        let mut block = frame.block;
        for _ in 0..MAX_LINE {
            let [pred] = blocks[block.index()].preds[..] else { break };
            match blocks[pred.index()].terminator {
                Terminator::Jump(_) => block = pred,
                Terminator::MayRaise { next, .. } if next == block => block = pred,
                _ => break,
            }
        }
        (frame.function, block)
    }

    /// The length of a list, where all of its elements are known.
    pub(super) fn length(&self, id: HeapId) -> Option<i64> {
        let object = &self.heap[id.0 as usize];
        let certain = object.rest.is_none() && object.place == self.place();
        object.next.filter(|_| certain && !object.is_dict)
    }

    pub(super) fn forget_positions(&mut self, id: HeapId) {
        let object = &mut self.heap[id.0 as usize];
        if object.is_dict {
            return;
        }
        object.next = None;
        for (_, value) in std::mem::take(&mut object.fields) {
            self.store_rest(id, &value);
        }
    }

    /// Everything that `other` holds may be in `kept` too.
    pub(super) fn pour(&mut self, kept: HeapId, other: HeapId) {
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

    pub(super) fn clear(&mut self, id: HeapId) {
        let place = self.place();
        let object = &mut self.heap[id.0 as usize];
        if object.place == place {
            (object.fields, object.rest, object.keys, object.next) = (Vec::new(), None, None, Some(0));
        }
    }

    /// `list.insert(index, value)`
    pub(super) fn insert(&mut self, id: HeapId, index: &Value, value: &Value) {
        let (Some(length), Object::Int(index)) = (self.length(id), &index.object) else {
            self.forget_positions(id);
            return self.store_rest(id, value);
        };
        let at = (if *index < 0 { index + length } else { *index }).clamp(0, length);
        self.shift(id, at, 1);
        self.heap[id.0 as usize].fields.push((Key::Index(at), value.clone()));
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
        let object = &mut self.heap[id.0 as usize];
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
        let list = self.allocate_part(at, 2, false);
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
        let place = self.place();
        let object = &mut self.heap[id.0 as usize];
        let replace = object.place == place;
        match key {
            Some(key) => match object.fields.iter_mut().find(|(known, _)| *known == key) {
                Some((_, slot)) => *slot = if replace { value.clone() } else { slot.join(value) },
                None => object.fields.push((key, value.clone())),
            },
            None => self.store_rest(id, value),
        }
    }

    pub(super) fn store_rest(&mut self, id: HeapId, value: &Value) {
        let object = &mut self.heap[id.0 as usize];
        object.rest = Some(object.rest.as_ref().map_or_else(|| value.clone(), |known| known.join(value)));
    }

    pub(super) fn store_dynamic_key(&mut self, id: HeapId, key: &Value) {
        let object = &mut self.heap[id.0 as usize];
        object.keys = Some(object.keys.as_ref().map_or_else(|| key.clone(), |known| known.join(key)));
    }

    pub(super) fn append(&mut self, id: HeapId, value: &Value) {
        let place = self.place();
        let object = &mut self.heap[id.0 as usize];
        match object.next {
            Some(next) if object.place == place && next < 64 => {
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
