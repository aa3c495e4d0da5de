//! The rules: which concept is which weakness, and when a text in a concept's grammar is one.

use crate::Returned;
use crate::grammar::{Verdict, code, html, path, query, shell, sql, url};
use crate::library::settings::Posture;
use crate::library::{Concept, Origin};
use crate::text::{Checks, Text};

/// A weakness that is reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
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
    UnboundedAmount,
    MassAssignment,
    ExposedAttributes,
    SlowPattern,
    OpenPattern,
    TagFilter,
    UncheckedHost,
    HostBySubstring,
    WordBySubstring,
    OpenHostPattern,
    /// Protection is switched off.
    Setting(Posture),
    LogInjection,
    XPathInjection,
    LdapInjection,
    ExternalEntities,
    GrowingEntities,
    FormulaInjection,
    DocumentInjection,
    LiteralSecret,
    PrintedSecret,
    GuessableSecret,
    ShownError,
    TrustBoundary,
    UncheckedUpload,
    TimedComparison,
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
            Self::UnboundedAmount => "unbounded-amount",
            Self::MassAssignment => "mass-assignment",
            Self::ExposedAttributes => "exposed-attributes",
            Self::SlowPattern => "slow-pattern",
            Self::OpenPattern => "pattern-injection",
            Self::TagFilter => "tag-filter",
            Self::UncheckedHost => "unchecked-host",
            Self::HostBySubstring | Self::WordBySubstring => "substring-allow-list",
            Self::OpenHostPattern => "open-host-pattern",
            Self::Setting(posture) => posture_rule(posture),
            Self::LogInjection => "log-injection",
            Self::XPathInjection => "xpath-injection",
            Self::LdapInjection => "ldap-injection",
            Self::ExternalEntities => "external-entities",
            Self::GrowingEntities => "growing-entities",
            Self::FormulaInjection => "formula-injection",
            Self::DocumentInjection => "document-injection",
            Self::LiteralSecret => "literal-secret",
            Self::PrintedSecret => "printed-secret",
            Self::GuessableSecret => "guessable-secret",
            Self::ShownError => "shown-error",
            Self::TrustBoundary => "trust-boundary",
            Self::UncheckedUpload => "unchecked-upload",
            Self::TimedComparison => "timed-comparison",
        }
    }

    /// CWE numbers, the most specific first.
    pub(crate) fn cwe(self) -> &'static [u16] {
        match self {
            Self::SqlInjection => &[89],
            Self::CommandInjection => &[78, 77],
            Self::CodeInjection | Self::OpaqueCode => &[95, 94, 74],
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
            Self::UnboundedAmount => &[770, 789, 400],
            Self::MassAssignment => &[915],
            Self::ExposedAttributes => &[200, 134],
            Self::SlowPattern => &[1333, 400],
            Self::OpenPattern => &[730, 1333, 400],
            Self::TagFilter => &[116, 20, 185],
            Self::UncheckedHost => &[601, 918],
            Self::HostBySubstring => &[20, 601, 918],
            Self::WordBySubstring => &[183, 74, 20],
            Self::OpenHostPattern => &[20, 625],
            Self::Setting(posture) => posture_cwe(posture),
            Self::LogInjection => &[117, 93],
            Self::XPathInjection => &[643, 91],
            Self::LdapInjection => &[90],
            Self::ExternalEntities => &[611, 827],
            Self::GrowingEntities => &[776, 611],
            Self::FormulaInjection => &[1236],
            Self::DocumentInjection => &[943],
            Self::LiteralSecret => &[798, 259, 321],
            Self::PrintedSecret => &[532, 312],
            Self::GuessableSecret => &[338, 330],
            Self::ShownError => &[209],
            Self::TrustBoundary => &[501],
            Self::UncheckedUpload => &[434],
            Self::TimedComparison => &[208, 385],
        }
    }

    /// What happens, after "… from SOURCE"; a sentence of its own where there is no source.
    pub(crate) fn consequence(self) -> &'static str {
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
            Self::UnboundedAmount => "says how much memory or time is taken, and nothing limits it",
            Self::UnboundedGrowth => "is kept in a container whose size nothing limits",
            Self::MassAssignment => "chooses which fields are set",
            Self::ExposedAttributes => "is a format string that can read any attribute of its arguments",
            Self::SlowPattern => "can make a regular expression take very long",
            Self::OpenPattern => "is used as a regular expression",
            Self::TagFilter => "a pattern takes scripts out of HTML, which no pattern can",
            Self::UncheckedHost => "names a host that is not compared with the trusted ones",
            Self::HostBySubstring | Self::WordBySubstring => "passes because it contains something allowed",
            Self::OpenHostPattern => "other hosts match too",
            Self::Setting(posture) => posture_consequence(posture),
            Self::LogInjection => "writes lines of its own into a log",
            Self::XPathInjection => "becomes part of an XPath expression",
            Self::LdapInjection => "becomes part of an LDAP filter",
            Self::ExternalEntities => "is parsed with entities that can name files",
            Self::GrowingEntities => "is parsed with entities that can grow without limit",
            Self::FormulaInjection => "can be a formula for the spreadsheet that opens the table",
            Self::DocumentInjection => "can be an operator instead of a value in a query",
            Self::LiteralSecret => "a secret stands in the source",
            Self::PrintedSecret => "a secret is printed or logged",
            Self::GuessableSecret => "a secret is drawn from a generator that can be predicted",
            Self::ShownError => "the text of an exception is shown to the client",
            Self::TrustBoundary => "is kept in the session, whose content the program trusts",
            Self::UncheckedUpload => "an uploaded file is kept whatever its type is",
            Self::TimedComparison => "how long the comparison takes tells how much of a secret was guessed",
        }
    }
}

