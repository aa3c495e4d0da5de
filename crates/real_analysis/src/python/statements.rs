//! Lowering of statements.

use ruff_python_ast::{self as ast, ExceptHandler, Expr, Pattern, Singleton, Stmt};

use super::lower::{Loop, Lowering, dotted};
use super::range_of;
use crate::ir::{
    Arg, ArgKind, BlockId, CompareOp, Constant, Item, Op, Position, Range, SequenceKind, Terminator, ValueId,
};

/// `finally` bodies are lowered twice (after success, after an exception) up to this nesting, and once beyond.
const MAX_DUPLICATED_FINALLY: u32 = 3;

/// Functions that never return.
const NEVER_RETURN: &[&str] = &[
    "exit",
    "quit",
    "sys.exit",
    "os._exit",
    "os.abort",
    "self.abort",
    "abort",
    "flask.abort",
    "werkzeug.exceptions.abort",
    "quart.abort",
    "bottle.abort",
    "flask_restful.abort",
    "sanic.exceptions.abort",
];

/// Classes whose positional pattern is about the object itself.
const WHOLE_CLASSES: &[&str] =
    &["bool", "bytearray", "bytes", "dict", "float", "frozenset", "int", "list", "set", "str", "tuple"];

impl<'a> Lowering<'a> {
    pub(super) fn statements(&mut self, body: &'a [Stmt]) {
        for statement in body {
            self.deeper(|_| (), |lowering| lowering.statement(statement));
        }
    }

    fn statement(&mut self, statement: &'a Stmt) {
        self.may_raise(statement);
        let range = range_of(statement);
        match statement {
            Stmt::Expr(expression) => {
                self.expression(&expression.value);
                if self.never_returns(&expression.value) {
                    self.raise(None, range);
                }
            }
            Stmt::Assign(assign) => self.assign(assign),
            Stmt::AnnAssign(assign) => {
                if let (Some(class), Expr::Name(name)) = (self.class_of_scope(), &*assign.target) {
                    let field = self.symbol(&name.id);
                    let mut annotation = super::lower::annotation(&assign.annotation);
                    let declared = assign.value.as_deref().and_then(super::lower::declared_pattern);
                    annotation.pattern = annotation.pattern.or(declared);
                    self.module.classes[class.index()].fields.push((field, annotation));
                }
                if let Some(value) = &assign.value {
                    let value = self.expression(value);
                    self.assign_to(&assign.target, value);
                }
            }
            Stmt::AugAssign(assign) => self.augmented_assign(assign),
            Stmt::Return(leave) => {
                let value = match &leave.value {
                    Some(value) => self.expression(value),
                    None => self.none(),
                };
                let range = leave.value.as_deref().map_or(range, range_of);
                self.builder().give_back(value, range);
            }
            Stmt::If(choice) => self.if_statement(choice),
            Stmt::While(repeat) => self.while_loop(repeat),
            Stmt::For(each) => self.for_loop(each),
            Stmt::With(with) => self.with(with),
            Stmt::Match(choice) => self.match_statement(choice),
            Stmt::Try(attempt) => self.try_statement(attempt),
            Stmt::Raise(raise) => {
                let exception = match &raise.exc {
                    Some(exception) => Some(self.expression(exception)),
                    None => self.scope().caught.last().copied(),
                };
                if let Some(cause) = &raise.cause {
                    self.expression(cause);
                }
                self.raise(exception, range);
            }
            Stmt::Assert(assertion) => {
                let (holds, fails) = self.condition(&assertion.test);
                self.builder().current = fails;
                let message = assertion.msg.as_ref().map(|message| self.expression(message));
                self.raise(message, range);
                self.builder().current = holds;
            }
            Stmt::FunctionDef(def) => {
                let value = self.function(def, range);
                self.store(&def.name, value, range);
            }
            Stmt::ClassDef(class) => {
                let value = self.class(class);
                self.store(&class.name, value, range);
            }
            Stmt::Import(_) | Stmt::ImportFrom(_) => self.import(statement),
            Stmt::Delete(delete) => delete.targets.iter().for_each(|target| self.delete(target, range)),
            Stmt::Break(_) => self.leave_loop(|targets| targets.after),
            Stmt::Continue(_) => self.leave_loop(|targets| targets.next),
            Stmt::TypeAlias(_)
            | Stmt::Global(_)
            | Stmt::Nonlocal(_)
            | Stmt::Pass(_)
            | Stmt::IpyEscapeCommand(_) => {}
        }
    }

