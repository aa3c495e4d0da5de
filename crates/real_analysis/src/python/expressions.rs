//! Lowering of expressions.

use ruff_python_ast::{self as ast, Expr, InterpolatedStringElement as Part, Number, Operator};

use super::lower::Lowering;
use super::range_of;
use crate::ir::{
    Arg, ArgKind, BinaryOp, BlockId, CompareOp, Constant, Item, Op, Piece, Range, SequenceKind, Symbol,
    UnaryOp, ValueId,
};

/// What a comprehension builds.
enum Collect<'a> {
    Elements(SequenceKind, &'a Expr),
    Pairs(&'a Expr, &'a Expr),
}

impl<'a> Lowering<'a> {
    pub(super) fn expression(&mut self, expression: &'a Expr) -> ValueId {
        self.deeper(Lowering::undefined, |lowering| lowering.expression_value(expression))
    }

    fn expression_value(&mut self, expression: &'a Expr) -> ValueId {
        let range = range_of(expression);
        match expression {
            Expr::Name(name) => self.load(&name.id, range),
            Expr::StringLiteral(text) => self.constant(Constant::Str(text.value.to_str().into()), range),
            Expr::BytesLiteral(bytes) => {
                let bytes: Vec<u8> = bytes.value.bytes().collect();
                self.constant(Constant::Bytes(bytes.into()), range)
            }
            Expr::NumberLiteral(number) => self.constant(number_constant(&number.value), range),
            Expr::BooleanLiteral(literal) => self.constant(Constant::Bool(literal.value), range),
            Expr::NoneLiteral(_) => self.constant(Constant::None, range),
            Expr::EllipsisLiteral(_) | Expr::IpyEscapeCommand(_) => self.constant(Constant::Other, range),
            Expr::FString(string) => self.format(string.value.elements(), range),
            Expr::TString(string) => self.format(string.value.elements(), range),
            Expr::Attribute(attribute) => {
                let object = self.expression(&attribute.value);
                let name = self.symbol(&attribute.attr);
                self.push(Op::Attribute { object, name }, range)
            }
            Expr::Subscript(subscript) => self.subscript(subscript, range),
            Expr::Call(call) => self.call(call, range),
            Expr::BinOp(op) => self.binary(op),
            Expr::UnaryOp(op) => {
                let operand = self.expression(&op.operand);
                let op = match op.op {
                    ast::UnaryOp::Not => UnaryOp::Not,
                    ast::UnaryOp::USub => UnaryOp::Negate,
                    ast::UnaryOp::UAdd | ast::UnaryOp::Invert => UnaryOp::Arithmetic,
                };
                self.push(Op::Unary { op, operand }, range)
            }
            Expr::Compare(compare) if compare.ops.len() == 1 => {
                let left = self.expression(&compare.left);
                let right = self.expression(&compare.comparators[0]);
                self.push(Op::Compare { op: compare_op(compare.ops[0]), left, right }, range)
            }
            Expr::Compare(compare) => self.compare_chain(compare, range),
            Expr::BoolOp(op) => self.bool_op(op),
            Expr::If(choice) => self.conditional(choice),
            Expr::Named(named) => {
                let value = self.expression(&named.value);
                self.assign_to(&named.target, value);
                value
            }
            Expr::Lambda(lambda) => self.lambda(lambda.parameters.as_deref(), &lambda.body, range),
            Expr::List(list) => self.sequence(SequenceKind::List, &list.elts, range),
            Expr::Tuple(tuple) => self.sequence(SequenceKind::Tuple, &tuple.elts, range),
            Expr::Set(set) => self.sequence(SequenceKind::Set, &set.elts, range),
            Expr::Dict(dict) => {
                let pairs = dict.items.iter().map(|item| {
                    (item.key.as_ref().map(|key| self.expression(key)), self.expression(&item.value))
                });
                let pairs = pairs.collect();
                self.push(Op::Dict(pairs), range)
            }
            Expr::ListComp(comp) => {
                self.comprehension(&Collect::Elements(SequenceKind::List, &comp.elt), &comp.generators, range)
            }
            Expr::Generator(comp) => {
                self.comprehension(&Collect::Elements(SequenceKind::List, &comp.elt), &comp.generators, range)
            }
            Expr::SetComp(comp) => {
                self.comprehension(&Collect::Elements(SequenceKind::Set, &comp.elt), &comp.generators, range)
            }
            Expr::DictComp(comp) => match &comp.key {
                Some(key) => self.comprehension(&Collect::Pairs(key, &comp.value), &comp.generators, range),
                None => self.comprehension(
                    &Collect::Elements(SequenceKind::List, &comp.value),
                    &comp.generators,
                    range,
                ),
            },
            Expr::Await(wait) => {
                let value = self.expression(&wait.value);
                self.builder().function.awaited.push(value);
                value
            }
            Expr::Yield(give) => {
                let value = match &give.value {
                    Some(value) => self.expression(value),
                    None => self.none(),
                };
                self.yield_value(value, range)
            }
            Expr::YieldFrom(give) => {
                let iterable = self.expression(&give.value);
                let element = self.push(Op::Element(iterable), range);
                self.yield_value(element, range)
            }
            Expr::Starred(starred) => self.expression(&starred.value),
            Expr::Slice(_) => self.undefined(),
        }
    }

