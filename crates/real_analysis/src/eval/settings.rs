//! Calls and assignments that switch protection off, judged by the table of settings.

use std::rc::Rc;
use std::sync::LazyLock;

use rustc_hash::{FxHashMap, FxHashSet};

use super::Engine;
use super::heap::key_of;
use super::strings::{Arguments, positional};
use crate::ir::{Arg, ArgKind, BlockId, FunctionId, Module, Op, Terminator, ValueId};
use crate::library::Slot;
use crate::library::settings::{Posture, SETTINGS, Setting, When};
use crate::missing::has_word;
use crate::names::{is_secret, snake_case};
use crate::rules::Weakness;
use crate::text::{Segment, Text};
use crate::value::{Object, Value};

/// Hosts that are on the same machine.
const LOCAL: &[&str] = &["localhost", "127.", "0.0.0.0", "[::1]"];

static INDEX: LazyLock<FxHashMap<&'static str, Vec<&'static Setting>>> = LazyLock::new(|| {
    let mut index: FxHashMap<&'static str, Vec<&'static Setting>> = FxHashMap::default();
    for setting in SETTINGS {
        index.entry(setting.path).or_default().push(setting);
    }
    index
});

/// For each name whether a setting is about methods of that name.
pub(super) fn of_methods(module: &Module) -> Vec<bool> {
    let methods: FxHashSet<&str> = INDEX.keys().filter_map(|path| path.strip_prefix('.')).collect();
    module.symbols.all().map(|name| methods.contains(name)).collect()
}

