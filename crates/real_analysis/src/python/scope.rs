//! Which names a scope binds: Python decides by the whole body whether a name is local.

use ruff_python_ast::{ExceptHandler, Expr, Pattern, Stmt};
use rustc_hash::FxHashSet;

/// Names bound, and names declared `global` or `nonlocal`, by the statements of one scope.
#[derive(Debug, Default)]
pub(super) struct Bindings<'a> {
    pub(super) locals: FxHashSet<&'a str>,
    pub(super) globals: FxHashSet<&'a str>,
    pub(super) nonlocals: FxHashSet<&'a str>,
    /// Names that an inner function declares `nonlocal`.
    pub(super) cells: FxHashSet<&'a str>,
}

impl<'a> Bindings<'a> {
    pub(super) fn of(body: impl IntoIterator<Item = &'a Stmt>) -> Self {
        let mut bindings = Self::default();
        bindings.statements(body);
        bindings
    }

    fn statements(&mut self, body: impl IntoIterator<Item = &'a Stmt>) {
        for statement in body {
            self.statement(statement);
            for_each_body(statement, &mut |body| self.statements(body));
        }
    }

    fn statement(&mut self, statement: &'a Stmt) {
        match statement {
            Stmt::FunctionDef(function) => {
                self.locals.insert(function.name.as_str());
                self.inner(&function.body);
            }
            Stmt::ClassDef(class) => drop(self.locals.insert(class.name.as_str())),
            Stmt::Global(global) => {
                self.globals.extend(global.names.iter().map(ruff_python_ast::Identifier::as_str));
            }
            Stmt::Nonlocal(nonlocal) => {
                self.nonlocals.extend(nonlocal.names.iter().map(ruff_python_ast::Identifier::as_str));
            }
            Stmt::Import(import) => {
                self.locals.extend(import.names.iter().map(|alias| match &alias.asname {
                    Some(name) => name.as_str(),
                    None => alias.name.split('.').next().unwrap_or_default(),
                }));
            }
            Stmt::ImportFrom(import) => self.locals.extend(
                import.names.iter().map(|alias| alias.asname.as_ref().unwrap_or(&alias.name).as_str()),
            ),
            Stmt::Assign(assign) => assign.targets.iter().for_each(|target| self.target(target)),
            Stmt::AugAssign(assign) => self.target(&assign.target),
            Stmt::AnnAssign(assign) => self.target(&assign.target),
            Stmt::Delete(delete) => delete.targets.iter().for_each(|target| self.target(target)),
            Stmt::For(each) => self.target(&each.target),
            Stmt::With(with) => {
                with.items
                    .iter()
                    .filter_map(|item| item.optional_vars.as_deref())
                    .for_each(|target| self.target(target));
            }
            Stmt::Match(choice) => choice.cases.iter().for_each(|case| self.pattern(&case.pattern)),
            Stmt::Try(attempt) => {
                for ExceptHandler::ExceptHandler(handler) in &attempt.handlers {
                    self.locals.extend(handler.name.iter().map(ruff_python_ast::Identifier::as_str));
                }
            }
            Stmt::TypeAlias(alias) => self.target(&alias.name),
            _ => {}
        }
        for_each_expression(statement, &mut |expression| self.walrus(expression));
    }

    /// What inner functions declare `nonlocal`.
    fn inner(&mut self, body: &'a [Stmt]) {
        for statement in body {
            match statement {
                Stmt::Nonlocal(nonlocal) => {
                    self.cells.extend(nonlocal.names.iter().map(ruff_python_ast::Identifier::as_str));
                }
                Stmt::FunctionDef(function) => self.inner(&function.body),
                _ => for_each_body(statement, &mut |body| self.inner(body)),
            }
        }
    }

    fn target(&mut self, target: &'a Expr) {
        match target {
            Expr::Name(name) => drop(self.locals.insert(name.id.as_str())),
            Expr::Tuple(tuple) => tuple.elts.iter().for_each(|target| self.target(target)),
            Expr::List(list) => list.elts.iter().for_each(|target| self.target(target)),
            Expr::Starred(starred) => self.target(&starred.value),
            _ => {}
        }
    }

    fn pattern(&mut self, pattern: &'a Pattern) {
        match pattern {
            Pattern::MatchValue(_) | Pattern::MatchSingleton(_) => {}
            Pattern::MatchStar(star) => {
                self.locals.extend(star.name.iter().map(ruff_python_ast::Identifier::as_str));
            }
            Pattern::MatchAs(capture) => {
                self.locals.extend(capture.name.iter().map(ruff_python_ast::Identifier::as_str));
                capture.pattern.iter().for_each(|pattern| self.pattern(pattern));
            }
            Pattern::MatchSequence(sequence) => {
                sequence.patterns.iter().for_each(|pattern| self.pattern(pattern));
            }
            Pattern::MatchOr(either) => either.patterns.iter().for_each(|pattern| self.pattern(pattern)),
            Pattern::MatchMapping(mapping) => {
                self.locals.extend(mapping.rest.iter().map(ruff_python_ast::Identifier::as_str));
                mapping.patterns.iter().for_each(|pattern| self.pattern(pattern));
            }
            Pattern::MatchClass(class) => {
                class.arguments.patterns.iter().for_each(|pattern| self.pattern(pattern));
                class.arguments.keywords.iter().for_each(|keyword| self.pattern(&keyword.pattern));
            }
        }
    }

