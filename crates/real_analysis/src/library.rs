//! What the analyzer knows about libraries, as data.
//!
//! An entry names an API by its dotted path and says what it returns and which of its arguments are dangerous. It names
//! concepts, never weaknesses: which concept is which CWE is the business of [`crate::rules`]. A method of an object is
//! found under the path of what made the object (`re.compile.fullmatch`), else under its bare name with a leading dot
//! (`.execute`), which stands for any receiver.

mod builtins;
pub(crate) mod settings;
mod stdlib;
mod third_party;
mod web;

use std::sync::LazyLock;

use rustc_hash::{FxHashMap, FxHashSet};

use crate::text::Mask;

/// A kind of dangerous argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Concept {
    /// Text of an SQL statement.
    Sql,
    /// A command line for a shell.
    Shell,
    /// A command: a shell line if the call asks for a shell, else a program and its arguments.
    Command,
    /// Python source that is run.
    Code,
    /// Bytes or text that are deserialised into arbitrary objects.
    Deserialize,
    /// The path of a file.
    Path,
    /// HTML that a browser shows.
    Html,
    /// The text of a template.
    Template,
    /// Where a browser is sent.
    Redirect,
    /// A URL or host that is fetched.
    Url,
    /// The name of a hash function.
    HashName,
    /// The name of a module or attribute to load.
    DynamicName,
    /// A line of a log.
    Log,
    /// An `XPath` expression.
    XPath,
    /// A filter of a directory.
    Ldap,
    /// A document whose entities may name files.
    Xml,
    /// A document whose entities may grow.
    PlainXml,
    /// A row of a table that a spreadsheet opens.
    Row,
    /// A filter of a database of documents.
    Document,
}

/// An argument: by position, by keyword, or the receiver of a method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Slot {
    pub(crate) position: usize,
    pub(crate) keyword: &'static str,
}

/// What kind of outsider controls a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Origin {
    /// A request of a web client.
    Request,
    /// The terminal or the command line.
    User,
    /// A file, the environment or the network.
    Outside,
    /// A parameter of a public function.
    Parameter,
    /// A file that an outsider names.
    File,
}

/// What a call returns.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Returns {
    /// Something that outsiders do not control.
    Clean,
    Number,
    /// Something that depends on all arguments and the receiver.
    Mixed,
    /// The receiver or first argument, unchanged.
    Same,
    /// Content from outside.
    Source(Origin, &'static str),
    /// A new object of this path, independent of the arguments.
    Object(&'static str),
    /// A new object of this path, made of the arguments.
    Made(&'static str),
    /// The receiver or first argument, of which only these characters remain or arise.
    Masked(Mask),
    /// The text of the first argument for HTML: `<`, `>`, `&` and quotes become entities.
    HtmlEscaped,
    /// One word for a shell.
    ShellQuoted,
    /// Percent-encoded.
    UrlQuoted,
    /// The last component of a path.
    Basename,
    /// An absolute path without `..`.
    Resolved,
    /// The parts, joined to a path.
    JoinedPath,
    /// The parts, joined to a URL.
    JoinedUrl,
}

/// An API.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Api {
    pub(crate) path: &'static str,
    pub(crate) returns: Returns,
    pub(crate) sinks: &'static [(Concept, Slot)],
}

/// The object that a method is called on.
pub(crate) const RECEIVER: Slot = Slot { position: usize::MAX, keyword: "" };

const fn slot(position: usize, keyword: &'static str) -> Slot {
    Slot { position, keyword }
}

const fn api(path: &'static str, returns: Returns) -> Api {
    Api { path, returns, sinks: &[] }
}

const fn sink(path: &'static str, returns: Returns, sinks: &'static [(Concept, Slot)]) -> Api {
    Api { path, returns, sinks }
}

static INDEX: LazyLock<FxHashMap<&'static str, &'static Api>> = LazyLock::new(|| {
    [builtins::APIS, stdlib::APIS, web::APIS, third_party::APIS]
        .into_iter()
        .flatten()
        .map(|api| (api.path, api))
        .collect()
});

/// The API of a dotted path.
pub(crate) fn find(path: &str) -> Option<&'static Api> {
    INDEX.get(canonical(path).as_ref()).copied()
}

static MODULES: LazyLock<FxHashSet<&'static str>> = LazyLock::new(|| {
    let dotted = INDEX.keys().filter_map(|path| path.split_once('.'));
    dotted.map(|(module, _)| module).filter(|module| !module.is_empty() && *module != "builtins").collect()
});

/// Whether the tables know members of a module.
pub(crate) fn is_module(name: &str) -> bool {
    MODULES.contains(name)
}

