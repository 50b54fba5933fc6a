//! Compares the response times for A's id and for a random id.
//!
//! The bound is meant to be reached only by a real difference. A field fails if, in two independent series, the
//! Mann–Whitney test rejects that both times have the same distribution with |z| > 6 (by chance: 2 of 10⁹ series, so
//! also with hundreds of fields practically never), and the medians differ by more than 10 % and more than 0.2 ms. The
//! second condition ignores differences that no client can use over a network.

use std::time::Duration;

/// The least z value of the Mann–Whitney test that counts as a difference.
const MAX_Z: f64 = 6.0;
/// The least difference of the medians that counts.
const MIN_DIFFERENCE: Duration = Duration::from_micros(200);
/// The least difference of the medians that counts, as a fraction of the smaller one.
const MIN_FRACTION: f64 = 0.1;

/// The times of a field.
#[derive(Clone, Debug, Default)]
pub struct Series {
    /// The times for the id of A.
    pub real: Vec<Duration>,
    /// The times for a random id.
    pub random: Vec<Duration>,
}

/// The comparison of two series of times.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Timing {
    /// The number of requests with each id.
    pub samples: usize,
    /// The median time for the id of A.
    pub real: Duration,
    /// The median time for a random id.
    pub random: Duration,
    /// The z value of the Mann–Whitney test.
    pub z: f64,
}

impl Timing {
    /// Whether the times differ beyond the bound.
    #[must_use]
    pub fn differs(&self) -> bool {
        let difference = self.real.abs_diff(self.random);
        let least = self.real.min(self.random).mul_f64(MIN_FRACTION);
        self.z.abs() > MAX_Z && difference > least.max(MIN_DIFFERENCE)
    }
}

impl Series {
    /// Compares the times.
    #[must_use]
    pub fn compare(&self) -> Timing {
        Timing {
            samples: self.real.len().min(self.random.len()),
            real: median(&self.real),
            random: median(&self.random),
            z: z_value(&self.real, &self.random),
        }
    }
}

fn median(times: &[Duration]) -> Duration {
    let mut times = times.to_vec();
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

/// The z value of the Mann–Whitney U test, with the normal approximation and the correction for ties.
#[expect(clippy::cast_precision_loss, reason = "the numbers are small")]
fn z_value(one: &[Duration], other: &[Duration]) -> f64 {
    let mut all: Vec<(Duration, bool)> = one.iter().map(|time| (*time, true)).collect();
    all.extend(other.iter().map(|time| (*time, false)));
    all.sort_unstable();
    let (m, n) = (one.len() as f64, other.len() as f64);
    let total = m + n;
    let (mut rank_sum, mut ties) = (0.0, 0.0);
    for group in all.chunk_by(|left, right| left.0 == right.0) {
        let start = all.partition_point(|(time, _)| *time < group[0].0) as f64;
        let size = group.len() as f64;
        let rank = start + f64::midpoint(1.0, size);
        rank_sum += rank * group.iter().filter(|(_, is_one)| *is_one).count() as f64;
        ties += size.powi(3) - size;
    }
    let u = rank_sum - m * (m + 1.0) / 2.0;
    let variance = m * n / 12.0 * (total + 1.0 - ties / (total * (total - 1.0)));
    if variance > 0.0 {
        (u - m * n / 2.0) / variance.sqrt()
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(times: impl IntoIterator<Item = u64>) -> Vec<Duration> {
        times.into_iter().map(Duration::from_millis).collect()
    }

    #[test]
    fn the_z_value_is_that_of_the_textbook() {
        // Without ties: U = 3 of 25, so z = (3 - 12.5) / sqrt(25 * 11 / 12).
        let z = z_value(&millis([1, 2, 3, 4, 8]), &millis([5, 6, 7, 9, 10]));
        assert!(
            (z - (3.0 - 12.5) / (275.0_f64 / 12.0).sqrt()).abs() < 1e-9,
            "{z}"
        );
        let equal = z_value(&millis([1, 2, 3]), &millis([1, 2, 3]));
        assert!(equal.abs() < 1e-9, "{equal}");
        assert!(z_value(&millis([1; 5]), &millis([1; 5])).abs() < 1e-9);
    }

    #[test]
    fn only_a_clear_and_noticeable_difference_is_beyond_the_bound() {
        let series = |shift: u64| Series {
            real: (0..100)
                .map(|n| Duration::from_micros(1_000 + n + shift))
                .collect(),
            random: (0..100).map(|n| Duration::from_micros(1_000 + n)).collect(),
        };
        assert!(!series(0).compare().differs());
        // Certain, but below 10 % and 0.2 ms.
        assert!(series(90).compare().z > MAX_Z);
        assert!(!series(90).compare().differs());
        assert!(series(500).compare().differs());
        // Noticeable, but with few samples not certain.
        let few = Series {
            real: millis([1, 9, 9]),
            random: millis([1, 1, 9]),
        };
        assert!(!few.compare().differs());
    }
}
