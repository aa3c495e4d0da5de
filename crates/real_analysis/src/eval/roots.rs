//! Where evaluation begins, and who calls from outside.

use rustc_hash::FxHashSet;

use super::Engine;
use super::changes::Due;
use super::heap::Key;
use crate::facts::Refinement;
use crate::ir::{
    Annotation, ClassId, Function, FunctionId, FunctionKind, Module, Op, Param, ParamKind, Symbol,
};
use crate::library::{
    COMMAND_LINES, ERROR_DECORATORS, HARMLESS_TYPES, Origin, PAGE_FRAMEWORKS, UPLOAD, WEB_FRAMEWORKS,
};
use crate::text::{Taint, Text, regex};
use crate::value::{Object, Value};
use crate::{Mode, ThreatModel};

/// Rounds over the roots: methods may run in any order, and what one stores another reads.
const MAX_ROUNDS: u32 = 3;

impl Engine<'_> {
    /// Evaluates the whole program.
    pub(crate) fn run_all(&mut self) {
        let mut due = Due::Everybody;
        for _ in 0..MAX_ROUNDS {
            if due.includes(FunctionId(0)) {
                // A call by the module's own code is no reason not to look at a function by itself.
                let before = (self.visited.clone(), self.contexts.clone());
                self.run(FunctionId(0), &None, &[], true);
                (self.visited, self.contexts) = before;
            }
            // Whoever is called by the program only is seen with what the program gives.
            for exposed in [true, false] {
                for index in 1..self.module.functions.len() as u32 {
                    let function = FunctionId(index);
                    let is_due = due.includes(function)
                        && self.caller(function).is_some() == exposed
                        && (exposed || !self.visited.contains(&function));
                    if is_due && self.is_root(function) {
                        let params = self.outside_params(function);
                        if !self.run_wrapper(function, &params) {
                            self.run(function, &None, &params, true);
                        }
                    }
                }
            }
            match self.next_round() {
                Some(next) => due = next,
                None => break,
            }
        }
    }

    /// Evaluates what a decorator of the program made of a route, with the values that were meant for the route. Whether that leads to
    /// the route; if not, it is evaluated as if it were bare.
    fn run_wrapper(&mut self, function: FunctionId, values: &[Value]) -> bool {
        let Some(Object::Function(wrapper, captured)) =
            self.wrappers.get(&function).map(|value| value.object.clone())
        else {
            return false;
        };
        let names = self.module.functions[function.index()].params.iter().map(|param| param.name);
        let mut given: Vec<(Symbol, Value)> = names.zip(values.iter().cloned()).collect();
        let params = &self.module.functions[wrapper.index()].params;
        let mut bound = Vec::with_capacity(params.len());
        for param in params {
            let named = given.iter().position(|(name, _)| *name == param.name);
            let value = match param.kind {
                ParamKind::Ordinary if !given.is_empty() => given.remove(named.unwrap_or(0)).1,
                ParamKind::KeywordOnly if let Some(at) = named => given.remove(at).1,
                ParamKind::Rest => {
                    let heap = self.given_heap(Vec::new(), false);
                    Value::new(Object::Container(heap), Text::unknown())
                }
                ParamKind::KeywordRest => {
                    let key = |name| Key::Name(self.module.symbols.shared(name));
                    let fields: Vec<(Key, Value)> =
                        given.drain(..).map(|(name, value)| (key(name), value)).collect();
                    let text =
                        fields.iter().fold(Text::unknown(), |text, (_, value)| text.join_taint(&value.text));
                    Value::new(Object::Container(self.given_heap(fields, true)), text)
                }
                _ => Value::unknown(),
            };
            bound.push(value);
        }
        self.visited.remove(&function);
        self.wrapped = Some(function);
        self.run(wrapper, &captured, &bound, true);
        self.wrapped = None;
        self.visited.contains(&function)
    }

    fn is_root(&self, function: FunctionId) -> bool {
        let body = &self.module.functions[function.index()];
        let kind = match body.kind {
            FunctionKind::Function => true,
            // `button.click(lambda text: …)`
            FunctionKind::Lambda => self.registered.contains(&function),
            _ => false,
        };
        let nested = body.parent.is_some_and(|parent| {
            matches!(
                self.module.functions[parent.index()].kind,
                FunctionKind::Function | FunctionKind::Lambda
            )
        });
        kind && (!nested || self.is_route(function))
    }

    /// Whether the function is the one that the options name.
    pub(super) fn is_entry(&self, function: FunctionId) -> bool {
        let body = &self.module.functions[function.index()];
        let name = self.name(body.name);
        let Some(entry) = self.options.entry_point.as_deref() else { return false };
        match body.class {
            None => entry == name,
            Some(class) => {
                let class = self.name(self.module.classes[class.index()].name);
                entry.strip_prefix(class).and_then(|rest| rest.strip_prefix('.')) == Some(name)
            }
        }
    }

    /// The functions whose parameters outsiders choose, and those of them that answer requests, in order.
    pub(crate) fn exposed(&self) -> (Vec<FunctionId>, Vec<FunctionId>) {
        let first = self.module.trusted_functions.max(1);
        let functions = (first..self.module.functions.len() as u32).map(FunctionId);
        let roots = functions.filter(|function| self.is_root(*function) && self.caller(*function).is_some());
        let exposed: Vec<FunctionId> = roots.collect();
        let routes =
            exposed.iter().copied().filter(|function| self.caller(*function) == Some(Origin::Request));
        let routes = routes.collect();
        (exposed, routes)
    }

    /// Who gives the parameters of a function their values; `None`: only the program.
    fn caller(&self, function: FunctionId) -> Option<Origin> {
        let body = &self.module.functions[function.index()];
        let name = self.name(body.name);
        let public = !name.starts_with('_') || matches!(name, "__init__" | "__call__") || self.all_private;
        let reachable = public && !self.called.contains(&function);
        let takes_request = self.threat_model == ThreatModel::Web
            && (body.params.iter().take(2).any(|param| self.is_request(param)) || name == "lambda_handler")
            || self.is_gateway(body);
        if self.is_route(function) || (takes_request && (reachable || self.is_entry(function))) {
            Some(Origin::Request)
        } else if self.is_command(function) {
            Some(Origin::User)
        } else {
            let library = self.threat_model == ThreatModel::Library && reachable;
            let anybody = self.options.mode == Mode::Sound;
            (library || anybody || self.is_entry(function)).then_some(Origin::Parameter)
        }
    }

    /// `application(environ, start_response)`, which a web server calls.
    pub(super) fn is_gateway(&self, body: &Function) -> bool {
        let mut names =
            body.params.iter().map(|param| self.name(param.name)).skip_while(|name| *name == "self");
        names.next() == Some("environ") && names.next() == Some("start_response")
    }

    /// Whether the function is a command of a program: `@click.command()`, `@app.command()`, `do_list` of a `cmd.Cmd`.
    fn is_command(&self, function: FunctionId) -> bool {
        let body = &self.module.functions[function.index()];
        let name = self.name(body.name);
        let is_shell =
            |class: ClassId| self.bases[class.index()].iter().any(|base| base.path_name() == Some("cmd.Cmd"));
        if (name.starts_with("do_") || name == "default") && body.class.is_some_and(is_shell) {
            return true;
        }
        let decorators = &self.closures[function.index()].decorators;
        decorators.iter().any(|decorator| match &decorator.object {
            Object::Instance(path) | Object::Path(path) => {
                path.ends_with(".command")
                    && COMMAND_LINES.contains(&path.split('.').next().unwrap_or_default())
            }
            Object::Method(group, name) => {
                self.name(*name) == "command" && matches!(group.object, Object::Function(..))
            }
            _ => false,
        })
    }

    /// What an outsider's call gives to the parameters.
    fn outside_params(&mut self, function: FunctionId) -> Vec<Value> {
        let body = &self.module.functions[function.index()];
        let caller = self.caller(function);
        let is_static = self.is_decorated(function, &["builtins.staticmethod"]);
        // A method without its class is still a method.
        let is_method =
            body.params.first().is_some_and(|param| matches!(self.name(param.name), "self" | "cls"));
        let handles_errors = self.handles_errors(function);
        let skip = (body.class.is_some() && !is_static) || is_method;
        let params = body.params.iter().enumerate().map(|(index, param)| {
            if index == 0 && skip {
                return self.receiver(function, param);
            }
            let default = self.default_of(function, index);
            match caller {
                Some(_) if handles_errors && !self.is_request(param) => Value::unknown(),
                Some(origin) => {
                    let value = self.hostile_param(param, default.as_ref(), origin);
                    self.as_declared(function, self.name(param.name), value)
                }
                None => typed_param(param),
            }
        });
        params.collect::<Vec<_>>()
    }

    /// A part of a path, as far as the route lets it through.
    pub(super) fn as_declared(&self, function: FunctionId, name: &str, value: Value) -> Value {
        match self.declared_parts.get(&function).and_then(|parts| parts.get(name)) {
            Some(declared) if declared.number => Value::number(),
            Some(declared) => value.refined(declared),
            None => value,
        }
    }

    /// Whether a framework calls the function with an exception.
    fn handles_errors(&self, function: FunctionId) -> bool {
        let decorators = &self.closures[function.index()].decorators;
        decorators.iter().any(|decorator| match &decorator.object {
            Object::Instance(path) => {
                path.rsplit('.').next().is_some_and(|name| ERROR_DECORATORS.contains(&name))
            }
            _ => false,
        })
    }

    /// The object of a method. Without its class, whoever made it gave it everything that it holds.
    fn receiver(&mut self, function: FunctionId, param: &Param) -> Value {
        match (self.module.functions[function.index()].class, self.caller(function)) {
            (Some(class), _) => Value::new(Object::Local(class, None), Text::unknown()),
            (None, Some(_)) => {
                let taint = self.source(param.range, Origin::Parameter, "the method's object");
                self.state_taint |= taint;
                Value::tainted(taint)
            }
            (None, None) => Value::unknown(),
        }
    }

    /// Whether a parameter is the request of a web framework.
    fn is_request(&self, param: &Param) -> bool {
        let annotated = param.annotation.as_ref().is_some_and(|annotation| {
            annotation.name.ends_with("Request") || annotation.name.ends_with("WebSocket")
        });
        annotated || matches!(self.name(param.name), "request" | "req" | "websocket")
    }

    pub(super) fn default_of(&self, function: FunctionId, index: usize) -> Option<Value> {
        let defaults = &self.closures[function.index()].defaults;
        defaults.iter().find(|(at, _)| *at as usize == index).map(|(_, value)| value.clone())
    }

    fn hostile_param(&mut self, param: &Param, default: Option<&Value>, origin: Origin) -> Value {
        let annotated = param.annotation.as_ref();
        let injected = |path: &str| path.ends_with(".Depends") || path.ends_with(".Security");
        if matches!(default, Some(Value { object: Object::Instance(path), .. }) if injected(path)) {
            // `filters: Filters = Depends()`: the class makes an object of the request.
            let class = annotated.and_then(|annotation| self.class_named(&annotation.name));
            let taint = class.map(|_| {
                self.source(param.range, origin, &format!("the parameter `{}`", self.name(param.name)))
            });
            let object =
                annotated.zip(taint).and_then(|(annotation, taint)| self.hostile_object(annotation, taint));
            return object.unwrap_or_else(Value::unknown);
        }
        if let Some(Value { object: Object::Partial(function, _), .. }) = default
            && let Object::Function(function, _) = function.object
        {
            return self.injected(function);
        }
        let name = self.name(param.name);
        if self.options.trusted_params.iter().any(|trusted| trusted == name) {
            return typed_param(param);
        }
        let believed = self.options.mode == Mode::Precise;
        if believed && annotated.is_some_and(is_harmless) {
            return typed_param(param);
        }
        if let Some(class) = annotated.and_then(|annotation| self.class_named(&annotation.name))
            && self.is_enumeration(class)
        {
            return Value::new(Object::Local(class, None), Text::unknown());
        }
        let numeric_default = default.is_some_and(super::super::value::Value::is_number);
        if believed && annotated.is_none() && numeric_default {
            return Value::number();
        }
        let taint = self.source(param.range, origin, &format!("the parameter `{name}`"));
        if let Some(object) = annotated.and_then(|annotation| self.hostile_object(annotation, taint)) {
            return object;
        }
        let object = match annotated.map(|annotation| &*annotation.name) {
            _ if origin == Origin::Request && self.is_request(param) => {
                Object::Instance("web.request".into())
            }
            Some("UploadFile" | "fastapi.UploadFile" | "starlette.datastructures.UploadFile") => {
                Object::Instance(UPLOAD.into())
            }
            Some("str" | "bytes") if param.kind == ParamKind::Ordinary => Object::Text,
            _ => Object::Unknown,
        };
        let value = Value::new(object, Text::tainted(taint));
        match annotated {
            Some(annotation) => matching(annotation, &value),
            None => value,
        }
    }
}

