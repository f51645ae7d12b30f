#![allow(clippy::unwrap_used)]
use serde::Deserialize;

use super::aligned::align_block_headers;
use super::*;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PlatformsDocument {
    #[expect(dead_code, reason = "only read")]
    platforms: Vec<String>,
}

#[test]
fn a_mistyped_key_names_its_place_and_the_nearest_known_one() {
    let error = read_document::<PlatformsDocument>("gantry.yaml", "\nplatfroms: []\n")
        .unwrap_err()
        .to_string();
    assert_eq!(error, "gantry.yaml:2:1: unknown key \"platfroms\"; did you mean \"platforms\"?");
}

#[test]
fn a_duplicate_key_and_a_wrong_type_are_refused_with_their_place() {
    let twice = read_document::<PlatformsDocument>("f", "platforms: []\nplatforms: []\n")
        .unwrap_err()
        .to_string();
    assert!(twice.starts_with("f:2:1:"), "{twice}");
    assert!(twice.contains("the key \"platforms\" is given twice"), "{twice}");
    let wrong =
        read_document::<PlatformsDocument>("f", "platforms: {a: 1}\n").unwrap_err().to_string();
    let expected = "the value of \"platforms\" must be a list, such as [a, b]";
    assert!(wrong.starts_with("f:1:") && wrong.contains(expected), "{wrong}");
}

#[test]
fn a_wrong_value_is_reported_in_words_of_the_document() {
    #[derive(Debug, Deserialize)]
    struct Numbers {
        #[expect(dead_code, reason = "only read")]
        port: u16,
        #[expect(dead_code, reason = "only read")]
        name: String,
    }
    for (text, expected) in [
        ("port: http\nname: a\n", "the value of \"port\" must be a whole number from 0"),
        ("port: 70000\nname: a\n", "the value of \"port\" must be a whole number from 0"),
        ("port: 1\nname: [a]\n", "the value of \"name\" must be a text"),
        ("port: 1\nname:\n  b: 1\n", "must be a text"),
        ("port: 1\nname: 'a\n", "not valid YAML"),
        ("port: 1\nname: a\n---\nport: 2\n", "only one YAML document is read"),
        ("- 1\n", "must be a map"),
    ] {
        let error = read_document::<Numbers>("f", text).unwrap_err().to_string();
        assert!(error.contains(expected), "{text}: {error}");
    }
    let deep = format!("port: {}1{}\n", "[".repeat(70), "]".repeat(70));
    let error = read_document::<Numbers>("f", &deep).unwrap_err().to_string();
    assert!(!error.contains("budget") && !error.contains("u16"), "{error}");
}

#[test]
fn a_manifest_is_read_as_the_api_server_does_and_refused_in_plain_words() {
    let read = read_manifest("a: 1\na: 2\nb: .inf\n").unwrap();
    assert_eq!(read, serde_json::json!({"a": 2, "b": ".inf"}));
    let fault = read_manifest("a: 1\nb: c: d\n").unwrap_err().to_string();
    assert!(fault.starts_with("line 2, column "), "{fault}");
    assert!(fault.contains("check indentation, quotes and brackets"), "{fault}");
    assert!(!fault.contains("not valid YAML"), "{fault}");
    for levels in [100, 4000] {
        let deep = format!("a: {}1{}\n", "[".repeat(levels), "]".repeat(levels));
        let fault = read_manifest(&deep).unwrap_err().to_string();
        assert!(fault.contains("levels deep"), "{fault}");
    }
}

