//! The law of the post-renderer: whatever it changes is an image reference in a position of an image,
//! and everything else is byte for byte the same. Streams are generated together with what must come
//! out of them (`stream`), so the law is checked without any code that is under test. A quarter of
//! them are damaged first; of those only the written bytes are compared (`byte_walk`).
//!
//! `make test-laws` makes 10,000,000 runs of it, and the fuzz target `post_render` takes its choices from
//! libFuzzer.

mod byte_walk;
pub(crate) mod choices;
mod references;
mod stream;

use choices::{Choices, derive_bytes};
use gantry_chart::post_render::post_render;
use gantry_chart::relocate::{ProofVerdict, RelocationTarget};
use stream::generate_stream;
use types::naming::NamingRule;

/// How a run ended that did not break the law.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LawfulOutcome {
    /// The stream came out as it had to.
    Moved,
    /// A damaged stream was refused.
    Refused,
}

/// Checks the law for one stream, which the bytes choose. The error says how it was broken.
pub(crate) fn check_law(bytes: &[u8]) -> Result<LawfulOutcome, String> {
    let mut choices = Choices::new(bytes);
    if choices.is_one_in(4) {
        return check_damaged_stream(&mut choices);
    }
    let naming = choices.pick_item(&[NamingRule::HostPath, NamingRule::Path, NamingRule::Name]);
    let stream = generate_stream(&mut choices, naming);
    let target = site_target(naming);
    let moved = post_render(&stream.before, &target)
        .map_err(|error| format!("refused: {error}\n{}", stream.before))?;
    if moved.proof.verdict() != ProofVerdict::Proven {
        return Err(format!("{:#?}\n{}\n=>\n{}", moved.proof, stream.before, moved.stream));
    }
    if moved.stream != stream.after {
        return Err(describe_first_difference(&stream.before, &stream.after, &moved.stream));
    }
    if choices.is_one_in(SECOND_RUNS) {
        check_second_run(&moved.stream, &target)?;
    }
    Ok(LawfulOutcome::Moved)
}

/// One of so many streams is post-rendered twice: a second run changes nothing more.
const SECOND_RUNS: usize = 8;

/// Damages a generated stream, and checks what is left of the law: no panic; and if the result would
/// be written, nothing but names differs, and a second run changes nothing.
fn check_damaged_stream(choices: &mut Choices) -> Result<LawfulOutcome, String> {
    let mut stream = generate_stream(choices, NamingRule::HostPath).before;
    for _ in 0..=choices.pick_number(4) {
        damage(choices, &mut stream);
    }
    let target = site_target(NamingRule::HostPath);
    let Ok(moved) = post_render(&stream, &target) else { return Ok(LawfulOutcome::Refused) };
    if moved.proof.verdict() == ProofVerdict::Refuted {
        return Ok(LawfulOutcome::Refused);
    }
    // Scalars with escapes, folds and aliases are written anew; bytes do not show what they mean.
    let is_written_as_it_means = !stream.contains(['\\', '*', '>', '|']);
    if is_written_as_it_means
        && let Some(difference) = byte_walk::find_other_difference(&stream, &moved.stream)
    {
        return Err(format!("{difference} in\n{stream}\n=>\n{}", moved.stream));
    }
    if choices.is_one_in(SECOND_RUNS) {
        check_second_run(&moved.stream, &target)?;
    }
    Ok(LawfulOutcome::Moved)
}

fn check_second_run(stream: &str, target: &RelocationTarget) -> Result<(), String> {
    let again = post_render(stream, target)
        .map_err(|error| format!("the second run refuses: {error}\n{stream}"))?;
    match again.stream == stream {
        true => Ok(()),
        false => Err(describe_first_difference(stream, stream, &again.stream)),
    }
}

fn site_target(naming: NamingRule) -> RelocationTarget {
    let prefix = references::SITE.parse().expect("a valid prefix");
    RelocationTarget { prefix, naming, pull_secret: None }
}

fn describe_first_difference(before: &str, expected: &str, result: &str) -> String {
    let mut lines = expected.lines().zip(result.lines());
    let (wanted, got) = lines.find(|(a, b)| a != b).unwrap_or_default();
    format!("wanted {wanted:?}\ngot    {got:?}\nin\n{before}\n=>\n{result}")
}

/// Damages a text in one place.
fn damage(choices: &mut Choices, text: &mut String) {
    const PIECES: &[&str] = &[
        ": ",
        "- ",
        "\n",
        "\n---\n",
        "  ",
        "'",
        "\"",
        "#",
        "{",
        "}",
        "[",
        "]",
        ",",
        "&a ",
        "*a",
        "|\n",
        ">-\n",
        "!!str ",
        "\t",
        "\u{feff}",
        "é",
        "?",
        "%",
        "@",
        "`",
        "quay.io/org/app:1",
        "redis:1",
        "null",
        "~",
        "<<: ",
        "\\",
        "\r",
        "=",
        "image: ",
        "site.internal:5000/ai/x:1",
    ];
    let pick_position = |choices: &mut Choices, text: &str| {
        let mut position = choices.pick_number(text.len() + 1);
        while !text.is_char_boundary(position) {
            position -= 1;
        }
        position
    };
    let start = pick_position(choices, text);
    match choices.pick_number(4) {
        0 => text.insert_str(start, choices.pick_item(PIECES)),
        1 => {
            let end = pick_position(choices, text);
            let (start, end) = (start.min(end), start.max(end).min(start.min(end) + 40));
            if text.is_char_boundary(end) {
                text.replace_range(start..end, "");
            }
        }
        2 => {
            let line = text[start..].split_inclusive('\n').next().unwrap_or_default().to_owned();
            let position = pick_position(choices, text);
            text.insert_str(position, &line);
        }
        _ => {
            let piece = choices.pick_item(PIECES);
            let end =
                text[start..].chars().next().map_or(start, |letter| start + letter.len_utf8());
            text.replace_range(start..end, piece);
        }
    }
}

/// Runs the law on this many streams of a seed, and returns how many were moved.
fn run_law(seed: u64, runs: u64) -> u64 {
    let mut moved = 0;
    for number in 0..runs {
        match check_law(&derive_bytes(seed, number)) {
            Ok(LawfulOutcome::Moved) => moved += 1,
            Ok(LawfulOutcome::Refused) => {}
            Err(violation) => panic!("seed {seed}, run {number}: {violation}"),
        }
    }
    moved
}

#[test]
fn nothing_but_images_changes_in_any_generated_stream() {
    let read = |name: &str, default: u64| {
        std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
    };
    let (runs, seed) = (read("GANTRY_LAW_RUNS", 4000), read("GANTRY_LAW_SEED", 1));
    let moved = run_law(seed, runs);
    println!("{runs} runs of seed {seed}, {moved} of them moved");
    assert!(moved * 10 > runs * 7, "{moved} of {runs} were moved");
}

#[test]
fn the_walk_sees_each_change_of_another_byte() {
    let before = "image: quay.io/org/app:1\nname: redis\ndata: cXVheS5pby9vcmcvYXBwOjEgeCB5\n";
    let moved = before.replace("quay.io", &format!("{}/quay.io", references::SITE));
    assert_eq!(byte_walk::find_other_difference(before, &moved), None);
    for wrong in [
        moved.replace("name: redis", "name: radis"),
        moved.replace(":1", ":2"),
        moved.replace("org/app", "org/ape"),
        moved.replace('\n', "\r\n"),
        moved.replace("cXVh", "cXVi"),
        format!("{moved} "),
    ] {
        assert!(byte_walk::find_other_difference(before, &wrong).is_some(), "{wrong}");
    }
}
