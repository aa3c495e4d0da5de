//! Checks that a module is in SSA form. A failure is a bug of ours, never of the program under study.

use crate::dominators::Dominators;
use crate::ir::{BlockId, Function, Module, Op, Terminator, ValueId};

/// The first violated invariant, in words.
pub(crate) fn module(module: &Module) -> Result<(), String> {
    for (index, function) in module.functions.iter().enumerate() {
        verify(function).map_err(|problem| format!("function {index}: {problem}"))?;
    }
    Ok(())
}

fn verify(function: &Function) -> Result<(), String> {
    let dominators = Dominators::of(function);
    let mut place: Vec<Option<(BlockId, usize)>> = vec![None; function.insts.len()];
    for &block in &dominators.order {
        for (at, id) in function.blocks[block.index()].insts.iter().enumerate() {
            if place[id.index()].replace((block, at)).is_some() {
                return Err(format!("v{} stands twice", id.0));
            }
            if function.insts[id.index()].block != block {
                return Err(format!("v{} does not know its block b{}", id.0, block.0));
            }
        }
    }
    for &block in &dominators.order {
        edges(function, &dominators, block)?;
        for (at, id) in function.blocks[block.index()].insts.iter().enumerate() {
            uses(function, &dominators, &place, (block, at), *id)?;
        }
        if let Some(value) = terminator_value(function.blocks[block.index()].terminator) {
            available(&dominators, &place, value, (block, usize::MAX))?;
        }
    }
    Ok(())
}

fn terminator_value(terminator: Terminator) -> Option<ValueId> {
    match terminator {
        Terminator::Branch { condition: value, .. }
        | Terminator::ForNext { iterable: value, .. }
        | Terminator::Return(value) => Some(value),
        Terminator::Jump(_) | Terminator::MayRaise { .. } | Terminator::Raise | Terminator::Unreachable => {
            None
        }
    }
}

fn edges(function: &Function, dominators: &Dominators, block: BlockId) -> Result<(), String> {
    let this = &function.blocks[block.index()];
    for target in this.terminator.successors() {
        let preds = &function.blocks[target.index()].preds;
        if !preds.contains(&block) {
            return Err(format!("b{} does not know its predecessor b{}", target.0, block.0));
        }
        let proves = matches!(this.terminator, Terminator::Branch { .. } | Terminator::ForNext { .. });
        if proves && preds.len() != 1 {
            return Err(format!("the edge b{} to b{} is critical", block.0, target.0));
        }
    }
    match this.preds.iter().find(|pred| !dominators.reachable(**pred)) {
        Some(pred) => Err(format!("b{} has the unreachable predecessor b{}", block.0, pred.0)),
        None => Ok(()),
    }
}

type Place = (BlockId, usize);

fn uses(
    function: &Function,
    dominators: &Dominators,
    place: &[Option<Place>],
    at: Place,
    id: ValueId,
) -> Result<(), String> {
    let block = &function.blocks[at.0.index()];
    if let Op::Phi(operands) = &function.insts[id.index()].op {
        let after_other = at.1 > 0
            && !matches!(function.insts[block.insts[at.1 - 1].index()].op, Op::Phi(_) | Op::Undefined);
        if after_other {
            return Err(format!("the phi v{} stands after an ordinary instruction", id.0));
        }
        if operands.len() != block.preds.len() {
            return Err(format!("v{} has {} operands for {} edges", id.0, operands.len(), block.preds.len()));
        }
        let mut edges = operands.iter().zip(&block.preds);
        return edges
            .try_for_each(|(operand, pred)| available(dominators, place, *operand, (*pred, usize::MAX)));
    }
    let mut result = Ok(());
    function.insts[id.index()].op.operands(|operand| {
        if result.is_ok() {
            result = available(dominators, place, operand, at);
        }
    });
    result
}

fn available(
    dominators: &Dominators,
    place: &[Option<Place>],
    value: ValueId,
    at: Place,
) -> Result<(), String> {
    let Some((block, index)) = place[value.index()] else {
        return Err(format!("v{} is used in b{} and stands nowhere", value.0, at.0.0));
    };
    let before = if block == at.0 { index < at.1 } else { dominators.dominates(block, at.0) };
    if before { Ok(()) } else { Err(format!("v{} is used in b{} before it is defined", value.0, at.0.0)) }
}
