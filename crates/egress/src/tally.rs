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
pub struct Sightings {
    /// How many times.
    pub count: u64,
    /// The first time.
    pub first: Timestamp,
    /// The last time.
    pub last: Timestamp,
}

impl Sightings {
    /// Seen once, now.
    pub fn once(now: Timestamp) -> Self {
        Self { count: 1, first: now, last: now }
    }

    /// Both counted together.
    #[must_use]
    pub fn merge(self, other: Self) -> Self {
        Self {
            count: self.count.saturating_add(other.count),
            first: self.first.min(other.first),
            last: self.last.max(other.last),
        }
    }
}

/// The things that were seen, with their counts.
#[derive(Debug)]
pub(crate) struct SightingTally<K> {
    entries: BTreeMap<K, TallyEntry>,
    most: usize,
    /// How many sightings of things there was no room for.
    left_out: u64,
}

/// One thing that was seen.
#[derive(Debug)]
struct TallyEntry {
    sightings: Sightings,
    first_seen: Instant,
    reported: Instant,
    is_reported: bool,
}

impl<K: Ord + Clone> SightingTally<K> {
    /// An empty tally with room for `most` different things.
    pub(crate) fn new(most: usize) -> Self {
        Self { entries: BTreeMap::new(), most, left_out: 0 }
    }

    /// Counts a sighting. Returns the count when the thing is new, which has to be reported at once.
    pub(crate) fn add_sighting(&mut self, thing: &K) -> Option<Sightings> {
        let now = Timestamp::now();
        if let Some(entry) = self.entries.get_mut(thing) {
            entry.sightings = entry.sightings.merge(Sightings::once(now));
            entry.is_reported = false;
            return None;
        }
        if self.entries.len() >= self.most {
            self.left_out += 1;
            return None;
        }
        let instant = Instant::now();
        let seen = Sightings::once(now);
        let entry = TallyEntry {
            sightings: seen,
            first_seen: instant,
            reported: instant,
            is_reported: true,
        };
        self.entries.insert(thing.clone(), entry);
        Some(seen)
    }

    /// What has changed and was not reported for long enough.
    pub(crate) fn take_due(&mut self) -> Vec<(K, Sightings)> {
        self.take_changed(|entry| {
            // As long as the thing was known at its last report: so the intervals double.
            let silence = entry.reported.duration_since(entry.first_seen);
            entry.reported.elapsed() >= silence.clamp(SHORTEST_SILENCE, LONGEST_SILENCE)
        })
    }

    /// All that has changed since it was reported.
    pub(crate) fn take_unreported(&mut self) -> Vec<(K, Sightings)> {
        self.take_changed(|_| true)
    }

    /// How many sightings there was no room for.
    pub(crate) fn left_out(&self) -> u64 {
        self.left_out
    }

    fn take_changed(&mut self, is_due: impl Fn(&TallyEntry) -> bool) -> Vec<(K, Sightings)> {
        let due = self.entries.iter_mut().filter(|(_, entry)| !entry.is_reported && is_due(entry));
        due.map(|(thing, entry)| {
            entry.is_reported = true;
            entry.reported = Instant::now();
            (thing.clone(), entry.sightings)
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
        let mut tally = SightingTally::new(10);
        assert_eq!(tally.add_sighting(&"a").unwrap().count, 1);
        assert_eq!(tally.add_sighting(&"a"), None);
        assert_eq!(tally.add_sighting(&"a"), None);
        let rest = tally.take_unreported();
        assert_eq!((rest.len(), rest[0].1.count), (1, 3));
        assert!(tally.take_unreported().is_empty());
    }

    #[test]
    fn memory_is_bounded_and_what_does_not_fit_is_counted() {
        let mut tally = SightingTally::new(2);
        for thing in 0..100 {
            tally.add_sighting(&thing);
        }
        assert_eq!((tally.take_unreported().len(), tally.left_out()), (0, 98));
    }
}
