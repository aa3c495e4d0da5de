//! Calls of library functions: the tables say which arguments are dangerous and what comes back.

use std::rc::Rc;

use super::{Site, mixed};
use crate::Mode;
use crate::eval::Engine;
use crate::eval::heap::{Key, Role, key_of};
use crate::eval::operators::marked;
use crate::eval::strings::{Arguments, basename, join_paths, positional, positionals};
use crate::grammar::html;
use crate::ir::{ArgKind, Op, ValueId};
use crate::library::{self, Api, Concept, Origin, Returns, Slot};
use crate::rules::{self, Situation};
use crate::text::{Alternative, Checks, Hole, Mask, Segment, Text};
use crate::value::{Object, Value};

/// Functions that run another with its arguments and give what it returns, or a promise of it.
const STARTERS: &[&str] =
    &["submit", "run_in_executor", "to_thread", "apply_async", "run_sync", "run_in_threadpool"];

/// A parser that leaves entities alone.
pub(super) const SAFE_PARSER: &str = "lxml.etree.XMLParser without entities";

impl<'a> Engine<'a> {
    pub(in crate::eval) fn call_library(
        &mut self,
        site: Site<'_>,
        path: &Rc<str>,
        receiver: Option<&Value>,
        arguments: &Arguments,
    ) -> Value {
        self.check_weak_member(path, arguments);
        self.check_settings(path, arguments);
        if path.ends_with(".set_cookie") {
            self.check_settings(".set_cookie", arguments);
        }
        self.check_plain_text(path, arguments);
        let name = path.rsplit('.').next().unwrap_or_default();
        if self.asks_for_number(name, arguments) {
            return Value::number();
        }
        if let Some(subject) = positional(arguments, 0) {
            self.raise_of_conversion(path, subject);
        }
        match &**path {
            "builtins.print" => self.print_into(site, arguments),
            "json.dump" => self.dump_into(site, arguments),
            _ => {}
        }
        // What `partial` makes is called later, if at all.
        let called = if path.starts_with("functools.partial") { None } else { self.call_back(arguments) };
        if let Some(called) = called.clone().filter(|_| STARTERS.contains(&name)) {
            return Value::new(Object::Instance("future".into()), called.any_text().text);
        }
        if let Some(value) = self.special(path, arguments) {
            return value;
        }
        if let Some(method) = path.strip_prefix("builtins.str.")
            && let Some((subject, rest)) = arguments.split_first()
            && let Some(value) = self.string_method(method, &subject.1, &rest.to_vec())
        {
            return value;
        }
        let api = self.libraries.find(path).or_else(|| {
            let (owner, method) = path.rsplit_once('.')?;
            let owner_known = self.libraries.find(owner).is_some() || receiver.is_some();
            if owner_known || owner.contains('.') { self.libraries.find_method(method) } else { None }
        });
        if let Some(api) = api {
            return self.apply(site, api, receiver, arguments);
        }
        self.check_argument_list(site, path, arguments);
        let nobody = Value::unknown();
        let value = self.call_unknown(site, name, receiver.unwrap_or(&nobody), arguments);
        match value.object {
            Object::Unknown => {
                let text = if value.taint() == 0 {
                    called.map_or(value.text, |called| called.any_text().text)
                } else {
                    value.text
                };
                Value::new(Object::Instance(path.clone()), text)
            }
            _ => value,
        }
    }

    /// Judges a call's arguments and gives its result.
    pub(super) fn apply(
        &mut self,
        site: Site<'_>,
        api: &'a Api,
        receiver: Option<&Value>,
        arguments: &Arguments,
    ) -> Value {
        let sinks = if self.check_log(site, api, arguments) { &[][..] } else { &api.sinks[..] };
        for (concept, slot) in sinks {
            if let Some((value, index)) = self.argument(slot, receiver, arguments) {
                let situation = self.situation(arguments);
                let origin = match index {
                    Some(index) => site.args.get(index).map(|arg| arg.value),
                    None => self.receiver_of(site.id),
                };
                self.check_sink(*concept, api, &value, origin.unwrap_or(site.id), &situation);
            }
        }
        self.check_argument_list(site, &api.path, arguments);
        self.check_shell_input(site, &api.path, arguments);
        self.result(api, receiver, arguments)
    }

