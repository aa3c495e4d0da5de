//! What comparisons prove: equality, membership, subsets, lengths.

use crate::eval::Engine;
use crate::eval::guards::Query;
use crate::facts::Refinement;
use crate::ir::{CompareOp, Op, ValueId};
use crate::library::Origin;
use crate::rules;
use crate::text::{Checks, Mask};
use crate::value::Object;

/// Texts up to this length are short.
const MAX_SHORT: i64 = 10_000;
/// Limits of the length of a text for which 2ⁿ steps are few.
pub(in crate::eval) const MAX_TINY: i64 = 24;

impl Engine<'_> {
    pub(super) fn facts_of_comparison(
        &mut self,
        query: Query,
        op: CompareOp,
        left: ValueId,
        right: ValueId,
    ) -> Refinement {
        let value = query.value;
        match op {
            CompareOp::Equal | CompareOp::Is => {
                let sides = [(left, right), (right, left)];
                let mut proof = Refinement::nothing();
                for (tested, other) in sides {
                    proof = proof.meet(self.facts_of_equality(query, tested, other));
                }
                proof
            }
            CompareOp::NotEqual | CompareOp::IsNot => match self.known(right).object {
                // `match is not None`, `flag is not False`
                Object::None | Object::Bool(Some(false)) => self.facts_of_truth(query.deeper(), left, true),
                Object::Bool(Some(true)) => self.facts_of_truth(query.deeper(), left, false),
                _ => Refinement::nothing(),
            },
            CompareOp::In => self.facts_of_membership(value, left, right),
            CompareOp::NotIn => {
                if self.is_inside_of(right, value) && self.is_quote(left) {
                    return Refinement::checks(Checks::NO_QUOTE_INSIDE);
                }
                let Some(relation) = self.relation(right, value) else { return Refinement::nothing() };
                let absent = self.known(left).text.as_constant().map(str::to_owned);
                match absent.as_deref() {
                    Some("..") => Refinement::checks(Checks::NO_PARENT),
                    Some(absent) if absent.chars().count() == 1 => {
                        relation.carry(Refinement::mask(Mask::ANY.minus(Mask::of(absent))))
                    }
                    _ => Refinement::nothing(),
                }
            }
            CompareOp::LessEqual => {
                self.facts_of_subset(value, left, right).meet(self.facts_of_length(value, left, right))
            }
            CompareOp::GreaterEqual => {
                self.facts_of_subset(value, right, left).meet(self.facts_of_length(value, right, left))
            }
            CompareOp::Less => self.facts_of_length(value, left, right),
            CompareOp::Greater => self.facts_of_length(value, right, left),
        }
    }

    pub(super) fn facts_of_equality(&mut self, query: Query, tested: ValueId, other: ValueId) -> Refinement {
        let value = query.value;
        let known = self.known(other);
        if let Object::Bool(Some(truth)) = known.object {
            return self.facts_of_truth(query.deeper(), tested, truth);
        }
        if let Object::None = known.object {
            return self.facts_of_truth(query.deeper(), tested, false);
        }
        if let Op::Call { callee, args } = self.op(tested) {
            // Character by character: only a slash at its end makes a prefix a folder.
            let is_folder = known.text.as_constant().is_some_and(|folder| folder.ends_with('/'));
            let compares = self.is_path(*callee, &["os.path.commonpath"])
                || (is_folder && self.is_path(*callee, &["os.path.commonprefix"]));
            if compares && args.iter().any(|arg| self.depends_on(arg.value, value)) {
                return Refinement::checks(Checks::CONFINED);
            }
        }
        // `path.resolve().parent == FOLDER`
        if let Op::Attribute { object, name } = self.op(tested)
            && self.name(*name) == "parent"
            && known.taint() == 0
            && self.relation(*object, value).is_some()
            && self.known(*object).text.is_checked(Checks::RESOLVED)
        {
            return Refinement::checks(Checks::CONFINED);
        }
        let Some(relation) = self.relation(tested, value) else { return Refinement::nothing() };
        // What equals its cleaned form is clean: `secure_filename(name) == name`.
        if known.taint() != 0 && known.object == Object::Text {
            let other = known.text.summary();
            return relation.carry(Refinement { checks: other.checks, ..Refinement::mask(other.mask) });
        }
        match known.text.as_constants() {
            Some(constants) if known.taint() == 0 => relation.carry(Refinement::constants(constants)),
            _ if known.taint() == 0 || self.is_own_host(other) => relation.carry(Refinement::trusted()),
            _ => Refinement::nothing(),
        }
    }

    /// `request.host`, `urlparse(request.host_url).netloc`: the client says it, but a browser cannot be made to say another.
    fn is_own_host(&self, value: ValueId) -> bool {
        match self.op(value) {
            Op::Attribute { object, name } => match self.name(*name) {
                "host" | "host_url" | "url_root" => self.is_request_object(*object),
                "netloc" | "hostname" => self.is_own_host(*object),
                _ => false,
            },
            Op::Call { callee, args } => match self.op(*callee) {
                Op::Attribute { object, name } if self.name(*name) == "get_host" => {
                    self.is_request_object(*object)
                }
                _ => {
                    self.is_path(*callee, &["urllib.parse.urlparse", "urllib.parse.urlsplit"])
                        && args.first().is_some_and(|arg| self.is_own_host(arg.value))
                }
            },
            _ => false,
        }
    }

    fn is_request_object(&self, value: ValueId) -> bool {
        match &self.known(value).object {
            Object::Instance(path) | Object::Path(path) => path.ends_with(".request"),
            _ => false,
        }
    }

    pub(super) fn facts_of_membership(
        &mut self,
        value: ValueId,
        left: ValueId,
        right: ValueId,
    ) -> Refinement {
        // `folder in path.resolve().parents`
        if let Op::Attribute { object, name } = self.op(right)
            && self.name(*name) == "parents"
            && self.relation(*object, value).is_some()
            && self.known(left).taint() == 0
        {
            return Refinement::checks(Checks::CONFINED);
        }
        let Some(relation) = self.relation(left, value) else { return Refinement::nothing() };
        let container = self.known(right);
        if let Some(members) = self.constant_members(&container) {
            return relation.carry(Refinement::constants(members.iter().map(|member| &**member)));
        }
        if let (Object::Text, Some(text)) = (&container.object, container.text.as_constant()) {
            return relation.carry(Refinement::mask(Mask::of(text)));
        }
        let open = container.path_name().is_some_and(|path| path.starts_with("hashlib."));
        // A list that the caller passes beside the value is the caller's policy; a request has no policy.
        let policy = self.confidence_of(container.taint()) <= rules::origin_weight(Origin::Parameter)
            && container.taint() & self.known(left).taint() == 0;
        if (container.taint() == 0 || policy) && !open {
            relation.carry(Refinement::trusted())
        } else {
            Refinement::nothing()
        }
    }

    /// `x[1:-1]`
    fn is_inside_of(&self, inside: ValueId, value: ValueId) -> bool {
        let Op::Slice { object, bounds: [Some(start), Some(end), None] } = self.op(inside) else {
            return false;
        };
        let at = |bound: &ValueId, wanted: i64| self.known(*bound).object == Object::Int(wanted);
        at(start, 1) && at(end, -1) && self.relation(*object, value).is_some()
    }

    pub(super) fn is_quote(&self, text: ValueId) -> bool {
        matches!(self.known(text).text.as_constant(), Some("'" | "\""))
    }

    /// `len(x) < 1000`
    pub(super) fn facts_of_length(&self, value: ValueId, length: ValueId, limit: ValueId) -> Refinement {
        let Op::Call { callee, args } = self.op(length) else { return Refinement::nothing() };
        let is_length = self.is_path(*callee, &["builtins.len"]);
        let Object::Int(limit) = self.known(limit).object else { return Refinement::nothing() };
        match args.first().and_then(|arg| self.relation(arg.value, value)) {
            Some(_) if is_length && limit <= MAX_TINY => Refinement::checks(Checks::SHORT.with(Checks::TINY)),
            Some(_) if is_length && limit <= MAX_SHORT => Refinement::checks(Checks::SHORT),
            _ => Refinement::nothing(),
        }
    }

    /// `set(x) <= set("abc")`
    pub(super) fn facts_of_subset(&mut self, value: ValueId, left: ValueId, right: ValueId) -> Refinement {
        let is_set = matches!(self.op(left), Op::Call { callee, .. } if self.is_path(*callee, &["builtins.set", "builtins.frozenset"]));
        let (true, Some(relation)) = (is_set, self.relation(left, value)) else {
            return Refinement::nothing();
        };
        let allowed = self.known(right);
        let members = self.constant_members(&allowed);
        let each = members.as_ref().map_or_else(Refinement::nothing, |members| {
            Refinement::elements(Refinement::constants(members.iter().map(|member| &**member)))
        });
        let mask = match members {
            Some(members) => members.iter().fold(Mask::NONE, |mask, member| mask.union(Mask::of(member))),
            None if allowed.taint() == 0 => match allowed.text.as_constant() {
                Some(text) => Mask::of(text),
                None => return Refinement::nothing(),
            },
            None => return Refinement::nothing(),
        };
        relation.carry(Refinement::mask(mask).meet(each))
    }
}
