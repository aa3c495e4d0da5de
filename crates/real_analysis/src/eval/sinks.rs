//! Dangerous arguments.

use super::heap::Key;
use super::strings::Arguments;
use super::{Engine, Source};
use crate::Mode;
use crate::grammar::{code, path};
use crate::ir::{FunctionId, Terminator, ValueId};
use crate::library::{self, Api, Concept, Origin};
use crate::missing::has_word;
use crate::names::snake_case;
use crate::rules::{self, Situation, Weakness};
use crate::text::{Checks, Segment, Taint, Text};
use crate::value::{Object, Value};

/// How sure it is that code that cannot be read is a weakness. It is rather a reason for a judge to trust nothing else.
const OPAQUE: f32 = 0.3;
/// Words of the names of parameters that are folders.
const FOLDERS: &[&str] =
    &["dir", "directory", "folder", "root", "base", "basedir", "dest", "destination", "workspace", "storage"];

/// Whether an API runs Python itself: formulas of tables and scripts of databases are read by somebody else.
fn is_python(api: &str) -> bool {
    ["builtins.", "code.", "types.", "importlib."].iter().any(|module| api.starts_with(module))
}

impl Engine<'_> {
    /// Judges the value in a dangerous slot of a call. `origin` is the argument's instruction.
    pub(super) fn check_sink(
        &mut self,
        concept: Concept,
        api: &Api,
        value: &Value,
        origin: ValueId,
        situation: &Situation,
    ) {
        match concept {
            Concept::HashName => return self.check_hash_name(value, origin, situation),
            Concept::Code if is_python(&api.path) => self.check_opaque(value),
            Concept::Document => return self.check_query(value, origin, situation),
            // What is no text is sent as JSON.
            Concept::Html | Concept::Body if matches!(value.object, Object::Container(heap) if self.heap[heap.0 as usize].is_dict) =>
            {
                return;
            }
            Concept::Html | Concept::Body if value.taint() != 0 && self.says_page() == Some(false) => return,
            Concept::Row => {
                if let Object::Container(heap) = value.object {
                    let cell = self.any_element(heap);
                    return self.judge(concept, &api.path, &cell.text, origin, situation);
                }
            }
            // The file itself is given, not a name.
            Concept::Path if matches!(&value.object, Object::Instance(path) if matches!(&**path, library::UPLOAD | library::BUFFER)) =>
            {
                return;
            }
            Concept::DynamicName if value.text.as_constants().is_none() && value.taint() == 0 => {
                let range = self.current_range();
                self.report(
                    Weakness::OpaqueCode,
                    range,
                    "the name of the module is computed".to_owned(),
                    OPAQUE,
                    Vec::new(),
                );
                return;
            }
            Concept::Command => {
                if let Object::Container(heap) = value.object {
                    return self.check_command_list(heap, value, origin, situation);
                }
            }
            _ => {}
        }
        if api.path.starts_with("pathlib.") && value.text.taint() == 0 {
            return;
        }
        self.judge(concept, &api.path, &value.text, origin, situation);
    }

    /// A query of a database of documents. A text is compared; what may be a mapping can be an operator; and a text that is run as
    /// code is dangerous in any case.
    fn check_query(&mut self, query: &Value, origin: ValueId, situation: &Situation) {
        let Object::Container(heap) = query.object else {
            if query.object != Object::Text && !query.is_number() && !query.text.is_checked(Checks::IS_TEXT) {
                self.judge(Concept::Document, "", &query.text, origin, situation);
            }
            return;
        };
        let fields = self.heap[heap.0 as usize].fields.clone();
        let rest = self.heap[heap.0 as usize].rest.clone().map(|rest| (Key::Index(0), rest));
        for (key, value) in fields.into_iter().chain(rest) {
            let is_code =
                matches!(&key, Key::Name(name) if matches!(&**name, "$where" | "$function" | "$accumulator"));
            let is_operator = matches!(&key, Key::Name(name) if name.starts_with('$'));
            match value.object {
                _ if is_code => self.judge_as_given(Concept::Script, "", &value.text, origin, situation),
                Object::Container(_) => self.check_query(&value, origin, situation),
                Object::Text => {}
                _ if value.text.is_checked(Checks::IS_TEXT) => {}
                // The operator is the program's own.
                _ if is_operator || value.is_number() => {}
                _ => self.judge_as_given(Concept::Document, "", &value.text, origin, situation),
            }
        }
    }

    pub(super) fn judge(
        &mut self,
        concept: Concept,
        api: &str,
        text: &Text,
        origin: ValueId,
        situation: &Situation,
    ) {
        if rules::judge(concept, api, text, situation).is_none() {
            return;
        }
        // Once more with everything that is known here, also of what the text was made from.
        let text = self.latest(origin).map_or_else(|| text.clone(), |value| value.text);
        self.judge_as_given(concept, api, &text, origin, situation);
    }

    /// The same for a text that is no argument, but was made of some.
    pub(super) fn judge_as_given(
        &mut self,
        concept: Concept,
        api: &str,
        text: &Text,
        origin: ValueId,
        situation: &Situation,
    ) {
        let Some((weakness, mut verdict)) = rules::judge(concept, api, text, situation) else { return };
        let trusts_files = matches!(concept, Concept::Deserialize | Concept::Code);
        if verdict.taint & !self.file_taint == 0 && !trusts_files {
            return;
        }
        let caller = self.confidence_of(verdict.taint);
        let sound = self.options.mode == Mode::Sound;
        let known =
            !sound && caller <= rules::origin_weight(Origin::Parameter) && self.options.entry_point.is_none();
        if known && rules::needs_stranger(concept) {
            return;
        }
        let for_strangers = concept == Concept::Host && caller < rules::origin_weight(Origin::Request);
        if for_strangers && !sound && self.options.entry_point.is_none() {
            return;
        }
        let own_files =
            !sound && caller < rules::origin_weight(Origin::Request) && self.options.entry_point.is_none();
        if own_files && concept == Concept::Path {
            let Some(left) = path::judge_of_caller(text, self.folders(), self.state_taint) else { return };
            verdict.taint = left.taint;
        }
        let names_program = !sound && concept == Concept::Command && !situation.shell;
        if names_program && self.confidence_of(verdict.taint) <= rules::origin_weight(Origin::Parameter) {
            return;
        }
        let sure = if situation.guessed { 0.6 } else { 1.0 };
        self.guard = super::notes::insufficient(text, verdict.taint);
        self.report_flow(weakness, verdict.taint, verdict.confidence * sure, origin);
    }

    /// Parameters that are called folders.
    fn folders(&self) -> Taint {
        let is_folder = |source: &Source| {
            let name = source.what.split('`').nth(1).unwrap_or_default();
            source.origin == Origin::Parameter && has_word(&snake_case(name), FOLDERS)
        };
        let sources = self.sources.iter().enumerate().filter(|(_, source)| is_folder(source));
        sources.fold(0, |folders, (index, _)| folders | 1 << index)
    }

    fn report_flow(&mut self, weakness: Weakness, taint: Taint, confidence: f32, origin: ValueId) {
        let range = self.current_range();
        let message = rules::message(weakness, &self.origin_of(taint));
        let confidence = confidence * self.confidence_of(taint);
        let flow = self.trace(origin, taint, range);
        self.report(weakness, range, message, confidence, flow);
    }

    pub(super) fn check_statement(&mut self, value: &Value, origin: ValueId) {
        self.judge(Concept::Sql, "", &value.text, origin, &Situation::default());
    }

    /// What is stored under a key: in a session, whose content is trusted, or in the headers of a response.
    pub(super) fn check_stored(&mut self, object: &Value, index: &Value, value: &Value, origin: ValueId) {
        let name = match &object.object {
            Object::Method(_, name) => self.name(*name),
            Object::Path(path) | Object::Instance(path) => path.rsplit('.').next().unwrap_or_default(),
            _ => return,
        };
        match name {
            "session" => {
                for (stored, origin) in [(index, self.frame().inst), (value, origin)] {
                    let hole = stored.text.summary();
                    let from_request =
                        self.confidence_of(hole.taint) >= rules::origin_weight(Origin::Request);
                    if hole.taint != 0 && from_request && !hole.mask.within(crate::text::Mask::NUMBER) {
                        self.report_flow(Weakness::TrustBoundary, hole.taint, 0.45, origin);
                        return;
                    }
                }
            }
            "headers" | "HttpResponse" => {
                let is = |name: &str| {
                    index.text.as_constant().is_some_and(|known| known.eq_ignore_ascii_case(name))
                };
                if is("set-cookie") {
                    self.check_cookie_line(&value.text);
                }
                let is_location = is("location");
                let concept = if is_location { Concept::Redirect } else { Concept::Header };
                self.judge(concept, "", &value.text, origin, &Situation::default());
            }
            "config" => {
                if let Some(key) = index.text.as_constant() {
                    self.check_assignment(key, value);
                }
            }
            _ => {}
        }
    }

    /// Whether data comes from the caller of a library, and from nobody else.
    pub(super) fn is_of_caller(&self, taint: Taint) -> bool {
        let of = |origin| {
            self.sources
                .iter()
                .enumerate()
                .any(|(index, source)| taint & 1 << index != 0 && source.origin == origin)
        };
        of(Origin::Parameter) && !of(Origin::Request) && !of(Origin::User)
    }

    /// Reports what happens to tainted data in the current instruction.
    pub(super) fn report_taint(
        &mut self,
        weakness: Weakness,
        message: String,
        taint: Taint,
        confidence: f32,
    ) {
        if taint & !self.file_taint == 0 {
            return;
        }
        let (origin, range) = (self.frame().inst, self.current_range());
        let flow = self.trace(origin, taint, range);
        self.report(weakness, range, message, confidence * self.confidence_of(taint), flow);
    }

    /// A format string of an outsider reads any attribute of its arguments: `{user.password}`.
    pub(super) fn check_format(&mut self, template: &Text, args: &Arguments) {
        let taint = template.taint();
        if taint != 0 && args.iter().any(|(_, value)| self.exposes_attributes(value, 0)) {
            let message = rules::message(Weakness::ExposedAttributes, &self.origin_of(taint));
            self.report_taint(Weakness::ExposedAttributes, message, taint, 1.0);
        }
    }

    fn exposes_attributes(&self, value: &Value, depth: u32) -> bool {
        match &value.object {
            Object::Local(class, _) => !self.guards_attributes(*class),
            Object::Class(_) | Object::Function(..) | Object::Bound(..) | Object::Path(_) => true,
            Object::Container(heap) => {
                depth < 3 && self.exposes_attributes(&self.any_element(*heap), depth + 1)
            }
            _ => false,
        }
    }

    /// Whether the class decides which attributes may be read: it has a method for it, with a branch.
    fn guards_attributes(&self, class: crate::ir::ClassId) -> bool {
        ["__getattr__", "__getattribute__", "__format__"].iter().any(|name| {
            let symbol = self.module.symbols.lookup(name);
            let method = symbol.and_then(|symbol| self.fields.get(&(class, symbol)));
            let Some(Object::Function(function, _)) = method.map(|method| &method.object) else {
                return false;
            };
            let blocks = &self.module.functions[function.index()].blocks;
            blocks
                .iter()
                .any(|block| matches!(block.terminator, Terminator::Branch { .. } | Terminator::Raise))
        })
    }

    /// A program and its arguments.
    pub(super) fn check_command_list(
        &mut self,
        heap: crate::value::HeapId,
        value: &Value,
        origin: ValueId,
        situation: &Situation,
    ) {
        if let Some(text) = self.shell_among(heap) {
            let situation = Situation { shell: true, ..situation.clone() };
            return self.judge(Concept::Shell, "", &text, origin, &situation);
        }
        let program = self.load_key(heap, Some(&Key::Index(0)));
        let is_python = program.path_name() == Some("sys.executable");
        let name = program.text.as_constant().map(str::to_owned).or(is_python.then(|| "python".to_owned()));
        if situation.shell {
            // With a shell the first element is the command line.
            return self.judge(Concept::Shell, "", &program.text, origin, situation);
        }
        let second = self.load_key(heap, Some(&Key::Index(1)));
        let runs_code =
            second.text.as_constant().is_some_and(|flag| matches!(flag, "-c" | "/c" | "-Command" | "-e"));
        if let (Some(name), true) = (name, runs_code) {
            let line = self.load_key(heap, Some(&Key::Index(2)));
            let concept =
                if library::SHELLS.contains(&name.as_str()) { Concept::Shell } else { Concept::Code };
            let weakness_situation = Situation { shell: true, ..situation.clone() };
            if let Some((_, verdict)) = rules::judge(concept, "", &line.text, &weakness_situation) {
                let weakness = if concept == Concept::Shell {
                    Weakness::CommandInjection
                } else {
                    Weakness::CodeInjection
                };
                self.report_flow(weakness, verdict.taint, verdict.confidence, origin);
            }
            return;
        }
        // `ssh host command`: the other side has a shell.
        if program.text.as_constant() == Some("ssh") {
            let rest: Vec<Value> =
                (2..8).map(|index| self.load_key(heap, Some(&Key::Index(index)))).collect();
            let situation = Situation { shell: true, ..situation.clone() };
            for argument in rest.iter().filter(|argument| argument.taint() != 0) {
                self.judge_as_given(Concept::Shell, "", &argument.text, origin, &situation);
            }
            return;
        }
        // A function that runs the program its caller names is a wrapper, not yet a weakness.
        let chosen = |taint| self.confidence_of(taint) > rules::origin_weight(Origin::Parameter);
        if let Some((weakness, verdict)) = rules::judge(Concept::Command, "", &program.text, situation)
            && program.taint() & value.taint() != 0
            && chosen(verdict.taint)
        {
            self.report_flow(weakness, verdict.taint, verdict.confidence, origin);
        }
    }

    /// A list whose order is not known, with a shell and `-c` among its elements: any of them may be the command line.
    fn shell_among(&self, heap: crate::value::HeapId) -> Option<Text> {
        let object = &self.heap[heap.0 as usize];
        let text = self.any_element(heap).text;
        let is_one = |words: &[&str]| {
            text.alternatives().iter().any(|alternative| match &alternative[..] {
                [Segment::Text(word)] => words.contains(&&**word),
                _ => false,
            })
        };
        (object.next.is_none() && is_one(library::SHELLS) && is_one(&["-c", "/c"])).then_some(text)
    }

    /// Code that cannot be read is a finding of its own: what it does is hidden from every judge.
    fn check_opaque(&mut self, value: &Value) {
        if value.taint() != 0 || code::is_harmless(&value.text) {
            return;
        }
        let constant = value.text.as_constants().is_some();
        let message = if constant { "code in a string is run" } else { "computed code is run" };
        let range = self.current_range();
        self.report(Weakness::OpaqueCode, range, message.to_owned(), OPAQUE, Vec::new());
    }

    pub(super) fn check_hash_name(&mut self, value: &Value, origin: ValueId, situation: &Situation) {
        if situation.not_for_security {
            return;
        }
        let range = self.current_range();
        let value = &self.latest(origin).unwrap_or_else(|| value.clone());
        if let Some(names) = value.text.as_constants() {
            let weak =
                names.iter().find(|name| library::WEAK_HASHES.contains(&name.to_ascii_lowercase().as_str()));
            if let Some(weak) = weak {
                self.report(Weakness::WeakHash, range, format!("{weak} is broken"), 0.8, Vec::new());
            }
            return;
        }
        let Some(path) = value.path_name() else {
            let taint = value.taint();
            if taint != 0 && !value.is_number() {
                self.report_flow(Weakness::OpenHash, taint, 0.85, origin);
            }
            return;
        };
        let name = path.rsplit('.').next().unwrap_or_default();
        if path.starts_with("hashlib.") && library::WEAK_HASHES.contains(&name) {
            self.report(Weakness::WeakHash, range, format!("{name} is broken"), 0.8, Vec::new());
        }
    }

    /// `getattr(object, name)` with a computed name.
    pub(super) fn check_dynamic_attribute(&mut self, object: &Value, name: &Value) {
        let Some(path) = object.path_name().map(str::to_owned) else { return };
        let range = self.current_range();
        let origin = self.frame().inst;
        let module = path.split('.').next().unwrap_or_default();
        if !library::POWERFUL_MODULES.contains(&module) {
            return;
        }
        if name.text.as_constants().is_none() {
            if name.taint() == 0 {
                self.report(
                    Weakness::OpaqueCode,
                    range,
                    format!("a computed member of {path} is used"),
                    OPAQUE,
                    Vec::new(),
                );
            } else {
                self.report_flow(Weakness::CodeInjection, name.taint(), 0.7, origin);
            }
        }
    }

    /// Hash functions, ciphers and modes that are called by name.
    pub(super) fn check_weak_member(&mut self, path: &str, args: &Arguments) {
        let range = self.current_range();
        let weak_mode =
            args.iter().find_map(|(_, value)| value.path_name().filter(|path| path.ends_with(".MODE_ECB")));
        if let Some(mode) = weak_mode {
            self.report(Weakness::WeakCipher, range, format!("{mode} is broken"), 0.8, Vec::new());
        }
        let Some((module, name)) = path.rsplit_once('.') else { return };
        if module == "hashlib" && library::WEAK_HASHES.contains(&name) {
            if !self.situation(args).not_for_security {
                self.report(Weakness::WeakHash, range, format!("{name} is broken"), 0.8, Vec::new());
            }
        } else if module == "cryptography.hazmat.primitives.hashes"
            || (name == "new" && module.contains(".Hash."))
        {
            let name = if name == "new" { module.rsplit('.').next().unwrap_or_default() } else { name };
            if library::WEAK_HASHES.contains(&name.to_ascii_lowercase().as_str()) {
                self.report(Weakness::WeakHash, range, format!("{name} is broken"), 0.8, Vec::new());
            }
        } else if let Some(name) =
            path.strip_prefix("passlib.hash.").and_then(|path| path.strip_suffix(".hash"))
        {
            let weak = ["md5", "sha1", "des", "lm", "nt", "lan", "mysql"];
            if weak.iter().any(|weak| name.contains(weak)) && !name.contains("pbkdf2") {
                self.report(Weakness::WeakHash, range, format!("{name} is broken"), 0.8, Vec::new());
            }
        } else if library::WEAK_CIPHERS.contains(&path) {
            self.report(Weakness::WeakCipher, range, format!("{path} is broken"), 0.8, Vec::new());
        }
    }

    /// Whether the function answers requests: it was handed to a framework, or its class is a view.
    pub(super) fn is_route(&self, function: FunctionId) -> bool {
        self.registered.contains(&function) || self.is_view_method(function)
    }

    /// `get`, `post` and the like in a class whose base is a framework's view; `on_get` needs no base.
    fn is_view_method(&self, function: FunctionId) -> bool {
        let body = &self.module.functions[function.index()];
        let Some(class) = body.class else { return false };
        let name = self.name(body.name);
        if name.strip_prefix("on_").is_some_and(|verb| library::VIEW_METHODS.contains(&verb)) {
            return body.params.len() > 2;
        }
        // `resolve_user` of a schema, and whatever a service defines.
        let answers = |suffix: &str| {
            self.bases[class.index()].iter().filter_map(Value::path_name).any(|path| path.ends_with(suffix))
        };
        if (name.starts_with("resolve_") && answers("graphene.ObjectType"))
            || (!name.starts_with('_') && body.params.len() > 2 && answers("Servicer"))
        {
            return true;
        }
        let verb = name.strip_prefix("do_").or_else(|| name.strip_prefix("render_")).unwrap_or(name);
        if !library::VIEW_METHODS.contains(&verb) {
            return false;
        }
        self.has_view_base(class)
    }

    /// Whether a class is a framework's view, by the names of its bases.
    pub(super) fn has_view_base(&self, class: crate::ir::ClassId) -> bool {
        let is_view = |path: &str| library::VIEW_CLASSES.iter().any(|suffix| path.ends_with(suffix));
        self.bases[class.index()].iter().any(|base| match &base.object {
            Object::Path(path) => is_view(path),
            Object::Class(base) => self.bases[base.index()].iter().filter_map(Value::path_name).any(is_view),
            _ => false,
        })
    }
}