    /// `log.info("user %r", name)`: judged as the line that it writes. Whether the call was one of these.
    fn check_log(&mut self, site: Site<'_>, api: &Api, arguments: &Arguments) -> bool {
        let message = api.sinks.first().filter(|(concept, _)| *concept == Concept::Log);
        let Some((_, slot)) = message else { return false };
        let mut values = positionals(arguments).skip(slot.position).cloned();
        let Some(template) = values.next() else { return false };
        let tainted = arguments.iter().position(|(_, value)| value.taint() != 0);
        let (true, Some(tainted)) = (template.text.as_constant().is_some(), tainted) else { return false };
        let values: Vec<Value> = values.collect();
        let is_mapping = |value: &Value| matches!(value.object, Object::Container(heap) if self.heap[heap.0 as usize].is_dict);
        let line = match &values[..] {
            // `log.info("%(user)s", {"user": name})`
            [mapping] if is_mapping(mapping) => self.percent(&template, mapping),
            // Loguru's way: `log.info("user {}", name)`
            _ if template
                .text
                .as_constant()
                .is_some_and(|text| text.contains('{') && !text.contains('%')) =>
            {
                let format =
                    self.string_method("format", &template, &arguments[slot.position + 1..].to_vec());
                format.unwrap_or_else(Value::unknown)
            }
            _ => {
                let list = self.allocate_part(site.id, Role::Command, false);
                for value in &values {
                    self.append(list, value);
                }
                let values = self.container(list);
                self.percent(&template, &values)
            }
        };
        let origin = site.args.get(tainted).map_or(site.id, |arg| arg.value);
        // The line is no argument: nothing is known of it beside what its parts say.
        self.judge_as_given(Concept::Log, "", &line.text, origin, &Situation::default());
        true
    }

    /// `subprocess.run(["bash"], input=line)`: a shell without arguments runs what it reads.
    fn check_shell_input(&mut self, site: Site<'_>, path: &str, arguments: &Arguments) {
        let Some(input) = self.keyword(arguments, "input").filter(|input| input.taint() != 0).cloned() else {
            return;
        };
        let program = match positional(arguments, 0).map(|value| (&value.object, &value.text)) {
            Some((Object::Container(heap), _)) if self.heap[heap.0 as usize].fields.len() < 3 => {
                self.load_key(*heap, Some(&Key::Index(0)))
            }
            Some((_, text)) => Value::string(text.clone()),
            None => return,
        };
        let is_shell = program.text.as_constant().is_some_and(|name| library::SHELLS.contains(&name));
        if path.starts_with("subprocess.") && is_shell {
            let situation = Situation { shell: true, ..Situation::default() };
            self.judge_as_given(Concept::Shell, "", &input.text, site.id, &situation);
        }
    }

    /// `os.execl("/bin/sh", "sh", "-c", line)`: the program's arguments are those of the call. `sh.bash("-c", line)`: the rest of them.
    fn check_argument_list(&mut self, site: Site<'_>, path: &str, arguments: &Arguments) {
        let skipped = match path.strip_prefix("os.").and_then(|name| name.get(..5)) {
            _ if path.ends_with("create_subprocess_exec") || path.starts_with("sh.") => 0,
            Some("execl") => 1,
            Some("spawn") if path.starts_with("os.spawnl") => 2,
            _ => return,
        };
        let list = self.allocate_part(site.id, Role::Command, false);
        if let Some(program) = path.strip_prefix("sh.") {
            self.append(list, &Value::constant(program));
        }
        for (_, value) in arguments.iter().skip(skipped) {
            self.append(list, value);
        }
        let value = self.container(list);
        self.check_command_list(list, &value, site.id, &Situation::default());
    }

