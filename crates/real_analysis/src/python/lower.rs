//! From the syntax tree to the IR: scopes and functions. Statements and expressions have their own files.

use std::rc::Rc;

use ruff_python_ast::{Expr, Keyword, ParameterWithDefault, Parameters};
use rustc_hash::{FxHashMap, FxHashSet};

use super::scope::Bindings;
use super::{Parsed, range_of};
use crate::ir::{
    Annotation, BlockId, Class, ClassId, Constant, FunctionId, FunctionKind, Module, Op, Param, ParamKind,
    Range, Symbol, ValueId,
};
use crate::ssa::Builder;

/// How deep statements and expressions may nest. `CPython` itself refuses 100 levels of blocks and 200 of brackets.
const MAX_DEPTH: u32 = 300;

/// Lowers a whole program, after the trusted set-up code that runs before it in the same globals.
pub(crate) fn lower(prelude: Option<&Parsed>, program: &Parsed) -> Module {
    let mut lowering = Lowering {
        module: Module::default(),
        scopes: Vec::new(),
        imports: FxHashMap::default(),
        depth: 0,
        temporaries: 0,
    };
    let name = lowering.module.symbols.intern("<module>");
    let bodies = || prelude.into_iter().chain(Some(program)).map(Parsed::statements);
    lowering.open(name, FunctionKind::Module, Bindings::of(bodies().flatten()));
    if let Some(prelude) = prelude {
        lowering.statements(prelude.statements());
        lowering.module.trusted_functions = lowering.module.functions.len() as u32;
        lowering.module.trusted_insts = lowering.builder().function.insts.len() as u32;
    }
    lowering.statements(program.statements());
    lowering.close();
    lowering.module
}

pub(super) struct Lowering<'a> {
    pub(super) module: Module,
    pub(super) scopes: Vec<Scope<'a>>,
    /// What names were imported as, wherever that was.
    pub(super) imports: FxHashMap<&'a str, String>,
    depth: u32,
    temporaries: u32,
}

/// A function being lowered.
pub(super) struct Scope<'a> {
    pub(super) id: FunctionId,
    pub(super) builder: Builder,
    bindings: Bindings<'a>,
    params: FxHashSet<&'a str>,
    /// Comprehension variables, which hide those of the function.
    pub(super) renamed: Vec<(Symbol, Symbol)>,
    pub(super) loops: Vec<Loop>,
    /// Where an exception goes, innermost last.
    handlers: Vec<BlockId>,
    /// The exceptions that are being handled, innermost last.
    pub(super) caught: Vec<ValueId>,
    /// `finally` clauses that enclose the statement.
    pub(super) finals: u32,
}

/// Where `continue` and `break` go.
pub(super) struct Loop {
    pub(super) next: BlockId,
    pub(super) after: BlockId,
}

/// What a name means.
enum Place {
    Local(Symbol),
    Free(FunctionId, Symbol),
    Global(Symbol),
    Builtin(Symbol),
}

