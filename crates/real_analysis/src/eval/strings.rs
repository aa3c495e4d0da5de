//! String operations on shaped texts.

use super::Engine;
use super::heap::{Key, key_of};
use super::operators::{escaped_parts, is_markup};
use super::ops::formatted;
use crate::ir::{ArgKind, Symbol};
use crate::rules::Weakness;
use crate::text::{Checks, Hole, Mask, Segment, Taint, Text, regex};
use crate::value::{Object, Value};

/// Arguments of a call, evaluated.
pub(super) type Arguments = Vec<(ArgKind, Value)>;

/// The arguments without a name, in order.
pub(super) fn positionals(args: &[(ArgKind, Value)]) -> impl Iterator<Item = &Value> {
    args.iter().filter(|(kind, _)| *kind == ArgKind::Positional).map(|(_, value)| value)
}

pub(super) fn positional(args: &Arguments, index: usize) -> Option<&Value> {
    positionals(args).nth(index)
}

impl Engine<'_> {
    pub(super) fn keyword<'v>(&self, args: &'v Arguments, name: &str) -> Option<&'v Value> {
        let is = |symbol: Symbol| self.name(symbol) == name;
        args.iter()
            .find(|(kind, _)| matches!(kind, ArgKind::Keyword(symbol) if is(*symbol)))
            .map(|(_, value)| value)
    }

    /// A method of a string. `None`: strings have no such method.
    pub(super) fn string_method(&mut self, name: &str, receiver: &Value, args: &Arguments) -> Option<Value> {
        let text = &receiver.text;
        let constant = |index| positional(args, index).and_then(|value| value.text.as_constant());
        if let Some(known) = text.as_constant().filter(|_| receiver.object == Object::Text) {
            let folded =
                Self::constant_method(known, name, args).or_else(|| self.constant_split(known, name, args));
            if folded.is_some() {
                return folded;
            }
        }
        Some(match name {
            "strip" | "lstrip" | "rstrip" | "removeprefix" | "removesuffix" | "expandtabs" => match text
                .as_constant()
            {
                Some(known) if args.is_empty() => Value::constant(match name {
                    "strip" => known.trim(),
                    "lstrip" => known.trim_start(),
                    "rstrip" => known.trim_end(),
                    _ => known,
                }),
                _ => Value::string(text.map_holes(|hole| Hole { checks: without_form(hole.checks), ..hole })),
            },
            "lower" | "casefold" => Value::string(text.map(&both_cases, &str::to_lowercase)),
            "upper" => Value::string(text.map(&both_cases, &str::to_uppercase)),
            "title" | "capitalize" | "swapcase" => Value::string(text.map(&both_cases, &str::to_owned)),
            "replace" => {
                Value::string(replace(text, constant(0), positional(args, 1).map(|value| &value.text)))
            }
            "join" if is_markup(receiver) => {
                let iterable = positional(args, 0).cloned().unwrap_or_else(Value::unknown);
                let joined = Value::string(self.join(text, &iterable));
                escaped_parts(receiver, &joined)
            }
            "join" => {
                let iterable = positional(args, 0).cloned().unwrap_or_else(Value::unknown);
                Value::string(self.join(text, &iterable))
            }
            "format" if is_markup(receiver) => {
                let filled = Value::string(self.format_method(text, args));
                escaped_parts(receiver, &filled)
            }
            "format" => Value::string(self.format_method(text, args)),
            "format_map" => {
                let fields = vec![(ArgKind::DoubleStar, positional(args, 0)?.clone())];
                Value::string(self.format_method(text, &fields))
            }
            "partition" | "rpartition" if let Some(separator) = constant(0) => {
                let parts = partitioned(text, separator, name == "rpartition");
                let list = self.allocate(self.frame().inst, false);
                for part in &parts {
                    self.append(list, part);
                }
                self.container(list)
            }
            "split" | "rsplit" | "splitlines" | "partition" | "rpartition" => {
                let whole = text.summary();
                let mask = whole.mask.minus(separators(name, args, constant(0)));
                Value::new(Object::Unknown, Text::hole(Hole { mask, checks: Checks::NONE, ..whole }))
            }
            "zfill" | "ljust" | "rjust" | "center" => {
                let hole = text.summary();
                let fill = Mask::of(constant(1).unwrap_or(" 0"));
                Value::string(Text::hole(Hole { mask: hole.mask.union(fill), ..hole }))
            }
            "encode" | "decode" => receiver.clone(),
            "translate" => Value::string(Text::hole(translated(text.summary(), positional(args, 0)))),
            "isdigit" | "isalnum" | "isalpha" | "isidentifier" | "isdecimal" | "isnumeric" | "isspace"
            | "isupper" | "islower" | "isascii" | "istitle" | "isprintable" => Value::bool(None),
            "startswith" | "endswith" => {
                if name == "endswith" && text.taint() != 0 && constant(0).is_some_and(is_bare_host) {
                    let range = self.current_range();
                    let message =
                        "the name of any host may end like this: a dot in front is missing".to_owned();
                    self.report(Weakness::OpenHostPattern, range, message, 0.7, Vec::new());
                }
                let test = |text: &str, part: &str| {
                    if name == "startswith" { text.starts_with(part) } else { text.ends_with(part) }
                };
                Value::bool(text.as_constant().zip(constant(0)).map(|(text, part)| test(text, part)))
            }
            "find" | "rfind" | "index" | "rindex" | "count" => Value::number(),
            _ => return None,
        })
    }

    /// `separator.join(iterable)`.
    pub(super) fn join(&mut self, separator: &Text, iterable: &Value) -> Text {
        if let Object::Container(heap) = iterable.object
            && iterable.elements.is_none()
        {
            let object = &self.heap[heap.0 as usize];
            if object.rest.is_none() && object.keys.is_none() && !object.is_dict {
                let mut fields: Vec<&(Key, Value)> = object.fields.iter().collect();
                fields.sort_by_key(|(key, _)| match key {
                    Key::Index(index) => *index,
                    Key::Name(_) => i64::MAX,
                });
                let mut text = Text::constant("");
                for (index, (_, value)) in fields.into_iter().enumerate() {
                    if index > 0 {
                        text = text.concat(separator);
                    }
                    text = text.concat(&value.text);
                }
                return text;
            }
        }
        let element = self.element(iterable).text;
        // One element, and any number of further ones with separators.
        let more = separator.concat(&element);
        element.concat(&Text::from_alternatives(vec![vec![Segment::Repeat(more)]]))
    }

    /// `template.format(…)`. A template without fields drops its arguments.
    fn format_method(&mut self, template: &Text, args: &Arguments) -> Text {
        self.check_format(template, args);
        let Some(template_text) = template.as_constant().map(str::to_owned) else {
            let all =
                args.iter().fold(template.summary(), |hole, (_, value)| hole.join(value.text.summary()));
            return Text::hole(Hole { checks: Checks::NONE, ..all });
        };
        let mut text = Text::constant("");
        let mut automatic = 0;
        for piece in format_pieces(&template_text) {
            let part = match piece {
                FormatPiece::Text(constant) => Text::constant(constant),
                FormatPiece::Field { name, repr, spec } => {
                    let value = self.format_argument(name, &mut automatic, args);
                    let value = self.stringified(&value);
                    formatted(&value, repr, spec)
                }
            };
            text = text.concat(&part);
        }
        text
    }

    fn format_argument(&mut self, field: &str, automatic: &mut usize, args: &Arguments) -> Value {
        let end = field.find(['.', '[']).unwrap_or(field.len());
        let (name, path) = field.split_at(end);
        let mut index = |name: &str| {
            if name.is_empty() {
                *automatic += 1;
                return Some(*automatic - 1);
            }
            name.parse().ok()
        };
        let value = match index(name) {
            Some(index) => positional(args, index).cloned(),
            None => self.keyword(args, name).cloned(),
        };
        let spread = args.iter().filter(|(kind, _)| matches!(kind, ArgKind::Star | ArgKind::DoubleStar));
        let value = value.or_else(|| {
            let mut any = None;
            for (kind, value) in spread {
                any = match (kind, &value.object) {
                    (ArgKind::DoubleStar, Object::Container(heap)) => {
                        Some(self.load_key(*heap, key_of(&Value::constant(name)).as_ref()))
                    }
                    _ => Some(value.any_text()),
                };
            }
            any
        });
        let value = value.unwrap_or_else(Value::unknown);
        self.part_at(value, path)
    }

    /// `{user.name}`, `{row[0]}`: the part of an argument that a field names.
    fn part_at(&mut self, mut value: Value, mut path: &str) -> Value {
        while let Some(kind) = path.chars().next() {
            let end = match kind {
                '[' => path.find(']').unwrap_or(path.len()),
                '.' => path[1..].find(['.', '[']).map_or(path.len(), |end| end + 1),
                _ => return value.any_text(),
            };
            let name = &path[1..end];
            value = if kind == '[' {
                let index = name.parse().map_or_else(|_| Value::constant(name), Value::int);
                self.subscript(&value, &index)
            } else if let Some(name) = self.module.symbols.lookup(name) {
                self.attribute(&value, name)
            } else {
                value.any_text()
            };
            path = path[end..].trim_start_matches(']');
        }
        value
    }

    /// `template % values`.
    pub(super) fn percent(&mut self, template: &Value, values: &Value) -> Value {
        let Some(constant) = template.text.as_constant().map(str::to_owned) else {
            let hole = template.text.summary().join(values.text.summary());
            return Value::string(Text::hole(Hole { checks: Checks::NONE, ..hole }));
        };
        let mut text = Text::constant("");
        let mut next = 0;
        for piece in percent_pieces(&constant) {
            let part = match piece {
                PercentPiece::Text(constant) => Text::constant(constant),
                PercentPiece::Value { name, conversion } => {
                    let value = self.percent_argument(values, name, &mut next);
                    let value = self.stringified(&value);
                    match conversion {
                        's' => value.text.clone(),
                        'r' | 'a' => formatted(&value, true, ""),
                        'c' => value.any_text().text,
                        _ => Text::number(),
                    }
                }
            };
            text = text.concat(&part);
        }
        Value::string(text)
    }

    fn percent_argument(&mut self, values: &Value, name: Option<&str>, next: &mut i64) -> Value {
        let key = if let Some(name) = name {
            Value::constant(name)
        } else {
            *next += 1;
            Value::int(*next - 1)
        };
        match values.object {
            Object::Container(_) => self.subscript(values, &key),
            _ if name.is_some() => values.any_text(),
            _ => values.clone(),
        }
    }
}

