//! Abstract interpretation of the IR.
//!
//! A function is evaluated block by block in reverse postorder; a block that no executed edge reaches is skipped, so that
//! constant branches decide (Wegman and Zadeck's conditional constant propagation, on values that are more than constants).
//! A function with loops is evaluated up to three times, and the phis of its loop headers are widened.
//!
//! Calls inside the program are followed: a callee is evaluated with the abstract arguments of the call, and the result is
//! tabulated under them (the functional approach of Sharir and Pnueli); a function that is called in very many ways is evaluated
//! once for the rest of them. A [`Summary`] also says what a returned truth value
//! or a normal return proves about the arguments, which makes `if is_safe(x)` and `validate(x)` guards like any other.
//!
//! Evaluation begins at the roots: the module, then every function that the threat model calls from outside. All of it
//! draws on one supply of fuel, linear in the size of the program; without fuel a call is unknown and the budget is hit.

mod attributes;
mod calls;
mod changes;
mod closures;
mod constants;
mod exceptions;
mod guards;
mod heap;
mod lines;
mod media;
mod notes;
mod operators;
mod ops;
mod patterns;
mod protocols;
mod returns;
mod roots;
mod settings;
mod sinks;
mod strings;
mod subscripts;
mod trace;

use std::cell::OnceCell;
use std::rc::Rc;

use rustc_hash::{FxHashMap, FxHashSet};

use crate::dominators::Dominators;
use crate::facts::Refinement;
use crate::finding::FlowStep;
use crate::ir::{BlockId, ClassId, FunctionId, Inst, Module, Op, Range, Symbol, Terminator, ValueId};
use crate::library::{Libraries, Origin};
use crate::rules::Weakness;
use crate::text::Taint;
use crate::value::{Captured, Object, Value};
use crate::{Options, ThreatModel};
use changes::{Changes, Shared};
use heap::{Allocations, HeapObject};
use lines::{Ends, Lines};

/// Instructions evaluated per instruction of the program.
const FUEL_PER_INST: u64 = 120;
/// Fuel of the smallest program.
const FUEL_BASE: u64 = 20_000;
/// Calls inside calls.
const MAX_CALL_DEPTH: usize = 8;
/// Different calls of a function that are told apart, however large it is.
const MIN_CONTEXTS: u32 = 4;
/// Instructions that are evaluated for different calls of a small function.
const CONTEXT_INSTS: u32 = 600;
/// Evaluations of a function with loops.
const MAX_PASSES: u32 = 3;

/// Where hostile data enters.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    pub(crate) range: Range,
    pub(crate) origin: Origin,
    pub(crate) what: String,
    pub(crate) trusted: bool,
}

/// A weakness found, in terms of the IR.
#[derive(Debug, Clone)]
pub(crate) struct Report {
    pub(crate) weakness: Weakness,
    pub(crate) range: Range,
    pub(crate) message: String,
    pub(crate) confidence: f32,
    pub(crate) flow: Vec<(Range, String)>,
    /// The check or filter that was seen, and why it does not suffice.
    pub(crate) guard: Option<String>,
}

/// What a function does, seen from a call with certain arguments.
#[derive(Debug)]
pub(crate) struct Summary {
    value: Value,
    /// Proved of each parameter when the function returns something true.
    truthy: Vec<Refinement>,
    /// The same for something false.
    falsy: Vec<Refinement>,
    /// The same for any return.
    returns: Vec<Refinement>,
    /// Exceptions that leave the function.
    raised: Vec<Value>,
}

/// What is known of a function before it is evaluated.
struct Prepared {
    dominators: Dominators,
    /// Values that always are equal have one representative.
    canonical: Vec<ValueId>,
    /// Whether some check mentions a representative.
    checked: Vec<bool>,
    /// The values of constants.
    constants: Vec<Option<Value>>,
    has_loop: bool,
    /// Straight lines of code, where every return counts.
    lines: OnceCell<Lines>,
    /// The same where only the last return counts.
    root_lines: OnceCell<Lines>,
}

