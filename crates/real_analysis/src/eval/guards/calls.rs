//! What calls prove: as a condition, or by returning at all.

use std::rc::Rc;

use crate::eval::Engine;
use crate::eval::guards::Query;
use crate::eval::guards::relation::Part;
use crate::eval::patterns::with_flags;
use crate::facts::Refinement;
use crate::ir::{Arg, ArgKind, BlockId, Op, Symbol, ValueId};
use crate::text::{Checks, Mask, Segment, regex};
use crate::value::{Object, Value};

impl Engine<'_> {
    /// What a call as a condition proves.
    pub(super) fn facts_of_test(
        &mut self,
        query: Query,
        call: ValueId,
        callee: ValueId,
        args: &[Arg],
        truth: bool,
    ) -> Refinement {
        let value = query.value;
        if let Some(summary) = self.frame().summaries.get(&call).cloned() {
            let proofs = if truth { &summary.truthy } else { &summary.falsy };
            return self.facts_of_summary(value, call, args, proofs);
        }
        let callee_value = self.known(callee);
        if let Some(path) = callee_value.path_name() {
            return self.facts_of_library_test(query, path, args, truth);
        }
        let Object::Method(_, name) = callee_value.object else { return Refinement::nothing() };
        let Op::Attribute { object, .. } = self.op(callee) else { return Refinement::nothing() };
        self.facts_of_method_test(value, *object, self.name(name), args, truth)
    }

    pub(super) fn facts_of_summary(
        &self,
        value: ValueId,
        call: ValueId,
        args: &[Arg],
        proofs: &[Refinement],
    ) -> Refinement {
        let Op::Call { callee, .. } = self.op(call) else { return Refinement::nothing() };
        let skip = usize::from(matches!(self.known(*callee).object, Object::Bound(..)));
        let mut proof = Refinement::nothing();
        for (index, arg) in args.iter().enumerate() {
            let index = match arg.kind {
                ArgKind::Positional => Some(index + skip),
                ArgKind::Keyword(name) => self.callee_param(*callee, name),
                ArgKind::Star | ArgKind::DoubleStar => None,
            };
            let proved = index.and_then(|index| proofs.get(index));
            if let (Some(proved), Some(relation)) = (proved, self.relation(arg.value, value)) {
                proof = proof.meet(relation.carry(proved.clone()));
            }
        }
        proof
    }

    pub(super) fn callee_param(&self, callee: ValueId, name: Symbol) -> Option<usize> {
        let (Object::Function(function, _) | Object::Bound(function, _, _)) = self.known(callee).object
        else {
            return None;
        };
        self.module.functions[function.index()].params.iter().position(|param| param.name == name)
    }

    pub(super) fn facts_of_method_test(
        &mut self,
        value: ValueId,
        receiver: ValueId,
        name: &str,
        args: &[Arg],
        truth: bool,
    ) -> Refinement {
        let first = args.first().map(|arg| arg.value);
        if let Object::Instance(path) = self.known(receiver).object.clone()
            && &*path == "re.compile"
        {
            let pattern = self.known(receiver);
            let Some(subject) = first else { return Refinement::nothing() };
            return self.facts_of_pattern(value, name, &pattern, subject, truth);
        }
        if name == "issubset"
            && truth
            && let Some(allowed) = first
        {
            return self.facts_of_subset(value, receiver, allowed);
        }
        // `table.get(key)`: the key is one of the table's.
        if let ("get", true, [key]) = (name, truth, args)
            && let Some(keys) = self.constant_members(&self.known(receiver))
            && let Some(relation) = self.relation(key.value, value)
        {
            return relation.carry(Refinement::constants(keys.iter().map(|key| &**key)));
        }
        let Some(relation) = self.relation(receiver, value) else { return Refinement::nothing() };
        let argument = first.map(|first| self.known(first));
        let proof = match (name, truth) {
            ("isdigit" | "isdecimal" | "isnumeric", true) => Refinement::mask(Mask::DIGITS),
            ("isalnum", true) => Refinement::mask(Mask::ALNUM.with_other()),
            ("isalpha", true) => Refinement::mask(Mask::LETTERS.with_other()),
            ("isidentifier", true) => Refinement::mask(Mask::WORD.with_other()),
            // Part by part, as written: `..` is a part like others.
            ("is_relative_to", true) => {
                let path = self.known(receiver);
                let resolved = path.taint() == 0 || path.text.is_checked(Checks::RESOLVED);
                let proved = resolved || path.text.is_checked(Checks::NO_PARENT);
                Refinement::checks(if proved { Checks::CONFINED } else { Checks::NONE })
            }
            ("startswith", true) if first.is_some_and(|first| self.is_quote(first)) => {
                Refinement::checks(Checks::QUOTE_FIRST)
            }
            ("startswith", true) => self.facts_of_prefix(receiver, argument.as_ref()),
            ("startswith", false) => {
                let prefixes = argument.map(|prefix| self.prefixes(&prefix)).unwrap_or_default();
                let is_one = |known: &str| prefixes.iter().any(|prefix| &**prefix == known);
                let rooted = match (is_one("/"), is_one("//")) {
                    (true, _) => Checks::RELATIVE,
                    (false, true) => Checks::NO_DOUBLE_SLASH,
                    (false, false) => Checks::NONE,
                };
                // In a path that was made plain, `..` comes first or not at all.
                let plain = is_one("..") && self.is_call_of(receiver, "os.path.normpath");
                Refinement::checks(if plain { rooted.with(Checks::NO_PARENT) } else { rooted })
            }
            ("endswith", true) if relation.part == Part::Host => {
                self.facts_of_domain(&argument.unwrap_or_else(Value::unknown))
            }
            ("is_absolute", false) => Refinement::checks(Checks::RELATIVE),
            _ => Refinement::nothing(),
        };
        relation.carry(proof)
    }

    /// `x.startswith(prefix)`: confines a resolved path, and fixes the host of a URL.
    pub(super) fn facts_of_prefix(&self, receiver: ValueId, prefix: Option<&Value>) -> Refinement {
        let Some(prefix) = prefix.filter(|prefix| prefix.taint() == 0) else { return Refinement::nothing() };
        let path = self.known(receiver);
        if path.taint() != 0 && path.text.is_checked(Checks::RESOLVED) {
            return Refinement::checks(Checks::CONFINED);
        }
        let prefixes = self.prefixes(prefix);
        let all = |test: fn(&str) -> bool| !prefixes.is_empty() && prefixes.iter().all(|prefix| test(prefix));
        if all(|url| url.split_once("://").is_some_and(|(_, rest)| rest.contains('/'))) {
            return Refinement::checks(Checks::HOST_CHECKED);
        }
        if all(|url| url.starts_with("http://") || url.starts_with("https://")) {
            return Refinement::checks(Checks::WEB_URL);
        }
        Refinement::checks(if all(|path| path.starts_with('/')) { Checks::ROOTED } else { Checks::NONE })
    }

    fn is_call_of(&self, value: ValueId, path: &str) -> bool {
        matches!(self.op(value), Op::Call { callee, .. } if self.is_path(*callee, &[path]))
    }

    /// `host.endswith(".example.com")`: a host of that domain. Without the dot, `evilexample.com` is one, too.
    fn facts_of_domain(&self, domain: &Value) -> Refinement {
        let begins = |segments: &Vec<Segment>| matches!(segments.first(), Some(Segment::Text(text)) if text.starts_with('.'));
        let one = domain.taint() == 0 && domain.text.alternatives().iter().all(begins);
        let domains = self.prefixes(domain);
        let all = !domains.is_empty() && domains.iter().all(|domain| domain.starts_with('.'));
        Refinement::checks(if one || all { Checks::HOST_CHECKED } else { Checks::NONE })
    }

    /// The constants that `startswith` is given: one, or a tuple of them.
    fn prefixes(&self, argument: &Value) -> Vec<Rc<str>> {
        match argument.text.as_constants() {
            Some(texts) if argument.object == Object::Text => texts.into_iter().map(Rc::from).collect(),
            _ => self.constant_members(argument).unwrap_or_default(),
        }
    }

    pub(super) fn facts_of_library_test(
        &mut self,
        query: Query,
        path: &str,
        args: &[Arg],
        truth: bool,
    ) -> Refinement {
        let value = query.value;
        let arg = |index: usize| args.get(index).map(|arg| arg.value);
        match path {
            "builtins.isinstance" => {
                let (Some(tested), Some(kinds)) = (arg(0), arg(1)) else { return Refinement::nothing() };
                let Some(relation) = self.relation(tested, value) else { return Refinement::nothing() };
                relation.carry(self.facts_of_type(kinds, truth))
            }
            "builtins.bool" => match arg(0) {
                Some(tested) => self.facts_of_truth(query.deeper(), tested, truth),
                None => Refinement::nothing(),
            },
            "builtins.all" if truth => self.facts_of_every(query, arg(0), true),
            "builtins.any" if !truth => self.facts_of_every(query, arg(0), false),
            "builtins.any" | "builtins.all" => self.facts_of_some(query, arg(0), truth),
            "re.match" | "re.fullmatch" | "re.search" => {
                let (Some(pattern), Some(subject)) = (arg(0), arg(1)) else { return Refinement::nothing() };
                let pattern = self.known(pattern);
                let named =
                    |arg: &&Arg| matches!(arg.kind, ArgKind::Keyword(name) if self.name(name) == "flags");
                let flags = args.iter().find(named).map(|arg| arg.value).or(arg(2));
                let flags = flags.map(|flags| self.known(flags));
                let pattern = Value::new(pattern.object.clone(), with_flags(&pattern, flags.as_ref()));
                self.facts_of_pattern(value, &path[3..], &pattern, subject, truth)
            }
            "os.path.isabs" if !truth => match arg(0).and_then(|tested| self.relation(tested, value)) {
                Some(_) => Refinement::checks(Checks::RELATIVE),
                None => Refinement::nothing(),
            },
            "hmac.compare_digest" | "secrets.compare_digest" if truth => {
                // Anybody can take a hash without a key.
                let (hashes, others): (Vec<&Arg>, Vec<&Arg>) =
                    args.iter().partition(|arg| self.is_plain_hash(arg.value, value));
                let chosen = others.iter().all(|arg| self.known(arg.value).taint() != 0);
                if !hashes.is_empty() && chosen {
                    return Refinement::nothing();
                }
                let involved = args.iter().any(|arg| self.depends_on(arg.value, value));
                if involved { Refinement::checks(Checks::AUTHENTIC) } else { Refinement::nothing() }
            }
            "django.utils.http.url_has_allowed_host_and_scheme" | "django.utils.http.is_safe_url"
                if truth =>
            {
                // The hosts that are allowed must not come from the URL itself.
                let own = args.iter().skip(1).any(|arg| self.depends_on(arg.value, value));
                match arg(0).and_then(|tested| self.relation(tested, value)).filter(|_| !own) {
                    Some(_) => Refinement::checks(Checks::HOST_CHECKED),
                    None => Refinement::nothing(),
                }
            }
            _ => Refinement::nothing(),
        }
    }

    /// `hashlib.sha256(value).hexdigest()`
    fn is_plain_hash(&self, digest: ValueId, value: ValueId) -> bool {
        let Op::Call { callee, .. } = self.op(digest) else { return false };
        let Op::Attribute { object, .. } = self.op(*callee) else { return false };
        let Op::Call { callee, args } = self.op(*object) else { return false };
        let is_hash = self.known(*callee).path_name().is_some_and(|path| path.starts_with("hashlib."));
        is_hash && args.len() == 1 && self.relation(args[0].value, value).is_some()
    }

    pub(super) fn facts_of_type(&self, kinds: ValueId, truth: bool) -> Refinement {
        let kinds = self.known(kinds);
        let values = match kinds.object {
            Object::Container(heap) => {
                let object = &self.heap[heap.0 as usize];
                object.fields.iter().map(|(_, value)| value).chain(&object.rest).cloned().collect()
            }
            _ => vec![kinds],
        };
        let paths: Vec<&str> = values.iter().map(|value| value.path_name().unwrap_or("?")).collect();
        let number = |path: &&str| {
            matches!(*path, "builtins.int" | "builtins.float" | "builtins.bool" | "builtins.complex")
        };
        if truth && !paths.is_empty() && paths.iter().all(number) {
            return Refinement::number();
        }
        if truth
            && !paths.is_empty()
            && paths.iter().all(|path| matches!(*path, "builtins.str" | "builtins.bytes"))
        {
            return Refinement::checks(Checks::IS_TEXT);
        }
        let nodes = paths.iter().all(|path| path.starts_with("ast."));
        let calls = paths.contains(&"ast.Call") || paths.contains(&"ast.AST") || paths.contains(&"ast.expr");
        // Either only listed nodes pass and calls are not among them, or calls are among those that do not pass.
        if nodes && !paths.is_empty() && calls != truth {
            return Refinement::checks(Checks::TREE_CHECKED);
        }
        Refinement::nothing()
    }

    pub(super) fn facts_of_pattern(
        &mut self,
        value: ValueId,
        method: &str,
        pattern: &Value,
        subject: ValueId,
        truth: bool,
    ) -> Refinement {
        let Some(relation) = self.relation(subject, value) else { return Refinement::nothing() };
        let known = pattern.text.as_constant().and_then(|pattern| regex::parse(pattern, false));
        let Some(known) = known else { return Refinement::nothing() };
        let whole = match method {
            "fullmatch" => true,
            "match" => known.anchored_end,
            "search" => known.anchored_start && known.anchored_end,
            _ => return Refinement::nothing(),
        };
        let proof = match truth {
            true if method != "search" || known.anchored_start => {
                facts_of_match(method, pattern.text.as_constant().unwrap_or_default(), &known, whole)
            }
            // No character of the class occurs anywhere.
            false if method == "search" => match known.class {
                Some(class) if known.class_has_all_others => Refinement::mask(Mask::ANY.minus_all(class)),
                Some(class) => Refinement::mask(Mask::ANY.minus(class)),
                None => Refinement::nothing(),
            },
            _ => Refinement::nothing(),
        };
        relation.carry(proof)
    }

    /// Whether a call that was evaluated proves something by returning.
    pub(in crate::eval) fn may_prove(&self, call: ValueId, callee: ValueId) -> bool {
        if let Some(summary) = self.frame().summaries.get(&call) {
            return !summary.returns.iter().all(Refinement::is_trivial);
        }
        match self.frame().values[callee.index()].as_ref().map(|callee| &callee.object) {
            Some(Object::Method(_, name)) => self.name(*name) == "relative_to",
            Some(Object::Path(path)) => proved_of_argument(path).is_some(),
            _ => false,
        }
    }

    /// What calls in a block prove by returning.
    pub(super) fn facts_of_calls(
        &mut self,
        value: ValueId,
        block: BlockId,
        limit: Option<ValueId>,
    ) -> Refinement {
        let body = self.function();
        let mut proof = Refinement::nothing();
        for at in 0..self.frame().proving.len() {
            let (of, id) = self.frame().proving[at];
            // Within a block instructions are evaluated in the order of their ids, but for phis.
            if of != block || limit.is_some_and(|limit| id >= limit) {
                continue;
            }
            let Op::Call { callee, args } = &body.insts[id.index()].op else { continue };
            if let Some(summary) = self.frame().summaries.get(&id).cloned() {
                proof = proof.meet(self.facts_of_summary(value, id, args, &summary.returns));
                continue;
            }
            let Some(known) = &self.frame().values[callee.index()] else { continue };
            let (tested, mask) = match &known.object {
                Object::Method(_, name) if self.name(*name) == "relative_to" => match self.op(*callee) {
                    Op::Attribute { object, .. } if self.relation(*object, value).is_some() => {
                        proof = proof.meet(Refinement::checks(Checks::CONFINED));
                        continue;
                    }
                    _ => continue,
                },
                Object::Path(path) => match proved_of_argument(path) {
                    Some(mask) => (args.first(), mask),
                    None => continue,
                },
                _ => continue,
            };
            if let Some(relation) = tested.and_then(|arg| self.relation(arg.value, value)) {
                proof = proof.meet(relation.carry(Refinement::mask(mask)));
            }
        }
        proof
    }
}

