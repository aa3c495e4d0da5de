//! Fields of a record are set under names that the caller chooses (CWE-915).
//!
//! Two mappings are merged for many good reasons, so the caller's mapping has to be more than that: data of a program that keeps a list
//! of allowed fields and does not ask it, or the body of a request, given whole to something that makes a record.

use super::body::{Body, Params};
use super::stores::Content;
use super::{Scene, has_word, report};
use crate::eval::Report;
use crate::ir::{Arg, ArgKind, BinaryOp, CompareOp, FunctionId, Op, ParamKind, Symbol, ValueId};
use crate::names::snake_case;
use crate::rules::Weakness;

pub(super) fn check(scene: &Scene<'_>, function: FunctionId, reports: &mut Vec<Report>) {
    let body = scene.body(function);
    for (id, op) in body.insts() {
        if binds_request(scene, body, id, op) {
            let range = body.function.insts[id.index()].range;
            let message = "the request decides which fields are set";
            reports.push(report(Weakness::MassAssignment, range, message.to_owned(), 0.7));
            return;
        }
        if sets_any_attribute(scene, body, id, op) {
            let range = body.function.insts[id.index()].range;
            let message = "every attribute can be set, under names of the caller's choice";
            reports.push(report(Weakness::MassAssignment, range, message.to_owned(), 0.6));
            return;
        }
        if let Some(data) = assigned_at_will(body, id, op)
            && has_unasked_list(scene, body, data)
        {
            let range = body.function.insts[id.index()].range;
            let message =
                "fields are set under names of the caller's choice, and the list of allowed ones is unused";
            reports.push(report(Weakness::MassAssignment, range, message.to_owned(), 0.75));
            return;
        }
    }
}

/// `User(**request.json)`, `setattr(user, key, value)` for each key of a request.
fn binds_request(scene: &Scene<'_>, body: &Body<'_>, id: ValueId, op: &Op) -> bool {
    let Op::Call { callee, args } = op else { return false };
    let is_data = |value: ValueId| is_request_data(body, value);
    match (body.method(*callee), body.builtin(*callee), &args[..]) {
        (_, Some("setattr"), [_, key, _]) => {
            body.mentions(key.value, is_data) && !is_checked(body, id, key.value)
        }
        (Some((fields, "update")), _, [data]) if data.kind == ArgKind::Positional => {
            is_data(data.value) && (holds_attributes(body, fields) || is_query(body, fields))
        }
        _ => {
            let spreads = |arg: &Arg| arg.kind == ArgKind::DoubleStar && is_data(arg.value);
            makes_record(scene, body, *callee) && args.iter().any(spreads)
        }
    }
}

/// `setattr(user, key, value)` for every entry of a parameter, `User(**data)` of a parameter where a field of the class is a privilege.
fn sets_any_attribute(scene: &Scene<'_>, body: &Body<'_>, id: ValueId, op: &Op) -> bool {
    let Op::Call { callee, args } = op else { return false };
    let is_whole = |value: ValueId| matches!(body.op(value), Op::Param(_)) && is_data(body, value);
    match (body.builtin(*callee), body.op(*callee), &args[..]) {
        (Some("setattr"), _, [object, key, _]) => {
            matches!(body.op(object.value), Op::Param(_))
                && is_record(body, object.value)
                && body.params_of(object.value) & body.params_of(key.value) == 0
                && is_entry(body, key.value)
                && is_data(body, key.value)
                && !is_checked(body, id, key.value)
        }
        (None, Op::Global(name), _) => {
            let is_it = |class: &&crate::ir::Class| class.name == *name;
            let privileged = scene.module.classes.iter().find(is_it).is_some_and(|class| {
                class.fields.iter().any(|field| has_word(&snake_case(scene.name(field.0)), PRIVILEGES))
            });
            privileged && args.iter().any(|arg| arg.kind == ArgKind::DoubleStar && is_whole(arg.value))
        }
        _ => false,
    }
}

/// A key of something that is iterated over.
fn is_entry(body: &Body<'_>, key: ValueId) -> bool {
    matches!(body.op(key), Op::Unpack { .. } | Op::Element(_))
}

/// `user.__dict__`, `vars(user)`: the attributes of an object as a dictionary.
fn holds_attributes(body: &Body<'_>, value: ValueId) -> bool {
    match body.op(value) {
        Op::Attribute { name, .. } => body.name(*name) == "__dict__",
        Op::Call { callee, args } => body.builtin(*callee) == Some("vars") && !args.is_empty(),
        _ => false,
    }
}

