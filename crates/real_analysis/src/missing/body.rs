//! What depends on which parameter, inside one function.

use rustc_hash::FxHashSet;

use crate::control::{ControlDependence, Edge};
use crate::dominators::Dominators;
use crate::ir::{
    Block, BlockId, Constant, Function, FunctionId, Module, Op, ParamKind, Symbol, Terminator, ValueId,
};

/// A set of parameters: one bit each; the last bit stands for all beyond.
pub(crate) type Params = u64;

/// Rounds over loops.
const MAX_ROUNDS: usize = 4;

/// A function with its dependences.
pub(crate) struct Body<'a> {
    pub(crate) module: &'a Module,
    pub(crate) function: &'a Function,
    pub(crate) control: ControlDependence,
    /// Reachable blocks, in reverse postorder.
    pub(crate) order: Vec<BlockId>,
    /// What comprehensions collect: a container and an element.
    appended: Vec<(ValueId, ValueId)>,
    /// For each value the parameters that it was computed from.
    values: Vec<Params>,
    /// For each block the parameters that decide whether it runs.
    blocks: Vec<Params>,
}

impl<'a> Body<'a> {
    pub(crate) fn of(module: &'a Module, id: FunctionId) -> Self {
        let function = &module.functions[id.index()];
        let mut body = Self {
            module,
            function,
            control: ControlDependence::of(function),
            order: Dominators::of(function).order,
            appended: function.insts.iter().filter_map(|inst| collected(&inst.op)).collect(),
            values: vec![0; function.insts.len()],
            blocks: vec![0; function.blocks.len()],
        };
        for _ in 0..MAX_ROUNDS {
            if !body.propagate() {
                break;
            }
        }
        body
    }

    /// One round. Whether anything changed.
    fn propagate(&mut self) -> bool {
        let mut changed = false;
        let order = self.order.clone();
        for block in order {
            let mut deciding = 0;
            for edge in self.control.direct(block) {
                deciding |= self.blocks[edge.from.index()];
                deciding |= self.condition(*edge).map_or(0, |condition| self.values[condition.index()]);
            }
            changed |= self.blocks[block.index()] != deciding;
            self.blocks[block.index()] = deciding;
            let Block { insts, preds, .. } = &self.function.blocks[block.index()];
            for id in insts {
                let op = &self.function.insts[id.index()].op;
                let mut params = self.values[id.index()];
                match op {
                    Op::Param(index) => params |= 1 << (*index).min(63),
                    // Which operand it is was decided on the way.
                    Op::Phi(_) => params |= preds.iter().fold(0, |all, pred| all | self.blocks[pred.index()]),
                    _ => {}
                }
                op.operands(|operand| params |= self.values[operand.index()]);
                changed |= params != self.values[id.index()];
                self.values[id.index()] = params;
                changed |= self.fill(op, params);
            }
        }
        changed
    }

    /// What is put into a local container is part of it. Whether that is new.
    fn fill(&mut self, op: &Op, params: Params) -> bool {
        let container = match op {
            Op::Append { container, .. } => *container,
            Op::StoreSubscript { object, .. } | Op::StoreAttribute { object, .. } => *object,
            Op::Call { callee, .. } => match self.op(*callee) {
                Op::Attribute { object, .. } => *object,
                _ => return false,
            },
            _ => return false,
        };
        let made_here = matches!(self.op(container), Op::Sequence { .. } | Op::Dict(_) | Op::Call { .. });
        let known = &mut self.values[container.index()];
        let grows = made_here && *known | params != *known;
        if grows {
            *known |= params;
        }
        grows
    }