/// What a match proves of the text: which one it is, if few match, else its characters and how it begins.
fn facts_of_match(method: &str, pattern: &str, known: &regex::Pattern, whole: bool) -> Refinement {
    let (checks, texts) = regex::shape(pattern, whole).unwrap_or_default();
    let begins = Refinement::checks(checks);
    if !whole {
        return begins;
    }
    let newline = known.final_newline && method != "fullmatch";
    if let Some(texts) = texts {
        let ends: &[&str] = if newline { &["", "\n"] } else { &[""] };
        let all = texts.iter().flat_map(|text| ends.iter().map(move |end| format!("{text}{end}")));
        let all: Vec<String> = all.collect();
        return Refinement::constants(all.iter().map(String::as_str));
    }
    if newline && !known.mask.has('\n') {
        let checks = Refinement::checks(Checks::ONE_LINE);
        return Refinement::mask(known.mask.union(Mask::char('\n'))).meet(checks).meet(begins);
    }
    Refinement::mask(known.mask).meet(begins)
}

/// What a library's function proves of its first argument by returning: the characters that it has.
fn proved_of_argument(path: &str) -> Option<Mask> {
    Some(match path {
        // Spaces are ignored at the ends, and `_` between digits, where they can do nothing either.
        "builtins.int" | "builtins.float" => Mask::NUMBER,
        "uuid.UUID" => Mask::HEX.union(Mask::ascii(b"-{}:uriundl")),
        "ipaddress.ip_address" => Mask::HEX.union(Mask::ascii(b".:%")),
        _ if path.starts_with("ipaddress.ip") || path.starts_with("ipaddress.IP") => {
            Mask::HEX.union(Mask::ascii(b".:%/"))
        }
        _ if is_validator(path) => Mask::WORD.union(Mask::ascii(b"-.:%")),
        _ => return None,
    })
}

/// Functions of Django that raise unless a text is a slug or an address.
fn is_validator(path: &str) -> bool {
    path.strip_prefix("django.core.validators.").is_some_and(|name| {
        matches!(
            name,
            "validate_slug"
                | "validate_ipv4_address"
                | "validate_ipv6_address"
                | "validate_ipv46_address"
                | "int_list_validator"
        )
    })
}
