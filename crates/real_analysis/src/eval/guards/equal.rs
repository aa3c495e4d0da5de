//! Which values are equal whenever both are computed, and which ones any check mentions.

use rustc_hash::FxHashMap;

use crate::dominators::Dominators;
use crate::ir::{Constant, Function, Op, Symbol, Symbols, Terminator, ValueId};

/// Representatives of values that are equal whenever both are computed: pure expressions over the same operands.
pub(in crate::eval) fn canonical(
    function: &Function,
    dominators: &Dominators,
    symbols: &Symbols,
) -> Vec<ValueId> {
    #[derive(PartialEq, Eq, Hash)]
    enum Key {
        Name(u8, Symbol),
        Int(i64),
        Text(std::rc::Rc<str>),
        Attribute(ValueId, Symbol),
        Subscript(ValueId, ValueId),
        Call(ValueId, Vec<ValueId>),
    }
    let mut representative: Vec<ValueId> = (0..function.insts.len() as u32).map(ValueId).collect();
    let mut known: FxHashMap<Key, ValueId> = FxHashMap::default();
    for block in &dominators.order {
        for id in &function.blocks[block.index()].insts {
            let of = |value: &ValueId| representative[value.index()];
            let key = match &function.insts[id.index()].op {
                Op::Constant(Constant::Int(value)) => Key::Int(*value),
                Op::Constant(Constant::Str(text)) => Key::Text(text.clone()),
                Op::Builtin(name) => Key::Name(0, *name),
                Op::Import(name) => Key::Name(1, *name),
                Op::Global(name) => Key::Name(2, *name),
                Op::Attribute { object, name } => Key::Attribute(of(object), *name),
                Op::Subscript { object, index } => Key::Subscript(of(object), of(index)),
                Op::Call { callee, args } if is_pure(function, *callee, symbols) => {
                    Key::Call(of(callee), args.iter().map(|arg| of(&arg.value)).collect())
                }
                _ => continue,
            };
            representative[id.index()] = *known.entry(key).or_insert(*id);
        }
    }
    representative
}

fn is_pure(function: &Function, callee: ValueId, symbols: &Symbols) -> bool {
    match &function.insts[callee.index()].op {
        Op::Attribute { name, .. } => matches!(
            symbols.text(*name),
            "strip"
                | "lower"
                | "upper"
                | "get"
                | "split"
                | "urlparse"
                | "urlsplit"
                | "realpath"
                | "abspath"
                | "resolve"
                | "join"
                | "replace"
        ),
        Op::Builtin(name) => matches!(symbols.text(*name), "str" | "len" | "set"),
        Op::Import(path) => symbols.text(*path).starts_with("urllib.parse.url"),
        _ => false,
    }
}

/// For each value whether it represents one on which some check depends.
pub(in crate::eval) fn checked(
    function: &Function,
    dominators: &Dominators,
    canonical: &[ValueId],
    symbols: &Symbols,
) -> Vec<bool> {
    let mut checked = vec![false; function.insts.len()];
    let mut pending = Vec::new();
    for block in &dominators.order {
        let block = &function.blocks[block.index()];
        match block.terminator {
            Terminator::Branch { condition, .. } => pending.push((condition, 0)),
            Terminator::ForNext { iterable, .. } => pending.push((iterable, 0)),
            _ => {}
        }
        for id in &block.insts {
            match &function.insts[id.index()].op {
                // A call that returns may have been a check.
                Op::Call { callee, .. } if may_check(function, *callee, symbols) => pending.push((*id, 0)),
                Op::Append { value, .. } => pending.push((*value, 0)),
                _ => {}
            }
        }
    }
    while let Some((value, depth)) = pending.pop() {
        let seen = std::mem::replace(&mut checked[canonical[value.index()].index()], true);
        if !seen && depth < 12 {
            function.insts[value.index()].op.operands(|operand| pending.push((operand, depth + 1)));
        }
    }
    checked
}

/// Whether a call of this may be a check by returning: functions of the program may, and few of libraries.
fn may_check(function: &Function, callee: ValueId, symbols: &Symbols) -> bool {
    let mut at = callee;
    while let Op::Attribute { object, name } = &function.insts[at.index()].op {
        if matches!(symbols.text(*name), "UUID" | "ip_address" | "relative_to") {
            return true;
        }
        at = *object;
    }
    match &function.insts[at.index()].op {
        Op::Builtin(name) => matches!(symbols.text(*name), "int" | "float" | "super"),
        Op::Import(path) => {
            at == callee && matches!(symbols.text(*path), "uuid.UUID" | "ipaddress.ip_address")
                || symbols.text(*path).starts_with('.')
        }
        _ => true,
    }
}