impl<'a> Lowering<'a> {
    pub(super) fn scope(&mut self) -> &mut Scope<'a> {
        self.scopes.last_mut().expect("statements are lowered inside a scope")
    }

    pub(super) fn builder(&mut self) -> &mut Builder {
        &mut self.scope().builder
    }

    pub(super) fn push(&mut self, op: Op, range: Range) -> ValueId {
        self.builder().push(op, range)
    }

    /// Exceptions go here from now on.
    pub(super) fn push_handler(&mut self, handler: BlockId) {
        self.scope().handlers.push(handler);
        self.builder().handler = Some(handler);
    }

    pub(super) fn pop_handler(&mut self) {
        self.scope().handlers.pop();
        let outer = self.scope().handlers.last().copied();
        self.builder().handler = outer;
    }

    pub(super) fn handler(&self) -> Option<BlockId> {
        self.scopes.last().and_then(|scope| scope.handlers.last().copied())
    }

    pub(super) fn undefined(&mut self) -> ValueId {
        self.push(Op::Undefined, Range::default())
    }

    pub(super) fn none(&mut self) -> ValueId {
        self.push(Op::Constant(Constant::None), Range::default())
    }

    pub(super) fn symbol(&mut self, name: &str) -> Symbol {
        self.module.symbols.intern(name)
    }

    /// A variable that no program can name.
    pub(super) fn temporary(&mut self) -> Symbol {
        self.temporaries += 1;
        let name = format!("%{}", self.temporaries);
        self.symbol(&name)
    }

    /// Runs `work` one level deeper, or leaves `otherwise` where the program is too deep.
    pub(super) fn deeper<T>(
        &mut self,
        otherwise: impl FnOnce(&mut Self) -> T,
        work: impl FnOnce(&mut Self) -> T,
    ) -> T {
        if self.depth >= MAX_DEPTH {
            self.module.truncated = true;
            return otherwise(self);
        }
        self.depth += 1;
        let result = stacker::maybe_grow(64 * 1024, 1024 * 1024, || work(self));
        self.depth -= 1;
        result
    }

    pub(super) fn open(&mut self, name: Symbol, kind: FunctionKind, bindings: Bindings<'a>) -> FunctionId {
        // The module's list holds a placeholder until the scope closes: ids are given in source order.
        let id = FunctionId(self.module.functions.len() as u32);
        let mut builder = Builder::new(name, kind);
        builder.function.parent = self.scopes.last().map(|scope| scope.id);
        let placeholder = Builder::new(name, kind).function;
        self.module.functions.push(placeholder);
        self.scopes.push(Scope {
            id,
            builder,
            bindings,
            params: FxHashSet::default(),
            renamed: Vec::new(),
            loops: Vec::new(),
            handlers: Vec::new(),
            caught: Vec::new(),
            finals: 0,
        });
        id
    }

    pub(super) fn close(&mut self) {
        let nothing = self.none();
        let scope = self.scopes.pop().expect("a scope is closed once");
        self.module.functions[scope.id.index()] = scope.builder.finish(nothing);
    }

    pub(super) fn function(
        &mut self,
        definition: &'a ruff_python_ast::StmtFunctionDef,
        range: Range,
    ) -> ValueId {
        let decorators = definition.decorator_list.iter();
        let decorators = decorators.map(|decorator| self.expression(&decorator.expression)).collect();
        let defaults = self.defaults(&definition.parameters);
        let class = self.class_of_scope();
        let name = self.symbol(&definition.name);
        let function = self.open(name, FunctionKind::Function, Bindings::of(&definition.body));
        self.builder().function.class = class;
        self.builder().function.is_async = definition.is_async;
        self.params(&definition.parameters);
        self.statements(&definition.body);
        self.close();
        self.push(Op::Closure { function, defaults, decorators }, range)
    }

    pub(super) fn lambda(&mut self, params: Option<&'a Parameters>, body: &'a Expr, range: Range) -> ValueId {
        let defaults = params.map(|params| self.defaults(params)).unwrap_or_default();
        let name = self.symbol("<lambda>");
        let function = self.open(name, FunctionKind::Lambda, Bindings::default());
        if let Some(params) = params {
            self.params(params);
        }
        let value = self.expression(body);
        self.builder().give_back(value, range_of(body));
        self.close();
        self.push(Op::Closure { function, defaults, decorators: Vec::new() }, range)
    }

    pub(super) fn class(&mut self, statement: &'a ruff_python_ast::StmtClassDef) -> ValueId {
        let arguments = statement.arguments.as_deref();
        let bases = arguments.map_or(&[][..], |arguments| &arguments.args[..]);
        let bases = bases.iter().map(|base| self.expression(base)).collect();
        let name = self.symbol(&statement.name);
        let class = ClassId(self.module.classes.len() as u32);
        self.module.classes.push(Class { name, body: FunctionId(0), fields: Vec::new() });
        let body = self.open(name, FunctionKind::ClassBody, Bindings::of(&statement.body));
        self.builder().function.class = Some(class);
        self.module.classes[class.index()].body = body;
        self.statements(&statement.body);
        self.close();
        self.push(Op::ClassObject { class, bases }, range_of(statement))
    }

    pub(super) fn class_of_scope(&mut self) -> Option<ClassId> {
        let function = &self.scope().builder.function;
        function.class.filter(|_| function.kind == FunctionKind::ClassBody)
    }

    fn defaults(&mut self, params: &'a Parameters) -> Vec<(u32, ValueId)> {
        let with_defaults = params.posonlyargs.iter().chain(&params.args).map(Some);
        let rest = params.vararg.iter().map(|_| None);
        let all = with_defaults.chain(rest).chain(params.kwonlyargs.iter().map(Some));
        let defaults: Vec<(u32, &'a Expr)> = all
            .enumerate()
            .filter_map(|(index, param)| Some((index as u32, param.and_then(ParameterWithDefault::default)?)))
            .collect();
        defaults.into_iter().map(|(index, default)| (index, self.expression(default))).collect()
    }

    /// Parameters in the order ordinary, `*rest`, keyword-only, `**rest`: the order in which [`Self::defaults`] counts.
    fn params(&mut self, params: &'a Parameters) {
        let ordinary = params
            .posonlyargs
            .iter()
            .chain(&params.args)
            .map(|p| (&p.parameter, ParamKind::Ordinary, p.default()));
        let rest = params.vararg.iter().map(|p| (&**p, ParamKind::Rest, None));
        let keyword = params.kwonlyargs.iter().map(|p| (&p.parameter, ParamKind::KeywordOnly, p.default()));
        let keyword_rest = params.kwarg.iter().map(|p| (&**p, ParamKind::KeywordRest, None));
        for (index, (param, kind, default)) in
            ordinary.chain(rest).chain(keyword).chain(keyword_rest).enumerate()
        {
            let name = self.symbol(&param.name);
            let mut annotation = param.annotation.as_deref().map(annotation);
            if let (Some(annotation), Some(default)) = (&mut annotation, default) {
                annotation.pattern = annotation.pattern.take().or_else(|| declared_pattern(default));
            }
            let range = range_of(param);
            self.scope().params.insert(param.name.as_str());
            self.builder().function.params.push(Param { name, kind, range, annotation });
            let value = self.push(Op::Param(index as u32), range);
            self.builder().write(name, value);
            self.builder().function.writes.push((name, value));
        }
    }

    fn place(&mut self, name: &str) -> Place {
        let symbol = self.symbol(name);
        let scope = self.scopes.last().expect("names are resolved inside a scope");
        if let Some((_, renamed)) = scope.renamed.iter().rev().find(|(from, _)| *from == symbol) {
            return Place::Local(*renamed);
        }
        let module_wide = self.scopes.len() == 1;
        if scope.bindings.globals.contains(name) && !module_wide {
            return Place::Global(symbol);
        }
        if scope.binds(name) && !scope.bindings.nonlocals.contains(name) {
            return Place::Local(symbol);
        }
        for outer in self.scopes[..self.scopes.len() - 1].iter().rev() {
            if outer.builder.function.kind == FunctionKind::ClassBody {
                continue;
            }
            if let Some((_, renamed)) = outer.renamed.iter().rev().find(|(from, _)| *from == symbol) {
                return Place::Free(outer.id, *renamed);
            }
            if outer.id == FunctionId(0) {
                break;
            }
            if outer.binds(name) {
                return Place::Free(outer.id, symbol);
            }
        }
        if self.scopes[0].binds(name) { Place::Global(symbol) } else { Place::Builtin(symbol) }
    }

    /// Whether the program gives the name a meaning of its own.
    pub(super) fn is_bound(&self, name: &str) -> bool {
        self.scopes.iter().any(|scope| scope.binds(name))
    }

    pub(super) fn load(&mut self, name: &str, range: Range) -> ValueId {
        match self.place(name) {
            // A variable that an inner function assigns to may have any of its values.
            Place::Local(symbol) if self.scope().bindings.cells.contains(name) => {
                let function = self.scope().id;
                self.push(Op::Free(function, symbol), range)
            }
            Place::Local(symbol) => self.builder().read(symbol),
            Place::Free(function, symbol) => self.push(Op::Free(function, symbol), range),
            Place::Global(symbol) => self.push(Op::Global(symbol), range),
            Place::Builtin(symbol) => self.push(Op::Builtin(symbol), range),
        }
    }

    pub(super) fn store(&mut self, name: &str, value: ValueId, range: Range) {
        match self.place(name) {
            Place::Local(symbol) => {
                self.builder().write(symbol, value);
                self.builder().function.writes.push((symbol, value));
            }
            Place::Free(function, symbol) => drop(self.push(Op::StoreFree(function, symbol, value), range)),
            Place::Global(symbol) | Place::Builtin(symbol) => {
                self.push(Op::StoreGlobal(symbol, value), range);
            }
        }
    }
}