/// `User.query.filter_by(id=1)`: rows of a table, which `update` changes.
fn is_query(body: &Body<'_>, value: ValueId) -> bool {
    matches!(body.op(value), Op::Call { callee, .. }
        if body.method(*callee).is_some_and(|(_, name)| matches!(name, "filter" | "filter_by" | "where")))
}

/// Everything that a client sent as fields: `request.json`, `request.form.to_dict()`, `await request.json()`.
fn is_request_data(body: &Body<'_>, value: ValueId) -> bool {
    let is_request = |value: ValueId| match body.op(value) {
        Op::Param(index) => {
            let param = &body.function.params[*index as usize];
            matches!(body.name(param.name), "request" | "req")
        }
        Op::Attribute { name, .. } => body.name(*name) == "request",
        _ => body.import_path(value).is_some_and(|path| path.ends_with(".request")),
    };
    match body.op(value) {
        Op::Attribute { object, name } => REQUEST_FIELDS.contains(&body.name(*name)) && is_request(*object),
        // `{**defaults, **request.json}`, `defaults | request.json`: what the client sent comes last.
        Op::Dict(pairs) => {
            pairs.last().is_some_and(|(key, value)| key.is_none() && is_request_data(body, *value))
        }
        Op::Binary { op: BinaryOp::Or, right, .. } => is_request_data(body, *right),
        Op::Call { callee, args } => match body.method(*callee) {
            Some((object, "get_json" | "json")) => is_request(object),
            Some((object, "to_dict" | "dict")) => is_request_data(body, object),
            _ => {
                let parses = body.import_path(*callee).is_some_and(|path| path == "json.loads");
                let is_body = |value: ValueId| {
                    matches!(body.op(value), Op::Attribute { object, name }
                    if matches!(body.name(*name), "body" | "data") && is_request(*object))
                };
                parses && args.iter().any(|arg| body.mentions(arg.value, is_body))
            }
        },
        _ => false,
    }
}

/// Attributes of a request that hold what the client sent.
const REQUEST_FIELDS: &[&str] = &["json", "form", "values", "args", "data", "POST", "GET", "query_params"];

/// Whether a call makes or changes a record: the class of one, or a method of an object-relational mapper. Classes that only describe what
/// may be sent check it.
fn makes_record(scene: &Scene<'_>, body: &Body<'_>, callee: ValueId) -> bool {
    if body.method(callee).is_some_and(|(_, name)| MAPPER_METHODS.contains(&name))
        || body.import_path(callee).is_some_and(|path| path == "dataclasses.replace")
    {
        return true;
    }
    let name = match body.op(callee) {
        Op::Global(name) | Op::Builtin(name) | Op::Attribute { name, .. } => body.name(*name),
        Op::Import(path) => body.name(*path).rsplit('.').next().unwrap_or_default(),
        _ => return false,
    };
    let class = scene.module.classes.iter().find(|class| scene.name(class.name) == name);
    let described = class.is_some_and(|class| {
        let is_privileged = |field: &(Symbol, _)| has_word(&snake_case(scene.name(field.0)), PRIVILEGES);
        !class.fields.is_empty() && !class.fields.iter().any(is_privileged)
    });
    name.starts_with(|first: char| first.is_ascii_uppercase())
        && !described
        && !has_word(&snake_case(name), DESCRIPTIONS)
}

const MAPPER_METHODS: &[&str] =
    &["create", "update", "insert", "values", "get_or_create", "update_or_create", "_replace"];

/// Words in the names of fields that decide what somebody may do.
const PRIVILEGES: &[&str] =
    &["admin", "role", "roles", "staff", "superuser", "permissions", "balance", "credit", "credits", "owner"];

/// Words in the names of classes that describe what may be sent.
const DESCRIPTIONS: &[&str] = &[
    "schema",
    "request",
    "form",
    "input",
    "in",
    "payload",
    "dto",
    "serializer",
    "params",
    "query",
    "create",
    "update",
    "config",
    "response",
    "error",
    "model",
    "validator",
    "args",
    "filter",
    "options",
    "settings",
];

