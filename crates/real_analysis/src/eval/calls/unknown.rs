//! Calls of functions that nobody knows: another file's, or a library's without an entry.
//!
//! Their result may be anything made of the arguments. Three things are taken for granted all the same, since the alternative is to
//! see nothing in a function that was cut out of a program:
//!
//! * A text that is an SQL statement or a filter of a directory, given to anything, is run. So is a command line, given to something
//!   that is called `run` or the like; and a path that was joined, given to anything, is opened. These findings are less sure than others.
//! * A function that is called `escape_html`, `sanitize` or `safe_join` does what its name says. A function of this program is never
//!   trusted for its name: it is looked into.

use super::{Site, mixed};
use crate::Mode;
use crate::eval::Engine;
use crate::eval::strings::{Arguments, positional, positionals};
use crate::grammar::html;
use crate::ir::{Arg, ArgKind, Op, ValueId};
use crate::library::{BUFFER, Concept, Origin};
use crate::missing::has_word;
use crate::names::snake_case;
use crate::rules::{self, Situation};
use crate::text::{Checks, Hole, Segment, Text};
use crate::value::{Object, Value};

/// Names of functions that start what they are given.
const RUNNERS: &[&str] = &[
    "run", "execute", "exec", "call", "system", "shell", "cmd", "command", "popen", "spawn", "sudo",
    "output", "ssh",
];
/// Those of them that surely mean a command line.
const SHELLS: &[&str] = &["exec", "system", "shell", "cmd", "popen", "spawn", "sudo", "ssh"];
/// Names of functions that answer a client.
const WRITERS: &[&str] = &["write", "send", "respond", "render", "response", "html", "page", "reply"];
/// First words of the names of questions.
const QUESTIONS: &[&str] = &["is", "has", "can", "should"];
const ESCAPERS: &[&str] = &["escape", "escaped", "sanitize", "sanitise", "sanitized", "antixss", "bleach"];
const CHECKERS: &[&str] =
    &["safe", "secure", "sanitize", "sanitise", "check", "checked", "valid", "validate", "validated"];
const PATHS: &[&str] = &["path", "file", "filename", "join", "folder", "dir", "directory"];