impl Scope<'_> {
    fn binds(&self, name: &str) -> bool {
        self.bindings.locals.contains(name) || self.params.contains(name)
    }
}

/// An annotation as a dotted name with arguments.
pub(super) fn annotation(expression: &Expr) -> Annotation {
    let plain = Annotation::plain;
    match expression {
        Expr::Subscript(subscript) => {
            let args = match &*subscript.slice {
                Expr::Tuple(tuple) => tuple.elts.iter().map(annotation).collect(),
                single => vec![annotation(single)],
            };
            Annotation { args, ..plain(&dotted(&subscript.value).unwrap_or_default()) }
        }
        Expr::BinOp(union) => {
            Annotation { args: vec![annotation(&union.left), annotation(&union.right)], ..plain("|") }
        }
        Expr::NoneLiteral(_) => plain("None"),
        Expr::StringLiteral(text) => plain(text.value.to_str()),
        Expr::Call(call) => {
            let name = dotted(&call.func).unwrap_or_default();
            Annotation { pattern: declared_pattern(expression), ..plain(&name) }
        }
        other => plain(&dotted(other).unwrap_or_default()),
    }
}

/// `Field(pattern="^[a-z]+$")`, `Query(regex=r"^\w+$")`: the pattern.
pub(super) fn declared_pattern(expression: &Expr) -> Option<Rc<str>> {
    let Expr::Call(call) = expression else { return None };
    let is_pattern = |name: &str| matches!(name, "pattern" | "regex");
    let named = |keyword: &&Keyword| keyword.arg.as_ref().is_some_and(|name| is_pattern(name.as_str()));
    match &call.arguments.keywords.iter().find(named)?.value {
        Expr::StringLiteral(text) => Some(text.value.to_str().into()),
        _ => None,
    }
}

pub(super) fn dotted(expression: &Expr) -> Option<String> {
    match expression {
        Expr::Name(name) => Some(name.id.to_string()),
        Expr::Attribute(attribute) => Some(format!("{}.{}", dotted(&attribute.value)?, attribute.attr)),
        _ => None,
    }
}