/// A text of some origins, of which nothing else is known.
pub(super) fn any_string(taint: Taint) -> Value {
    Value::string(if taint == 0 { Text::unknown() } else { Text::tainted(taint) })
}

/// `re.sub(pattern, replacement, text)`.
pub(super) fn substitute(pattern: &Value, replacement: &Value, subject: &Value) -> Value {
    let known = pattern.text.as_constant().and_then(|pattern| regex::parse(pattern, false));
    let added = replacement.text.as_constant().map_or(Mask::ANY, Mask::of);
    let Some(class) = known.as_ref().and_then(|known| known.class) else {
        return any_string(subject.taint() | replacement.taint());
    };
    let all_others = known.is_some_and(|known| known.class_has_all_others);
    let left = |mask: Mask| if all_others { mask.minus_all(class) } else { mask.minus(class) };
    let hole = subject.text.summary();
    let mut result =
        Hole { mask: left(hole.mask).union(added), taint: hole.taint | replacement.taint(), ..hole };
    if replacement.text.as_constant() == Some("''") && class.within(Mask::char('\'')) {
        result.checks = result.checks.with(Checks::QUOTES_DOUBLED);
    }
    Value::string(Text::hole(result))
}

/// `example.com`: as the end of a name also that of `badexample.com`.
fn is_bare_host(text: &str) -> bool {
    let name = text.trim_end_matches('/');
    ["com", "org", "net", "edu", "gov"].iter().any(|top| {
        name.strip_suffix(top).and_then(|rest| rest.strip_suffix('.')).is_some_and(|rest| {
            rest.starts_with(|first: char| first.is_ascii_alphanumeric()) && !rest.contains(['@', '/'])
        })
    })
}

