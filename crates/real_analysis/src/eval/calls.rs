//! Calls: of the program's functions and classes, of library functions, and of methods.

use std::rc::Rc;

use super::Engine;
use super::heap::key_of;
use super::strings::{Arguments, join_paths, positional};
use crate::ir::{Arg, ArgKind, ClassId, FunctionId, Op, ParamKind, Symbol, ValueId};
use crate::library::{self, Api, Origin, Returns, Slot};
use crate::rules::{self, Situation};
use crate::text::{Checks, Hole, Mask, Text};
use crate::value::{Object, Value};

impl Engine<'_> {
    pub(super) fn call(&mut self, id: ValueId, callee: ValueId, args: &[Arg]) -> Value {
        let function = self.get(callee);
        let arguments: Arguments = args.iter().map(|arg| (arg.kind, self.get(arg.value))).collect();
        match function.object.clone() {
            Object::Function(target) => self.call_function(id, target, None, &arguments),
            Object::Bound(target, receiver) => self.call_function(id, target, Some(&receiver), &arguments),
            Object::Class(class) => self.construct(id, class, &arguments),
            Object::Path(path) => {
                let value = self.call_library(id, &path, None, args, &arguments);
                // A method of a source: `request.args.get`.
                if function.taint() == 0 || value.is_number() { value } else { mixed(&function, &arguments) }
            }
            Object::Instance(path) if &*path == HASH_MEMBER => {
                self.check_hash_name(&function, callee, &Situation::default());
                Value::new(Object::Instance("hashlib.new".into()), Text::unknown())
            }
            Object::Method(receiver, name) => self.call_method(id, callee, &receiver, name, args, &arguments),
            _ => {
                self.check_statements(args, &arguments);
                mixed(&function, &arguments)
            }
        }
    }

    /// A function that nobody knows is given a text that is an SQL statement: what else would it do but run it?
    fn check_statements(&mut self, args: &[Arg], arguments: &Arguments) {
        for (arg, (_, value)) in args.iter().zip(arguments) {
            if value.taint() != 0 && rules::is_statement(&value.text) {
                self.check_statement(value, arg.value);
            }
        }
    }

    /// Follows a call into the program.
    fn call_function(
        &mut self,
        id: ValueId,
        target: FunctionId,
        receiver: Option<&Value>,
        args: &Arguments,
    ) -> Value {
        let recursive = self.frames.iter().filter(|frame| frame.function == target).count() > 1;
        if recursive || self.frames.len() > MAX_DEPTH || self.fuel == 0 {
            self.budget_hit |= self.fuel == 0;
            return mixed(&receiver.cloned().unwrap_or_else(Value::unknown), args);
        }
        let params = self.bind(target, receiver, args);
        let summary = self.run(target, &params, false);
        self.frame_mut().summaries.insert(id, summary.clone());
        summary.value.clone()
    }

    /// The values of the parameters.
    fn bind(&self, target: FunctionId, receiver: Option<&Value>, args: &Arguments) -> Vec<Value> {
        let params = &self.module.functions[target.index()].params;
        let defaults = &self.closures[target.index()].defaults;
        let ordered: Vec<&Value> = receiver
            .into_iter()
            .chain(args.iter().filter(|(kind, _)| *kind == ArgKind::Positional).map(|(_, value)| value))
            .collect();
        let spread = args.iter().filter(|(kind, _)| matches!(kind, ArgKind::Star | ArgKind::DoubleStar));
        let spread = spread.map(|(_, value)| value.any_text()).reduce(|known, value| known.join(&value));
        let bound = params.iter().enumerate().map(|(index, param)| {
            let by_name =
                args.iter().find(|(kind, _)| *kind == ArgKind::Keyword(param.name)).map(|(_, value)| value);
            let by_position = || match param.kind {
                ParamKind::Ordinary => ordered.get(index).copied().cloned(),
                ParamKind::Rest => ordered
                    .get(index..)
                    .and_then(|rest| rest.iter().map(|v| v.any_text()).reduce(|a, b| a.join(&b))),
                ParamKind::KeywordRest => {
                    let others = args.iter().filter(|(kind, _)| matches!(kind, ArgKind::Keyword(_)));
                    others.map(|(_, value)| value.any_text()).reduce(|a, b| a.join(&b))
                }
                ParamKind::KeywordOnly => None,
            };
            let default =
                || defaults.iter().find(|(at, _)| *at as usize == index).map(|(_, value)| value.clone());
            by_name
                .cloned()
                .or_else(by_position)
                .or_else(|| spread.clone())
                .or_else(default)
                .unwrap_or_else(Value::unknown)
        });
        bound.collect()
    }

    fn construct(&mut self, id: ValueId, class: ClassId, args: &Arguments) -> Value {
        let instance = Value::new(Object::Local(class), Text::unknown());
        if let Some(init) = self.module_symbol("__init__")
            && let Object::Bound(target, receiver) = self.attribute(&instance, init).object
        {
            self.call_function(id, target, Some(&receiver), args);
        }
        instance
    }

    fn module_symbol(&self, name: &str) -> Option<Symbol> {
        self.module.symbols.lookup(name)
    }

    fn call_method(
        &mut self,
        id: ValueId,
        callee: ValueId,
        receiver: &Value,
        name: Symbol,
        args: &[Arg],
        arguments: &Arguments,
    ) -> Value {
        let text = self.name(name);
        self.check_settings(&format!(".{text}"), arguments);
        if let Object::Container(heap) = receiver.object
            && let Some(value) = self.container_method(callee, heap, text, arguments)
        {
            return value;
        }
        if let Object::Instance(path) | Object::Path(path) = &receiver.object {
            let path: Rc<str> = format!("{path}.{text}").into();
            if let Some(method) = path.strip_prefix("re.compile.")
                && let Some(value) = self.apply_pattern(method, receiver, arguments)
            {
                return value;
            }
            if path.starts_with("re.match.") {
                return receiver.any_text_keeping_mask();
            }
            if library::find(&path).is_some() || matches!(receiver.object, Object::Path(_)) {
                return self.call_library(id, &path, Some(receiver), args, arguments);
            }
        }
        let stringy = !matches!(receiver.object, Object::Container(_) | Object::Local(_) | Object::Class(_));
        if stringy && let Some(value) = self.string_method(text, receiver, arguments) {
            return value;
        }
        match library::find_method(text) {
            Some(api) => self.apply(id, api, Some(receiver), args, arguments),
            None if matches!(text, "get" | "pop" | "setdefault") && receiver.taint() != 0 => {
                receiver.any_text_keeping_mask()
            }
            None => {
                if let Object::Instance(path) = &receiver.object {
                    let path = format!("{path}.{text}").into();
                    return self.call_library(id, &path, Some(receiver), args, arguments);
                }
                self.check_statements(args, arguments);
                mixed(receiver, arguments)
            }
        }
    }

    /// A method of a list, set or dictionary.
    fn container_method(
        &mut self,
        callee: ValueId,
        heap: crate::value::HeapId,
        name: &str,
        args: &Arguments,
    ) -> Option<Value> {
        let first = positional(args, 0).cloned();
        let value = match name {
            "append" | "add" | "appendleft" => {
                self.append(heap, &first?);
                Value::none()
            }
            "insert" => {
                self.heap[heap.0 as usize].next = None;
                self.store_rest(heap, positional(args, 1)?);
                Value::none()
            }
            "extend" | "update" | "union" => {
                let first = first?;
                if self.heap[heap.0 as usize].is_dict {
                    self.merge_into(heap, &first);
                } else {
                    let element = self.element(&first);
                    self.heap[heap.0 as usize].next = None;
                    self.store_rest(heap, &element);
                }
                if name == "union" { self.container(heap) } else { Value::none() }
            }
            "get" | "pop" | "setdefault" => {
                let is_dict = self.heap[heap.0 as usize].is_dict;
                let known = match first.as_ref().and_then(key_of).filter(|_| is_dict) {
                    Some(key) => self.load_key(heap, Some(&key)),
                    None => self.any_element(heap),
                };
                match positional(args, 1).filter(|_| is_dict) {
                    Some(default) => known.join(default),
                    None => known,
                }
            }
            "items" => {
                let (keys, values) = (self.iterated(heap), self.any_element(heap));
                return Some(self.pairs(&keys, &values));
            }
            "keys" => {
                let keys = self.iterated(heap);
                self.list_of(&keys)
            }
            "values" => {
                let values = self.any_element(heap);
                self.list_of(&values)
            }
            "copy" => self.container(heap),
            "sort" | "reverse" | "clear" | "remove" | "discard" => Value::none(),
            "index" | "count" => Value::number(),
            _ => return None,
        };
        if let Op::Attribute { object, .. } = self.op(callee) {
            self.refresh_container(*object, heap);
        }
        Some(value)
    }

    fn list_of(&mut self, element: &Value) -> Value {
        let at = self.frame().inst;
        let heap = self.allocate(at, false);
        self.heap[heap.0 as usize].next = None;
        self.store_rest(heap, element);
        self.container(heap)
    }

    fn pairs(&mut self, keys: &Value, values: &Value) -> Value {
        let at = self.frame().inst;
        let pair = self.allocate_part(at, 1, false);
        self.append(pair, keys);
        self.append(pair, values);
        let pair = self.container(pair);
        self.list_of(&pair)
    }

    fn call_library(
        &mut self,
        id: ValueId,
        path: &Rc<str>,
        receiver: Option<&Value>,
        args: &[Arg],
        arguments: &Arguments,
    ) -> Value {
        self.check_weak_member(path, arguments);
        self.check_settings(path, arguments);
        if let Some(value) = self.special(path, arguments) {
            return value;
        }
        if let Some(method) = path.strip_prefix("builtins.str.")
            && let Some((subject, rest)) = arguments.split_first()
            && let Some(value) = self.string_method(method, &subject.1, &rest.to_vec())
        {
            return value;
        }
        let api = library::find(path).or_else(|| {
            let (owner, method) = path.rsplit_once('.')?;
            let owner_known = library::find(owner).is_some() || receiver.is_some();
            if owner_known || owner.contains('.') { library::find_method(method) } else { None }
        });
        if let Some(api) = api {
            self.apply(id, api, receiver, args, arguments)
        } else {
            self.check_statements(args, arguments);
            let all = mixed(&receiver.cloned().unwrap_or_else(Value::unknown), arguments);
            Value::new(Object::Instance(path.clone()), all.text)
        }
    }

    /// Functions whose result needs more than the tables can say.
    fn special(&mut self, path: &str, args: &Arguments) -> Option<Value> {
        let first = || positional(args, 0).cloned();
        Some(match path {
            "builtins.str" | "builtins.bytes" | "builtins.bytearray" => {
                let value = first().unwrap_or_else(|| Value::constant(""));
                Value::string(value.text)
            }
            "builtins.repr" => Value::string(super::ops::formatted(&first()?, true, "")),
            "builtins.format" => Value::string(first()?.text),
            "builtins.bool" => Value::bool(first().and_then(|value| value.truth())),
            "builtins.list" | "builtins.tuple" | "builtins.set" | "builtins.frozenset"
            | "builtins.sorted" => {
                if let Some(value) = first() {
                    value
                } else {
                    let heap = self.allocate(self.frame().inst, false);
                    self.container(heap)
                }
            }
            "builtins.dict" => self.make_dict(args),
            "builtins.enumerate" | "builtins.zip" => self.zipped(path, args),
            "builtins.map" => self.mapped(args)?,
            "builtins.filter" => self.filtered(args)?,
            "builtins.next" | "builtins.min" | "builtins.max" | "builtins.sum" => {
                let value = first()?;
                if matches!(value.object, Object::Container(_)) {
                    self.element(&value)
                } else {
                    value.any_text_keeping_mask()
                }
            }
            "builtins.chr" => Value::string(Text::unknown()),
            "builtins.str.maketrans" => {
                let removed = positional(args, 2).cloned().unwrap_or_else(|| Value::constant(""));
                Value::new(Object::Instance("str.maketrans".into()), removed.text)
            }
            "builtins.getattr" => self.dynamic_attribute(args)?,
            "builtins.__import__" | "importlib.import_module" => {
                Value::path(first()?.text.as_constant()?.to_owned())
            }
            "builtins.globals" | "builtins.locals" | "builtins.vars" => match first() {
                Some(value) => value,
                None => Value::path("builtins"),
            },
            "builtins.super" => {
                let class = self.function().class?;
                let base = self.bases[class.index()].iter().find_map(|base| match base.object {
                    Object::Class(base) => Some(base),
                    _ => None,
                });
                base.map_or_else(Value::unknown, |base| Value::new(Object::Local(base), Text::unknown()))
            }
            "functools.partial" => first()?,
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
            _ => self.match_pattern(path.strip_prefix("re.")?, args)?,
        })
    }

    fn make_dict(&mut self, args: &Arguments) -> Value {
        let heap = self.allocate(self.frame().inst, true);
        for (kind, value) in args {
            match kind {
                ArgKind::Keyword(name) => {
                    let key = key_of(&Value::constant(self.module.symbols.shared(*name)));
                    self.store_key(heap, key, value);
                }
                _ => self.merge_into(heap, value),
            }
        }
        self.container(heap)
    }

    fn zipped(&mut self, path: &str, args: &Arguments) -> Value {
        let mut parts: Vec<Value> = Vec::new();
        if path == "builtins.enumerate" {
            parts.push(Value::number());
        }
        for (_, value) in args.iter().filter(|(kind, _)| *kind == ArgKind::Positional) {
            let element = self.element(value);
            parts.push(element);
        }
        let at = self.frame().inst;
        let tuple = self.allocate_part(at, 1, false);
        for part in &parts {
            self.append(tuple, part);
        }
        let tuple = self.container(tuple);
        self.list_of(&tuple)
    }

    fn mapped(&mut self, args: &Arguments) -> Option<Value> {
        let function = positional(args, 0)?.clone();
        let iterable = positional(args, 1)?.clone();
        let element = self.element(&iterable);
        let result = self.call_value(&function, element);
        Some(self.list_of(&result))
    }

    /// `filter(test, x)`: the elements that pass, which for `str.isdigit` have only digits.
    fn filtered(&mut self, args: &Arguments) -> Option<Value> {
        let test = positional(args, 0)?.clone();
        let iterable = positional(args, 1)?.clone();
        let element = self.element(&iterable);
        let mask = match test.path_name() {
            Some("builtins.str.isdigit" | "builtins.str.isdecimal") => Mask::DIGITS,
            Some("builtins.str.isalpha") => Mask::LETTERS.with_other(),
            Some("builtins.str.isalnum") => Mask::ALNUM.with_other(),
            _ => Mask::ANY,
        };
        let mut proof = crate::facts::Refinement::mask(mask);
        if let Object::Function(target) = test.object {
            let at = self.frame().inst;
            self.call_function(at, target, None, &vec![(ArgKind::Positional, element.clone())]);
            if let Some(summary) = self.frame_mut().summaries.remove(&at) {
                proof = summary.truthy.first().cloned().unwrap_or(proof);
            }
        }
        Some(self.list_of(&element.refined(&proof)))
    }

    fn call_value(&mut self, function: &Value, argument: Value) -> Value {
        let args = vec![(ArgKind::Positional, argument)];
        let at = self.frame().inst;
        match &function.object {
            Object::Function(target) => {
                let value = self.call_function(at, *target, None, &args);
                self.frame_mut().summaries.remove(&at);
                value
            }
            Object::Path(path) => self.call_library(at, path, None, &[], &args),
            _ => mixed(function, &args),
        }
    }

    /// `getattr(object, name)`.
    fn dynamic_attribute(&mut self, args: &Arguments) -> Option<Value> {
        let object = positional(args, 0)?.clone();
        let name = positional(args, 1)?.clone();
        if let Some(constant) = name.text.as_constant() {
            let known = self.module_symbol(constant);
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
        Some(Value::new(Object::Unknown, object.any_text().text))
    }

    /// Judges a call's arguments and gives its result.
    fn apply(
        &mut self,
        id: ValueId,
        api: &'static Api,
        receiver: Option<&Value>,
        args: &[Arg],
        arguments: &Arguments,
    ) -> Value {
        for (concept, slot) in api.sinks {
            if let Some((value, index)) = self.argument(*slot, receiver, arguments) {
                let situation = self.situation(arguments);
                let origin = match index {
                    Some(index) => args.get(index).map(|arg| arg.value),
                    None => self.receiver_of(id),
                };
                self.check_sink(*concept, api, &value, origin.unwrap_or(id), &situation);
            }
        }
        let made_path = |text: Text| {
            let object = if api.path.starts_with("pathlib.") {
                Object::Instance("pathlib.Path".into())
            } else {
                Object::Text
            };
            Value::new(object, text)
        };
        let subject =
            receiver.cloned().filter(|_| is_method(api)).or_else(|| positional(arguments, 0).cloned());
        let subject = subject.unwrap_or_else(Value::unknown);
        match api.returns {
            Returns::Clean => Value::unknown(),
            Returns::Number => Value::number(),
            Returns::Mixed => mixed(&receiver.cloned().unwrap_or_else(Value::unknown), arguments),
            Returns::Same => subject,
            Returns::Source(origin, what) => {
                let range = self.current_range();
                let taint = self.source(range, origin, what);
                let object = if is_text_source(api.path) { Object::Text } else { Object::Unknown };
                Value::new(object, Text::tainted(taint))
            }
            Returns::Object("builtins.open") if subject.taint() != 0 => {
                let taint = self.source(self.current_range(), Origin::File, "a file of the caller's choice");
                Value::new(Object::Instance("builtins.open".into()), Text::tainted(taint))
            }
            Returns::Object(path) => Value::new(Object::Instance(path.into()), Text::unknown()),
            Returns::Made(path) => {
                let all = mixed(&receiver.cloned().unwrap_or_else(Value::unknown), arguments);
                let text = if arguments.is_empty() {
                    all.text
                } else {
                    Text::hole(Hole { ..subject.text.summary() })
                };
                Value {
                    elements: subject.elements.clone(),
                    ..Value::new(Object::Instance(path.into()), text)
                }
            }
            Returns::Masked(mask) => subject.masked(mask),
            Returns::HtmlEscaped => {
                let quotes =
                    self.keyword(arguments, "quote").is_some_and(|value| value.truth() == Some(false));
                let removed = if quotes { Mask::ascii(b"<>") } else { Mask::ascii(b"<>\"'") };
                Value::string(subject.text.map(
                    &|hole| Hole { mask: hole.mask.minus(removed).union(Mask::ascii(b"&;#")), ..hole },
                    &|text| text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;"),
                ))
            }
            Returns::ShellQuoted => {
                let hole = subject.text.summary();
                Value::string(Text::hole(Hole { checks: Checks::SHELL_QUOTED, ..hole }))
            }
            Returns::UrlQuoted => {
                let slash = arguments.len() < 2 && api.path.ends_with("quote");
                let kept = Mask::WORD.union(Mask::ascii(b".-~%+=&"));
                subject.masked(if slash { kept.union(Mask::char('/')) } else { kept })
            }
            Returns::Basename => {
                let hole = subject.text.summary();
                Value::string(Text::hole(Hole { mask: hole.mask.minus(Mask::char('/')), ..hole }))
            }
            Returns::Resolved => {
                let text = subject.text.taint();
                let hole = Hole { checks: Checks::RESOLVED, ..Hole::tainted(text) };
                let confined = subject.text.summary().checks.has(Checks::CONFINED);
                let hole =
                    if confined { Hole { checks: hole.checks.with(Checks::CONFINED), ..hole } } else { hole };
                made_path(if text == 0 { subject.text } else { Text::hole(hole) })
            }
            Returns::JoinedPath => {
                let receiver = receiver.filter(|_| is_method(api)).map(|receiver| receiver.text.clone());
                let parts: Vec<Text> = receiver
                    .into_iter()
                    .chain(arguments.iter().map(|(_, value)| value.text.clone()))
                    .collect();
                made_path(join_paths(&parts))
            }
            Returns::JoinedUrl => {
                let reference = positional(arguments, 1).unwrap_or(&subject);
                let joined = subject.text.concat(&Text::constant("/")).concat(&reference.text);
                Value::string(if reference.taint() == 0 { joined } else { joined.join(&reference.text) })
            }
        }
    }

    /// The object that a method call is made on.
    fn receiver_of(&self, call: ValueId) -> Option<ValueId> {
        let Op::Call { callee, .. } = self.op(call) else { return None };
        match self.op(*callee) {
            Op::Attribute { object, .. } => Some(*object),
            _ => None,
        }
    }

    /// The value in a slot, and the index of the argument.
    fn argument(
        &self,
        slot: Slot,
        receiver: Option<&Value>,
        args: &Arguments,
    ) -> Option<(Value, Option<usize>)> {
        if slot == library::RECEIVER {
            return receiver.map(|receiver| (receiver.clone(), None));
        }
        let mut position = 0;
        for (index, (kind, value)) in args.iter().enumerate() {
            match kind {
                ArgKind::Positional => {
                    if position == slot.position {
                        return Some((value.clone(), Some(index)));
                    }
                    position += 1;
                }
                ArgKind::Keyword(name) if !slot.keyword.is_empty() && self.name(*name) == slot.keyword => {
                    return Some((value.clone(), Some(index)));
                }
                ArgKind::Star => return Some((self.first_of(value), Some(index))),
                ArgKind::Keyword(_) | ArgKind::DoubleStar => {}
            }
        }
        None
    }

    fn first_of(&self, value: &Value) -> Value {
        match value.object {
            Object::Container(heap) => self.any_element(heap),
            _ => value.any_text(),
        }
    }

    /// What else a call says: a shell is asked for, a loader is named.
    pub(super) fn situation(&self, args: &Arguments) -> Situation {
        let mut situation = Situation::default();
        let spread = args.iter().filter(|(kind, _)| *kind == ArgKind::DoubleStar).map(|(_, value)| value);
        let named = |name: &str| {
            self.keyword(args, name).cloned().or_else(|| {
                spread.clone().find_map(|value| match value.object {
                    Object::Container(heap) => {
                        Some(self.load_key(heap, key_of(&Value::constant(name)).as_ref()))
                    }
                    _ => None,
                })
            })
        };
        if let Some(shell) = named("shell") {
            situation.shell = shell.truth() != Some(false);
        }
        let loader = named("Loader").or_else(|| positional(args, 1).cloned());
        situation.safe_loader = loader.is_some_and(|loader| {
            let name = loader.path_name().and_then(|path| path.rsplit('.').next()).unwrap_or_default();
            matches!(name, "SafeLoader" | "CSafeLoader" | "BaseLoader" | "CBaseLoader")
        });
        situation.not_for_security =
            named("usedforsecurity").is_some_and(|value| value.truth() == Some(false));
        situation.weights_only = named("weights_only").is_some_and(|value| value.truth() == Some(true));
        let parser = named("parser").or_else(|| positional(args, 1).cloned());
        situation.safe_parser = parser
            .is_some_and(|parser| matches!(&parser.object, Object::Instance(path) if &**path == SAFE_PARSER));
        situation.plain_response = named("mimetype")
            .or_else(|| named("content_type"))
            .is_some_and(|kind| kind.text.as_constant().is_some_and(|kind| !rules::is_html_type(kind)));
        situation
    }
}

/// A parser that leaves entities alone.
const SAFE_PARSER: &str = "lxml.etree.XMLParser without entities";
/// `getattr(hashlib, name)`: judged where it is used, since the name may be checked in between.
const HASH_MEMBER: &str = "hashlib.?";

const MAX_DEPTH: usize = super::MAX_CALL_DEPTH;

/// Something computed from everything in sight.
pub(super) fn mixed(receiver: &Value, args: &Arguments) -> Value {
    let taint = args.iter().fold(receiver.taint(), |taint, (_, value)| taint | value.taint());
    if taint == 0 { Value::unknown() } else { Value::tainted(taint) }
}

fn is_method(api: &Api) -> bool {
    api.path.starts_with('.')
        || api.path.starts_with("pathlib.Path.")
        || api.path.starts_with("urllib.parse.urlparse.")
}

fn is_text_source(path: &str) -> bool {
    matches!(
        path,
        "builtins.input"
            | "builtins.raw_input"
            | "sys.stdin.readline"
            | "sys.stdin.read"
            | "os.getenv"
            | "getpass.getpass"
    )
}
