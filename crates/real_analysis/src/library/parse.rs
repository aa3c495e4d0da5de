//! The notation of library files.
//!
//! ```text
//! # A comment.
//! path(name, name: concept, _, *, name: concept) -> result      a function; `_` has no name, after `*` there is no position
//! path(self: concept) -> result                                 a method whose receiver is dangerous
//! path -> result                                                an attribute
//! second.name = path                                            an alias, of a module, a class or a function
//! ```
//!
//! The results are `clean` (the default), `number`, `mixed` (all arguments and the receiver), `same` (the receiver or the first
//! argument), `source ORIGIN "what"`, `object PATH`, `made PATH` (of the arguments), `template PATH` (an object that keeps the
//! template's text), `page LANGUAGE` (a template, the receiver or the first argument, with values), `only "characters"`, `without
//! "characters"` (`a-z` is a range; `-` at an end is itself), and what escaping functions and functions of paths give.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::{Api, BY_NAME, Concept, Dialect, Library, Origin, RECEIVER, Returns, Slot};
use crate::text::Mask;

/// A line of a library file that is no entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LibraryError {
    /// Counted from 1.
    pub line: usize,
    /// What is wrong with it.
    pub message: String,
}

impl std::fmt::Display for LibraryError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "line {}: {}", self.line, self.message)
    }
}

impl std::error::Error for LibraryError {}

const CONCEPTS: &[(&str, Concept)] = &[
    ("sql", Concept::Sql),
    ("shell", Concept::Shell),
    ("command", Concept::Command),
    ("code", Concept::Code),
    ("deserialize", Concept::Deserialize),
    ("path", Concept::Path),
    ("html", Concept::Html),
    ("body", Concept::Body),
    ("template", Concept::Template),
    ("redirect", Concept::Redirect),
    ("url", Concept::Url),
    ("hash-name", Concept::HashName),
    ("dynamic-name", Concept::DynamicName),
    ("log", Concept::Log),
    ("xpath", Concept::XPath),
    ("ldap", Concept::Ldap),
    ("dn", Concept::Dn),
    ("xml", Concept::Xml),
    ("plain-xml", Concept::PlainXml),
    ("row", Concept::Row),
    ("document", Concept::Document),
    ("script", Concept::Script),
    ("header", Concept::Header),
    ("message", Concept::Message),
    ("host", Concept::Host),
];

/// Reads the entries of several files. A later entry of a path replaces an earlier one.
pub(super) fn parse(files: &[&str]) -> Result<Library, LibraryError> {
    let mut library = Library::default();
    let concepts: FxHashMap<&str, Concept> = CONCEPTS.iter().copied().collect();
    for (index, line) in files.iter().flat_map(|file| file.lines().enumerate()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        entry(line, &concepts, &mut library).map_err(|message| LibraryError { line: index + 1, message })?;
    }
    Ok(library)
}

fn entry(line: &str, concepts: &FxHashMap<&str, Concept>, library: &mut Library) -> Result<(), String> {
    if let Some((alias, path)) = line.split_once(" = ").filter(|(alias, _)| is_path(alias)) {
        let path = path.trim();
        if !is_path(path) || path == alias || path.starts_with(&format!("{alias}.")) {
            return Err(format!("`{path}` is no path for `{alias}` to stand for"));
        }
        library.aliases.insert(alias.into(), path.into());
        library.renamed.insert(alias.split('.').next().unwrap_or_default().into());
        note_module(alias, library);
        return Ok(());
    }
    let (subject, result) = line.split_once(" -> ").unwrap_or((line, "clean"));
    let subject = subject.trim();
    let (path, params) = match subject.split_once('(') {
        Some((path, params)) => {
            (path, Some(params.strip_suffix(')').ok_or("the parameters are never closed")?))
        }
        None => (subject, None),
    };
    if !is_path(path.strip_prefix('.').unwrap_or(path)) {
        return Err(format!("`{path}` is no path"));
    }
    let api = Api {
        path: path.into(),
        returns: returns(result.trim())?,
        sinks: sinks(params.unwrap_or_default(), concepts)?,
        is_attribute: params.is_none(),
    };
    note_module(path, library);
    if let Some(method) = path.strip_prefix('.') {
        library.methods.insert(method.into(), api);
        return Ok(());
    }
    if let Some((owner, _)) = path.rsplit_once('.').filter(|_| api.is_attribute) {
        library.owners.insert(owner.into());
    }
    library.apis.insert(path.into(), api);
    Ok(())
}

fn note_module(path: &str, library: &mut Library) {
    if let Some((module, _)) = path.split_once('.').filter(|(module, _)| !matches!(*module, "" | "builtins"))
    {
        library.modules.insert(module.into());
    }
}

fn is_path(text: &str) -> bool {
    let is_name = |part: &str| {
        !part.is_empty() && part.chars().all(|character| character.is_alphanumeric() || character == '_')
    };
    text.split('.').all(is_name)
}

