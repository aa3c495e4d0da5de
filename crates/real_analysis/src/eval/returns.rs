//! What returns say: the summary of a function, and returned texts that are sinks by contract.

use super::heap::Key;
use super::{Engine, Summary};
use crate::facts::Refinement;
use crate::ir::{BlockId, Constant, FunctionKind, Op, ValueId};
use crate::rules;
use crate::text::Text;
use crate::value::{Object, Value};
use crate::{Returned, ThreatModel};

/// Stands for what a generator gives among the instructions of its function.
const GENERATED: ValueId = ValueId(u32::MAX);

impl Engine<'_> {
    /// The summary of the function that was just evaluated.
    pub(super) fn summarize(&mut self, params: usize) -> Summary {
        let body = self.function();
        if body.kind == FunctionKind::ClassBody {
            self.keep_class_attributes();
        }
        self.keep_captured();
        let returned = self.frame().returned.clone();
        let mut value = self.generated();
        for (block, result) in returned.iter().filter(|_| !body.is_generator) {
            let result = self.value_at(*result, *block, None);
            value = Some(value.map_or_else(|| result.clone(), |known| known.join(&result)));
        }
        let nothing = vec![Refinement::impossible(); params];
        let mut summary = Summary {
            value: value.unwrap_or_else(Value::unknown),
            truthy: nothing.clone(),
            falsy: nothing.clone(),
            returns: nothing,
            raised: self
                .frame()
                .raised
                .iter()
                .filter(|(handler, _)| handler.is_none())
                .map(|(_, value)| value.clone())
                .collect(),
        };
        let inputs: Vec<(usize, ValueId)> = body
            .insts
            .iter()
            .enumerate()
            .filter_map(|(id, inst)| match inst.op {
                Op::Param(index) if (index as usize) < params => Some((index as usize, ValueId(id as u32))),
                _ => None,
            })
            .collect();
        for (block, result) in returned {
            for (index, param) in &inputs {
                let here = self.facts_at(*param, block, None);
                let query = self.query(*param);
                let truthy = self.facts_of_truth(query, result, true);
                let falsy = self.facts_of_truth(query, result, false);
                let join = |slot: &mut Refinement, proof: Refinement| *slot = slot.clone().join(proof);
                join(&mut summary.truthy[*index], truthy.meet(here.clone()));
                join(&mut summary.falsy[*index], falsy.meet(here.clone()));
                join(&mut summary.returns[*index], here);
            }
        }
        for proofs in [&mut summary.truthy, &mut summary.falsy, &mut summary.returns] {
            for proof in proofs.iter_mut().filter(|proof| proof.impossible) {
                *proof = Refinement::nothing();
            }
        }
        summary
    }

    /// What a generator gives: iterating over it gives what it yields. A context manager's `with` binds that.
    fn generated(&mut self) -> Option<Value> {
        let yielded = self.frame().yielded.clone()?;
        let function = self.frame().function;
        if self.is_decorated(function, &["contextlib.contextmanager", "contextlib.asynccontextmanager"]) {
            return Some(yielded);
        }
        let list = self.allocate(GENERATED, false);
        self.forget_positions(list);
        self.store_rest(list, &yielded);
        Some(self.container(list))
    }

    fn keep_class_attributes(&mut self) {
        let body = self.function();
        let Some(class) = body.class else { return };
        for (name, id) in &body.writes {
            if let Some(value) = self.frame().values[id.index()].clone() {
                self.set_field(class, *name, &value);
                self.class_values.insert((class, *name), value);
            }
        }
    }

    /// Variables stay readable for the closures that captured them.
    fn keep_captured(&mut self) {
        let body = self.function();
        let function = self.frame().function;
        if body.kind == FunctionKind::ClassBody {
            return;
        }
        for (name, id) in &body.writes {
            if !self.captured.contains(&(function, *name)) {
                continue;
            }
            if let Some(value) = self.frame().values[id.index()].clone() {
                if function.0 == 0 {
                    self.set_global(*name, &value);
                } else {
                    self.set_free(function, *name, &value);
                }
            }
        }
    }

    /// `get_redirect_url` of a view returns where the client is sent.
    fn is_redirect_hook(&self) -> bool {
        let body = self.function();
        let named = matches!(self.name(body.name), "get_redirect_url" | "get_success_url");
        named && body.class.is_some_and(|class| self.has_view_base(class))
    }

    /// Whether the function is a gateway's, and says that what it returns is a page.
    fn sends_pages(&self) -> bool {
        let is_html = |op: &Op| matches!(op, Op::Constant(Constant::Str(text)) if text.contains("text/html"));
        self.is_gateway(self.function()) && self.function().insts.iter().any(|inst| is_html(&inst.op))
    }

    /// A public function that returns a text in a language hands it to someone who will interpret it.
    pub(super) fn check_return(&mut self, block: BlockId, value: ValueId) {
        let function = self.frame().function;
        let answers = self.wrapped.map_or(self.frame().is_root, |wrapped| wrapped == function);
        if !answers || self.function().kind != FunctionKind::Function {
            return;
        }
        let is_entry = self.is_entry(function);
        if self.called.contains(&function) && !is_entry {
            return;
        }
        let contract = self.options.returns.filter(|_| is_entry);
        let contract = contract.or_else(|| self.is_redirect_hook().then_some(Returned::Url));
        let is_route = self.is_route(function) || self.is_redirect_hook() || self.sends_pages();
        if is_route && contract.is_none() && !self.returns_pages && !self.pages.contains(&function) {
            return;
        }
        if self.threat_model != ThreatModel::Library && !is_route && !is_entry {
            return;
        }
        // `return response.json()`: what is sent is JSON again.
        let is_json = |callee: &ValueId| matches!(self.op(*callee), Op::Attribute { name, .. } if self.name(*name) == "json");
        if is_route && matches!(self.op(value), Op::Call { callee, .. } if is_json(callee)) {
            return;
        }
        let result = self.value_at(value, block, None);
        let result = match result.object {
            // What a gateway returns are the parts of one body.
            Object::Container(_) if self.is_gateway(self.function()) => {
                Value::string(self.join(&Text::constant(""), &result))
            }
            Object::Container(heap) if is_route => {
                let rest = [1, 2].map(|index| self.load_key(heap, Some(&Key::Index(index))));
                let kind = rest.iter().find_map(|part| self.content_type(part));
                if kind.is_some_and(|kind| {
                    kind.text.as_constant().is_some_and(|kind| !rules::is_html_type(kind))
                }) {
                    return;
                }
                self.load_key(heap, Some(&Key::Index(0)))
            }
            _ => result,
        };
        if matches!(result.object, Object::Container(_)) || result.taint() == 0 {
            return;
        }
        if is_route && contract.is_none() && self.says_page() == Some(false) {
            return;
        }
        let verdict = match contract {
            Some(language) => rules::judge_contract(&result.text, language),
            None => rules::judge_return(&result.text, is_route),
        };
        let Some((weakness, verdict)) = verdict else { return };
        if verdict.taint & !self.file_taint == 0 {
            return;
        }
        let range = self.function().blocks[block.index()].returned;
        let sources = verdict.taint;
        let flow = self.trace(value, sources, range);
        let message = rules::message(weakness, &self.origin_of(sources));
        let confidence = verdict.confidence * self.confidence_of(sources) * 0.9;
        self.report(weakness, range, message, confidence, flow);
    }
}