/// A function under evaluation.
struct Frame {
    function: FunctionId,
    /// What its closure was made with.
    captured: Captured,
    values: Vec<Option<Value>>,
    executed: Vec<bool>,
    heap: Allocations,
    /// Exceptions on their way: the block where they are caught, if it is in this function.
    raised: Vec<(Option<BlockId>, Value)>,
    summaries: FxHashMap<ValueId, Rc<Summary>>,
    /// Calls that prove something by returning, with their blocks.
    proving: Vec<(BlockId, ValueId)>,
    /// What is proved of values where blocks begin.
    facts: FxHashMap<(ValueId, BlockId), Refinement>,
    returned: Vec<(BlockId, ValueId)>,
    yielded: Option<Value>,
    /// Where evaluation stands.
    block: BlockId,
    inst: ValueId,
    /// The function is called from outside, not from the program.
    is_root: bool,
}

#[derive(Default)]
struct Closure {
    defaults: Vec<(u32, Value)>,
    decorators: Vec<Value>,
}

/// The evaluator.
#[expect(clippy::struct_excessive_bools, reason = "independent facts about one program")]
pub(crate) struct Engine<'a> {
    module: &'a Module,
    prepared: Vec<Option<Rc<Prepared>>>,
    heap: Vec<HeapObject>,
    /// What the roots and the bodies of classes made: the same in every round.
    lasting: FxHashMap<FunctionId, Allocations>,
    pub(crate) sources: Vec<Source>,
    source_ids: FxHashMap<(Range, Origin), Taint>,
    /// What files of an outsider's choice hold: dangerous only to those who trust a file's content.
    file_taint: Taint,
    /// What the object of a method holds whose class is not there.
    state_taint: Taint,
    globals: FxHashMap<Symbol, Value>,
    free: FxHashMap<(FunctionId, Symbol), Value>,
    fields: FxHashMap<(ClassId, Symbol), Value>,
    /// What the bodies of classes bind: what objects have that nobody gave anything else.
    class_values: FxHashMap<(ClassId, Symbol), Value>,
    bases: Vec<Vec<Value>>,
    closures: Vec<Closure>,
    /// Functions that `@name.setter` decorates.
    setters: FxHashMap<(ClassId, Symbol), FunctionId>,
    called: FxHashSet<FunctionId>,
    /// Variables that an inner function reads: only these outlive their function.
    captured: FxHashSet<(FunctionId, Symbol)>,
    /// For each function the variables of enclosing functions that it and its inner functions read.
    captures: Vec<Vec<(FunctionId, Symbol)>>,
    /// No function has a public name: what is there was cut out of a program, to be called.
    all_private: bool,
    /// A text that a view returns is a page.
    returns_pages: bool,
    /// Views that declare that they return pages.
    pages: FxHashSet<FunctionId>,
    /// What a route or a command line lets through for a parameter, or for a part of the path.
    declared_parts: FxHashMap<FunctionId, FxHashMap<Box<str>, Refinement>>,
    /// Options of command lines, and whether they can only hold what the program allows.
    options_declared: FxHashMap<Box<str>, bool>,
    /// What the program assigned to members of libraries: `flask.g.user`.
    members: FxHashMap<Rc<str>, Value>,
    /// Functions that a decorator or a call hands to a framework, to answer requests.
    registered: FxHashSet<FunctionId>,
    /// What the decorators of the program make of its functions.
    wrappers: FxHashMap<FunctionId, Value>,
    /// The function that a wrapper is evaluated for: what it returns is what the wrapper's caller gets.
    wrapped: Option<FunctionId>,
    frames: Vec<Frame>,
    memo: FxHashMap<(FunctionId, Vec<Value>, u64), Rc<Summary>>,
    /// How many different calls of each function were evaluated.
    contexts: Vec<u32>,
    /// Functions that were evaluated.
    visited: FxHashSet<FunctionId>,
    pub(crate) reports: Vec<Report>,
    /// What to say in the next report about the check that was seen.
    guard: Option<String>,
    reported: FxHashSet<(Weakness, Range)>,
    fuel: u64,
    /// Values are other than they were computed, for a moment: nothing that is proved of them may be kept.
    rebuilding: bool,
    /// Steps left for the proof that is being looked for.
    proof_steps: u32,
    pub(crate) budget_hit: bool,
    /// For each name whether calls of a method of that name are judged by the table of settings.
    settings: Vec<bool>,
    /// Built-in names that mean what they usually do.
    builtins: FxHashMap<Symbol, Value>,
    changes: Changes,
    threat_model: ThreatModel,
    options: &'a Options,
    libraries: Libraries<'a>,
}

