//! Attributes: of modules, of classes, of their objects, and of what libraries return.

use std::rc::Rc;

use super::Engine;
use super::changes::Shared;
use super::heap::Key;
use super::strings::basename;
use crate::ThreatModel;
use crate::ir::{ArgKind, ClassId, FunctionId, Symbol};
use crate::library::{Api, NAMESPACE, Origin, Returns, UPLOADS};
use crate::text::{Taint, Text};
use crate::value::{Captured, HeapId, Object, Value};

/// Functions of a model that make one of data that is checked.
pub(super) const VALIDATORS: &[&str] =
    &["model_validate", "model_validate_json", "parse_obj", "parse_raw", "from_dict", "from_json"];

/// Fields of forms whose values are numbers, truth values or times, by the ends of their names.
const NUMERIC_FIELDS: &[&str] = &["Integer", "Float", "Decimal", "Boolean", "Date", "Time", "Duration"];

impl Engine<'_> {
    /// A member of a library, which may itself be a source.
    pub(super) fn library_member(&mut self, path: &Rc<str>) -> Value {
        if let Some(value) = self.members.get(path).cloned() {
            return self.refresh(value);
        }
        let object = Object::Path(path.clone());
        if let Some(bits) = path.strip_prefix("stat.S_I").and_then(permission) {
            return Value::int(bits);
        }
        if let Some(known) = library_constant(path) {
            return known;
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
            Object::Path(path) | Object::Instance(path) if is_files(path, text) && object.taint() != 0 => {
                Value { object: Object::Instance(UPLOADS.into()), ..object.any_text() }
            }
            Object::Instance(path) if &**path == NAMESPACE && self.is_harmless_option(text) => {
                Value::number()
            }
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
            _ if let Some(data) = self.form_data(object, text) => data,
            // The class of the program makes the object, whatever its base is.
            Object::Class(class)
                if VALIDATORS.contains(&text) && !self.module.classes[class.index()].fields.is_empty() =>
            {
                Value::new(Object::Method(Rc::new(object.clone()), name), Text::unknown())
            }
            Object::Class(class) => self.class_attribute(*class, name, None),
            Object::Local(class, Some(heap)) => self.own_attribute(*class, *heap, name, object),
            Object::Local(class, None) => self.class_attribute(*class, name, Some(object)),
            Object::Either(_) => Value::any_of(object.alternatives().map(|one| self.attribute(&one, name))),
            // A namespace: a dictionary whose keys are attributes.
            Object::Container(heap) if let Some(value) = self.entry_named(*heap, name) => value,
            Object::Function(function, _) if text == "__name__" => {
                let name = self.module.functions[function.index()].name;
                Value::constant(self.module.symbols.shared(name))
            }
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

    /// What a field of a form lets through, by its kind. `None`: a text.
    fn field_value(field: &Value) -> Option<Value> {
        let Object::Instance(path) = &field.object else { return None };
        let name = path.rsplit('.').next().unwrap_or_default();
        let kind = name.strip_suffix("Field")?;
        let is_one_of = |kinds: &[&str]| kinds.iter().any(|known| kind.ends_with(known));
        if is_one_of(NUMERIC_FIELDS) {
            Some(Value::number())
        } else {
            is_one_of(&["Choice", "UUID", "Select", "Radio", "PrimaryKeyRelated"]).then(Value::unknown)
        }
    }

    /// The fields of a form of the program, as a dictionary: `form.cleaned_data`.
    fn form_fields(&mut self, class: ClassId, taint: Taint) -> Value {
        let own = self.class_values.iter().filter(|((owner, _), _)| *owner == class);
        let mut fields: Vec<(Rc<str>, Value)> = own
            .filter_map(|((_, name), field)| {
                Some((self.module.symbols.shared(*name), Self::field_value(field)?))
            })
            .collect();
        fields.sort_by(|a, b| a.0.cmp(&b.0));
        let fields = fields.into_iter().map(|(name, value)| (Key::Name(name), value)).collect();
        let heap = self.hostile_heap(fields, Value::tainted(taint));
        Value::new(Object::Container(heap), Text::tainted(taint))
    }

    /// What a client typed into a form: `form.data`, `form.name.data`, `form.cleaned_data`. Forms are known by the names of their
    /// classes, which are rarely in the same file.
    fn form_data(&mut self, object: &Value, attribute: &str) -> Option<Value> {
        if self.threat_model != ThreatModel::Web
            || !matches!(attribute, "data" | "cleaned_data" | "validated_data")
        {
            return None;
        }
        let owner = match &object.object {
            Object::Method(form, _) => &form.object,
            own => own,
        };
        let class = match owner {
            Object::Instance(path) => Some(&**path),
            Object::Local(class, _) => self.bases[class.index()].iter().find_map(Value::path_name),
            _ => None,
        }?;
        if !["Form", "Field", "Serializer"].iter().any(|kind| class.ends_with(kind)) {
            return None;
        }
        let taint = self.source(self.current_range(), Origin::Request, "the form");
        match object.object {
            Object::Local(class, _) => Some(self.form_fields(class, taint)),
            _ => Some(Self::field_value(object).unwrap_or_else(|| Value::tainted(taint))),
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
            Returns::Basename => Value::string(basename(&object.text)),
            Returns::Mixed | Returns::Same => object.any_text(),
            _ => Value::unknown(),
        })
    }

    fn entry_named(&self, heap: HeapId, name: Symbol) -> Option<Value> {
        let object = &self.heap[heap.0 as usize];
        let key = Key::Name(self.module.symbols.shared(name));
        (object.is_dict && object.has(&key)).then(|| self.refresh(self.load_key(heap, Some(&key))))
    }

    /// An attribute of one object: its own, else its class's.
    fn own_attribute(&mut self, class: ClassId, heap: HeapId, name: Symbol, object: &Value) -> Value {
        let key = Key::Name(self.module.symbols.shared(name));
        if self.name(name) == "__dict__" {
            return Value { object: Object::Container(heap), ..self.container(heap) };
        }
        let known = &self.heap[heap.0 as usize];
        if known.has(&key) {
            let value = self.refresh(self.load_key(heap, Some(&key)));
            let inherited = self.class_values.get(&(class, name)).filter(|_| self.may_lack(heap, &key));
            return match inherited {
                Some(inherited) => value.join(inherited),
                None => value,
            };
        }
        let dynamic = known.rest.clone();
        let value = self.class_attribute(class, name, Some(object));
        match (dynamic, &value.object) {
            (Some(dynamic), Object::Method(..) | Object::Unknown) => dynamic.join(&value),
            _ => value,
        }
    }

    fn class_attribute(&mut self, class: ClassId, name: Symbol, receiver: Option<&Value>) -> Value {
        if let Some(value) = self.class_member(class, name, receiver) {
            return value;
        }
        let Some(receiver) = receiver else { return Value::unknown() };
        if let Some(value) = self.fallback_attribute(class, name, receiver) {
            return value;
        }
        if let Some(base) = self.foreign_base(class, self.name(name))
            && let Some(value) = self.known_member(&format!("{base}.{}", self.name(name)), receiver)
        {
            return value;
        }
        Value::new(Object::Method(Rc::new(receiver.clone()), name), receiver.any_text().text)
    }

    /// What the class or one of its bases in the program defines, bound to the receiver.
    pub(super) fn class_member(
        &mut self,
        object_class: ClassId,
        name: Symbol,
        receiver: Option<&Value>,
    ) -> Option<Value> {
        let mut pending = vec![object_class];
        let mut seen = Vec::new();
        while let Some(class) = pending.pop() {
            if seen.contains(&class) {
                continue;
            }
            seen.push(class);
            self.note_read(Shared::Field(class, name));
            // What one object was given is not the class's.
            let own = receiver.is_none_or(|receiver| receiver.heap_id().is_some());
            let value = self.class_values.get(&(class, name)).filter(|_| own);
            if let Some(value) = value.or_else(|| self.fields.get(&(class, name))).cloned() {
                let value = self.refresh(value);
                let Object::Function(function, captured) = value.object else { return Some(value) };
                return Some(self.method(function, captured, object_class, receiver));
            }
            pending.extend(self.own_bases(class).rev());
        }
        None
    }

    /// The bases of a class that the program defines.
    pub(super) fn own_bases(&self, class: ClassId) -> impl DoubleEndedIterator<Item = ClassId> {
        self.bases[class.index()].iter().filter_map(|base| match base.object {
            Object::Class(class) => Some(class),
            _ => None,
        })
    }

    /// A function of a class as an attribute of the class or of one of its objects.
    fn method(
        &mut self,
        function: FunctionId,
        captured: Captured,
        class: ClassId,
        receiver: Option<&Value>,
    ) -> Value {
        let bound = |receiver: Value| {
            Value::new(Object::Bound(function, captured.clone(), Rc::new(receiver)), Text::unknown())
        };
        if self.is_decorated(function, &["builtins.staticmethod"]) {
            return Value::new(Object::Function(function, captured), Text::unknown());
        }
        if self.is_decorated(function, &["builtins.classmethod"]) {
            return bound(Value::new(Object::Class(class), Text::unknown()));
        }
        let Some(receiver) = receiver else {
            return Value::new(Object::Function(function, captured), Text::unknown());
        };
        if self.is_decorated(function, &["builtins.property", "functools.cached_property"]) {
            return self.call_from_library(&bound(receiver.clone()), &Vec::new());
        }
        bound(receiver.clone())
    }

    pub(super) fn is_decorated(&self, function: FunctionId, with: &[&str]) -> bool {
        let decorators = &self.closures[function.index()].decorators;
        decorators.iter().any(|decorator| decorator.path_name().is_some_and(|path| with.contains(&path)))
    }

    pub(super) fn store_attribute(&mut self, object: &Value, name: Symbol, value: &Value) {
        if let Object::Path(path) = &object.object {
            return self.set_member(format!("{path}.{}", self.name(name)).into(), value);
        }
        if let Object::Container(heap) = object.object {
            return self.store_key(heap, Some(Key::Name(self.module.symbols.shared(name))), value);
        }
        let (Object::Local(class, _) | Object::Class(class)) = object.object else { return };
        if let Some(setter) = self.setters.get(&(class, name)).copied() {
            let receiver = Value::new(Object::Bound(setter, None, Rc::new(object.clone())), Text::unknown());
            self.call_from_library(&receiver, &vec![(ArgKind::Positional, value.clone())]);
            return;
        }
        if let Object::Local(_, Some(heap)) = object.object {
            self.store_key(heap, Some(Key::Name(self.module.symbols.shared(name))), value);
        }
        if let (Object::Class(_), Some(known)) = (&object.object, self.class_values.get(&(class, name))) {
            let joined = known.join(value);
            self.class_values.insert((class, name), joined);
        }
        self.set_field(class, name, value);
    }
}