    /// A call of a function that ends the program or answers the request by an exception.
    fn never_returns(&self, expression: &Expr) -> bool {
        let Expr::Call(call) = expression else { return false };
        let Some(path) = dotted(&call.func) else { return false };
        let root = path.split('.').next().unwrap_or_default();
        match self.imported_path(&call.func) {
            Some(imported) => NEVER_RETURN.contains(&&*imported),
            None => NEVER_RETURN.contains(&&*path) && !self.is_bound(root),
        }
    }

    /// `del a` leaves `a` undefined; `del a[b]` is `a.__delitem__(b)`.
    fn delete(&mut self, target: &'a Expr, range: Range) {
        match target {
            Expr::Name(name) => {
                let value = self.undefined();
                self.store(&name.id, value, range);
            }
            Expr::Subscript(subscript) if !subscript.slice.is_slice_expr() => {
                let object = self.expression(&subscript.value);
                let index = self.expression(&subscript.slice);
                let name = self.symbol("__delitem__");
                let callee = self.push(Op::Attribute { object, name }, range);
                let args = vec![Arg { kind: ArgKind::Positional, value: index }];
                self.push(Op::Call { callee, args }, range);
            }
            Expr::Tuple(tuple) => tuple.elts.iter().for_each(|target| self.delete(target, range)),
            other => drop(self.expression(other)),
        }
    }

    /// Inside `try`, a handler may start from the state before each statement.
    fn may_raise(&mut self, statement: &Stmt) {
        let Some(handler) = self.handler() else { return };
        if matches!(statement, Stmt::Pass(_) | Stmt::Break(_) | Stmt::Continue(_) | Stmt::Global(_)) {
            return;
        }
        let next = self.builder().block();
        self.builder().terminate(Terminator::MayRaise { next, handler });
        self.builder().seal(next);
        self.builder().current = next;
    }

    fn raise(&mut self, exception: Option<ValueId>, range: Range) {
        if let Some(exception) = exception {
            self.push(Op::Raise(exception), range);
        }
        let terminator = self.handler().map_or(Terminator::Raise, Terminator::Jump);
        self.builder().terminate(terminator);
    }

    fn leave_loop(&mut self, target: impl FnOnce(&Loop) -> BlockId) {
        if let Some(target) = self.scope().loops.last().map(target) {
            self.builder().jump(target);
        }
    }

    fn assign(&mut self, assign: &'a ast::StmtAssign) {
        // `a, b = x, y` assigns part by part, which keeps the parts apart.
        if let ([Expr::Tuple(targets)], Expr::Tuple(values)) = (&assign.targets[..], &*assign.value)
            && targets.elts.len() == values.elts.len()
            && !targets.elts.iter().chain(&values.elts).any(Expr::is_starred_expr)
        {
            let values: Vec<ValueId> = values.elts.iter().map(|value| self.expression(value)).collect();
            for (target, value) in targets.elts.iter().zip(values) {
                self.assign_to(target, value);
            }
            return;
        }
        let value = match self.record(&assign.value) {
            Some(class) => class,
            None => self.expression(&assign.value),
        };
        for target in &assign.targets {
            self.assign_to(target, value);
        }
    }

    pub(super) fn assign_to(&mut self, target: &'a Expr, value: ValueId) {
        let range = range_of(target);
        match target {
            Expr::Name(name) => self.store(&name.id, value, range),
            Expr::Attribute(attribute) => {
                let object = self.expression(&attribute.value);
                let name = self.symbol(&attribute.attr);
                self.push(Op::StoreAttribute { object, name, value }, range);
            }
            Expr::Subscript(subscript) => {
                let object = self.expression(&subscript.value);
                let index = self.expression(&subscript.slice);
                self.push(Op::StoreSubscript { object, index, value }, range);
            }
            Expr::Tuple(tuple) => self.unpack(&tuple.elts, value),
            Expr::List(list) => self.unpack(&list.elts, value),
            Expr::Starred(starred) => self.assign_to(&starred.value, value),
            other => drop(self.expression(other)),
        }
    }

