//! Calls that switch protection off, or do not switch it on.
//!
//! An entry names an argument and the value (or the absence) that matters. It is data like the other tables: what the
//! setting means is the concept's business.

use super::{Slot, slot};

/// What a setting does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Posture {
    /// The other side's certificate is not checked.
    UnverifiedPeer,
    /// A token's signature is not checked.
    UnverifiedToken,
    /// A key is too short.
    WeakKey,
    /// A password is hashed too few times.
    FewRounds,
    /// A protocol or mode that is broken is asked for.
    OldProtocol,
    /// A file's name is known before the file exists.
    GuessableFile,
    /// Everybody on the machine may change or read a file.
    OpenPermissions,
    /// A cookie is sent over connections that are not encrypted.
    PlainCookie,
    /// A cookie that says who somebody is can be read by scripts.
    ReadableCookie,
    /// Errors show the program's insides, and a console.
    DebugMode,
    /// A document's entities are fetched and put in place.
    ExternalEntities,
    /// Members of an archive are written where they say.
    UncheckedArchive,
    /// Requests of foreign pages are answered.
    ForeignRequests,
    /// Templates do not escape what they are given.
    NoEscaping,
    /// The initialization vector is the same each time.
    ConstantVector,
    /// Secrets are sent over a connection that is not encrypted.
    PlainText,
}

/// When a setting matters.
#[derive(Debug, Clone, Copy)]
pub(crate) enum When {
    /// The API is called at all.
    Called,
    True,
    False,
    /// Neither given nor true.
    NotTrue,
    Absent,
    /// A number below this.
    Below(i64),
    /// A constant number with one of these bits.
    Bits(i64),
    /// One of these constants, or something of the library that ends in one.
    Is(&'static [&'static str]),
    /// Bytes or text that the program itself spells out.
    Constant,
    /// Something that an outsider chose.
    Tainted,
    /// A dictionary in which this key is false.
    KeyFalse(&'static str),
}

/// A dangerous setting of an API. A path that begins with `=` is an assignment to an attribute of that name.
#[derive(Debug, Clone)]
pub(crate) struct Setting {
    pub(crate) path: &'static str,
    pub(crate) slot: Slot,
    pub(crate) when: When,
    pub(crate) posture: Posture,
}

const fn setting(path: &'static str, slot: Slot, when: When, posture: Posture) -> Setting {
    Setting { path, slot, when, posture }
}

const NO_SLOT: Slot = slot(usize::MAX - 1, "");
const VERIFY: Slot = slot(usize::MAX - 1, "verify");
const FIRST: Slot = slot(0, "");
const OLD_TLS: When = When::Is(&["PROTOCOL_SSLv2", "PROTOCOL_SSLv3", "PROTOCOL_TLSv1", "PROTOCOL_TLSv1_1"]);
const OLD_VERSION: When = When::Is(&["SSLv2", "SSLv3", "TLSv1", "TLSv1_1", "MINIMUM_SUPPORTED"]);
/// Write permission for everybody, or for a group.
const OTHERS_WRITE: When = When::Bits(0o022);

use Posture::{
    ConstantVector, DebugMode, ExternalEntities, FewRounds, ForeignRequests, GuessableFile, NoEscaping,
    OldProtocol, OpenPermissions, PlainCookie, PlainText, ReadableCookie, UncheckedArchive, UnverifiedPeer,
    UnverifiedToken, WeakKey,
};