impl Engine<'_> {
    /// `app.add_middleware(SessionMiddleware, secret_key=key)`: the class is called with the rest.
    pub(super) fn check_middleware(&mut self, args: &Arguments) {
        let class = positional(args, 0).and_then(Value::path_name).map(str::to_owned);
        if let Some(class) = class {
            self.check_settings(&class, &args[1..].to_vec());
        }
    }

    /// Judges a call by its path, or a method of any receiver by `.name`.
    pub(super) fn check_settings(&mut self, path: &str, args: &Arguments) {
        let Some(settings) = INDEX.get(path) else { return };
        for setting in settings {
            let checked = setting.posture == Posture::UncheckedArchive && self.checks_members();
            let harmless = match setting.posture {
                Posture::PlainCookie => self.cookie_name(args).is_some_and(|name| says_nothing(&name)),
                Posture::ReadableCookie => !self.cookie_name(args).is_some_and(|name| says_who(&name)),
                Posture::UnverifiedToken => {
                    matches!(setting.when, When::KeyFalse(_)) && self.verifies_later(path)
                }
                _ => false,
            };
            if !checked && !harmless && self.matters(setting, args) {
                self.report_posture(setting.posture);
            }
        }
    }

    /// Whether the function gives up over a member of the archive, or says which members it wants.
    fn checks_members(&self) -> bool {
        let blocks = &self.function().blocks;
        let are_all = |members: ValueId| match self.op(members) {
            Op::Call { callee, .. } => matches!(self.op(*callee), Op::Attribute { name, .. }
                if matches!(self.name(*name), "getmembers" | "getnames")),
            _ => {
                matches!(&self.known(members).object, Object::Instance(path) if path.starts_with("tarfile."))
            }
        };
        let Op::Call { args, .. } = self.op(self.frame().inst) else { return false };
        let chosen = |arg: &Arg| {
            matches!(arg.kind, ArgKind::Keyword(name) if self.name(name) == "members") && !are_all(arg.value)
        };
        let mut loops = blocks.iter().filter_map(|block| match block.terminator {
            Terminator::ForNext { iterable, element, .. } if are_all(iterable) => Some(element),
            _ => None,
        });
        let gives_up = |member: ValueId| {
            blocks.iter().any(|block| match block.terminator {
                Terminator::Branch { condition, then, otherwise } => {
                    let stays = |side| self.reaches(side, self.frame().block);
                    self.depends_on(condition, member) && !(stays(then) && stays(otherwise))
                }
                _ => false,
            })
        };
        args.iter().any(chosen) || loops.any(gives_up)
    }

    /// Whether one block can be executed after another.
    fn reaches(&self, from: BlockId, to: BlockId) -> bool {
        let (mut pending, mut seen) = (vec![from], FxHashSet::default());
        while let Some(block) = pending.pop() {
            if block == to {
                return true;
            }
            if seen.insert(block) {
                pending.extend(self.function().blocks[block.index()].terminator.successors());
            }
        }
        false
    }

    /// `requests.post("http://…", auth=…)`: a secret on a connection that is not encrypted.
    pub(super) fn check_plain_text(&mut self, path: &str, args: &Arguments) {
        if !(path.starts_with("requests.") || path.starts_with("httpx.")) {
            return;
        }
        let plain =
            |value: &Value| match value.text.alternatives().first().and_then(|segments| segments.first()) {
                Some(Segment::Text(text)) => text
                    .strip_prefix("http://")
                    .is_some_and(|host| !LOCAL.iter().any(|local| host.starts_with(local))),
                _ => false,
            };
        let url = args.iter().take(2).any(|(kind, value)| *kind == ArgKind::Positional && plain(value));
        let keys = |name: &str| self.keyword(args, name).and_then(|value| self.constant_members(value));
        let named = ["data", "json", "headers", "params"].into_iter().filter_map(keys).flatten();
        let secret = |name: &Rc<str>| &**name == "Authorization" || is_secret(&snake_case(name));
        if url && (self.keyword(args, "auth").is_some() || named.into_iter().any(|name| secret(&name))) {
            self.report_posture(Posture::PlainText);
        }
    }

    /// `context.check_hostname = False`
    pub(super) fn check_assignment(&mut self, name: &str, value: &Value) {
        if let Some(settings) = INDEX.get(format!("={name}").as_str()) {
            let args = vec![(ArgKind::Positional, value.clone())];
            for setting in settings {
                if self.matters(setting, &args) {
                    self.report_posture(setting.posture);
                }
            }
        }
    }

    /// `Set-Cookie: session=…; Path=/`, written by hand: who somebody is, without `Secure` or `HttpOnly`.
    pub(super) fn check_cookie_line(&mut self, line: &Text) {
        for alternative in line.alternatives() {
            let Some(Segment::Text(start)) = alternative.first() else { continue };
            if !says_who(&snake_case(start.split('=').next().unwrap_or_default())) {
                continue;
            }
            let texts = alternative.iter().filter_map(|segment| match segment {
                Segment::Text(text) => Some(text.to_ascii_lowercase()),
                _ => None,
            });
            let written: String = texts.collect();
            let absent = |attribute: &str| !written.split(';').any(|part| part.trim() == attribute);
            for (attribute, posture) in
                [("secure", Posture::PlainCookie), ("httponly", Posture::ReadableCookie)]
            {
                if absent(attribute) {
                    self.report_posture(posture);
                }
            }
        }
    }

    fn report_posture(&mut self, posture: Posture) {
        let confidence = match posture {
            Posture::PlainText
            | Posture::PlainCookie
            | Posture::ReadableCookie
            | Posture::FewRounds
            | Posture::NoEscaping => 0.6,
            Posture::UncheckedArchive | Posture::DebugMode => 0.7,
            _ => 0.85,
        };
        let weakness = Weakness::Setting(posture);
        self.report(
            weakness,
            self.current_range(),
            weakness.consequence().to_owned(),
            confidence,
            Vec::new(),
        );
    }

    fn matters(&self, setting: &Setting, args: &Arguments) -> bool {
        let value = self.setting_value(&setting.slot, args);
        let spread = args.iter().any(|(kind, _)| matches!(kind, ArgKind::Star | ArgKind::DoubleStar));
        let truth = value.as_ref().and_then(Value::truth);
        match setting.when {
            When::Called => true,
            When::True => truth == Some(true),
            When::False => truth == Some(false),
            When::NotTrue => (value.is_none() && !spread) || truth == Some(false),
            When::Absent => value.is_none() && !spread,
            When::Below(limit) => {
                matches!(value.map(|value| value.object), Some(Object::Int(number)) if number < limit)
            }
            When::Bits(bits) => {
                matches!(value.map(|value| value.object), Some(Object::Int(number)) if number & bits != 0)
            }
            When::Constant => value.is_some_and(|value| {
                let repeats = |segment: &Segment| matches!(segment, Segment::Repeat(part) if part.as_constants().is_some());
                let repeated = value.text.alternatives().iter().any(|segments| matches!(&segments[..], [only] if repeats(only)));
                let long = value.text.as_constants().is_some_and(|texts| texts.iter().any(|text| text.len() >= 8));
                (long || repeated) && !value.is_number()
            }),
            When::Tainted => value.is_some_and(|value| match value.object {
                Object::Container(heap) => self.any_element(heap).taint() != 0,
                _ => value.taint() != 0,
            }),
            When::Is(names) => value.is_some_and(|value| self.is_one_of(&value, names)),
            When::KeyFalse(key) => value.is_some_and(|value| match value.object {
                Object::Container(heap) => {
                    let key = key_of(&Value::constant(key));
                    self.load_key(heap, key.as_ref()).truth() == Some(false)
                }
                _ => false,
            }),
        }
    }

    fn setting_value(&self, slot: &Slot, args: &Arguments) -> Option<Value> {
        let spread = || {
            args.iter().filter(|(kind, _)| *kind == ArgKind::DoubleStar).find_map(|(_, value)| {
                let Object::Container(heap) = value.object else { return None };
                let key = key_of(&Value::constant(&*slot.keyword))?;
                self.heap[heap.0 as usize].has(&key).then(|| self.load_key(heap, Some(&key)))
            })
        };
        positional(args, slot.position).or_else(|| self.keyword(args, &slot.keyword)).cloned().or_else(spread)
    }

    fn is_one_of(&self, value: &Value, names: &[&str]) -> bool {
        let is_name = |known: &str| {
            names.iter().any(|name| {
                known == *name || known.strip_suffix(name).is_some_and(|rest| rest.ends_with('.'))
            })
        };
        match &value.object {
            Object::Path(path) | Object::Instance(path) => is_name(path),
            Object::Container(_) => self
                .constant_members(value)
                .is_some_and(|members| members.iter().any(|member| is_name(member))),
            _ => value.text.as_constant().is_some_and(is_name),
        }
    }

    /// Whether the function decodes a token once more, with a key: what it said before only chose the key.
    fn verifies_later(&self, path: &str) -> bool {
        let verifies = |args: &[Arg]| {
            let is_option =
                |arg: &Arg| matches!(arg.kind, ArgKind::Keyword(name) if self.name(name) == "options");
            args.len() > 1 && !args.iter().any(is_option)
        };
        path == "jwt.decode"
            && self.function().insts.iter().any(|inst| match &inst.op {
                Op::Call { callee, args } if inst.range.start > self.current_range().start => {
                    match self.op(*callee) {
                        Op::Attribute { name, .. } => self.name(*name) == "decode" && verifies(args),
                        Op::Import(path) => self.name(*path) == "jwt.decode" && verifies(args),
                        _ => false,
                    }
                }
                _ => false,
            })
    }

    /// A decorator is a call that nobody wrote.
    pub(super) fn check_decorators(&mut self, function: FunctionId, decorators: &[ValueId]) {
        // Who compares a signature needs no token of the page.
        let insts = &self.module.functions[function.index()].insts;
        let compares = insts.iter().any(|inst| match &inst.op {
            Op::Attribute { name, .. } => self.name(*name) == "compare_digest",
            Op::Import(path) => self.name(*path).ends_with(".compare_digest"),
            _ => false,
        });
        if compares {
            return;
        }
        for decorator in decorators {
            if let Object::Path(path) = self.known(*decorator).object
                && !matches!(self.op(*decorator), Op::Call { .. })
            {
                self.check_settings(&path, &Vec::new());
            }
        }
    }

    fn cookie_name(&self, args: &Arguments) -> Option<String> {
        let name = positional(args, 0).or_else(|| self.keyword(args, "key"))?;
        name.text.as_constant().map(snake_case)
    }
}

/// Whether a cookie of that name says who somebody is.
fn says_who(name: &str) -> bool {
    let words = ["session", "sessionid", "sid", "token", "auth", "jwt", "remember", "access", "refresh"];
    has_word(name, &words) && !has_word(name, &["csrf", "xsrf"])
}

/// Whether a cookie of that name is one that anybody may read and change: the colours of the page.
fn says_nothing(name: &str) -> bool {
    let words = ["theme", "lang", "language", "locale", "timezone", "color", "colour", "consent", "currency"];
    has_word(name, &words)
}
