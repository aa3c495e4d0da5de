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
//! too ([`relation::Relation`]).

mod calls;
mod comparisons;
mod equal;
mod loops;
mod relation;

use super::Engine;
use crate::facts::Refinement;
use crate::ir::{BinaryOp, BlockId, Op, Terminator, UnaryOp, ValueId};
use crate::text::Checks;
pub(super) use comparisons::MAX_TINY;
pub(super) use equal::{canonical, checked};

/// Blocks looked at for one proof.
const MAX_STEPS: u32 = 200;
/// Paths that meet and are all looked at.
const MAX_MEETING: usize = 6;
/// Conditions inside conditions, meetings inside paths.
const MAX_DEPTH: u32 = 6;

/// What is asked: of which value, and how many conditions deep.
#[derive(Debug, Clone, Copy)]
pub(super) struct Query {
    value: ValueId,
    depth: u32,
}

impl Query {
    fn deeper(self) -> Self {
        Self { depth: self.depth + 1, ..self }
    }

    fn of(self, value: ValueId) -> Self {
        Self { value, ..self }
    }
}

/// Attributes of an address that is not for everybody.
const INNER_NETWORK: &[&str] = &["is_private", "is_loopback", "is_link_local", "is_reserved"];

impl Engine<'_> {
    /// A new question, with a supply of steps for its answer.
    pub(super) fn query(&mut self, value: ValueId) -> Query {
        self.proof_steps = MAX_STEPS;
        Query { value, depth: 0 }
    }

    /// What is proved of a value in a block before the instruction `limit`.
    pub(super) fn facts_at(&mut self, value: ValueId, block: BlockId, limit: Option<ValueId>) -> Refinement {
        let function = self.frame().function;
        let prepared = self.prepare(function);
        let value = prepared.canonical[value.index()];
        if !prepared.checked[value.index()] {
            return Refinement::nothing();
        }
        let query = self.query(value);
        if self.rebuilding {
            return self.facts_on_path(query, block, limit, None);
        }
        self.facts_of_calls(value, block, limit).meet(self.facts_at_start(query, block))
    }

    /// What is proved of a value where a block begins. Kept for the rest of the pass: blocks that dominate this one are evaluated.
    fn facts_at_start(&mut self, query: Query, block: BlockId) -> Refinement {
        let prepared = self.prepare(self.frame().function);
        let mut path = Vec::new();
        let mut at = block;
        let mut proof = loop {
            if let Some(known) = self.frame().facts.get(&(query.value, at)) {
                break known.clone();
            }
            path.push(at);
            match prepared.dominators.parent(at) {
                Some(parent) if path.len() < MAX_STEPS as usize => at = parent,
                _ => break Refinement::nothing(),
            }
        };
        for at in path.into_iter().rev() {
            if let Some(parent) = prepared.dominators.parent(at) {
                proof = proof.meet(self.facts_of_calls(query.value, parent, None));
                self.proof_steps = MAX_STEPS;
                proof = proof.meet(self.facts_of_entry(query, at, parent));
            }
            self.frame_mut().facts.insert((query.value, at), proof.clone());
        }
        proof
    }

    /// What is proved by coming into a block, beyond what holds in its dominator.
    fn facts_of_entry(&mut self, query: Query, block: BlockId, parent: BlockId) -> Refinement {
        let preds = &self.function().blocks[block.index()].preds;
        if let [pred] = preds[..] {
            return self.facts_of_edge(query, pred, block);
        }
        let prepared = self.prepare(self.frame().function);
        let has_back_edge = preds.iter().any(|pred| prepared.dominators.is_back_edge(*pred, block));
        if has_back_edge || query.depth >= MAX_DEPTH || preds.len() > MAX_MEETING {
            return Refinement::nothing();
        }
        let mut joined = Refinement::impossible();
        for pred in preds {
            if self.frame().executed[pred.index()] {
                joined = joined.join(self.facts_on_path(query.deeper(), *pred, None, Some(parent)));
            }
            if joined.is_trivial() {
                break;
            }
        }
        joined
    }

    /// What is proved of a value from the block up to `stop`, which is not included.
    fn facts_on_path(
        &mut self,
        query: Query,
        block: BlockId,
        limit: Option<ValueId>,
        stop: Option<BlockId>,
    ) -> Refinement {
        let value = query.value;
        let prepared = self.prepare(self.frame().function);
        let mut proof = Refinement::nothing();
        let (mut at, mut limit) = (block, limit);
        while Some(at) != stop && self.proof_steps > 0 {
            self.proof_steps -= 1;
            proof = proof.meet(self.facts_of_calls(value, at, limit));
            limit = None;
            let Some(parent) = prepared.dominators.parent(at) else { break };
            proof = proof.meet(self.facts_of_entry(query, at, parent));
            at = parent;
        }
        proof
    }

    fn facts_of_edge(&mut self, query: Query, from: BlockId, to: BlockId) -> Refinement {
        match self.function().blocks[from.index()].terminator {
            Terminator::Branch { condition, then, .. } => self.facts_of_truth(query, condition, then == to),
            Terminator::ForNext { iterable, element, exit, .. } if exit == to => {
                self.facts_of_loop(query, from, [iterable, element])
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
    pub(super) fn facts_of_truth(&mut self, query: Query, condition: ValueId, truth: bool) -> Refinement {
        if query.depth > MAX_DEPTH || self.proof_steps == 0 {
            return Refinement::nothing();
        }
        self.proof_steps -= 1;
        if self.known(condition).truth().is_some_and(|known| known != truth) {
            return Refinement::impossible();
        }
        match self.op(condition) {
            Op::Unary { op: UnaryOp::Not, operand } => self.facts_of_truth(query.deeper(), *operand, !truth),
            Op::Phi(operands) => self.facts_of_phi(query, condition, operands, truth),
            Op::Compare { op, left, right } => {
                let op = if truth { *op } else { op.negated() };
                self.facts_of_comparison(query, op, *left, *right)
            }
            // A URL without a host stays on this site.
            Op::Attribute { object, name } if !truth && matches!(self.name(*name), "netloc" | "hostname") => {
                match self.relation(*object, query.value) {
                    Some(_) => Refinement::checks(Checks::HOST_CHECKED),
                    None => Refinement::nothing(),
                }
            }
            // `ipaddress.ip_address(socket.gethostbyname(host)).is_private`
            Op::Attribute { object, name }
                if (INNER_NETWORK.contains(&self.name(*name)) && !truth)
                    || (self.name(*name) == "is_global" && truth) =>
            {
                let asked = self.depends_on(*object, query.value);
                Refinement::checks(if asked { Checks::HOST_CHECKED } else { Checks::NONE })
            }
            Op::Call { callee, args } => self.facts_of_test(query, condition, *callee, args, truth),
            // `set(x) - ALLOWED` is empty.
            Op::Binary { op: BinaryOp::Subtract, left, right } if !truth => {
                self.facts_of_subset(query.value, *left, *right)
            }
            _ => Refinement::nothing(),
        }
    }

    fn facts_of_phi(&mut self, query: Query, phi: ValueId, operands: &[ValueId], truth: bool) -> Refinement {
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
            // `a and b`: where `b` was not asked, `a` was false.
            if self.truth_on_edge(*operand, *pred).is_some_and(|known| known != truth) {
                continue;
            }
            let here = self.facts_of_truth(query.deeper(), *operand, truth);
            if here.impossible {
                continue;
            }
            joined = joined.join(here.meet(self.facts_on_path(query.deeper(), *pred, None, parent)));
        }
        joined
    }
}
