//! Abstract values: what an expression may evaluate to.

use std::rc::Rc;

use crate::facts::Refinement;
use crate::ir::{ArgKind, ClassId, FunctionId, Symbol};
use crate::text::{Hole, Mask, Taint, Text};

/// An object of the abstract heap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct HeapId(pub(crate) u32);

/// Variables of enclosing functions with the values that a closure was made with. Variables that are assigned more than once are not
/// among them.
pub(crate) type Captured = Option<Rc<[(FunctionId, Symbol, Value)]>>;

/// Alternatives of a value that are told apart.
const MAX_EITHER: usize = 12;

/// What a value is, as far as it matters to calls, attributes and subscripts.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Object {
    Unknown,
    None,
    Bool(Option<bool>),
    Int(i64),
    /// A number whose value is unknown.
    Number,
    /// A `str` or `bytes`; the text says which.
    Text,
    /// A module, a function or a class of a library, or a member of one, by its path. Built-ins are under `builtins`.
    Path(Rc<str>),
    /// What calling that path gave.
    Instance(Rc<str>),
    Function(FunctionId, Captured),
    /// A function of the program with its first argument.
    Bound(FunctionId, Captured, Rc<Value>),
    /// One of several things to call, or to take attributes of.
    Either(Rc<[Object]>),
    Class(ClassId),
    /// Something to call, with its first arguments: `functools.partial`.
    Partial(Rc<Value>, Rc<[(ArgKind, Value)]>),
    /// An object of a class of the program: the one that was made there, or any of them.
    Local(ClassId, Option<HeapId>),
    /// A list, tuple, set or dictionary that the program made.
    Container(HeapId),
    /// An attribute of a value that is not a function of the program: `cursor.execute`.
    Method(Rc<Value>, Symbol),
}

impl Object {
    /// The things that this may be.
    pub(crate) fn alternatives(&self) -> &[Self] {
        match self {
            Self::Either(objects) => objects,
            single => std::slice::from_ref(single),
        }
    }

    /// One of two objects, where both can be called or have attributes that are known.
    fn either(&self, other: &Self) -> Self {
        let known = |object: &Self| {
            matches!(
                object,
                Self::Function(..)
                    | Self::Bound(..)
                    | Self::Partial(..)
                    | Self::Class(_)
                    | Self::Path(_)
                    | Self::Local(..)
            )
        };
        let mut objects = self.alternatives().to_vec();
        for object in other.alternatives() {
            if !objects.contains(object) {
                objects.push(object.clone());
            }
        }
        if objects.len() > MAX_EITHER || !objects.iter().all(known) {
            return Self::Unknown;
        }
        Self::Either(objects.into())
    }
}

/// An abstract value.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Value {
    pub(crate) object: Object,
    /// What `str()` of the value looks like; its taint is the value's.
    pub(crate) text: Text,
    /// What is known of every element, from a check of all of them.
    pub(crate) elements: Option<Rc<Refinement>>,
}

impl Value {
    pub(crate) fn new(object: Object, text: Text) -> Self {
        Self { object, text, elements: None }
    }

    pub(crate) fn unknown() -> Self {
        Self::new(Object::Unknown, Text::unknown())
    }

    pub(crate) fn tainted(taint: Taint) -> Self {
        Self::new(Object::Unknown, Text::tainted(taint))
    }

    pub(crate) fn none() -> Self {
        Self::new(Object::None, Text::constant("None"))
    }

    pub(crate) fn bool(known: Option<bool>) -> Self {
        let text =
            known.map_or_else(Text::number, |known| Text::constant(if known { "True" } else { "False" }));
        Self::new(Object::Bool(known), text)
    }

    pub(crate) fn int(value: i64) -> Self {
        Self::new(Object::Int(value), Text::constant(value.to_string()))
    }

    pub(crate) fn number() -> Self {
        Self::new(Object::Number, Text::number())
    }

    pub(crate) fn string(text: Text) -> Self {
        Self::new(Object::Text, text)
    }

    pub(crate) fn constant(text: impl Into<Rc<str>>) -> Self {
        Self::string(Text::constant(text))
    }

    pub(crate) fn path(path: impl Into<Rc<str>>) -> Self {
        Self::new(Object::Path(path.into()), Text::unknown())
    }

    pub(crate) fn taint(&self) -> Taint {
        self.text.taint()
    }

    /// The object of the heap that this is.
    pub(crate) fn heap_id(&self) -> Option<HeapId> {
        match self.object {
            Object::Container(id) | Object::Local(_, Some(id)) => Some(id),
            _ => None,
        }
    }