    fn unpack(&mut self, targets: &'a [Expr], value: ValueId) {
        let star = targets.iter().position(Expr::is_starred_expr);
        for (index, target) in targets.iter().enumerate() {
            let position = match star {
                Some(star) if index == star => Position::Rest(index as u32),
                Some(star) if index > star => Position::Back((targets.len() - 1 - index) as u32),
                _ => Position::Front(index as u32),
            };
            let part = self.push(Op::Unpack { value, position }, range_of(target));
            self.deeper(|_| (), |lowering| lowering.assign_to(target, part));
        }
    }

    fn augmented_assign(&mut self, assign: &'a ast::StmtAugAssign) {
        let range = range_of(assign);
        let op = super::expressions::binary_op(assign.op);
        match &*assign.target {
            Expr::Name(name) => {
                let left = self.load(&name.id, range);
                let right = self.expression(&assign.value);
                let value = self.push(Op::Binary { op, left, right }, range);
                self.store(&name.id, value, range);
            }
            Expr::Attribute(attribute) => {
                let object = self.expression(&attribute.value);
                let name = self.symbol(&attribute.attr);
                let left = self.push(Op::Attribute { object, name }, range);
                let right = self.expression(&assign.value);
                let value = self.push(Op::Binary { op, left, right }, range);
                self.push(Op::StoreAttribute { object, name, value }, range);
            }
            Expr::Subscript(subscript) => {
                let object = self.expression(&subscript.value);
                let index = self.expression(&subscript.slice);
                let left = self.push(Op::Subscript { object, index }, range);
                let right = self.expression(&assign.value);
                let value = self.push(Op::Binary { op, left, right }, range);
                self.push(Op::StoreSubscript { object, index, value }, range);
            }
            other => drop(self.expression(other)),
        }
    }

    fn if_statement(&mut self, choice: &'a ast::StmtIf) {
        let after = self.builder().block();
        let mut clause: (&'a Expr, &'a [Stmt]) = (&choice.test, &choice.body);
        let mut rest = choice.elif_else_clauses.iter();
        loop {
            let (then, otherwise) = self.condition(clause.0);
            self.builder().current = then;
            self.statements(clause.1);
            self.builder().jump(after);
            self.builder().current = otherwise;
            match rest.next() {
                Some(ast::ElifElseClause { test: Some(test), body, .. }) => clause = (test, body),
                Some(ast::ElifElseClause { test: None, body, .. }) => {
                    self.statements(body);
                    break;
                }
                None => break,
            }
        }
        self.builder().jump(after);
        self.builder().seal(after);
        self.builder().current = after;
    }

    fn while_loop(&mut self, repeat: &'a ast::StmtWhile) {
        let header = self.builder().block();
        let after = self.builder().block();
        self.builder().jump(header);
        self.builder().current = header;
        let (body, exit) = self.condition(&repeat.test);
        self.loop_body(body, header, after, &repeat.body);
        self.loop_end(exit, after, &repeat.orelse);
    }

    fn for_loop(&mut self, each: &'a ast::StmtFor) {
        let iterable = self.expression(&each.iter);
        let (header, body, exit) = self.for_header(iterable, range_of(&*each.iter));
        let after = self.builder().block();
        let element = self.builder().function.blocks[body.index()].insts.first().copied();
        self.builder().current = body;
        if let Some(element) = element {
            self.assign_to(&each.target, element);
        }
        let body = self.builder().current;
        self.loop_body(body, header, after, &each.body);
        self.loop_end(exit, after, &each.orelse);
    }

    /// Header of a loop over `iterable`: the header itself (not sealed), the body with its element, and the exit.
    pub(super) fn for_header(&mut self, iterable: ValueId, range: Range) -> (BlockId, BlockId, BlockId) {
        let header = self.builder().block();
        let (body, exit) = (self.builder().block(), self.builder().block());
        self.builder().jump(header);
        self.builder().current = body;
        let element = self.push(Op::Element(iterable), range);
        self.builder().current = header;
        self.builder().terminate(Terminator::ForNext { iterable, element, body, exit });
        self.builder().seal(body);
        self.builder().seal(exit);
        (header, body, exit)
    }

