//! Weaknesses that only a name tells: `password = "hunter2"` is one because the variable is called so.
//!
//! Names are all that separates a key in the source from any other text, or a random token from a random colour. So these
//! rules are less sure than the others, and they ask more of the name than one word: what is printed must be a secret
//! by itself (`password`, not `token`, which may be a parser's), and a label (`PASSWORD = "password"`) is none.

mod literals;

use crate::eval::Report;
use crate::ir::{Arg, Constant, FunctionId, Module, Op, Range, Symbol, Terminator, ValueId};
use crate::library::ERROR_DECORATORS;
use crate::missing::{Body, has_word, import_path};
use crate::rules::Weakness;

/// Names of what must not stand in the source.
const SECRETS: &[&str] =
    &["password", "passwd", "pwd", "secret", "apikey", "token", "credentials", "passphrase"];
/// Names of what must not be printed.
const PRIVATE: &[&str] =
    &["password", "passwd", "pwd", "secret", "apikey", "passphrase", "ssn", "cvv", "cvc"];
/// Names of what must not be guessed.
const UNGUESSABLE: &[&str] = &[
    "password",
    "passwd",
    "secret",
    "token",
    "otp",
    "nonce",
    "salt",
    "session",
    "csrf",
    "apikey",
    "sessionid",
    "pin",
    "passcode",
    "passphrase",
    "voucher",
    "invite",
    "coupon",
];
/// What makes a code one that must not be guessed.
const CODES: &[&str] = &[
    "verification",
    "reset",
    "invite",
    "auth",
    "confirmation",
    "activation",
    "recovery",
    "backup",
    "access",
];

/// The reports about every function, the module's own code included.
pub(crate) fn reports(module: &Module, routes: &[FunctionId]) -> Vec<Report> {
    let names = Names::of(module);
    let handlers = handlers_of_any_error(module);
    let mut reports = Vec::new();
    for index in 0..module.functions.len() as u32 {
        let function = FunctionId(index);
        if function.0 != 0 && function.0 < module.trusted_functions {
            continue;
        }
        names.check_literals(function, &mut reports);
        if names.prints || names.draws || routes.contains(&function) {
            let body = Body::of(module, function);
            names.check_output(&body, &mut reports);
            names.check_random(&body, &mut reports);
            if routes.contains(&function) {
                check_errors(&body, handlers.contains(&function), &mut reports);
            }
        }
    }
    reports
}

/// Which of the module's names say something.
struct Names<'a> {
    module: &'a Module,
    secret: Vec<bool>,
    private: Vec<bool>,
    unguessable: Vec<bool>,
    /// Something private may be printed.
    prints: bool,
    /// The program draws random numbers.
    draws: bool,
}

impl<'a> Names<'a> {
    fn of(module: &'a Module) -> Self {
        let all = || module.symbols.all().map(snake_case);
        let secret = all().map(|name| is_secret(&name)).collect();
        let private: Vec<bool> = all().map(|name| has_word(&name, PRIVATE) && !is_about(&name)).collect();
        let is_unguessable = |name: String| {
            let is_code = has_word(&name, &["code", "codes", "link"]) && has_word(&name, CODES);
            has_word(&name, UNGUESSABLE) || is_key(&name) || is_code
        };
        let unguessable = all().map(is_unguessable).collect();
        let environment = ["environ", "getenv", "os.environ", "os.getenv"];
        let prints = private.contains(&true)
            || environment.into_iter().any(|name| module.symbols.lookup(name).is_some());
        // The time is a draw only where it is hashed.
        let draws = module.symbols.all().any(|name| {
            let module = name.split('.').next().unwrap_or_default();
            matches!(module, "random" | "hashlib") || matches!(name, "uuid1" | "uuid.uuid1")
        });
        Self { module, secret, private, unguessable, prints, draws }
    }

    fn is(set: &[bool], name: Symbol) -> bool {
        set[name.0 as usize]
    }