    pub(crate) fn is_number(&self) -> bool {
        matches!(self.object, Object::Bool(_) | Object::Int(_) | Object::Number)
    }

    pub(crate) fn path_name(&self) -> Option<&str> {
        match &self.object {
            Object::Path(path) => Some(path),
            _ => None,
        }
    }

    /// What is known of many values alike: where the content comes from, and what kind of thing it is.
    pub(crate) fn generalized(&self) -> Self {
        match &self.object {
            Object::Local(class, _) => Self { object: Object::Local(*class, None), ..self.clone() },
            Object::Container(_) => self.any_text(),
            Object::Int(_) | Object::Bool(_) => Self::number(),
            Object::Text if self.taint() == 0 => Self::string(Text::unknown()),
            _ => self.clone(),
        }
    }

    /// Truth, where it is the same in every run.
    pub(crate) fn truth(&self) -> Option<bool> {
        match &self.object {
            Object::None => Some(false),
            Object::Bool(known) => *known,
            Object::Int(value) => Some(*value != 0),
            Object::Text => self.text.as_constant().map(|text| !text.is_empty()),
            Object::Function(..) | Object::Class(_) | Object::Path(_) | Object::Partial(..) => Some(true),
            _ => None,
        }
    }

    pub(crate) fn join(&self, other: &Self) -> Self {
        if self == other {
            return self.clone();
        }
        let object = match (&self.object, &other.object) {
            (a, b) if a == b => a.clone(),
            // One of two objects of a class: all that is known is what is known of any.
            (Object::Local(a, _), Object::Local(b, _)) if a == b => Object::Local(*a, None),
            // An optional value is used as what it is when it is there.
            (Object::None, present) | (present, Object::None) => present.clone(),
            (Object::Function(a, _), Object::Function(b, _)) if a == b => Object::Function(*a, None),
            (Object::Container(_) | Object::Instance(_), Object::Unknown | Object::Text)
                if other.taint() == 0 =>
            {
                self.object.clone()
            }
            (Object::Unknown | Object::Text, Object::Container(_) | Object::Instance(_))
                if self.taint() == 0 =>
            {
                other.object.clone()
            }
            _ if self.is_number() && other.is_number() => Object::Number,
            (one, another) => one.either(another),
        };
        let elements = if self.elements == other.elements { self.elements.clone() } else { None };
        Self { object, text: self.text.join(&other.text), elements }
    }

    /// Any of the values; unknown, if there is none.
    pub(crate) fn any_of(values: impl IntoIterator<Item = Self>) -> Self {
        values.into_iter().reduce(|known, value| known.join(&value)).unwrap_or_else(Self::unknown)
    }

    /// The value for each of the things that it may be.
    pub(crate) fn alternatives(&self) -> impl Iterator<Item = Self> {
        self.object.alternatives().iter().map(|object| Self { object: object.clone(), ..self.clone() })
    }

    pub(crate) fn widen(&self, next: &Self) -> Self {
        if self == next {
            return self.clone();
        }
        let joined = self.join(next);
        let text = if joined.is_number() { Text::number() } else { self.text.widen(&next.text) };
        Self { text, ..joined }
    }

    /// The same value after a check.
    pub(crate) fn refined(&self, refinement: &Refinement) -> Self {
        if refinement.is_trivial() {
            return self.clone();
        }
        let mut refined = self.clone();
        if let Some(constants) = &refinement.constants {
            let constants =
                constants.iter().filter(|constant| self.may_be(constant)).map(|constant| &**constant);
            refined.text = Text::of_constants(constants);
        } else if refinement.trusted {
            refined.text = self.text.map_holes(|hole| Hole { taint: 0, ..hole });
        } else if refinement.number {
            refined.text = Text::number();
        } else {
            let (mask, checks) = (refinement.mask, refinement.checks);
            refined.text = self.text.map_holes(|hole| Hole {
                mask: hole.mask.intersect(mask),
                checks: hole.checks.with(checks),
                ..hole
            });
        }
        if let Some(elements) = &refinement.elements {
            refined.elements = Some(elements.clone());
        }
        refined
    }

    fn may_be(&self, constant: &str) -> bool {
        self.text.as_constants().is_none_or(|known| known.contains(&constant))
    }

    /// A text of the same origin with any characters.
    pub(crate) fn any_text(&self) -> Self {
        let taint = self.taint();
        Self::new(Object::Unknown, if taint == 0 { Text::unknown() } else { Text::tainted(taint) })
    }

    pub(crate) fn masked(&self, mask: Mask) -> Self {
        let hole = Hole { taint: self.taint(), ..Hole::clean(mask) };
        Self::string(Text::hole(hole))
    }
}