impl Engine<'_> {
    /// `Depends(function)`: what the function returns to a framework, which gives it parts of the request.
    fn injected(&mut self, function: FunctionId) -> Value {
        if self.frames.len() > 1 || self.is_decorated(function, &["builtins.staticmethod"]) {
            return Value::unknown();
        }
        let params = self.module.functions[function.index()].params.clone();
        let params: Vec<Value> =
            params.iter().map(|param| self.hostile_param(param, None, Origin::Request)).collect();
        self.run(function, &None, &params, true).value.clone()
    }

    /// An object of a class of the program with declared fields, every one as its annotation allows.
    fn hostile_object(&mut self, annotation: &Annotation, taint: Taint) -> Option<Value> {
        self.hostile_record(self.class_named(&annotation.name)?, taint)
    }

    /// The same for an object that the class makes of hostile data: `Item.model_validate(request.get_json())`.
    pub(super) fn hostile_record(&mut self, class: ClassId, taint: Taint) -> Option<Value> {
        let fields = &self.module.classes[class.index()].fields;
        if fields.is_empty() {
            return None;
        }
        let fields = fields.iter().map(|(field, annotation)| {
            let kind = self.class_named(&annotation.name);
            let value = match &*annotation.name {
                _ if is_harmless(annotation) => typed(annotation),
                _ if kind.is_some_and(|kind| self.is_enumeration(kind)) => Value::unknown(),
                "str" => Value::string(Text::tainted(taint)),
                _ => Value::tainted(taint),
            };
            (Key::Name(self.module.symbols.shared(*field)), matching(annotation, &value))
        });
        let heap = self.hostile_heap(fields.collect(), Value::tainted(taint));
        Some(Value::new(Object::Local(class, Some(heap)), Text::tainted(taint)))
    }

    fn class_named(&self, name: &str) -> Option<ClassId> {
        let class = self.module.classes.iter().position(|class| self.name(class.name) == name)?;
        Some(ClassId(class as u32))
    }
}

