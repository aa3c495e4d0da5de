//! Routes that anybody may call, in a program whose other routes ask who is calling (CWE-862).
//!
//! ```python
//! @app.delete("/users/<int:user_id>")
//! @admin_required
//! def remove_user(user_id): ...
//!
//! @app.delete("/backups/<int:backup_id>")
//! def remove_backup(backup_id): ...          # nothing asks
//! ```
//!
//! One route without a check says little: a login has none. It is one when the program has checks, when the route changes
//! something that its name or path says is the business of few, and when nothing in it, in what it depends on, or in front of
//! all routes asks for a user. A decorator of the program counts only if it can refuse, and one that stands above the route's
//! never runs.

use super::{Body, Scene, has_word, report};
use crate::eval::Report;
use crate::ir::{Arg, ArgKind, Constant, Function, FunctionId, Op, Range, Terminator, ValueId};
use crate::library::ROUTE_DECORATORS;
use crate::names::snake_case;
use crate::rules::Weakness;

/// Words of names that ask who is calling.
const GUARDS: &[&str] = &[
    "login",
    "auth",
    "authenticated",
    "authenticate",
    "authorize",
    "authorized",
    "authorization",
    "permission",
    "permissions",
    "admin",
    "staff",
    "superuser",
    "role",
    "roles",
    "jwt",
    "token",
    "require",
    "required",
    "requires",
    "protected",
    "secured",
    "acl",
    "credentials",
    "principal",
    "identity",
    "apikey",
    "scope",
    "scopes",
    "session",
    "user",
    "owner",
    "member",
    "signature",
    "secret",
    "csrf",
    "access",
    "allowed",
    "forbidden",
    "key",
    "password",
];
/// Words of what only few may do.
const SENSITIVE: &[&str] = &[
    "delete",
    "remove",
    "destroy",
    "purge",
    "drop",
    "wipe",
    "erase",
    "admin",
    "promote",
    "demote",
    "ban",
    "role",
    "roles",
    "permission",
    "permissions",
    "grant",
    "revoke",
    "settings",
    "config",
    "restore",
    "rotate",
    "shutdown",
    "backup",
    "backups",
    "del",
    "kick",
    "suspend",
];
const CHANGING: &[&str] = &["POST", "PUT", "DELETE", "PATCH"];
/// What an application is put together of.
const PARTS: &[&str] = &["Blueprint", "APIRouter", "Router", "RouteTableDef"];
/// Functions that run before every route.
const HOOKS: &[&str] = &["before_request", "before_app_request", "middleware", "add_middleware"];
/// How a function refuses.
const REFUSALS: &[&str] =
    &["abort", "redirect", "HttpResponseForbidden", "PermissionDenied", "HTTPException", "jsonify"];

/// A route of the program.
struct Route<'a> {
    function: FunctionId,
    range: Range,
    /// Its own decorators, those that run, and the route's.
    decorators: &'a [ValueId],
    /// The position of the route's decorator among them.
    place: usize,
}

pub(super) fn check(scene: &Scene<'_>, reports: &mut Vec<Report>) {
    let module = &scene.module.functions[0];
    let routes = routes(scene, module);
    let Some(owners) = guarded_owners(scene, module).filter(|_| routes.len() > 1) else { return };
    let guarded: Vec<bool> = routes
        .iter()
        .map(|route| owners.contains(&owner(module, route)) || is_guarded(scene, module, route))
        .collect();
    if !guarded.contains(&true) {
        return;
    }
    for (route, _) in routes.iter().zip(&guarded).filter(|(_, guarded)| !**guarded) {
        let body = scene.body(route.function);
        if is_sensitive(scene, module, route) && changes(scene, module, route) && !asks(scene, body, 0) {
            let name = scene.name(body.function.name);
            let message = format!("other routes ask who is calling, and `{name}` does not");
            reports.push(report(Weakness::MissingAuthorization, route.range, message, 0.65));
        }
    }
}

fn routes<'a>(scene: &Scene<'_>, module: &'a Function) -> Vec<Route<'a>> {
    let mut routes = Vec::new();
    for inst in &module.insts {
        let Op::Closure { function, decorators, .. } = &inst.op else { continue };
        let is_route = |decorator: &ValueId| {
            matches!(module.insts[decorator.index()].op, Op::Call { .. })
                && ROUTE_DECORATORS.contains(&last_name(scene, module, *decorator).as_str())
        };
        if let Some(place) = decorators.iter().position(is_route) {
            routes.push(Route { function: *function, range: inst.range, decorators, place });
        }
    }
    routes
}

/// The last part of the name of a decorator, or of what is called to make it.
fn last_name(scene: &Scene<'_>, module: &Function, decorator: ValueId) -> String {
    let name = match &module.insts[decorator.index()].op {
        Op::Call { callee, .. } => return last_name(scene, module, *callee),
        Op::Attribute { name, .. } | Op::Import(name) | Op::Builtin(name) | Op::Global(name) => {
            scene.name(*name)
        }
        Op::Closure { function, .. } => scene.name(scene.module.functions[function.index()].name),
        _ => "",
    };
    name.rsplit('.').next().unwrap_or_default().to_owned()
}