/// `request.files`, `request.FILES`
fn is_files(path: &str, name: &str) -> bool {
    matches!(name, "files" | "FILES") && path.ends_with("request")
}

fn is_data_attribute(path: &str, name: &str) -> bool {
    match path {
        "urllib.parse.urlparse" => {
            matches!(name, "netloc" | "hostname" | "scheme" | "path" | "query" | "fragment" | "port")
        }
        "pathlib.Path" => matches!(name, "parent" | "parents" | "parts"),
        _ => false,
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

/// Members of libraries that are the same everywhere.
fn library_constant(path: &str) -> Option<Value> {
    const LOWER: &str = "abcdefghijklmnopqrstuvwxyz";
    const UPPER: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
    const DIGITS: &str = "0123456789";
    if path == "typing.TYPE_CHECKING" || path == "six.PY2" {
        return Some(Value::bool(Some(false)));
    }
    Some(Value::constant(match path.strip_prefix("string.")? {
        "ascii_lowercase" => LOWER.to_owned(),
        "ascii_uppercase" => UPPER.to_owned(),
        "ascii_letters" => format!("{LOWER}{UPPER}"),
        "digits" => DIGITS.to_owned(),
        "hexdigits" => format!("{DIGITS}abcdefABCDEF"),
        "octdigits" => "01234567".to_owned(),
        "punctuation" => "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~".to_owned(),
        "whitespace" => " \t\n\r\x0b\x0c".to_owned(),
        _ => return None,
    }))
}
