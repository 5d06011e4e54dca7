//! What has been earned by a time: a line that bends where the quota changes.
//!
//! Of the line only the *piece* that holds now is kept: it begins at a time with a number of units, goes up by a rate, and holds until
//! a time, at which somebody under the lock has to make the next. Whoever takes reads it without a lock, field by field, beside the
//! word; that it is whole is told by the word ([`word`](super::word)), of which no result is of use that was reckoned while
//! the piece changed.

use selvedge_primitives::atomic::{AtomicU64, Ordering};

use super::scale::{LONGEST, Scale, due, earned};
#[cfg(doc)]
use super::word::Word;

/// Where the count of units begins. Below it there is room for a deficit.
pub(crate) const BEGINNING: u64 = 1 << 59;
/// From here on it begins anew when the piece changes.
pub(crate) const ANEW: u64 = END - (1 << 56);
/// Where the piece has to change.
const END: u64 = 1 << 60;
/// The largest deficit beyond the burst, by late charges. It takes nine years to go away, or two at the highest rate.
pub(crate) const LARGEST_DEBT: u64 = 1 << 58;

/// A piece of the course.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Piece {
    /// When it begins, in nanoseconds of the limiter's clock.
    pub(crate) since: u64,
    /// What has been earned then.
    pub(crate) base: u64,
    /// How it goes up.
    pub(crate) scale: Scale,
    /// For how many nanoseconds it holds.
    pub(crate) lasts: u64,
    /// How many tokens there may be at once.
    pub(crate) burst: u32,
    /// The burst in units, so that who takes need not multiply.
    pub(crate) within: u64,
    /// How many units beyond the burst are not lost yet.
    pub(crate) slack: u64,
}

impl Piece {
    /// From `since` on, for as long as can be counted; without slack.
    pub(crate) fn new(scale: Scale, burst: u32, since: u64) -> Self {
        let within = u64::from(burst) * scale.unit;
        let this = Self { since, base: 0, scale, lasts: LONGEST, burst, within, slack: 0 };
        this.based(BEGINNING)
    }

    /// The same with so much earned at its beginning.
    pub(crate) fn based(self, base: u64) -> Self {
        let counted = self.scale.due(END.saturating_sub(base)).unwrap_or(LONGEST);
        Self { base, lasts: self.lasts.min(counted), ..self }
    }

    /// What has been earned at `now`. After its end it does not go up any more, and before its beginning neither.
    pub(crate) fn earned(&self, now: u64) -> u64 {
        self.base + self.scale.earned(now.saturating_sub(self.since).min(self.lasts))
    }

    /// What would have come by `now` since its end, if that is past, had it gone on.
    pub(crate) fn after(&self, now: u64) -> u64 {
        let end = self.since.saturating_add(self.lasts);
        self.scale.earned(now.saturating_sub(end).min(LONGEST))
    }

    /// Whether it does not hold any more.
    pub(crate) fn is_over(&self, now: u64) -> bool {
        now.saturating_sub(self.since) > self.lasts
    }

    /// How many units there may be at once.
    pub(crate) fn burst_units(&self) -> u64 {
        self.units(self.burst)
    }

    /// So many tokens in units; the most that can be told, if it is more, which is beyond any burst.
    pub(crate) fn units(&self, tokens: u32) -> u64 {
        u64::from(tokens).saturating_mul(self.scale.unit)
    }

    /// How much must have been earned for the last of `tokens` more, where so much is granted.
    pub(crate) fn needs(&self, granted: u64, tokens: u64) -> u64 {
        let units = tokens.saturating_mul(self.scale.unit);
        granted.saturating_add(units).saturating_sub(self.burst_units())
    }

    /// Below this, what has come is lost, with nobody in line.
    pub(crate) fn floor(&self, now: u64) -> u64 {
        self.earned(now).saturating_sub(self.slack)
    }

    /// So much may be granted in all.
    pub(crate) fn most(&self, now: u64) -> u64 {
        self.earned(now) + self.burst_units()
    }

    /// So many units in whole tokens. Without a limit, any number.
    pub(crate) fn tokens(&self, units: u64) -> u32 {
        let tokens = units.checked_div(self.scale.unit).unwrap_or(u64::MAX);
        u32::try_from(tokens).unwrap_or(u32::MAX)
    }

    /// When so much has been earned, on the limiter's clock, if this piece goes on. None if the clock has no such time.
    pub(crate) fn due(&self, earned: u64) -> Option<u64> {
        self.since.checked_add(self.scale.due(earned.saturating_sub(self.base))?)
    }

    /// When the last whole unit had come that had by `at`. From there on the same rate goes on without a loss.
    pub(crate) fn last_unit(&self, at: u64) -> u64 {
        self.due(self.earned(at)).unwrap_or(at).min(at)
    }
}