    /// What the tables say that a call returns.
    fn result(&mut self, api: &'a Api, receiver: Option<&Value>, arguments: &Arguments) -> Value {
        let all = || mixed(&receiver.cloned().unwrap_or_else(Value::unknown), arguments);
        let subject =
            receiver.cloned().filter(|_| is_method(api)).or_else(|| positional(arguments, 0).cloned());
        let subject = subject.unwrap_or_else(Value::unknown);
        match &api.returns {
            Returns::Clean => Value::unknown(),
            Returns::Number => Value::number(),
            Returns::Mixed => all(),
            Returns::Same => subject,
            Returns::Source(origin, what) => {
                let range = self.current_range();
                let taint = self.source(range, *origin, what);
                let object = match &*api.path {
                    path if is_text_source(path) => Object::Text,
                    path if path.ends_with(".parse_args") => Object::Instance(library::NAMESPACE.into()),
                    _ => Object::Unknown,
                };
                Value::new(object, Text::tainted(taint))
            }
            Returns::Object(path) if &**path == "builtins.open" && subject.taint() != 0 => {
                let taint = self.source(self.current_range(), Origin::File, "a file of the caller's choice");
                Value::new(Object::Instance("builtins.open".into()), Text::tainted(taint))
            }
            Returns::Object(path) => Value::new(Object::Instance((&**path).into()), Text::unknown()),
            Returns::Made(path)
                if path.ends_with("Response") && self.situation(arguments).page == Some(false) =>
            {
                Value::new(Object::Instance((&**path).into()), Text::unknown())
            }
            Returns::Authentic => {
                let checks = Checks::AUTHENTIC;
                Value::new(Object::Unknown, Text::hole(Hole { checks, ..Hole::tainted(subject.taint()) }))
            }
            Returns::Template(path) => {
                let escapes = match &**path {
                    "jinja2.Template" => self.escapes(arguments),
                    "mako.template.Template" => self.filters_html(arguments),
                    _ => false,
                };
                let path = if escapes { format!("{path}.escaping").into() } else { (&**path).into() };
                Value::new(Object::Instance(path), subject.text)
            }
            Returns::Page(dialect) => {
                let template = match receiver {
                    Some(object) if matches!(object.object, Object::Instance(_)) => object.clone(),
                    _ => subject,
                };
                let values: Vec<_> = arguments
                    .iter()
                    .filter(|(kind, value)| *kind != ArgKind::Positional || value.text != template.text)
                    .cloned()
                    .collect();
                Value::string(self.page(*dialect, &template.text, &values))
            }
            Returns::Made(path) => {
                let text = if arguments.is_empty() { all().text } else { Text::hole(subject.text.summary()) };
                let text = if text.taint() == 0 { all().text } else { text };
                Value {
                    elements: subject.elements.clone(),
                    ..Value::new(Object::Instance((&**path).into()), text)
                }
            }
            Returns::Masked(mask) => subject.masked(*mask),
            Returns::HtmlEscaped => {
                let quote = self.keyword(arguments, "quote").or_else(|| positional(arguments, 1));
                let no_quotes = quote.is_some_and(|value| value.truth() == Some(false));
                let escaped = html::escaped(&subject.text, !no_quotes);
                match &*api.path {
                    "flask.escape" => marked(escaped),
                    _ => Value::string(escaped),
                }
            }
            Returns::Marked => marked(subject.text),
            Returns::ShellQuoted => {
                let hole = subject.text.summary();
                Value::string(Text::hole(Hole { checks: Checks::SHELL_QUOTED, ..hole }))
            }
            Returns::UrlQuoted => self.url_quoted(api, &subject, arguments),
            Returns::Basename => Value::string(basename(&subject.text)),
            Returns::Resolved => path_value(api, resolved(&subject.text)),
            Returns::JoinedPath => {
                let receiver = receiver.filter(|_| is_method(api)).map(|receiver| receiver.text.clone());
                let parts: Vec<Text> = receiver
                    .into_iter()
                    .chain(arguments.iter().map(|(_, value)| value.text.clone()))
                    .collect();
                path_value(api, join_paths(&parts))
            }
            Returns::JoinedUrl => {
                let reference = positional(arguments, 1).unwrap_or(&subject);
                let joined = subject.text.concat(&Text::constant("/")).concat(&reference.text);
                let leads = reference.taint() != 0 && !is_below(&reference.text);
                Value::string(if leads { joined.join(&reference.text) } else { joined })
            }
        }
    }

