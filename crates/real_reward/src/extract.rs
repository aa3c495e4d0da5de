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

/// What was found in a completion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extraction {
    /// The program, if there is one. It ends with a newline unless it is empty.
    pub code: Option<String>,
    /// Closed blocks that are marked `python` or not marked.
    pub blocks: usize,
    /// The last block of code has no closing fence.
    pub truncated: bool,
}

/// Finds the program of a completion.
pub fn extract(completion: &str) -> Extraction {
    let text = normalise(completion);
    let mut marked: Option<String> = None;
    let mut unmarked: Option<String> = None;
    let mut blocks = 0;
    let mut open: Option<Block> = None;
    for line in text.lines() {
        match &mut open {
            None => open = Block::opened_by(line),
            Some(block) if block.is_closed_by(line) => {
                match block.language {
                    Language::Python => marked = Some(std::mem::take(&mut block.code)),
                    Language::Unmarked => unmarked = Some(std::mem::take(&mut block.code)),
                    Language::Other => {}
                }
                blocks += usize::from(block.language != Language::Other);
                open = None;
            }
            Some(block) => block.push(line),
        }
    }
    let truncated = open.is_some_and(|block| block.language != Language::Other);
    Extraction { code: marked.or(unmarked), blocks, truncated }
}

/// Takes a text that is a program already, such as a reference.
pub fn extract_raw(program: &str) -> Extraction {
    Extraction { code: Some(normalise(program)), blocks: 1, truncated: false }
}

fn normalise(text: &str) -> String {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    text.replace("\r\n", "\n").replace('\r', "\n")
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
        Some(Self { language, indent, ticks, code: String::new() })
    }

    fn is_closed_by(&self, line: &str) -> bool {
        fence(line).is_some_and(|(_, ticks, rest)| ticks >= self.ticks && rest.is_empty())
    }

    fn push(&mut self, line: &str) {
        let blanks = line.bytes().take(self.indent).take_while(|byte| *byte == b' ').count();
        self.code.push_str(&line[blanks..]);
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
        let expected = Extraction { code: code.map(str::to_owned), blocks, truncated };
        assert_eq!(extract(completion), expected, "{completion:?}");
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
