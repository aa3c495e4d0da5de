//! What the analyzer knows about libraries, as data: the files `resources/library/*.api`, and a user's own.
//!
//! An entry is a line that names an API by its dotted path and says what it returns and which of its arguments are dangerous:
//!
//! ```text
//! shutil.copy(src: path, dst: path)
//! html.escape(s) -> html-escaped
//! sqlite3.connect() -> object sqlite3.Connection
//! flask.request -> source request "the request"
//! ```
//!
//! It names concepts, never weaknesses: which concept is which CWE is the business of [`crate::rules`]. A method of an object is
//! found under the path of what made the object (`re.compile.fullmatch`), else under its bare name with a leading dot
//! (`.execute`), which stands for any receiver. `parse.rs` has the whole notation.

mod parse;
pub(crate) mod settings;

use std::borrow::Cow;
use std::sync::{Arc, LazyLock};

use rustc_hash::{FxHashMap, FxHashSet};

use crate::text::Mask;
pub use parse::LibraryError;

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
    /// A response that is a page only if its type says so.
    Body,
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
    /// A name in a directory.
    Dn,
    /// A document whose entities may name files.
    Xml,
    /// A document whose entities may grow.
    PlainXml,
    /// A row of a table that a spreadsheet opens.
    Row,
    /// A filter of a database of documents.
    Document,
    /// JavaScript that such a database runs.
    Script,
    /// A host that is contacted by something which is no client of URLs.
    Host,
    /// The value of a header of a response.
    Header,
    /// The text of a message: headers, an empty line, a body.
    Message,
}

/// An argument: by position, by keyword, or the receiver of a method.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Slot {
    pub(crate) position: usize,
    pub(crate) keyword: Cow<'static, str>,
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

/// How a language of templates marks values, and whether it escapes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// `{{ value }}`, escaped unless a filter says that it is safe: Flask, Django, Jinja that was told to.
    Jinja,
    /// The same, not escaped unless a filter does.
    PlainJinja,
    /// `{{ value }}`, escaped, and `{% raw value %}`.
    Tornado,
    /// `{{value}}`, escaped, and `{{!value}}`.
    Bottle,
    /// `${value}`, escaped by the filter `h`.
    Mako,
    /// `${value}`, escaped: Chameleon, Genshi.
    Chameleon,
    /// `{{value}}`, escaped, `{{{value}}}` and `{{&value}}`.
    Mustache,
    /// `$value`, `${value}`, as it is: `string.Template`.
    Dollar,
}

/// What a call returns.
#[derive(Debug, Clone)]
pub(crate) enum Returns {
    /// Something that outsiders do not control.
    Clean,
    Number,
    /// Something that depends on all arguments and the receiver.
    Mixed,
    /// The receiver or first argument, unchanged.
    Same,
    /// Content from outside.
    Source(Origin, Arc<str>),
    /// A new object of this path, independent of the arguments.
    Object(Arc<str>),
    /// A new object of this path, made of the arguments.
    Made(Arc<str>),
    /// The receiver or first argument, of which only these characters remain or arise.
    Masked(Mask),
    /// The first argument in a form of the program's own, which it may read back.
    Authentic,
    /// A new object of this path that keeps the text of the template that it was made of.
    Template(Arc<str>),
    /// A page made of a template, the first argument or the receiver, and values.
    Page(Dialect),
    /// The text of the first argument for HTML: `<`, `>`, `&` and quotes become entities.
    HtmlEscaped,
    /// The first argument, marked as HTML.
    Marked,
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
#[derive(Debug, Clone)]
pub(crate) struct Api {
    pub(crate) path: Box<str>,
    pub(crate) returns: Returns,
    pub(crate) sinks: Vec<(Concept, Slot)>,
    /// The path itself is meant, not what calling it gives.
    pub(crate) is_attribute: bool,
}

/// Positions of slots that no position stands for.
pub(crate) const RECEIVER: usize = usize::MAX;
const BY_NAME: usize = usize::MAX - 1;

const fn slot(position: usize, keyword: &'static str) -> Slot {
    Slot { position, keyword: Cow::Borrowed(keyword) }
}

/// What is known about some libraries.
#[derive(Debug, Clone, Default)]
pub struct Library {
    apis: FxHashMap<Box<str>, Api>,
    /// APIs of any receiver, by the bare name of the method.
    methods: FxHashMap<Box<str>, Api>,
    /// Paths that have attributes of their own.
    owners: FxHashSet<Box<str>>,
    /// Paths that are others under a second name.
    aliases: FxHashMap<Box<str>, Box<str>>,
    /// First parts of aliases.
    renamed: FxHashSet<Box<str>>,
    /// First parts of paths.
    modules: FxHashSet<Box<str>>,
}

impl Library {
    /// Reads a file of entries.
    pub fn parse(text: &str) -> Result<Self, LibraryError> {
        parse::parse(&[text])
    }