/// Functions that other functions of the program call by name, and methods that other methods call on `self`.
///
/// Calls of the module's own code do not count: a demonstration at the end of a file says nothing about outsiders.
pub(super) fn called_by_others(module: &Module) -> FxHashSet<FunctionId> {
    let mut names = FxHashSet::default();
    for (index, caller) in module.functions.iter().enumerate().skip(1) {
        for inst in &caller.insts {
            let Op::Call { callee, .. } = &inst.op else { continue };
            match &caller.insts[callee.index()].op {
                Op::Global(name) => drop(names.insert((*name, None, index))),
                Op::Attribute { object, name }
                    if caller.class.is_some() && matches!(caller.insts[object.index()].op, Op::Param(0)) =>
                {
                    names.insert((*name, caller.class, index));
                }
                _ => {}
            }
        }
    }
    let is_called = |index: usize, function: &Function| {
        let same = |(name, class, caller): &(Symbol, Option<ClassId>, usize)| {
            *name == function.name && *class == function.class && *caller != index
        };
        function.kind == FunctionKind::Function && names.iter().any(same)
    };
    let called = module.functions.iter().enumerate().filter(|(index, function)| is_called(*index, function));
    called.map(|(index, _)| FunctionId(index as u32)).collect()
}

/// The variables of each function, and of the module, that other functions read.
pub(super) fn captured(module: &Module) -> FxHashSet<(FunctionId, Symbol)> {
    let insts = module.functions.iter().flat_map(|function| &function.insts);
    let read = insts.filter_map(|inst| match inst.op {
        Op::Global(name) => Some((FunctionId(0), name)),
        Op::Free(function, name) => Some((function, name)),
        _ => None,
    });
    read.collect()
}

