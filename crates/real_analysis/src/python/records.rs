//! `Point = namedtuple("Point", "x y")`: a class that no class statement makes.

use ruff_python_ast::{Expr, ExprCall};

use super::lower::{Lowering, annotation, dotted};
use super::range_of;
use super::scope::Bindings;
use crate::ir::{Annotation, Class, ClassId, FunctionId, FunctionKind, Op, ValueId};

/// Functions that make a class of a name and fields.
const MAKERS: &[&str] = &["collections.namedtuple", "typing.NamedTuple", "dataclasses.make_dataclass"];

impl<'a> Lowering<'a> {
    /// The class that a call makes, if its fields can be read.
    pub(super) fn record(&mut self, expression: &'a Expr) -> Option<ValueId> {
        let Expr::Call(call) = expression else { return None };
        if !MAKERS.contains(&&*self.imported_path(&call.func)?) {
            return None;
        }
        let fields = fields(call)?;
        let fields = fields.into_iter().map(|(name, kind)| (self.symbol(&name), kind)).collect();
        let Expr::StringLiteral(name) = call.arguments.args.first()? else { return None };
        let name = self.symbol(name.value.to_str());
        let class = ClassId(self.module.classes.len() as u32);
        self.module.classes.push(Class { name, body: FunctionId(0), fields });
        let body = self.open(name, FunctionKind::ClassBody, Bindings::default());
        self.builder().function.class = Some(class);
        self.module.classes[class.index()].body = body;
        self.close();
        Some(self.push(Op::ClassObject { class, bases: Vec::new() }, range_of(expression)))
    }

    /// A dotted name with what its first part was imported as.
    pub(super) fn imported_path(&self, expression: &Expr) -> Option<String> {
        let path = dotted(expression)?;
        let (root, rest) = path.split_once('.').map_or((&*path, None), |(root, rest)| (root, Some(rest)));
        let imported = self.imports.get(root)?;
        Some(rest.map_or_else(|| imported.clone(), |rest| format!("{imported}.{rest}")))
    }
}

/// `"x y"`, `"x, y"`, `["x", "y"]`, `[("x", int), ("y", int)]`.
fn fields(call: &ExprCall) -> Option<Vec<(String, Annotation)>> {
    let untyped = || Annotation::plain("");
    let items = match call.arguments.args.get(1)? {
        Expr::StringLiteral(names) => {
            let names = names.value.to_str().split([' ', ',', '\n']).filter(|name| !name.is_empty());
            return Some(names.map(|name| (name.to_owned(), untyped())).collect());
        }
        Expr::List(list) => &list.elts,
        Expr::Tuple(tuple) => &tuple.elts,
        _ => return None,
    };
    let field = |item: &Expr| match item {
        Expr::StringLiteral(name) => Some((name.value.to_str().to_owned(), untyped())),
        Expr::Tuple(pair) => match &pair.elts[..] {
            [Expr::StringLiteral(name), kind, ..] => Some((name.value.to_str().to_owned(), annotation(kind))),
            _ => None,
        },
        _ => None,
    };
    items.iter().map(field).collect()
}