/// The piece that holds, for all to read. A line of the cache of its own: it is rarely written.
#[derive(Debug)]
#[repr(align(64))]
pub(crate) struct Course {
    /// See [`Piece`].
    since: AtomicU64,
    /// See [`Piece`].
    base: AtomicU64,
    /// Of the scale.
    unit: AtomicU64,
    /// Of the scale.
    multiplier: AtomicU64,
    /// The burst, and `behind` of the scale in the lowest [`BEHIND_BITS`].
    shape: AtomicU64,
    /// See [`Piece`].
    lasts: AtomicU64,
    /// See [`Piece`].
    within: AtomicU64,
    /// See [`Piece`].
    slack: AtomicU64,
}

/// As many bits as `behind` needs.
const BEHIND_BITS: u32 = 6;

/// What a look at the course says of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outlook {
    /// There is as much: it would be granted, and so much would have been in all.
    Granted(u64),
    /// There is not.
    Short(Lack),
    /// So many there never are at once.
    OverBurst,
    /// The piece is over.
    Over,
}

/// What a [glance](Course::glance) says of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Glance {
    /// As [`Outlook::Granted`].
    Granted(u64),
    /// As [`Outlook::Short`].
    Short {
        /// What is missing, and how it comes.
        lack: Lack,
        /// How many units.
        missing: u64,
    },
    /// To be looked at closely.
    Other,
}

/// What is missing for a request, and how it comes: enough to reckon when it will have come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lack {
    /// How much must have come since the piece began.
    needs: u64,
    /// How long ago that is, in nanoseconds.
    ago: u64,
    /// Of the scale.
    multiplier: u64,
    /// Of the scale.
    behind: u32,
}

impl Lack {
    /// How long it takes until `earned` is reached on this piece, from `now` on.
    pub(crate) fn new(piece: &Piece, earned: u64, now: u64) -> Self {
        let Scale { multiplier, behind, .. } = piece.scale;
        let needs = earned.saturating_sub(piece.base);
        Self { needs, ago: now.saturating_sub(piece.since), multiplier, behind }
    }

    /// Whether it takes longer than `span` nanoseconds: so it is missing, also if the clock is late by that.
    #[inline]
    pub(crate) fn is_beyond(&self, span: u64) -> bool {
        let come = earned(self.ago.saturating_add(span).min(LONGEST), self.multiplier, self.behind);
        self.needs.cast_signed() > come.cast_signed()
    }

    /// Whether it is of a time that is not after the piece began.
    #[inline(always)]
    pub(crate) fn is_early(&self) -> bool {
        self.ago == 0
    }

    /// Whether it may be of a clock that has gone back by more than `span` nanoseconds: more is missing than `units`, for which it is, and what comes in
    /// that span, which is more than a quota ever lacks, but for late charges; or it is of a time before the piece began.
    pub(crate) fn is_suspect(&self, units: u64, span: u64) -> bool {
        let come = earned(self.ago.saturating_add(span).min(LONGEST), self.multiplier, self.behind);
        self.is_early() || self.needs > come.saturating_add(units)
    }

    /// How long until it has come, in nanoseconds. None if that is never, or not within 73 years.
    pub(crate) fn wait(&self) -> Option<u64> {
        Some(due(self.needs, self.multiplier, self.behind)?.saturating_sub(self.ago))
    }
}

impl Course {
    /// A course that begins with `piece`.
    pub(crate) fn new(piece: Piece) -> Self {
        let this = Self {
            since: AtomicU64::new(0),
            base: AtomicU64::new(0),
            unit: AtomicU64::new(0),
            multiplier: AtomicU64::new(0),
            shape: AtomicU64::new(0),
            lasts: AtomicU64::new(0),
            within: AtomicU64::new(0),
            slack: AtomicU64::new(0),
        };
        this.set(piece);
        this
    }

    /// The piece, for who holds the lock under which it changes, or looks at the word before and behind.
    pub(crate) fn piece(&self) -> Piece {
        let shape = read(&self.shape);
        let unit = read(&self.unit);
        let multiplier = read(&self.multiplier);
        let behind = shape as u32 & ((1 << BEHIND_BITS) - 1);
        Piece {
            since: read(&self.since),
            base: read(&self.base),
            scale: Scale { unit, multiplier, behind },
            lasts: read(&self.lasts),
            burst: (shape >> BEHIND_BITS) as u32,
            within: read(&self.within),
            slack: read(&self.slack),
        }
    }