    /// `print(password)`, `logging.info(f"{password}")`: as it is, not hashed, measured or compared.
    fn check_output(&self, body: &Body<'_>, reports: &mut Vec<Report>) {
        let named = body.function.writes.iter().filter(|(name, _)| Self::is(&self.private, *name));
        let named = named.map(|(_, value)| *value).filter(|value| is_received(body, *value));
        let looked_up = body.insts().map(|(id, _)| id).filter(|id| is_secret_entry(body, *id));
        let private: Vec<ValueId> = named.chain(looked_up).collect();
        if private.is_empty() {
            return;
        }
        for (id, op) in body.insts() {
            let Op::Call { callee, args } = op else { continue };
            let outputs = body.builtin(*callee) == Some("print")
                || body.method(*callee).is_some_and(|(_, name)| LOG_METHODS.contains(&name));
            if outputs && args.iter().any(|arg| shows(body, arg.value, &private, 0)) {
                reports.push(report(Weakness::PrintedSecret, body.function.insts[id.index()].range, 0.65));
            }
        }
    }

    /// `token = random.randint(…)`, and functions named after what they make.
    fn check_random(&self, body: &Body<'_>, reports: &mut Vec<Report>) {
        let draws = |value: ValueId| match body.op(value) {
            Op::Call { callee, args } => {
                Self::is_random(body, *callee) || Self::is_hashed_time(body, *callee, args)
            }
            _ => false,
        };
        let drawn = body.insts().map(|(id, _)| id).filter(|id| draws(*id));
        let kept = |value: ValueId| body.mentions(value, draws);
        let makes = Self::is(&self.unguessable, body.function.name);
        let written = body
            .function
            .writes
            .iter()
            .any(|(name, value)| Self::is(&self.unguessable, *name) && kept(*value));
        let stored = body.insts().any(|(_, op)| match op {
            Op::StoreSubscript { object, index, value } => {
                let named = body.text(*index).is_some_and(|key| has_word(&snake_case(key), UNGUESSABLE));
                (named || Self::is_session(body, *object)) && kept(*value)
            }
            Op::StoreAttribute { name, value, .. } => Self::is(&self.unguessable, *name) && kept(*value),
            _ => false,
        });
        let sent = body.insts().any(|(_, op)| match op {
            Op::Call { callee, args } => {
                let is_cookie = body.method(*callee).is_some_and(|(_, name)| name == "set_cookie");
                is_cookie && args.iter().any(|arg| kept(arg.value))
            }
            _ => false,
        });
        if makes || written || stored || sent {
            let first = drawn.map(|id| body.function.insts[id.index()].range).next();
            reports.extend(first.map(|range| report(Weakness::GuessableSecret, range, 0.7)));
        }
    }

    fn is_random(body: &Body<'_>, callee: ValueId) -> bool {
        if body.method(callee).is_some_and(|(object, _)| Self::is_generator(body, object)) {
            return true;
        }
        let path = body.import_path(callee).unwrap_or_default();
        let strong = ["SystemRandom", "seed", ".Random"].iter().any(|name| path.ends_with(name));
        (path.starts_with("random.") || path.starts_with("numpy.random.") || path == "uuid.uuid1") && !strong
    }

    /// `random.Random(7)`, or a variable of the module that holds it.
    fn is_generator(body: &Body<'_>, object: ValueId) -> bool {
        let module = &body.module.functions[0];
        let path = match body.op(object) {
            Op::Call { callee, .. } => body.import_path(*callee),
            Op::Global(name) => {
                let written = module.writes.iter().find(|(written, _)| written == name);
                written.and_then(|(_, value)| match &module.insts[value.index()].op {
                    Op::Call { callee, .. } => import_path(body.module, module, *callee),
                    _ => None,
                })
            }
            _ => None,
        };
        matches!(
            path.as_deref(),
            Some("random.Random" | "numpy.random.default_rng" | "numpy.random.RandomState")
        )
    }