    /// `(name := value)` binds in the nearest function, through comprehensions.
    fn walrus(&mut self, expression: &'a Expr) {
        let mut pending = vec![expression];
        while let Some(expression) = pending.pop() {
            if let Expr::Named(named) = expression {
                self.target(&named.target);
            }
            if !matches!(expression, Expr::Lambda(_)) {
                for_each_child(expression, &mut |child| pending.push(child));
            }
        }
    }
}

/// Calls `visit` with every nested block of a statement that belongs to the same scope.
pub(super) fn for_each_body<'a>(statement: &'a Stmt, visit: &mut impl FnMut(&'a [Stmt])) {
    match statement {
        Stmt::For(each) => [&each.body, &each.orelse].into_iter().for_each(|body| visit(body)),
        Stmt::While(repeat) => [&repeat.body, &repeat.orelse].into_iter().for_each(|body| visit(body)),
        Stmt::If(choice) => {
            visit(&choice.body);
            choice.elif_else_clauses.iter().for_each(|clause| visit(&clause.body));
        }
        Stmt::With(with) => visit(&with.body),
        Stmt::Match(choice) => choice.cases.iter().for_each(|case| visit(&case.body)),
        Stmt::Try(attempt) => {
            visit(&attempt.body);
            for ExceptHandler::ExceptHandler(handler) in &attempt.handlers {
                visit(&handler.body);
            }
            visit(&attempt.orelse);
            visit(&attempt.finalbody);
        }
        _ => {}
    }
}

/// Calls `visit` with the expressions that a statement evaluates itself.
fn for_each_expression<'a>(statement: &'a Stmt, visit: &mut impl FnMut(&'a Expr)) {
    match statement {
        Stmt::Return(leave) => leave.value.iter().for_each(|value| visit(value)),
        Stmt::Assign(assign) => visit(&assign.value),
        Stmt::AugAssign(assign) => visit(&assign.value),
        Stmt::AnnAssign(assign) => assign.value.iter().for_each(|value| visit(value)),
        Stmt::For(each) => visit(&each.iter),
        Stmt::While(repeat) => visit(&repeat.test),
        Stmt::If(choice) => {
            visit(&choice.test);
            choice.elif_else_clauses.iter().filter_map(|clause| clause.test.as_ref()).for_each(visit);
        }
        Stmt::With(with) => with.items.iter().for_each(|item| visit(&item.context_expr)),
        Stmt::Match(choice) => {
            visit(&choice.subject);
            choice.cases.iter().filter_map(|case| case.guard.as_deref()).for_each(visit);
        }
        Stmt::Raise(raise) => raise.exc.iter().for_each(|value| visit(value)),
        Stmt::Assert(assertion) => visit(&assertion.test),
        Stmt::Expr(expression) => visit(&expression.value),
        _ => {}
    }
}

/// Calls `visit` with the direct children of an expression in which an assignment expression can stand.
fn for_each_child<'a>(expression: &'a Expr, visit: &mut impl FnMut(&'a Expr)) {
    let mut comprehension = |element: &'a Expr, generators: &'a [ruff_python_ast::Comprehension]| {
        visit(element);
        for generator in generators {
            visit(&generator.iter);
            generator.ifs.iter().for_each(&mut *visit);
        }
    };
    match expression {
        Expr::ListComp(comp) => return comprehension(&comp.elt, &comp.generators),
        Expr::SetComp(comp) => return comprehension(&comp.elt, &comp.generators),
        Expr::Generator(comp) => return comprehension(&comp.elt, &comp.generators),
        Expr::DictComp(comp) => return comprehension(&comp.value, &comp.generators),
        _ => {}
    }
    match expression {
        Expr::BoolOp(op) => op.values.iter().for_each(visit),
        Expr::Named(named) => visit(&named.value),
        Expr::BinOp(op) => [&*op.left, &*op.right].into_iter().for_each(visit),
        Expr::UnaryOp(op) => visit(&op.operand),
        Expr::If(choice) => [&*choice.test, &*choice.body, &*choice.orelse].into_iter().for_each(visit),
        Expr::Dict(dict) => {
            dict.items.iter().flat_map(|item| item.key.iter().chain(Some(&item.value))).for_each(visit);
        }
        Expr::Set(set) => set.elts.iter().for_each(visit),
        Expr::List(list) => list.elts.iter().for_each(visit),
        Expr::Tuple(tuple) => tuple.elts.iter().for_each(visit),
        Expr::Await(wait) => visit(&wait.value),
        Expr::Yield(give) => give.value.iter().for_each(|value| visit(value)),
        Expr::YieldFrom(give) => visit(&give.value),
        Expr::Compare(compare) => {
            std::iter::once(&*compare.left).chain(&*compare.comparators).for_each(visit);
        }
        Expr::Call(call) => {
            visit(&call.func);
            call.arguments.args.iter().for_each(&mut *visit);
            call.arguments.keywords.iter().for_each(|keyword| visit(&keyword.value));
        }
        Expr::FString(string) => {
            for part in string.value.elements() {
                if let ruff_python_ast::InterpolatedStringElement::Interpolation(part) = part {
                    visit(&part.expression);
                }
            }
        }
        Expr::Attribute(attribute) => visit(&attribute.value),
        Expr::Subscript(subscript) => [&*subscript.value, &*subscript.slice].into_iter().for_each(visit),
        Expr::Starred(starred) => visit(&starred.value),
        Expr::Slice(slice) => {
            [&slice.lower, &slice.upper, &slice.step].into_iter().flatten().for_each(|bound| visit(bound));
        }
        _ => {}
    }
}
