//! The intermediate representation: a control-flow graph in SSA form per function.
//!
//! Everything lives in vectors and is named by a 32-bit index. A module's code is function 0; a class body is a function
//! too, whose final variables are the class's attributes. The program
//!
//! ```python
//! name = input()
//! if name != "admin":
//!     name = "guest"
//! print(name)
//! ```
//!
//! becomes (the printed form of `ir/print.rs`)
//!
//! ```text
//! function 0 <module>
//! b0:
//!   v0 = builtin input
//!   v1 = call v0()
//!   v2 = "admin"
//!   v3 = v1 notequal v2
//!   branch v3 b2 b3
//! b1:
//!   v6 = phi b2:v4 b3:v1
//!   v5 = builtin print
//!   v7 = call v5(v6)
//!   v8 = None
//!   return v8
//! b2:
//!   v4 = "guest"
//!   jump b1
//! b3:
//!   jump b1
//! ```
//!
//! Few things remain of Python's syntax: `and`, `or`, conditional expressions, comprehensions, `match`, chained comparisons
//! and `assert` are control flow; f-strings are [`Op::Format`]; `await` and `async` leave only their values, and `with` what it binds.
//! Both targets of a branch are fresh blocks with one predecessor, so that what the branch proved holds in the whole block.

#[cfg(test)]
mod print;
pub(crate) mod verify;

use std::rc::Rc;

use rustc_hash::FxHashMap;

macro_rules! index {
    ($($(#[$doc:meta])* $name:ident)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub(crate) struct $name(pub(crate) u32);
        impl $name {
            pub(crate) fn index(self) -> usize { self.0 as usize }
        }
    )*};
}

index! {
    /// An interned name.
    Symbol
    /// An instruction of a function, and the value that it defines.
    ValueId
    /// A basic block of a function.
    BlockId
    /// A function of the module.
    FunctionId
    /// A class of the module.
    ClassId
}

/// A range of bytes of the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(crate) struct Range {
    pub(crate) start: u32,
    pub(crate) end: u32,
}

/// Interned names.
#[derive(Debug, Default)]
pub(crate) struct Symbols {
    texts: Vec<Rc<str>>,
    ids: FxHashMap<Rc<str>, Symbol>,
}

impl Symbols {
    pub(crate) fn intern(&mut self, text: &str) -> Symbol {
        if let Some(id) = self.ids.get(text) {
            return *id;
        }
        let shared: Rc<str> = text.into();
        let id = Symbol(self.texts.len() as u32);
        self.texts.push(shared.clone());
        self.ids.insert(shared, id);
        id
    }

    /// The symbol of a name that occurs in the program.
    pub(crate) fn lookup(&self, text: &str) -> Option<Symbol> {
        self.ids.get(text).copied()
    }

    pub(crate) fn text(&self, symbol: Symbol) -> &str {
        &self.texts[symbol.index()]
    }

    /// Every name, in the order of the symbols.
    pub(crate) fn all(&self) -> impl Iterator<Item = &str> {
        self.texts.iter().map(|text| &**text)
    }

    pub(crate) fn shared(&self, symbol: Symbol) -> Rc<str> {
        self.texts[symbol.index()].clone()
    }
}

/// A whole program.
#[derive(Debug, Default)]
pub(crate) struct Module {
    pub(crate) symbols: Symbols,
    /// The module's own code is the first.
    pub(crate) functions: Vec<Function>,
    pub(crate) classes: Vec<Class>,
    /// Modules of `from module import *`.
    pub(crate) star_imports: Vec<Symbol>,
    /// Something was too deeply nested to lower: an unknown value stands in its place.
    pub(crate) truncated: bool,
    /// Functions below this index, but for the module itself, belong to the trusted set-up code; 0 without one.
    pub(crate) trusted_functions: u32,
    /// The module's instructions below this index belong to the trusted set-up code.
    pub(crate) trusted_insts: u32,
}

/// A class statement.
#[derive(Debug)]
pub(crate) struct Class {
    pub(crate) name: Symbol,
    pub(crate) body: FunctionId,
    /// Annotated names, in order: the fields of a data class.
    pub(crate) fields: Vec<(Symbol, Annotation)>,
}

/// What kind of code a function is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FunctionKind {
    Module,
    Function,
    Lambda,
    ClassBody,
}