    /// What `quote` and its like leave of a text; `safe` names more characters that stay as they are.
    fn url_quoted(&self, api: &Api, subject: &Value, arguments: &Arguments) -> Value {
        let kept = Mask::WORD.union(Mask::ascii(b".-~%"));
        let name = api.path.rsplit('.').next().unwrap_or_default();
        let safe = self.keyword(arguments, "safe").or_else(|| positional(arguments, 1));
        let safe = safe.map(|safe| safe.text.as_constant().map_or(Mask::ANY, Mask::of));
        subject.masked(kept.union(match name {
            "urlencode" => Mask::ascii(b"+=&"),
            "quote" => safe.unwrap_or(Mask::char('/')),
            _ => safe.unwrap_or(Mask::NONE).union(Mask::char('+')),
        }))
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
        slot: &Slot,
        receiver: Option<&Value>,
        args: &Arguments,
    ) -> Option<(Value, Option<usize>)> {
        if slot.position == library::RECEIVER {
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
    pub(in crate::eval) fn situation(&self, args: &Arguments) -> Situation {
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
            // Who chooses the command and the shell knows what he asks for: the wrapper is not the weakness.
            let wrapper = self.options.mode == Mode::Precise && self.is_of_caller(shell.taint());
            situation.shell = shell.truth() != Some(false) && !wrapper;
        }
        let loader = named("Loader").or_else(|| positional(args, 1).cloned());
        situation.safe_loader = loader.is_some_and(|loader| {
            if let Object::Class(class) = loader.object {
                return self.bases[class.index()].iter().filter_map(Value::path_name).any(is_safe_loader);
            }
            loader.path_name().is_some_and(is_safe_loader)
        });
        situation.not_for_security =
            named("usedforsecurity").is_some_and(|value| value.truth() == Some(false));
        situation.weights_only = named("weights_only").is_some_and(|value| value.truth() == Some(true));
        situation.allows_pickle = named("allow_pickle")
            .or_else(|| positional(args, 2).cloned())
            .is_some_and(|value| value.truth() != Some(false));
        let parser = named("parser").or_else(|| positional(args, 1).cloned());
        situation.safe_parser = parser
            .is_some_and(|parser| matches!(&parser.object, Object::Instance(path) if &**path == SAFE_PARSER));
        let headers = named("headers").map(|headers| self.content_type(&headers));
        let types = ["mimetype", "content_type", "media_type"];
        let kind = types.into_iter().find_map(named).or(headers.flatten());
        situation.page = kind.and_then(|kind| kind.text.as_constant().map(rules::is_html_type));
        situation
    }
}

impl Engine<'_> {
    /// The type that a dictionary of headers names.
    pub(in crate::eval) fn content_type(&self, headers: &Value) -> Option<Value> {
        let Object::Container(heap) = headers.object else { return None };
        let is_type = |key: &Key| matches!(key, Key::Name(name) if name.eq_ignore_ascii_case("content-type"));
        let found = self.heap[heap.0 as usize].fields.iter().find(|(key, _)| is_type(key));
        found.map(|(_, value)| value.clone())
    }
}

/// An absolute path without `..`; one that was confined stays so, and one that begins with a folder still does.
fn resolved(text: &Text) -> Text {
    let taint = text.taint();
    if taint == 0 {
        return text.clone();
    }
    let kept = if text.is_checked(Checks::CONFINED) { Checks::CONFINED } else { Checks::NONE };
    let hole = Segment::Hole(Hole { checks: Checks::RESOLVED.with(kept), ..Hole::tainted(taint) });
    let in_folder = |alternative: &Alternative| !matches!(alternative.first(), Some(Segment::Hole(first)) if first.taint != 0);
    let mut alternatives = Vec::new();
    if text.alternatives().iter().any(in_folder) {
        alternatives.push(vec![Segment::Hole(Hole::clean(Mask::ANY)), hole.clone()]);
    }
    if !text.alternatives().iter().all(in_folder) {
        alternatives.push(vec![hole]);
    }
    Text::from_alternatives(alternatives)
}

/// Whether a reference only names something below what it is joined to: `?page=2`, `#top`, `items/`.
fn is_below(reference: &Text) -> bool {
    reference.alternatives().iter().all(|alternative| match alternative.first() {
        Some(Segment::Text(text)) => {
            let path = text.starts_with(['?', '#']) || text.contains('/');
            path && !text.starts_with("//") && !text.contains(':')
        }
        _ => false,
    })
}

fn path_value(api: &Api, text: Text) -> Value {
    let is_object = api.path.starts_with("pathlib.");
    Value::new(if is_object { Object::Instance("pathlib.Path".into()) } else { Object::Text }, text)
}

fn is_safe_loader(path: &str) -> bool {
    let name = path.rsplit('.').next().unwrap_or_default();
    matches!(name, "SafeLoader" | "CSafeLoader" | "BaseLoader" | "CBaseLoader")
}

fn is_method(api: &Api) -> bool {
    api.path.starts_with('.')
        || api.path.starts_with("pathlib.Path.")
        || api.path.starts_with("urllib.parse.urlparse.")
        || api.path.contains("xml.element.")
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
