//! Builds a function's control-flow graph directly in SSA form.
//!
//! The algorithm is that of Braun et al., "Simple and Efficient Construction of Static Single Assignment Form" (2013). No
//! dominance frontiers are computed: while statements are lowered, each block remembers the last value written to each
//! variable. Reading a variable that the block has not written asks its predecessors. With one predecessor the answer is
//! the predecessor's; with several it is a phi; and where predecessors are still unknown (a loop header, whose back edge
//! comes later: the block is not *sealed*) it is a phi whose operands are filled in when the block is sealed.
//!
//! ```text
//! x = 1              b0: v0 = 1
//! while c(x):        b1: v1 = phi b0:v0 b2:v3     ← made on reading x; b2 is filled in when b1 is sealed
//!     x = x + 1      b2: v3 = v1 + 1
//! ```
//!
//! A phi whose operands are all one value (or itself) is that value; [`Builder::finish`] removes these, to a fixed point.
//! The walk over predecessors is a worklist, so that a program with a hundred thousand branches needs no deep stack.
//!
//! A block that control cannot reach has no edges out: it never becomes a predecessor, and nobody evaluates it.

use rustc_hash::FxHashMap;

use crate::ir::{Block, BlockId, Function, FunctionKind, Inst, Op, Range, Symbol, Terminator, ValueId};

/// A function under construction.
pub(crate) struct Builder {
    pub(crate) function: Function,
    pub(crate) current: BlockId,
    definitions: FxHashMap<(BlockId, Symbol), ValueId>,
    states: Vec<BlockState>,
    /// Where exceptions go that are raised in the blocks to come.
    pub(crate) handler: Option<BlockId>,
}

#[derive(Debug, Default)]
struct BlockState {
    sealed: bool,
    /// Control can reach the block.
    alive: bool,
    terminated: bool,
    /// Phis that wait for the block to be sealed.
    incomplete: Vec<(Symbol, ValueId)>,
}

impl Builder {
    pub(crate) fn new(name: Symbol, kind: FunctionKind) -> Self {
        let function = Function {
            name,
            kind,
            parent: None,
            class: None,
            params: Vec::new(),
            is_generator: false,
            is_async: false,
            awaited: Vec::new(),
            blocks: Vec::new(),
            insts: Vec::new(),
            writes: Vec::new(),
        };
        let mut builder = Self {
            function,
            current: BlockId(0),
            definitions: FxHashMap::default(),
            states: Vec::new(),
            handler: None,
        };
        let entry = builder.block();
        builder.states[entry.index()].alive = true;
        builder.seal(entry);
        builder
    }

    /// A new block without predecessors, not sealed.
    pub(crate) fn block(&mut self) -> BlockId {
        let id = BlockId(self.function.blocks.len() as u32);
        self.function.blocks.push(Block {
            insts: Vec::new(),
            preds: Vec::new(),
            terminator: Terminator::Unreachable,
            returned: Range::default(),
            handler: self.handler,
        });
        self.states.push(BlockState::default());
        id
    }

    pub(crate) fn push(&mut self, op: Op, range: Range) -> ValueId {
        self.push_to(self.current, op, range)
    }

    fn push_to(&mut self, block: BlockId, op: Op, range: Range) -> ValueId {
        let id = ValueId(self.function.insts.len() as u32);
        let first = matches!(op, Op::Phi(_) | Op::Undefined);
        self.function.insts.push(Inst { op, block, range });
        let insts = &mut self.function.blocks[block.index()].insts;
        if first {
            insts.insert(0, id);
        } else {
            insts.push(id);
        }
        id
    }

    /// Ends the current block with a return, whose value stands in the text there.
    pub(crate) fn give_back(&mut self, value: ValueId, range: Range) {
        self.function.blocks[self.current.index()].returned = range;
        self.terminate(Terminator::Return(value));
    }

    /// Ends the current block; what follows is unreachable until another block becomes current.
    pub(crate) fn terminate(&mut self, terminator: Terminator) {
        let from = self.current;
        let state = &mut self.states[from.index()];
        if state.alive && !state.terminated {
            state.terminated = true;
            self.function.blocks[from.index()].terminator = terminator;
            for target in terminator.successors() {
                self.function.blocks[target.index()].preds.push(from);
                self.states[target.index()].alive = true;
            }
        }
        let dead = self.block();
        self.seal(dead);
        self.current = dead;
    }

    pub(crate) fn jump(&mut self, target: BlockId) {
        self.terminate(Terminator::Jump(target));
    }

    /// Branches to two fresh blocks, both sealed.
    pub(crate) fn branch(&mut self, condition: ValueId) -> (BlockId, BlockId) {
        let (then, otherwise) = (self.block(), self.block());
        self.terminate(Terminator::Branch { condition, then, otherwise });
        self.seal(then);
        self.seal(otherwise);
        (then, otherwise)
    }

    pub(crate) fn write(&mut self, variable: Symbol, value: ValueId) {
        self.definitions.insert((self.current, variable), value);
    }