#[test]
fn a_block_header_on_a_line_of_its_own_is_read_as_helm_reads_it() {
    let text = "data:\n  a.yaml:\n  |\n    x: 1\n    y:\n    |\n  b: |\n    k:\n    |\n  c: 1\n";
    let read = read_manifest(text).unwrap();
    assert_eq!(read["data"]["a.yaml"], "x: 1\ny:\n|\n");
    assert_eq!(read["data"]["b"], "k:\n|\n");
    assert_eq!(read["data"]["c"], 1);
    let aligned = align_block_headers(text).unwrap();
    assert_eq!(aligned.len(), text.len());
    let read = read_manifest("a: &x\n\n# why\n>- # y\n  b\n  c\nd: 010\n").unwrap();
    assert_eq!(read, serde_json::json!({"a": "b c", "d": 8}));
    let read = read_manifest("a:\n- # why\n|\n  b\n- c\n").unwrap();
    assert_eq!(read["a"], serde_json::json!(["b\n", "c"]));
    assert_eq!(align_block_headers("a:\n- b: |\n    c:\n    |\nd: 1\n"), None);
    assert!(read_manifest("a:\n|\nb: c: d\n").is_err());
}

#[test]
fn a_quoted_text_that_goes_on_at_the_start_of_a_line_is_read_as_helm_reads_it() {
    let text = "a:\n  b: \"one\ntwo\n\nthree\"   # x\n  c: 'four\n five'\nd: [\"x\ny\"]\n";
    let read = read_manifest(text).unwrap();
    assert_eq!(read["a"], serde_json::json!({"b": "one two\nthree", "c": "four five"}));
    let aligned = AlignedManifest::align(text).unwrap();
    let offset = aligned.text().find("# x").unwrap();
    assert_eq!(text.find("# x"), Some(aligned.original_offset(offset)));
    assert_eq!(aligned.original_offset(3), 3);
    assert!(read_manifest("a: \"one\ntwo\nb: 1\n").is_err());
}

#[test]
fn the_key_of_a_value_is_found_on_its_line_or_above() {
    let text = "a: 1\nlist:\n- x\n- {b: 2, c: 3}\nmap:\n  inner:\n    - y\n";
    for (line, column, key) in [
        (1, 4, Some("a")),
        (3, 3, Some("list")),
        (4, 7, Some("b")),
        (4, 13, Some("c")),
        (6, 3, Some("map")),
        (7, 7, Some("inner")),
        (1, 1, None),
        (9, 1, None),
        (0, 0, None),
    ] {
        assert_eq!(find_key_at(text, line, column).as_deref(), key, "{line}:{column}");
    }
}

#[test]
fn a_merge_behind_a_key_counts_as_for_helm_and_a_wrong_one_is_told() {
    let read = read_manifest("a: &x {b: 1, c: 2}\nd: {b: 3, <<: *x}\ne: {<<: *x, b: 3}\n").unwrap();
    assert_eq!(read["d"], serde_json::json!({"b": 1, "c": 2}));
    assert_eq!(read["e"], serde_json::json!({"b": 3, "c": 2}));
    let read = read_manifest("a: &x {b: 1}\nd: {<<: *x, \"<<\": 2}\n").unwrap();
    assert_eq!(read["d"], serde_json::json!({"b": 1, "<<": 2}));
    let fault = read_manifest("a: {<<: 1}\n").unwrap_err().to_string();
    assert!(fault.contains("must be a map or a list of maps"), "{fault}");
}

#[test]
fn a_block_without_a_line_break_at_the_end_has_none_in_its_text() {
    for (text, expected) in [
        ("a: |\n  x", "x"),
        ("a: &b >\n  x\n  y", "x y"),
        ("a: |+\n  x\n\n  y", "x\n\ny"),
        ("a: |-\n  x", "x"),
        ("a: |\n  x\n", "x\n"),
        ("a: |\n  x\n ", "x\n"),
        ("a: |\n  x\nb: '|'", "x\n"),
        ("a: |", ""),
    ] {
        assert_eq!(read_manifest(text).unwrap()["a"], expected, "{text:?}");
    }
}

#[test]
fn tags_in_a_document_that_is_aligned_mean_what_they_mean_for_helm() {
    let read = read_manifest("a: !!map\n|\n  x\nb: !!str {c: \"d\ne\"}\n").unwrap();
    assert_eq!(read, serde_json::json!({"a": "x\n", "b": {"c": "d e"}}));
}