/// A function, a lambda, a class body or the module.
#[derive(Debug)]
pub(crate) struct Function {
    pub(crate) name: Symbol,
    pub(crate) kind: FunctionKind,
    pub(crate) parent: Option<FunctionId>,
    /// The class that the function is a method of.
    pub(crate) class: Option<ClassId>,
    pub(crate) params: Vec<Param>,
    pub(crate) is_generator: bool,
    pub(crate) is_async: bool,
    /// Calls whose results are awaited.
    pub(crate) awaited: Vec<ValueId>,
    pub(crate) blocks: Vec<Block>,
    pub(crate) insts: Vec<Inst>,
    /// Every assignment to a named variable, in order.
    pub(crate) writes: Vec<(Symbol, ValueId)>,
}

/// How a parameter takes its argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ParamKind {
    Ordinary,
    KeywordOnly,
    /// `*args`
    Rest,
    /// `**kwargs`
    KeywordRest,
}

/// A parameter.
#[derive(Debug, Clone)]
pub(crate) struct Param {
    pub(crate) name: Symbol,
    pub(crate) kind: ParamKind,
    pub(crate) range: Range,
    pub(crate) annotation: Option<Annotation>,
}

/// A type annotation: a dotted name with arguments. A union is `|` with its members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Annotation {
    pub(crate) name: Rc<str>,
    pub(crate) args: Vec<Annotation>,
    /// What a text has to match: `constr(pattern="^[a-z]+$")`.
    pub(crate) pattern: Option<Rc<str>>,
}

impl Annotation {
    pub(crate) fn plain(name: &str) -> Self {
        Self { name: name.into(), args: Vec::new(), pattern: None }
    }

    /// The pattern that the annotated text has to match.
    pub(crate) fn pattern(&self) -> Option<&str> {
        let inner = || self.args.iter().filter(|_| &*self.name != "|").find_map(Self::pattern);
        self.pattern.as_deref().or_else(inner)
    }
}

/// A basic block.
#[derive(Debug)]
pub(crate) struct Block {
    /// Phis come first.
    pub(crate) insts: Vec<ValueId>,
    pub(crate) preds: Vec<BlockId>,
    pub(crate) terminator: Terminator,
    /// Where the text has the value that a return gives.
    pub(crate) returned: Range,
    /// Where an exception that is raised in the block goes, if not out of the function.
    pub(crate) handler: Option<BlockId>,
}

/// How a block ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Terminator {
    Jump(BlockId),
    Branch {
        condition: ValueId,
        then: BlockId,
        otherwise: BlockId,
    },
    /// Takes the next element of `iterable`, or leaves.
    ForNext {
        iterable: ValueId,
        /// The instruction in `body` that stands for the element.
        element: ValueId,
        body: BlockId,
        exit: BlockId,
    },
    /// The next statement may raise: `next` runs it, `handler` sees the state before it.
    MayRaise {
        next: BlockId,
        handler: BlockId,
    },
    Return(ValueId),
    Raise,
    /// Nothing comes after: the block cannot be reached or never ends.
    Unreachable,
}

impl Terminator {
    pub(crate) fn successors(self) -> impl Iterator<Item = BlockId> {
        let (first, second) = match self {
            Self::Jump(target) => (Some(target), None),
            Self::Branch { then, otherwise, .. } => (Some(then), Some(otherwise)),
            Self::ForNext { body, exit, .. } => (Some(body), Some(exit)),
            Self::MayRaise { next, handler } => (Some(next), Some(handler)),
            Self::Return(_) | Self::Raise | Self::Unreachable => (None, None),
        };
        first.into_iter().chain(second)
    }
}

/// An instruction.
#[derive(Debug)]
pub(crate) struct Inst {
    pub(crate) op: Op,
    pub(crate) block: BlockId,
    pub(crate) range: Range,
}

/// A constant.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Constant {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    Str(Rc<str>),
    Bytes(Rc<[u8]>),
    /// `...`, complex numbers and integers of more than 64 bits.
    Other,
}