/// Checks that survive the removal of characters at the ends.
fn without_form(checks: Checks) -> Checks {
    let lost = Checks::QUOTES_DOUBLED.with(Checks::SHELL_QUOTED).0;
    Checks(checks.0 & !lost)
}

fn both_cases(hole: Hole) -> Hole {
    Hole { mask: hole.mask.both_cases(), ..hole }
}

fn translated(hole: Hole, table: Option<&Value>) -> Hole {
    match table {
        // The text of a table are the characters that it replaces, and maybe those that come in their places.
        Some(table) if matches!(&table.object, Object::Instance(path) if &**path == "str.maketrans") => {
            let texts = table.text.as_constants().unwrap_or_default();
            let mut masks = texts.iter().map(|text| Mask::of(text));
            let replaced = masks.next().unwrap_or(Mask::NONE);
            let mask = masks.fold(hole.mask.minus(replaced), Mask::union);
            Hole { mask, checks: Checks::NONE, ..hole }
        }
        // A table of another file that is named after what it does.
        Some(Value { object: Object::Path(path), .. }) if path.to_ascii_lowercase().contains("escape") => {
            Hole { mask: hole.mask.minus(Mask::ascii(b"<>\"'")), checks: Checks::NONE, ..hole }
        }
        _ => Hole { checks: Checks::NONE, mask: Mask::ANY, ..hole },
    }
}

