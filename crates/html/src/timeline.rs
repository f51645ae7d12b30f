//! A timeline of attempts as SVG: a lane for each sender and destination, with a bar from the first to
//! the last attempt. All horizontal positions are percentages, so that the text keeps its size on
//! every screen; colours come from the style sheet.

use std::fmt::{self, Display};

use jiff::Timestamp;

use crate::text::Escaped;
use crate::time::format_as;
use crate::{Tone, format_interval};

/// The most lanes that are drawn; the table below the timeline has everything.
const MOST_LANES: usize = 40;
/// The height of a lane, and that of the axis, in pixels.
const LANE: usize = 40;
const AXIS: usize = 28;
/// The most characters of a label that fit above a lane at 800 pixels.
const LONGEST_LABEL: usize = 84;
/// The most ticks between the ends of the axis.
const MOST_TICKS: i64 = 6;
/// Distances between ticks, in seconds; the smallest that gives few enough ticks is taken.
const STEPS: [i64; 18] = [
    1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1_800, 3_600, 7_200, 21_600, 43_200, 86_400,
    604_800,
];
/// A tick nearer to an end than this (in percent) would cover the time that is written there.
const MARGIN: f64 = 11.0;

/// When things were tried while an audit listened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptTimeline {
    /// When the audit began to listen.
    pub from: Timestamp,
    /// When it ended.
    pub to: Timestamp,
    /// The lanes, from the top.
    pub lanes: Vec<TimelineLane>,
}

/// What one sender tried to reach.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimelineLane {
    /// Who tried to reach what.
    pub label: String,
    /// The first time.
    pub first: Timestamp,
    /// The last time.
    pub last: Timestamp,
    /// How many times.
    pub count: u64,
    /// The colour of the bar.
    pub tone: Tone,
}

impl AttemptTimeline {
    /// Where an instant is on the axis, in percent.
    fn position(&self, at: Timestamp) -> f64 {
        let whole = self.to.duration_since(self.from).as_secs_f64().max(1.0);
        let part = at.duration_since(self.from).as_secs_f64();
        (part / whole * 100.0).clamp(0.0, 100.0)
    }

    /// The instants between the ends that get a tick.
    fn list_ticks(&self) -> Vec<Timestamp> {
        let (from, to) = (self.from.as_second(), self.to.as_second());
        let step = STEPS.into_iter().find(|step| (to - from) / step <= MOST_TICKS);
        let step = step.unwrap_or(i64::MAX);
        let first = from.div_euclid(step).saturating_add(1).saturating_mul(step);
        let ticks = std::iter::successors(Some(first), |tick| tick.checked_add(step));
        let ticks = ticks.take_while(|tick| *tick < to);
        ticks
            .filter_map(|tick| Timestamp::from_second(tick).ok())
            .filter(|tick| (MARGIN..=100.0 - MARGIN).contains(&self.position(*tick)))
            .collect()
    }

    /// How times are written below the axis.
    fn tick_format(&self) -> &'static str {
        let is_long = self.to.duration_since(self.from).as_secs() >= 86_400;
        if is_long { "%m-%d %H:%M" } else { "%H:%M:%S" }
    }
}