/// The function of the program that a decorator is, or that makes it.
fn own_decorator(module: &Function, decorator: ValueId) -> Option<FunctionId> {
    match &module.insts[decorator.index()].op {
        Op::Call { callee, .. } => own_decorator(module, *callee),
        Op::Closure { function, .. } => Some(*function),
        _ => None,
    }
}

/// The parts of the application that ask before all of their routes: blueprints with a hook, routers with dependencies. `None`: the whole
/// application does.
fn guarded_owners(scene: &Scene<'_>, module: &Function) -> Option<Vec<Option<ValueId>>> {
    let is_part = |value: ValueId| match &module.insts[value.index()].op {
        Op::Call { callee, .. } => PARTS.contains(&last_name(scene, module, *callee).as_str()),
        _ => false,
    };
    let mut owners = Vec::new();
    let mut whole = scene
        .module
        .symbols
        .all()
        .any(|name| matches!(name, "permission_classes" | "authentication_classes"));
    for (id, inst) in module.insts.iter().enumerate() {
        let id = ValueId(id as u32);
        match &inst.op {
            Op::Attribute { object, name } if HOOKS.contains(&scene.name(*name)) => {
                owners.push(Some(*object));
                whole |= !is_part(*object);
            }
            Op::Call { callee, args } if args.iter().any(|arg| is_dependencies(scene, arg)) => {
                let name = last_name(scene, module, *callee);
                if is_part(id) {
                    owners.push(Some(id));
                } else if name == "include_router" {
                    owners.push(args.first().map(|arg| arg.value));
                } else {
                    // On a route it is about that route alone.
                    whole |= !ROUTE_DECORATORS.contains(&name.as_str());
                }
            }
            _ => {}
        }
    }
    (!whole).then_some(owners)
}

fn is_dependencies(scene: &Scene<'_>, arg: &Arg) -> bool {
    matches!(arg.kind, ArgKind::Keyword(name) if scene.name(name) == "dependencies")
}

/// What a route belongs to: the application, a blueprint.
fn owner(module: &Function, route: &Route<'_>) -> Option<ValueId> {
    let Op::Call { callee, .. } = &module.insts[route.decorators[route.place].index()].op else {
        return None;
    };
    match module.insts[callee.index()].op {
        Op::Attribute { object, .. } => Some(object),
        _ => None,
    }
}

fn is_guarded(scene: &Scene<'_>, module: &Function, route: &Route<'_>) -> bool {
    if let Op::Call { args, .. } = &module.insts[route.decorators[route.place].index()].op
        && args.iter().any(|arg| is_dependencies(scene, arg))
    {
        return true;
    }
    let runs = &route.decorators[route.place + 1..];
    runs.iter().any(|decorator| {
        let named = has_word(&snake_case(&last_name(scene, module, *decorator)), GUARDS);
        match own_decorator(module, *decorator) {
            Some(own) => {
                let asking = || parts(scene, own).any(|part| asks(scene, scene.body(part), 0));
                can_refuse(scene, own) && (named || asking())
            }
            None => named,
        }
    }) || depends_on_guard(scene, module, route)
}

/// `user: User = Depends(get_current_user)`
fn depends_on_guard(scene: &Scene<'_>, module: &Function, route: &Route<'_>) -> bool {
    let function = &scene.module.functions[route.function.index()];
    let typed = function.params.iter().any(|param| {
        let annotation = param.annotation.as_ref().map_or("", |annotation| &annotation.name);
        has_word(
            &snake_case(scene.name(param.name)),
            &["user", "auth", "token", "credentials", "admin", "principal"],
        ) || has_word(&snake_case(annotation), &["user", "auth", "token", "admin", "credentials"])
    });
    let closure = module.insts.iter().find_map(|inst| match &inst.op {
        Op::Closure { function, defaults, .. } if *function == route.function => Some(defaults),
        _ => None,
    });
    let injected =
        closure.into_iter().flatten().any(|(_, default)| match &module.insts[default.index()].op {
            Op::Call { callee, args } => {
                matches!(last_name(scene, module, *callee).as_str(), "Depends" | "Security")
                    && args
                        .iter()
                        .any(|arg| has_word(&snake_case(&last_name(scene, module, arg.value)), GUARDS))
            }
            _ => false,
        });
    typed || injected
}

/// Whether a decorator, or a function inside of it, can do something else than call what it decorates.
fn can_refuse(scene: &Scene<'_>, decorator: FunctionId) -> bool {
    let own = &scene.module.functions[decorator.index()];
    let gives_back = |block: &crate::ir::Block| match block.terminator {
        Terminator::Return(value) => matches!(own.insts[value.index()].op, Op::Param(_)),
        _ => false,
    };
    if own.blocks.iter().any(gives_back) {
        return false;
    }
    parts(scene, decorator).any(|part| {
        let function = &scene.module.functions[part.index()];
        let raises = function.insts.iter().any(|inst| matches!(inst.op, Op::Raise(_)));
        let returns =
            function.blocks.iter().filter(|block| matches!(block.terminator, Terminator::Return(_)));
        let refuses = function.insts.iter().any(|inst| match &inst.op {
            Op::Call { callee, .. } => REFUSALS.contains(&last_name(scene, function, *callee).as_str()),
            _ => false,
        });
        raises || refuses || (function.parent.is_some_and(|parent| parent.0 != 0) && returns.count() > 1)
    })
}

