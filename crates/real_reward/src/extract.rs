//! From a completion to the one program that every judge sees.
//!
//! The program is the content of the last closed code block that is marked `python`; where no block is marked so, of the last closed
//! block without a mark. A fence is a line of its own, as in Markdown: at most three blanks, at least three backticks, and for the
//! opening one a mark. So this answer, whose program prints a fence, has one block, of one line:
//!
//! ````text
//! Here it is:
//! ```python
//! print("```python")
//! ```
//! It prints a fence.
//! ````
//!
//! A block that is still open at the end was cut off by the length limit. It is no program (half a function may well parse), and it
//! is reported as [`Extraction::truncated`].
//!
//! The text is normalised once, here, so that all judges count the same lines: `\r\n` and `\r` become `\n`, and a byte-order mark goes.
//! Where each line of the program begins in the completion is remembered, for findings to point there.

use crate::FindingRecord;

/// What was found in a completion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extraction {
    /// The program, if there is one. It ends with a newline unless it is empty.
    pub code: Option<String>,
    /// Closed blocks that are marked `python` or not marked.
    pub blocks: usize,
    /// The last block of code has no closing fence.
    pub truncated: bool,
    /// Where each line of the program begins in the completion, in characters, and where the last one ends.
    pub lines: Vec<usize>,
}

impl Extraction {
    /// The place of a finding in the completion: the first character and the one after the last.
    pub(crate) fn span(&self, finding: &FindingRecord) -> [usize; 2] {
        let end = self.lines.last().copied().unwrap_or(0);
        let place = |line: u32, column: u32| {
            let start = self.lines.get(line.saturating_sub(1) as usize).copied().unwrap_or(end);
            (start + column.saturating_sub(1) as usize).min(end)
        };
        let start = place(finding.line, finding.column);
        [start, place(finding.end_line, finding.end_column).max(start)]
    }
}

/// A line of a completion, without its end.
struct Line<'a> {
    text: &'a str,
    /// Characters before it.
    start: usize,
    /// Characters before the next one.
    end: usize,
}

/// Lines that end with `\n`, `\r\n` or `\r`.
fn lines(completion: &str) -> impl Iterator<Item = Line<'_>> {
    let bare = completion.strip_prefix('\u{feff}').unwrap_or(completion);
    let mut start = usize::from(bare.len() < completion.len());
    let mut rest = bare;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let length = rest.find(['\n', '\r']).unwrap_or(rest.len());
        let (text, after) = rest.split_at(length);
        let ending = if after.starts_with("\r\n") { 2 } else { after.len().min(1) };
        let end = start + text.chars().count() + ending;
        let line = Line { text, start, end };
        (start, rest) = (end, &after[ending..]);
        Some(line)
    })
}

/// Finds the program of a completion.
pub fn extract(completion: &str) -> Extraction {
    let mut marked: Option<Block> = None;
    let mut unmarked: Option<Block> = None;
    let mut blocks = 0;
    let mut open: Option<Block> = None;
    for line in lines(completion) {
        match open.take() {
            None => open = Block::opened_by(line.text),
            Some(mut block) if block.is_closed_by(line.text) => {
                blocks += usize::from(block.language != Language::Other);
                block.lines.push(line.start);
                match block.language {
                    Language::Python => marked = Some(block),
                    Language::Unmarked => unmarked = Some(block),
                    Language::Other => {}
                }
            }
            Some(mut block) => {
                block.push(&line);
                open = Some(block);
            }
        }
    }
    let truncated = open.is_some_and(|block| block.language != Language::Other);
    let (code, lines) = marked.or(unmarked).map(|block| (block.code, block.lines)).unzip();
    Extraction { code, blocks, truncated, lines: lines.unwrap_or_default() }
}

