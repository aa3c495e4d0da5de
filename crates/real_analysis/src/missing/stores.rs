//! Data that outlives a call: variables of the module.
//!
//! ```python
//! USERS = {1: {"role": "admin"}}                          # records
//! SIGNATURES = {"report": "9e107d9d372bb6826bd81d3542a419d6"}   # tokens
//! EDITABLE = ["name", "email"]                            # words
//! LOG = []                                                # empty
//! ```

use rustc_hash::{FxHashMap, FxHashSet};

use super::has_word;
use crate::ir::{Constant, Function, Item, Module, Op, Symbol, ValueId};

/// What a variable of the module holds at first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Content {
    /// An empty container or queue without a limit.
    Empty,
    /// A mapping to mappings, lists or objects.
    Records,
    /// A mapping to long texts that look random.
    Tokens,
    /// A collection of names of hosts.
    Hosts,
    /// A collection of other texts.
    Words,
}

/// A variable of the module.
#[derive(Debug)]
pub(super) struct Store {
    pub(super) content: Content,
    /// The program reads it somewhere.
    pub(super) read: bool,
    /// The program reads what its keys lead to.
    pub(super) values_read: bool,
}

/// The variables of the module that hold data.
#[derive(Debug)]
pub(super) struct Stores {
    stores: FxHashMap<Symbol, Store>,
    /// Some record says whom it belongs to or what somebody may do.
    pub(super) names_subjects: bool,
}

impl Stores {
    pub(super) fn of(module: &Module) -> Self {
        let body = &module.functions[0];
        let mut stores = FxHashMap::default();
        let mut names_subjects = false;
        // `__all__` and the like are read by Python itself.
        let ours = body.writes.iter().filter(|(name, _)| !module.symbols.text(*name).starts_with("__"));
        for (name, value) in ours {
            if let Some(content) = content(module, body, *value) {
                stores.insert(*name, Store { content, read: false, values_read: false });
                names_subjects |= content == Content::Records && has_subject(body, *value, 0);
            }
        }
        let mut stores = Self { stores, names_subjects };
        stores.note_uses(module);
        stores
    }

    pub(super) fn get(&self, name: Symbol) -> Option<&Store> {
        self.stores.get(&name)
    }

    pub(super) fn is(&self, name: Symbol, content: Content) -> bool {
        self.get(name).is_some_and(|store| store.content == content)
    }

    pub(super) fn any(&self, is_it: impl Fn(&Store) -> bool) -> bool {
        self.stores.values().any(is_it)
    }

    fn note_uses(&mut self, module: &Module) {
        for (index, function) in module.functions.iter().enumerate() {
            let mut names: FxHashMap<ValueId, Symbol> = FxHashMap::default();
            if index == 0 {
                names.extend(function.writes.iter().map(|(name, value)| (*value, *name)));
            }
            let globals = function.insts.iter().enumerate();
            names.extend(globals.filter_map(|(id, inst)| match inst.op {
                Op::Global(name) => Some((ValueId(id as u32), name)),
                _ => None,
            }));
            if !names.is_empty() {
                self.note_uses_in(module, function, &names);
            }
        }
    }

    fn note_uses_in(&mut self, module: &Module, function: &Function, names: &FxHashMap<ValueId, Symbol>) {
        let mut receivers: FxHashSet<ValueId> = FxHashSet::default();
        for inst in &function.insts {
            inst.op.operands(|operand| {
                if let Some(store) = names.get(&operand).and_then(|name| self.stores.get_mut(name)) {
                    store.read = true;
                    let by_key = match &inst.op {
                        Op::Compare { .. } | Op::Element(_) => false,
                        Op::Attribute { name, .. } => module.symbols.text(*name) != "keys",
                        Op::Call { .. } => receivers.insert(operand),
                        _ => true,
                    };
                    store.values_read |= by_key;
                }
            });
        }
    }
}