    /// Puts another piece there: under the lock, between [`Word::begin_change`] and [`Word::end_change`].
    pub(crate) fn set(&self, piece: Piece) {
        let Piece { since, base, scale, lasts, burst, within, slack } = piece;
        let shape = u64::from(burst) << BEHIND_BITS | u64::from(scale.behind);
        for (field, value) in [
            (&self.since, since),
            (&self.base, base),
            (&self.unit, scale.unit),
            (&self.multiplier, scale.multiplier),
            (&self.shape, shape),
            (&self.lasts, lasts),
            (&self.within, within),
            (&self.slack, slack),
        ] {
            // Relaxed: published by the Release in `Word::end_change`; whoever reads it before that has an outdated word.
            field.store(value, Ordering::Relaxed);
        }
    }

    /// How many tokens there may be at once.
    #[inline]
    pub(crate) fn burst(&self) -> u32 {
        (read(&self.shape) >> BEHIND_BITS) as u32
    }

    /// What `tokens` need, with so much granted, to be compared with what has come at `now`: less than nothing, if they were there when the piece began. None if
    /// so many there never are at once. Not to be believed before the word was looked at again.
    #[inline(always)]
    pub(crate) fn lack(&self, granted: u64, tokens: u32, now: u64) -> Option<Lack> {
        let shape = read(&self.shape);
        if u64::from(tokens) > shape >> BEHIND_BITS {
            return None;
        }
        let cost = u64::from(tokens).wrapping_mul(read(&self.unit));
        let needs = granted.wrapping_add(cost).wrapping_sub(read(&self.within));
        let needs = needs.wrapping_sub(read(&self.base));
        let behind = shape as u32 & ((1 << BEHIND_BITS) - 1);
        let ago = now.saturating_sub(read(&self.since));
        Some(Lack { needs, ago, multiplier: read(&self.multiplier), behind })
    }

    /// So many tokens in units.
    #[inline(always)]
    pub(crate) fn units(&self, tokens: u32) -> u64 {
        u64::from(tokens).saturating_mul(read(&self.unit))
    }

    /// As [`outlook`](Self::outlook), with nothing said of what is rare.
    #[inline(always)]
    pub(crate) fn glance(&self, granted: u64, tokens: u32, now: u64) -> Glance {
        let shape = read(&self.shape);
        let cost = u64::from(tokens).wrapping_mul(read(&self.unit));
        // A time before the piece began is far beyond its end.
        let ago = now.wrapping_sub(read(&self.since));
        if ago > read(&self.lasts) || u64::from(tokens) > shape >> BEHIND_BITS {
            return Glance::Other;
        }
        let (base, behind) = (read(&self.base), shape as u32 & ((1 << BEHIND_BITS) - 1));
        let (multiplier, within) = (read(&self.multiplier), read(&self.within));
        // What is there before the clock is read is summed up apart from what it says.
        let asked = granted.wrapping_add(cost);
        let from_floor = base.wrapping_sub(read(&self.slack)).wrapping_add(cost);
        let come = earned(ago, multiplier, behind);
        let next = asked.max(from_floor.wrapping_add(come));
        if next <= come.wrapping_add(base.wrapping_add(within)) {
            return Glance::Granted(next);
        }
        let needs = next.wrapping_sub(base.wrapping_add(within));
        let lack = Lack { needs, ago, multiplier, behind };
        Glance::Short { lack, missing: needs.wrapping_sub(come) }
    }

    /// Whether a lack will be one for `late` nanoseconds more, by this piece. Not to be believed before the word was looked at again.
    #[inline]
    pub(crate) fn is_short_until(&self, lack: &Lack, late: u64) -> bool {
        lack.is_beyond(late) && lack.ago.saturating_add(late) <= read(&self.lasts)
    }

    /// Whether it is by now later than when a lack was reckoned, by more than `span` nanoseconds.
    pub(crate) fn is_later(&self, lack: &Lack, now: u64, span: u64) -> bool {
        now.saturating_sub(read(&self.since)) > lack.ago.saturating_add(span)
    }

    /// What becomes of a request for `tokens` at `now`, with so much granted. Not to be believed before the word was looked at again.
    #[inline(always)]
    pub(crate) fn outlook(&self, granted: u64, tokens: u32, now: u64) -> Outlook {
        let shape = read(&self.shape);
        let burst = (shape >> BEHIND_BITS) as u32;
        let ago = now.saturating_sub(read(&self.since));
        if ago > read(&self.lasts) {
            return Outlook::Over;
        }
        if tokens > burst {
            return Outlook::OverBurst;
        }
        let (base, multiplier) = (read(&self.base), read(&self.multiplier));
        let behind = shape as u32 & ((1 << BEHIND_BITS) - 1);
        // Wrapping, as the next sums: what is read while the piece changes is anything.
        let earned = base.wrapping_add(earned(ago, multiplier, behind));
        let floor = granted.max(earned.wrapping_sub(read(&self.slack)));
        let cost = u64::from(tokens).wrapping_mul(read(&self.unit));
        let next = floor.wrapping_add(cost);
        let within = read(&self.within);
        if next <= earned.wrapping_add(within) {
            return Outlook::Granted(next);
        }
        let needs = next.wrapping_sub(within).wrapping_sub(base);
        Outlook::Short(Lack { needs, ago, multiplier, behind })
    }
}

