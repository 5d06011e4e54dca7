//! Medians and quartiles, and ratios that are taken a round at a time.

/// Three quartiles and the ends of some figures.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Spread {
    pub(crate) min: f64,
    /// A quarter of the figures is at most this.
    pub(crate) lower: f64,
    pub(crate) median: f64,
    /// A quarter of the figures is at least this.
    pub(crate) upper: f64,
    pub(crate) max: f64,
}

impl Spread {
    /// The spread of some figures; none without figures, or where one of them is no number.
    pub(crate) fn of(figures: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut figures: Vec<f64> = figures.into_iter().collect();
        if figures.is_empty() || figures.iter().any(|figure| !figure.is_finite()) {
            return None;
        }
        figures.sort_by(f64::total_cmp);
        Some(Self {
            min: figures[0],
            lower: quantile(&figures, 0.25),
            median: quantile(&figures, 0.5),
            upper: quantile(&figures, 0.75),
            max: figures[figures.len() - 1],
        })
    }

    /// The spread of the ratios of two contestants, each taken inside its round. A round in which
    /// one of them has no figure does not count.
    pub(crate) fn of_ratios(ours: &[f64], theirs: &[f64]) -> Option<Self> {
        Self::of(ours.iter().zip(theirs).filter(|(_, theirs)| **theirs > 0.0).map(|(a, b)| a / b))
    }
}

/// The figure below which a share of the sorted figures lies, between two of them if need be.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let place = share * (sorted.len() - 1) as f64;
    let (below, above) = (place.floor() as usize, place.ceil() as usize);
    sorted[below] + (sorted[above] - sorted[below]) * (place - place.floor())
}

/// The mean of ratios: one that halves and one that doubles make none.
pub(crate) fn geometric_mean(ratios: &[f64]) -> Option<f64> {
    if ratios.is_empty() || ratios.iter().any(|ratio| !(ratio.is_finite() && *ratio > 0.0)) {
        return None;
    }
    Some((ratios.iter().map(|ratio| ratio.ln()).sum::<f64>() / ratios.len() as f64).exp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_odd_count_is_one_of_the_figures() {
        let spread = Spread::of([5.0, 1.0, 3.0, 2.0, 4.0]).unwrap();
        let Spread { min, lower, median, upper, max } = spread;
        assert_eq!([min, lower, median, upper, max], [1.0, 2.0, 3.0, 4.0, 5.0]);
    }

    #[test]
    fn the_median_of_an_even_count_lies_between_two() {
        let spread = Spread::of([4.0, 1.0, 2.0, 3.0]).unwrap();
        assert_eq!((spread.lower, spread.median, spread.upper), (1.75, 2.5, 3.25));
    }

    #[test]
    fn one_figure_is_its_own_spread_and_none_has_none() {
        let spread = Spread::of([7.0]).unwrap();
        assert_eq!((spread.min, spread.median, spread.max), (7.0, 7.0, 7.0));
        assert_eq!(Spread::of([]), None);
        assert_eq!(Spread::of([1.0, f64::NAN]), None);
    }

    #[test]
    fn a_ratio_is_taken_inside_its_round() {
        // The machine is twice as slow in the second round; both are, and the ratio does not show it.
        let ratio = Spread::of_ratios(&[10.0, 20.0, 10.0], &[20.0, 40.0, 20.0]).unwrap();
        assert_eq!((ratio.min, ratio.median, ratio.max), (0.5, 0.5, 0.5));
    }

    #[test]
    fn a_round_without_a_figure_does_not_count() {
        let ratio = Spread::of_ratios(&[1.0, 9.0], &[2.0, 0.0]).unwrap();
        assert_eq!((ratio.min, ratio.max), (0.5, 0.5));
        assert_eq!(Spread::of_ratios(&[1.0], &[]), None);
    }

    #[test]
    fn half_and_double_have_the_mean_one() {
        assert!((geometric_mean(&[0.5, 2.0]).unwrap() - 1.0).abs() < 1e-12);
        assert_eq!(geometric_mean(&[]), None);
        assert_eq!(geometric_mean(&[1.0, 0.0]), None);
    }
}
