//! A URL is handed on, and its host is not compared with those that the program trusts (CWE-601, CWE-918).
//!
//! Whether a browser is sent to the URL or the server fetches it is up to whoever calls the function; that the host should
//! have been checked, the program says itself: it has a list of hosts, and nothing reads it.

use super::body::Body;
use super::stores::Content;
use super::{Scene, report};
use crate::eval::Report;
use crate::ir::{FunctionId, Op, Terminator};
use crate::rules::Weakness;

const URL_FUNCTIONS: &[&str] = &["urlparse", "urlsplit", "urljoin", "urlunparse", "urlunsplit", "urlencode"];

pub(super) fn check(scene: &Scene<'_>, function: FunctionId, reports: &mut Vec<Report>) {
    if !scene.stores.any(|store| store.content == Content::Hosts && !store.read) {
        return;
    }
    let body = scene.body(function);
    if !handles_url(body) {
        return;
    }
    let returned = body.order.iter().find_map(|block| match body.function.blocks[block.index()].terminator {
        Terminator::Return(value) if body.params_of(value) != 0 => Some(value),
        _ => None,
    });
    if let Some(value) = returned.filter(|value| !matches!(body.op(*value), Op::Compare { .. })) {
        let range = body.function.insts[value.index()].range;
        let message = "a URL is handed on, and the list of trusted hosts is unused".to_owned();
        reports.push(report(Weakness::UncheckedHost, range, message, 0.75));
    }
}

/// Whether a parameter is taken apart or put together as a URL.
fn handles_url(body: &Body<'_>) -> bool {
    body.insts().any(|(_, op)| match op {
        Op::Call { callee, args } => {
            let path = body.import_path(*callee).unwrap_or_default();
            let is_function = path.rsplit('.').next().is_some_and(|name| URL_FUNCTIONS.contains(&name));
            is_function && path.starts_with("url") && args.iter().any(|arg| body.params_of(arg.value) != 0)
        }
        _ => false,
    })
}