fn posture_rule(posture: Posture) -> &'static str {
    match posture {
        Posture::UnverifiedPeer => "unverified-peer",
        Posture::UnverifiedToken => "unverified-token",
        Posture::WeakKey => "weak-key",
        Posture::FewRounds => "few-rounds",
        Posture::OldProtocol => "old-protocol",
        Posture::GuessableFile => "guessable-file",
        Posture::OpenPermissions => "open-permissions",
        Posture::PlainCookie => "plain-cookie",
        Posture::ReadableCookie => "readable-cookie",
        Posture::DebugMode => "debug-mode",
        Posture::ExternalEntities => "external-entities",
        Posture::UncheckedArchive => "unchecked-archive",
        Posture::ForeignRequests => "cross-site-request-forgery",
        Posture::NoEscaping => "no-escaping",
        Posture::ConstantVector => "constant-vector",
        Posture::PlainText => "plain-text-protocol",
    }
}

fn posture_cwe(posture: Posture) -> &'static [u16] {
    match posture {
        Posture::UnverifiedPeer => &[295],
        Posture::UnverifiedToken => &[347],
        Posture::WeakKey => &[326],
        Posture::FewRounds => &[916],
        Posture::OldProtocol => &[327, 326],
        Posture::GuessableFile => &[377, 379],
        Posture::OpenPermissions => &[732],
        Posture::PlainCookie => &[614, 1004],
        Posture::ReadableCookie => &[1004],
        Posture::DebugMode => &[489, 215],
        Posture::ExternalEntities => &[611, 827],
        Posture::UncheckedArchive => &[22],
        Posture::ForeignRequests => &[352],
        Posture::NoEscaping => &[79],
        Posture::ConstantVector => &[1204, 329],
        Posture::PlainText => &[319],
    }
}