    fn find(&self, path: &str) -> Option<&Api> {
        self.apis.get(path).or_else(|| self.apis.get(&*self.canonical(path)?))
    }

    /// The path under its first name, where it has another.
    fn canonical(&self, path: &str) -> Option<String> {
        if !self.renamed.contains(path.split('.').next().unwrap_or_default()) {
            return None;
        }
        let mut ends = path.match_indices('.').map(|(at, _)| at).chain(Some(path.len()));
        let (end, to) = ends.find_map(|end| Some((end, self.aliases.get(&path[..end])?)))?;
        let renamed = format!("{to}{}", &path[end..]);
        Some(self.canonical(&renamed).unwrap_or(renamed))
    }
}

static BUILT_IN: LazyLock<Library> = LazyLock::new(|| {
    parse::parse(&[
        include_str!("../resources/library/builtins.api"),
        include_str!("../resources/library/stdlib.api"),
        include_str!("../resources/library/third_party.api"),
        include_str!("../resources/library/databases.api"),
        include_str!("../resources/library/formats.api"),
        include_str!("../resources/library/network.api"),
        include_str!("../resources/library/web.api"),
    ])
    .expect("a test parses the built-in library")
});

/// The libraries of one analysis: a user's entries go before the built-in ones.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Libraries<'a> {
    own: Option<&'a Library>,
}

impl<'a> Libraries<'a> {
    pub(crate) fn new(own: Option<&'a Library>) -> Self {
        Self { own }
    }

    fn all(self) -> impl Iterator<Item = &'a Library> {
        self.own.into_iter().chain(Some(&*BUILT_IN))
    }

    /// The API of a dotted path.
    pub(crate) fn find(self, path: &str) -> Option<&'a Api> {
        self.all().find_map(|library| library.find(path))
    }

    /// The API of a method, whatever its receiver is.
    pub(crate) fn find_method(self, name: &str) -> Option<&'a Api> {
        self.all().find_map(|library| library.methods.get(name))
    }

    /// Whether attributes of objects of this path may be known.
    pub(crate) fn has_attributes(self, path: &str) -> bool {
        let known = |library: &Library| {
            library.owners.contains(path)
                || library.canonical(path).is_some_and(|path| library.owners.contains(path.as_str()))
        };
        self.all().any(known)
    }

    /// Whether members of a module are known.
    pub(crate) fn is_module(self, name: &str) -> bool {
        self.all().any(|library| library.modules.contains(name))
    }
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
    "cherrypy",
    "twisted",
    "websockets",
    "channels",
    "autobahn",
    "gradio",
    "strawberry",
    "ariadne",
    "graphene",
    "grpc",
    "jsonrpcserver",
    "flask_socketio",
    "socketio",
    "mcp",
    "fastmcp",
    "dash",
    "nicegui",
];

