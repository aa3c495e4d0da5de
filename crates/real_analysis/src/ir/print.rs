//! The printed form of the IR, as in the parent module's example.

use std::fmt::Write;

use crate::ir::{Arg, ArgKind, Constant, Function, Item, Module, Op, Piece, Symbols, Terminator, ValueId};

/// All functions of a module, in order.
pub(crate) fn module(module: &Module) -> String {
    let mut text = String::new();
    for (index, function) in module.functions.iter().enumerate() {
        let name = module.symbols.text(function.name);
        writeln!(text, "function {index} {name}").expect("a string takes any text");
        print_function(&mut text, function, &module.symbols);
    }
    text
}

fn print_function(text: &mut String, function: &Function, symbols: &Symbols) {
    for (index, block) in function.blocks.iter().enumerate() {
        let dead = index > 0 && block.preds.is_empty();
        if dead {
            continue;
        }
        writeln!(text, "b{index}:").expect("a string takes any text");
        for id in &block.insts {
            let inst = op(&function.insts[id.index()].op, &block.preds, symbols);
            writeln!(text, "  v{} = {inst}", id.0).expect("a string takes any text");
        }
        writeln!(text, "  {}", terminator(block.terminator)).expect("a string takes any text");
    }
}

fn terminator(terminator: Terminator) -> String {
    match terminator {
        Terminator::Jump(target) => format!("jump b{}", target.0),
        Terminator::Branch { condition, then, otherwise } => {
            format!("branch v{} b{} b{}", condition.0, then.0, otherwise.0)
        }
        Terminator::ForNext { iterable, body, exit, .. } => {
            format!("for v{} b{} b{}", iterable.0, body.0, exit.0)
        }
        Terminator::MayRaise { next, handler } => format!("try b{} except b{}", next.0, handler.0),
        Terminator::Return(value) => format!("return v{}", value.0),
        Terminator::Raise => "raise".to_owned(),
        Terminator::Unreachable => "unreachable".to_owned(),
    }
}

fn list<T>(items: impl IntoIterator<Item = T>, show: impl Fn(T) -> String) -> String {
    items.into_iter().map(show).collect::<Vec<_>>().join(", ")
}

fn value(id: ValueId) -> String {
    format!("v{}", id.0)
}

fn op(op: &Op, preds: &[crate::ir::BlockId], symbols: &Symbols) -> String {
    let name = |symbol| symbols.text(symbol);
    match op {
        Op::Constant(constant) => self::constant(constant),
        Op::Param(index) => format!("param {index}"),
        Op::Phi(values) => {
            let pairs = preds.iter().zip(values).map(|(pred, value)| format!(" b{}:v{}", pred.0, value.0));
            format!("phi{}", pairs.collect::<String>())
        }
        Op::Undefined => "undefined".to_owned(),
        Op::Global(symbol) => format!("global {}", name(*symbol)),
        Op::Free(function, symbol) => format!("free {}:{}", function.0, name(*symbol)),
        Op::Builtin(symbol) => format!("builtin {}", name(*symbol)),
        Op::Import(symbol) => format!("import {}", name(*symbol)),
        Op::Attribute { object, name: attribute } => format!("v{}.{}", object.0, name(*attribute)),
        Op::Subscript { object, index } => format!("v{}[v{}]", object.0, index.0),
        Op::Slice { object, bounds } => {
            let bounds: Vec<String> =
                bounds.iter().map(|bound| bound.map(value).unwrap_or_default()).collect();
            format!("v{}[{}]", object.0, bounds.join(":"))
        }
        Op::Call { callee, args } => {
            format!("call v{}({})", callee.0, list(args, |arg| argument(arg, symbols)))
        }
        Op::Binary { op, left, right } => format!("{op:?} v{} v{}", left.0, right.0).to_lowercase(),
        Op::Unary { op, operand } => format!("{op:?} v{}", operand.0).to_lowercase(),
        Op::Compare { op, left, right } => format!("v{} {op:?} v{}", left.0, right.0).to_lowercase(),
        Op::Format(pieces) => format!("format {}", list(pieces, piece)),
        Op::Sequence { kind, items } => {
            format!("{kind:?} {}", list(items, |part| item(*part))).to_lowercase()
        }
        Op::Dict(pairs) => {
            let pair = |(key, item): &(Option<ValueId>, ValueId)| match key {
                Some(key) => format!("{}: {}", value(*key), value(*item)),
                None => format!("**{}", value(*item)),
            };
            format!("dict {}", list(pairs, pair))
        }
        Op::Element(iterable) => format!("element v{}", iterable.0),
        Op::Unpack { value, position } => format!("unpack v{} {position:?}", value.0).to_lowercase(),
        Op::Closure { function, .. } => format!("closure {}", function.0),
        Op::ClassObject { class, .. } => format!("class {}", class.0),
        Op::Yield(item) => format!("yield v{}", item.0),
        Op::Enter(context) => format!("enter v{}", context.0),
        Op::Raise(exception) => format!("raise v{}", exception.0),
        Op::Caught { .. } => "caught".to_owned(),
        Op::StoreAttribute { object, name: attribute, value } => {
            format!("store v{}.{} v{}", object.0, name(*attribute), value.0)
        }
        Op::StoreSubscript { object, index, value } => {
            format!("store v{}[v{}] v{}", object.0, index.0, value.0)
        }
        Op::StoreGlobal(symbol, value) => format!("store global {} v{}", name(*symbol), value.0),
        Op::StoreFree(function, symbol, value) => {
            format!("store free {}:{} v{}", function.0, name(*symbol), value.0)
        }
        Op::Append { container, value } => format!("append v{} v{}", container.0, value.0),
    }
}