fn content(module: &Module, body: &Function, value: ValueId) -> Option<Content> {
    match &body.insts[value.index()].op {
        Op::Dict(pairs) => {
            if pairs.is_empty() {
                return Some(Content::Empty);
            }
            let op = |value: &ValueId| &body.insts[value.index()].op;
            let record =
                |value: &ValueId| matches!(op(value), Op::Dict(_) | Op::Sequence { .. } | Op::Call { .. });
            if pairs.iter().all(|(_, value)| record(value)) {
                return Some(Content::Records);
            }
            let token =
                |value: &ValueId| matches!(op(value), Op::Constant(Constant::Str(text)) if is_token(text));
            pairs.iter().all(|(_, value)| token(value)).then_some(Content::Tokens)
        }
        Op::Sequence { items, .. } => {
            let texts = texts(body, items)?;
            Some(match &texts[..] {
                [] => Content::Empty,
                texts if texts.iter().all(|text| is_host(text)) => Content::Hosts,
                _ => Content::Words,
            })
        }
        Op::Call { callee, args } => {
            let name = match &body.insts[callee.index()].op {
                Op::Builtin(name) | Op::Import(name) | Op::Attribute { name, .. } => {
                    module.symbols.text(*name)
                }
                _ => return None,
            };
            let name = name.rsplit('.').next().unwrap_or_default();
            match &args[..] {
                [] => CONTAINERS.contains(&name).then_some(Content::Empty),
                [_] if name == "defaultdict" => Some(Content::Empty),
                [arg] if CONTAINERS.contains(&name) => content(module, body, arg.value),
                _ => None,
            }
        }
        _ => None,
    }
}

/// Functions that make a container without a limit, empty or of another one.
const CONTAINERS: &[&str] = &[
    "list",
    "dict",
    "set",
    "tuple",
    "frozenset",
    "deque",
    "OrderedDict",
    "Queue",
    "SimpleQueue",
    "LifoQueue",
];

/// The items, when all are constant texts.
fn texts<'a>(body: &'a Function, items: &[Item]) -> Option<Vec<&'a str>> {
    let text = |item: &Item| match (item, &body.insts[item.value().index()].op) {
        (Item::One(_), Op::Constant(Constant::Str(text))) => Some(&**text),
        _ => None,
    };
    items.iter().map(text).collect()
}

/// `www.example.com`
pub(super) fn is_host(text: &str) -> bool {
    let label = |label: &str| {
        !label.is_empty()
            && label.chars().all(|character| character.is_ascii_alphanumeric() || character == '-')
    };
    let Some((_, top)) = text.rsplit_once('.') else { return false };
    let top_level = top.len() >= 2 && top.chars().all(|character| character.is_ascii_lowercase());
    top_level && !FILE_SUFFIXES.contains(&top) && text.trim_start_matches('.').split('.').all(label)
}

/// Endings that are more likely a file's than a host's.
const FILE_SUFFIXES: &[&str] =
    &["py", "txt", "json", "yaml", "yml", "xml", "html", "csv", "md", "js", "css", "log", "zip"];

/// A hexadecimal or base64 text of the length of a signature.
fn is_token(text: &str) -> bool {
    let letters = |character: char| character.is_ascii_alphanumeric() || "+/=_-".contains(character);
    text.len() >= 16 && text.chars().all(letters) && text.chars().any(|character| character.is_ascii_digit())
}

const SUBJECTS: &[&str] = &[
    "owner",
    "creator",
    "author",
    "role",
    "roles",
    "member",
    "members",
    "level",
    "privilege",
    "privileges",
    "permission",
    "permissions",
    "assigned",
    "access",
    "allowed",
    "group",
    "groups",
    "admin",
];

/// Whether a record has a field that names an owner, a role or a right.
fn has_subject(body: &Function, value: ValueId, depth: u32) -> bool {
    let Op::Dict(pairs) = &body.insts[value.index()].op else { return false };
    pairs.iter().any(|(key, value)| {
        let key = key.map(|key| &body.insts[key.index()].op);
        let names =
            depth > 0 && matches!(key, Some(Op::Constant(Constant::Str(text))) if has_word(text, SUBJECTS));
        names || (depth < 3 && has_subject(body, *value, depth + 1))
    })
}