/// What stands before a separator, the separator or nothing, and what stands behind it. The side where the search begins has none.
pub(super) fn partitioned(text: &Text, separator: &str, from_end: bool) -> [Value; 3] {
    let whole = Hole { checks: Checks::NONE, ..text.summary() };
    let absent = if separator.chars().count() == 1 { Mask::of(separator) } else { Mask::NONE };
    let searched = Value::string(Text::hole(Hole { mask: whole.mask.minus(absent), ..whole }));
    let other = Value::string(Text::hole(whole));
    let middle = Value::string(Text::of_constants([separator, ""]));
    if from_end { [other, middle, searched] } else { [searched, middle, other] }
}

/// The characters that no piece of a text that is split can hold. A limit on the number of pieces leaves separators in the last.
fn separators(method: &str, args: &Arguments, separator: Option<&str>) -> Mask {
    match (method, args.len(), separator) {
        ("split" | "rsplit", 0, _) => Mask::of(" \t\n\r\x0b\x0c"),
        ("split" | "rsplit", 1, Some(separator)) if separator.chars().count() == 1 => Mask::of(separator),
        ("splitlines", 0, _) => Mask::of("\n\r"),
        _ => Mask::NONE,
    }
}

fn replace(text: &Text, from: Option<&str>, to: Option<&Text>) -> Text {
    let to_constant = to.and_then(Text::as_constant);
    let (Some(from), Some(to)) = (from, to_constant) else {
        let hole = text.summary();
        let taint = hole.taint | to.map_or(0, Text::taint);
        return Text::hole(Hole { mask: Mask::ANY, checks: Checks::NONE, taint });
    };
    let mut single = from.chars();
    let removed = match (single.next(), single.next()) {
        (Some(character), None) => Mask::char(character),
        _ => Mask::NONE,
    };
    text.map(
        &|hole| {
            // `\'` ends the literal after all where the backslash comes from outside, and in SQLite in any case.
            let harmless = !hole.mask.has('\\') || hole.checks.has(Checks::BACKSLASHES_DOUBLED);
            let escaped = to == "\\'" && harmless;
            let doubled = from == "'" && (to == "''" || escaped);
            // Doubling keeps the character: what is left is a sequence of doubled ones.
            let left = hole.mask.minus(removed);
            // Where one is doubled it cannot end a name in quotes of its kind, and that is what it can do.
            let is_name = matches!((from, to), ("\"", "\"\"") | ("`", "``"));
            let mask = if is_name { left } else { left.union(Mask::of(to)) };
            let spoils = (from == ".." && to.is_empty()) || to.contains('\n');
            let parent = if spoils { Checks::NONE } else { hole.checks };
            let checks = match (from, to) {
                _ if doubled => parent.with(Checks::QUOTES_DOUBLED),
                ("\\", "\\\\") => parent.with(Checks::BACKSLASHES_DOUBLED),
                _ => parent,
            };
            Hole { mask, checks, ..hole }
        },
        &|constant| constant.replace(from, to),
    )
}

