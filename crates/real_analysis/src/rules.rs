//! The rules: which concept is which weakness, and when a text in a concept's grammar is one.

use crate::Returned;
use crate::grammar::{Verdict, code, html, path, shell, sql, url};
use crate::library::{Concept, Origin};
use crate::text::{Checks, Text};

/// A weakness that is reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Weakness {
    SqlInjection,
    CommandInjection,
    CodeInjection,
    OpaqueCode,
    UnsafeDeserialization,
    PathTraversal,
    CrossSiteScripting,
    TemplateInjection,
    OpenRedirect,
    ServerSideRequestForgery,
    WeakHash,
    OpenHash,
    WeakCipher,
    HeaderInjection,
    MissingAuthorization,
    MissingVerification,
    CrossSiteRequestForgery,
    UnboundedGrowth,
    MassAssignment,
}

impl Weakness {
    /// Name in kebab case.
    pub(crate) fn rule(self) -> &'static str {
        match self {
            Self::SqlInjection => "sql-injection",
            Self::CommandInjection => "command-injection",
            Self::CodeInjection => "code-injection",
            Self::OpaqueCode => "opaque-code",
            Self::UnsafeDeserialization => "unsafe-deserialization",
            Self::PathTraversal => "path-traversal",
            Self::CrossSiteScripting => "cross-site-scripting",
            Self::TemplateInjection => "template-injection",
            Self::OpenRedirect => "open-redirect",
            Self::ServerSideRequestForgery => "server-side-request-forgery",
            Self::WeakHash | Self::OpenHash => "weak-hash",
            Self::WeakCipher => "weak-cipher",
            Self::HeaderInjection => "header-injection",
            Self::MissingAuthorization => "missing-authorization",
            Self::MissingVerification => "missing-verification",
            Self::CrossSiteRequestForgery => "cross-site-request-forgery",
            Self::UnboundedGrowth => "unbounded-growth",
            Self::MassAssignment => "mass-assignment",
        }
    }

    /// CWE numbers, the most specific first.
    pub(crate) fn cwe(self) -> &'static [u16] {
        match self {
            Self::SqlInjection => &[89],
            Self::CommandInjection => &[78, 77],
            Self::CodeInjection | Self::OpaqueCode => &[95, 94],
            Self::UnsafeDeserialization => &[502],
            Self::PathTraversal => &[22],
            Self::CrossSiteScripting => &[79],
            Self::TemplateInjection => &[1336, 94],
            Self::OpenRedirect => &[601],
            Self::ServerSideRequestForgery => &[918],
            Self::WeakHash | Self::OpenHash => &[328, 327],
            Self::WeakCipher => &[327],
            Self::HeaderInjection => &[113, 93],
            Self::MissingAuthorization => &[862, 863],
            Self::MissingVerification => &[347],
            Self::CrossSiteRequestForgery => &[352],
            Self::UnboundedGrowth => &[770, 400],
            Self::MassAssignment => &[915],
        }
    }

    /// What happens, after "… from SOURCE".
    fn consequence(self) -> &'static str {
        match self {
            Self::SqlInjection => "becomes part of an SQL statement",
            Self::CommandInjection => "becomes part of a command",
            Self::CodeInjection => "is run as code",
            Self::OpaqueCode => "decides what code runs",
            Self::UnsafeDeserialization => "is deserialised into arbitrary objects",
            Self::PathTraversal => "names a file outside the intended folder",
            Self::CrossSiteScripting => "reaches a page without escaping",
            Self::TemplateInjection => "is used as the text of a template",
            Self::OpenRedirect => "decides where a browser is sent",
            Self::ServerSideRequestForgery => "decides which host is contacted",
            Self::OpenHash => "chooses the hash function, weak ones included",
            Self::WeakHash => "uses a hash function that is broken",
            Self::WeakCipher => "uses a cipher that is broken",
            Self::HeaderInjection => "reaches a header without removal of line breaks",
            Self::MissingAuthorization => "names a record that anybody may use",
            Self::MissingVerification => "is never compared with what it should be",
            Self::CrossSiteRequestForgery => "changes something without a proof that its user meant it",
            Self::UnboundedGrowth => "is kept in a container whose size nothing limits",
            Self::MassAssignment => "chooses which fields are set",
        }
    }
}