/// Whether every function's name begins with an underscore.
pub(super) fn all_private(module: &Module) -> bool {
    let functions = module.functions.iter().filter(|function| function.kind == FunctionKind::Function);
    functions.map(|function| module.symbols.text(function.name)).all(|name| name.starts_with('_'))
}

/// Whether the program's framework, if it imports one, makes a page of a text that a view returns.
pub(super) fn returns_pages(module: &Module) -> bool {
    let imports = || {
        module.functions.iter().flat_map(|function| &function.insts).filter_map(|inst| match inst.op {
            Op::Import(path) => module.symbols.text(path).split('.').next(),
            _ => None,
        })
    };
    let pages = imports().any(|name| PAGE_FRAMEWORKS.contains(&name));
    pages || !imports().any(|name| WEB_FRAMEWORKS.contains(&name))
}

/// A value that matches the pattern of its annotation.
fn matching(annotation: &Annotation, value: &Value) -> Value {
    let known = annotation.pattern().and_then(|pattern| regex::parse(pattern, false));
    match known.filter(|known| known.anchored_start && known.anchored_end) {
        Some(known) => value.refined(&Refinement::mask(known.mask)),
        None => value.clone(),
    }
}

fn typed_param(param: &Param) -> Value {
    param.annotation.as_ref().map_or_else(Value::unknown, typed)
}

