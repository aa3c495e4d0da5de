//! Straight lines of code: blocks that run whenever another one does, and exactly as often.
//!
//! A store replaces what an object held if it surely follows the object's making, once. In
//!
//! ```text
//! b0: words = ["ls", name]      line b0
//! b1:   if verbose: print(…)    line b1: it may not run
//! b2: for …: …                  line b2: it may run often
//! b3: words[1] = "here"         line b0 again: whoever makes the list comes here, and only once
//! ```
//!
//! the list has two safe elements in the end. A block is on the line of a block that dominates it if it post-dominates that one and no
//! loop has one without the other. Ways that end in an exception do not count, since nobody sees the object afterwards; in a
//! function that outsiders call, neither do earlier returns.

use crate::control::Backwards;
use crate::dominators::Dominators;
use crate::ir::{BlockId, Function, Terminator};

/// Which ends of a function count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ends {
    /// Every return.
    Returns,
    /// The last return: earlier ones are seen before what follows them changes anything.
    LastReturn,
}

/// The lines of one function.
#[derive(Debug)]
pub(super) struct Lines {
    /// The first block of each block's line.
    starts: Vec<BlockId>,
    /// The header of the innermost loop around each block.
    loops: Vec<Option<BlockId>>,
}

impl Lines {
    pub(super) fn of(function: &Function, dominators: &Dominators, ends: Ends) -> Self {
        let loops = innermost_loops(function, dominators);
        let returns =
            |block: &BlockId| matches!(function.blocks[block.index()].terminator, Terminator::Return(_));
        let mut exits: Vec<BlockId> = dominators.order.iter().copied().filter(returns).collect();
        if ends == Ends::LastReturn && exits.len() > 1 {
            exits.drain(..exits.len() - 1);
        }
        let ends = Dominators::of(&Backwards::of(function, exits));
        let mut starts: Vec<BlockId> = (0..function.blocks.len() as u32).map(BlockId).collect();
        for &block in &dominators.order {
            if let Some(before) = earlier_on_line(function, dominators, &ends, &loops, block) {
                starts[block.index()] = starts[before.index()];
            }
        }
        Self { starts, loops }
    }

    pub(super) fn start(&self, block: BlockId) -> BlockId {
        self.starts[block.index()]
    }

    pub(super) fn is_in_loop(&self, block: BlockId) -> bool {
        self.loops[block.index()].is_some()
    }
}

/// A block of the same line that dominates this one.
fn earlier_on_line(
    function: &Function,
    dominators: &Dominators,
    ends: &Dominators,
    loops: &[Option<BlockId>],
    block: BlockId,
) -> Option<BlockId> {
    if let [pred] = function.blocks[block.index()].preds[..] {
        match function.blocks[pred.index()].terminator {
            Terminator::Jump(_) => return Some(pred),
            // Where nothing is raised, the next statement follows.
            Terminator::MayRaise { next, .. } if next == block => return Some(pred),
            _ => {}
        }
    }
    let mut above = dominators.parent(block)?;
    while loops[above.index()] != loops[block.index()] {
        above = dominators.parent(above)?;
    }
    ends.dominates(block, above).then_some(above)
}

/// For each block the header of the innermost loop that it is in.
fn innermost_loops(function: &Function, dominators: &Dominators) -> Vec<Option<BlockId>> {
    let mut loops = vec![None; function.blocks.len()];
    // Outer headers come before inner ones, which replace them.
    for &header in &dominators.order {
        let is_latch =
            |pred: &&BlockId| dominators.reachable(**pred) && dominators.is_back_edge(**pred, header);
        let mut pending: Vec<BlockId> =
            function.blocks[header.index()].preds.iter().filter(is_latch).copied().collect();
        if pending.is_empty() {
            continue;
        }
        loops[header.index()] = Some(header);
        while let Some(block) = pending.pop() {
            if loops[block.index()] != Some(header) && dominators.dominates(header, block) {
                loops[block.index()] = Some(header);
                pending.extend(&function.blocks[block.index()].preds);
            }
        }
    }
    loops
}
