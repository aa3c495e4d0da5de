//! HTML. Between tags a hole is dangerous when it can contain `<`; in a quoted attribute when it can contain the quote; in a
//! tag without quotes or in a script when it can be more than a word.

use super::{Verdict, scan};
use crate::text::{Checks, Hole, Mask, Segment, Text};

#[derive(Clone, PartialEq)]
enum State {
    Text,
    Tag(String),
    /// Its element, its quote, and what stands in it.
    Attribute(String, char, Content),
    Script,
}

/// What an attribute holds.
#[derive(Clone, Copy, PartialEq)]
enum Content {
    Plain,
    /// A URL that a browser follows begins here.
    Url,
    /// A script that an event runs.
    Script,
}

/// Whether hostile content can leave its place in a page.
pub(crate) fn judge(text: &Text) -> Option<Verdict> {
    scan(text, &State::Text, &mut advance, &mut |state, hole| breaks(state, hole))
}

/// `<`, `>` and `&` become entities, and the quotes with them.
pub(crate) fn escaped(text: &Text, quotes: bool) -> Text {
    let removed = if quotes { Mask::ascii(b"<>\"'") } else { Mask::ascii(b"<>") };
    text.map(&|hole| Hole { mask: hole.mask.minus(removed).union(Mask::ascii(b"&;#")), ..hole }, &|text| {
        text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
    })
}

fn breaks(state: &State, hole: Hole) -> Option<f32> {
    let dangerous = match state {
        State::Text => hole.mask.has('<'),
        // Entities are read before the script is.
        State::Attribute(_, _, Content::Script) => {
            !hole.mask.within(Mask::WORD.union(Mask::ascii(b"-. ")).with_other())
        }
        State::Attribute(_, quote, _) if hole.mask.has(*quote) => true,
        State::Attribute(_, _, Content::Url) => return may_run(hole).then_some(0.7),
        State::Attribute(..) => false,
        State::Tag(_) => !hole.mask.within(Mask::WORD.union(Mask::ascii(b"-.#%"))),
        // A literal that cannot end the script.
        State::Script if hole.checks.has(Checks::JSON) => hole.mask.has('<'),
        State::Script => !hole.mask.within(Mask::NUMBER),
    };
    dangerous.then_some(0.9)
}

/// Whether a URL can be `javascript:…`: who may name any address may name that one.
fn may_run(hole: Hole) -> bool {
    let led = [Checks::WEB_URL, Checks::HOST_CHECKED, Checks::ROOTED];
    hole.mask.has(':') && !led.into_iter().any(|check| hole.checks.has(check))
}

fn advance(state: &mut State, text: &str) {
    let mut rest = text;
    while let Some(character) = rest.chars().next() {
        let after = &rest[character.len_utf8()..];
        match state {
            State::Text => {
                let opens = character == '<'
                    && after.starts_with(|next: char| next.is_ascii_alphabetic() || next == '/');
                if opens {
                    let name: String = after.chars().take_while(char::is_ascii_alphanumeric).collect();
                    *state = State::Tag(name.to_ascii_lowercase());
                }
            }
            State::Tag(name) => match character {
                '>' => *state = if name == "script" { State::Script } else { State::Text },
                '"' | '\'' => {
                    let before = &text[..text.len() - rest.len()];
                    *state = State::Attribute(std::mem::take(name), character, content_of(before));
                }
                _ => {}
            },
            State::Attribute(name, quote, _) if *quote == character => {
                *state = State::Tag(std::mem::take(name));
            }
            State::Attribute(_, _, content) if *content == Content::Url => *content = Content::Plain,
            State::Attribute(..) => {}
            State::Script => {
                if rest.get(..8).is_some_and(|end| end.eq_ignore_ascii_case("</script")) {
                    *state = State::Tag(String::new());
                }
            }
        }
        rest = after;
    }
}

/// What the attribute at the end of an open tag holds: `<a href=`, `<button onclick=`.
fn content_of(before: &str) -> Content {
    let Some(name) = before.trim_end().strip_suffix('=') else { return Content::Plain };
    let name = name.trim_end();
    let start = name.rfind(|character: char| character.is_ascii_whitespace()).map_or(0, |at| at + 1);
    match &*name[start..].to_ascii_lowercase() {
        "href" | "action" | "formaction" => Content::Url,
        handler if handler.len() > 4 && handler.starts_with("on") => Content::Script,
        _ => Content::Plain,
    }
}

