//! Who has to be evaluated again: a function that read a variable which changed later, and whoever calls such a function.
//!
//! Methods run in any order, and what one stores another reads, so the roots are evaluated in rounds. Most functions read nothing that
//! others store, and their summaries hold for all rounds:
//!
//! ```python
//! def show(): os.system(STATE.command)      # round 1: nothing is known of it; round 2: a request chose it
//! def store(): STATE.command = request.args["q"]
//! def help(): return "usage"                 # round 1 only
//! ```

use rustc_hash::{FxHashMap, FxHashSet};

use super::Engine;
use crate::ir::{ClassId, FunctionId, Symbol};

/// A variable that outlives the frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Shared {
    Global(Symbol),
    Field(ClassId, Symbol),
    Captured(FunctionId, Symbol),
}

/// Who is evaluated in a round.
#[derive(Debug)]
pub(super) enum Due {
    Everybody,
    Only(FxHashSet<FunctionId>),
}

impl Due {
    pub(super) fn includes(&self, function: FunctionId) -> bool {
        match self {
            Self::Everybody => true,
            Self::Only(functions) => functions.contains(&function),
        }
    }
}

/// Reads, calls and changes so far.
#[derive(Debug, Default)]
pub(super) struct Changes {
    readers: FxHashMap<Shared, Vec<FunctionId>>,
    callers: FxHashMap<FunctionId, Vec<FunctionId>>,
    /// Variables that changed in this round, after somebody had read them.
    changed: FxHashSet<Shared>,
    /// Something changed that may matter to everybody.
    all: bool,
    /// The state of the containers that variables held when they were first read, or when the last round ended.
    stamps: FxHashMap<Shared, u64>,
}

impl Changes {
    pub(super) fn note_call(&mut self, caller: FunctionId, callee: FunctionId) {
        add(self.callers.entry(callee).or_default(), caller);
    }

    pub(super) fn note_read(&mut self, reader: FunctionId, variable: Shared) {
        add(self.readers.entry(variable).or_default(), reader);
    }

    pub(super) fn note_change(&mut self, variable: Shared) {
        if self.readers.contains_key(&variable) {
            self.changed.insert(variable);
        }
    }

    pub(super) fn note_change_of_all(&mut self) {
        self.all = true;
    }

    fn happened(&self) -> bool {
        self.all || !self.changed.is_empty()
    }

    /// Those who read what changed, and whoever calls them, directly or not.
    fn affected(&self) -> FxHashSet<FunctionId> {
        let readers = self.changed.iter().filter_map(|variable| self.readers.get(variable));
        let mut pending: Vec<FunctionId> = readers.flatten().copied().collect();
        let mut affected = FxHashSet::default();
        while let Some(function) = pending.pop() {
            if affected.insert(function) {
                pending.extend(self.callers.get(&function).into_iter().flatten());
            }
        }
        affected
    }
}

fn add(functions: &mut Vec<FunctionId>, function: FunctionId) {
    if !functions.contains(&function) {
        functions.push(function);
    }
}

impl Engine<'_> {
    pub(super) fn note_read(&mut self, variable: Shared) {
        if !self.changes.stamps.contains_key(&variable) {
            let stamp = self.stamp(variable);
            self.changes.stamps.insert(variable, stamp);
        }
        let reader = self.frame().function;
        self.changes.note_read(reader, variable);
    }

    /// Ends a round, and forgets what is no longer so. Who is to be evaluated in the next one, if there is one.
    pub(super) fn next_round(&mut self) -> Option<Due> {
        if !self.changes.happened() {
            return None;
        }
        self.note_changed_containers();
        let due = if self.changes.all { Due::Everybody } else { Due::Only(self.changes.affected()) };
        self.memo.retain(|(function, ..), _| !due.includes(*function));
        self.visited.retain(|function| !due.includes(*function));
        for (index, contexts) in self.contexts.iter_mut().enumerate() {
            if due.includes(FunctionId(index as u32)) {
                *contexts = 0;
            }
        }
        self.changes.changed.clear();
        self.changes.all = false;
        Some(due)
    }

    /// A list that a variable holds may have changed where the variable did not.
    fn note_changed_containers(&mut self) {
        let variables: Vec<Shared> = self.changes.stamps.keys().copied().collect();
        for variable in variables {
            let stamp = self.stamp(variable);
            if self.changes.stamps.insert(variable, stamp) != Some(stamp) {
                self.changes.changed.insert(variable);
            }
        }
    }

    /// The state of the containers that a variable leads to.
    fn stamp(&self, variable: Shared) -> u64 {
        let value = match variable {
            Shared::Global(name) => self.globals.get(&name),
            Shared::Field(class, name) => self.fields.get(&(class, name)),
            Shared::Captured(function, name) => self.free.get(&(function, name)),
        };
        value.map_or(0, |value| self.heap_stamp(std::slice::from_ref(value)))
    }
}
