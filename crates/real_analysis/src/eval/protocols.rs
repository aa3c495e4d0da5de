//! Methods that nobody calls by name: `str(x)` is `x.__str__()`, `with x as y` calls `x.__enter__()`, `x[0]` is `x.__getitem__(0)`.

use super::Engine;
use super::heap::{Key, Role};
use crate::ir::{ArgKind, ClassId, Symbol};
use crate::text::Text;
use crate::value::{Object, Value};

/// The attribute of an exception that holds what it was made of.
const EXCEPTION_ARGS: &str = "args";

impl Engine<'_> {
    /// What a special method of an object of the program returns. `None`: it has no such method.
    pub(super) fn special_method(&mut self, object: &Value, name: &str, args: &[&Value]) -> Option<Value> {
        let Object::Local(class, _) = object.object else { return None };
        let method = self.method_of(class, object, name)?;
        let args = args.iter().map(|arg| (ArgKind::Positional, (*arg).clone())).collect();
        Some(self.call_from_library(&method, &args))
    }

    fn first_special(&mut self, object: &Value, names: &[&str]) -> Option<Value> {
        names.iter().find_map(|name| self.special_method(object, name, &[]))
    }

    /// A value as text: `str(value)`.
    pub(super) fn stringified(&mut self, value: &Value) -> Value {
        let Object::Local(class, heap) = value.object else { return value.clone() };
        if let Some(text) = self.first_special(value, &["__str__", "__repr__", "__format__"]) {
            return text;
        }
        let args = heap.map(|heap| self.load_key(heap, Some(&Key::Name(EXCEPTION_ARGS.into()))));
        if let Some(Value { object: Object::Container(args), .. }) = args {
            return Value::string(self.any_element(args).text);
        }
        // A data class shows all of its fields.
        let shows = !self.module.classes[class.index()].fields.is_empty();
        match heap.filter(|_| shows) {
            Some(heap) => Value::string(self.container(heap).text),
            None => value.clone(),
        }
    }

    /// What `with value as …` binds.
    pub(super) fn entered(&mut self, context: &Value) -> Value {
        self.first_special(context, &["__enter__", "__aenter__"]).unwrap_or_else(|| context.clone())
    }

    /// What iterating over an object of the program gives.
    pub(super) fn iterated_object(&mut self, object: &Value) -> Option<Value> {
        if let Some(iterator) = self.first_special(object, &["__iter__", "__aiter__"])
            && iterator.object != object.object
        {
            return Some(self.element(&iterator));
        }
        if let Some(next) = self.first_special(object, &["__next__", "__anext__"]) {
            return Some(next);
        }
        self.special_method(object, "__getitem__", &[&Value::number()])
    }

    /// `__getattr__`: an attribute that an object of the program does not have.
    pub(super) fn fallback_attribute(
        &mut self,
        class: ClassId,
        name: Symbol,
        object: &Value,
    ) -> Option<Value> {
        let fallback = self.module.symbols.lookup("__getattr__")?;
        let method = self.class_member(class, fallback, Some(object))?;
        let name = Value::constant(self.module.symbols.shared(name));
        Some(self.call_from_library(&method, &vec![(ArgKind::Positional, name)]))
    }

    /// `super().__init__(…)` of a class that a library's class is the base of keeps what it is given, as an exception does.
    pub(super) fn keep_arguments(&mut self, object: &Value, args: &[Value]) {
        let Object::Local(_, Some(heap)) = object.object else { return };
        let list = self.allocate_part(self.frame().inst, Role::ExceptionArgs, false);
        for arg in args {
            self.append(list, arg);
        }
        let list = self.container(list);
        self.store_key(
            heap,
            Some(Key::Name(EXCEPTION_ARGS.into())),
            &Value { text: Text::unknown(), ..list },
        );
    }
}
