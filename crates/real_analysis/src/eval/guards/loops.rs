//! What loops prove of everything that they went over.

use super::Query;
use super::relation::{Part, Relation};
use crate::eval::Engine;
use crate::facts::Refinement;
use crate::ir::{BlockId, CompareOp, Op, Terminator, ValueId};
use crate::text::{Checks, Mask};

impl Engine<'_> {
    /// What a loop proves where it ends.
    pub(super) fn facts_of_loop(
        &mut self,
        query: Query,
        header: BlockId,
        [iterable, element]: [ValueId; 2],
    ) -> Refinement {
        let value = query.value;
        let latches = self.back_edges(header);
        let removed = self.facts_of_removal(value, header, iterable, element);
        let removed = removed.meet(self.facts_of_search(value, header, iterable, element));
        let relation = self.relation(iterable, value);
        let resolves =
            |op: &Op| matches!(op, Op::Call { callee, .. } if self.is_path(*callee, &["socket.getaddrinfo"]));
        let resolved = resolves(self.op(iterable)) && self.depends_on(iterable, value);
        if relation.is_none() && !resolved {
            return removed;
        }
        let mut every = Refinement::impossible();
        for latch in latches {
            every = every.join(self.facts_on_path(query.of(element).deeper(), latch, None, Some(header)));
        }
        match relation {
            _ if every.impossible => removed,
            Some(relation) => of_all(relation, every).meet(removed),
            // Every address of the host was asked about.
            None => Refinement::checks(Checks(every.checks.0 & Checks::HOST_CHECKED.0)).meet(removed),
        }
    }

    /// `for c in "';": x = x.replace(c, "")` leaves none of these characters in `x`.
    fn facts_of_removal(
        &self,
        value: ValueId,
        header: BlockId,
        iterable: ValueId,
        element: ValueId,
    ) -> Refinement {
        let Op::Phi(operands) = self.op(value) else { return Refinement::nothing() };
        if self.function().insts[value.index()].block != header {
            return Refinement::nothing();
        }
        let removes = |operand: &ValueId| match self.op(*operand) {
            Op::Call { callee, args } => match (self.op(*callee), &args[..]) {
                (Op::Attribute { object, name }, [from, to]) => {
                    let nothing = self.known(to.value).text.as_constant() == Some("");
                    self.name(*name) == "replace" && *object == value && from.value == element && nothing
                }
                _ => false,
            },
            _ => false,
        };
        if operands.len() != 2 || !operands.iter().any(removes) {
            return Refinement::nothing();
        }
        Refinement::mask(Mask::ANY.minus(self.single_characters(iterable)))
    }

    /// `for c in "';": if c in x: return` leaves only an `x` without these characters.
    fn facts_of_search(
        &mut self,
        value: ValueId,
        header: BlockId,
        iterable: ValueId,
        element: ValueId,
    ) -> Refinement {
        let absent = self.single_characters(iterable);
        if absent == Mask::NONE {
            return Refinement::nothing();
        }
        let latches = self.back_edges(header);
        let searched = latches.iter().all(|latch| self.is_searched(value, *latch, header, element));
        if searched && !latches.is_empty() {
            Refinement::mask(Mask::ANY.minus(absent))
        } else {
            Refinement::nothing()
        }
    }

    /// Whether every way from a loop's header to its latch finds that the value does not contain the element.
    fn is_searched(&mut self, value: ValueId, latch: BlockId, header: BlockId, element: ValueId) -> bool {
        let prepared = self.prepare(self.frame().function);
        let mut at = latch;
        while at != header {
            let Some(parent) = prepared.dominators.parent(at) else { return false };
            if let Terminator::Branch { condition, then, .. } =
                self.function().blocks[parent.index()].terminator
                && self.function().blocks[at.index()].preds[..] == [parent]
                && self.is_absence(condition, then == at, value, element)
            {
                return true;
            }
            at = parent;
        }
        false
    }

    /// Whether a condition says that the element is not in the value.
    fn is_absence(&self, condition: ValueId, truth: bool, value: ValueId, element: ValueId) -> bool {
        let Op::Compare { op, left, right } = self.op(condition) else { return false };
        let absent = if truth { CompareOp::NotIn } else { CompareOp::In };
        *op == absent && *left == element && self.relation(*right, value).is_some()
    }

    /// The characters among the constant elements of something.
    fn single_characters(&self, iterable: ValueId) -> Mask {
        let parts = self.known(iterable);
        match (self.constant_members(&parts), parts.text.as_constant()) {
            (Some(members), _) => {
                let single = members.iter().filter(|member| member.chars().count() == 1);
                single.fold(Mask::NONE, |mask, member| mask.union(Mask::of(member)))
            }
            (None, Some(text)) => Mask::of(text),
            (None, None) => Mask::NONE,
        }
    }

    /// `all(test(e) for e in xs)`, and `not any(…)`: proves the test of every element of `xs`.
    pub(super) fn facts_of_every(&mut self, query: Query, tests: Option<ValueId>, truth: bool) -> Refinement {
        let value = query.value;
        let body = self.function();
        let Some((block, test)) = self.only_append(tests) else { return Refinement::nothing() };
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
        // `not any(c in x for c in "';")`
        if every_round && self.is_absence(test, truth, value, element) {
            return Refinement::mask(Mask::ANY.minus(self.single_characters(iterable)));
        }
        let Some(relation) = self.relation(iterable, value).filter(|_| every_round) else {
            return Refinement::nothing();
        };
        let element = prepared.canonical[element.index()];
        of_all(relation, self.facts_of_truth(query.of(element).deeper(), test, truth))
    }

    /// `any(host == known for known in HOSTS)`, and `not all(…)`: what the test proves, whichever element it was that passed.
    pub(super) fn facts_of_some(&mut self, query: Query, tests: Option<ValueId>, truth: bool) -> Refinement {
        match self.only_append(tests) {
            Some((_, test)) => self.facts_of_truth(query.deeper(), test, truth),
            None => Refinement::nothing(),
        }
    }

    /// What a comprehension collects, and where.
    fn only_append(&self, collected: Option<ValueId>) -> Option<(BlockId, ValueId)> {
        let collected = collected?;
        let mut appends = self.function().insts.iter().filter_map(|inst| match inst.op {
            Op::Append { container, value } if container == collected => Some((inst.block, value)),
            _ => None,
        });
        let only = appends.next()?;
        appends.next().is_none().then_some(only)
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
