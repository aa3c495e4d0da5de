//! Lists, tuples, sets and dictionaries that the program makes.
//!
//! A container knows its values by constant key or position as long as they are certain, and a summary of all others.
//! A store in the block that made the container replaces what was there; any other store adds to it.

use std::rc::Rc;

use super::Engine;
use crate::ir::{BlockId, ValueId};
use crate::text::Text;
use crate::value::{HeapId, Object, Value};

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
    block: BlockId,
}

impl Engine<'_> {
    /// The container that this instruction makes.
    pub(super) fn allocate(&mut self, at: ValueId, is_dict: bool) -> HeapId {
        self.allocate_part(at, 0, is_dict)
    }

    /// One of several containers that an instruction makes.
    pub(super) fn allocate_part(&mut self, at: ValueId, part: u8, is_dict: bool) -> HeapId {
        let block = self.frame().block;
        let fresh = HeapObject { fields: Vec::new(), rest: None, keys: None, next: Some(0), is_dict, block };
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

    /// A container's value: its text is what its elements look like together.
    pub(super) fn container(&self, id: HeapId) -> Value {
        let object = &self.heap[id.0 as usize];
        let parts = object.fields.iter().map(|(_, value)| value).chain(&object.rest).chain(&object.keys);
        let taint = parts.fold(0, |taint, value| taint | value.taint());
        let text = if taint == 0 { Text::unknown() } else { Text::tainted(taint) };
        Value::new(Object::Container(id), text)
    }

    pub(super) fn store_key(&mut self, id: HeapId, key: Option<Key>, value: &Value) {
        let block = self.frame().block;
        let object = &mut self.heap[id.0 as usize];
        let replace = object.block == block;
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
        let block = self.frame().block;
        let object = &mut self.heap[id.0 as usize];
        match object.next {
            Some(next) if object.block == block && next < 64 => {
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