    /// `hashlib.sha256(f"{email}{time.time()}".encode())`: who knows when knows what.
    fn is_hashed_time(body: &Body<'_>, callee: ValueId, args: &[Arg]) -> bool {
        let path_of = |value: ValueId| match body.op(value) {
            Op::Call { callee, .. } => body.import_path(*callee),
            _ => None,
        };
        let is_clock = |value: ValueId| {
            matches!(path_of(value).as_deref(), Some("time.time" | "time.time_ns" | "datetime.datetime.now"))
        };
        let is_drawn = |value: ValueId| {
            path_of(value).is_some_and(|path| {
                path.starts_with("secrets.") || matches!(&*path, "os.urandom" | "uuid.uuid4")
            })
        };
        let hashes = body.import_path(callee).is_some_and(|path| path.starts_with("hashlib."));
        let any = |is_it: &dyn Fn(ValueId) -> bool| args.iter().any(|arg| body.mentions(arg.value, is_it));
        hashes && any(&is_clock) && !any(&is_drawn)
    }

    fn is_session(body: &Body<'_>, object: ValueId) -> bool {
        body.import_path(object).is_some_and(|path| path.ends_with("session"))
    }
}

/// A route that answers with the text of an exception.
fn check_errors(body: &Body<'_>, handles_any: bool, reports: &mut Vec<Report>) {
    let is_error = |value: ValueId| match body.op(value) {
        // What the program's own exceptions say was written for whoever reads it.
        Op::Caught { kind, .. } => !kind.is_some_and(|kind| is_own_class(body, kind)),
        Op::Call { callee, .. } => {
            body.import_path(*callee).is_some_and(|path| path.starts_with("traceback.format"))
        }
        Op::Param(index) => handles_any && *index as usize + 1 == body.function.params.len(),
        _ => false,
    };
    // What an exception of the framework says is sent, too. Errors that the program asks for by their kinds it knows.
    let is_any_error = |value: ValueId| match body.op(value) {
        Op::Caught { kind, .. } => kind.is_none_or(|kind| body.builtin(kind) == Some("Exception")),
        _ => false,
    };
    let is_answer = |exception: ValueId| match body.op(exception) {
        Op::Call { callee, .. } => {
            let path = body.import_path(*callee);
            path.is_some_and(|path| path.ends_with("HTTPException"))
        }
        _ => false,
    };
    for (_, op) in body.insts() {
        let Op::Raise(exception) = op else { continue };
        if is_answer(*exception) && body.mentions(*exception, is_any_error) {
            let range = body.function.insts[exception.index()].range;
            reports.push(report(Weakness::ShownError, range, 0.6));
        }
    }
    for block in &body.order {
        let Terminator::Return(value) = body.function.blocks[block.index()].terminator else { continue };
        if body.mentions(value, is_error) {
            reports.push(report(Weakness::ShownError, body.function.insts[value.index()].range, 0.65));
        }
    }
}

/// The functions that handle errors of all kinds, `@app.errorhandler(Exception)`, `@app.exception_handler(500)`: what they are given
/// nobody has foreseen.
fn handlers_of_any_error(module: &Module) -> Vec<FunctionId> {
    let name = |symbol: Symbol| module.symbols.text(symbol);
    let code = &module.functions[0];
    let op = |value: ValueId| &code.insts[value.index()].op;
    let of_any = |arg: &Arg| match op(arg.value) {
        Op::Builtin(kind) => name(*kind) == "Exception",
        Op::Constant(Constant::Int(status)) => *status == 500,
        _ => false,
    };
    let handles_any = |decorator: &ValueId| match op(*decorator) {
        Op::Call { callee, args } => {
            let handles = matches!(op(*callee), Op::Attribute { name: method, .. } if ERROR_DECORATORS.contains(&name(*method)));
            handles && args.first().is_some_and(of_any)
        }
        _ => false,
    };
    let handlers = code.insts.iter().filter_map(|inst| match &inst.op {
        Op::Closure { function, decorators, .. } => decorators.iter().any(handles_any).then_some(*function),
        _ => None,
    });
    handlers.collect()
}