/// Elements of HTML. A text with only other tags, and none that closes one, is rather what an object looks like: `<Module x>`.
const ELEMENTS: &[&str] = &[
    "a",
    "article",
    "b",
    "blockquote",
    "body",
    "br",
    "button",
    "code",
    "dd",
    "div",
    "dl",
    "dt",
    "em",
    "figure",
    "footer",
    "form",
    "h1",
    "h2",
    "h3",
    "h4",
    "h5",
    "h6",
    "head",
    "header",
    "hr",
    "html",
    "i",
    "iframe",
    "img",
    "input",
    "label",
    "li",
    "link",
    "main",
    "meta",
    "nav",
    "ol",
    "option",
    "p",
    "pre",
    "script",
    "section",
    "select",
    "small",
    "span",
    "strong",
    "style",
    "svg",
    "table",
    "tbody",
    "td",
    "textarea",
    "th",
    "thead",
    "title",
    "tr",
    "u",
    "ul",
    "video",
];

/// Whether the constant parts contain a tag of a page or a document.
pub(crate) fn looks_like(text: &Text) -> bool {
    text.alternatives().iter().flatten().any(|segment| match segment {
        Segment::Text(text) => has_tag(text),
        Segment::Repeat(body) => looks_like(body),
        Segment::Hole(_) => false,
    })
}

fn has_tag(text: &str) -> bool {
    let mut rest = text;
    while let Some(at) = rest.find('<') {
        rest = &rest[at + 1..];
        let name = rest.strip_prefix('/').unwrap_or(rest);
        let length = name.find(|next: char| !next.is_ascii_alphanumeric()).unwrap_or(name.len());
        let ends = matches!(name[length..].chars().next(), Some('>' | ' ' | '/'));
        let known = rest.starts_with('/') || ELEMENTS.contains(&name[..length].to_ascii_lowercase().as_str());
        if name.starts_with(|first: char| first.is_ascii_alphabetic()) && ends && known {
            return true;
        }
    }
    false
}

/// `Name: ⟨hole⟩`: a header line that a line break would end.
pub(crate) fn judge_header(text: &Text) -> Option<Verdict> {
    let (mut taint, mut sure) = (0, 0.0);
    for alternative in text.alternatives() {
        if let [Segment::Text(name), Segment::Hole(hole), ..] = &alternative[..]
            && is_header_name(name)
            && hole.mask.has('\n')
        {
            taint |= hole.taint;
            sure = 0.7;
        }
    }
    Verdict::of(taint, sure)
}

/// Header lines: a line break in a hole begins another one.
pub(crate) fn judge_lines(text: &Text) -> Option<Verdict> {
    let breaks = |hole: Hole| hole.mask.has('\n') || hole.mask.has('\r');
    scan(text, &(), &mut |(), _| (), &mut |(), hole| breaks(hole).then_some(0.8))
}

/// A message: a line break in a hole of its headers begins another one. Behind the first empty line stands the body.
pub(crate) fn judge_headers(text: &Text) -> Option<Verdict> {
    // Only what is seen to begin with a header is one that was put together by hand.
    let begins = |alternative: &Vec<Segment>| matches!(alternative.first(), Some(Segment::Text(_)));
    if !text.alternatives().iter().any(begins) {
        return None;
    }
    let mut constant =
        |in_body: &mut bool, text: &str| *in_body |= text.contains("\n\n") || text.contains("\r\n\r\n");
    scan(text, &false, &mut constant, &mut |in_body, hole| {
        (!*in_body && (hole.mask.has('\n') || hole.mask.has('\r'))).then_some(0.8)
    })
}

fn is_header_name(text: &str) -> bool {
    let Some(name) = text.strip_suffix(": ").or_else(|| text.strip_suffix(':')) else { return false };
    let dashed =
        name.contains('-') || matches!(name, "Location" | "Host" | "Cookie" | "Subject" | "From" | "To");
    dashed
        && name
            .split('-')
            .all(|word| word.starts_with(|first: char| first.is_ascii_uppercase()) && !word.contains(' '))
}
