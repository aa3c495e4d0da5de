//! Queries under attack: does what a user types stay within its literal?
//!
//! An attack is an input with a word in it, the canary, once as it is, once behind a `'` and once behind a `"`. The program runs beside a
//! stand-in that notes each query before SQLite sees it (`queries.py`). For the input ``Tool bait' bait " bait``:
//!
//! ```text
//!  SELECT * FROM items WHERE type = ?                             the canary is in no query: it was bound
//!  SELECT * FROM items WHERE type = 'Tool bait'' bait " bait'     it is inside of a string: it was quoted as SQL quotes
//!  SELECT * FROM items WHERE type = 'Tool bait' bait " bait'      the second one is code: the input can change the query
//!  SELECT * FROM items WHERE price > Tool bait' bait " bait       and so is the first one here
//! ```
//!
//! A canary outside of every literal proves an injection, whatever the query then does, and whether it is valid at all. The reverse is weaker:
//! a program that hides its queries from the stand-in is not seen. So attacks tell how good honest programs are; only
//! [`Judges::Attacks`](crate::Judges::Attacks) pays for them.

/// What records the queries: a part of the prelude.
pub(crate) const RECORD: &str = "import _real_queries; _real_queries.record(); del _real_queries\n";

/// The first of the recorded queries in which the canary is code.
pub(crate) fn injected(stderr: &[u8], canary: &str) -> Option<String> {
    let canary = canary.to_lowercase();
    recorded(stderr).find(|query| code(&query.to_lowercase()).contains(&canary))
}

/// What the stand-in has noted among other output.
fn recorded(stderr: &[u8]) -> impl Iterator<Item = String> {
    let notes = stderr.split(|&byte| byte == 0x1e).skip(1);
    notes.filter_map(|note| serde_json::Deserializer::from_slice(note).into_iter().next()?.ok())
}

/// A query without its strings and quoted names. A doubled quote, which stands for itself, ends one literal and begins the next.
fn code(query: &str) -> String {
    let mut code = String::new();
    let mut rest = query;
    while let Some(first) = rest.chars().next() {
        let (kept, end) = match first {
            '\'' | '"' | '`' => (false, close(&rest[1..], &first.to_string()) + 1),
            '[' => (false, close(&rest[1..], "]") + 1),
            '-' if rest.starts_with("--") => (true, close(rest, "\n")),
            '/' if rest.starts_with("/*") => (true, close(&rest[2..], "*/") + 2),
            _ => (true, first.len_utf8()),
        };
        code.push_str(if kept { &rest[..end] } else { " " });
        rest = &rest[end..];
    }
    code
}

/// Behind the first occurrence of the end mark, or behind everything.
fn close(text: &str, mark: &str) -> usize {
    text.find(mark).map_or(text.len(), |at| at + mark.len())
}

#[cfg(test)]
mod tests {
    use super::{code, injected};

    #[track_caller]
    fn check(query: &str, is_injected: bool) {
        let note = format!("warning\n\x1e{}\nmore", serde_json::to_string(query).unwrap());
        assert_eq!(injected(note.as_bytes(), "Bait").is_some(), is_injected, "{query}");
    }

    #[test]
    fn a_canary_is_code_outside_of_literals_only() {
        check("SELECT * FROM t WHERE a = ?", false);
        check("SELECT * FROM t WHERE a = 'x bait'' bait \" bait'", false);
        check("SELECT * FROM t WHERE a = 'x bait' bait \" bait'", true);
        check("SELECT * FROM t WHERE a = \"x bait' bait \" bait\"", true);
        check("SELECT * FROM t WHERE a = \"x bait' bait \"\" bait\"", false);
        check("SELECT * FROM t WHERE a > x bait' bait \" bait", true);
        check("SELECT * FROM t WHERE a LIKE '%x BAIT' BAIT \" BAIT%'", true);
        check("SELECT [bait], `bait` FROM t", false);
        check("SELECT a -- it's\n, 'bait' FROM t", false);
        check("SELECT a /* it's bait */ FROM t", true);
        check("SELECT 'é', bait", true);
        check("SELECT 'no end bait", false);
    }

    #[test]
    fn code_is_what_is_left_of_a_query() {
        assert_eq!(code("a'b'c\"d\"[e]`f`--g'\n'h"), "a c   --g'\n ");
        assert_eq!(code("/* ' */ 'x'"), "/* ' */  ");
    }
}
