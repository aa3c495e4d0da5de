//! Functions whose result needs more than the tables can say.

use std::rc::Rc;

use super::{HASH_MEMBER, library::SAFE_PARSER, templates::RAW_CONTEXT};
use crate::eval::heap::{Key, Role, key_of};
use crate::eval::strings::{Arguments, positional, positionals};
use crate::eval::{Engine, ops};
use crate::grammar::html;
use crate::ir::ArgKind;
use crate::library::BUFFER;
use crate::text::{Checks, Hole, Mask, Segment, Text};
use crate::value::{Object, Value};

/// Methods that one computed name may stand for.
const MAX_METHODS: usize = 12;

impl Engine<'_> {
    /// The result of such a function. `None`: the tables say it.
    pub(super) fn special(&mut self, path: &str, args: &Arguments) -> Option<Value> {
        let first = || positional(args, 0).cloned();
        if let Some(value) = self.constant_call(path, args).or_else(|| self.special_container(path, args)) {
            return Some(value);
        }
        Some(match path {
            "builtins.str" | "builtins.bytes" | "builtins.bytearray" => {
                let value = first().unwrap_or_else(|| Value::constant(""));
                Value::string(self.stringified(&value).text)
            }
            "builtins.repr" => Value::string(ops::formatted(&first()?, true, "")),
            "builtins.format" => Value::string(first()?.text),
            "builtins.bool" => Value::bool(first().and_then(|value| value.truth())),
            // Of the elements, or one of the arguments.
            "builtins.next" | "builtins.min" | "builtins.max" | "builtins.sum" => {
                first()?;
                Value::any_of(positionals(args).map(|value| match value.object {
                    Object::Container(_) => self.element(value),
                    _ => value.any_text_keeping_mask(),
                }))
            }
            // A number, but one that says which text it was made of.
            "builtins.ord" => Value { object: Object::Number, ..first()?.masked(Mask::DIGITS) },
            "xml.sax.saxutils.quoteattr" | "shlex.join" => self.quoted(path, &first()?),
            "builtins.str.maketrans" if matches!(first()?.object, Object::Container(_)) => {
                self.translation(&first()?)?
            }
            "builtins.str.maketrans" => {
                let removed = positional(args, 2).cloned().unwrap_or_else(|| Value::constant(""));
                Value::new(Object::Instance("str.maketrans".into()), removed.text)
            }
            "ruamel.yaml.YAML" if self.keyword(args, "typ")?.text.as_constant() == Some("unsafe") => {
                Value::new(Object::Instance("ruamel.yaml.unsafe".into()), Text::unknown())
            }
            "django.template.Context"
                if self.keyword(args, "autoescape").is_some_and(|value| value.truth() == Some(false)) =>
            {
                let values = super::mixed(&Value::unknown(), args);
                Value::new(Object::Instance(RAW_CONTEXT.into()), values.text)
            }
            "jinja2.Environment" if self.escapes(args) => {
                Value::new(Object::Instance("jinja2.Environment.escaping".into()), Text::unknown())
            }
            "contextlib.closing" | "contextlib.aclosing" | "contextlib.nullcontext" => first()?,
            "asyncio.gather" => self.gathered(args),
            "builtins.getattr" => self.dynamic_attribute(args)?,
            "builtins.__import__" | "importlib.import_module" => {
                Value::path(first()?.text.as_constant()?.to_owned())
            }
            "builtins.locals" | "builtins.vars" if args.is_empty() => self.variables(),
            "builtins.globals" => Value::path("builtins"),
            "builtins.len" => self.length_of(&first()?),
            "functools.partial" | "functools.partialmethod" => {
                let (_, function) = args.first()?;
                Value::new(Object::Partial(Rc::new(function.clone()), args[1..].into()), Text::unknown())
            }
            "configparser.ConfigParser"
            | "configparser.RawConfigParser"
            | "configparser.SafeConfigParser" => {
                let heap = self.allocate(self.frame().inst, true);
                self.container(heap)
            }
            "io.StringIO" | "io.BytesIO" | "StringIO.StringIO" | "cStringIO.StringIO" => {
                let text = first().map_or_else(|| Text::constant(""), |value| value.text);
                Value::new(Object::Instance(BUFFER.into()), text)
            }
            "json.dumps" if self.keyword(args, "cls").is_none() => {
                let value = super::mixed(&Value::unknown(), args);
                let subject = first()?;
                let constant = subject.is_number() || subject.text.as_constants().is_some();
                let object = if constant { Object::Text } else { Object::Instance("json.dumps".into()) };
                // Line breaks within texts are escaped, and there are no others without an indentation.
                let breaks = if self.keyword(args, "indent").is_none() { "\r\n" } else { "" };
                let json = |hole: Hole| Hole {
                    mask: hole.mask.minus(Mask::of(breaks)),
                    checks: hole.checks.with(Checks::JSON),
                    ..hole
                };
                Value::new(object, Text::hole(json(value.text.summary())))
            }
            "lxml.etree.XMLParser" | "lxml.etree.XMLPullParser"
                if self
                    .keyword(args, "resolve_entities")
                    .is_some_and(|value| value.truth() == Some(false)) =>
            {
                Value::new(Object::Instance(SAFE_PARSER.into()), Text::unknown())
            }
            "re.compile" => self.compile_pattern(args)?,
            "re.escape" => {
                let hole = first()?.text.summary();
                let checks = hole.checks.with(Checks::REGEX_ESCAPED);
                Value::string(Text::hole(Hole { checks, mask: hole.mask.union(Mask::char('\\')), ..hole }))
            }
            _ => return self.special_of_object(path, args),
        })
    }

    /// `str.maketrans({"<": "&lt;"})`: the characters that are replaced, and those that come in their places.
    fn translation(&self, table: &Value) -> Option<Value> {
        let Object::Container(heap) = table.object else { return None };
        let entries = self.entries(heap)?;
        let mut replaced = String::new();
        let mut replacements = String::new();
        for (key, value) in &entries {
            match key {
                Key::Name(name) if name.chars().count() == 1 => replaced.push_str(name),
                Key::Index(code) => replaced.push(u32::try_from(*code).ok().and_then(char::from_u32)?),
                Key::Name(_) => return None,
            }
            match value.object {
                Object::None => {}
                _ => replacements.push_str(value.text.as_constant()?),
            }
        }
        let texts = [replaced, replacements].map(|text| vec![Segment::Text(text.into())]);
        let texts = Text::from_alternatives(texts.into());
        Some(Value::new(Object::Instance("str.maketrans".into()), texts))
    }

    /// `itertools.islice(list, stop)`, `islice(list, start, stop)`
    fn some_ones(&mut self, args: &Arguments) -> Option<Value> {
        let list = positional(args, 0)?.clone();
        let bound = |index| match positional(args, index).map(|bound| &bound.object) {
            Some(Object::Int(bound)) => Some(*bound),
            _ => None,
        };
        let bounds = if args.len() == 2 { [None, bound(1)] } else { [bound(1), bound(2)] };
        if let (Object::Container(heap), true, Some(_)) = (&list.object, args.len() < 4, bounds[1])
            && let Some(part) = self.sublist(self.frame().inst, *heap, bounds)
        {
            return Some(part);
        }
        let element = self.element(&list);
        Some(self.list_of(&element))
    }

    /// Functions that make containers, or go through them.
    fn special_container(&mut self, path: &str, args: &Arguments) -> Option<Value> {
        let first = || positional(args, 0).cloned();
        Some(match path {
            "builtins.list" | "builtins.tuple" | "builtins.set" | "builtins.frozenset"
            | "builtins.sorted" | "builtins.reversed" | "collections.deque" => {
                if let Some(value) = first() {
                    self.listed(path, value)
                } else {
                    let heap = self.allocate(self.frame().inst, false);
                    self.container(heap)
                }
            }
            "builtins.dict"
            | "collections.OrderedDict"
            | "collections.defaultdict"
            | "types.SimpleNamespace"
            | "argparse.Namespace"
            | "threading.local"
            | "werkzeug.datastructures.MultiDict"
            | "collections.UserDict" => self.make_dict(args),
            "collections.ChainMap" => self.chained(args),
            "itertools.islice" => self.some_ones(args)?,
            "queue.Queue" | "queue.SimpleQueue" | "asyncio.Queue" | "multiprocessing.Queue" => {
                let heap = self.allocate(self.frame().inst, false);
                self.container(heap)
            }
            "builtins.enumerate" | "builtins.zip" => self.zipped(path, args),
            "builtins.map" => self.mapped(args)?,
            "builtins.filter" | "itertools.takewhile" => self.filtered(args)?,
            _ => return None,
        })
    }

    /// Functions that quote a text, and bring the quotes.
    fn quoted(&mut self, path: &str, subject: &Value) -> Value {
        if path == "shlex.join" {
            let quoted = |hole: Hole| Hole { checks: Checks::SHELL_QUOTED, ..hole };
            return Value::string(self.join(&Text::constant(" "), subject).map_holes(quoted));
        }
        let quote = Text::constant("\"");
        Value::string(quote.concat(&html::escaped(&subject.text, true)).concat(&quote))
    }

    /// The same for functions of objects, and for those of regular expressions.
    fn special_of_object(&mut self, path: &str, args: &Arguments) -> Option<Value> {
        let first = || positional(args, 0).cloned();
        Some(match path {
            _ if path.ends_with(".__init__") => self.foreign_init(args),
            "builtins.setattr" => {
                let [object, name, value] = [0, 1, 2].map(|index| positional(args, index).cloned());
                self.set_attribute(&object?, &name?, &value?);
                Value::none()
            }
            "dataclasses.asdict" | "attr.asdict" => self.attributes_of(&first()?)?,
            "dataclasses.replace" => self.replaced(args)?,
            "builtins.dict.fromkeys" => {
                let heap = self.allocate(self.frame().inst, true);
                let keys = self.element(&first()?);
                self.store_dynamic_key(heap, &keys);
                self.store_rest(heap, &positional(args, 1).cloned().unwrap_or_else(Value::none));
                self.container(heap)
            }
            "builtins.vars" => {
                let object = first()?;
                self.attributes_of(&object).unwrap_or(object)
            }
            "builtins.super" => self.super_object().unwrap_or_else(Value::unknown),
            "fastapi.Depends" | "fastapi.Security" | "fastapi.params.Depends" => {
                let function = first()?;
                matches!(function.object, Object::Function(..)).then(|| {
                    Value::new(Object::Partial(Rc::new(function), Vec::new().into()), Text::unknown())
                })?
            }
            _ => self.match_pattern(path.strip_prefix("re.")?, args)?,
        })
    }

    /// `Environment(autoescape=True)`
    pub(super) fn escapes(&self, args: &Arguments) -> bool {
        self.keyword(args, "autoescape").is_some_and(|value| match &value.object {
            Object::Instance(path) | Object::Path(path) => path.ends_with("select_autoescape"),
            _ => value.truth() == Some(true),
        })
    }

    /// `await asyncio.gather(a(), b())`: the results in order.
    fn gathered(&mut self, args: &Arguments) -> Value {
        let list = self.allocate(self.frame().inst, false);
        for (kind, value) in args {
            match kind {
                ArgKind::Positional => self.append(list, value),
                ArgKind::Star => {
                    let element = self.element(value);
                    self.forget_positions(list);
                    self.store_rest(list, &element);
                }
                ArgKind::Keyword(_) | ArgKind::DoubleStar => {}
            }
        }
        self.container(list)
    }

    /// `locals()`: the variables of the function, as far as they have values.
    fn variables(&mut self) -> Value {
        let heap = self.allocate(self.frame().inst, true);
        for (name, id) in &self.function().writes {
            if let Some(value) = self.frame().values[id.index()].clone() {
                let key = key_of(&Value::constant(self.module.symbols.shared(*name)));
                self.store_key(heap, key, &value);
            }
        }
        self.container(heap)
    }

    /// `list(value)`: the elements of an object, the keys of a dictionary. A set and what is sorted have no known order.
    fn listed(&mut self, path: &str, value: Value) -> Value {
        let Object::Container(heap) = value.object else {
            if !matches!(value.object, Object::Local(..)) {
                return value;
            }
            let element = self.element(&value);
            return self.list_of(&element);
        };
        if self.heap[heap.0 as usize].is_dict {
            let element = self.element(&value);
            return self.list_of(&element);
        }
        let list = self.copy(self.frame().inst, Role::Copy, heap);
        match path {
            "builtins.list" | "builtins.tuple" | "collections.deque" => {}
            "builtins.reversed" => self.reverse(list),
            _ => self.forget_positions(list),
        }
        Value { elements: value.elements, ..self.container(list) }
    }

    /// `dataclasses.replace(object, field=value)`
    pub(super) fn replaced(&mut self, args: &Arguments) -> Option<Value> {
        let object = positional(args, 0)?.clone();
        let Object::Local(class, Some(from)) = object.object else { return None };
        let heap = self.allocate(self.frame().inst, true);
        let kept = self.container(from);
        self.merge_into(heap, &kept);
        for (kind, value) in args {
            if let ArgKind::Keyword(name) = kind {
                self.store_key(heap, key_of(&Value::constant(self.module.symbols.shared(*name))), value);
            }
        }
        Some(Value { object: Object::Local(class, Some(heap)), ..object })
    }

    fn length_of(&self, value: &Value) -> Value {
        let length = match (&value.object, value.text.as_constant()) {
            (Object::Container(heap), _) => self.length(*heap),
            (Object::Text, Some(text)) => Some(text.chars().count() as i64),
            _ => None,
        };
        length.map_or_else(Value::number, Value::int)
    }

    /// `getattr(self, "do_" + name)`: any method whose name begins so.
    fn methods_with_prefix(&mut self, object: &Value, name: &Text) -> Option<Value> {
        let Object::Local(class, _) = object.object else { return None };
        let prefix = match name.alternatives() {
            [alternative] => match &alternative[..] {
                [Segment::Text(prefix), ..] if prefix.len() > 1 => prefix.clone(),
                _ => return None,
            },
            _ => return None,
        };
        let module = self.module;
        let of_class = module.functions.iter().filter(|function| function.class == Some(class));
        let names = of_class.map(|function| module.symbols.text(function.name));
        let found = names.filter(|name| name.starts_with(&*prefix)).take(MAX_METHODS);
        let methods: Vec<Value> = found.filter_map(|name| self.method_of(class, object, name)).collect();
        (!methods.is_empty()).then(|| Value::any_of(methods))
    }

    /// `getattr(object, name)`.
    fn dynamic_attribute(&mut self, args: &Arguments) -> Option<Value> {
        let object = positional(args, 0)?.clone();
        let name = positional(args, 1)?.clone();
        if let Some(constant) = name.text.as_constant() {
            let known = self.module.symbols.lookup(constant);
            if let Object::Path(path) = &object.object {
                return Some(self.library_member(&format!("{path}.{constant}").into()));
            }
            return Some(match known {
                Some(symbol) => self.attribute(&object, symbol),
                None => object.any_text(),
            });
        }
        if object.path_name() == Some("hashlib") {
            return Some(Value::new(Object::Instance(HASH_MEMBER.into()), name.text));
        }
        self.check_dynamic_attribute(&object, &name);
        if let Some(methods) = self.methods_with_prefix(&object, &name.text) {
            return Some(methods);
        }
        Some(Value::new(Object::Unknown, object.any_text().text))
    }
}
