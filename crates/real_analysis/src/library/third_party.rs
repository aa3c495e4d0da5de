//! Other packages.

use super::Concept::{Code, Deserialize, Document, Ldap, Shell, Sql, Template, Url, XPath, Xml};
use super::Returns::{Clean, Masked, Mixed, Object, Same};
use super::{Api, Slot, api, sink, slot};
use crate::text::Mask;

const FIRST: Slot = slot(0, "");
/// Everything but what means something in a filter.
const LDAP_SAFE: Mask = Mask::ANY.minus(Mask::ascii(b"*()"));

pub(super) const APIS: &[Api] = &[
    // YAML: `load` is dangerous only with a loader that makes objects, which the call decides.
    sink("yaml.load", Mixed, &[(Deserialize, slot(0, "stream"))]),
    sink("yaml.load_all", Mixed, &[(Deserialize, slot(0, "stream"))]),
    sink("yaml.unsafe_load", Mixed, &[(Deserialize, slot(0, "stream"))]),
    sink("yaml.unsafe_load_all", Mixed, &[(Deserialize, slot(0, "stream"))]),
    api("yaml.safe_load", Mixed),
    sink("jsonpickle.decode", Mixed, &[(Deserialize, FIRST)]),
    sink("joblib.load", Mixed, &[(Deserialize, FIRST)]),
    sink("pandas.read_pickle", Mixed, &[(Deserialize, FIRST)]),
    sink("torch.load", Mixed, &[(Deserialize, FIRST)]),
    // Databases.
    sink("sqlalchemy.text", Same, &[(Sql, FIRST)]),
    sink("sqlalchemy.sql.text", Same, &[(Sql, FIRST)]),
    sink("pandas.read_sql", Clean, &[(Sql, slot(0, "sql"))]),
    sink("pandas.read_sql_query", Clean, &[(Sql, slot(0, "sql"))]),
    sink(".exec_driver_sql", Clean, &[(Sql, FIRST)]),
    api("psycopg2.connect", Object("psycopg2.connect")),
    api("pymysql.connect", Object("pymysql.connect")),
    api("mysql.connector.connect", Object("mysql.connector.connect")),
    // Commands.
    sink("paramiko.SSHClient.exec_command", Clean, &[(Shell, FIRST)]),
    api("paramiko.SSHClient", Object("paramiko.SSHClient")),
    sink("pexpect.spawn", Clean, &[(Shell, FIRST)]),
    sink("pexpect.run", Clean, &[(Shell, FIRST)]),
    // Code.
    sink("pandas.eval", Clean, &[(Code, FIRST)]),
    sink("numexpr.evaluate", Clean, &[(Code, FIRST)]),
    // Templates.
    sink("jinja2.Template", Object("jinja2.Template"), &[(Template, slot(0, "source"))]),
    api("jinja2.Environment", Object("jinja2.Environment")),
    sink("jinja2.Environment.from_string", Object("jinja2.Template"), &[(Template, slot(0, "source"))]),
    sink("mako.template.Template", Object("mako.template.Template"), &[(Template, FIRST)]),
    // XML.
    sink("lxml.etree.fromstring", Mixed, &[(Xml, FIRST)]),
    sink("lxml.etree.XML", Mixed, &[(Xml, FIRST)]),
    sink("lxml.etree.parse", Mixed, &[(Xml, FIRST)]),
    sink("lxml.etree.iterparse", Mixed, &[(Xml, FIRST)]),
    sink("lxml.etree.XPath", Object("lxml.etree.XPath"), &[(XPath, FIRST)]),
    sink(".xpath", Clean, &[(XPath, FIRST)]),
    sink("elementpath.select", Clean, &[(XPath, slot(1, "path"))]),
    sink(".xslt", Mixed, &[(Xml, FIRST)]),
    // Directories.
    sink(".search_s", Clean, &[(Ldap, FIRST), (Ldap, slot(2, "filterstr"))]),
    sink(".search_ext_s", Clean, &[(Ldap, FIRST), (Ldap, slot(2, "filterstr"))]),
    sink(
        "ldap3.Connection.search",
        Clean,
        &[(Ldap, slot(0, "search_base")), (Ldap, slot(1, "search_filter"))],
    ),
    api("ldap3.Connection", Object("ldap3.Connection")),
    api("ldap.filter.escape_filter_chars", Masked(LDAP_SAFE)),
    api("ldap.dn.escape_dn_chars", Masked(LDAP_SAFE)),
    api("ldap3.utils.conv.escape_filter_chars", Masked(LDAP_SAFE)),
    api("ldap3.utils.dn.escape_rdn", Masked(LDAP_SAFE)),
    // Databases of documents.
    sink(".find_one", Clean, &[(Document, FIRST)]),
    sink(".find_one_and_update", Clean, &[(Document, FIRST)]),
    sink(".delete_one", Clean, &[(Document, FIRST)]),
    sink(".delete_many", Clean, &[(Document, FIRST)]),
    sink(".update_one", Clean, &[(Document, FIRST)]),
    sink(".update_many", Clean, &[(Document, FIRST)]),
    // The network.
    sink("requests.get", Clean, &[(Url, slot(0, "url"))]),
    sink("requests.post", Clean, &[(Url, slot(0, "url"))]),
    sink("requests.put", Clean, &[(Url, slot(0, "url"))]),
    sink("requests.delete", Clean, &[(Url, slot(0, "url"))]),
    sink("requests.head", Clean, &[(Url, slot(0, "url"))]),
    sink("requests.patch", Clean, &[(Url, slot(0, "url"))]),
    sink("requests.request", Clean, &[(Url, slot(1, "url"))]),
    sink("httpx.get", Clean, &[(Url, slot(0, "url"))]),
    sink("httpx.post", Clean, &[(Url, slot(0, "url"))]),
];