impl<'a> Engine<'a> {
    pub(crate) fn new(module: &'a Module, threat_model: ThreatModel, options: &'a Options) -> Self {
        let insts: usize = module.functions.iter().map(|function| function.insts.len()).sum();
        Self {
            module,
            prepared: module.functions.iter().map(|_| None).collect(),
            heap: Vec::new(),
            lasting: FxHashMap::default(),
            sources: Vec::new(),
            source_ids: FxHashMap::default(),
            file_taint: 0,
            state_taint: 0,
            globals: FxHashMap::default(),
            free: FxHashMap::default(),
            fields: FxHashMap::default(),
            class_values: FxHashMap::default(),
            bases: module.classes.iter().map(|_| Vec::new()).collect(),
            closures: module.functions.iter().map(|_| Closure::default()).collect(),
            setters: FxHashMap::default(),
            called: roots::called_by_others(module),
            captured: roots::captured(module),
            captures: closures::captures(module),
            all_private: roots::all_private(module),
            returns_pages: roots::returns_pages(module),
            pages: FxHashSet::default(),
            declared_parts: FxHashMap::default(),
            options_declared: FxHashMap::default(),
            members: FxHashMap::default(),
            registered: crate::threat::routes(module),
            wrappers: FxHashMap::default(),
            wrapped: None,
            frames: Vec::new(),
            memo: FxHashMap::default(),
            contexts: vec![0; module.functions.len()],
            visited: FxHashSet::default(),
            reports: Vec::new(),
            guard: None,
            reported: FxHashSet::default(),
            fuel: FUEL_BASE + FUEL_PER_INST * insts as u64,
            rebuilding: false,
            proof_steps: 0,
            budget_hit: module.truncated,
            settings: settings::of_methods(module),
            builtins: FxHashMap::default(),
            changes: Changes::default(),
            threat_model,
            options,
            libraries: Libraries::new(options.library.as_deref()),
        }
    }

    fn frame(&self) -> &Frame {
        self.frames.last().expect("values are evaluated inside a frame")
    }

    fn frame_mut(&mut self) -> &mut Frame {
        self.frames.last_mut().expect("values are evaluated inside a frame")
    }