fn sinks(params: &str, concepts: &FxHashMap<&str, Concept>) -> Result<Vec<(Concept, Slot)>, String> {
    let (mut sinks, mut position) = (Vec::new(), 0);
    for param in params.split(',').map(str::trim).filter(|param| !param.is_empty()) {
        if param == "*" {
            position = BY_NAME;
            continue;
        }
        let (name, concept) = param
            .split_once(':')
            .map_or((param, None), |(name, concept)| (name.trim(), Some(concept.trim())));
        let here = if name == "self" { RECEIVER } else { position };
        if let Some(concept) = concept {
            let concept =
                *concepts.get(concept).ok_or_else(|| format!("no concept is called `{concept}`"))?;
            let keyword = if matches!(name, "_" | "self") { String::new() } else { name.to_owned() };
            sinks.push((concept, Slot { position: here, keyword: keyword.into() }));
        }
        if name != "self" && position != BY_NAME {
            position += 1;
        }
    }
    Ok(sinks)
}

fn returns(text: &str) -> Result<Returns, String> {
    let (kind, rest) = text.split_once(' ').unwrap_or((text, ""));
    let rest = rest.trim();
    Ok(match kind {
        "clean" => Returns::Clean,
        "number" => Returns::Number,
        "mixed" => Returns::Mixed,
        "same" => Returns::Same,
        "source" => {
            let (origin, what) = rest.split_once(' ').ok_or("a source has an origin and a description")?;
            Returns::Source(origin_of(origin)?, quoted(what)?.into())
        }
        "object" if is_path(rest) => Returns::Object(Arc::from(rest)),
        "made" if is_path(rest) => Returns::Made(Arc::from(rest)),
        "only" => Returns::Masked(characters(quoted(rest)?)),
        "without" => Returns::Masked(Mask::ANY.minus(characters(quoted(rest)?))),
        "authentic" => Returns::Authentic,
        "template" if is_path(rest) => Returns::Template(Arc::from(rest)),
        "page" => Returns::Page(dialect_of(rest)?),
        "html-escaped" => Returns::HtmlEscaped,
        "marked" => Returns::Marked,
        "shell-quoted" => Returns::ShellQuoted,
        "url-quoted" => Returns::UrlQuoted,
        "basename" => Returns::Basename,
        "resolved" => Returns::Resolved,
        "joined-path" => Returns::JoinedPath,
        "joined-url" => Returns::JoinedUrl,
        _ => return Err(format!("`{text}` is no result")),
    })
}

fn dialect_of(name: &str) -> Result<Dialect, String> {
    Ok(match name {
        "jinja" => Dialect::Jinja,
        "plain-jinja" => Dialect::PlainJinja,
        "tornado" => Dialect::Tornado,
        "bottle" => Dialect::Bottle,
        "mako" => Dialect::Mako,
        "chameleon" => Dialect::Chameleon,
        "dollar" => Dialect::Dollar,
        "mustache" => Dialect::Mustache,
        _ => return Err(format!("`{name}` is no language of templates")),
    })
}

fn origin_of(name: &str) -> Result<Origin, String> {
    match name {
        "request" => Ok(Origin::Request),
        "user" => Ok(Origin::User),
        "outside" => Ok(Origin::Outside),
        _ => Err(format!("`{name}` is no origin: request, user or outside")),
    }
}

fn quoted(text: &str) -> Result<&str, String> {
    text.trim()
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'))
        .ok_or_else(|| format!("`{text}` is not in quotes"))
}

/// `a-z0-9_.-` as a set.
fn characters(text: &str) -> Mask {
    let all: Vec<char> = text.chars().collect();
    let (mut mask, mut at) = (Mask::NONE, 0);
    while at < all.len() {
        if at + 2 < all.len() && all[at + 1] == '-' {
            mask = mask.union(Mask::between(all[at], all[at + 2]));
            at += 3;
        } else {
            mask = mask.union(Mask::char(all[at]));
            at += 1;
        }
    }
    mask
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_line_is_named() {
        for (text, message) in [
            ("a.b(c: nothing)", "no concept is called `nothing`"),
            ("# fine\na.b(c", "the parameters are never closed"),
            ("a b", "`a b` is no path"),
            ("a.b() -> what", "`what` is no result"),
            ("a.b -> source moon \"x\"", "`moon` is no origin: request, user or outside"),
            ("a = a.b", "`a.b` is no path for `a` to stand for"),
        ] {
            let error = Library::parse(text).expect_err(text);
            assert_eq!((error.line, &*error.message), (text.lines().count(), message));
        }
    }

    #[test]
    fn aliases_and_character_sets() {
        let library =
            Library::parse("x.clean() -> only \"a-c_-\"\ny = x\nz = y").expect("the lines are entries");
        let Some(Api { returns: Returns::Masked(mask), .. }) = library.find("z.clean") else {
            panic!("the alias leads to the entry")
        };
        assert!(*mask == Mask::of("abc_-"));
    }
}