/// Some value of the annotated type.
fn typed(annotation: &Annotation) -> Value {
    match &*annotation.name {
        "int" | "float" | "bool" | "complex" | "Decimal" | "decimal.Decimal" => Value::number(),
        "str" => Value::string(Text::unknown()),
        _ => Value::unknown(),
    }
}

/// Whether a value of the annotated type cannot carry a text of the caller's choice.
fn is_harmless(annotation: &Annotation) -> bool {
    match &*annotation.name {
        "|" | "Union" | "typing.Union" | "Optional" | "typing.Optional" => {
            !annotation.args.is_empty() && annotation.args.iter().all(is_harmless)
        }
        "list" | "List" | "typing.List" | "set" | "Set" | "tuple" | "Tuple" | "Iterable" | "Sequence"
        | "frozenset" => {
            !annotation.args.is_empty()
                && annotation.args.iter().all(|arg| &*arg.name == "..." || is_harmless(arg))
        }
        "Annotated" | "typing.Annotated" | "typing_extensions.Annotated" | "Final" | "typing.Final" => {
            annotation.args.first().is_some_and(is_harmless)
        }
        // One of the texts that stand there.
        "Literal" | "typing.Literal" | "typing_extensions.Literal" => true,
        // `datetime.date`, also where the module has another name.
        name => {
            let last = name.rsplit('.').next().unwrap_or_default();
            HARMLESS_TYPES.contains(&name)
                || matches!(
                    last,
                    "date" | "datetime" | "time" | "timedelta" | "UUID" | "Decimal" | "IPv4Address"
                )
                || name.ends_with("Connection")
                || name.ends_with("Cursor")
        }
    }
}
