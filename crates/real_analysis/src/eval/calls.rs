//! Calls: who is called, and with which values for its parameters.
//!
//! A callee is a value like any other. `run = partial(execute, db)` is a function with an argument already in place, a method
//! is a function with its object in place, an object with `__call__` is a function too; [`Engine::call_object`] takes each
//! apart until a function of the program, a class or a path of a library is left. What the library does is in
//! `calls/library.rs`, and what is assumed of a function that nobody knows in `calls/unknown.rs`.

mod arguments;
mod callbacks;
mod construct;
mod containers;
mod library;
mod options;
mod routes;
mod special;
mod templates;
mod unknown;

use std::borrow::Cow;

use super::Engine;
use super::attributes::VALIDATORS;
use super::strings::{Arguments, positional};
use super::subscripts::{is_document_store, is_session, uploaded};
use crate::ir::{Arg, ArgKind, ClassId, FunctionId, Op, Symbol, ValueId};
use crate::library::{Concept, ROUTE_REGISTRARS, TEXT_PARTS, UPLOADS};
use crate::rules::Situation;
use crate::text::Text;
use crate::value::{Captured, Object, Value};

/// `getattr(hashlib, name)`: judged where it is used, since the name may be checked in between.
const HASH_MEMBER: &str = "hashlib.?";

/// Where a call stands in the program: the instruction, its callee and its arguments. A call that a library makes has neither.
#[derive(Clone, Copy)]
pub(super) struct Site<'i> {
    pub(super) id: ValueId,
    pub(super) callee: Option<ValueId>,
    pub(super) args: &'i [Arg],
}