    fn loop_body(&mut self, body: BlockId, header: BlockId, after: BlockId, statements: &'a [Stmt]) {
        self.scope().loops.push(Loop { next: header, after });
        self.builder().current = body;
        self.statements(statements);
        self.builder().jump(header);
        self.builder().seal(header);
        self.scope().loops.pop();
    }

    fn loop_end(&mut self, exit: BlockId, after: BlockId, orelse: &'a [Stmt]) {
        self.builder().current = exit;
        self.statements(orelse);
        self.builder().jump(after);
        self.builder().seal(after);
        self.builder().current = after;
    }

    fn with(&mut self, with: &'a ast::StmtWith) {
        for item in &with.items {
            let context = self.expression(&item.context_expr);
            if let Some(target) = &item.optional_vars {
                let entered = self.push(Op::Enter(context), range_of(&item.context_expr));
                self.assign_to(target, entered);
            }
        }
        if with.items.iter().any(|item| self.swallows(&item.context_expr)) {
            self.swallowed(&with.body);
        } else {
            self.statements(&with.body);
        }
    }

    /// `contextlib.suppress(ValueError)`
    fn swallows(&self, context: &Expr) -> bool {
        let Expr::Call(call) = context else { return false };
        self.imported_path(&call.func).as_deref() == Some("contextlib.suppress")
    }

    /// Statements of which an exception ends the block, and nothing else.
    fn swallowed(&mut self, body: &'a [Stmt]) {
        let (dispatch, after) = (self.builder().block(), self.builder().block());
        self.push_handler(dispatch);
        self.statements(body);
        self.pop_handler();
        self.builder().jump(after);
        self.builder().seal(dispatch);
        self.builder().current = dispatch;
        self.push(Op::Caught { kind: None, dispatch }, Range::default());
        self.builder().jump(after);
        self.builder().seal(after);
        self.builder().current = after;
    }

    fn try_statement(&mut self, attempt: &'a ast::StmtTry) {
        let has_final = !attempt.finalbody.is_empty();
        let cleanup = has_final.then(|| self.builder().block());
        if let Some(cleanup) = cleanup {
            self.push_handler(cleanup);
        }
        let after = self.builder().block();
        if attempt.handlers.is_empty() {
            self.statements(&attempt.body);
            self.statements(&attempt.orelse);
        } else {
            let dispatch = self.builder().block();
            self.push_handler(dispatch);
            self.statements(&attempt.body);
            self.pop_handler();
            self.statements(&attempt.orelse);
            self.builder().jump(after);
            self.handlers(dispatch, after, &attempt.handlers);
        }
        self.builder().jump(after);
        self.builder().seal(after);
        self.builder().current = after;
        if let Some(cleanup) = cleanup {
            self.pop_handler();
            self.finally(cleanup, &attempt.finalbody);
        }
    }

    /// Ends with the current block being where no handler matched, which raises on.
    fn handlers(&mut self, dispatch: BlockId, after: BlockId, handlers: &'a [ExceptHandler]) {
        self.builder().seal(dispatch);
        self.builder().current = dispatch;
        let mut exhaustive = false;
        for ExceptHandler::ExceptHandler(handler) in handlers {
            let kind = handler.type_.as_ref().map(|kind| self.expression(kind));
            let (here, rest) = (self.builder().block(), self.builder().block());
            self.builder().terminate(Terminator::MayRaise { next: here, handler: rest });
            self.builder().seal(here);
            self.builder().seal(rest);
            self.builder().current = here;
            let range = handler.name.as_ref().map_or_else(Range::default, range_of);
            let caught = self.push(Op::Caught { kind, dispatch }, range);
            if let Some(name) = &handler.name {
                self.store(name, caught, range);
            }
            self.scope().caught.push(caught);
            self.statements(&handler.body);
            self.scope().caught.pop();
            self.builder().jump(after);
            self.builder().current = rest;
            exhaustive |= catches_all(handler.type_.as_deref());
        }
        if exhaustive {
            self.builder().terminate(Terminator::Unreachable);
        } else {
            let caught = self.push(Op::Caught { kind: None, dispatch }, Range::default());
            self.raise(Some(caught), Range::default());
        }
    }