/// A function and those inside of it.
fn parts(scene: &Scene<'_>, whole: FunctionId) -> impl Iterator<Item = FunctionId> {
    let functions = &scene.module.functions;
    let is_part = move |id: &FunctionId| {
        let mut at = Some(*id);
        while let Some(function) = at.filter(|function| *function != whole) {
            at = functions[function.index()].parent;
        }
        at.is_some()
    };
    (0..functions.len() as u32).map(FunctionId).filter(is_part)
}

/// Whether the name or the path of a route says that few may call it.
fn is_sensitive(scene: &Scene<'_>, module: &Function, route: &Route<'_>) -> bool {
    let name = snake_case(scene.name(scene.module.functions[route.function.index()].name));
    let path = texts(module, route.decorators[route.place]);
    let removes = last_name(scene, module, route.decorators[route.place]) == "delete";
    let in_path = path.iter().any(|path| path.split('/').any(|part| has_word(part, SENSITIVE)));
    removes || has_word(&name, SENSITIVE) || in_path || path.iter().any(|method| method == "DELETE")
}

/// Whether a route is asked to change something.
fn changes(scene: &Scene<'_>, module: &Function, route: &Route<'_>) -> bool {
    let decorator = route.decorators[route.place];
    let method = last_name(scene, module, decorator).to_ascii_uppercase();
    CHANGING.contains(&method.as_str())
        || texts(module, decorator).iter().any(|text| CHANGING.contains(&text.as_str()))
}

/// The constant texts among the arguments of a call, and in lists of them.
fn texts(module: &Function, call: ValueId) -> Vec<String> {
    let mut pending = vec![call];
    let mut texts = Vec::new();
    while let Some(at) = pending.pop() {
        match &module.insts[at.index()].op {
            Op::Constant(Constant::Str(text)) => texts.push(text.to_string()),
            Op::Call { args, .. } => pending.extend(args.iter().map(|arg| arg.value)),
            op @ Op::Sequence { .. } => op.operands(|operand| pending.push(operand)),
            _ => {}
        }
    }
    texts
}

/// Whether anything in a function, or in the functions that it calls, speaks of who is calling.
fn asks(scene: &Scene<'_>, body: &Body<'_>, depth: u32) -> bool {
    // `User.query.get(id) is None` speaks of a record, not of who is calling.
    let says = |name: &str| {
        let name = name.rsplit('.').next().unwrap_or_default();
        let is_class = name.starts_with(char::is_uppercase) && name.contains(char::is_lowercase);
        !is_class && has_word(&snake_case(name), GUARDS)
    };
    let conditions = body.function.blocks.iter().filter_map(|block| match block.terminator {
        Terminator::Branch { condition, .. } => Some(condition),
        _ => None,
    });
    let decides = |condition: ValueId| {
        body.mentions(condition, |value| match body.op(value) {
            Op::Attribute { name, .. } | Op::Import(name) | Op::Global(name) | Op::Builtin(name) => {
                says(body.name(*name))
            }
            Op::Constant(Constant::Str(text)) => says(text),
            _ => false,
        })
    };
    if conditions.into_iter().any(decides) {
        return true;
    }
    body.insts().any(|(id, op)| {
        let Op::Call { callee, .. } = op else { return false };
        match body.op(*callee) {
            Op::Attribute { name, .. } | Op::Import(name) | Op::Builtin(name) => {
                let name = snake_case(body.name(*name).rsplit('.').next().unwrap_or_default());
                let verbs = [
                    "check",
                    "require",
                    "verify",
                    "ensure",
                    "assert",
                    "authorize",
                    "authenticate",
                    "validate",
                    "can",
                ];
                has_word(&name, &verbs)
            }
            Op::Global(name) => {
                let inner = scene.function_named(*name).filter(|_| depth < super::MAX_DEPTH);
                // `is_admin()` as a statement: nobody hears the answer.
                let unheard = |inner| !can_refuse(scene, inner) && !is_used(body.function, id);
                (says(body.name(*name)) && !inner.is_some_and(unheard))
                    || inner.is_some_and(|inner| !unheard(inner) && asks(scene, scene.body(inner), depth + 1))
            }
            _ => false,
        }
    })
}

/// Whether anything reads a value.
fn is_used(function: &Function, value: ValueId) -> bool {
    let mut used = function.blocks.iter().any(|block| match block.terminator {
        Terminator::Branch { condition, .. } => condition == value,
        Terminator::Return(returned) => returned == value,
        Terminator::ForNext { iterable, .. } => iterable == value,
        _ => false,
    });
    function.insts.iter().for_each(|inst| inst.op.operands(|operand| used |= operand == value));
    used
}