fn posture_consequence(posture: Posture) -> &'static str {
    match posture {
        Posture::UnverifiedPeer => "nobody checks who is at the other end",
        Posture::UnverifiedToken => "the token's signature is not checked",
        Posture::WeakKey => "the key is too short",
        Posture::FewRounds => "the password is hashed too few times",
        Posture::OldProtocol => "the protocol is broken",
        Posture::GuessableFile => "the file's name is known before the file exists",
        Posture::OpenPermissions => "others may write the file",
        Posture::PlainCookie => "the cookie is sent over plain connections too",
        Posture::DebugMode => "errors show the program's insides to everybody",
        Posture::ExternalEntities => "entities of the document can name files",
        Posture::ReadableCookie => "scripts can read the cookie that says who somebody is",
        Posture::UncheckedArchive => "members of the archive are written where they say",
        Posture::ForeignRequests => "requests of foreign pages are answered",
        Posture::NoEscaping => "templates do not escape what they are given",
        Posture::ConstantVector => "the initialization vector is the same each time",
        Posture::PlainText => "what is sent, passwords included, can be read on the way",
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
    /// `allow_pickle=True`
    pub(crate) allows_pickle: bool,
    /// Whether the response is a page, where its type is given.
    pub(crate) page: Option<bool>,
    /// A parser that resolves no entities is given.
    pub(crate) safe_parser: bool,
    /// That the text is used as this concept is a guess.
    pub(crate) guessed: bool,
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
                "numpy.load" => !situation.allows_pickle,
                _ => false,
            };
            let authentic = text.summary().checks.has(Checks::AUTHENTIC);
            if safe || authentic { None } else { all(Weakness::UnsafeDeserialization, text) }
        }
        Concept::Path => Some((Weakness::PathTraversal, path::judge(text)?)),
        Concept::Html if situation.page == Some(false) => None,
        Concept::Body if situation.page != Some(true) => None,
        Concept::Html | Concept::Body => Some((Weakness::CrossSiteScripting, html::judge(text)?)),
        Concept::Template => all(Weakness::TemplateInjection, text),
        Concept::Redirect => Some((Weakness::OpenRedirect, url::judge(text, url::Purpose::Redirect)?)),
        Concept::Url | Concept::Host => {
            Some((Weakness::ServerSideRequestForgery, url::judge(text, url::Purpose::Fetch)?))
        }
        Concept::DynamicName => Some((Weakness::CodeInjection, code::judge_name(text)?)),
        Concept::XPath => Some((Weakness::XPathInjection, query::judge_xpath(text)?)),
        Concept::Dn => Some((Weakness::LdapInjection, query::judge_dn(text)?)),
        Concept::Ldap => Some((Weakness::LdapInjection, query::judge_ldap(text)?)),
        Concept::Log if !text.summary().mask.has('\n') => None,
        Concept::Log => Some((Weakness::LogInjection, html::judge_lines(text)?)),
        Concept::Xml if situation.safe_parser => None,
        Concept::Xml => all(Weakness::ExternalEntities, text),
        Concept::PlainXml => all(Weakness::GrowingEntities, text),
        Concept::Row => Some((Weakness::FormulaInjection, query::judge_cell(text)?)),
        Concept::Document | Concept::Script => all(Weakness::DocumentInjection, text),
        Concept::Header => Some((Weakness::HeaderInjection, html::judge_lines(text)?.weaker())),
        Concept::Message => Some((Weakness::HeaderInjection, html::judge_headers(text)?)),
        Concept::HashName => None,
    }
}

/// Whether a concept is dangerous only in the hands of a stranger: a program's own callers may
/// write its logs and name its modules.
pub(crate) fn needs_stranger(concept: Concept) -> bool {
    matches!(
        concept,
        Concept::Header
            | Concept::Host
            | Concept::Log
            | Concept::PlainXml
            | Concept::Row
            | Concept::Document
            | Concept::DynamicName
    )
}

/// Whether the constant parts of a text begin like a filter of a directory.
pub(crate) fn is_filter(text: &Text) -> bool {
    query::looks_like_filter(text)
}

/// Whether a text is a command line, given to a function whose name says that it starts something, or surely a command line.
pub(crate) fn is_run(text: &Text, starts: bool, surely: bool) -> bool {
    (starts && shell::looks_like(text))
        || (surely && (shell::begins_with_word(text) || shell::is_word_list(text)))
}

/// Whether the constant parts of a text are HTML.
pub(crate) fn is_page(text: &Text) -> bool {
    html::looks_like(text)
}

/// Whether the constant parts of a text are an SQL statement.
pub(crate) fn is_statement(text: &Text) -> bool {
    sql::looks_like(text)
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
        Origin::File => 0.5,
    }
}