/// One sentence about a weakness with a source.
pub(crate) fn message(weakness: Weakness, source: &str) -> String {
    format!("{source} {}", weakness.consequence())
}

/// What a call says beside the dangerous argument.
#[derive(Debug, Clone, Default)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts about one call")]
pub(crate) struct Situation {
    pub(crate) shell: bool,
    pub(crate) safe_loader: bool,
    pub(crate) not_for_security: bool,
    pub(crate) weights_only: bool,
    /// The response is not HTML.
    pub(crate) plain_response: bool,
}

/// Judges a text where a concept expects one.
pub(crate) fn judge(
    concept: Concept,
    api: &str,
    text: &Text,
    situation: &Situation,
) -> Option<(Weakness, Verdict)> {
    let all = |weakness, text: &Text| Some((weakness, Verdict::of(text.taint(), 1.0)?));
    match concept {
        Concept::Sql => Some((Weakness::SqlInjection, sql::judge(text)?)),
        Concept::Shell => Some((Weakness::CommandInjection, shell::judge(text)?)),
        Concept::Command if situation.shell => Some((Weakness::CommandInjection, shell::judge(text)?)),
        Concept::Command => Some((Weakness::CommandInjection, shell::judge_program(text)?)),
        Concept::Code => Some((Weakness::CodeInjection, code::judge(text)?)),
        Concept::Deserialize => {
            let safe = match api {
                "yaml.load" | "yaml.load_all" => situation.safe_loader,
                "torch.load" => situation.weights_only,
                _ => false,
            };
            let authentic = text.summary().checks.has(Checks::AUTHENTIC);
            if safe || authentic { None } else { all(Weakness::UnsafeDeserialization, text) }
        }
        Concept::Path => Some((Weakness::PathTraversal, path::judge(text)?)),
        Concept::Html if situation.plain_response => None,
        Concept::Html => Some((Weakness::CrossSiteScripting, html::judge(text)?)),
        Concept::Template => all(Weakness::TemplateInjection, text),
        Concept::Redirect => Some((Weakness::OpenRedirect, url::judge(text, url::Purpose::Redirect)?)),
        Concept::Url => Some((Weakness::ServerSideRequestForgery, url::judge(text, url::Purpose::Fetch)?)),
        Concept::DynamicName => Some((Weakness::CodeInjection, code::judge_name(text)?)),
        Concept::HashName => None,
    }
}

/// Judges a text that a public function returns: what language it is in, its constant parts say.
pub(crate) fn judge_return(text: &Text, is_response: bool) -> Option<(Weakness, Verdict)> {
    if is_response || html::looks_like(text) {
        return Some((Weakness::CrossSiteScripting, html::judge(text)?));
    }
    if sql::looks_like(text) {
        return Some((Weakness::SqlInjection, sql::judge(text)?.weaker()));
    }
    if shell::looks_like(text) {
        return Some((Weakness::CommandInjection, shell::judge(text)?.weaker()));
    }
    html::judge_header(text).map(|verdict| (Weakness::HeaderInjection, verdict))
}

/// Judges a text that is returned to someone who reads it in this language.
pub(crate) fn judge_contract(text: &Text, language: Returned) -> Option<(Weakness, Verdict)> {
    Some(match language {
        Returned::Html => (Weakness::CrossSiteScripting, html::judge(text)?),
        Returned::Url => (Weakness::OpenRedirect, url::judge(text, url::Purpose::Redirect)?),
        Returned::Command => (Weakness::CommandInjection, shell::judge(text)?),
        Returned::Header => (Weakness::HeaderInjection, html::judge_lines(text)?),
        Returned::Sql => (Weakness::SqlInjection, sql::judge(text)?),
    })
}

/// Whether a media type makes a browser run scripts.
pub(crate) fn is_html_type(kind: &str) -> bool {
    kind.contains("html") || kind.contains("xml") || kind.contains("svg")
}

/// How sure an origin makes a finding.
pub(crate) fn origin_weight(origin: Origin) -> f32 {
    match origin {
        Origin::Request => 0.95,
        Origin::User => 0.9,
        Origin::Parameter => 0.8,
        Origin::Outside => 0.6,
    }
}
