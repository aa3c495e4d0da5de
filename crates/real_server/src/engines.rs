//! The wire formats of other engines. Each file says what its engine sends, what it does with an error, and so what an outage becomes.

pub(crate) mod nemo_gym;
pub(crate) mod open_instruct;
pub(crate) mod openrlhf;
pub(crate) mod sandbox_fusion;
pub(crate) mod slime;

/// The text of a response without the special tokens at its end (`<|im_end|>`, `</s>`, …), which some engines keep: they would stand on the line
/// that closes the code.
fn without_special_tokens(response: &str) -> &str {
    let mut text = response.trim_end();
    while let Some(open) = text.rfind('<')
        && is_special(&text[open..])
    {
        text = text[..open].trim_end();
    }
    text
}

fn is_special(tail: &str) -> bool {
    let inner = tail.strip_prefix('<').and_then(|tail| tail.strip_suffix('>')).unwrap_or("");
    matches!(inner, "/s" | "eos" | "pad" | "end_of_turn")
        || (inner.len() > 2
            && inner.starts_with('|')
            && inner.ends_with('|')
            && !inner.contains(char::is_whitespace))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn special_tokens_go_and_code_stays() {
        for (response, text) in [
            ("```python\nx\n```<|im_end|>", "```python\nx\n```"),
            ("```python\nx\n```<|im_end|>\n<|endoftext|>", "```python\nx\n```"),
            ("x</s>", "x"),
            ("<end_of_turn>", ""),
            ("x = '<b>'", "x = '<b>'"),
            ("a <|> b", "a <|> b"),
            ("<div>", "<div>"),
        ] {
            assert_eq!(without_special_tokens(response), text);
        }
    }
}