/// What an instruction computes.
#[derive(Debug, Clone)]
pub(crate) enum Op {
    Constant(Constant),
    Param(u32),
    /// One operand for each predecessor of the block.
    Phi(Vec<ValueId>),
    /// A variable before its first assignment, or something too deep to lower.
    Undefined,
    Global(Symbol),
    /// A variable of an enclosing function.
    Free(FunctionId, Symbol),
    Builtin(Symbol),
    /// A module or one of its members by its dotted path.
    Import(Symbol),
    Attribute {
        object: ValueId,
        name: Symbol,
    },
    Subscript {
        object: ValueId,
        index: ValueId,
    },
    Slice {
        object: ValueId,
        bounds: [Option<ValueId>; 3],
    },
    Call {
        callee: ValueId,
        args: Vec<Arg>,
    },
    Binary {
        op: BinaryOp,
        left: ValueId,
        right: ValueId,
    },
    Unary {
        op: UnaryOp,
        operand: ValueId,
    },
    Compare {
        op: CompareOp,
        left: ValueId,
        right: ValueId,
    },
    /// An f-string.
    Format(Vec<Piece>),
    Sequence {
        kind: SequenceKind,
        items: Vec<Item>,
    },
    /// A pair without a key is `**mapping`.
    Dict(Vec<(Option<ValueId>, ValueId)>),
    /// Some element of what is iterated.
    Element(ValueId),
    /// One target of `a, *b, c = value`.
    Unpack {
        value: ValueId,
        position: Position,
    },
    /// A `def` or `lambda` is evaluated: the values are its defaults, one for each parameter that has one, and decorators.
    Closure {
        function: FunctionId,
        defaults: Vec<(u32, ValueId)>,
        decorators: Vec<ValueId>,
    },
    ClassObject {
        class: ClassId,
        bases: Vec<ValueId>,
    },
    Yield(ValueId),
    /// What is bound by `with … as`.
    Enter(ValueId),
    /// An exception is raised here.
    Raise(ValueId),
    /// The exception of these types that arrived at the handlers which begin in this block.
    Caught {
        kind: Option<ValueId>,
        dispatch: BlockId,
    },
    StoreAttribute {
        object: ValueId,
        name: Symbol,
        value: ValueId,
    },
    StoreSubscript {
        object: ValueId,
        index: ValueId,
        value: ValueId,
    },
    StoreGlobal(Symbol, ValueId),
    StoreFree(FunctionId, Symbol, ValueId),
    /// A comprehension adds an element.
    Append {
        container: ValueId,
        value: ValueId,
    },
}

/// An argument of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Arg {
    pub(crate) kind: ArgKind,
    pub(crate) value: ValueId,
}

/// How an argument is passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum ArgKind {
    Positional,
    Keyword(Symbol),
    Star,
    DoubleStar,
}

/// An item of a list, tuple or set display.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Item {
    One(ValueId),
    Starred(ValueId),
}

impl Item {
    pub(crate) fn value(self) -> ValueId {
        match self {
            Self::One(value) | Self::Starred(value) => value,
        }
    }
}

/// Where an unpacking target stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Position {
    /// From the front.
    Front(u32),
    /// After a starred target, from the back.
    Back(u32),
    /// The starred target itself, which takes everything from this position on.
    Rest(u32),
}

/// A part of an f-string.
#[derive(Debug, Clone)]
pub(crate) enum Piece {
    Text(Rc<str>),
    Value {
        value: ValueId,
        /// `!r` or `!a`.
        repr: bool,
        /// The format specification, when it is constant.
        spec: Rc<str>,
    },
}

/// List, tuple or set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SequenceKind {
    List,
    Tuple,
    Set,
}

/// Binary operators; those that only numbers know are one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BinaryOp {
    Add,
    Modulo,
    Multiply,
    Divide,
    Or,
    And,
    Subtract,
    FloorDivide,
    Power,
    ShiftLeft,
    ShiftRight,
    Xor,
    Arithmetic,
}

/// Unary operators.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum UnaryOp {
    Not,
    Negate,
    Arithmetic,
}

/// Comparison operators.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CompareOp {
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    Is,
    IsNot,
    In,
    NotIn,
}

impl CompareOp {
    /// The operator that is true exactly when this one is false.
    pub(crate) fn negated(self) -> Self {
        match self {
            Self::Equal => Self::NotEqual,
            Self::NotEqual => Self::Equal,
            Self::Less => Self::GreaterEqual,
            Self::LessEqual => Self::Greater,
            Self::Greater => Self::LessEqual,
            Self::GreaterEqual => Self::Less,
            Self::Is => Self::IsNot,
            Self::IsNot => Self::Is,
            Self::In => Self::NotIn,
            Self::NotIn => Self::In,
        }
    }
}

