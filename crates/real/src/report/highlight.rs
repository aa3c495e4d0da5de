//! Python source as HTML: a little colour, findings underlined, the steps of a flow numbered where they happen.
//!
//! Every character has a class from the lexer and perhaps a mark from a judge; runs of equal characters become one element.
//!
//! ```text
//!  name = input()①                       ① hostile data comes in
//!  os.system(②"ls " + name)              ② … and reaches the shell: underlined
//! ```

use std::collections::BTreeMap;
use std::fmt::Write as _;

use real_reward::Score;

use super::html::escape;

const KEYWORDS: [&str; 35] = [
    "False", "None", "True", "and", "as", "assert", "async", "await", "break", "class", "continue", "def",
    "del", "elif", "else", "except", "finally", "for", "from", "global", "if", "import", "in", "is",
    "lambda", "nonlocal", "not", "or", "pass", "raise", "return", "try", "while", "with", "yield",
];

/// What a character is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Plain,
    Keyword,
    Text,
    Comment,
}

/// What a judge says of a character; the later is the graver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Mark {
    None,
    /// A finding that does not count.
    Hint,
    TypeError,
    Finding,
}

/// The program as `<pre>`, with everything that its score says about places in it.
pub(super) fn code(program: &str, score: &Score) -> String {
    let lines: Vec<Vec<char>> = program.lines().map(|line| line.chars().collect()).collect();
    let kinds = lex(&lines);
    let marks = marks(&lines, score);
    let badges = badges(score);
    let mut html = "<pre class=\"code\"><code>".to_owned();
    for (row, line) in lines.iter().enumerate() {
        html.push_str("<span class=\"l\">");
        let mut start = 0;
        for column in 0..=line.len() {
            let badge = badges.get(&(row, column));
            let ends = column == line.len()
                || badge.is_some()
                || (kinds[row][column], marks[row][column]) != (kinds[row][start], marks[row][start]);
            if ends {
                run(&mut html, &line[start..column], kinds[row].get(start), marks[row].get(start));
                start = column;
            }
            if let Some(numbers) = badge {
                let _ = write!(html, "<b class=\"step\">{numbers}</b>");
            }
        }
        html.push_str("\n</span>");
    }
    html + "</code></pre>"
}

fn run(html: &mut String, text: &[char], kind: Option<&Kind>, mark: Option<&Mark>) {
    if text.is_empty() {
        return;
    }
    let text = escape(&text.iter().collect::<String>());
    let kind = match kind {
        Some(Kind::Keyword) => "k",
        Some(Kind::Text) => "s",
        Some(Kind::Comment) => "c",
        Some(Kind::Plain) | None => "",
    };
    let mark = match mark {
        Some(Mark::Finding) => "bad",
        Some(Mark::TypeError) => "typ",
        Some(Mark::Hint) => "hint",
        Some(Mark::None) | None => "",
    };
    match (kind, mark) {
        ("", "") => html.push_str(&text),
        _ => {
            let _ = write!(html, "<span class=\"{}\">{text}</span>", format!("{kind} {mark}").trim());
        }
    }
}

fn marks(lines: &[Vec<char>], score: &Score) -> Vec<Vec<Mark>> {
    let mut marks: Vec<Vec<Mark>> = lines.iter().map(|line| vec![Mark::None; line.len() + 1]).collect();
    let mut put = |row: usize, from: usize, to: usize, mark: Mark| {
        if let Some(line) = marks.get_mut(row) {
            let to = to.min(line.len().saturating_sub(1));
            for place in line.iter_mut().take(to).skip(from) {
                *place = mark.max(*place);
            }
        }
    };
    for finding in &score.findings {
        let mark = if finding.counted { Mark::Finding } else { Mark::Hint };
        let (first, last) = (finding.line as usize - 1, finding.end_line as usize - 1);
        for row in first..=last.max(first) {
            let indent =
                lines.get(row).map_or(0, |line| line.iter().take_while(|c| c.is_whitespace()).count());
            let from = if row == first { finding.column as usize - 1 } else { indent };
            let to = if row == last { finding.end_column as usize - 1 } else { usize::MAX };
            put(row, from, to, mark);
        }
    }
    for error in &score.type_errors {
        let (row, from) =
            ((error.line as usize).saturating_sub(1), (error.column as usize).saturating_sub(1));
        let word = lines.get(row).map_or(1, |line| {
            line.iter().skip(from).take_while(|c| c.is_alphanumeric() || **c == '_').count().max(1)
        });
        put(row, from, from + word, Mark::TypeError);
    }
    marks
}