/// The last part of a path.
pub(super) fn basename(path: &Text) -> Text {
    let hole = path.summary();
    Text::hole(Hole { mask: hole.mask.minus(Mask::char('/')), ..hole })
}

/// A path of its parts. A part that begins at the root discards those before it.
pub(super) fn join_paths(parts: &[Text]) -> Text {
    let mut path: Option<Text> = None;
    for part in parts {
        path = Some(match path {
            None => part.clone(),
            Some(before) => {
                let joined = before.concat(&Text::constant("/")).concat(part);
                if may_be_absolute(part) { joined.join(part) } else { joined }
            }
        });
    }
    path.unwrap_or_else(Text::unknown)
}

fn may_be_absolute(part: &Text) -> bool {
    part.alternatives().iter().any(|alternative| match alternative.first() {
        Some(Segment::Text(text)) => text.starts_with('/'),
        Some(Segment::Hole(hole)) => {
            hole.taint != 0
                && hole.mask.has('/')
                && !hole.checks.has(Checks::RELATIVE)
                && !hole.checks.has(Checks::CONFINED)
        }
        _ => false,
    })
}

enum FormatPiece<'t> {
    Text(&'t str),
    Field { name: &'t str, repr: bool, spec: &'t str },
}

fn format_pieces(template: &str) -> Vec<FormatPiece<'_>> {
    let mut pieces = Vec::new();
    let mut rest = template;
    while let Some(at) = rest.find(['{', '}']) {
        let doubled = rest[at..].starts_with("{{") || rest[at..].starts_with("}}");
        if doubled {
            pieces.push(FormatPiece::Text(&rest[..=at]));
            rest = &rest[at + 2..];
            continue;
        }
        pieces.push(FormatPiece::Text(&rest[..at]));
        let Some(end) = rest[at..].find('}').filter(|_| rest[at..].starts_with('{')) else {
            rest = &rest[at + 1..];
            continue;
        };
        let field = &rest[at + 1..at + end];
        let (field, spec) = field.split_once(':').unwrap_or((field, ""));
        let (name, conversion) = field.split_once('!').unwrap_or((field, ""));
        pieces.push(FormatPiece::Field { name, repr: matches!(conversion, "r" | "a"), spec });
        rest = &rest[at + end + 1..];
    }
    pieces.push(FormatPiece::Text(rest));
    pieces
}

enum PercentPiece<'t> {
    Text(&'t str),
    Value { name: Option<&'t str>, conversion: char },
}

fn percent_pieces(template: &str) -> Vec<PercentPiece<'_>> {
    let mut pieces = Vec::new();
    let mut rest = template;
    while let Some(at) = rest.find('%') {
        pieces.push(PercentPiece::Text(&rest[..at]));
        rest = &rest[at + 1..];
        let mut name = None;
        if rest.starts_with('(')
            && let Some(end) = rest.find(')')
        {
            name = Some(&rest[1..end]);
            rest = &rest[end + 1..];
        }
        let flags =
            rest.find(|character: char| !"#0- +.*123456789hlL".contains(character)).unwrap_or(rest.len());
        rest = &rest[flags..];
        let Some(conversion) = rest.chars().next() else { break };
        rest = &rest[conversion.len_utf8()..];
        pieces.push(match conversion {
            '%' => PercentPiece::Text("%"),
            _ => PercentPiece::Value { name, conversion },
        });
    }
    pieces.push(PercentPiece::Text(rest));
    pieces
}
