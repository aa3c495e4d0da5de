//! What the checks on the way to an instruction prove about a value.
//!
//! In SSA form a value never changes, so a branch that dominates a use proves the same about every use below it, of the
//! value itself and of whatever was computed from it. Nothing is stored: the proof is collected by walking up the
//! dominator tree from the use.
//!
//! ```text
//! b0: v1 = x in ALLOWED ; branch v1 b1 b2      b2: raise
//! b1: execute(x)          ← up from here: b1 is the true side of v1, so x is one of ALLOWED
//! ```
//!
//! Where paths meet, the proofs of the paths are joined (`x == "a" or x == "b"`). A loop that every element had to pass proves
//! its check of all of them. The tested expression need not be the value itself: `x.strip().isdigit()` says something of `x`
//! too ([`Relation`]).

use rustc_hash::{FxHashMap, FxHashSet};

use super::Engine;
use crate::dominators::Dominators;
use crate::facts::Refinement;
use crate::ir::{
    Arg, ArgKind, BlockId, CompareOp, Constant, Function, Op, Symbol, Symbols, Terminator, UnaryOp, ValueId,
};
use crate::library::Origin;
use crate::rules;
use crate::text::{Checks, Mask, regex};
use crate::value::{Object, Value};

/// Blocks looked at for one proof.
const MAX_STEPS: u32 = 200;
/// Texts up to this length are short.
const MAX_SHORT: i64 = 10_000;
/// Conditions inside conditions, meetings inside paths.
const MAX_DEPTH: u32 = 6;

/// How a tested expression depends on a value.
#[derive(Debug, Clone, Copy)]
struct Relation {
    /// Characters that the value may have beside those of the tested expression.
    extra: Mask,
    cases: bool,
    /// The expression is the value: being one of some constants carries over.
    exact: bool,
    part: Part,
}

/// What the tested expression is of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Whole,
    /// The host of the value as a URL.
    Host,
    /// The syntax tree of the value as source code, or its nodes.
    Tree,
}

const SAME: Relation = Relation { extra: Mask::NONE, cases: false, exact: true, part: Part::Whole };

impl Relation {
    fn carry(self, proof: Refinement) -> Refinement {
        if self.part == Part::Host {
            let host = proof.constants.is_some() || proof.trusted;
            return if host { Refinement::checks(Checks::HOST_CHECKED) } else { Refinement::nothing() };
        }
        if self.part == Part::Tree {
            return Refinement::checks(Checks(proof.checks.0 & Checks::TREE_CHECKED.0));
        }
        if self.exact {
            return proof;
        }
        let mask = if self.cases { proof.mask.both_cases() } else { proof.mask };
        Refinement { mask: mask.union(self.extra), constants: None, number: false, ..proof }
    }
}

/// Representatives of values that are equal whenever both are computed: pure expressions over the same operands.
pub(super) fn canonical(function: &Function, dominators: &Dominators, symbols: &Symbols) -> Vec<ValueId> {
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

/// Representatives of all values on which some check depends.
pub(super) fn checked(
    function: &Function,
    dominators: &Dominators,
    canonical: &[ValueId],
) -> FxHashSet<ValueId> {
    let mut checked = FxHashSet::default();
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
                Op::Call { .. } => pending.push((*id, 0)),
                Op::Append { value, .. } => pending.push((*value, 0)),
                _ => {}
            }
        }
    }
    while let Some((value, depth)) = pending.pop() {
        if checked.insert(canonical[value.index()]) && depth < 12 {
            function.insts[value.index()].op.operands(|operand| pending.push((operand, depth + 1)));
        }
    }
    checked
}