/// The API of a method, whatever its receiver is.
pub(crate) fn find_method(name: &str) -> Option<&'static Api> {
    let mut key = String::with_capacity(name.len() + 1);
    key.push('.');
    key.push_str(name);
    INDEX.get(key.as_str()).copied()
}

/// Modules that are others under a second name.
const ALIASES: &[(&str, &str)] = &[
    ("flask.wrappers.", "flask."),
    ("cPickle.", "pickle."),
    ("flask.globals.", "flask."),
    ("xml.etree.cElementTree.", "xml.etree.ElementTree."),
    ("_pickle.", "pickle."),
    ("dill.", "pickle."),
    ("cloudpickle.", "pickle."),
    ("werkzeug.security.", "werkzeug.utils."),
    ("xml.sax.saxutils.escape", "html.escape"),
    ("markupsafe.", "flask."),
    ("jinja2.Markup", "flask.Markup"),
    ("posixpath.", "os.path."),
    ("ntpath.", "os.path."),
    ("pathlib.PosixPath", "pathlib.Path"),
    ("pathlib.PurePath", "pathlib.Path"),
    ("pathlib.PurePosixPath", "pathlib.Path"),
    ("django.http.response.", "django.http."),
    ("starlette.", "fastapi."),
];

fn canonical(path: &str) -> std::borrow::Cow<'_, str> {
    for (from, to) in ALIASES {
        if let Some(rest) = path.strip_prefix(from) {
            return format!("{to}{rest}").into();
        }
    }
    path.into()
}

/// Top-level modules of web frameworks: a program that imports one is judged with requests as the attacker's way in.
pub(crate) const WEB_FRAMEWORKS: &[&str] = &[
    "flask",
    "django",
    "fastapi",
    "starlette",
    "aiohttp",
    "tornado",
    "bottle",
    "pyramid",
    "falcon",
    "sanic",
    "webapp2",
    "quart",
];

/// Annotations of parameters that cannot carry a text of the caller's choice.
pub(crate) const HARMLESS_TYPES: &[&str] = &[
    "int",
    "float",
    "bool",
    "complex",
    "Decimal",
    "decimal.Decimal",
    "date",
    "datetime",
    "time",
    "timedelta",
    "datetime.date",
    "datetime.datetime",
    "datetime.time",
    "datetime.timedelta",
    "UUID",
    "uuid.UUID",
    "Fraction",
    "None",
    "Callable",
    "typing.Callable",
    "Logger",
    "logging.Logger",
    "sqlite3.Connection",
    "sqlite3.Cursor",
    "Connection",
    "Cursor",
    "Session",
    "sqlalchemy.orm.Session",
    "Engine",
    "ModuleType",
    "type",
    "Type",
];

/// Names of hash functions and ciphers that no longer protect.
pub(crate) const WEAK_HASHES: &[&str] =
    &["md5", "md4", "md2", "sha1", "sha", "sha-1", "ripemd160", "mdc2", "md5-sha1", "sha0"];

/// Programs that run code given after `-c`.
pub(crate) const SHELLS: &[&str] =
    &["sh", "bash", "zsh", "dash", "ksh", "cmd", "cmd.exe", "powershell", "/bin/sh", "/bin/bash", "pwsh"];

/// Modules among whose members some run code, start programs or change files: which member is used must be readable.
pub(crate) const POWERFUL_MODULES: &[&str] = &[
    "builtins",
    "os",
    "sys",
    "subprocess",
    "shutil",
    "pickle",
    "marshal",
    "importlib",
    "ctypes",
    "socket",
    "commands",
    "pty",
    "runpy",
    "code",
];

/// Ciphers and modes that no longer protect.
pub(crate) const WEAK_CIPHERS: &[&str] = &[
    "Crypto.Cipher.DES.new",
    "Crypto.Cipher.DES3.new",
    "Crypto.Cipher.ARC4.new",
    "Crypto.Cipher.ARC2.new",
    "Crypto.Cipher.Blowfish.new",
    "Cryptodome.Cipher.DES.new",
    "Cryptodome.Cipher.ARC4.new",
    "Cryptodome.Cipher.DES3.new",
    "cryptography.hazmat.primitives.ciphers.algorithms.ARC4",
    "cryptography.hazmat.primitives.ciphers.algorithms.Blowfish",
    "cryptography.hazmat.primitives.ciphers.algorithms.TripleDES",
    "cryptography.hazmat.primitives.ciphers.algorithms.IDEA",
    "cryptography.hazmat.primitives.ciphers.modes.ECB",
];

/// Last names of decorators that make a function answer requests.
pub(crate) const ROUTE_DECORATORS: &[&str] = &["route", "get", "post", "put", "delete", "patch", "websocket"];