fn constant(constant: &Constant) -> String {
    match constant {
        Constant::None => "None".to_owned(),
        Constant::Bool(true) => "True".to_owned(),
        Constant::Bool(false) => "False".to_owned(),
        Constant::Int(int) => int.to_string(),
        Constant::Float(float) => format!("{float:?}"),
        Constant::Str(text) => format!("{text:?}"),
        Constant::Bytes(bytes) => format!("b\"{}\"", bytes.escape_ascii()),
        Constant::Other => "...".to_owned(),
    }
}

fn argument(arg: &Arg, symbols: &Symbols) -> String {
    match arg.kind {
        ArgKind::Positional => value(arg.value),
        ArgKind::Keyword(name) => format!("{}={}", symbols.text(name), value(arg.value)),
        ArgKind::Star => format!("*{}", value(arg.value)),
        ArgKind::DoubleStar => format!("**{}", value(arg.value)),
    }
}

fn item(item: Item) -> String {
    match item {
        Item::One(id) => value(id),
        Item::Starred(id) => format!("*{}", value(id)),
    }
}

fn piece(piece: &Piece) -> String {
    match piece {
        Piece::Text(text) => format!("{text:?}"),
        Piece::Value { value: id, repr: false, spec } if spec.is_empty() => value(*id),
        Piece::Value { value: id, repr, spec } => {
            format!("{}{}:{spec}", value(*id), if *repr { "!r" } else { "" })
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::{ir, python};

    fn check(source: &str, expected: &str) {
        let module = python::lower(None, &python::parse(source));
        assert_eq!(ir::verify::module(&module), Ok(()));
        assert_eq!(super::module(&module), expected);
    }

    #[test]
    fn the_example_of_the_essay() {
        let expected = r#"function 0 <module>
b0:
  v0 = builtin input
  v1 = call v0()
  v2 = "admin"
  v3 = v1 notequal v2
  branch v3 b2 b3
b1:
  v6 = phi b2:v4 b3:v1
  v5 = builtin print
  v7 = call v5(v6)
  v8 = None
  return v8
b2:
  v4 = "guest"
  jump b1
b3:
  jump b1
"#;
        check("name = input()\nif name != 'admin':\n    name = 'guest'\nprint(name)\n", expected);
    }

    #[test]
    fn a_loop_and_a_closure() {
        let expected = "function 0 <module>
b0:
  v0 = closure 1
  v1 = None
  return v1
function 1 f
b0:
  v0 = param 0
  v1 = 0
  jump b1
b1:
  v3 = phi b0:v1 b2:v4
  for v0 b2 b3
b2:
  v2 = element v0
  v4 = add v3 v2
  jump b1
b3:
  jump b6
b6:
  return v3
";
        check("def f(xs):\n    n = 0\n    for x in xs:\n        n += x\n    return n\n", expected);
    }
}
