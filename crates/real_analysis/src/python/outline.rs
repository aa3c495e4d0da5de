//! The shape of a program: what it defines and imports at the top, and which comments ask a judge to look away.

use ruff_python_ast::token::TokenKind;
use ruff_python_ast::{Expr, Stmt};
use ruff_text_size::Ranged;
use serde::Serialize;

use super::{Parsed, range_of};
use crate::finding::{Lines, Span};

/// What a program consists of, without running it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Outline {
    /// The whole text is syntactically valid Python.
    pub parsed: bool,
    /// Functions, classes and assigned names at the top level, and the methods of those classes (`Class.method`).
    pub items: Vec<OutlineItem>,
    /// Dotted paths of everything imported at any depth, in order, without repetition.
    pub imports: Vec<String>,
    /// Comments that tell a checker to look away: `type: ignore`, `mypy:`, `pyright:`, `noqa`, `nosec`, `pylint:`, `real:`.
    pub suppressions: Vec<Span>,
}

impl Outline {
    /// The last item of this name, which is the one that a caller gets.
    pub fn item(&self, name: &str) -> Option<&OutlineItem> {
        self.items.iter().rev().find(|item| item.name == name)
    }
}

/// Something defined.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OutlineItem {
    /// Name; `Class.method` for a method.
    pub name: String,
    /// What it is.
    pub kind: OutlineKind,
    /// The whole statement.
    pub span: Span,
    /// Every parameter (but `self` and `cls`) and the returned value have an annotation. False for other kinds.
    pub annotated: bool,
    /// The body does nothing: only docstrings, `pass` and `...`. False for variables.
    pub empty: bool,
}

/// What is defined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OutlineKind {
    /// `def`.
    Function,
    /// `async def`.
    AsyncFunction,
    /// `class`.
    Class,
    /// An assignment.
    Variable,
}

/// The outline of a program.
pub fn outline(source: &str) -> Outline {
    let parsed = super::parse(source);
    let lines = Lines::new(source);
    let mut outline = Outline { parsed: parsed.valid(), ..Outline::default() };
    for statement in parsed.statements() {
        add_items(statement, None, &lines, &mut outline.items);
    }
    collect_imports(parsed.statements(), &mut outline.imports);
    outline.suppressions = suppressions(&parsed, source, &lines);
    outline
}

fn add_items(statement: &Stmt, class: Option<&str>, lines: &Lines<'_>, items: &mut Vec<OutlineItem>) {
    let qualified = |name: &str| class.map_or_else(|| name.to_owned(), |class| format!("{class}.{name}"));
    let mut add = |name: &str, kind, annotated, empty| {
        items.push(OutlineItem {
            name: qualified(name),
            kind,
            span: lines.span(range_of(statement)),
            annotated,
            empty,
        });
    };
    match statement {
        Stmt::FunctionDef(function) => {
            let kind = if function.is_async { OutlineKind::AsyncFunction } else { OutlineKind::Function };
            let mut params = function.parameters.iter();
            if class.is_some() {
                params.next();
            }
            let annotated = function.returns.is_some() && params.all(|param| param.annotation().is_some());
            add(&function.name, kind, annotated, is_empty(&function.body));
        }
        Stmt::ClassDef(class) => {
            add(&class.name, OutlineKind::Class, false, is_empty(&class.body));
            for member in class.body.iter().filter(|member| matches!(member, Stmt::FunctionDef(_))) {
                add_items(member, Some(&class.name), lines, items);
            }
        }
        Stmt::Assign(assign) => {
            for target in &assign.targets {
                if let Expr::Name(name) = target {
                    add(&name.id, OutlineKind::Variable, false, false);
                }
            }
        }
        Stmt::AnnAssign(assign) => {
            if let (Expr::Name(name), Some(_)) = (&*assign.target, &assign.value) {
                add(&name.id, OutlineKind::Variable, false, false);
            }
        }
        _ => {}
    }
}

fn is_empty(body: &[Stmt]) -> bool {
    body.iter().all(|statement| match statement {
        Stmt::Pass(_) => true,
        Stmt::Expr(expression) => expression.value.is_literal_expr(),
        _ => false,
    })
}

fn collect_imports(statements: &[Stmt], imports: &mut Vec<String>) {
    let mut add = |path: String| {
        if !imports.contains(&path) {
            imports.push(path);
        }
    };
    for statement in statements {
        match statement {
            Stmt::Import(import) => import.names.iter().for_each(|alias| add(alias.name.to_string())),
            Stmt::ImportFrom(import) => {
                let dots = ".".repeat(import.level as usize);
                let module = import.module.as_ref().map_or("", |module| module.as_str());
                import.names.iter().for_each(|alias| add(format!("{dots}{module}.{}", alias.name)));
            }
            _ => super::scope::for_each_body(statement, &mut |body| {
                let mut inner = Vec::new();
                collect_imports(body, &mut inner);
                inner.into_iter().for_each(&mut add);
            }),
        }
    }
}

fn suppressions(parsed: &Parsed, source: &str, lines: &Lines<'_>) -> Vec<Span> {
    let comments = parsed.tokens().iter().filter(|token| token.kind() == TokenKind::Comment);
    comments
        .filter(|token| {
            source.get(token.start().to_usize()..token.end().to_usize()).is_some_and(is_suppression)
        })
        .map(|token| lines.span(range_of(*token)))
        .collect()
}

fn is_suppression(comment: &str) -> bool {
    let text = comment.trim_start_matches(['#', ' ', '\t']).to_ascii_lowercase();
    let directive = text.split([':', ' ', '[']).next().unwrap_or_default();
    match directive {
        "type" => text["type".len()..].trim_start_matches([':', ' ']).starts_with("ignore"),
        "noqa" | "nosec" => true,
        "real" => text[directive.len()..].trim_start_matches([':', ' ']).starts_with("ignore"),
        "mypy" | "pyright" | "pylint" | "ruff" | "flake8" => {
            text[directive.len()..].trim_start().starts_with(':')
        }
        _ => false,
    }
}
