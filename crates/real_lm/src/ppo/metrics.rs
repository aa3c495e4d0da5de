//! Means of the figures of a step.

use std::collections::BTreeMap;

#[derive(Debug, Default)]
pub(super) struct Metrics {
    sums: BTreeMap<&'static str, (f64, usize)>,
}

impl Metrics {
    pub(super) fn add(&mut self, name: &'static str, value: f64) {
        let (sum, count) = self.sums.entry(name).or_default();
        *sum += value;
        *count += 1;
    }

    pub(super) fn merge(&mut self, other: Self) {
        for (name, (sum, count)) in other.sums {
            let (total, terms) = self.sums.entry(name).or_default();
            *total += sum;
            *terms += count;
        }
    }

    pub(super) fn finish(self) -> BTreeMap<&'static str, f64> {
        self.sums.into_iter().map(|(name, (sum, count))| (name, sum / count as f64)).collect()
    }
}