/// Takes a text that is a program already, such as a reference.
pub fn extract_raw(program: &str) -> Extraction {
    let mut code = String::with_capacity(program.len());
    let mut starts = Vec::new();
    let mut end = 0;
    for line in lines(program) {
        code.push_str(line.text);
        if line.end > line.start + line.text.chars().count() {
            code.push('\n');
        }
        starts.push(line.start);
        end = line.end;
    }
    starts.push(end);
    Extraction { code: Some(code), blocks: 1, truncated: false, lines: starts }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Language {
    Python,
    Unmarked,
    Other,
}

struct Block {
    language: Language,
    /// Blanks before the opening fence; as many are taken from each line.
    indent: usize,
    /// Backticks of the opening fence; the closing one has at least as many.
    ticks: usize,
    code: String,
    lines: Vec<usize>,
}

impl Block {
    fn opened_by(line: &str) -> Option<Self> {
        let (indent, ticks, rest) = fence(line)?;
        if rest.contains('`') {
            return None;
        }
        let mark =
            rest.split(|c: char| c.is_whitespace() || matches!(c, '{' | ',' | ':')).next().unwrap_or("");
        let language = match mark.to_ascii_lowercase().as_str() {
            "python" | "py" | "python3" => Language::Python,
            "" => Language::Unmarked,
            _ => Language::Other,
        };
        Some(Self { language, indent, ticks, code: String::new(), lines: Vec::new() })
    }

    fn is_closed_by(&self, line: &str) -> bool {
        fence(line).is_some_and(|(_, ticks, rest)| ticks >= self.ticks && rest.is_empty())
    }

    fn push(&mut self, line: &Line<'_>) {
        let blanks = line.text.bytes().take(self.indent).take_while(|byte| *byte == b' ').count();
        self.lines.push(line.start + blanks);
        self.code.push_str(&line.text[blanks..]);
        self.code.push('\n');
    }
}

/// Indentation, number of backticks, and the trimmed rest of a line that is a fence.
fn fence(line: &str) -> Option<(usize, usize, &str)> {
    let unindented = line.trim_start_matches(' ');
    let indent = line.len() - unindented.len();
    let rest = unindented.trim_start_matches('`');
    let ticks = unindented.len() - rest.len();
    (indent <= 3 && ticks >= 3).then(|| (indent, ticks, rest.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(completion: &str, code: Option<&str>, blocks: usize, truncated: bool) {
        let found = extract(completion);
        assert_eq!(
            (found.code.as_deref(), found.blocks, found.truncated),
            (code, blocks, truncated),
            "{completion:?}"
        );
        // Each line stands where it is said to stand.
        let characters: Vec<char> = completion.chars().collect();
        for (line, start) in found.code.as_deref().unwrap_or("").lines().zip(&found.lines) {
            let there: String = characters[*start..].iter().take(line.chars().count()).collect();
            assert_eq!(there, line, "{completion:?}");
        }
        assert_eq!(found.lines.len(), code.map_or(0, |code| code.lines().count() + 1), "{completion:?}");
    }

    #[test]
    fn the_last_closed_python_block_is_the_program() {
        check("```python\nx = 1\n```", Some("x = 1\n"), 1, false);
        check("So:\n\n```py\nx = 1\n```\nDone.", Some("x = 1\n"), 1, false);
        check("```Python3 title\nx = 1\n```", Some("x = 1\n"), 1, false);
        check("```python\nold\n```\n```python\nnew\n```\n", Some("new\n"), 2, false);
        check("```\nx = 1\n```", Some("x = 1\n"), 1, false);
        check("```python\nx = 1\n```\nOutput:\n```\n1\n```", Some("x = 1\n"), 2, false);
        check("```python\nx = 1\n```\n```bash\nls\n```", Some("x = 1\n"), 1, false);
        check("```python\n```", Some(""), 1, false);
    }

    #[test]
    fn no_closed_block_is_no_program() {
        check("", None, 0, false);
        check("x = 1", None, 0, false);
        check("`x = 1`", None, 0, false);
        check("```bash\nls\n```", None, 0, false);
        check("```python\nx = 1\n", None, 0, true);
        check("```python\nx = 1\n```\nBetter:\n```python\nx = ", Some("x = 1\n"), 1, true);
        check("```python x = 1```", None, 0, false);
    }

    #[test]
    fn fences_are_lines() {
        check("```python\nprint('```python')\n```", Some("print('```python')\n"), 1, false);
        check("```python\ns = '''\n    ```\n'''\n```", Some("s = '''\n    ```\n'''\n"), 1, false);
        check("````python\ns = '''\n```\n'''\n````", Some("s = '''\n```\n'''\n"), 1, false);
        check("1. Like so:\n   ```python\n   if x:\n       y\n   ```", Some("if x:\n    y\n"), 1, false);
        check("text ```python\nx = 1\n```", None, 0, true);
        check("```python\nx = 1\n``` trailing\n```", Some("x = 1\n``` trailing\n"), 1, false);
    }

    #[test]
    fn every_judge_counts_the_same_lines() {
        check("```python\r\nx = 1\r\ny = 2\r\n```\r\n", Some("x = 1\ny = 2\n"), 1, false);
        check("```python\nx = 1\ry = 2\n```", Some("x = 1\ny = 2\n"), 1, false);
        check("\u{feff}```python\nx\u{0} = 1\n```", Some("x\u{0} = 1\n"), 1, false);
        assert_eq!(extract_raw("\u{feff}x = 1\r\n").code.as_deref(), Some("x = 1\n"));
    }
}