    fn constant(&mut self, constant: Constant, range: Range) -> ValueId {
        self.push(Op::Constant(constant), range)
    }

    fn yield_value(&mut self, value: ValueId, range: Range) -> ValueId {
        self.builder().function.is_generator = true;
        self.push(Op::Yield(value), range)
    }

    fn sequence(&mut self, kind: SequenceKind, elements: &'a [Expr], range: Range) -> ValueId {
        let items = elements.iter().map(|element| match element {
            Expr::Starred(starred) => Item::Starred(self.expression(&starred.value)),
            other => Item::One(self.expression(other)),
        });
        let items = items.collect();
        self.push(Op::Sequence { kind, items }, range)
    }

    fn subscript(&mut self, subscript: &'a ast::ExprSubscript, range: Range) -> ValueId {
        let object = self.expression(&subscript.value);
        if let Expr::Slice(slice) = &*subscript.slice {
            let bounds = [&slice.lower, &slice.upper, &slice.step]
                .map(|bound| bound.as_ref().map(|bound| self.expression(bound)));
            return self.push(Op::Slice { object, bounds }, range);
        }
        let index = self.expression(&subscript.slice);
        self.push(Op::Subscript { object, index }, range)
    }

    fn call(&mut self, call: &'a ast::ExprCall, range: Range) -> ValueId {
        let callee = self.expression(&call.func);
        let mut args = Vec::with_capacity(call.arguments.args.len() + call.arguments.keywords.len());
        for arg in &call.arguments.args {
            args.push(match arg {
                Expr::Starred(starred) => Arg { kind: ArgKind::Star, value: self.expression(&starred.value) },
                other => Arg { kind: ArgKind::Positional, value: self.expression(other) },
            });
        }
        for keyword in &call.arguments.keywords {
            let value = self.expression(&keyword.value);
            let kind = match &keyword.arg {
                Some(name) => ArgKind::Keyword(self.symbol(name)),
                None => ArgKind::DoubleStar,
            };
            args.push(Arg { kind, value });
        }
        self.push(Op::Call { callee, args }, range)
    }

    /// A chain `a + b + c + …` leans to the left: it is walked without recursion.
    fn binary(&mut self, outermost: &'a ast::ExprBinOp) -> ValueId {
        let mut spine = vec![outermost];
        while let Expr::BinOp(inner) = &*spine[spine.len() - 1].left {
            spine.push(inner);
        }
        let mut left = self.expression(&spine[spine.len() - 1].left);
        for node in spine.into_iter().rev() {
            let right = self.expression(&node.right);
            left = self.push(Op::Binary { op: binary_op(node.op), left, right }, range_of(node));
        }
        left
    }

    fn format(&mut self, parts: impl Iterator<Item = &'a Part>, range: Range) -> ValueId {
        let mut pieces = Vec::new();
        for part in parts {
            self.format_part(part, &mut pieces);
        }
        self.push(Op::Format(pieces), range)
    }