/// Frameworks with the last names of their decorators, called or not, that make a function answer whoever is connected. The names are too
/// common to mean this where the framework is not imported.
pub(crate) const REMOTE_DECORATORS: &[(&str, &[&str])] = &[
    ("strawberry", &["field", "mutation", "subscription"]),
    ("ariadne", &["field"]),
    ("jsonrpcserver", &["method"]),
    ("flask_socketio", &["on", "event"]),
    ("socketio", &["on", "event"]),
    ("mcp", &["tool", "resource", "prompt"]),
    ("fastmcp", &["tool", "resource", "prompt"]),
    ("dash", &["callback"]),
    ("nicegui", &["page"]),
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
    "IPv4Address",
    "ipaddress.IPv4Address",
    "PositiveInt",
    "NonNegativeInt",
    "StrictInt",
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
pub(crate) const ROUTE_DECORATORS: &[&str] = &[
    "route",
    "get",
    "post",
    "put",
    "delete",
    "patch",
    "websocket",
    "api_route",
    "view_config",
    "api_view",
    "expose",
    "errorhandler",
    "app_errorhandler",
    "exception_handler",
];

/// Those of them whose functions are given an exception.
pub(crate) const ERROR_DECORATORS: &[&str] = &["errorhandler", "app_errorhandler", "exception_handler"];

/// Last names of functions that are given functions to answer requests.
pub(crate) const ROUTE_REGISTRARS: &[&str] = &[
    "add_url_rule",
    "add_route",
    "add_get",
    "add_post",
    "add_put",
    "add_delete",
    "add_patch",
    "add_view",
    "add_api_route",
    "add_websocket_route",
    "start_server",
    "start_unix_server",
    "register_function",
    "path",
    "re_path",
    "url",
    "Route",
    "WebSocketRoute",
    "APIRoute",
];

/// Methods of a view that answer requests.
pub(crate) const VIEW_METHODS: &[&str] = &[
    "get",
    "post",
    "put",
    "delete",
    "patch",
    "head",
    "options",
    "dispatch",
    "dispatch_request",
    "list",
    "create",
    "retrieve",
    "update",
    "destroy",
    "partial_update",
    "GET",
    "POST",
    "PUT",
    "DELETE",
    "HEAD",
    "on_message",
    "open",
    "on_receive",
    "onMessage",
    "receive",
    "receive_json",
    "data_received",
    "datagram_received",
    "mutate",
];

/// Endings of the names of classes that are views.
pub(crate) const VIEW_CLASSES: &[&str] = &[
    "View",
    "ViewSet",
    "RequestHandler",
    "MethodView",
    "Resource",
    "Endpoint",
    "WebSocketHandler",
    "BaseHandler",
    "APIView",
    "HTTPEndpoint",
    "Consumer",
    "ServerProtocol",
    "asyncio.Protocol",
    "DatagramProtocol",
    "Servicer",
    "graphene.ObjectType",
    "graphene.Mutation",
];

/// Libraries whose commands are functions: the command line is their arguments.
pub(crate) const COMMAND_LINES: &[&str] = &["click", "typer", "asyncclick", "rich_click"];

/// Libraries that read the command line.
pub(crate) const COMMAND_LINE_PARSERS: &[&str] = &[
    "argparse",
    "optparse",
    "getopt",
    "click",
    "typer",
    "asyncclick",
    "rich_click",
    "docopt",
    "fire",
    "absl",
];

/// What names that nothing binds usually stand for, in a part of a program that has lost its imports.
pub(crate) const USUAL_NAMES: &[(&str, &str)] = &[
    ("etree", "lxml.etree"),
    ("ET", "xml.etree.ElementTree"),
    ("minidom", "xml.dom.minidom"),
    ("np", "numpy"),
    ("pd", "pandas"),
    ("Popen", "subprocess.Popen"),
    ("check_output", "subprocess.check_output"),
    ("check_call", "subprocess.check_call"),
    ("urlopen", "urllib.request.urlopen"),
    ("urlparse", "urllib.parse.urlparse"),
    ("urljoin", "urllib.parse.urljoin"),
    ("Path", "pathlib.Path"),
    ("Template", "jinja2.Template"),
    ("Markup", "markupsafe.Markup"),
    ("secure_filename", "werkzeug.utils.secure_filename"),
    ("AES", "Crypto.Cipher.AES"),
    ("DES", "Crypto.Cipher.DES"),
];

/// Parts of a request that map names to texts.
pub(crate) const TEXT_PARTS: &[&str] = &[
    "args",
    "form",
    "values",
    "cookies",
    "headers",
    "GET",
    "POST",
    "COOKIES",
    "META",
    "query_params",
    "path_params",
    "view_args",
    "match_info",
];

/// A file that a client sent: its name and content are the client's, but it is no name itself.
pub(crate) const UPLOAD: &str = "web.upload";
/// All of them.
pub(crate) const UPLOADS: &str = "web.uploads";

/// `io.StringIO()`, `io.BytesIO()`: a file in memory, whose text is what was written so far.
pub(crate) const BUFFER: &str = "io.StringIO";

/// Clients of databases of documents.
pub(crate) const DOCUMENT_STORES: &[&str] = &["pymongo", "flask_pymongo", "motor"];

/// What a parser of command lines gives: its attributes are the options.
pub(crate) const NAMESPACE: &str = "argparse.Namespace";

/// Frameworks in which a text that a view returns is a page. In others it becomes JSON, or nothing.
pub(crate) const PAGE_FRAMEWORKS: &[&str] =
    &["flask", "bottle", "quart", "cherrypy", "web", "flask_restful", "twisted"];