/// A class of the program, by its name.
fn is_own_class(body: &Body<'_>, kind: ValueId) -> bool {
    match body.op(kind) {
        Op::Global(name) => body.module.functions[0].writes.iter().any(|(written, value)| {
            written == name
                && matches!(body.module.functions[0].insts[value.index()].op, Op::ClassObject { .. })
        }),
        _ => false,
    }
}

/// Whether a text shows one of the values unchanged.
fn shows(body: &Body<'_>, value: ValueId, private: &[ValueId], depth: u32) -> bool {
    if private.contains(&value) {
        return true;
    }
    let mut any = false;
    let passes_on = match body.op(value) {
        Op::Format(_) | Op::Binary { .. } | Op::Phi(_) | Op::Dict(_) => true,
        Op::Call { callee, .. } => {
            body.builtin(*callee) == Some("str")
                || body.method(*callee).is_some_and(|(_, name)| name == "format")
        }
        _ => false,
    };
    if passes_on && depth < 6 {
        body.op(value).operands(|operand| any |= shows(body, operand, private, depth + 1));
    }
    any
}

/// `os.environ["API_KEY"]`, `os.getenv("DB_PASSWORD")`
fn is_secret_entry(body: &Body<'_>, value: ValueId) -> bool {
    let (table, key) = match body.op(value) {
        Op::Subscript { object, index } => (*object, *index),
        Op::Call { callee, args } => match (body.op(*callee), args.first()) {
            (Op::Attribute { object, name }, Some(key)) if matches!(body.name(*name), "get" | "getenv") => {
                (*object, key.value)
            }
            _ => return false,
        },
        _ => return false,
    };
    let is_environment = matches!(body.import_path(table).as_deref(), Some("os" | "os.environ"));
    is_environment && body.text(key).is_some_and(|key| is_secret(&snake_case(key)))
}

/// Whether somebody gave the program a value: what it computes itself may be a puzzle's solution.
fn is_received(body: &Body<'_>, value: ValueId) -> bool {
    matches!(body.op(value), Op::Param(_) | Op::Call { .. } | Op::Subscript { .. } | Op::Attribute { .. })
}

const LOG_METHODS: &[&str] = &["debug", "info", "warning", "warn", "error", "critical", "exception"];

/// `api_key`, `secret_key`: a key alone may be a dictionary's.
fn is_key(name: &str) -> bool {
    let words = ["api", "secret", "private", "access", "encryption", "signing", "auth"];
    has_word(name, &["key"]) && has_word(name, &words)
}

/// A name of what must not stand in the source.
pub(crate) fn is_secret(name: &str) -> bool {
    (has_word(name, SECRETS) || is_key(name)) && !is_about(name)
}

/// A name about a secret, not of one: `password_hash`, `password_length`, `check_password`.
fn is_about(name: &str) -> bool {
    let others = [
        "hash",
        "hashed",
        "length",
        "len",
        "field",
        "file",
        "path",
        "count",
        "policy",
        "min",
        "max",
        "strength",
        "valid",
        "encrypted",
        "masked",
        "check",
        "is",
        "has",
        "id",
        "name",
        "url",
        "prompt",
        "error",
        "type",
        "header",
        "regex",
        "pattern",
        "label",
        "expected",
    ];
    has_word(name, &others)
}

/// `generatePassword` as `generate_password`.
pub(crate) fn snake_case(name: &str) -> String {
    let mut snake = String::with_capacity(name.len() + 4);
    let mut lower = false;
    for character in name.chars() {
        if character.is_ascii_uppercase() && lower {
            snake.push('_');
        }
        lower = character.is_ascii_lowercase() || character.is_ascii_digit();
        snake.push(character.to_ascii_lowercase());
    }
    snake
}

fn report(weakness: Weakness, range: Range, confidence: f32) -> Report {
    Report {
        weakness,
        range,
        message: weakness.consequence().to_owned(),
        confidence,
        flow: Vec::new(),
        guard: None,
    }
}