impl Display for AttemptTimeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lanes = self.lanes.iter().take(MOST_LANES);
        let bottom = lanes.len() * LANE;
        writeln!(
            f,
            "<svg class=\"timeline\" width=\"100%\" height=\"{}\" role=\"img\" aria-label=\"Attempts, {}\">",
            bottom + AXIS,
            format_interval(self.from, self.to),
        )?;
        for tick in self.list_ticks() {
            let x = self.position(tick);
            let text = format_as(tick, self.tick_format());
            writeln!(
                f,
                "<line class=\"tick\" x1=\"{x:.2}%\" x2=\"{x:.2}%\" y1=\"0\" y2=\"{bottom}\"/>\
                 <text class=\"time\" x=\"{x:.2}%\" y=\"{}\" text-anchor=\"middle\">{text}</text>",
                bottom + 18
            )?;
        }
        for (x, anchor, at) in [(0, "start", self.from), (100, "end", self.to)] {
            let text = format_as(at, self.tick_format());
            writeln!(
                f,
                "<text class=\"time\" x=\"{x}%\" y=\"{}\" text-anchor=\"{anchor}\">{text}</text>",
                bottom + 18
            )?;
        }
        writeln!(f, "<line class=\"axis\" x1=\"0\" x2=\"100%\" y1=\"{bottom}\" y2=\"{bottom}\"/>")?;
        for (number, lane) in lanes.enumerate() {
            let (text, bar) = (number * LANE + 15, number * LANE + 26);
            let (first, last) = (self.position(lane.first), self.position(lane.last));
            let tone = lane.tone.class();
            writeln!(
                f,
                "<g class=\"{tone}\"><title>{}: {}, {}</title>\
                 <text class=\"label\" x=\"0\" y=\"{text}\">{}</text>\
                 <text class=\"count\" x=\"100%\" y=\"{text}\" text-anchor=\"end\">{}</text>\
                 <line class=\"lane\" x1=\"0\" x2=\"100%\" y1=\"{bar}\" y2=\"{bar}\"/>\
                 <line class=\"bar\" x1=\"{first:.2}%\" x2=\"{last:.2}%\" y1=\"{bar}\" y2=\"{bar}\"/>\
                 <circle cx=\"{first:.2}%\" cy=\"{bar}\" r=\"4\"/>\
                 <circle cx=\"{last:.2}%\" cy=\"{bar}\" r=\"4\"/></g>",
                Escaped(&lane.label),
                describe_count(lane.count),
                format_interval(lane.first, lane.last),
                Escaped(&shorten(&lane.label)),
                describe_count(lane.count),
            )?;
        }
        f.write_str("</svg>")?;
        match self.lanes.len().checked_sub(MOST_LANES) {
            Some(more) if more > 0 => {
                write!(f, "<p class=\"muted\">{more} more are in the table below.</p>")
            }
            _ => Ok(()),
        }
    }
}

// What it writes is HTML, in which every text is escaped.
impl askama::filters::HtmlSafe for AttemptTimeline {}

fn describe_count(count: u64) -> String {
    if count == 1 { "once".to_owned() } else { format!("{count} times") }
}

/// A label that fits above a lane.
fn shorten(label: &str) -> String {
    match label.char_indices().nth(LONGEST_LABEL) {
        Some((end, _)) => format!("{}…", &label[..end]),
        None => label.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn timeline(from: &str, to: &str) -> AttemptTimeline {
        AttemptTimeline { from: from.parse().unwrap(), to: to.parse().unwrap(), lanes: vec![] }
    }

    #[test]
    fn ticks_are_at_whole_minutes_and_never_below_the_ends() {
        let ticks: Vec<String> = timeline("2026-11-21T12:00:05Z", "2026-11-21T12:10:05Z")
            .list_ticks()
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(
            ticks,
            [
                "2026-11-21T12:02:00Z",
                "2026-11-21T12:04:00Z",
                "2026-11-21T12:06:00Z",
                "2026-11-21T12:08:00Z"
            ]
        );
    }

    #[test]
    fn a_timeline_of_no_time_and_one_of_years_are_drawn() {
        for (from, to) in [
            ("2026-11-21T12:00:00Z", "2026-11-21T12:00:00Z"),
            ("2026-11-21T12:00:00Z", "2036-11-21T12:00:00Z"),
            ("2026-11-21T12:00:00Z", "2025-11-21T12:00:00Z"),
        ] {
            let mut drawn = timeline(from, to);
            drawn.lanes.push(TimelineLane {
                label: "<b> → a".repeat(40),
                first: drawn.from,
                last: drawn.to,
                count: 1,
                tone: Tone::Bad,
            });
            let svg = drawn.to_string();
            assert!(svg.contains("once") && !svg.contains("<b>") && !svg.contains("NaN"), "{svg}");
        }
    }
}
