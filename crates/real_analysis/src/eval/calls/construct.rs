//! `C(…)`: objects of the program's classes.

use super::mixed;
use crate::eval::Engine;
use crate::eval::heap::{Key, Role, key_of};
use crate::eval::strings::Arguments;
use crate::ir::{ArgKind, ClassId, Op, Symbol, ValueId};
use crate::text::Text;
use crate::value::{Object, Value};

impl Engine<'_> {
    /// A new object. Without an `__init__` of its own, declared fields take the arguments, and a base that is not of the program
    /// keeps what it is given.
    pub(super) fn construct(&mut self, id: ValueId, class: ClassId, args: &Arguments) -> Value {
        if self.is_enumeration(class) {
            // Its members are constants, whichever is chosen.
            return Value::new(Object::Local(class, None), Text::unknown());
        }
        let heap = self.allocate_part(id, Role::Object, true);
        let instance = Value::new(Object::Local(class, Some(heap)), Text::unknown());
        if let Some(init) = self.method_of(class, &instance, "__init__") {
            if let Object::Bound(target, captured, receiver) = init.object {
                self.call_function(id, target, &captured, Some(&receiver), args);
            }
            return instance;
        }
        let fields = self.fields_of(class);
        let mut position = 0;
        for (kind, value) in args {
            let field = match kind {
                ArgKind::Keyword(name) => Some(*name),
                ArgKind::Positional => {
                    position += 1;
                    fields.get(position - 1).copied()
                }
                ArgKind::Star | ArgKind::DoubleStar => None,
            };
            match field {
                Some(field) => self.store_attribute(&instance, field, value),
                None if matches!(kind, ArgKind::Star | ArgKind::DoubleStar) => {
                    self.store_rest(heap, &value.any_text());
                }
                None => {}
            }
        }
        if let Some(method) = self.method_of(class, &instance, "__post_init__") {
            self.call_from_library(&method, &Vec::new());
        }
        let foreign = self.bases[class.index()].iter().any(|base| !matches!(base.object, Object::Class(_)));
        let declared = !fields.is_empty();
        if foreign && !declared { Value { text: mixed(&instance, args).text, ..instance } } else { instance }
    }

    /// Declared fields, those of the bases first.
    pub(in crate::eval) fn fields_of(&self, class: ClassId) -> Vec<Symbol> {
        let (mut pending, mut seen, mut fields) = (vec![class], Vec::new(), Vec::new());
        while let Some(class) = pending.pop() {
            if seen.contains(&class) {
                continue;
            }
            seen.push(class);
            fields.splice(0..0, self.module.classes[class.index()].fields.iter().map(|(field, _)| *field));
            pending.extend(self.own_bases(class));
        }
        fields
    }

    pub(in crate::eval) fn is_enumeration(&self, class: ClassId) -> bool {
        let is_enum = |path: &str| path.strip_prefix("enum.").is_some_and(|kind| kind.ends_with("Enum"));
        self.bases[class.index()].iter().filter_map(Value::path_name).any(is_enum)
    }

    /// `super()`: the method's object as one of the base class. A library's base stands for itself.
    pub(super) fn super_object(&mut self) -> Option<Value> {
        let class = self.function().class?;
        let heap = self.own_object().heap_id();
        self.bases[class.index()].iter().find_map(|base| match &base.object {
            Object::Class(base) => Some(Value::new(Object::Local(*base, heap), Text::unknown())),
            Object::Path(path) => Some(Value::new(Object::Instance(path.clone()), Text::unknown())),
            _ => None,
        })
    }

    /// The object that the current method was called on.
    pub(super) fn own_object(&self) -> Value {
        let is_first = |op: &Op| matches!(op, Op::Param(0));
        let first = self.function().insts.iter().position(|inst| is_first(&inst.op));
        first.map_or_else(Value::unknown, |at| self.known(ValueId(at as u32)))
    }

    /// `super().__init__(…)` where the base is of a library, or `Exception.__init__(self, …)`.
    pub(super) fn foreign_init(&mut self, args: &Arguments) -> Value {
        let mut values: Vec<Value> = args.iter().map(|(_, value)| value.clone()).collect();
        let own = match values.first() {
            Some(Value { object: Object::Local(..), .. }) => values.remove(0),
            _ => self.own_object(),
        };
        self.keep_arguments(&own, &values);
        Value::none()
    }

    /// Methods that records have without defining them: `point._asdict()`, `item.model_dump()`, `point._replace(x=1)`.
    pub(super) fn record_method(&mut self, receiver: &Value, name: &str, args: &Arguments) -> Option<Value> {
        let Object::Local(class, Some(_)) = receiver.object else { return None };
        if self.module.classes[class.index()].fields.is_empty() {
            return None;
        }
        match name {
            "_asdict" | "dict" | "model_dump" | "asdict" => self.attributes_of(receiver),
            "_replace" | "model_copy" => {
                let mut all = vec![(ArgKind::Positional, receiver.clone())];
                all.extend(args.iter().cloned());
                self.replaced(&all)
            }
            _ => None,
        }
    }

    /// `vars(object)`, `object.__dict__`, `asdict(object)`.
    pub(super) fn attributes_of(&self, object: &Value) -> Option<Value> {
        match object.object {
            Object::Local(_, Some(heap)) => Some(self.container(heap)),
            _ => None,
        }
    }

    /// `setattr(object, name, value)`
    pub(super) fn set_attribute(&mut self, object: &Value, name: &Value, value: &Value) {
        if let Object::Container(heap) = object.object {
            return self.store_key(heap, key_of(name), value);
        }
        let Object::Local(_, heap) = object.object else { return };
        if let Some(name) = name.text.as_constant().and_then(|name| self.module.symbols.lookup(name)) {
            self.store_attribute(object, name, value);
        } else if let Some(heap) = heap {
            let key = name.text.as_constant().map(|name| Key::Name(name.into()));
            self.store_key(heap, key, value);
        }
    }
}