/// The parameters whose data name the fields that an instruction sets, if nothing checks the names.
fn assigned_at_will(body: &Body<'_>, id: ValueId, op: &Op) -> Option<Params> {
    let (data, at_will) = match op {
        Op::Call { callee, args } => match (body.method(*callee), body.builtin(*callee), &args[..]) {
            (Some((object, "update")), _, [arg]) => {
                let whole = matches!(body.op(arg.value), Op::Param(_) | Op::Subscript { .. });
                let others = !(body.params_of(arg.value) | body.params_of(object));
                let at_will = whole
                    && is_record(body, object)
                    && is_data(body, arg.value)
                    && !is_privileged(body, id, others);
                (arg.value, at_will)
            }
            (_, Some("setattr"), [object, name, _]) => {
                (name.value, is_record(body, object.value) && is_free_key(body, id, name.value))
            }
            _ => return None,
        },
        Op::StoreSubscript { object, index, .. } => {
            (*index, is_record(body, *object) && is_free_key(body, id, *index))
        }
        _ => return None,
    };
    at_will.then(|| body.params_of(data))
}

/// Whether the program knows which fields may be set, and never asks: a list that nothing reads, or that this function reads for something
/// else than the data.
fn has_unasked_list(scene: &Scene<'_>, body: &Body<'_>, data: Params) -> bool {
    scene.stores.any(|store| store.content == Content::Words && !store.read)
        || body.insts().any(|(_, op)| {
            name(op).is_some_and(|list| is_list(scene, body, list) && !is_asked(body, list, data))
        })
}

/// The name that is read, if it is none of the function's.
fn name(op: &Op) -> Option<Symbol> {
    match op {
        Op::Global(name) | Op::Builtin(name) => Some(*name),
        _ => None,
    }
}

/// A list of words of the module, or a constant that the program looks things up in and has from elsewhere: `PERMITTED_FIELDS`.
fn is_list(scene: &Scene<'_>, body: &Body<'_>, list: Symbol) -> bool {
    let is_list = |value: ValueId| name(body.op(value)) == Some(list);
    let looks_up = |op: &Op| match op {
        Op::Compare { op: CompareOp::In | CompareOp::NotIn, right, .. } => is_list(*right),
        Op::Element(elements) => is_list(*elements),
        _ => false,
    };
    let text = body.name(list);
    let is_constant = text.chars().any(char::is_uppercase) && !text.chars().any(char::is_lowercase);
    match scene.stores.get(list) {
        Some(store) => store.content == Content::Words,
        None => is_constant && body.insts().any(|(_, op)| looks_up(op)),
    }
}

/// Whether something is computed from both the list and the data.
fn is_asked(body: &Body<'_>, list: Symbol, data: Params) -> bool {
    body.insts().any(|(_, op)| {
        let (mut of_list, mut of_data) = (false, false);
        op.operands(|operand| {
            if body.mentions(operand, |value| name(body.op(value)) == Some(list)) {
                of_list = true;
            } else {
                of_data |= body.params_of(operand) & data != 0;
            }
        });
        of_list && of_data
    })
}

/// A parameter, or something that outlives the call: not what the function made itself, nor the object that it belongs to.
fn is_record(body: &Body<'_>, value: ValueId) -> bool {
    match body.op(value) {
        Op::Param(index) => !body.is_receiver(*index),
        _ => body.path(value).is_some(),
    }
}

/// Data of the caller. Keyword arguments are named by code, not by data.
fn is_data(body: &Body<'_>, value: ValueId) -> bool {
    let params = body.params_of(value);
    let named_by_code = body.function.params.iter().position(|param| param.kind == ParamKind::KeywordRest);
    params != 0 && named_by_code.is_none_or(|index| params & (1 << index.min(63)) == 0)
}

/// A key that comes from iterating over a parameter, and that nothing checks.
fn is_free_key(body: &Body<'_>, id: ValueId, key: ValueId) -> bool {
    is_entry(body, key) && is_data(body, key) && !is_checked(body, id, key)
}

/// Whether a condition mentions the key. That the record has such an attribute is no limit.
fn is_checked(body: &Body<'_>, id: ValueId, key: ValueId) -> bool {
    let edges = body.control.all(body.block_of(id));
    let only_asks = |condition: ValueId| matches!(body.op(condition), Op::Call { callee, .. } if body.builtin(*callee) == Some("hasattr"));
    edges
        .into_iter()
        .filter_map(|edge| body.condition(edge))
        .any(|condition| !only_asks(condition) && body.mentions(condition, |v| v == key))
}

/// Whether this happens only when something else than the record and the data is true: the caller may set everything.
fn is_privileged(body: &Body<'_>, id: ValueId, others: Params) -> bool {
    let edges = body.control.all(body.block_of(id));
    edges
        .into_iter()
        .filter(|edge| edge.first)
        .filter_map(|edge| body.condition(edge))
        .any(|condition| body.params_of(condition) & others != 0)
}
