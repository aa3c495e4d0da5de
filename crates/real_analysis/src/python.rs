//! The front end, and the only module that knows the parser's syntax tree.
//!
//! The parser recovers from syntax errors: statements that parse are kept and judged, and the text counts as invalid.
//! It also grows its own stack. Dropping a deep tree does not, so a tree that may be deep is dropped on a grown stack; and
//! lowering stops at a fixed depth, where it leaves an unknown value and marks the module as truncated.

mod expressions;
mod lower;
mod outline;
mod records;
mod scope;
mod statements;

pub(crate) use lower::lower;
pub use outline::{Outline, OutlineItem, OutlineKind, outline};

use ruff_python_ast::token::{TokenKind, Tokens};
use ruff_python_ast::{ModModule, Stmt};
use ruff_python_parser::{Mode, ParseOptions, parse_unchecked};
use ruff_text_size::Ranged;

use crate::ir::Range;

/// Bytes of stack that dropping one level of the tree takes, with a margin.
const DROP_FRAME: usize = 1024;
/// Nesting that the ordinary stack surely carries.
const SHALLOW: usize = 200;

/// A parsed text.
pub(crate) struct Parsed {
    /// `None` only while being dropped.
    module: Option<ruff_python_parser::Parsed<ModModule>>,
}

impl Parsed {
    fn tree(&self) -> &ruff_python_parser::Parsed<ModModule> {
        self.module.as_ref().expect("a parsed text has its tree until it is dropped")
    }

    pub(crate) fn valid(&self) -> bool {
        self.tree().errors().is_empty()
    }

    fn statements(&self) -> &[Stmt] {
        &self.tree().syntax().body
    }

    /// The place of every comment.
    pub(crate) fn comments(&self) -> impl Iterator<Item = Range> {
        self.tokens().iter().filter(|token| token.kind() == TokenKind::Comment).map(range_of)
    }

    fn tokens(&self) -> &Tokens {
        self.tree().tokens()
    }
}

impl Drop for Parsed {
    fn drop(&mut self) {
        let depth = nesting_bound(self.tokens());
        let tree = self.module.take();
        if depth <= SHALLOW {
            drop(tree);
        } else {
            stacker::grow(depth * DROP_FRAME, || drop(tree));
        }
    }
}

/// Parses a text that may be anything.
pub(crate) fn parse(source: &str) -> Parsed {
    let parsed = parse_unchecked(source, ParseOptions::from(Mode::Module));
    Parsed { module: parsed.try_into_module() }
}

/// An upper bound of the depth of the syntax tree.
///
/// Each bracket level counts the tokens since the last comma at that level, since operators, prefixes and suffixes nest
/// one level each: in `f(1, not not x)` the bound at `x` is 2 for `f(` plus 3 for `not not x`.
fn nesting_bound(tokens: &Tokens) -> usize {
    let (mut levels, mut sum, mut deepest) = (vec![0usize], 0usize, 0usize);
    let mut indentation = 0;
    for token in tokens {
        match token.kind() {
            TokenKind::Indent => indentation += 1,
            TokenKind::Dedent => indentation -= 1,
            TokenKind::Newline => {
                (levels, sum) = (vec![0], 0);
                continue;
            }
            TokenKind::Comma => {
                if let Some(level) = levels.last_mut() {
                    sum -= *level;
                    *level = 0;
                }
                continue;
            }
            TokenKind::Lpar | TokenKind::Lsqb | TokenKind::Lbrace | TokenKind::FStringStart => levels.push(0),
            TokenKind::Rpar | TokenKind::Rsqb | TokenKind::Rbrace | TokenKind::FStringEnd
                if levels.len() > 1 =>
            {
                sum -= levels.pop().unwrap_or_default();
            }
            _ => {}
        }
        if let Some(level) = levels.last_mut() {
            *level += 1;
            sum += 1;
        }
        deepest = deepest.max(sum + levels.len() + indentation);
    }
    deepest
}

fn range_of(node: impl Ranged) -> Range {
    Range { start: node.start().to_u32(), end: node.end().to_u32() }
}