/// A field of the piece.
#[inline]
fn read(field: &AtomicU64) -> u64 {
    // Relaxed: the Acquire with which the word was read shows what was there when a change ended; a change that has begun since has
    // changed the word, and the result is not used.
    field.load(Ordering::Relaxed)
}

#[cfg(all(test, not(selvedge_loom)))]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::Rate;

    fn piece(rate: Rate, burst: u32) -> Piece {
        Piece::new(Scale::new(&rate.burst(burst)), burst, 1_000)
    }

    #[test]
    fn a_piece_comes_back_as_it_was_put_there() {
        for rate in [Rate::per_second(3), Rate::every(Duration::from_secs(86_400)), Rate::UNLIMITED]
        {
            for burst in [1, 7, u32::MAX] {
                let piece = Piece { slack: 9, ..piece(rate, burst) };
                let course = Course::new(piece);
                assert_eq!((course.piece(), course.burst()), (piece, burst));
            }
        }
    }

    #[test]
    fn an_outlook_says_what_the_piece_says() {
        let piece = piece(Rate::per_second(1_000), 3);
        let course = Course::new(piece);
        let full = BEGINNING;
        let Outlook::Granted(empty) = course.outlook(full, 3, 1_000) else { panic!("the burst") };
        assert_eq!(empty, BEGINNING + piece.burst_units());
        let Outlook::Short(lack) = course.outlook(empty, 1, 1_000) else { panic!("it is empty") };
        assert_eq!(lack.wait(), Some(1_000_000));
        let Outlook::Short(lack) = course.outlook(empty, 2, 501_000) else { panic!("it is empty") };
        assert_eq!(lack.wait(), Some(1_500_000));
        assert!(matches!(course.outlook(empty, 1, 1_001_000), Outlook::Granted(_)));
        // A clock that is before the beginning: nothing has come.
        assert!(matches!(course.outlook(empty, 1, 0), Outlook::Short(_)));
        assert_eq!(course.outlook(full, 4, 0), Outlook::OverBurst);
        assert_eq!(course.outlook(full, 1, u64::MAX), Outlook::Over);
    }

    #[test]
    fn a_glance_says_what_an_outlook_says() {
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..100_000 {
            let rate = match random.u32(..8) {
                0 => Rate::UNLIMITED,
                _ => Rate::new(
                    1 + random.u64(..1_000),
                    Duration::from_nanos(1 + random.u64(..1 << 30)),
                ),
            };
            let burst = 1 + random.u32(..20);
            let mut piece = piece(rate, burst);
            piece.slack = if random.bool() { 0 } else { random.u64(..4) * piece.scale.unit };
            piece.lasts = piece.lasts.min(1 << random.u32(..40));
            let bits = random.u32(5..42);
            let now = 1_000_u64.saturating_add_signed(random.i64(-10..1 << bits));
            let granted = piece.earned(now).saturating_add_signed(
                random.i64(-3..4) * (piece.scale.unit as i64) + random.i64(-2..3),
            );
            let (course, tokens) = (Course::new(piece), random.u32(..burst + 3));
            let missing = |needs: u64| needs - (piece.earned(now) - piece.base);
            match (course.glance(granted, tokens, now), course.outlook(granted, tokens, now)) {
                (Glance::Granted(next), Outlook::Granted(same)) => assert_eq!(next, same),
                (Glance::Short { lack, missing: told }, Outlook::Short(same)) => {
                    assert_eq!((lack, told), (same, missing(lack.needs)));
                }
                // What is rare: before the beginning, beyond the burst, after the end.
                (Glance::Other, outlook) => {
                    let is_rare = matches!(outlook, Outlook::OverBurst | Outlook::Over);
                    assert!(is_rare || now < piece.since, "{outlook:?}");
                }
                (glance, outlook) => panic!("{glance:?}, {outlook:?}"),
            }
        }
    }

    #[test]
    fn the_numbers_fit_at_the_end_of_the_count() {
        for (rate, burst) in [
            (Rate::per_second(Rate::MAX_PER_SECOND), u32::MAX),
            (Rate::every(Duration::from_nanos(u64::MAX)), 1),
            (Rate::UNLIMITED, u32::MAX),
        ] {
            let piece = piece(rate, burst);
            let end = piece.since + piece.lasts;
            assert!(!piece.is_over(end) && piece.is_over(end + 1));
            assert!(piece.earned(u64::MAX) <= END);
            assert_eq!(piece.earned(u64::MAX), piece.earned(end));
            assert!(piece.earned(end) + piece.burst_units() + LARGEST_DEBT < 1 << 61);
        }
    }
}
