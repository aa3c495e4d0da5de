//! Arguments become the values of parameters.
//!
//! `f(*pair, key=x, **options)` is taken apart as far as the containers are known, and what a `*rest` or `**options` parameter
//! collects is a container again, so that a value keeps its position and its name on the way through.

use std::borrow::Cow;

use crate::eval::Engine;
use crate::eval::heap::{Key, Role};
use crate::eval::strings::{Arguments, positionals};
use crate::ir::{ArgKind, FunctionId, ParamKind, ValueId};
use crate::value::{Object, Value};

impl Engine<'_> {
    /// The values of the parameters.
    pub(super) fn bind(
        &mut self,
        call: ValueId,
        target: FunctionId,
        receiver: Option<&Value>,
        args: &Arguments,
    ) -> Vec<Value> {
        let args = &*self.spread(args);
        let params = &self.module.functions[target.index()].params;
        let ordered: Vec<&Value> = receiver.into_iter().chain(positionals(args)).collect();
        let open = args.iter().filter(|(kind, _)| matches!(kind, ArgKind::Star | ArgKind::DoubleStar));
        let open = open.map(|(_, value)| value.any_text()).reduce(|known, value| known.join(&value));
        let mut bound = Vec::with_capacity(params.len());
        for (index, param) in params.iter().enumerate() {
            let named = |(kind, _): &&(ArgKind, Value)| *kind == ArgKind::Keyword(param.name);
            let value = match param.kind {
                ParamKind::Rest => {
                    Some(self.collected(call, ordered.get(index..).unwrap_or_default(), open.as_ref()))
                }
                ParamKind::KeywordRest => Some(self.collected_options(call, target, args, open.as_ref())),
                ParamKind::Ordinary | ParamKind::KeywordOnly => {
                    let by_name = args.iter().find(named).map(|(_, value)| value.clone());
                    let positional = param.kind == ParamKind::Ordinary;
                    by_name.or_else(|| ordered.get(index).filter(|_| positional).copied().cloned())
                }
            };
            let value = value.or_else(|| open.clone()).or_else(|| self.default_of(target, index));
            bound.push(value.unwrap_or_else(Value::unknown));
        }
        bound
    }

    /// The arguments without `*` and `**` where these are known to the last.
    pub(super) fn spread<'v>(&self, args: &'v Arguments) -> Cow<'v, Arguments> {
        if args.iter().all(|(kind, _)| matches!(kind, ArgKind::Positional | ArgKind::Keyword(_))) {
            return Cow::Borrowed(args);
        }
        let mut all = Arguments::with_capacity(args.len());
        for (kind, value) in args {
            let parts = match (kind, &value.object) {
                (ArgKind::Star | ArgKind::DoubleStar, Object::Container(heap)) => self.parts(*kind, *heap),
                _ => None,
            };
            match parts {
                // What is named in the call itself counts.
                Some(parts) => all.extend(parts.into_iter().filter(|(part, _)| {
                    *part == ArgKind::Positional || args.iter().all(|(kind, _)| kind != part)
                })),
                None => all.push((*kind, value.clone())),
            }
        }
        Cow::Owned(all)
    }

    /// The elements of a container as arguments.
    fn parts(&self, kind: ArgKind, heap: crate::value::HeapId) -> Option<Arguments> {
        let object = &self.heap[heap.0 as usize];
        if object.rest.is_some() || object.keys.is_some() {
            return None;
        }
        if kind == ArgKind::Star {
            let length = object.next.filter(|_| !object.is_dict)?;
            let elements = (0..length).map(|index| self.load_key(heap, Some(&Key::Index(index))));
            return Some(elements.map(|value| (ArgKind::Positional, value)).collect());
        }
        let named = object.fields.iter().filter_map(|(key, value)| match key {
            Key::Name(name) => Some((ArgKind::Keyword(self.module.symbols.lookup(name)?), value.clone())),
            Key::Index(_) => None,
        });
        object.is_dict.then(|| named.collect())
    }

    /// What `*rest` collects.
    fn collected(&mut self, call: ValueId, extra: &[&Value], open: Option<&Value>) -> Value {
        let list = self.allocate_part(call, Role::Rest, false);
        for value in extra {
            self.append(list, value);
        }
        if let Some(open) = open {
            self.forget_positions(list);
            self.store_rest(list, open);
        }
        self.container(list)
    }

    /// What `**options` collects.
    fn collected_options(
        &mut self,
        call: ValueId,
        target: FunctionId,
        args: &Arguments,
        open: Option<&Value>,
    ) -> Value {
        let table = self.allocate_part(call, Role::Options, true);
        let params = &self.module.functions[target.index()].params;
        for (kind, value) in args {
            let ArgKind::Keyword(name) = kind else { continue };
            if params.iter().all(|param| param.name != *name) {
                self.store_key(table, Some(Key::Name(self.module.symbols.shared(*name))), value);
            }
        }
        if let Some(open) = open {
            self.store_rest(table, open);
            self.store_dynamic_key(table, open);
        }
        self.container(table)
    }
}