/// The numbers of the steps of counted findings' flows, by where they stand.
fn badges(score: &Score) -> BTreeMap<(usize, usize), String> {
    let mut badges: BTreeMap<(usize, usize), String> = BTreeMap::new();
    let counted = score.findings.iter().filter(|finding| finding.counted);
    for (number, step) in counted.flat_map(|finding| &finding.flow).enumerate() {
        let place = ((step.line as usize).saturating_sub(1), (step.column as usize).saturating_sub(1));
        let text = badges.entry(place).or_default();
        let _ = write!(text, "{}{}", if text.is_empty() { "" } else { "," }, number + 1);
    }
    badges
}

fn lex(lines: &[Vec<char>]) -> Vec<Vec<Kind>> {
    let mut open: Option<char> = None;
    lines
        .iter()
        .map(|line| {
            let mut kinds = vec![Kind::Plain; line.len() + 1];
            let mut at = 0;
            while at < line.len() {
                let (length, kind) = token(&line[at..], &mut open);
                kinds[at..at + length].fill(kind);
                at += length;
            }
            kinds
        })
        .collect()
}

/// The token that a line goes on with. `open` is the quote of a string in triple quotes that has not ended.
fn token(rest: &[char], open: &mut Option<char>) -> (usize, Kind) {
    let first = rest[0];
    if let Some(quote) = *open {
        let closes = |at: &usize| rest[*at..].iter().take_while(|c| **c == quote).take(3).count() == 3;
        return match (0..rest.len()).find(closes) {
            Some(at) => {
                *open = None;
                (at + 3, Kind::Text)
            }
            None => (rest.len(), Kind::Text),
        };
    }
    match first {
        '#' => (rest.len(), Kind::Comment),
        '"' | '\'' if rest.starts_with(&[first; 3]) => {
            *open = Some(first);
            (3, Kind::Text)
        }
        '"' | '\'' => (string_length(rest), Kind::Text),
        _ if first.is_alphabetic() || first == '_' => {
            let length = rest.iter().take_while(|c| c.is_alphanumeric() || **c == '_').count();
            let word: String = rest[..length].iter().collect();
            let prefix = length <= 2 && rest.get(length).is_some_and(|c| matches!(c, '"' | '\''));
            let kind = match word.as_str() {
                word if KEYWORDS.contains(&word) => Kind::Keyword,
                _ if prefix => Kind::Text,
                _ => Kind::Plain,
            };
            (length, kind)
        }
        _ => (1, Kind::Plain),
    }
}

fn string_length(rest: &[char]) -> usize {
    let mut is_escaped = false;
    for (at, c) in rest.iter().enumerate().skip(1) {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            c if *c == rest[0] => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blank() -> Score {
        Score::outage("t", 0, "")
    }

    #[test]
    fn strings_comments_and_keywords_have_classes() {
        let html = code("def f():  # it's\n    return f\"<b>\" + '''a\n# b''' + x\n", &blank());
        for part in [
            "<span class=\"k\">def</span> f():  <span class=\"c\"># it&#39;s</span>",
            "<span class=\"s\">f&quot;&lt;b&gt;&quot;</span>",
            "<span class=\"s\"># b&#39;&#39;&#39;</span> + x",
        ] {
            assert!(html.contains(part), "{part} is not in {html}");
        }
    }

    #[test]
    fn a_finding_is_underlined_and_its_flow_numbered() {
        let finding = serde_json::json!({
            "rule": "command-injection", "cwe": ["CWE-78"], "message": "m", "confidence": 0.9, "counted": true,
            "line": 2, "column": 1, "end_line": 2, "end_column": 5, "span": [12, 16],
            "flow": [{"line": 1, "column": 5, "message": "in"}, {"line": 2, "column": 1, "message": "out"}],
        });
        let score = Score { findings: vec![serde_json::from_value(finding).unwrap()], ..blank() };
        let html = code("x = input()\nrun(x)\n", &score);
        assert!(html.contains("x = <b class=\"step\">1</b>input()"), "{html}");
        assert!(html.contains("<b class=\"step\">2</b><span class=\"bad\">run(</span>x)"), "{html}");
    }
}