    fn format_part(&mut self, part: &'a Part, pieces: &mut Vec<Piece>) {
        match part {
            Part::Literal(text) => pieces.push(Piece::Text(text.value.clone().into())),
            Part::Interpolation(part) => {
                let value = self.expression(&part.expression);
                let mut spec = String::new();
                let elements = part.format_spec.iter().flat_map(|spec| &*spec.elements);
                for element in elements {
                    match element {
                        Part::Literal(text) => spec.push_str(&text.value),
                        Part::Interpolation(nested) => drop(self.expression(&nested.expression)),
                    }
                }
                if let Some(debug) = &part.debug_text {
                    pieces.push(Piece::Text((*debug.leading()).into()));
                }
                let repr = matches!(part.conversion, ast::ConversionFlag::Repr | ast::ConversionFlag::Ascii)
                    || (part.debug_text.is_some()
                        && part.conversion == ast::ConversionFlag::None
                        && spec.is_empty());
                pieces.push(Piece::Value { value, repr, spec: spec.into() });
            }
        }
    }

    /// `a < b < c` is `a < b and b < c`.
    fn compare_chain(&mut self, compare: &'a ast::ExprCompare, range: Range) -> ValueId {
        let result = self.temporary();
        let after = self.builder().block();
        let mut left = self.expression(&compare.left);
        for (index, (op, right)) in compare.ops.iter().zip(&compare.comparators).enumerate() {
            let right = self.expression(right);
            let test = self.push(Op::Compare { op: compare_op(*op), left, right }, range);
            self.builder().write(result, test);
            if index + 1 < compare.ops.len() {
                let (then, otherwise) = self.builder().branch(test);
                self.jump_from(otherwise, after);
                self.builder().current = then;
            }
            left = right;
        }
        self.join(after, result)
    }

    fn bool_op(&mut self, op: &'a ast::ExprBoolOp) -> ValueId {
        let result = self.temporary();
        let after = self.builder().block();
        for (index, operand) in op.values.iter().enumerate() {
            let value = self.expression(operand);
            self.builder().write(result, value);
            if index + 1 < op.values.len() {
                let (then, otherwise) = self.builder().branch(value);
                let (go_on, done) =
                    if op.op == ast::BoolOp::And { (then, otherwise) } else { (otherwise, then) };
                self.jump_from(done, after);
                self.builder().current = go_on;
            }
        }
        self.join(after, result)
    }

    fn conditional(&mut self, choice: &'a ast::ExprIf) -> ValueId {
        let result = self.temporary();
        let after = self.builder().block();
        let (then, otherwise) = self.condition(&choice.test);
        for (block, value) in [(then, &choice.body), (otherwise, &choice.orelse)] {
            self.builder().current = block;
            let value = self.expression(value);
            self.builder().write(result, value);
            self.builder().jump(after);
        }
        self.join(after, result)
    }

    fn jump_from(&mut self, block: BlockId, target: BlockId) {
        self.builder().current = block;
        self.builder().jump(target);
    }

    fn join(&mut self, after: BlockId, result: Symbol) -> ValueId {
        self.builder().jump(after);
        self.builder().seal(after);
        self.builder().current = after;
        self.builder().read(result)
    }

    /// Branches on an expression: where it is true and where it is false. `and`, `or` and `not` become edges.
    pub(super) fn condition(&mut self, test: &'a Expr) -> (BlockId, BlockId) {
        let shallow = |lowering: &mut Self| {
            let value = lowering.undefined();
            lowering.builder().branch(value)
        };
        self.deeper(shallow, |lowering| lowering.condition_edges(test))
    }

    fn condition_edges(&mut self, test: &'a Expr) -> (BlockId, BlockId) {
        match test {
            Expr::UnaryOp(op) if op.op == ast::UnaryOp::Not => {
                let (then, otherwise) = self.condition(&op.operand);
                (otherwise, then)
            }
            Expr::BoolOp(op) => {
                let is_and = op.op == ast::BoolOp::And;
                let done = self.builder().block();
                let mut last = None;
                for operand in &op.values {
                    if let Some(go_on) = last {
                        self.builder().current = go_on;
                    }
                    let (then, otherwise) = self.condition(operand);
                    let (go_on, leave) = if is_and { (then, otherwise) } else { (otherwise, then) };
                    self.jump_from(leave, done);
                    last = Some(go_on);
                }
                self.builder().seal(done);
                let go_on = last.unwrap_or(done);
                if is_and { (go_on, done) } else { (done, go_on) }
            }
            other => {
                let value = self.expression(other);
                self.builder().branch(value)
            }
        }
    }

