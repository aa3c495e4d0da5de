//! Web frameworks.

use super::Concept::{Html, Path, Redirect, Sql, Template};
use super::Origin::Request;
use super::Returns::{Clean, HtmlEscaped, Made, Masked, Mixed, Object, Same, Source};
use super::{Api, Slot, api, sink, slot};
use crate::text::Mask;

const FIRST: Slot = slot(0, "");

pub(super) const APIS: &[Api] = &[
    api("flask.request", Source(Request, "the request")),
    // A name that nothing binds: the snippet was cut out of a program.
    api("builtins.request", Source(Request, "the request")),
    api("bottle.request", Source(Request, "the request")),
    api("cgi.FieldStorage", Source(Request, "the form")),
    api("quart.request", Source(Request, "the request")),
    api("sanic.request", Source(Request, "the request")),
    api("flask.jsonify", Clean),
    api("flask.url_for", Clean),
    api("flask.render_template", Clean),
    api("flask.abort", Clean),
    api("flask.Flask", Object("flask.Flask")),
    sink("flask.render_template_string", Mixed, &[(Template, slot(0, "source"))]),
    sink("flask.make_response", Made("flask.Response"), &[(Html, FIRST)]),
    sink("flask.Response", Made("flask.Response"), &[(Html, slot(0, "response"))]),
    sink("flask.Markup", Same, &[(Html, FIRST)]),
    api("flask.escape", HtmlEscaped),
    sink("flask.redirect", Clean, &[(Redirect, slot(0, "location"))]),
    sink("flask.send_file", Clean, &[(Path, FIRST)]),
    api("flask.send_from_directory", Clean),
    sink("werkzeug.utils.redirect", Clean, &[(Redirect, slot(0, "location"))]),
    api(
        "werkzeug.utils.secure_filename",
        Masked(Mask::ascii(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-")),
    ),
    sink("bottle.redirect", Clean, &[(Redirect, FIRST)]),
    sink("django.http.HttpResponse", Clean, &[(Html, slot(0, "content"))]),
    sink("django.http.HttpResponseRedirect", Clean, &[(Redirect, FIRST)]),
    sink("django.http.HttpResponsePermanentRedirect", Clean, &[(Redirect, FIRST)]),
    api("django.http.JsonResponse", Clean),
    sink("django.shortcuts.redirect", Clean, &[(Redirect, FIRST)]),
    api("django.shortcuts.render", Clean),
    sink("django.utils.safestring.mark_safe", Same, &[(Html, FIRST)]),
    api("django.utils.html.escape", HtmlEscaped),
    api("django.utils.html.conditional_escape", HtmlEscaped),
    sink("django.db.models.expressions.RawSQL", Clean, &[(Sql, FIRST)]),
    sink("fastapi.responses.HTMLResponse", Clean, &[(Html, slot(0, "content"))]),
    sink("fastapi.responses.RedirectResponse", Clean, &[(Redirect, slot(0, "url"))]),
    sink("fastapi.responses.FileResponse", Clean, &[(Path, slot(0, "path"))]),
    sink("aiohttp.web.HTTPFound", Clean, &[(Redirect, slot(0, "location"))]),
    api("bleach.clean", HtmlEscaped),
    api("tornado.escape.xhtml_escape", HtmlEscaped),
];