    fn function(&self) -> &'a crate::ir::Function {
        &self.module.functions[self.frame().function.index()]
    }

    fn op(&self, value: ValueId) -> &'a Op {
        &self.function().insts[value.index()].op
    }

    fn name(&self, symbol: Symbol) -> &'a str {
        self.module.symbols.text(symbol)
    }

    fn prepare(&mut self, function: FunctionId) -> Rc<Prepared> {
        if let Some(prepared) = &self.prepared[function.index()] {
            return prepared.clone();
        }
        let body = &self.module.functions[function.index()];
        let dominators = Dominators::of(body);
        let canonical = guards::canonical(body, &dominators, &self.module.symbols);
        let checked = guards::checked(body, &dominators, &canonical, &self.module.symbols);
        let has_loop = dominators.order.iter().any(|block| {
            let successors = body.blocks[block.index()].terminator.successors();
            successors.into_iter().any(|target| dominators.is_back_edge(*block, target))
        });
        let constant = |inst: &Inst| match &inst.op {
            Op::Constant(constant) => Some(ops::constant_value(constant)),
            _ => None,
        };
        let constants = body.insts.iter().map(constant).collect();
        let prepared = Rc::new(Prepared {
            dominators,
            canonical,
            checked,
            constants,
            has_loop,
            lines: OnceCell::new(),
            root_lines: OnceCell::new(),
        });
        self.prepared[function.index()] = Some(prepared.clone());
        prepared
    }

    /// The straight lines of the function that a frame evaluates.
    fn lines(&self, frame: &Frame) -> &Lines {
        let prepared =
            self.prepared[frame.function.index()].as_ref().expect("a frame's function is prepared");
        let (lines, ends) = if frame.is_root {
            (&prepared.root_lines, Ends::LastReturn)
        } else {
            (&prepared.lines, Ends::Returns)
        };
        lines.get_or_init(|| {
            Lines::of(&self.module.functions[frame.function.index()], &prepared.dominators, ends)
        })
    }

    /// Evaluates a function with these values for its parameters.
    fn run(
        &mut self,
        function: FunctionId,
        captured: &Captured,
        params: &[Value],
        is_root: bool,
    ) -> Rc<Summary> {
        if let Some(caller) = self.frames.last() {
            self.changes.note_call(caller.function, function);
        }
        let around = captured.iter().flat_map(|captured| captured.iter().map(|(_, _, value)| value));
        let inputs: Vec<Value> = params.iter().chain(around).cloned().collect();
        let stamp = self.heap_stamp(&inputs);
        let mut key = (function, inputs, stamp);
        if let Some(summary) = self.memo.get(&key) {
            return summary.clone();
        }
        let is_common = self.is_common(function);
        let mut captured = captured.clone();
        if is_common && !is_root {
            key.1 = params.iter().map(Value::generalized).collect();
            key.2 = 0;
            captured = None;
            if let Some(summary) = self.memo.get(&key) {
                return summary.clone();
            }
        }
        let generalized = (is_common && !is_root).then(|| key.1.clone());
        let params = generalized.as_deref().unwrap_or(params);
        self.visited.insert(function);
        let prepared = self.prepare(function);
        let body = &self.module.functions[function.index()];
        let heap = self.enter_heap(function, is_root);
        self.frames.push(Frame {
            function,
            captured,
            values: vec![None; body.insts.len()],
            executed: vec![false; body.blocks.len()],
            heap,
            raised: Vec::new(),
            summaries: FxHashMap::default(),
            proving: Vec::new(),
            facts: FxHashMap::default(),
            returned: Vec::new(),
            yielded: None,
            block: BlockId(0),
            inst: ValueId(0),
            is_root,
        });
        let passes = if prepared.has_loop { MAX_PASSES } else { 1 };
        for _ in 0..passes {
            if !self.pass(&prepared, params) {
                break;
            }
        }
        let summary = Rc::new(self.summarize(params.len()));
        let frame = self.frames.pop().expect("the frame was pushed above");
        // Whoever calls again gets an object of its own.
        let is_fresh = summary.value.heap_id().is_some_and(|id| frame.heap.made(id));
        self.leave_heap(function, is_root, frame.heap);
        if !is_fresh || is_common {
            self.memo.insert(key, summary.clone());
        }
        summary
    }

    /// Whether a function was evaluated for so many different calls that further ones are taken together. Small functions are
    /// worth more calls than large ones; all of it is linear in the size of the program.
    fn is_common(&mut self, function: FunctionId) -> bool {
        let size = self.module.functions[function.index()].insts.len() as u32;
        let seen = &mut self.contexts[function.index()];
        *seen += 1;
        *seen > MIN_CONTEXTS.max(CONTEXT_INSTS / size.max(1))
    }

    /// Remembers a call that proves something of its arguments by returning.
    fn note_proof(&mut self, block: BlockId, call: ValueId, callee: ValueId) {
        if self.may_prove(call, callee) && !self.frame().proving.contains(&(block, call)) {
            self.frame_mut().proving.push((block, call));
        }
    }

    /// Evaluates every executable block once. Whether anything changed.
    fn pass(&mut self, prepared: &Prepared, params: &[Value]) -> bool {
        let body = self.function();
        self.frame_mut().executed[0] = true;
        self.frame_mut().returned.clear();
        self.frame_mut().raised.clear();
        self.frame_mut().facts.clear();
        let mut changed = false;
        for &block in &prepared.dominators.order {
            if !self.frame().executed[block.index()] {
                continue;
            }
            self.frame_mut().block = block;
            for &id in &body.blocks[block.index()].insts {
                if self.fuel == 0 {
                    self.budget_hit = true;
                    return false;
                }
                self.fuel -= 1;
                self.frame_mut().inst = id;
                let value = match self.op(id) {
                    Op::Param(index) => params.get(*index as usize).cloned().unwrap_or_else(Value::unknown),
                    Op::Phi(operands) => self.phi(prepared, block, id, operands),
                    Op::Constant(_) => prepared.constants[id.index()].clone().unwrap_or_else(Value::unknown),
                    op => self.evaluate(id, op),
                };
                if let Op::Call { callee, .. } = self.op(id) {
                    self.note_proof(block, id, *callee);
                }
                let slot = &mut self.frame_mut().values[id.index()];
                if slot.as_ref() != Some(&value) {
                    changed = true;
                    *slot = Some(value);
                }
            }
            self.leave(block);
        }
        changed
    }

    fn phi(&mut self, prepared: &Prepared, block: BlockId, id: ValueId, operands: &[ValueId]) -> Value {
        let preds = &self.function().blocks[block.index()].preds;
        let mut joined: Option<Value> = None;
        let mut from_back: Option<Value> = None;
        for (operand, pred) in operands.iter().zip(preds) {
            if !self.frame().executed[pred.index()] || self.frame().values[operand.index()].is_none() {
                continue;
            }
            let mut value = self.value_at(*operand, *pred, None);
            // `name and "report"`: what is false is no text of anybody's choice.
            if value.taint() != 0 && self.truth_on_edge(*operand, *pred) == Some(false) {
                value = Value::constant("");
            }
            let target =
                if prepared.dominators.is_back_edge(*pred, block) { &mut from_back } else { &mut joined };
            *target = Some(target.as_ref().map_or_else(|| value.clone(), |known| known.join(&value)));
        }
        match (joined, from_back) {
            (Some(entry), Some(back)) => {
                let known = self.frame().values[id.index()].clone().unwrap_or(entry.clone());
                known.join(&entry).widen(&back)
            }
            (Some(value), None) | (None, Some(value)) => value,
            (None, None) => Value::unknown(),
        }
    }

    fn leave(&mut self, block: BlockId) {
        let terminator = self.function().blocks[block.index()].terminator;
        match terminator {
            Terminator::Branch { condition, then, otherwise } => {
                let truth = self.known(condition).truth();
                if truth != Some(false) {
                    self.frame_mut().executed[then.index()] = true;
                }
                if truth != Some(true) {
                    self.frame_mut().executed[otherwise.index()] = true;
                }
            }
            Terminator::Return(value) => {
                self.frame_mut().returned.push((block, value));
                self.check_return(block, value);
            }
            Terminator::ForNext { iterable, exit, .. } if self.is_empty(iterable) => {
                self.frame_mut().executed[exit.index()] = true;
            }
            other => {
                for target in other.successors() {
                    self.frame_mut().executed[target.index()] = true;
                }
            }
        }
    }

    /// The value as it was computed.
    fn known(&self, value: ValueId) -> Value {
        self.frame().values[value.index()].clone().unwrap_or_else(Value::unknown)
    }

    /// The value as what the checks on the way to the current instruction leave of it.
    fn get(&mut self, value: ValueId) -> Value {
        let (block, inst) = (self.frame().block, self.frame().inst);
        self.value_at(value, block, Some(inst))
    }

    /// The value in a block: before `limit`, or at its end.
    fn value_at(&mut self, value: ValueId, block: BlockId, limit: Option<ValueId>) -> Value {
        let known = self.known(value);
        if known.taint() == 0 && known.elements.is_none() && !matches!(known.object, Object::Container(_)) {
            return known;
        }
        let proof = self.facts_at(value, block, limit);
        if proof.is_trivial() { known } else { known.refined(&proof) }
    }

    /// The taint of one more source.
    fn source(&mut self, range: Range, origin: Origin, what: &str) -> Taint {
        let trusted = self.in_prelude();
        if let Some(taint) = self.source_ids.get(&(range, origin)) {
            return *taint;
        }
        let index = self.sources.len().min(63);
        if self.sources.len() < 64 {
            self.sources.push(Source { range, origin, what: what.to_owned(), trusted });
        }
        let taint = 1 << index;
        if origin == Origin::File {
            self.file_taint |= taint;
        }
        self.source_ids.insert((range, origin), taint);
        taint
    }

    /// Whether the current instruction belongs to the trusted set-up code.
    fn in_prelude(&self) -> bool {
        let Some(frame) = self.frames.last() else { return false };
        match frame.function.0 {
            0 => frame.inst.0 < self.module.trusted_insts,
            function => function < self.module.trusted_functions,
        }
    }

    fn report(
        &mut self,
        weakness: Weakness,
        range: Range,
        message: String,
        confidence: f32,
        flow: Vec<(Range, String)>,
    ) {
        if !self.in_prelude() && self.reported.insert((weakness, range)) {
            let guard = self.guard.take();
            self.reports.push(Report { weakness, range, message, confidence, flow, guard });
        }
        self.guard = None;
    }

    fn set_field(&mut self, class: ClassId, name: Symbol, value: &Value) {
        let known = self.fields.get(&(class, name)).cloned();
        if let Some(joined) = self.joined(known.as_ref(), value) {
            self.changes.note_change(Shared::Field(class, name));
            self.fields.insert((class, name), joined);
        }
    }

    /// What libraries describe stays what it is: a stand-in that a test puts in its place does not make a call harmless.
    fn set_member(&mut self, path: Rc<str>, value: &Value) {
        if self.libraries.find(&path).is_some() {
            return;
        }
        let known = self.members.get(&path).cloned();
        if let Some(joined) = self.joined(known.as_ref(), value) {
            self.changes.note_change_of_all();
            self.members.insert(path, joined);
        }
    }

    fn set_global(&mut self, name: Symbol, value: &Value) {
        let known = self.globals.get(&name).cloned();
        if let Some(joined) = self.joined(known.as_ref(), value) {
            self.changes.note_change(Shared::Global(name));
            if self.builtins.remove(&name).is_some() {
                self.changes.note_change_of_all();
            }
            self.globals.insert(name, joined);
        }
    }

    fn set_free(&mut self, function: FunctionId, name: Symbol, value: &Value) {
        let known = self.free.get(&(function, name)).cloned();
        if let Some(joined) = self.joined(known.as_ref(), value) {
            self.changes.note_change(Shared::Captured(function, name));
            self.free.insert((function, name), joined);
        }
    }

    /// What a variable outside the frames is after one more assignment, if that is something new. Two containers become one.
    fn joined(&mut self, known: Option<&Value>, value: &Value) -> Option<Value> {
        self.share(value);
        let joined = match known {
            None => value.clone(),
            Some(known) => match (&known.object, &value.object) {
                (Object::Container(kept), Object::Container(other)) if kept != other => {
                    let merged = self.merged(*kept, *other);
                    Value { elements: None, ..self.container(merged) }
                }
                _ => known.join(value),
            },
        };
        if known == Some(&joined) { None } else { Some(joined) }
    }
}

/// A step of a flow, with its place in the text.
pub(crate) fn step(lines: &crate::finding::Lines<'_>, (range, message): &(Range, String)) -> FlowStep {
    FlowStep { span: lines.span(*range), message: message.clone() }
}
