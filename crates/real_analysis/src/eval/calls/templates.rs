//! Pages made of templates: which value stands where in the page, and whether it was escaped.
//!
//! ```text
//! <a href="{{ link }}">{{ name | safe }}</a>     with link and name from a request
//! <a href="⟨link, escaped⟩">⟨name⟩</a>           what the sink reads: a link to anywhere, and a tag of the client's choice
//! ```
//!
//! Of a template that is not in the program all that is known is whether its language escapes.

use crate::eval::Engine;
use crate::eval::heap::{Key, key_of};
use crate::eval::strings::Arguments;
use crate::grammar::html;
use crate::ir::ArgKind;
use crate::library::Dialect;
use crate::text::{Checks, Hole, Mask, Text};
use crate::value::{Object, Value};

/// Templates that are longer are taken as a whole.
const MAX_LENGTH: usize = 20_000;

/// Django's values for a template that are not to be escaped: `Context(values, autoescape=False)`.
pub(super) const RAW_CONTEXT: &str = "django.template.Context without escaping";

/// A piece of a template.
enum Piece<'t> {
    Text(&'t str),
    /// What stands between the marks of a value.
    Value(&'t str),
    /// `{% … %}`
    Statement(&'t str),
}

impl Engine<'_> {
    /// The page that a template makes of values.
    pub(super) fn page(&mut self, dialect: Dialect, template: &Text, values: &Arguments) -> Text {
        let all = super::mixed(&Value::unknown(), values).text;
        let is_raw =
            |value: &Value| matches!(&value.object, Object::Instance(path) if &**path == RAW_CONTEXT);
        let dialect =
            if values.iter().any(|(_, value)| is_raw(value)) { Dialect::PlainJinja } else { dialect };
        let known = template.as_constant().filter(|text| text.len() <= MAX_LENGTH).map(str::to_owned);
        let Some(known) = known else {
            let own = template.taint();
            let page = if dialect.escapes() { html::escaped(&all, true) } else { all };
            return if own == 0 { page } else { Text::tainted(own | page.taint()) };
        };
        if all.taint() == 0 {
            return Text::unknown();
        }
        let mut page = Text::constant("");
        let mut escapes = dialect.escapes();
        for piece in pieces(&known, dialect) {
            let part = match piece {
                Piece::Text(text) => Text::constant(text),
                Piece::Value(expression) => self.shown(dialect, escapes, expression, values, &all),
                Piece::Statement(statement) => {
                    let mut words = statement.split_whitespace();
                    match (words.next(), words.next()) {
                        (Some("autoescape"), setting) => {
                            escapes = !matches!(setting, Some("false" | "False" | "off" | "None"));
                        }
                        (Some("endautoescape"), _) => escapes = dialect.escapes(),
                        (Some("raw"), Some(name)) if dialect == Dialect::Tornado => {
                            page = page.concat(&self.named(name, values, &all));
                        }
                        _ => {}
                    }
                    Text::constant("")
                }
            };
            page = page.concat(&part);
        }
        page
    }

    /// `{{ name | filter }}`
    fn shown(
        &mut self,
        dialect: Dialect,
        escapes: bool,
        expression: &str,
        values: &Arguments,
        all: &Text,
    ) -> Text {
        let raw = match dialect {
            Dialect::Bottle => expression.strip_prefix('!'),
            Dialect::Mustache => expression.strip_prefix(['{', '&']),
            _ => None,
        };
        let mut parts = raw.unwrap_or(expression).split('|');
        let mut text = self.named(parts.next().unwrap_or_default().trim(), values, all);
        let mut escaped = escapes && raw.is_none();
        for filter in parts.flat_map(|filters| filters.split(',')) {
            let name = filter.split(['(', ':']).next().unwrap_or_default().trim();
            match name {
                "safe" | "n" => escaped = false,
                "e" | "escape" | "force_escape" | "forceescape" | "h" | "striptags" => escaped = true,
                "tojson" | "json_script" => {
                    let json = |hole: Hole| Hole {
                        mask: hole.mask.minus(Mask::ascii(b"<>&'\n")),
                        checks: hole.checks.with(Checks::JSON),
                        ..hole
                    };
                    text = Text::hole(json(text.summary()));
                    escaped = false;
                }
                "escapejs" => text = Text::hole(Hole { mask: Mask::WORD, ..text.summary() }),
                "urlencode" | "u" | "slugify" => {
                    let kept = Mask::WORD.union(Mask::ascii(b".-~%/+"));
                    text = text.map_holes(|hole| Hole { mask: hole.mask.intersect(kept), ..hole });
                }
                "int" | "float" | "length" | "count" | "wordcount" | "filesizeformat" => {
                    text = Text::number();
                }
                _ => {}
            }
        }
        if escaped { html::escaped(&text, true) } else { text }
    }

    /// The value under a name of the template: of an argument, of a dictionary of them, or, in a loop, of any of them.
    fn named(&mut self, expression: &str, values: &Arguments, all: &Text) -> Text {
        let is_name = |next: char| next.is_alphanumeric() || next == '_';
        let length = expression.find(|next: char| !is_name(next)).unwrap_or(expression.len());
        let (name, rest) = expression.split_at(length);
        let mut found = self.keyword(values, name).cloned();
        for (kind, value) in values {
            let Object::Container(heap) = value.object else { continue };
            let holds_names = matches!(kind, ArgKind::Positional | ArgKind::DoubleStar);
            if found.is_none() && holds_names && self.heap[heap.0 as usize].has(&Key::Name(name.into())) {
                found = Some(self.load_key(heap, key_of(&Value::constant(name)).as_ref()));
            }
        }
        match found {
            Some(value) if rest.trim().is_empty() => self.stringified(&value).text,
            Some(value) => value.any_text().text,
            None if expression.starts_with(['"', '\'']) => Text::unknown(),
            None => all.clone(),
        }
    }

    /// `Template(text, default_filters=["h"])`
    pub(super) fn filters_html(&self, arguments: &Arguments) -> bool {
        let filters =
            self.keyword(arguments, "default_filters").and_then(|filters| self.constant_members(filters));
        filters.is_some_and(|filters| filters.iter().any(|filter| &**filter == "h"))
    }
}

impl Dialect {
    fn escapes(self) -> bool {
        !matches!(self, Self::PlainJinja | Self::Mako | Self::Dollar)
    }
}

fn pieces(template: &str, dialect: Dialect) -> Vec<Piece<'_>> {
    if dialect == Dialect::Dollar {
        return dollar_pieces(template);
    }
    let dollars = matches!(dialect, Dialect::Mako | Dialect::Chameleon);
    let marks: &[(&str, &str)] =
        if dollars { &[("${", "}")] } else { &[("{{", "}}"), ("{%", "%}"), ("{#", "#}")] };
    let mut pieces = Vec::new();
    let mut rest = template;
    loop {
        let next = marks.iter().filter_map(|(open, close)| Some((rest.find(open)?, *open, *close))).min();
        let Some((at, open, close)) = next else { break };
        let inside = &rest[at + open.len()..];
        let Some(end) = inside.find(close) else { break };
        pieces.push(Piece::Text(&rest[..at]));
        let expression = inside[..end].trim_matches(['-', ' ', '\n', '\t']);
        match open {
            "{%" => pieces.push(Piece::Statement(expression)),
            "{#" => {}
            _ => pieces.push(Piece::Value(expression)),
        }
        rest = &inside[end + close.len()..];
    }
    pieces.push(Piece::Text(rest));
    pieces
}

fn dollar_pieces(template: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let mut rest = template;
    while let Some(at) = rest.find('$') {
        pieces.push(Piece::Text(&rest[..at]));
        rest = &rest[at + 1..];
        let braces = rest.strip_prefix('{').and_then(|inside| inside.split_once('}'));
        let is_name = |next: char| next.is_ascii_alphanumeric() || next == '_';
        let length = rest.find(|next: char| !is_name(next)).unwrap_or(rest.len());
        if let Some((name, after)) = braces {
            pieces.push(Piece::Value(name));
            rest = after;
        } else if rest.starts_with('$') {
            pieces.push(Piece::Text(&rest[..1]));
            rest = &rest[1..];
        } else {
            pieces.push(Piece::Value(&rest[..length]));
            rest = &rest[length..];
        }
    }
    pieces.push(Piece::Text(rest));
    pieces
}
