//! How hostile data got to a sink: the instructions that carried it, from the last back to the source.

use super::Engine;
use crate::ir::{Op, Range, ValueId};
use crate::rules;
use crate::text::Taint;
use crate::value::Value;

/// Steps shown.
const MAX_STEPS: usize = 12;

impl Engine<'_> {
    /// The flow from a source among `taint` to `value`, ending at `sink`.
    pub(super) fn trace(&self, value: ValueId, taint: Taint, sink: Range) -> Vec<(Range, String)> {
        let taint = 1 << taint.trailing_zeros().min(63);
        let mut steps = vec![(sink, "reaches this call".to_owned())];
        let mut frame = self.frames.len() - 1;
        let mut at = value;
        let mut seen = Vec::new();
        while steps.len() < MAX_STEPS && !seen.contains(&(frame, at)) {
            seen.push((frame, at));
            let function = &self.module.functions[self.frames[frame].function.index()];
            let inst = &function.insts[at.index()];
            if inst.range != Range::default() && steps.last().is_none_or(|(range, _)| *range != inst.range) {
                steps.push((inst.range, "is passed on here".to_owned()));
            }
            if let Op::Param(index) = inst.op {
                let Some(argument) = self.argument_of_caller(frame, index as usize) else { break };
                frame -= 1;
                at = argument;
                continue;
            }
            let mut next = None;
            inst.op.operands(|operand| {
                let carries = |value: &Value| value.taint() & taint != 0;
                if next.is_none() && self.frames[frame].values[operand.index()].as_ref().is_some_and(carries)
                {
                    next = Some(operand);
                }
            });
            let Some(next) = next else { break };
            at = next;
        }
        if let Some(source) =
            self.sources.get(taint.trailing_zeros() as usize).filter(|source| !source.trusted)
        {
            steps.retain(|(range, _)| *range != source.range || *range == sink);
            steps.push((source.range, format!("{} enters here", source.what)));
        }
        steps.reverse();
        steps
    }

    fn argument_of_caller(&self, frame: usize, index: usize) -> Option<ValueId> {
        if self.frames[frame].is_root || frame == 0 {
            return None;
        }
        let caller = &self.frames[frame - 1];
        let function = &self.module.functions[caller.function.index()];
        let Op::Call { args, .. } = &function.insts[caller.inst.index()].op else { return None };
        args.get(index).or(args.last()).map(|arg| arg.value)
    }

    /// The source, as the subject of a sentence.
    pub(super) fn origin_of(&self, taint: Taint) -> String {
        let source = self.sources.get(taint.trailing_zeros() as usize);
        source.map_or_else(|| "hostile data".to_owned(), |source| source.what.clone())
    }

    pub(super) fn confidence_of(&self, taint: Taint) -> f32 {
        let weights = self.sources.iter().enumerate().filter(|(index, _)| taint & (1 << index) != 0);
        weights.map(|(_, source)| rules::origin_weight(source.origin)).fold(0.5, f32::max)
    }

    /// An argument as it is known by now; `None` for what the current instruction makes itself.
    pub(super) fn latest(&mut self, argument: ValueId) -> Option<Value> {
        (argument != self.frame().inst).then(|| self.rebuilt(argument, 0))
    }

    /// The value computed again from operands as they are known at the current instruction: a check may have come after a
    /// text was built. Only pure string operations are repeated.
    fn rebuilt(&mut self, value: ValueId, depth: u32) -> Value {
        let known = self.get(value);
        if depth > 8 || known.taint() == 0 {
            return known;
        }
        let op = self.op(value);
        let pure = match op {
            Op::Format(_) | Op::Binary { .. } => true,
            Op::Call { callee, .. } if self.known(*callee).path_name() == Some("builtins.getattr") => true,
            Op::Call { callee, .. } => matches!(self.op(*callee), Op::Attribute { name, .. }
                if matches!(self.name(*name), "format" | "strip" | "lower" | "upper" | "replace" | "encode")),
            _ => false,
        };
        if !pure {
            return known;
        }
        let mut operands = Vec::new();
        op.operands(|operand| operands.push(operand));
        let mut saved = Vec::new();
        for operand in operands {
            let better = self.rebuilt(operand, depth + 1);
            saved.push((operand, self.frame_mut().values[operand.index()].replace(better)));
        }
        let before = std::mem::replace(&mut self.rebuilding, true);
        let again = self.evaluate_pure(value, op);
        self.rebuilding = before;
        for (operand, value) in saved.into_iter().rev() {
            self.frame_mut().values[operand.index()] = value;
        }
        again
    }

    fn evaluate_pure(&mut self, value: ValueId, op: &Op) -> Value {
        // The receiver of a method is inside the callee's value, which is computed again first.
        if let Op::Call { callee, .. } = op
            && let Op::Attribute { .. } = self.op(*callee)
        {
            let receiver = self.evaluate(*callee, self.op(*callee));
            self.frame_mut().values[callee.index()] = Some(receiver);
        }
        self.evaluate(value, op)
    }
}
