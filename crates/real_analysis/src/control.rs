//! Control dependence, after Ferrante, Ottenstein and Warren, "The Program Dependence Graph and Its Use in Optimization" (1987).
//!
//! A block depends on a branch when one way out of the branch surely leads to the block and another may avoid it. In
//!
//! ```text
//! b0: branch token == EXPECTED  b1 b2
//! b1: transfer(…) ; return      ← depends on b0, taken as true
//! b2: raise
//! ```
//!
//! the transfer depends on the comparison, whether it is written inside `if` or after a check that raises. It is what
//! separates a check from a comparison that changes nothing: after `if token != EXPECTED: log(…)` both ways lead to the
//! transfer.
//!
//! B depends on the edge A → S when B post-dominates S (or is S) but not A. So for each edge one walks up the tree of
//! post-dominators from S to the parent of A; everything on the way depends on the edge.

use crate::dominators::{Dominators, Graph};
use crate::ir::{BlockId, Function};

/// The edge of a branch: the block that ends in it, and whether it is the first way out (for an `if`: the condition is true).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Edge {
    pub(crate) from: BlockId,
    pub(crate) first: bool,
}

/// For each block, the edges that decide whether it runs.
#[derive(Debug)]
pub(crate) struct ControlDependence {
    edges: Vec<Vec<Edge>>,
}

impl ControlDependence {
    pub(crate) fn of(function: &Function) -> Self {
        let ends = |block: &BlockId| function.blocks[block.index()].terminator.successors().next().is_none();
        let exits = (0..function.blocks.len() as u32).map(BlockId).filter(ends).collect();
        let backwards = Backwards::of(function, exits);
        let exit = backwards.entry();
        let tree = Dominators::of(&backwards);
        let mut edges: Vec<Vec<Edge>> = vec![Vec::new(); function.blocks.len()];
        for index in 0..function.blocks.len() {
            let from = BlockId(index as u32);
            let end = tree.parent(from);
            let targets = &backwards.preds[index];
            for (way, target) in targets.iter().enumerate().filter(|_| targets.len() > 1) {
                let mut at = Some(*target).filter(|target| tree.reachable(*target));
                while let Some(block) = at.filter(|block| at != end && *block != exit) {
                    edges[block.index()].push(Edge { from, first: way == 0 });
                    at = tree.parent(block);
                }
            }
        }
        Self { edges }
    }

    /// The edges on which the block depends directly.
    pub(crate) fn direct(&self, block: BlockId) -> &[Edge] {
        &self.edges[block.index()]
    }

    /// All edges on which the block depends, those of the branches' own blocks included.
    pub(crate) fn all(&self, block: BlockId) -> Vec<Edge> {
        let mut found = Vec::new();
        let mut seen = vec![false; self.edges.len()];
        let mut pending = vec![block];
        while let Some(block) = pending.pop() {
            if !std::mem::replace(&mut seen[block.index()], true) {
                found.extend_from_slice(self.direct(block));
                pending.extend(self.direct(block).iter().map(|edge| edge.from));
            }
        }
        found
    }
}

/// The control-flow graph with its edges turned round, from one exit that follows the ends that count.
pub(crate) struct Backwards<'a> {
    function: &'a Function,
    exits: Vec<BlockId>,
    /// Per block its ways out, or the exit.
    preds: Vec<Vec<BlockId>>,
}

impl<'a> Backwards<'a> {
    pub(crate) fn of(function: &'a Function, exits: Vec<BlockId>) -> Self {
        let exit = BlockId(function.blocks.len() as u32);
        let mut preds: Vec<Vec<BlockId>> =
            function.blocks.iter().map(|block| block.terminator.successors().collect()).collect();
        for end in &exits {
            preds[end.index()].push(exit);
        }
        preds.push(Vec::new());
        Self { function, exits, preds }
    }
}

impl Graph for Backwards<'_> {
    fn len(&self) -> usize {
        self.preds.len()
    }

    fn entry(&self) -> BlockId {
        BlockId(self.function.blocks.len() as u32)
    }

    fn successors(&self, block: BlockId) -> Vec<BlockId> {
        if block == self.entry() {
            self.exits.clone()
        } else {
            self.function.blocks[block.index()].preds.clone()
        }
    }

    fn predecessors(&self, block: BlockId) -> &[BlockId] {
        &self.preds[block.index()]
    }
}

#[cfg(test)]
mod tests {
    use super::ControlDependence;
    use crate::ir::{BlockId, Op, Terminator};

    /// Whether the call in a function depends on the truth of a branch, and which.
    fn way_to_call(body: &str) -> Vec<bool> {
        let source = format!("def f(a, b):\n{body}");
        let module = crate::python::lower(None, &crate::python::parse(&source));
        let function = &module.functions[1];
        let call = function.insts.iter().find(|inst| matches!(inst.op, Op::Call { .. })).expect("a call");
        let branches =
            |block: BlockId| matches!(function.blocks[block.index()].terminator, Terminator::Branch { .. });
        let edges = ControlDependence::of(function).all(call.block);
        let mut ways: Vec<bool> =
            edges.iter().filter(|edge| branches(edge.from)).map(|edge| edge.first).collect();
        ways.sort_unstable();
        ways
    }

    #[test]
    fn a_call_depends_on_what_can_avoid_it() {
        let check = |body: &str, expected: &[bool]| assert_eq!(way_to_call(body), expected, "{body}");
        check("    g()\n", &[]);
        check("    if a:\n        g()\n", &[true]);
        check("    if a:\n        return\n    g()\n", &[false]);
        check("    if a:\n        raise b\n    elif b:\n        g()\n", &[false, true]);
        check("    if a:\n        b = 1\n    g()\n", &[]);
        check("    if a and b:\n        g()\n", &[true, true]);
        check("    while a:\n        b = a\n    g()\n", &[]);
        check("    if a:\n        if b:\n            return\n        g()\n", &[false, true]);
    }
}
