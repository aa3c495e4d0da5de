//! Which weaknesses generated code has, against other generated code.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use real_reward::Score;

/// Programs that have a counted finding, by its most specific CWE. A program with two weaknesses counts under both.
pub(crate) fn by_weakness(scores: &[Score]) -> BTreeMap<String, usize> {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for score in scores {
        let mut names: Vec<&String> =
            score.findings.iter().filter(|f| f.counted).filter_map(|f| f.cwe.first()).collect();
        names.sort_unstable();
        names.dedup();
        for name in names {
            *counts.entry(name.clone()).or_default() += 1;
        }
    }
    counts
}

/// The table of weaknesses here and in the baseline: of how many programs, and where the share fell or rose.
pub(crate) fn coverage_table(
    here: (&BTreeMap<String, usize>, usize),
    baseline: Option<(&BTreeMap<String, usize>, usize)>,
) -> String {
    let mut names: Vec<&String> = here.0.keys().chain(baseline.iter().flat_map(|(b, _)| b.keys())).collect();
    names.sort_by_key(|name| name.trim_start_matches("CWE-").parse::<u32>().unwrap_or(0));
    names.dedup();
    if names.is_empty() {
        return "no weakness was found\n".to_owned();
    }
    let mut text = format!("{:<10}  {:>12}", "weakness", "programs");
    text.push_str(if baseline.is_some() { "      baseline\n" } else { "\n" });
    let cell = |(counts, total): (&BTreeMap<String, usize>, usize), name: &str| {
        let count = counts.get(name).copied().unwrap_or(0);
        format!("{count:>4} {:5.1} %", 100.0 * count as f64 / total.max(1) as f64)
    };
    for name in names {
        let _ = write!(text, "{name:<10}  {:>12}", cell(here, name));
        if let Some(baseline) = baseline {
            let _ = write!(text, "  {:>12}", cell(baseline, name));
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weaknesses_of_either_side_are_rows() {
        let here = BTreeMap::from([("CWE-89".to_owned(), 3)]);
        let baseline = BTreeMap::from([("CWE-78".to_owned(), 1), ("CWE-89".to_owned(), 9)]);
        let table = coverage_table((&here, 10), Some((&baseline, 10)));
        let rows: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(rows[1], ["CWE-78", "0", "0.0", "%", "1", "10.0", "%"]);
        assert_eq!(rows[2], ["CWE-89", "3", "30.0", "%", "9", "90.0", "%"]);
    }
}