    pub(crate) fn op(&self, value: ValueId) -> &'a Op {
        &self.function.insts[value.index()].op
    }

    pub(crate) fn block_of(&self, value: ValueId) -> BlockId {
        self.function.insts[value.index()].block
    }

    pub(crate) fn name(&self, symbol: Symbol) -> &'a str {
        self.module.symbols.text(symbol)
    }

    /// The parameters that a value was computed from.
    pub(crate) fn params_of(&self, value: ValueId) -> Params {
        self.values[value.index()]
    }

    /// The parameters on which the conditions of a block depend.
    pub(crate) fn deciding(&self, block: BlockId) -> Params {
        self.blocks[block.index()]
    }

    /// The condition of an edge; for a loop, what is iterated.
    pub(crate) fn condition(&self, edge: Edge) -> Option<ValueId> {
        match self.function.blocks[edge.from.index()].terminator {
            Terminator::Branch { condition, .. } => Some(condition),
            Terminator::ForNext { iterable, .. } => Some(iterable),
            _ => None,
        }
    }

    /// Every instruction that can run.
    pub(crate) fn insts(&self) -> impl Iterator<Item = (ValueId, &'a Op)> {
        let function = self.function;
        let blocks = self.order.iter().flat_map(move |block| &function.blocks[block.index()].insts);
        blocks.map(move |id| (*id, &function.insts[id.index()].op))
    }

    pub(crate) fn text(&self, value: ValueId) -> Option<&'a str> {
        match self.op(value) {
            Op::Constant(Constant::Str(text)) => Some(text),
            _ => None,
        }
    }

    /// The dotted path of something imported, in the function or in the module.
    pub(crate) fn import_path(&self, value: ValueId) -> Option<String> {
        import_path(self.module, self.function, value)
    }

    /// The receiver and name of a method call.
    pub(crate) fn method(&self, callee: ValueId) -> Option<(ValueId, &'a str)> {
        match self.op(callee) {
            Op::Attribute { object, name } => Some((*object, self.name(*name))),
            _ => None,
        }
    }

    /// The name of a built-in function.
    pub(crate) fn builtin(&self, callee: ValueId) -> Option<&'a str> {
        match self.op(callee) {
            Op::Builtin(name) => Some(self.name(*name)),
            _ => None,
        }
    }

    /// The module-wide variable that an expression starts from, and the keys on the way: `TABLE[a]["b"].c`.
    pub(crate) fn path(&self, value: ValueId) -> Option<(Symbol, Vec<ValueId>)> {
        let mut keys = Vec::new();
        let mut at = value;
        loop {
            match self.op(at) {
                Op::Global(name) => return Some((*name, keys)),
                Op::Subscript { object, index } => {
                    keys.push(*index);
                    at = *object;
                }
                Op::Attribute { object, .. } => at = *object,
                Op::Call { callee, args } => {
                    let (object, "get" | "setdefault") = self.method(*callee)? else { return None };
                    keys.extend(args.first().map(|arg| arg.value));
                    at = object;
                }
                _ => return None,
            }
        }
    }

    /// Whether the value is computed from something that satisfies `is_it`.
    pub(crate) fn mentions(&self, value: ValueId, is_it: impl Fn(ValueId) -> bool) -> bool {
        let mut pending = vec![value];
        let mut seen = FxHashSet::default();
        while let Some(at) = pending.pop() {
            if is_it(at) {
                return true;
            }
            if seen.len() < 200 && seen.insert(at) {
                self.op(at).operands(|operand| pending.push(operand));
                let appended = self.appended.iter().filter(|(container, _)| *container == at);
                pending.extend(appended.map(|(_, value)| *value));
            }
        }
        false
    }

    /// Whether a parameter is the object that a method is called on.
    pub(crate) fn is_receiver(&self, index: u32) -> bool {
        index == 0 && self.function.class.is_some()
    }

    /// Parameters of which nothing depends but messages.
    pub(crate) fn idle(&self) -> Vec<usize> {
        let ordinary = |kind| matches!(kind, ParamKind::Ordinary | ParamKind::KeywordOnly);
        let skip = usize::from(self.function.class.is_some());
        let params = self.function.params.iter().enumerate().skip(skip);
        let named =
            params.filter(|(_, param)| ordinary(param.kind) && !is_unused_by_design(self.name(param.name)));
        named.map(|(index, _)| index).filter(|index| *index < 63 && self.is_idle(1 << index)).collect()
    }

    fn is_idle(&self, param: Params) -> bool {
        for (_, op) in self.insts() {
            let mut uses = false;
            op.operands(|operand| uses |= self.values[operand.index()] & param != 0);
            if uses && !self.is_message(op) {
                return false;
            }
        }
        self.order.iter().all(|block| {
            let decides = self.blocks[block.index()] & param != 0;
            let Block { insts, terminator, .. } = &self.function.blocks[block.index()];
            let returns = match terminator {
                Terminator::Return(value) => self.values[value.index()] & param != 0 && !self.is_text(*value),
                _ => false,
            };
            let leaves = matches!(terminator, Terminator::Return(_) | Terminator::Raise);
            let acts = insts.iter().any(|id| is_effect(self.op(*id)) && !self.is_message(self.op(*id)));
            !returns && !(decides && (leaves || acts))
        })
    }

    /// Whether what is computed only tells somebody something: a text, a line of a log.
    fn is_message(&self, op: &Op) -> bool {
        match op {
            Op::Call { callee, .. } => {
                matches!(self.builtin(*callee), Some("print" | "str" | "repr" | "len"))
                    || self.method(*callee).is_some_and(|(_, name)| LOG_METHODS.contains(&name))
            }
            Op::Append { .. } | Op::Closure { .. } | Op::Sequence { .. } | Op::Dict(_) => false,
            _ => !is_effect(op),
        }
    }

    fn is_text(&self, value: ValueId) -> bool {
        matches!(self.op(value), Op::Format(_))
    }
}

const LOG_METHODS: &[&str] =
    &["debug", "info", "warning", "warn", "error", "critical", "exception", "log", "format"];

/// Whether an instruction does something besides computing a value.
pub(crate) fn is_effect(op: &Op) -> bool {
    matches!(
        op,
        Op::Call { .. }
            | Op::StoreAttribute { .. }
            | Op::StoreSubscript { .. }
            | Op::StoreGlobal(..)
            | Op::StoreFree(..)
            | Op::Yield(_)
            | Op::Raise(_)
    )
}

fn collected(op: &Op) -> Option<(ValueId, ValueId)> {
    match op {
        Op::Append { container, value } => Some((*container, *value)),
        _ => None,
    }
}

/// Parameters that a signature demands whether the function needs them or not.
fn is_unused_by_design(name: &str) -> bool {
    let handed_over = [
        "self", "cls", "context", "ctx", "request", "req", "event", "info", "args", "kwargs", "options",
        "config", "settings", "logger", "timeout", "callback", "unused", "dummy",
    ];
    name.starts_with('_') || handed_over.contains(&name)
}

/// The dotted path of something imported, in the function or in the module.
pub(crate) fn import_path(module: &Module, function: &Function, value: ValueId) -> Option<String> {
    let name = |symbol: Symbol| module.symbols.text(symbol);
    match &function.insts[value.index()].op {
        // A name that nothing binds: a module, in a part of a program that has lost its imports.
        Op::Import(path) | Op::Builtin(path) => Some(name(*path).to_owned()),
        Op::Attribute { object, name: member } => {
            Some(format!("{}.{}", import_path(module, function, *object)?, name(*member)))
        }
        Op::Global(global) => {
            let body = &module.functions[0];
            let mut writes = body.writes.iter().filter(|(written, _)| written == global);
            writes.find_map(|(_, value)| match body.insts[value.index()].op {
                Op::Import(path) => Some(name(path).to_owned()),
                _ => None,
            })
        }
        _ => None,
    }
}
