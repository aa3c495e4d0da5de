//! How a tested expression depends on a value: `x.strip().isdigit()` says something of `x` too.

use rustc_hash::FxHashSet;

use crate::eval::Engine;
use crate::facts::Refinement;
use crate::ir::{Arg, BlockId, Op, Symbol, Terminator, ValueId};
use crate::text::{Checks, Mask};

/// How a tested expression depends on a value.
#[derive(Debug, Clone, Copy)]
pub(super) struct Relation {
    /// Characters that the value may have beside those of the tested expression.
    extra: Mask,
    cases: bool,
    /// The expression is the value: being one of some constants carries over.
    exact: bool,
    pub(super) part: Part,
}

/// What the tested expression is of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Whole,
    /// The host of the value as a URL.
    Host,
    /// The syntax tree of the value as source code, or its nodes.
    Tree,
}

const SAME: Relation = Relation { extra: Mask::NONE, cases: false, exact: true, part: Part::Whole };

impl Relation {
    pub(super) fn carry(self, proof: Refinement) -> Refinement {
        if self.part == Part::Host {
            let host = proof.constants.is_some() || proof.trusted || proof.checks.has(Checks::HOST_CHECKED);
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

impl Engine<'_> {
    /// How the tested expression depends on the value, if it does.
    pub(super) fn relation(&self, tested: ValueId, value: ValueId) -> Option<Relation> {
        let prepared = self.prepared[self.frame().function.index()].as_ref()?;
        let mut relation = SAME;
        let mut at = tested;
        for _ in 0..8 {
            if prepared.canonical[at.index()] == value {
                return Some(relation);
            }
            at = match self.op(at) {
                Op::Call { callee, args } => self.through_call(&mut relation, *callee, args)?,
                Op::Attribute { object, name } if matches!(self.name(*name), "netloc" | "hostname") => {
                    relation.part = Part::Host;
                    *object
                }
                Op::Attribute { object, name } if self.name(*name) == "parts" => {
                    relation.extra = relation.extra.union(Mask::char('/'));
                    relation.exact = false;
                    *object
                }
                Op::Phi(operands) => self.unless_empty(at, operands)?,
                _ => return None,
            };
        }
        None
    }

    /// The first operand of `x or ""`: where the other one is tested in its place, `x` is empty.
    fn unless_empty(&self, phi: ValueId, operands: &[ValueId]) -> Option<ValueId> {
        let body = self.function();
        let preds = &body.blocks[body.insts[phi.index()].block.index()].preds;
        let mut edges = operands.iter().zip(preds).filter(|_| operands.len() == 2);
        edges
            .find(|(operand, pred)| self.truth_on_edge(**operand, **pred) == Some(true))
            .map(|(operand, _)| *operand)
    }

    /// Whether a value is true in a block that a branch on it leads to.
    pub(in crate::eval) fn truth_on_edge(&self, value: ValueId, block: BlockId) -> Option<bool> {
        let blocks = &self.function().blocks;
        let [from] = blocks[block.index()].preds[..] else { return None };
        match blocks[from.index()].terminator {
            Terminator::Branch { condition, then, .. } if condition == value => Some(then == block),
            _ => None,
        }
    }

    /// The operand of a call that the result depends on in a known way.
    fn through_call(&self, relation: &mut Relation, callee: ValueId, args: &[Arg]) -> Option<ValueId> {
        let first = args.first().map(|arg| arg.value);
        if self.is_path(callee, &["ast.walk", "ast.parse"]) {
            relation.part = Part::Tree;
            return first;
        }
        if self.is_path(callee, &["urllib.parse.urlparse", "urllib.parse.urlsplit"]) {
            return first;
        }
        if relation.part == Part::Host && self.is_path(callee, &["urllib.parse.urljoin"]) {
            return args.get(1).map(|arg| arg.value);
        }
        // The path under its real name: only what is said of the file itself carries over.
        if self.is_path(callee, &["os.path.realpath", "os.path.abspath", "os.path.normpath"]) {
            relation.extra = Mask::ANY;
            relation.exact = false;
            return first;
        }
        match self.op(callee) {
            Op::Attribute { object, name } => self.through_method(relation, *object, *name, first),
            Op::Builtin(name) => match (self.name(*name), args) {
                ("str" | "list" | "tuple" | "sorted" | "iter", [arg]) => Some(arg.value),
                ("set" | "frozenset", [arg]) => {
                    relation.exact = false;
                    Some(arg.value)
                }
                _ => None,
            },
            _ => None,
        }
    }

    fn through_method(
        &self,
        relation: &mut Relation,
        object: ValueId,
        name: Symbol,
        first: Option<ValueId>,
    ) -> Option<ValueId> {
        let argument = first.and_then(|first| self.known(first).text.as_constant().map(Mask::of));
        match self.name(name) {
            "strip" | "lstrip" | "rstrip" | "split" => {
                relation.extra = relation.extra.union(argument.unwrap_or(Mask::SPACE));
                relation.exact = false;
            }
            "lower" | "upper" | "casefold" | "title" | "capitalize" => {
                relation.cases = true;
                relation.exact = false;
            }
            "replace" => {
                relation.extra = relation.extra.union(argument?);
                relation.exact = false;
            }
            "encode" | "decode" | "copy" | "resolve" | "absolute" => {}
            "urlparse" | "urlsplit" => return first,
            _ => return None,
        }
        Some(object)
    }

    pub(in crate::eval) fn is_path(&self, callee: ValueId, paths: &[&str]) -> bool {
        self.known(callee).path_name().is_some_and(|path| paths.contains(&path))
    }

    /// Whether an expression was computed from the value.
    pub(in crate::eval) fn depends_on(&self, expression: ValueId, value: ValueId) -> bool {
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