    fn finally(&mut self, cleanup: BlockId, body: &'a [Stmt]) {
        let normal = self.builder().current;
        self.scope().finals += 1;
        if self.scope().finals > MAX_DUPLICATED_FINALLY {
            self.builder().jump(cleanup);
            self.builder().seal(cleanup);
            self.builder().current = cleanup;
            self.statements(body);
        } else {
            self.builder().seal(cleanup);
            self.builder().current = cleanup;
            self.statements(body);
            let caught = self.push(Op::Caught { kind: None, dispatch: cleanup }, Range::default());
            self.raise(Some(caught), Range::default());
            self.builder().current = normal;
            self.statements(body);
        }
        self.scope().finals -= 1;
    }

    fn match_statement(&mut self, choice: &'a ast::StmtMatch) {
        let subject = self.expression(&choice.subject);
        let after = self.builder().block();
        for case in &choice.cases {
            let mut tests = Vec::new();
            self.pattern(subject, &case.pattern, &mut tests);
            let mut next = Vec::new();
            for test in &tests {
                let (then, otherwise) = self.builder().branch(*test);
                next.push(otherwise);
                self.builder().current = then;
            }
            if tests.is_empty() {
                let (then, otherwise) = (self.builder().block(), self.builder().block());
                self.builder().jump(then);
                self.builder().seal(then);
                self.builder().seal(otherwise);
                next.push(otherwise);
                self.builder().current = then;
            }
            if let Some(guard) = &case.guard {
                let (holds, fails) = self.condition(guard);
                next.push(fails);
                self.builder().current = holds;
            }
            self.statements(&case.body);
            self.builder().jump(after);
            let rest = self.builder().block();
            for block in next {
                self.builder().current = block;
                self.builder().jump(rest);
            }
            self.builder().seal(rest);
            self.builder().current = rest;
        }
        self.builder().jump(after);
        self.builder().seal(after);
        self.builder().current = after;
    }

    /// Binds what the pattern captures, and adds what is tested: it matches when all of it is true.
    fn pattern(&mut self, subject: ValueId, pattern: &'a Pattern, tests: &mut Vec<ValueId>) {
        let found = self.deeper(
            |lowering| vec![lowering.undefined()],
            |lowering| {
                let mut found = Vec::new();
                lowering.pattern_tests(subject, pattern, &mut found);
                found
            },
        );
        tests.extend(found);
    }

    fn pattern_tests(&mut self, subject: ValueId, pattern: &'a Pattern, tests: &mut Vec<ValueId>) {
        let range = range_of(pattern);
        match pattern {
            Pattern::MatchValue(value) => {
                let right = self.expression(&value.value);
                tests.push(self.push(Op::Compare { op: CompareOp::Equal, left: subject, right }, range));
            }
            Pattern::MatchSingleton(single) => {
                let constant = match single.value {
                    Singleton::None => Constant::None,
                    Singleton::True => Constant::Bool(true),
                    Singleton::False => Constant::Bool(false),
                };
                let right = self.push(Op::Constant(constant), range);
                tests.push(self.push(Op::Compare { op: CompareOp::Is, left: subject, right }, range));
            }
            Pattern::MatchAs(capture) => {
                if let Some(pattern) = &capture.pattern {
                    self.pattern(subject, pattern, tests);
                }
                if let Some(name) = &capture.name {
                    self.store(name, subject, range);
                }
            }
            Pattern::MatchOr(either) => self.or_pattern(subject, &either.patterns, range, tests),
            Pattern::MatchStar(star) => {
                if let Some(name) = &star.name {
                    self.store(name, subject, range);
                }
            }
            Pattern::MatchSequence(sequence) => {
                // How many there are is not tested.
                tests.push(self.undefined());
                let count = sequence.patterns.len();
                let mut after_star = false;
                for (index, pattern) in sequence.patterns.iter().enumerate() {
                    let position = match pattern {
                        Pattern::MatchStar(_) => Position::Rest(index as u32),
                        _ if after_star => Position::Back((count - 1 - index) as u32),
                        _ => Position::Front(index as u32),
                    };
                    after_star |= matches!(pattern, Pattern::MatchStar(_));
                    let part = self.push(Op::Unpack { value: subject, position }, range);
                    self.pattern(part, pattern, tests);
                }
            }
            Pattern::MatchMapping(mapping) => {
                // Nor whether the keys are there.
                tests.push(self.undefined());
                for (key, pattern) in mapping.keys.iter().zip(&mapping.patterns) {
                    let index = self.expression(key);
                    let part = self.push(Op::Subscript { object: subject, index }, range);
                    self.pattern(part, pattern, tests);
                }
                if let Some(rest) = &mapping.rest {
                    self.store(rest, subject, range);
                }
            }
            Pattern::MatchClass(class) => self.class_pattern(subject, class, range, tests),
        }
    }

