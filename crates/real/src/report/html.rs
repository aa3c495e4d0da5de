//! Pieces of HTML. Whatever is not made here by us goes through [`escape`].

use std::fmt::Write as _;

use crate::evaluation::Rate;

const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("script.js");

/// A page: what stands around the content.
#[derive(Debug)]
pub(super) struct Page {
    /// The title of the window.
    pub title: String,
    /// Sections, in order: the fragment that names it, its heading, and its content.
    pub sections: Vec<(&'static str, &'static str, String)>,
    /// What stands above the sections.
    pub head: String,
    /// Load again after so many seconds, for what is not finished.
    pub refresh: Option<u32>,
}

impl Page {
    /// The whole document. It needs nothing but itself.
    pub(super) fn render(&self) -> String {
        let sections: Vec<_> = self.sections.iter().filter(|(_, _, content)| !content.is_empty()).collect();
        let mut links = String::new();
        let mut body = String::new();
        for (id, heading, content) in &sections {
            let _ = write!(links, "<a href=\"#{id}\">{heading}</a>");
            let _ = write!(body, "<section id=\"{id}\"><h2>{heading}</h2>{content}</section>");
        }
        let refresh = self
            .refresh
            .map(|seconds| format!("<meta http-equiv=\"refresh\" content=\"{seconds}\">"))
            .unwrap_or_default();
        format!(
            "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
             <meta name=\"color-scheme\" content=\"light dark\">{refresh}\
             <link rel=\"icon\" href=\"data:,\"><title>{title}</title><style>{STYLE}</style></head>\n<body>\
             <header>{head}</header><nav aria-label=\"Sections\">{links}\
             <button type=\"button\" id=\"theme\" aria-label=\"Light or dark\">◐</button></nav>\
             <main>{body}</main><footer>Written by <code>real report</code> {version}.</footer>\
             <script>{SCRIPT}</script></body></html>\n",
            title = escape(&self.title),
            head = self.head,
            version = env!("CARGO_PKG_VERSION"),
        )
    }
}

/// Text as HTML, fit for an attribute too.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

/// `84 %`: whole percent, as no run here has tasks enough for a decimal.
pub(super) fn percent(fraction: f64) -> String {
    format!("{:.0}\u{202f}%", 100.0 * fraction)
}

/// `77–90 %`
pub(super) fn interval(rate: &Rate) -> String {
    format!("{:.0}–{}", 100.0 * rate.low, percent(rate.high))
}

/// A number as a person would write it.
pub(super) fn number(value: f64) -> String {
    let size = value.abs();
    match value {
        _ if value == 0.0 => "0".to_owned(),
        _ if !value.is_finite() => "–".to_owned(),
        _ if size >= 1000.0 => grouped(value.round() as i64),
        _ if size >= 100.0 => format!("{value:.0}"),
        _ if size >= 10.0 => trimmed(&format!("{value:.1}")),
        _ if size >= 0.01 => trimmed(&format!("{value:.3}")),
        _ => format!("{value:.1e}"),
    }
}

/// `12 000`: thousands apart, by a narrow space that does not break.
pub(super) fn grouped(value: i64) -> String {
    let digits = value.unsigned_abs().to_string();
    let mut text = if value < 0 { "−".to_owned() } else { String::new() };
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) && digits.len() > 4 {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

fn trimmed(decimal: &str) -> String {
    decimal.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// `4 min 20 s`
pub(super) fn duration(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    match (whole / 3600, whole / 60 % 60, whole % 60) {
        (0, 0, s) => format!("{s}\u{202f}s"),
        (0, m, s) => format!("{m}\u{202f}min {s}\u{202f}s"),
        (h, m, _) => format!("{h}\u{202f}h {m}\u{202f}min"),
    }
}

/// `3 tasks`, `1 task`
pub(super) fn counted(count: usize, noun: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{} {noun}{plural}", grouped(count as i64))
}

/// A link to the programs that a query chooses.
pub(super) fn programs(query: &str, content: &str) -> String {
    format!("<a href=\"#programs\" data-query=\"{}\">{content}</a>", escape(query))
}

/// A table that sorts by any column. Cells are HTML; a cell may bring the number it sorts by.
pub(super) fn table(headings: &[&str], rows: &[Vec<Cell>]) -> String {
    let mut html = "<div class=\"scroll\"><table class=\"sortable\"><thead><tr>".to_owned();
    for heading in headings {
        let _ = write!(html, "<th scope=\"col\"><button type=\"button\">{heading}</button></th>");
    }
    html.push_str("</tr></thead><tbody>");
    for row in rows {
        html.push_str("<tr>");
        for cell in row {
            html.push_str(&cell.render());
        }
        html.push_str("</tr>");
    }
    html + "</tbody></table></div>"
}

/// A cell of a table.
#[derive(Debug, Clone)]
pub(super) struct Cell {
    content: String,
    order: Option<f64>,
    /// Between 0 and 1: how strongly it is coloured.
    heat: Option<f64>,
}

impl Cell {
    /// A cell that sorts by its text.
    pub(super) fn text(content: impl Into<String>) -> Self {
        Self { content: content.into(), order: None, heat: None }
    }

    /// A cell that sorts by a number.
    pub(super) fn number(order: f64, content: impl Into<String>) -> Self {
        Self { content: content.into(), order: Some(order), heat: None }
    }

    /// The same cell, coloured by a fraction.
    pub(super) fn heat(self, fraction: f64) -> Self {
        Self { heat: Some(fraction), ..self }
    }

    fn render(&self) -> String {
        let order = self.order.map(|n| format!(" class=\"n\" data-order=\"{n}\"")).unwrap_or_default();
        let heat = self
            .heat
            .map(|fraction| format!(" style=\"--heat:{:.0}%\" data-heat", 100.0 * fraction))
            .unwrap_or_default();
        format!("<td{order}{heat}>{}</td>", self.content)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        for (value, text) in [
            (0.0, "0"),
            (12345.6, "12\u{202f}346"),
            (1234.0, "1234"),
            (123.4, "123"),
            (12.34, "12.3"),
            (1.5, "1.5"),
            (0.25, "0.25"),
            (0.00002, "2.0e-5"),
            (f64::NAN, "–"),
        ] {
            assert_eq!(number(value), text);
        }
        assert_eq!(duration(59.6), "1\u{202f}min 0\u{202f}s");
        assert_eq!(counted(1, "task"), "1 task");
    }

    #[test]
    fn markup_in_text_is_text() {
        assert_eq!(escape("<a href='x'>\"&"), "&lt;a href=&#39;x&#39;&gt;&quot;&amp;");
        let page = Page {
            title: "<script>".to_owned(),
            sections: vec![("a", "A", "x".to_owned()), ("b", "B", String::new())],
            head: String::new(),
            refresh: None,
        };
        let html = page.render();
        assert!(html.contains("<title>&lt;script&gt;</title>"));
        assert!(html.contains("id=\"a\"") && !html.contains("id=\"b\""), "empty sections are left out");
    }
}
