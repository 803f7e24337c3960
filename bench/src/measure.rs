//! Values of a case, and what is said about them.

use std::time::Instant;

/// One run's values: what was measured, and milliseconds (or MiB where the name says so).
pub(crate) type Values = Vec<(String, f64)>;

/// All values of one case on one side, in the order of their first appearance.
#[derive(Debug, Default)]
pub(crate) struct Results {
    /// Name and values.
    pub(crate) series: Vec<(String, Vec<f64>)>,
    /// Why the side gave up.
    pub(crate) error: Option<String>,
}

impl Results {
    /// Takes one run in.
    pub(crate) fn add(&mut self, values: Values) {
        for (name, value) in values {
            match self.series.iter_mut().find(|(n, _)| *n == name) {
                Some((_, all)) => all.push(value),
                None => self.series.push((name, vec![value])),
            }
        }
    }

    /// The values of that name.
    pub(crate) fn get(&self, name: &str) -> Option<&[f64]> {
        self.series
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, v)| v.as_slice())
    }
}

/// Median, smallest, largest; of nothing: `None`.
pub(crate) fn summary(values: &[f64]) -> Option<(f64, f64, f64)> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (first, last) = (*sorted.first()?, *sorted.last()?);
    let middle = sorted.len() / 2;
    let median = if sorted.len() % 2 == 1 {
        sorted[middle]
    } else {
        f64::midpoint(sorted[middle - 1], sorted[middle])
    };
    Some((median, first, last))
}

/// Milliseconds that `work` took, and what it gave.
pub(crate) fn timed<T>(work: impl FnOnce() -> T) -> (f64, T) {
    let start = Instant::now();
    let value = work();
    (start.elapsed().as_secs_f64() * 1e3, value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summary_is_median_smallest_and_largest() {
        for (values, expected) in [
            (&[][..], None),
            (&[3.0], Some((3.0, 3.0, 3.0))),
            (&[5.0, 1.0, 3.0], Some((3.0, 1.0, 5.0))),
            (&[4.0, 1.0, 3.0, 2.0], Some((2.5, 1.0, 4.0))),
        ] {
            assert_eq!(summary(values), expected, "{values:?}");
        }
    }
}