    fn or_pattern(
        &mut self,
        subject: ValueId,
        patterns: &'a [Pattern],
        range: Range,
        tests: &mut Vec<ValueId>,
    ) {
        let values: Option<Vec<&'a Expr>> = patterns
            .iter()
            .map(|pattern| match pattern {
                Pattern::MatchValue(value) => Some(&*value.value),
                _ => None,
            })
            .collect();
        let Some(values) = values else {
            // One of them matches, and nobody knows which.
            for pattern in patterns {
                self.pattern(subject, pattern, &mut Vec::new());
            }
            return tests.push(self.undefined());
        };
        let items = values.into_iter().map(|value| Item::One(self.expression(value))).collect();
        let right = self.push(Op::Sequence { kind: SequenceKind::Tuple, items }, range);
        tests.push(self.push(Op::Compare { op: CompareOp::In, left: subject, right }, range));
    }

    /// `int(number)`, `Point(x=0, y=y)`
    fn class_pattern(
        &mut self,
        subject: ValueId,
        class: &'a ast::PatternMatchClass,
        range: Range,
        tests: &mut Vec<ValueId>,
    ) {
        let kind = self.expression(&class.cls);
        let isinstance = self.symbol("isinstance");
        let callee = self.push(Op::Builtin(isinstance), range);
        let args = [subject, kind].map(|value| Arg { kind: ArgKind::Positional, value }).to_vec();
        tests.push(self.push(Op::Call { callee, args }, range));
        // Of a built-in class it is the object itself; of another nobody knows which attribute.
        let is_whole = matches!(&*class.cls, Expr::Name(name) if WHOLE_CLASSES.contains(&name.id.as_str()));
        for pattern in &class.arguments.patterns {
            let mut inner = Vec::new();
            self.pattern(subject, pattern, &mut inner);
            tests.extend(inner.into_iter().filter(|_| is_whole));
        }
        for keyword in &class.arguments.keywords {
            let name = self.symbol(&keyword.attr);
            let part = self.push(Op::Attribute { object: subject, name }, range);
            self.pattern(part, &keyword.pattern, tests);
        }
    }

    fn import(&mut self, statement: &'a Stmt) {
        let range = range_of(statement);
        match statement {
            Stmt::Import(import) => {
                for alias in &import.names {
                    let root = alias.name.split('.').next().unwrap_or_default();
                    let (name, path) = match &alias.asname {
                        Some(name) => (name.as_str(), alias.name.as_str()),
                        None => (root, root),
                    };
                    let path = self.symbol(path);
                    let value = self.push(Op::Import(path), range_of(alias));
                    self.imports.insert(name, alias.name.to_string());
                    self.store(name, value, range);
                }
            }
            Stmt::ImportFrom(import) => {
                let dots = ".".repeat(import.level as usize);
                let module = import.module.as_ref().map_or("", |module| module.as_str());
                for alias in &import.names {
                    if alias.name.as_str() == "*" {
                        let module = self.symbol(module);
                        self.module.star_imports.push(module);
                        continue;
                    }
                    let path = self.symbol(&format!("{dots}{module}.{}", alias.name));
                    let value = self.push(Op::Import(path), range_of(alias));
                    let name = alias.asname.as_ref().unwrap_or(&alias.name);
                    self.imports.insert(name, format!("{module}.{}", alias.name));
                    self.store(name, value, range);
                }
            }
            _ => {}
        }
    }
}

fn catches_all(kind: Option<&Expr>) -> bool {
    match kind {
        None => true,
        Some(Expr::Name(name)) => matches!(name.id.as_str(), "Exception" | "BaseException"),
        Some(_) => false,
    }
}
