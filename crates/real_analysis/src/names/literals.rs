//! Secrets that stand in the source (CWE-798): a literal, or something that is made of literals alone, in a place whose name says
//! that a secret belongs there.
//!
//! ```python
//! password = "hunter2!"                            # a variable, an attribute, a keyword argument, a default, an entry
//! API_TOKEN = b64decode("c2VjcmV0LXRva2Vu")        # decoded, reversed or put together: it still stands there
//! connect("postgresql://app:Zp09xKq4@db/shop")     # a URL with a password in it
//! password = os.environ["PASSWORD"]                # not this
//! ```

use super::{Names, is_secret, report, snake_case};
use crate::eval::Report;
use crate::ir::{
    Arg, ArgKind, BinaryOp, CompareOp, Constant, Function, FunctionId, Module, Op, Range, ValueId,
};
use crate::missing::import_path;
use crate::rules::Weakness;

/// Functions that are given a key or a password, and its position.
const KEYED: &[(&str, usize)] = &[
    ("jwt.encode", 1),
    ("jwt.decode", 1),
    ("jose.jwt.encode", 1),
    ("jose.jwt.decode", 1),
    ("hmac.new", 0),
    ("cryptography.fernet.Fernet", 0),
    ("cryptography.hazmat.primitives.ciphers.aead.AESGCM", 0),
    ("cryptography.hazmat.primitives.ciphers.aead.ChaCha20Poly1305", 0),
    ("cryptography.hazmat.primitives.ciphers.algorithms.AES", 0),
    ("Crypto.Cipher.AES.new", 0),
    ("Cryptodome.Cipher.AES.new", 0),
    ("itsdangerous.URLSafeSerializer", 0),
    ("itsdangerous.URLSafeTimedSerializer", 0),
    ("itsdangerous.TimestampSigner", 0),
    ("requests.auth.HTTPBasicAuth", 1),
];
/// Functions that give another form of what they are given.
const FORMS: &[&str] = &[
    "base64.b64decode",
    "base64.b64encode",
    "base64.urlsafe_b64decode",
    "base64.urlsafe_b64encode",
    "binascii.unhexlify",
    "codecs.decode",
];
/// Methods that do.
const FORM_METHODS: &[&str] = &["decode", "encode", "join", "strip", "replace"];
/// Expressions inside expressions.
const MAX_DEPTH: u32 = 8;

/// A function whose literals are looked at.
struct Literals<'a> {
    module: &'a Module,
    body: &'a Function,
}