impl Engine<'_> {
    /// What is proved of a value in a block before the instruction `limit`.
    pub(super) fn facts_at(&mut self, value: ValueId, block: BlockId, limit: Option<ValueId>) -> Refinement {
        let function = self.frame().function;
        let prepared = self.prepare(function);
        let value = prepared.canonical[value.index()];
        if !prepared.checked.contains(&value) {
            return Refinement::nothing();
        }
        let mut steps = MAX_STEPS;
        self.facts_on_path(value, block, limit, None, 0, &mut steps)
    }

    /// What is proved of a value from the block up to `stop`, which is not included.
    fn facts_on_path(
        &mut self,
        value: ValueId,
        block: BlockId,
        limit: Option<ValueId>,
        stop: Option<BlockId>,
        depth: u32,
        steps: &mut u32,
    ) -> Refinement {
        let prepared = self.prepare(self.frame().function);
        let mut proof = Refinement::nothing();
        let (mut at, mut limit) = (block, limit);
        while Some(at) != stop && *steps > 0 {
            *steps -= 1;
            proof = proof.meet(self.facts_of_calls(value, at, limit));
            limit = None;
            let preds = &self.function().blocks[at.index()].preds;
            let Some(parent) = prepared.dominators.parent(at) else { break };
            if let [pred] = preds[..] {
                proof = proof.meet(self.facts_of_edge(value, pred, at, depth, steps));
                at = pred;
                continue;
            }
            let has_back_edge = preds.iter().any(|pred| prepared.dominators.is_back_edge(*pred, at));
            if !has_back_edge && depth < MAX_DEPTH && preds.len() <= 6 {
                let mut joined = Refinement::impossible();
                for pred in preds.clone() {
                    if self.frame().executed[pred.index()] {
                        joined = joined.join(self.facts_on_path(
                            value,
                            pred,
                            None,
                            Some(parent),
                            depth + 1,
                            steps,
                        ));
                    }
                }
                proof = proof.meet(joined);
            }
            at = parent;
        }
        proof
    }

    fn facts_of_edge(
        &mut self,
        value: ValueId,
        from: BlockId,
        to: BlockId,
        depth: u32,
        steps: &mut u32,
    ) -> Refinement {
        match self.function().blocks[from.index()].terminator {
            Terminator::Branch { condition, then, .. } => {
                self.facts_of_truth(value, condition, then == to, depth, steps)
            }
            Terminator::ForNext { iterable, element, exit, .. } if exit == to => {
                let Some(relation) = self.relation_of_iterable(iterable, value) else {
                    return Refinement::nothing();
                };
                let header = from;
                let latches = self.back_edges(header);
                let mut every = Refinement::impossible();
                for latch in latches {
                    every =
                        every.join(self.facts_on_path(element, latch, None, Some(header), depth + 1, steps));
                }
                if every.impossible { Refinement::nothing() } else { of_all(relation, every) }
            }
            _ => Refinement::nothing(),
        }
    }

    fn back_edges(&mut self, header: BlockId) -> Vec<BlockId> {
        let prepared = self.prepare(self.frame().function);
        let preds = &self.function().blocks[header.index()].preds;
        preds.iter().copied().filter(|pred| prepared.dominators.is_back_edge(*pred, header)).collect()
    }

    /// What the truth value of a condition proves.
    pub(super) fn facts_of_truth(
        &mut self,
        value: ValueId,
        condition: ValueId,
        truth: bool,
        depth: u32,
        steps: &mut u32,
    ) -> Refinement {
        if depth > MAX_DEPTH || *steps == 0 {
            return Refinement::nothing();
        }
        *steps -= 1;
        if self.known(condition).truth().is_some_and(|known| known != truth) {
            return Refinement::impossible();
        }
        match self.op(condition) {
            Op::Unary { op: UnaryOp::Not, operand } => {
                self.facts_of_truth(value, *operand, !truth, depth + 1, steps)
            }
            Op::Phi(operands) => self.facts_of_phi(value, condition, operands, truth, depth, steps),
            Op::Compare { op, left, right } => {
                let op = if truth { *op } else { op.negated() };
                self.facts_of_comparison(value, op, *left, *right, depth, steps)
            }
            Op::Call { callee, args } => {
                self.facts_of_test(value, condition, *callee, args, truth, depth, steps)
            }
            _ => Refinement::nothing(),
        }
    }

    fn facts_of_phi(
        &mut self,
        value: ValueId,
        phi: ValueId,
        operands: &[ValueId],
        truth: bool,
        depth: u32,
        steps: &mut u32,
    ) -> Refinement {
        let prepared = self.prepare(self.frame().function);
        let block = self.function().insts[phi.index()].block;
        let preds = &self.function().blocks[block.index()].preds;
        let parent = prepared.dominators.parent(block);
        let mut joined = Refinement::impossible();
        for (operand, pred) in operands.iter().zip(preds) {
            if prepared.dominators.is_back_edge(*pred, block) {
                return Refinement::nothing();
            }
            if !self.frame().executed[pred.index()] {
                continue;
            }
            let here = self.facts_of_truth(value, *operand, truth, depth + 1, steps);
            if here.impossible {
                continue;
            }
            joined = joined.join(here.meet(self.facts_on_path(value, *pred, None, parent, depth + 1, steps)));
        }
        joined
    }

    /// How the tested expression depends on the value, if it does.
    fn relation(&self, tested: ValueId, value: ValueId) -> Option<Relation> {
        let prepared = self.prepared[self.frame().function.index()].as_ref()?;
        let mut relation = SAME;
        let mut at = tested;
        for _ in 0..8 {
            if prepared.canonical[at.index()] == value {
                return Some(relation);
            }
            match self.op(at) {
                Op::Call { callee, args } => match (self.op(*callee), &args[..]) {
                    (Op::Attribute { object, name }, args) => {
                        let first = args
                            .first()
                            .and_then(|arg| self.known(arg.value).text.as_constant().map(str::to_owned));
                        match self.name(*name) {
                            "strip" | "lstrip" | "rstrip" => {
                                let taken = first.map_or(Mask::SPACE, |text| Mask::of(&text));
                                relation.extra = relation.extra.union(taken);
                                relation.exact = false;
                            }
                            "lower" | "upper" | "casefold" | "title" | "capitalize" => {
                                relation.cases = true;
                                relation.exact = false;
                            }
                            "replace" => {
                                relation.extra = relation.extra.union(Mask::of(&first?));
                                relation.exact = false;
                            }
                            "encode" | "decode" | "copy" | "resolve" | "absolute" => {}
                            "split" => {
                                relation.extra =
                                    relation.extra.union(first.map_or(Mask::SPACE, |text| Mask::of(&text)));
                                relation.exact = false;
                            }
                            "walk" | "parse" if self.is_path(*callee, &["ast.walk", "ast.parse"]) => {
                                relation.part = Part::Tree;
                                at = args.first()?.value;
                                continue;
                            }
                            "urlparse" | "urlsplit" => {
                                at = args.first()?.value;
                                continue;
                            }
                            _ => return None,
                        }
                        at = *object;
                    }
                    (Op::Builtin(name), [arg]) => match self.name(*name) {
                        "str" | "list" | "tuple" | "sorted" | "iter" => at = arg.value,
                        "set" | "frozenset" => {
                            relation.exact = false;
                            at = arg.value;
                        }
                        _ => return None,
                    },
                    (_, [arg, ..]) if self.is_path(*callee, &["ast.walk", "ast.parse"]) => {
                        relation.part = Part::Tree;
                        at = arg.value;
                    }
                    (_, [arg, ..])
                        if self.is_path(*callee, &["urllib.parse.urlparse", "urllib.parse.urlsplit"]) =>
                    {
                        at = arg.value;
                    }
                    _ => return None,
                },
                Op::Attribute { object, name } => match self.name(*name) {
                    "netloc" | "hostname" => {
                        relation.part = Part::Host;
                        at = *object;
                    }
                    _ => return None,
                },
                _ => return None,
            }
        }
        None
    }

    fn is_path(&self, callee: ValueId, paths: &[&str]) -> bool {
        self.known(callee).path_name().is_some_and(|path| paths.contains(&path))
    }

    fn relation_of_iterable(&self, iterable: ValueId, value: ValueId) -> Option<Relation> {
        self.relation(iterable, value)
    }

    fn facts_of_comparison(
        &mut self,
        value: ValueId,
        op: CompareOp,
        left: ValueId,
        right: ValueId,
        depth: u32,
        steps: &mut u32,
    ) -> Refinement {
        match op {
            CompareOp::Equal | CompareOp::Is => {
                let sides = [(left, right), (right, left)];
                let mut proof = Refinement::nothing();
                for (tested, other) in sides {
                    proof = proof.meet(self.facts_of_equality(value, tested, other, depth, steps));
                }
                proof
            }
            CompareOp::NotEqual | CompareOp::IsNot => match self.known(right).object {
                // `match is not None`, `flag is not False`
                Object::None | Object::Bool(Some(false)) => {
                    self.facts_of_truth(value, left, true, depth + 1, steps)
                }
                Object::Bool(Some(true)) => self.facts_of_truth(value, left, false, depth + 1, steps),
                _ => Refinement::nothing(),
            },
            CompareOp::In => self.facts_of_membership(value, left, right),
            CompareOp::NotIn => {
                let Some(relation) = self.relation(right, value) else { return Refinement::nothing() };
                let absent = self.known(left).text.as_constant().map(str::to_owned);
                match absent.as_deref() {
                    Some("..") => Refinement::checks(Checks::NO_PARENT),
                    Some(absent) if absent.chars().count() == 1 => {
                        relation.carry(Refinement::mask(Mask::ANY.minus(Mask::of(absent))))
                    }
                    _ => Refinement::nothing(),
                }
            }
            CompareOp::LessEqual => {
                self.facts_of_subset(value, left, right).meet(self.facts_of_length(value, left, right))
            }
            CompareOp::GreaterEqual => {
                self.facts_of_subset(value, right, left).meet(self.facts_of_length(value, right, left))
            }
            CompareOp::Less => self.facts_of_length(value, left, right),
            CompareOp::Greater => self.facts_of_length(value, right, left),
        }
    }

    fn facts_of_equality(
        &mut self,
        value: ValueId,
        tested: ValueId,
        other: ValueId,
        depth: u32,
        steps: &mut u32,
    ) -> Refinement {
        let known = self.known(other);
        if let Object::Bool(Some(truth)) = known.object {
            return self.facts_of_truth(value, tested, truth, depth + 1, steps);
        }
        if let Object::None = known.object {
            return self.facts_of_truth(value, tested, false, depth + 1, steps);
        }
        if let Op::Call { callee, args } = self.op(tested)
            && self.is_path(*callee, &["os.path.commonpath"])
            && args.iter().any(|arg| self.depends_on(arg.value, value))
        {
            return Refinement::checks(Checks::CONFINED);
        }
        let Some(relation) = self.relation(tested, value) else { return Refinement::nothing() };
        match known.text.as_constants() {
            Some(constants) if known.taint() == 0 => relation.carry(Refinement::constants(constants)),
            _ if known.taint() == 0 => relation.carry(Refinement::trusted()),
            _ => Refinement::nothing(),
        }
    }

    fn facts_of_membership(&mut self, value: ValueId, left: ValueId, right: ValueId) -> Refinement {
        let Some(relation) = self.relation(left, value) else { return Refinement::nothing() };
        let container = self.known(right);
        if let Some(members) = self.constant_members(&container) {
            return relation.carry(Refinement::constants(members.iter().map(|member| &**member)));
        }
        if let (Object::Text, Some(text)) = (&container.object, container.text.as_constant()) {
            return relation.carry(Refinement::mask(Mask::of(text)));
        }
        let open = container.path_name().is_some_and(|path| path.starts_with("hashlib."));
        // A list that the caller passes beside the value is the caller's policy; a request has no policy.
        let policy = self.confidence_of(container.taint()) <= rules::origin_weight(Origin::Parameter)
            && container.taint() & self.known(left).taint() == 0;
        if (container.taint() == 0 || policy) && !open {
            relation.carry(Refinement::trusted())
        } else {
            Refinement::nothing()
        }
    }

    /// `len(x) < 1000`
    fn facts_of_length(&self, value: ValueId, length: ValueId, limit: ValueId) -> Refinement {
        let Op::Call { callee, args } = self.op(length) else { return Refinement::nothing() };
        let is_length = self.is_path(*callee, &["builtins.len"]);
        let limited = matches!(self.known(limit).object, Object::Int(limit) if limit <= MAX_SHORT);
        match args.first().and_then(|arg| self.relation(arg.value, value)) {
            Some(_) if is_length && limited => Refinement::checks(Checks::SHORT),
            _ => Refinement::nothing(),
        }
    }

    /// `set(x) <= set("abc")`
    fn facts_of_subset(&mut self, value: ValueId, left: ValueId, right: ValueId) -> Refinement {
        let is_set = matches!(self.op(left), Op::Call { callee, .. } if self.is_path(*callee, &["builtins.set", "builtins.frozenset"]));
        let (true, Some(relation)) = (is_set, self.relation(left, value)) else {
            return Refinement::nothing();
        };
        let allowed = self.known(right);
        let mask = match self.constant_members(&allowed) {
            Some(members) => members.iter().fold(Mask::NONE, |mask, member| mask.union(Mask::of(member))),
            None if allowed.taint() == 0 => match allowed.text.as_constant() {
                Some(text) => Mask::of(text),
                None => return Refinement::nothing(),
            },
            None => return Refinement::nothing(),
        };
        relation.carry(Refinement::mask(mask))
    }

    /// What a call as a condition proves.
    #[expect(clippy::too_many_arguments, reason = "one recursion over conditions, whose state is these")]
    fn facts_of_test(
        &mut self,
        value: ValueId,
        call: ValueId,
        callee: ValueId,
        args: &[Arg],
        truth: bool,
        depth: u32,
        steps: &mut u32,
    ) -> Refinement {
        if let Some(summary) = self.frame().summaries.get(&call).cloned() {
            let proofs = if truth { &summary.truthy } else { &summary.falsy };
            return self.facts_of_summary(value, call, args, proofs);
        }
        let callee_value = self.known(callee);
        if let Some(path) = callee_value.path_name() {
            return self.facts_of_library_test(value, path, args, truth, depth, steps);
        }
        let Object::Method(_, name) = callee_value.object else { return Refinement::nothing() };
        let Op::Attribute { object, .. } = self.op(callee) else { return Refinement::nothing() };
        self.facts_of_method_test(value, *object, self.name(name), args, truth)
    }

    fn facts_of_summary(
        &self,
        value: ValueId,
        call: ValueId,
        args: &[Arg],
        proofs: &[Refinement],
    ) -> Refinement {
        let Op::Call { callee, .. } = self.op(call) else { return Refinement::nothing() };
        let skip = usize::from(matches!(self.known(*callee).object, Object::Bound(..)));
        let mut proof = Refinement::nothing();
        for (index, arg) in args.iter().enumerate() {
            let index = match arg.kind {
                ArgKind::Positional => Some(index + skip),
                ArgKind::Keyword(name) => self.callee_param(*callee, name),
                ArgKind::Star | ArgKind::DoubleStar => None,
            };
            let proved = index.and_then(|index| proofs.get(index));
            if let (Some(proved), Some(relation)) = (proved, self.relation(arg.value, value)) {
                proof = proof.meet(relation.carry(proved.clone()));
            }
        }
        proof
    }

    fn callee_param(&self, callee: ValueId, name: Symbol) -> Option<usize> {
        let (Object::Function(function) | Object::Bound(function, _)) = self.known(callee).object else {
            return None;
        };
        self.module.functions[function.index()].params.iter().position(|param| param.name == name)
    }

    fn facts_of_method_test(
        &mut self,
        value: ValueId,
        receiver: ValueId,
        name: &str,
        args: &[Arg],
        truth: bool,
    ) -> Refinement {
        let first = args.first().map(|arg| arg.value);
        if let Object::Instance(path) = self.known(receiver).object.clone()
            && &*path == "re.compile"
        {
            let pattern = self.known(receiver);
            let Some(subject) = first else { return Refinement::nothing() };
            return self.facts_of_pattern(value, name, &pattern, subject, truth);
        }
        if name == "issubset"
            && truth
            && let Some(allowed) = first
        {
            return self.facts_of_subset(value, receiver, allowed);
        }
        let Some(relation) = self.relation(receiver, value) else { return Refinement::nothing() };
        let argument = first.map(|first| self.known(first));
        let proof = match (name, truth) {
            ("isdigit" | "isdecimal" | "isnumeric", true) => Refinement::mask(Mask::DIGITS),
            ("isalnum", true) => Refinement::mask(Mask::ALNUM.with_other()),
            ("isalpha", true) => Refinement::mask(Mask::LETTERS.with_other()),
            ("isidentifier", true) => Refinement::mask(Mask::WORD.with_other()),
            ("is_relative_to", true) => Refinement::checks(Checks::CONFINED),
            ("startswith", true) => self.facts_of_prefix(receiver, argument.as_ref()),
            ("startswith", false) => {
                let root = argument.is_some_and(|prefix| prefix.text.as_constant() == Some("/"));
                if root { Refinement::checks(Checks::RELATIVE) } else { Refinement::nothing() }
            }
            ("is_absolute", false) => Refinement::checks(Checks::RELATIVE),
            _ => Refinement::nothing(),
        };
        relation.carry(proof)
    }

    /// `x.startswith(prefix)`: confines a resolved path, and fixes the host of a URL.
    fn facts_of_prefix(&self, receiver: ValueId, prefix: Option<&Value>) -> Refinement {
        let Some(prefix) = prefix.filter(|prefix| prefix.taint() == 0) else { return Refinement::nothing() };
        let resolved = self.known(receiver).text.summary().checks.has(Checks::RESOLVED);
        if resolved {
            return Refinement::checks(Checks::CONFINED);
        }
        let hosts = prefix.text.as_constants().unwrap_or_default();
        let fixes = |url: &&str| url.split_once("://").is_some_and(|(_, rest)| rest.contains('/'));
        if !hosts.is_empty() && hosts.iter().all(fixes) {
            return Refinement::checks(Checks::HOST_CHECKED);
        }
        Refinement::nothing()
    }

    fn facts_of_library_test(
        &mut self,
        value: ValueId,
        path: &str,
        args: &[Arg],
        truth: bool,
        depth: u32,
        steps: &mut u32,
    ) -> Refinement {
        let arg = |index: usize| args.get(index).map(|arg| arg.value);
        match path {
            "builtins.isinstance" => {
                let (Some(tested), Some(kinds)) = (arg(0), arg(1)) else { return Refinement::nothing() };
                let Some(relation) = self.relation(tested, value) else { return Refinement::nothing() };
                relation.carry(self.facts_of_type(kinds, truth))
            }
            "builtins.bool" => match arg(0) {
                Some(tested) => self.facts_of_truth(value, tested, truth, depth + 1, steps),
                None => Refinement::nothing(),
            },
            "builtins.all" if truth => self.facts_of_every(value, arg(0), true, depth, steps),
            "builtins.any" if !truth => self.facts_of_every(value, arg(0), false, depth, steps),
            "re.match" | "re.fullmatch" | "re.search" => {
                let (Some(pattern), Some(subject)) = (arg(0), arg(1)) else { return Refinement::nothing() };
                let pattern = self.known(pattern);
                self.facts_of_pattern(value, &path[3..], &pattern, subject, truth)
            }
            "os.path.isabs" if !truth => match arg(0).and_then(|tested| self.relation(tested, value)) {
                Some(_) => Refinement::checks(Checks::RELATIVE),
                None => Refinement::nothing(),
            },
            "hmac.compare_digest" | "secrets.compare_digest" if truth => {
                let involved = args.iter().any(|arg| self.depends_on(arg.value, value));
                if involved { Refinement::checks(Checks::AUTHENTIC) } else { Refinement::nothing() }
            }
            "django.utils.http.url_has_allowed_host_and_scheme" | "django.utils.http.is_safe_url"
                if truth =>
            {
                match arg(0).and_then(|tested| self.relation(tested, value)) {
                    Some(_) => Refinement::checks(Checks::HOST_CHECKED),
                    None => Refinement::nothing(),
                }
            }
            _ => Refinement::nothing(),
        }
    }

    fn facts_of_type(&self, kinds: ValueId, truth: bool) -> Refinement {
        let kinds = self.known(kinds);
        let values = match kinds.object {
            Object::Container(heap) => {
                let object = &self.heap[heap.0 as usize];
                object.fields.iter().map(|(_, value)| value).chain(&object.rest).cloned().collect()
            }
            _ => vec![kinds],
        };
        let paths: Vec<&str> = values.iter().map(|value| value.path_name().unwrap_or("?")).collect();
        let number = |path: &&str| {
            matches!(*path, "builtins.int" | "builtins.float" | "builtins.bool" | "builtins.complex")
        };
        if truth && !paths.is_empty() && paths.iter().all(number) {
            return Refinement::number();
        }
        let nodes = paths.iter().all(|path| path.starts_with("ast."));
        let calls = paths.contains(&"ast.Call") || paths.contains(&"ast.AST") || paths.contains(&"ast.expr");
        // Either only listed nodes pass and calls are not among them, or calls are among those that do not pass.
        if nodes && !paths.is_empty() && calls != truth {
            return Refinement::checks(Checks::TREE_CHECKED);
        }
        Refinement::nothing()
    }

    fn facts_of_pattern(
        &mut self,
        value: ValueId,
        method: &str,
        pattern: &Value,
        subject: ValueId,
        truth: bool,
    ) -> Refinement {
        let Some(relation) = self.relation(subject, value) else { return Refinement::nothing() };
        let known = pattern.text.as_constant().and_then(|pattern| regex::parse(pattern, false));
        let Some(known) = known else { return Refinement::nothing() };
        let whole = match method {
            "fullmatch" => true,
            "match" => known.anchored_end,
            "search" => known.anchored_start && known.anchored_end,
            _ => return Refinement::nothing(),
        };
        let proof = match truth {
            true if whole => {
                let newline = known.final_newline && method != "fullmatch";
                let extra = if newline { Mask::char('\n') } else { Mask::NONE };
                Refinement::mask(known.mask.union(extra))
            }
            // No character of the class occurs anywhere.
            false if method == "search" => match known.class {
                Some(class) if known.class_has_all_others => Refinement::mask(Mask::ANY.minus_all(class)),
                Some(class) => Refinement::mask(Mask::ANY.minus(class)),
                None => Refinement::nothing(),
            },
            _ => Refinement::nothing(),
        };
        relation.carry(proof)
    }

    /// `all(test(e) for e in xs)`, and `not any(…)`: proves the test of every element of `xs`.
    fn facts_of_every(
        &mut self,
        value: ValueId,
        tests: Option<ValueId>,
        truth: bool,
        depth: u32,
        steps: &mut u32,
    ) -> Refinement {
        let body = self.function();
        let Some(tests) = tests else { return Refinement::nothing() };
        let mut appends = body.insts.iter().filter_map(|inst| match inst.op {
            Op::Append { container, value } if container == tests => Some((inst.block, value)),
            _ => None,
        });
        let (Some((block, test)), None) = (appends.next(), appends.next()) else {
            return Refinement::nothing();
        };
        let prepared = self.prepare(self.frame().function);
        // The loop whose every round appends: its only way back passes the append.
        let mut header = block;
        while !matches!(body.blocks[header.index()].terminator, Terminator::ForNext { .. }) {
            match prepared.dominators.parent(header) {
                Some(parent) => header = parent,
                None => return Refinement::nothing(),
            }
        }
        let Terminator::ForNext { iterable, element, .. } = body.blocks[header.index()].terminator else {
            return Refinement::nothing();
        };
        let latches = self.back_edges(header);
        let every_round = latches.iter().all(|latch| prepared.dominators.dominates(block, *latch));
        let Some(relation) = self.relation_of_iterable(iterable, value).filter(|_| every_round) else {
            return Refinement::nothing();
        };
        let element = prepared.canonical[element.index()];
        of_all(relation, self.facts_of_truth(element, test, truth, depth + 1, steps))
    }

    /// What calls in a block prove by returning.
    fn facts_of_calls(&mut self, value: ValueId, block: BlockId, limit: Option<ValueId>) -> Refinement {
        let body = self.function();
        let mut proof = Refinement::nothing();
        for id in &body.blocks[block.index()].insts {
            if Some(*id) == limit {
                break;
            }
            let Op::Call { callee, args } = &body.insts[id.index()].op else { continue };
            if let Some(summary) = self.frame().summaries.get(id).cloned() {
                proof = proof.meet(self.facts_of_summary(value, *id, args, &summary.returns));
                continue;
            }
            let Some(known) = &self.frame().values[callee.index()] else { continue };
            let (tested, mask) = match &known.object {
                Object::Method(_, name) if self.name(*name) == "relative_to" => match self.op(*callee) {
                    Op::Attribute { object, .. } if self.relation(*object, value).is_some() => {
                        proof = proof.meet(Refinement::checks(Checks::CONFINED));
                        continue;
                    }
                    _ => continue,
                },
                Object::Path(path) => match &**path {
                    "builtins.int" | "builtins.float" => {
                        (args.first(), Mask::NUMBER.union(Mask::SPACE).union(Mask::char('_')))
                    }
                    "uuid.UUID" => (args.first(), Mask::HEX.union(Mask::ascii(b"-{}:uriundl"))),
                    "ipaddress.ip_address" => (args.first(), Mask::HEX.union(Mask::ascii(b".:%"))),
                    _ => continue,
                },
                _ => continue,
            };
            if let Some(relation) = tested.and_then(|arg| self.relation(arg.value, value)) {
                proof = proof.meet(relation.carry(Refinement::mask(mask)));
            }
        }
        proof
    }

    /// Whether an expression was computed from the value.
    fn depends_on(&self, expression: ValueId, value: ValueId) -> bool {
        let Some(prepared) = self.prepared[self.frame().function.index()].as_ref() else { return false };
        let mut pending = vec![expression];
        let mut seen = FxHashSet::default();
        while let Some(at) = pending.pop() {
            if prepared.canonical[at.index()] == value {
                return true;
            }
            if seen.len() < 64 && seen.insert(at) {
                self.op(at).operands(|operand| pending.push(operand));
            }
        }
        false
    }
}

/// A proof of every element, as a proof of what was iterated.
fn of_all(relation: Relation, every: Refinement) -> Refinement {
    if relation.part == Part::Tree {
        return Refinement::checks(Checks(every.checks.0 & Checks::TREE_CHECKED.0));
    }
    // The characters of a string are its elements; the elements of a list keep the proof for themselves.
    let characters = relation.carry(Refinement::mask(every.mask));
    Refinement { elements: Refinement::elements(every).elements, ..characters }
}