impl Op {
    /// Calls `visit` with every operand.
    pub(crate) fn operands(&self, mut visit: impl FnMut(ValueId)) {
        match self {
            Self::Constant(_)
            | Self::Param(_)
            | Self::Undefined
            | Self::Global(_)
            | Self::Free(..)
            | Self::Builtin(_)
            | Self::Import(_) => {}
            Self::Phi(values) | Self::ClassObject { bases: values, .. } => {
                values.iter().copied().for_each(visit);
            }
            Self::Closure { defaults, decorators, .. } => {
                defaults.iter().map(|(_, value)| *value).chain(decorators.iter().copied()).for_each(visit);
            }
            Self::Attribute { object, .. } => visit(*object),
            Self::Subscript { object, index } => [*object, *index].into_iter().for_each(visit),
            Self::Slice { object, bounds } => {
                std::iter::once(*object).chain(bounds.iter().copied().flatten()).for_each(visit);
            }
            Self::Call { callee, args } => {
                std::iter::once(*callee).chain(args.iter().map(|arg| arg.value)).for_each(visit);
            }
            Self::Binary { left, right, .. } | Self::Compare { left, right, .. } => {
                [*left, *right].into_iter().for_each(visit);
            }
            Self::Unary { operand: value, .. }
            | Self::Element(value)
            | Self::Unpack { value, .. }
            | Self::Yield(value)
            | Self::Enter(value)
            | Self::Raise(value)
            | Self::StoreGlobal(_, value)
            | Self::StoreFree(_, _, value) => visit(*value),
            Self::Format(pieces) => pieces.iter().for_each(|piece| {
                if let Piece::Value { value, .. } = piece {
                    visit(*value);
                }
            }),
            Self::Sequence { items, .. } => items.iter().for_each(|item| visit(item.value())),
            Self::Dict(pairs) => {
                pairs.iter().flat_map(|(key, value)| key.iter().copied().chain(Some(*value))).for_each(visit);
            }
            Self::Caught { kind: value, .. } => value.iter().copied().for_each(visit),
            Self::StoreAttribute { object, value, .. } => [*object, *value].into_iter().for_each(visit),
            Self::StoreSubscript { object, index, value } => {
                [*object, *index, *value].into_iter().for_each(visit);
            }
            Self::Append { container, value } => [*container, *value].into_iter().for_each(visit),
        }
    }

    /// Calls `visit` with every operand, which it may replace.
    pub(crate) fn operands_mut(&mut self, mut visit: impl FnMut(&mut ValueId)) {
        match self {
            Self::Constant(_)
            | Self::Param(_)
            | Self::Undefined
            | Self::Global(_)
            | Self::Free(..)
            | Self::Builtin(_)
            | Self::Import(_) => {}
            Self::Phi(values) | Self::ClassObject { bases: values, .. } => values.iter_mut().for_each(visit),
            Self::Closure { defaults, decorators, .. } => {
                defaults.iter_mut().map(|(_, value)| value).chain(decorators).for_each(visit);
            }
            Self::Attribute { object, .. } => visit(object),
            Self::Subscript { object, index } => [object, index].into_iter().for_each(visit),
            Self::Slice { object, bounds } => {
                std::iter::once(object).chain(bounds.iter_mut().flatten()).for_each(visit);
            }
            Self::Call { callee, args } => {
                std::iter::once(callee).chain(args.iter_mut().map(|arg| &mut arg.value)).for_each(visit);
            }
            Self::Binary { left, right, .. } | Self::Compare { left, right, .. } => {
                [left, right].into_iter().for_each(visit);
            }
            Self::Unary { operand: value, .. }
            | Self::Element(value)
            | Self::Unpack { value, .. }
            | Self::Yield(value)
            | Self::Enter(value)
            | Self::Raise(value)
            | Self::StoreGlobal(_, value)
            | Self::StoreFree(_, _, value) => visit(value),
            Self::Format(pieces) => pieces.iter_mut().for_each(|piece| {
                if let Piece::Value { value, .. } = piece {
                    visit(value);
                }
            }),
            Self::Sequence { items, .. } => items.iter_mut().for_each(|item| match item {
                Item::One(value) | Item::Starred(value) => visit(value),
            }),
            Self::Dict(pairs) => {
                pairs.iter_mut().flat_map(|(key, value)| key.iter_mut().chain(Some(value))).for_each(visit);
            }
            Self::Caught { kind: value, .. } => value.iter_mut().for_each(visit),
            Self::StoreAttribute { object, value, .. } => [object, value].into_iter().for_each(visit),
            Self::StoreSubscript { object, index, value } => {
                [object, index, value].into_iter().for_each(visit);
            }
            Self::Append { container, value } => [container, value].into_iter().for_each(visit),
        }
    }
}