    pub(crate) fn read(&mut self, variable: Symbol) -> ValueId {
        let mut unfilled = Vec::new();
        let value = self.read_in(variable, self.current, &mut unfilled);
        while let Some((block, phi)) = unfilled.pop() {
            self.fill(variable, block, phi, &mut unfilled);
        }
        value
    }

    /// The value of the variable at the end of a block. Phis made on the way join `unfilled`.
    fn read_in(
        &mut self,
        variable: Symbol,
        block: BlockId,
        unfilled: &mut Vec<(BlockId, ValueId)>,
    ) -> ValueId {
        let mut passed = Vec::new();
        let mut at = block;
        let value = loop {
            if let Some(value) = self.definitions.get(&(at, variable)) {
                break *value;
            }
            passed.push(at);
            let sealed = self.states[at.index()].sealed;
            let preds = &self.function.blocks[at.index()].preds;
            match preds[..] {
                [pred] if sealed => at = pred,
                [] if sealed => break self.push_to(at, Op::Undefined, Range::default()),
                _ => {
                    let phi = self.push_to(at, Op::Phi(Vec::new()), Range::default());
                    if sealed {
                        unfilled.push((at, phi));
                    } else {
                        self.states[at.index()].incomplete.push((variable, phi));
                    }
                    break phi;
                }
            }
        };
        for block in passed {
            self.definitions.insert((block, variable), value);
        }
        value
    }

    fn fill(
        &mut self,
        variable: Symbol,
        block: BlockId,
        phi: ValueId,
        unfilled: &mut Vec<(BlockId, ValueId)>,
    ) {
        let preds = self.function.blocks[block.index()].preds.clone();
        let operands = preds.into_iter().map(|pred| self.read_in(variable, pred, unfilled)).collect();
        self.function.insts[phi.index()].op = Op::Phi(operands);
    }

    /// Declares that all predecessors of the block are known.
    pub(crate) fn seal(&mut self, block: BlockId) {
        let state = &mut self.states[block.index()];
        state.sealed = true;
        for (variable, phi) in std::mem::take(&mut state.incomplete) {
            let mut unfilled = vec![(block, phi)];
            while let Some((block, phi)) = unfilled.pop() {
                self.fill(variable, block, phi, &mut unfilled);
            }
        }
    }

    /// The finished function: returns `nothing` at its open end, has no trivial phis, and unreachable blocks are empty.
    pub(crate) fn finish(mut self, nothing: ValueId) -> Function {
        self.terminate(Terminator::Return(nothing));
        for (block, state) in self.function.blocks.iter_mut().zip(&self.states) {
            assert!(state.sealed, "every block is sealed when its function is finished");
            if !state.alive {
                block.insts.clear();
            }
        }
        let replacement = trivial_phis(&self.function);
        replace(&mut self.function, &replacement);
        self.function
    }
}

/// For each value, the value that stands for it: itself unless it is a trivial phi.
fn trivial_phis(function: &Function) -> Vec<ValueId> {
    let mut replacement: Vec<ValueId> = (0..function.insts.len() as u32).map(ValueId).collect();
    let mut users: FxHashMap<ValueId, Vec<ValueId>> = FxHashMap::default();
    let mut pending = Vec::new();
    for (index, inst) in function.insts.iter().enumerate() {
        if let Op::Phi(operands) = &inst.op {
            let phi = ValueId(index as u32);
            for operand in operands {
                users.entry(*operand).or_default().push(phi);
            }
            pending.push(phi);
        }
    }
    while let Some(phi) = pending.pop() {
        let Op::Phi(operands) = &function.insts[phi.index()].op else { continue };
        if find(&mut replacement, phi) != phi {
            continue;
        }
        let mut same = None;
        let trivial = operands.iter().all(|operand| {
            let value = find(&mut replacement, *operand);
            value == phi || *same.get_or_insert(value) == value
        });
        if let (true, Some(same)) = (trivial, same) {
            replacement[phi.index()] = same;
            let moved = users.remove(&phi).unwrap_or_default();
            pending.extend(&moved);
            users.entry(same).or_default().extend(moved);
        }
    }
    (0..replacement.len() as u32).map(|index| find(&mut replacement, ValueId(index))).collect()
}

fn find(replacement: &mut [ValueId], value: ValueId) -> ValueId {
    let mut root = value;
    while replacement[root.index()] != root {
        root = replacement[root.index()];
    }
    let mut at = value;
    while at != root {
        at = std::mem::replace(&mut replacement[at.index()], root);
    }
    root
}

fn replace(function: &mut Function, replacement: &[ValueId]) {
    for inst in &mut function.insts {
        inst.op.operands_mut(|operand| *operand = replacement[operand.index()]);
    }
    for block in &mut function.blocks {
        block.insts.retain(|inst| replacement[inst.index()] == *inst);
        match &mut block.terminator {
            Terminator::Branch { condition: value, .. } | Terminator::Return(value) => {
                *value = replacement[value.index()];
            }
            Terminator::ForNext { iterable, .. } => *iterable = replacement[iterable.index()],
            Terminator::Jump(_)
            | Terminator::MayRaise { .. }
            | Terminator::Raise
            | Terminator::Unreachable => {}
        }
    }
    for (_, value) in &mut function.writes {
        *value = replacement[value.index()];
    }
}