    fn comprehension(
        &mut self,
        collect: &Collect<'a>,
        generators: &'a [ast::Comprehension],
        range: Range,
    ) -> ValueId {
        let container = match collect {
            Collect::Elements(kind, _) => self.push(Op::Sequence { kind: *kind, items: Vec::new() }, range),
            Collect::Pairs(..) => self.push(Op::Dict(Vec::new()), range),
        };
        let hidden = self.scope().renamed.len();
        let mut open = Vec::new();
        for generator in generators {
            let iterable = self.expression(&generator.iter);
            let (header, body, exit) = self.for_header(iterable, range_of(&generator.iter));
            let element = self.builder().function.blocks[body.index()].insts.first().copied();
            self.builder().current = body;
            self.hide_targets(&generator.target);
            if let Some(element) = element {
                self.assign_to(&generator.target, element);
            }
            for test in &generator.ifs {
                let (then, otherwise) = self.condition(test);
                self.jump_from(otherwise, header);
                self.builder().current = then;
            }
            open.push((header, exit));
        }
        self.collect(collect, container, range);
        for (header, exit) in open.into_iter().rev() {
            self.builder().jump(header);
            self.builder().seal(header);
            self.builder().current = exit;
        }
        self.scope().renamed.truncate(hidden);
        container
    }

    fn collect(&mut self, collect: &Collect<'a>, container: ValueId, range: Range) {
        match collect {
            Collect::Elements(_, element) => {
                let value = self.expression(element);
                self.push(Op::Append { container, value }, range);
            }
            Collect::Pairs(key, value) => {
                let index = self.expression(key);
                let value = self.expression(value);
                self.push(Op::StoreSubscript { object: container, index, value }, range);
            }
        }
    }

    fn hide_targets(&mut self, target: &Expr) {
        match target {
            Expr::Name(name) => {
                let from = self.symbol(&name.id);
                let to = self.temporary();
                self.scope().renamed.push((from, to));
            }
            Expr::Tuple(tuple) => tuple.elts.iter().for_each(|target| self.hide_targets(target)),
            Expr::List(list) => list.elts.iter().for_each(|target| self.hide_targets(target)),
            Expr::Starred(starred) => self.hide_targets(&starred.value),
            _ => {}
        }
    }
}

fn number_constant(number: &Number) -> Constant {
    match number {
        Number::Int(int) => int.as_i64().map_or(Constant::Other, Constant::Int),
        Number::Float(float) => Constant::Float(*float),
        Number::Complex { .. } => Constant::Other,
    }
}

pub(super) fn binary_op(op: Operator) -> BinaryOp {
    match op {
        Operator::Add => BinaryOp::Add,
        Operator::Mod => BinaryOp::Modulo,
        Operator::Mult => BinaryOp::Multiply,
        Operator::Div => BinaryOp::Divide,
        Operator::BitOr => BinaryOp::Or,
        Operator::BitAnd => BinaryOp::And,
        Operator::Sub => BinaryOp::Subtract,
        Operator::FloorDiv => BinaryOp::FloorDivide,
        Operator::Pow => BinaryOp::Power,
        Operator::LShift => BinaryOp::ShiftLeft,
        Operator::RShift => BinaryOp::ShiftRight,
        Operator::BitXor => BinaryOp::Xor,
        Operator::MatMult => BinaryOp::Arithmetic,
    }
}

fn compare_op(op: ast::CmpOp) -> CompareOp {
    match op {
        ast::CmpOp::Eq => CompareOp::Equal,
        ast::CmpOp::NotEq => CompareOp::NotEqual,
        ast::CmpOp::Lt => CompareOp::Less,
        ast::CmpOp::LtE => CompareOp::LessEqual,
        ast::CmpOp::Gt => CompareOp::Greater,
        ast::CmpOp::GtE => CompareOp::GreaterEqual,
        ast::CmpOp::Is => CompareOp::Is,
        ast::CmpOp::IsNot => CompareOp::IsNot,
        ast::CmpOp::In => CompareOp::In,
        ast::CmpOp::NotIn => CompareOp::NotIn,
    }
}