/// All settings.
pub(crate) const SETTINGS: &[Setting] = &[
    setting("requests.get", VERIFY, When::False, UnverifiedPeer),
    setting("requests.post", VERIFY, When::False, UnverifiedPeer),
    setting("requests.put", VERIFY, When::False, UnverifiedPeer),
    setting("requests.patch", VERIFY, When::False, UnverifiedPeer),
    setting("requests.delete", VERIFY, When::False, UnverifiedPeer),
    setting("requests.head", VERIFY, When::False, UnverifiedPeer),
    setting("requests.options", VERIFY, When::False, UnverifiedPeer),
    setting("requests.request", VERIFY, When::False, UnverifiedPeer),
    setting("requests.Session.get", VERIFY, When::False, UnverifiedPeer),
    setting("requests.Session.post", VERIFY, When::False, UnverifiedPeer),
    setting("httpx.get", VERIFY, When::False, UnverifiedPeer),
    setting("httpx.post", VERIFY, When::False, UnverifiedPeer),
    setting("httpx.request", VERIFY, When::False, UnverifiedPeer),
    setting("httpx.Client", VERIFY, When::False, UnverifiedPeer),
    setting("httpx.AsyncClient", VERIFY, When::False, UnverifiedPeer),
    setting("requests.Session.put", VERIFY, When::False, UnverifiedPeer),
    setting("requests.Session.patch", VERIFY, When::False, UnverifiedPeer),
    setting("requests.Session.delete", VERIFY, When::False, UnverifiedPeer),
    setting("requests.Session.head", VERIFY, When::False, UnverifiedPeer),
    setting("requests.Session.request", VERIFY, When::False, UnverifiedPeer),
    setting("=verify", FIRST, When::False, UnverifiedPeer),
    setting("httpx.put", VERIFY, When::False, UnverifiedPeer),
    setting("httpx.patch", VERIFY, When::False, UnverifiedPeer),
    setting("httpx.delete", VERIFY, When::False, UnverifiedPeer),
    setting("httpx.head", VERIFY, When::False, UnverifiedPeer),
    setting("httpx.stream", VERIFY, When::False, UnverifiedPeer),
    setting("aiohttp.ClientSession.get", slot(usize::MAX - 1, "ssl"), When::False, UnverifiedPeer),
    setting("aiohttp.ClientSession.post", slot(usize::MAX - 1, "ssl"), When::False, UnverifiedPeer),
    setting("aiohttp.ClientSession.get", slot(usize::MAX - 1, "verify_ssl"), When::False, UnverifiedPeer),
    setting("aiohttp.ClientSession.post", slot(usize::MAX - 1, "verify_ssl"), When::False, UnverifiedPeer),
    setting(
        "urllib3.HTTPSConnectionPool",
        slot(usize::MAX - 1, "cert_reqs"),
        When::Is(&["CERT_NONE"]),
        UnverifiedPeer,
    ),
    setting("aiohttp.TCPConnector", slot(usize::MAX - 1, "ssl"), When::False, UnverifiedPeer),
    setting("aiohttp.TCPConnector", slot(usize::MAX - 1, "verify_ssl"), When::False, UnverifiedPeer),
    setting(
        "urllib3.PoolManager",
        slot(usize::MAX - 1, "cert_reqs"),
        When::Is(&["CERT_NONE"]),
        UnverifiedPeer,
    ),
    setting("ssl._create_unverified_context", NO_SLOT, When::Called, UnverifiedPeer),
    setting("ssl.wrap_socket", slot(3, "cert_reqs"), When::Absent, UnverifiedPeer),
    setting("ssl.wrap_socket", slot(3, "cert_reqs"), When::Is(&["CERT_NONE"]), UnverifiedPeer),
    setting("=check_hostname", FIRST, When::False, UnverifiedPeer),
    setting("=verify_mode", FIRST, When::Is(&["ssl.CERT_NONE"]), UnverifiedPeer),
    setting(
        ".set_missing_host_key_policy",
        FIRST,
        When::Is(&["AutoAddPolicy", "WarningPolicy"]),
        UnverifiedPeer,
    ),
    setting("smtplib.SMTP.starttls", slot(2, "context"), When::Absent, UnverifiedPeer),
    setting("smtplib.SMTP_SSL", slot(5, "context"), When::Absent, UnverifiedPeer),
    setting("imaplib.IMAP4_SSL", slot(4, "ssl_context"), When::Absent, UnverifiedPeer),
    setting("poplib.POP3_SSL", slot(4, "context"), When::Absent, UnverifiedPeer),
    setting("ftplib.FTP_TLS", slot(4, "context"), When::Absent, UnverifiedPeer),
    setting("ssl.SSLContext", slot(0, "protocol"), OLD_TLS, OldProtocol),
    setting("ssl.wrap_socket", slot(4, "ssl_version"), OLD_TLS, OldProtocol),
    setting("jwt.decode", slot(2, "algorithms"), When::Tainted, UnverifiedToken),
    setting("jose.jwt.decode", slot(2, "algorithms"), When::Tainted, UnverifiedToken),
    setting("=minimum_version", FIRST, OLD_VERSION, OldProtocol),
    setting("ssl.wrap_socket", slot(4, "ssl_version"), When::Absent, OldProtocol),
    setting("jwt.decode", VERIFY, When::False, UnverifiedToken),
    setting(
        "jwt.decode",
        slot(usize::MAX - 1, "options"),
        When::KeyFalse("verify_signature"),
        UnverifiedToken,
    ),
    setting("jwt.decode", slot(2, "algorithms"), When::Is(&["none"]), UnverifiedToken),
    setting(
        "jose.jwt.decode",
        slot(usize::MAX - 1, "options"),
        When::KeyFalse("verify_signature"),
        UnverifiedToken,
    ),
    setting("jose.jwt.get_unverified_claims", NO_SLOT, When::Called, UnverifiedToken),
    setting("Crypto.PublicKey.RSA.generate", slot(0, "bits"), When::Below(2048), WeakKey),
    setting("Cryptodome.PublicKey.RSA.generate", slot(0, "bits"), When::Below(2048), WeakKey),
    setting("Crypto.PublicKey.DSA.generate", slot(0, "bits"), When::Below(2048), WeakKey),
    setting("rsa.newkeys", slot(0, "nbits"), When::Below(2048), WeakKey),
    setting(
        "cryptography.hazmat.primitives.asymmetric.rsa.generate_private_key",
        slot(1, "key_size"),
        When::Below(2048),
        WeakKey,
    ),
    setting(
        "cryptography.hazmat.primitives.asymmetric.dsa.generate_private_key",
        slot(0, "key_size"),
        When::Below(2048),
        WeakKey,
    ),
    setting(
        "cryptography.hazmat.primitives.asymmetric.ec.generate_private_key",
        slot(0, "curve"),
        When::Is(&["SECP192R1", "SECT163K1", "SECT163R2"]),
        WeakKey,
    ),
    setting("elasticsearch.Elasticsearch", slot(usize::MAX - 1, "verify_certs"), When::False, UnverifiedPeer),
    setting("boto3.client", slot(usize::MAX - 1, "verify"), When::False, UnverifiedPeer),
    setting("boto3.resource", slot(usize::MAX - 1, "verify"), When::False, UnverifiedPeer),
    setting("hvac.Client", slot(usize::MAX - 1, "verify"), When::False, UnverifiedPeer),
    setting(
        "pymongo.MongoClient",
        slot(usize::MAX - 1, "tlsAllowInvalidCertificates"),
        When::True,
        UnverifiedPeer,
    ),
    setting("ldap3.Tls", slot(usize::MAX - 1, "validate"), When::Is(&["ssl.CERT_NONE"]), UnverifiedPeer),
    setting("Crypto.Protocol.KDF.PBKDF2", slot(3, "count"), When::Below(100_000), FewRounds),
    setting("Cryptodome.Protocol.KDF.PBKDF2", slot(3, "count"), When::Below(100_000), FewRounds),
    setting(
        "cryptography.hazmat.primitives.kdf.pbkdf2.PBKDF2HMAC",
        slot(3, "iterations"),
        When::Below(100_000),
        FewRounds,
    ),
    setting("bcrypt.gensalt", slot(0, "rounds"), When::Below(10), FewRounds),
    setting("hashlib.pbkdf2_hmac", slot(3, "iterations"), When::Below(100_000), FewRounds),
    setting("Crypto.Cipher.AES.new", slot(2, "iv"), When::Constant, ConstantVector),
    setting("Crypto.Cipher.AES.new", slot(2, "IV"), When::Constant, ConstantVector),
    setting("Cryptodome.Cipher.AES.new", slot(2, "iv"), When::Constant, ConstantVector),
    setting("cryptography.hazmat.primitives.ciphers.modes.CBC", FIRST, When::Constant, ConstantVector),
    setting("tempfile.mktemp", NO_SLOT, When::Called, GuessableFile),
    setting("os.tempnam", NO_SLOT, When::Called, GuessableFile),
    setting("os.tmpnam", NO_SLOT, When::Called, GuessableFile),
    setting("os.chmod", slot(1, "mode"), OTHERS_WRITE, OpenPermissions),
    setting("os.fchmod", slot(1, "mode"), OTHERS_WRITE, OpenPermissions),
    setting("pathlib.Path.chmod", slot(0, "mode"), OTHERS_WRITE, OpenPermissions),
    setting("os.umask", FIRST, When::Below(1), OpenPermissions),
    setting(".set_cookie", slot(6, "secure"), When::NotTrue, PlainCookie),
    setting(".set_cookie", slot(7, "httponly"), When::NotTrue, ReadableCookie),
    setting(
        "starlette.middleware.sessions.SessionMiddleware",
        slot(usize::MAX - 1, "https_only"),
        When::NotTrue,
        PlainCookie,
    ),
    setting("=SESSION_COOKIE_SECURE", FIRST, When::False, PlainCookie),
    setting("=CSRF_COOKIE_SECURE", FIRST, When::False, PlainCookie),
    setting("=SESSION_COOKIE_HTTPONLY", FIRST, When::False, PlainCookie),
    setting("=WTF_CSRF_ENABLED", FIRST, When::False, ForeignRequests),
    setting("=WTF_CSRF_CHECK_DEFAULT", FIRST, When::False, ForeignRequests),
    setting("=flask.Flask.debug", FIRST, When::True, DebugMode),
    setting("ftplib.FTP", NO_SLOT, When::Called, PlainText),
    setting("telnetlib.Telnet", NO_SLOT, When::Called, PlainText),
    setting("flask.Flask.run", slot(2, "debug"), When::True, DebugMode),
    setting("bottle.run", slot(usize::MAX - 1, "debug"), When::True, DebugMode),
    setting("lxml.etree.XMLParser", slot(usize::MAX - 1, "resolve_entities"), When::True, ExternalEntities),
    setting("lxml.etree.XMLParser", slot(usize::MAX - 1, "load_dtd"), When::True, ExternalEntities),
    setting("lxml.etree.XMLParser", slot(usize::MAX - 1, "no_network"), When::False, ExternalEntities),
    setting(".setFeature", FIRST, When::Is(&["feature_external_ges"]), ExternalEntities),
    setting("tarfile.open.extractall", slot(usize::MAX - 1, "filter"), When::Absent, UncheckedArchive),
    setting("tarfile.TarFile.extractall", slot(usize::MAX - 1, "filter"), When::Absent, UncheckedArchive),
    setting(
        "tarfile.open.extractall",
        slot(usize::MAX - 1, "filter"),
        When::Is(&["fully_trusted"]),
        UncheckedArchive,
    ),
    setting(
        "tornado.httpclient.HTTPRequest",
        slot(usize::MAX - 1, "validate_cert"),
        When::False,
        UnverifiedPeer,
    ),
    setting("functools.partial", VERIFY, When::False, UnverifiedPeer),
    setting("tarfile.open.extract", slot(usize::MAX - 1, "filter"), When::Absent, UncheckedArchive),
    setting("django.views.decorators.csrf.csrf_exempt", NO_SLOT, When::Called, ForeignRequests),
    setting("jinja2.Environment", slot(usize::MAX - 1, "autoescape"), When::NotTrue, NoEscaping),
];