impl Names<'_> {
    /// Reports every literal secret of a function.
    pub(super) fn check_literals(&self, function: FunctionId, reports: &mut Vec<Report>) {
        let body = &self.module.functions[function.index()];
        let literals = Literals { module: self.module, body };
        let first = if function.0 == 0 { self.module.trusted_insts as usize } else { 0 };
        let mut found: Vec<ValueId> = Vec::new();
        let named = |name| Self::is(&self.secret, name);
        // Whatever it is, a constant that signs signs the cookies of every installation.
        let belongs = |named: bool, signs: bool, value: ValueId| {
            (named && literals.is_secret(value, 0)) || (signs && literals.is_text(value))
        };
        for (name, value) in body.writes.iter().filter(|(_, value)| value.index() >= first) {
            let signs = function.0 == 0 && self.module.symbols.text(*name) == "SECRET_KEY";
            if belongs(named(*name), signs, *value) {
                found.push(*value);
            }
        }
        for inst in &body.insts[first.min(body.insts.len())..] {
            match &inst.op {
                Op::Call { callee, args } => self.check_call(&literals, *callee, args, &mut found),
                // `if password == "hunter2!":`
                Op::Compare { op: CompareOp::Equal | CompareOp::NotEqual, left, right } => {
                    for (value, other) in [(*left, *right), (*right, *left)] {
                        if self.asks_for_secret(body, other) && literals.is_secret(value, 0) {
                            found.push(value);
                        }
                    }
                }
                Op::StoreAttribute { name, value, .. } => {
                    let signs = matches!(self.module.symbols.text(*name), "secret_key" | "SECRET_KEY");
                    if belongs(named(*name), signs, *value) {
                        found.push(*value);
                    }
                }
                Op::StoreSubscript { index, value, .. } => {
                    let signs = matches!(literals.op(*index), Op::Constant(Constant::Str(key)) if &**key == "SECRET_KEY");
                    if belongs(named_secret(literals.op(*index)), signs, *value) {
                        found.push(*value);
                    }
                }
                // `{"PASSWORD": "…"}` of settings. In small letters it may be what a test sends.
                Op::Dict(pairs) => found.extend(pairs.iter().filter_map(|(key, value)| {
                    let key = literals.op((*key)?);
                    let is_setting = matches!(key, Op::Constant(Constant::Str(key)) if !key.chars().any(char::is_lowercase));
                    (is_setting && named_secret(key) && literals.is_secret(*value, 0)).then_some(*value)
                })),
                Op::Closure { function, defaults, .. } => {
                    let params = &self.module.functions[function.index()].params;
                    let is_one = |(index, value): &&(u32, ValueId)| {
                        params.get(*index as usize).is_some_and(|param| named(param.name))
                            && literals.is_secret(*value, 0)
                    };
                    found.extend(defaults.iter().filter(is_one).map(|(_, value)| *value));
                }
                _ => {}
            }
        }
        let places = found.iter().map(|value| literals.place(*value));
        let mut ranges: Vec<Range> = places.map(|value| body.insts[value.index()].range).collect();
        ranges.sort_unstable();
        ranges.dedup();
        reports.extend(ranges.into_iter().map(|range| report(Weakness::LiteralSecret, range, 0.65)));
    }

    fn check_call(&self, literals: &Literals<'_>, callee: ValueId, args: &[Arg], found: &mut Vec<ValueId>) {
        found.extend(args.iter().filter_map(|arg| match arg.kind {
            ArgKind::Keyword(name) if Self::is(&self.secret, name) && literals.is_secret(arg.value, 0) => {
                Some(arg.value)
            }
            _ => None,
        }));
        found.extend(args.iter().map(|arg| arg.value).filter(|value| literals.has_credentials(*value)));
        let path = import_path(self.module, literals.body, callee).unwrap_or_default();
        let builtin = |name: &str| matches!(literals.op(callee), Op::Builtin(called) if self.module.symbols.text(*called) == name);
        match (&*path, args) {
            // `os.getenv("DB_PASSWORD", "hunter2!")`
            ("os.getenv" | "os.environ.get", [name, default])
                if named_secret(literals.op(name.value)) && literals.is_secret(default.value, 0) =>
            {
                found.push(default.value);
            }
            ("hmac.compare_digest" | "secrets.compare_digest", sides) => {
                found.extend(
                    sides.iter().map(|side| side.value).filter(|value| literals.is_secret(*value, 0)),
                );
            }
            (_, [_, name, value])
                if builtin("setattr")
                    && named_secret(literals.op(name.value))
                    && literals.is_secret(value.value, 0) =>
            {
                found.push(value.value);
            }
            // `server.login("me", "hunter2!")`
            (_, [_, password]) if literals.is_method(callee, "login") => {
                found.extend(Some(password.value).filter(|value| literals.is_secret(*value, 0)));
            }
            _ => {}
        }
        let place = KEYED.iter().find(|(known, _)| *known == path).map(|(_, place)| *place);
        let key = place.and_then(|place| args.get(place)).filter(|key| key.kind == ArgKind::Positional);
        found.extend(
            key.map(|key| key.value).filter(|key| literals.is_text(*key) || literals.is_secret(*key, 0)),
        );
    }

    /// Whether a value is somebody's answer to the question for a secret: a parameter of that name, or a field of a form.
    fn asks_for_secret(&self, body: &Function, value: ValueId) -> bool {
        let op = |value: ValueId| &body.insts[value.index()].op;
        match op(value) {
            Op::Param(index) => {
                body.params.get(*index as usize).is_some_and(|param| Self::is(&self.secret, param.name))
            }
            Op::Subscript { index, .. } => named_secret(op(*index)),
            Op::Attribute { name, .. } => Self::is(&self.secret, *name),
            Op::Call { callee, args } => {
                let is_get = matches!(op(*callee), Op::Attribute { name, .. } if self.module.symbols.text(*name) == "get");
                is_get && args.first().is_some_and(|arg| named_secret(op(arg.value)))
            }
            _ => false,
        }
    }
}

