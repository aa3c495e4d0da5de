//! What a check proves about a value.
//!
//! A branch, a loop that raises, or a call that returned normally each prove something. `if x not in ("asc", "desc"):
//! return` proves that `x` is one of two constants wherever the `return` was not taken. A [`Refinement`] is such a proof:
//! proofs on one path are met, proofs on alternative paths are joined.

use std::rc::Rc;

use crate::text::{Checks, Mask};

/// A proof about one value.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Refinement {
    /// The path is not taken: everything is proved.
    pub(crate) impossible: bool,
    /// Characters that the value can still contain.
    pub(crate) mask: Mask,
    /// The value is one of these.
    pub(crate) constants: Option<Rc<[Rc<str>]>>,
    /// The value is a number.
    pub(crate) number: bool,
    /// The value is a member of something that outsiders do not control.
    pub(crate) trusted: bool,
    pub(crate) checks: Checks,
    /// Proved of every element.
    pub(crate) elements: Option<Rc<Refinement>>,
}

impl Refinement {
    pub(crate) const fn nothing() -> Self {
        Self {
            impossible: false,
            mask: Mask::ANY,
            constants: None,
            number: false,
            trusted: false,
            checks: Checks::NONE,
            elements: None,
        }
    }

    pub(crate) fn impossible() -> Self {
        Self { impossible: true, ..Self::nothing() }
    }

    pub(crate) fn mask(mask: Mask) -> Self {
        Self { mask, ..Self::nothing() }
    }

    pub(crate) fn checks(checks: Checks) -> Self {
        Self { checks, ..Self::nothing() }
    }

    pub(crate) fn number() -> Self {
        Self { number: true, mask: Mask::NUMBER, ..Self::nothing() }
    }

    pub(crate) fn trusted() -> Self {
        Self { trusted: true, ..Self::nothing() }
    }

    pub(crate) fn constants<'a>(constants: impl IntoIterator<Item = &'a str>) -> Self {
        let constants: Rc<[Rc<str>]> = constants.into_iter().map(Rc::from).collect();
        let mask = constants.iter().fold(Mask::NONE, |mask, constant| mask.union(Mask::of(constant)));
        Self { constants: Some(constants), mask, ..Self::nothing() }
    }

    pub(crate) fn elements(elements: Self) -> Self {
        if elements.is_trivial() {
            return Self::nothing();
        }
        Self { elements: Some(Rc::new(elements)), ..Self::nothing() }
    }

    pub(crate) fn is_trivial(&self) -> bool {
        *self == Self::nothing()
    }

    /// Both proofs hold.
    pub(crate) fn meet(self, other: Self) -> Self {
        if self.impossible || other.impossible {
            return Self::impossible();
        }
        let constants = match (self.constants, other.constants) {
            (Some(a), Some(b)) => Some(a.iter().filter(|constant| b.contains(constant)).cloned().collect()),
            (a, b) => a.or(b),
        };
        let elements = match (self.elements, other.elements) {
            (Some(a), Some(b)) => Some(Rc::new((*a).clone().meet((*b).clone()))),
            (a, b) => a.or(b),
        };
        Self {
            impossible: false,
            mask: self.mask.intersect(other.mask),
            constants,
            number: self.number || other.number,
            trusted: self.trusted || other.trusted,
            checks: self.checks.with(other.checks),
            elements,
        }
    }

    /// One of the proofs holds.
    pub(crate) fn join(self, other: Self) -> Self {
        if self.impossible {
            return other;
        }
        if other.impossible {
            return self;
        }
        let constants = match (self.constants, other.constants) {
            (Some(a), Some(b)) => {
                let new = b.iter().filter(|constant| !a.contains(constant));
                Some(a.iter().chain(new).cloned().collect())
            }
            _ => None,
        };
        let elements = match (self.elements, other.elements) {
            (Some(a), Some(b)) => Some(Rc::new((*a).clone().join((*b).clone()))),
            _ => None,
        };
        Self {
            impossible: false,
            mask: self.mask.union(other.mask),
            constants,
            number: self.number && other.number,
            trusted: self.trusted && other.trusted,
            checks: Checks(self.checks.0 & other.checks.0),
            elements,
        }
    }
}
