//! The quotas of keys: each that is in use has a course, which is not written again for as long as a key goes by it.
//!
//! A change of a quota is another plan: the keys of the old one are moved to it, one by one. So who reckons with the course of a plan for an
//! entry, and finds the entry's word unchanged, has read a course that stood still.

use std::collections::HashMap;

use selvedge_primitives::Mutex;
use selvedge_primitives::atomic::{Ordering, fence};

use crate::Quota;
use crate::bucket::course::{Course, Piece};
use crate::bucket::scale::{LONGEST, Scale};

/// So many plans at most, at a time. Two are kept for all keys that have none of their own: one to go by, and one to change to.
const MOST: usize = if cfg!(selvedge_loom) { 5 } else { 1024 };

/// So many more than there may be keys.
const SPARE: usize = 16;

/// The units of a key are larger than those of a limiter by this power of two, so that less room is needed to count them: about sixteen
/// nanoseconds' worth.
const LARGER: u32 = 6;
/// A burst has so many of them at most.
const LARGEST_BURST: u64 = 1 << 43;
/// A late charge as many more.
pub(super) const LARGEST_DEBT: u64 = 1 << 46;
/// So many come in the time of a plan: then there is another. 26 days, or ten hours at the highest rates.
const SPAN: u64 = 1 << 47;
/// By which power of two of a nanosecond the beginnings of plans are told apart: in less time no entry can be changed as often as there are
/// generations.
const STEP: u32 = 12;

/// The plans.
#[derive(Debug)]
pub(super) struct Plans {
    /// Their courses, by number.
    courses: Box<[Course]>,
    /// What is known of them.
    book: Mutex<Book>,
}

/// What is known of the plans.
#[derive(Debug)]
struct Book {
    /// Which plan a quota is: of keys that have it as their own, or of all others.
    numbers: HashMap<(Quota, bool), u32>,
    /// All of them, by number.
    rows: Vec<Row>,
    /// Those without keys.
    free: Vec<u32>,
    /// How many are of keys that have them as their own.
    own: usize,
}

/// What is known of a plan.
#[derive(Debug, Clone, Copy)]
struct Row {
    /// Its quota.
    quota: Quota,
    /// Whether it is of keys that have it as their own.
    is_own: bool,
    /// How many keys go by it, or are about to.
    count: usize,
}

/// More quotas are in use than there may be.
#[derive(Debug)]
pub(super) struct TooMany;

impl Plans {
    /// Room for as many as there may be keys.
    pub(super) fn new(keys: usize, quota: Quota, now: u64) -> Self {
        // One for each key, one for all others, one that another is being changed to, and some for keys that change their own at the same time.
        let room = keys.saturating_add(SPARE).min(MOST);
        let piece = Self::piece_of(&quota, now);
        let courses = (0..room).map(|_| Course::new(piece)).collect();
        let book = Book { numbers: HashMap::new(), rows: Vec::new(), free: Vec::new(), own: 0 };
        Self { courses, book: Mutex::new(book) }
    }

    /// The course of a plan.
    #[inline]
    pub(super) fn course(&self, number: u32) -> &Course {
        // The number of an entry is always one that there is; whether it is still the entry's, its word tells.
        &self.courses[number as usize]
    }

    /// What has come by a quota, from now on.
    fn piece_of(quota: &Quota, now: u64) -> Piece {
        let scale = Scale::coarse(quota, LARGER, LARGEST_BURST);
        let burst = if scale.unit == 0 { u32::MAX } else { quota.burst_size() };
        let lasts = scale.due(SPAN).unwrap_or(LONGEST);
        // Two plans that begin at different times begin at different counts.
        let base = (now >> STEP) % SPAN;
        Piece { base, lasts, ..Piece::new(scale, burst, now) }
    }

    /// One more goes by this quota, which is its own or that of all others: the number of the plan.
    pub(super) fn enter(&self, quota: Quota, is_own: bool, now: u64) -> Result<u32, TooMany> {
        let mut book = self.book.lock();
        if let Some(number) = self.running(&mut book, quota, is_own, now) {
            return Ok(number);
        }
        if is_own && book.own >= self.courses.len() - 2 {
            return Err(TooMany);
        }
        self.begin(&mut book, Row { quota, is_own, count: 1 }, now)
    }

    /// For all that go by a plan which is over, or is about to be of another quota: the number of the plan that comes after it. One at a time, so
    /// that there is always room for it.
    pub(super) fn follow(&self, number: u32, quota: Quota, now: u64) -> Result<u32, TooMany> {
        let mut book = self.book.lock();
        let is_own = book.rows[number as usize].is_own;
        match self.running(&mut book, quota, is_own, now) {
            Some(number) => Ok(number),
            None => self.begin(&mut book, Row { quota, is_own, count: 1 }, now),
        }
    }

    /// One more goes by the plan of a quota, if there is one that is not over: that is for nobody who comes.
    fn running(&self, book: &mut Book, quota: Quota, is_own: bool, now: u64) -> Option<u32> {
        let number = *book.numbers.get(&(quota, is_own))?;
        if self.courses[number as usize].piece().is_over(now) {
            return None;
        }
        book.rows[number as usize].count += 1;
        Some(number)
    }

    /// A plan more.
    fn begin(&self, book: &mut Book, row: Row, now: u64) -> Result<u32, TooMany> {
        let number = match book.free.pop() {
            Some(number) => {
                book.rows[number as usize] = row;
                number
            }
            None if book.rows.len() == self.courses.len() => return Err(TooMany),
            None => {
                book.rows.push(row);
                (book.rows.len() - 1) as u32
            }
        };
        book.own += usize::from(row.is_own);
        book.numbers.insert((row.quota, row.is_own), number);
        // Fence Release: against the Acquire fence in `Word::read`. Those that went by this plan before were changed by others, of which this thread knows by
        // the book's lock: who reads what is written next finds their words changed.
        fence(Ordering::Release);
        self.courses[number as usize].set(Self::piece_of(&row.quota, now));
        Ok(number)
    }

    /// One more goes by a plan by which somebody goes.
    pub(super) fn join(&self, number: u32) {
        self.book.lock().rows[number as usize].count += 1;
    }

    /// One does not any more.
    pub(super) fn leave(&self, number: u32) {
        let mut book = self.book.lock();
        let row = &mut book.rows[number as usize];
        row.count -= 1;
        let Row { quota, is_own, count } = *row;
        if count == 0 {
            if book.numbers.get(&(quota, is_own)) == Some(&number) {
                book.numbers.remove(&(quota, is_own));
            }
            book.own -= usize::from(is_own);
            book.free.push(number);
        }
    }

    /// The quota of a plan by which somebody goes.
    pub(super) fn quota(&self, number: u32) -> Quota {
        self.book.lock().rows[number as usize].quota
    }
}