impl<'a> Literals<'a> {
    fn op(&self, value: ValueId) -> &'a Op {
        &self.body.insts[value.index()].op
    }

    fn is_method(&self, callee: ValueId, method: &str) -> bool {
        matches!(self.op(callee), Op::Attribute { name, .. } if self.module.symbols.text(*name) == method)
    }

    /// A constant text, and not an empty one.
    fn is_text(&self, value: ValueId) -> bool {
        match self.op(value) {
            Op::Constant(Constant::Str(text)) => !text.is_empty(),
            Op::Constant(Constant::Bytes(bytes)) => !bytes.is_empty(),
            _ => false,
        }
    }

    /// Whether a value is a secret that stands in the source, in whatever form.
    fn is_secret(&self, value: ValueId, depth: u32) -> bool {
        if depth > MAX_DEPTH {
            return false;
        }
        match self.op(value) {
            Op::Constant(Constant::Str(text)) => is_secret_text(text),
            Op::Constant(Constant::Bytes(bytes)) => is_secret_text(&String::from_utf8_lossy(bytes)),
            // `os.environ.get("PASSWORD") or "hunter2!"`
            Op::Phi(operands) if depth == 0 => operands.iter().any(|operand| self.is_secret(*operand, 1)),
            Op::Binary { op: BinaryOp::Add, .. } => {
                self.joined(value, 0).is_some_and(|text| is_secret_text(&text))
            }
            Op::Slice { object, .. } => self.is_secret(*object, depth + 1),
            Op::Call { callee, args } => {
                let changes =
                    import_path(self.module, self.body, *callee).is_some_and(|path| FORMS.contains(&&*path));
                match self.op(*callee) {
                    _ if changes || self.is_method(*callee, "fromhex") => {
                        args.first().is_some_and(|argument| self.is_secret(argument.value, depth + 1))
                    }
                    Op::Attribute { object, name } => {
                        FORM_METHODS.contains(&self.module.symbols.text(*name))
                            && self.is_secret(*object, depth + 1)
                    }
                    _ => false,
                }
            }
            _ => false,
        }
    }

    /// Where the secret stands that a value may be.
    fn place(&self, value: ValueId) -> ValueId {
        match self.op(value) {
            Op::Phi(operands) => {
                let literal = operands.iter().find(|operand| self.is_secret(**operand, 1));
                literal.map_or(value, |literal| self.place(*literal))
            }
            _ => value,
        }
    }

    /// Constants that are put together.
    fn joined(&self, value: ValueId, depth: u32) -> Option<String> {
        match self.op(value) {
            Op::Constant(Constant::Str(text)) => Some(text.to_string()),
            Op::Binary { op: BinaryOp::Add, left, right } if depth < MAX_DEPTH => {
                Some(self.joined(*left, depth + 1)? + &self.joined(*right, depth + 1)?)
            }
            _ => None,
        }
    }

    /// `"postgresql://app:Zp09xKq4@db/shop"`
    fn has_credentials(&self, value: ValueId) -> bool {
        let Op::Constant(Constant::Str(url)) = self.op(value) else { return false };
        let Some((_, rest)) = url.split_once("://") else { return false };
        let host = rest.split('/').next().unwrap_or_default();
        let password =
            host.rsplit_once('@').and_then(|(user, _)| user.split_once(':')).map(|(_, password)| password);
        password.is_some_and(is_secret_text)
    }
}

/// A constant text that is the name of a secret.
fn named_secret(op: &Op) -> bool {
    matches!(op, Op::Constant(Constant::Str(name)) if is_secret(&snake_case(name)))
}

/// A text that may open something: no sentence, no label, no word, no place-holder, no address.
fn is_secret_text(text: &str) -> bool {
    let usual = text.chars().all(|character| character.is_ascii_graphic());
    let named = text.chars().all(|character| character.is_ascii_alphabetic() || "_-.:/".contains(character));
    let place_holder = text.contains(['<', '{', '%', '$']) || text.contains("...") || text.contains("://");
    (4..200).contains(&text.len()) && usual && !named && !place_holder
}