impl Engine<'_> {
    pub(super) fn call(&mut self, id: ValueId, callee: ValueId, args: &[Arg]) -> Value {
        let function = self.get(callee);
        let arguments: Arguments = args.iter().map(|arg| (arg.kind, self.get(arg.value))).collect();
        self.note_routes(&function, &arguments);
        self.call_object(Site { id, callee: Some(callee), args }, &function, &arguments)
    }

    /// Calls a value.
    pub(super) fn call_object(&mut self, site: Site<'_>, function: &Value, arguments: &Arguments) -> Value {
        match function.object.clone() {
            Object::Function(target, captured) => {
                self.call_function(site.id, target, &captured, None, arguments)
            }
            Object::Bound(target, captured, receiver) => {
                self.call_function(site.id, target, &captured, Some(&receiver), arguments)
            }
            Object::Either(_) => self.call_either(site, function, arguments),
            Object::Partial(target, bound) => {
                let all = bound.iter().chain(arguments).cloned().collect();
                self.call_object(Site { args: &[], ..site }, &target, &all)
            }
            Object::Class(class) => self.construct(site.id, class, arguments),
            Object::Path(path)
                if let Some((owner, name)) = path.rsplit_once('.')
                    && is_session(owner)
                    && let Some(value) = self.session_method(name, arguments) =>
            {
                value
            }
            Object::Path(path) => {
                let spread = self.spread(arguments);
                // Arguments that were taken apart are no longer those that stand in the program.
                let site = if matches!(spread, Cow::Owned(_)) { Site { args: &[], ..site } } else { site };
                let arguments = &*spread;
                let value = self.call_library(site, &path, None, arguments);
                // A method of a source: `request.args.get`.
                if function.taint() == 0 || value.is_number() {
                    return value;
                }
                if path.ends_with(".to_dict") {
                    return self.make_dict(&vec![(ArgKind::Positional, function.any_text())]);
                }
                let value = mixed(function, arguments);
                let owner = path.strip_suffix(".get").and_then(|owner| owner.rsplit('.').next());
                match owner {
                    Some(owner) if TEXT_PARTS.contains(&owner) => Value { object: Object::Text, ..value },
                    _ => value,
                }
            }
            Object::Instance(path) if &*path == HASH_MEMBER => {
                if let Some(callee) = site.callee {
                    self.check_hash_name(function, callee, &Situation::default());
                }
                Value::new(Object::Instance("hashlib.new".into()), Text::unknown())
            }
            Object::Instance(path) if let Some(api) = self.libraries.find(&format!("{path}.__call__")) => {
                self.apply(site, api, Some(function), arguments)
            }
            Object::Method(receiver, name) => self.call_method(site, &receiver, name, arguments),
            Object::Local(class, _) => match self.method_of(class, function, "__call__") {
                Some(method) => self.call_object(site, &method, arguments),
                None => mixed(function, arguments),
            },
            _ => self.call_unknown(site, "", function, arguments),
        }
    }

    /// Calls one of several things: what comes back is what any of them gives, and nothing is proved of the arguments.
    fn call_either(&mut self, site: Site<'_>, function: &Value, arguments: &Arguments) -> Value {
        let results = function.alternatives().map(|one| self.call_object(site, &one, arguments));
        let value = Value::any_of(results);
        self.frame_mut().summaries.remove(&site.id);
        value
    }

    /// Follows a call into the program.
    fn call_function(
        &mut self,
        id: ValueId,
        target: FunctionId,
        captured: &Captured,
        receiver: Option<&Value>,
        args: &Arguments,
    ) -> Value {
        let recursive = self.frames.iter().filter(|frame| frame.function == target).count() > 1;
        if recursive || self.frames.len() > super::MAX_CALL_DEPTH || self.fuel == 0 {
            self.budget_hit |= self.fuel == 0;
            return mixed(&receiver.cloned().unwrap_or_else(Value::unknown), args);
        }
        let params = self.bind(id, target, receiver, args);
        let summary = self.run(target, captured, &params, false);
        if self.runs_at_once(id, target) {
            summary.raised.iter().for_each(|exception| self.raise(exception.clone()));
            self.frame_mut().summaries.insert(id, summary.clone());
        }
        summary.value.clone()
    }

    /// Whether a call runs the body of the function: that of a generator runs when somebody iterates, and an async function's when
    /// somebody awaits it. Before that nothing is checked. Who hands the result on has it run.
    fn runs_at_once(&self, call: ValueId, target: FunctionId) -> bool {
        let body = &self.module.functions[target.index()];
        let is_handed_on = || {
            self.function().insts.iter().any(|inst| match &inst.op {
                Op::Call { args, .. } => args.iter().any(|arg| arg.value == call),
                Op::Enter(value) | Op::Element(value) => *value == call,
                _ => false,
            })
        };
        let waits = body.is_async && !self.function().awaited.contains(&call);
        let is_manager = || {
            let managers = ["contextlib.contextmanager", "contextlib.asynccontextmanager"];
            self.is_decorated(target, &managers)
        };
        !(waits || body.is_generator && !is_manager()) || is_handed_on()
    }

    /// A method that the class or one of its bases in the program defines, bound to the receiver.
    pub(super) fn method_of(&mut self, class: ClassId, receiver: &Value, name: &str) -> Option<Value> {
        let name = self.module.symbols.lookup(name)?;
        self.class_member(class, name, Some(receiver))
            .filter(|method| matches!(method.object, Object::Bound(..)))
    }

    fn call_method(
        &mut self,
        site: Site<'_>,
        receiver: &Value,
        name: Symbol,
        arguments: &Arguments,
    ) -> Value {
        let text = self.name(name);
        if self.settings[name.index()] {
            self.check_settings(&format!(".{text}"), arguments);
        }
        match text {
            "add_argument" => self.note_option(arguments),
            "add_middleware" => self.check_middleware(arguments),
            "send_header" if positional(arguments, 0).is_some_and(is_cookie_header) => {
                if let Some(line) = positional(arguments, 1).map(|value| value.text.clone()) {
                    self.check_cookie_line(&line);
                }
            }
            _ => {}
        }
        if let Some(value) = self.method_of_known(site, receiver, text, arguments) {
            return value;
        }
        if let Object::Container(heap) = receiver.object
            && let Some(value) = self.container_method(site, heap, text, arguments)
        {
            return value;
        }
        let owner = match &receiver.object {
            Object::Instance(path) | Object::Path(path) => Some(path.clone()),
            Object::Local(class, _) => self.foreign_base(*class, text),
            _ => None,
        };
        if let Some(owner) = owner {
            let path: std::rc::Rc<str> = format!("{owner}.{text}").into();
            if let Some(method) = path.strip_prefix("re.compile.")
                && let Some(value) = self.apply_pattern(method, receiver, arguments)
            {
                return value;
            }
            if path.starts_with("re.match.") {
                if let (Some(callee), "group") = (site.callee, text)
                    && let Op::Attribute { object, .. } = self.op(callee)
                {
                    return self.group_of(*object, arguments, receiver);
                }
                return receiver.any_text_keeping_mask();
            }
            if self.libraries.find(&path).is_some() || matches!(receiver.object, Object::Path(_)) {
                return self.call_library(site, &path, Some(receiver), arguments);
            }
        }
        if let Some(value) = self.record_method(receiver, text, arguments) {
            return value;
        }
        if let Some(value) = self.fill(site, receiver, text, arguments) {
            return value;
        }
        if matches!((text, arguments.len()), ("set" | "add" | "setdefault", 2))
            && let (Some(key), Some(value)) = (positional(arguments, 0), positional(arguments, 1))
        {
            let origin = site.args.get(1).map_or(site.id, |arg| arg.value);
            self.check_stored(receiver, key, value, origin);
        }
        // `find` of a collection of documents takes a mapping, that of a text does not.
        let is_query = |value: &Value| matches!(value.object, Object::Container(heap) if self.heap[heap.0 as usize].is_dict);
        let queries = positional(arguments, 0).is_some_and(is_query) || is_collection_of_documents(receiver);
        if text == "find" && queries {
            return match self.libraries.find_method("find_one") {
                Some(api) => self.apply(site, api, Some(receiver), arguments),
                None => mixed(receiver, arguments),
            };
        }
        if self.asks_for_number(text, arguments) {
            return Value::number();
        }
        let stringy = !matches!(receiver.object, Object::Container(_) | Object::Local(..) | Object::Class(_));
        if stringy && let Some(value) = self.string_method(text, receiver, arguments) {
            return value;
        }
        match self.libraries.find_method(text) {
            Some(api) => self.apply(site, api, Some(receiver), arguments),
            None if matches!(text, "get" | "pop" | "setdefault") && receiver.taint() != 0 => {
                self.part_of_request(receiver)
            }
            None => {
                if let Object::Instance(path) = &receiver.object {
                    let path = format!("{path}.{text}").into();
                    return self.call_library(site, &path, Some(receiver), arguments);
                }
                self.call_back(arguments);
                self.call_unknown(site, text, receiver, arguments)
            }
        }
    }

    /// A method of an upload, a session, a model or an unpickler, or what makes a request's values a dictionary.
    fn method_of_known(
        &mut self,
        site: Site<'_>,
        receiver: &Value,
        text: &str,
        arguments: &Arguments,
    ) -> Option<Value> {
        if matches!(&receiver.object, Object::Instance(path) if &**path == UPLOADS) {
            match text {
                "get" | "pop" => return Some(uploaded(receiver)),
                "getlist" | "values" => return Some(self.list_of(&uploaded(receiver))),
                _ => {}
            }
        }
        if let Object::Instance(path) | Object::Path(path) = &receiver.object
            && is_session(path)
            && let Some(value) = self.session_method(text, arguments)
        {
            return Some(value);
        }
        if let (Object::Class(class), Some(data)) = (&receiver.object, positional(arguments, 0))
            && VALIDATORS.contains(&text)
            && let Some(record) = self.hostile_record(*class, data.taint())
        {
            return Some(record);
        }
        if let Object::Local(class, _) = receiver.object
            && text == "load"
            && self.loads_anything(class)
        {
            self.judge_as_given(
                Concept::Deserialize,
                "pickle.load",
                &receiver.text,
                site.id,
                &Situation::default(),
            );
        }
        if text == "to_dict" && arguments.is_empty() && receiver.taint() != 0 {
            return Some(self.make_dict(&vec![(ArgKind::Positional, receiver.clone())]));
        }
        None
    }

    /// Whether a class is an unpickler that refuses no class.
    fn loads_anything(&self, class: ClassId) -> bool {
        let unpickles = |path: &str| path.ends_with(".Unpickler") || path.ends_with("._Unpickler");
        let refuses = self.module.functions.iter().any(|function| {
            function.class == Some(class)
                && self.name(function.name) == "find_class"
                && function.insts.iter().any(|inst| matches!(inst.op, Op::Raise(_)))
        });
        self.bases[class.index()].iter().filter_map(Value::path_name).any(unpickles) && !refuses
    }

    /// The library class that a class of the program inherits a member from.
    pub(super) fn foreign_base(&self, class: ClassId, member: &str) -> Option<std::rc::Rc<str>> {
        let (mut pending, mut seen) = (vec![class], Vec::new());
        while let Some(class) = pending.pop() {
            seen.push(class);
            for base in &self.bases[class.index()] {
                match &base.object {
                    Object::Path(path) if self.libraries.find(&format!("{path}.{member}")).is_some() => {
                        return Some(path.clone());
                    }
                    Object::Class(base) if !seen.contains(base) => pending.push(*base),
                    _ => {}
                }
            }
        }
        None
    }

    /// `request.args.get("page", type=int)`
    pub(super) fn asks_for_number(&self, method: &str, arguments: &Arguments) -> bool {
        matches!(method, "get" | "getlist")
            && self
                .keyword(arguments, "type")
                .or(positional(arguments, 2))
                .and_then(Value::path_name)
                .is_some_and(|kind| {
                    matches!(kind, "builtins.int" | "builtins.float" | "builtins.bool" | "uuid.UUID")
                })
    }

    /// `@app.get("/", response_class=HTMLResponse)`
    pub(super) fn note_pages(&mut self, function: FunctionId, decorators: &[ValueId]) {
        for decorator in decorators {
            let Op::Call { args, .. } = self.op(*decorator) else { continue };
            let arguments = args.iter().map(|arg| (arg.kind, self.known(arg.value))).collect();
            self.note_converters(function, &arguments);
            self.note_command_option(function, &arguments);
            let is_page = |arg: &Arg| {
                matches!(arg.kind, ArgKind::Keyword(name) if self.name(name) == "response_class")
                    && self.known(arg.value).path_name().is_some_and(|path| path.ends_with("HTMLResponse"))
            };
            if args.iter().any(is_page) {
                self.pages.insert(function);
            }
        }
    }

    /// `@app.route("/order/<int:number>")`: what the parts of the path can be.
    fn note_converters(&mut self, function: FunctionId, arguments: &Arguments) {
        for text in arguments.iter().filter_map(|(_, value)| value.text.as_constant()) {
            for (name, declared) in routes::parts(text) {
                self.declared_parts.entry(function).or_default().insert(name.into(), declared);
            }
        }
    }

    /// `app.add_url_rule("/", view_func=index)`, `button.click(fn=answer)`: a function that is handed to a framework answers requests.
    fn note_routes(&mut self, function: &Value, arguments: &Arguments) {
        let registers = |name: &str| ROUTE_REGISTRARS.contains(&name.rsplit('.').next().unwrap_or_default());
        let registers = match &function.object {
            Object::Path(path) => path.starts_with("gradio.") || registers(path),
            Object::Method(owner, name) => {
                let of_page = matches!(&owner.object, Object::Instance(path) if path.starts_with("gradio."));
                of_page || registers(self.name(*name))
            }
            _ => false,
        };
        if !registers {
            return;
        }
        for (_, value) in arguments {
            if let Object::Function(target, _) | Object::Bound(target, _, _) = value.object
                && self.registered.insert(target)
            {
                self.changes.note_change_of_all();
                self.note_converters(target, arguments);
            }
        }
    }
}

fn is_cookie_header(name: &Value) -> bool {
    name.text.as_constant().is_some_and(|name| name.eq_ignore_ascii_case("set-cookie"))
}

/// `client.db.users`, where the client is a database of documents.
fn is_collection_of_documents(value: &Value) -> bool {
    match &value.object {
        Object::Method(owner, _) => is_collection_of_documents(owner),
        Object::Instance(path) => is_document_store(path),
        _ => false,
    }
}

/// Something computed from everything in sight.
pub(super) fn mixed(receiver: &Value, args: &Arguments) -> Value {
    let taint = args.iter().fold(receiver.taint(), |taint, (_, value)| taint | value.taint());
    if taint == 0 { Value::unknown() } else { Value::tainted(taint) }
}
