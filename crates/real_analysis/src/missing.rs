//! Weaknesses without a data flow: something sensitive happens and a check that should decide about it is missing.
//!
//! ```python
//! USERS = {1: {"role": "admin"}, 2: {"role": "user"}}
//!
//! def set_role(actor: int, target: int, role: str):
//!     if target not in USERS:
//!         raise KeyError(target)
//!     USERS[target]["role"] = role
//! ```
//!
//! Nothing hostile breaks out of its place here: what is wrong is that `actor` decides nothing. So these rules ask on which
//! conditions an operation is control dependent ([`crate::control`]), and on which parameters those conditions depend
//! ([`body::Body`]). Above, the write depends on `target not in USERS`, which mentions `target` and the table; no condition
//! mentions `actor`, and nothing else uses it. A parameter of which nothing depends is *idle*.
//!
//! That a parameter is idle is a fact of the program, whatever it is called. Whether it *should* have decided is judged from
//! the data beside it: a table whose records have owners or roles, a table of signatures that nobody compares, a list of
//! allowed fields that nobody reads ([`stores`]). Names of parameters add to this evidence and never replace it.
//!
//! A call of a function of the program counts as what happens inside it, with its arguments in place of its parameters.

mod amount;
mod assignment;
mod authorization;
mod body;
mod forgery;
mod growth;
mod host;
mod protection;
mod signature;
mod stores;
mod substring;
mod upload;

use std::cell::OnceCell;

use crate::eval::Report;
use crate::ir::{FunctionId, FunctionKind, Module, Range, Symbol};
use crate::rules::Weakness;
pub(crate) use body::{Body, import_path};
use stores::Stores;

/// Calls inside calls.
const MAX_DEPTH: u32 = 3;

/// What these rules know of the program.
pub(crate) struct Scene<'a> {
    module: &'a Module,
    stores: Stores,
    bodies: Vec<OnceCell<Body<'a>>>,
}

/// The reports about every function that outsiders call.
pub(crate) fn reports(module: &Module, exposed: &[FunctionId], routes: &[FunctionId]) -> Vec<Report> {
    if exposed.is_empty() {
        return Vec::new();
    }
    let bodies = module.functions.iter().map(|_| OnceCell::new()).collect();
    let scene = Scene { module, stores: Stores::of(module), bodies };
    let mut reports = Vec::new();
    protection::check(&scene, &mut reports);
    for function in routes {
        amount::check(&scene, *function, &mut reports);
    }
    for function in exposed {
        authorization::check(&scene, *function, &mut reports);
        signature::check(&scene, *function, &mut reports);
        forgery::check(&scene, *function, &mut reports);
        growth::check(&scene, *function, &mut reports);
        assignment::check(&scene, *function, &mut reports);
        host::check(&scene, *function, &mut reports);
        substring::check(&scene, *function, &mut reports);
        upload::check(&scene, *function, &mut reports);
    }
    reports
}

impl<'a> Scene<'a> {
    fn body(&self, function: FunctionId) -> &Body<'a> {
        self.bodies[function.index()].get_or_init(|| Body::of(self.module, function))
    }

    fn name(&self, symbol: Symbol) -> &'a str {
        self.module.symbols.text(symbol)
    }

    /// The function that a module-wide name stands for.
    fn function_named(&self, name: Symbol) -> Option<FunctionId> {
        let is_it = |function: &crate::ir::Function| {
            function.name == name
                && function.kind == FunctionKind::Function
                && function.parent == Some(FunctionId(0))
        };
        self.module.functions.iter().position(is_it).map(|index| FunctionId(index as u32))
    }
}

fn report(weakness: Weakness, range: Range, message: String, confidence: f32) -> Report {
    Report { weakness, range, message, confidence, flow: Vec::new(), guard: None }
}

/// Whether one of the words of a name is among `words`: `operator_id` consists of `operator` and `id`.
pub(crate) fn has_word(name: &str, words: &[&str]) -> bool {
    name.split(['_', '-', ' ']).any(|word| words.iter().any(|known| known.eq_ignore_ascii_case(word)))
}
