//! Counts what an observer saw, in bounded memory: each thing once, with how often, when first and
//! when last. A new thing is reported at once; one that goes on is reported in growing intervals, so
//! that an hour of attempts is a few lines of a log and not a flood.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// How many different things are kept: some MiB, within the 128 MiB that a helper pod may use. Further
/// ones are only counted.
pub(crate) const MOST: usize = 20_000;
/// The longest time until a change is reported.
const LONGEST_SILENCE: Duration = Duration::from_secs(30);
/// The shortest time.
const SHORTEST_SILENCE: Duration = Duration::from_millis(500);

/// How often something was seen, when first and when last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Seen {
    /// How many times.
    pub count: u64,
    /// The first time.
    pub first: Timestamp,
    /// The last time.
    pub last: Timestamp,
}

impl Seen {
    /// Seen once, now.
    pub fn once(now: Timestamp) -> Self {
        Self { count: 1, first: now, last: now }
    }

    /// Both counted together.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            count: self.count.saturating_add(other.count),
            first: self.first.min(other.first),
            last: self.last.max(other.last),
        }
    }
}

/// The things that were seen, with their counts.
#[derive(Debug)]
pub(crate) struct Tally<K> {
    entries: BTreeMap<K, Entry>,
    most: usize,
    /// How many sightings of things there was no room for.
    left_out: u64,
}

/// One thing that was seen.
#[derive(Debug)]
struct Entry {
    seen: Seen,
    born: Instant,
    told: Instant,
    is_told: bool,
}

impl<K: Ord + Clone> Tally<K> {
    /// An empty tally with room for `most` different things.
    pub(crate) fn new(most: usize) -> Self {
        Self { entries: BTreeMap::new(), most, left_out: 0 }
    }

    /// Counts a sighting. Returns the count when the thing is new, which has to be reported at once.
    pub(crate) fn note(&mut self, thing: &K) -> Option<Seen> {
        let now = Timestamp::now();
        if let Some(entry) = self.entries.get_mut(thing) {
            entry.seen = entry.seen.and(Seen::once(now));
            entry.is_told = false;
            return None;
        }
        if self.entries.len() >= self.most {
            self.left_out += 1;
            return None;
        }
        let instant = Instant::now();
        let seen = Seen::once(now);
        let entry = Entry { seen, born: instant, told: instant, is_told: true };
        self.entries.insert(thing.clone(), entry);
        Some(seen)
    }

    /// What has changed and was not reported for long enough.
    pub(crate) fn due(&mut self) -> Vec<(K, Seen)> {
        self.changed(|entry| {
            // As long as the thing was known at its last report: so the intervals double.
            let silence = entry.told.duration_since(entry.born);
            entry.told.elapsed() >= silence.clamp(SHORTEST_SILENCE, LONGEST_SILENCE)
        })
    }

    /// All that has changed since it was reported.
    pub(crate) fn rest(&mut self) -> Vec<(K, Seen)> {
        self.changed(|_| true)
    }

    /// How many sightings there was no room for.
    pub(crate) fn left_out(&self) -> u64 {
        self.left_out
    }

    fn changed(&mut self, is_due: impl Fn(&Entry) -> bool) -> Vec<(K, Seen)> {
        let due = self.entries.iter_mut().filter(|(_, entry)| !entry.is_told && is_due(entry));
        due.map(|(thing, entry)| {
            entry.is_told = true;
            entry.told = Instant::now();
            (thing.clone(), entry.seen)
        })
        .collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_new_is_told_at_once_and_the_rest_with_its_count() {
        let mut tally = Tally::new(10);
        assert_eq!(tally.note(&"a").unwrap().count, 1);
        assert_eq!(tally.note(&"a"), None);
        assert_eq!(tally.note(&"a"), None);
        let rest = tally.rest();
        assert_eq!((rest.len(), rest[0].1.count), (1, 3));
        assert!(tally.rest().is_empty());
    }

    #[test]
    fn memory_is_bounded_and_what_does_not_fit_is_counted() {
        let mut tally = Tally::new(2);
        for thing in 0..100 {
            tally.note(&thing);
        }
        assert_eq!((tally.rest().len(), tally.left_out()), (0, 98));
    }
}