impl Engine<'_> {
    /// The result of a call of something unknown.
    pub(super) fn call_unknown(
        &mut self,
        site: Site<'_>,
        name: &str,
        receiver: &Value,
        arguments: &Arguments,
    ) -> Value {
        let name = snake_case(name);
        let sound = self.options.mode == Mode::Sound;
        if let Some(value) = checked_by_name(&name, arguments).filter(|_| !sound) {
            return value;
        }
        let is_exception = ["error", "exception", "exit", "warning"].iter().any(|end| name.ends_with(end));
        for (arg, (_, value)) in site.args.iter().zip(arguments) {
            if value.taint() == 0 {
                continue;
            }
            let situation = Situation { guessed: true, ..Situation::default() };
            if rules::is_statement(&value.text) {
                self.check_statement(value, arg.value);
            } else if self.is_joined_path(arg.value) && !self.is_of_known_module(site) {
                self.judge(Concept::Path, "", &value.text, arg.value, &situation);
            } else if rules::is_filter(&value.text) {
                self.judge(Concept::Ldap, "", &value.text, arg.value, &situation);
            } else if !is_exception
                && rules::is_run(&value.text, has_word(&name, RUNNERS), has_word(&name, SHELLS))
            {
                self.judge(Concept::Shell, "", &value.text, arg.value, &situation);
            } else if has_word(&name, WRITERS) && rules::is_page(&value.text) {
                self.judge(Concept::Html, "", &value.text, arg.value, &situation);
            }
        }
        self.check_page_values(&name, arguments);
        if !sound && name.split_once('_').is_some_and(|(first, _)| QUESTIONS.contains(&first)) {
            return Value::bool(None);
        }
        let value = mixed(receiver, arguments);
        if sound && value.taint() == 0 {
            let taint = self.source(self.current_range(), Origin::Outside, "a result of unknown origin");
            return Value::tainted(taint);
        }
        value
    }

    /// A method that puts its argument into its receiver. `None`: the call is judged like any other, too.
    pub(super) fn fill(
        &mut self,
        site: Site<'_>,
        receiver: &Value,
        name: &str,
        arguments: &Arguments,
    ) -> Option<Value> {
        let is_buffer = matches!(&receiver.object, Object::Instance(path) if &**path == BUFFER);
        if is_buffer && matches!(name, "getvalue" | "read") {
            return Some(Value::string(receiver.text.clone()));
        }
        let value = positional(arguments, 0)?;
        let text = match name {
            "write" if is_buffer => receiver.text.concat(&value.text),
            "writelines" if is_buffer => {
                let line = self.element(value).text;
                let lines = Text::from_alternatives(vec![vec![Segment::Repeat(line)]]);
                receiver.text.concat(&lines)
            }
            // `ContextVar("name").set(value)`
            "set" if matches!(&receiver.object, Object::Instance(path) if path.ends_with("ContextVar")) => {
                Text::tainted(receiver.taint() | value.taint())
            }
            "write" | "append" | "extend" | "add" | "update" | "put" | "put_nowait"
                if matches!(receiver.object, Object::Unknown | Object::Instance(_) | Object::Method(..))
                    || self.is_collection(receiver) =>
            {
                let taint = receiver.taint() | value.taint();
                Text::tainted(taint)
            }
            _ => return None,
        };
        if value.taint() == 0 && !is_buffer {
            return None;
        }
        let Op::Attribute { object, .. } = self.op(site.callee?) else { return None };
        let filled = Value { text, ..receiver.clone() };
        self.write_back(*object, &filled);
        self.frame_mut().values[object.index()] = Some(filled);
        is_buffer.then(Value::none)
    }

    /// `print(text, file=buffer)`
    pub(super) fn print_into(&mut self, site: Site<'_>, arguments: &Arguments) {
        let is_file = |arg: &&Arg| matches!(arg.kind, ArgKind::Keyword(name) if self.name(name) == "file");
        let Some(file) = site.args.iter().find(is_file).map(|arg| arg.value) else { return };
        let line = positionals(arguments).fold(Text::constant(""), |text, value| text.concat(&value.text));
        self.write_to(file, &line.concat(&Text::constant("\n")));
    }

    /// `json.dump(data, buffer)`
    pub(super) fn dump_into(&mut self, site: Site<'_>, arguments: &Arguments) {
        let (Some(data), Some(file)) = (positional(arguments, 0), site.args.get(1)) else { return };
        let text = match data.object {
            Object::Container(heap) => Text::hole(self.any_element(heap).text.summary()),
            _ => Text::hole(data.text.summary()),
        };
        self.write_to(file.value, &text);
    }

    /// Appends a text to a file in memory.
    fn write_to(&mut self, file: ValueId, text: &Text) {
        let buffer = self.known(file);
        if !matches!(&buffer.object, Object::Instance(path) if &**path == BUFFER) {
            return;
        }
        let filled = Value { text: buffer.text.concat(text), ..buffer };
        self.write_back(file, &filled);
        self.frame_mut().values[file.index()] = Some(filled);
    }

    /// Whether an object's class is a list, a dictionary or the like with more to it.
    fn is_collection(&self, object: &Value) -> bool {
        let Object::Local(class, _) = object.object else { return false };
        let mut bases = self.bases[class.index()].iter().filter_map(Value::path_name);
        bases.any(|base| base.starts_with("builtins.") || base.starts_with("collections."))
    }

    /// What was changed is still an element or an attribute of something: `table[key].append(value)`.
    fn write_back(&mut self, changed: ValueId, value: &Value) {
        match self.op(changed) {
            Op::Subscript { object, index } => {
                let (owner, index) = (self.known(*object), self.known(*index));
                self.store_subscript(&owner, &index, value);
            }
            Op::Attribute { object, name } => {
                let owner = self.known(*object);
                self.store_attribute(&owner, *name, value);
            }
            Op::Global(name) => self.set_global(*name, value),
            _ => {}
        }
    }

    /// `sys.audit(…)`: a function of a module whose dangerous functions are known, and which is none of them.
    fn is_of_known_module(&self, site: Site<'_>) -> bool {
        let callee = site.callee.map(|callee| self.known(callee));
        let path = callee.as_ref().and_then(Value::path_name).unwrap_or_default();
        path.split_once('.').is_some_and(|(module, _)| self.libraries.is_module(module))
    }

    fn is_joined_path(&self, value: ValueId) -> bool {
        match self.op(value) {
            Op::Call { callee, .. } => self.is_path(*callee, &["os.path.join"]),
            _ => false,
        }
    }

    /// `render(request, "page.html", {"rows": json.dumps(rows)})`: JSON that stands in a script can end the script.
    pub(super) fn check_page_values(&mut self, name: &str, arguments: &Arguments) {
        if !has_word(name, &["render"]) {
            return;
        }
        let is_json =
            |value: &Value| matches!(&value.object, Object::Instance(path) if &**path == "json.dumps");
        let found = arguments.iter().any(|(_, value)| match value.object {
            Object::Container(heap) => {
                self.heap[heap.0 as usize].fields.iter().any(|(_, value)| is_json(value))
            }
            _ => is_json(value),
        });
        if found {
            let message = "JSON in a page can end the script that it stands in".to_owned();
            self.report(rules::Weakness::CrossSiteScripting, self.current_range(), message, 0.4, Vec::new());
        }
    }
}

/// What a function that nobody knows returns, by its name.
fn checked_by_name(name: &str, arguments: &Arguments) -> Option<Value> {
    let subject = positional(arguments, 0)?;
    if has_word(name, CHECKERS) && has_word(name, PATHS) {
        let taint = mixed(subject, arguments).taint();
        return Some(Value::string(Text::hole(Hole { checks: Checks::CONFINED, ..Hole::tainted(taint) })));
    }
    if has_word(name, ESCAPERS) {
        return Some(Value::string(html::escaped(&subject.text, true)));
    }
    let quotes = has_word(name, &["quote", "quoted", "shellquote", "shellescape"]);
    quotes.then(|| {
        let hole = subject.text.summary();
        Value::string(Text::hole(Hole { checks: Checks::SHELL_QUOTED, ..hole }))
    })
}
