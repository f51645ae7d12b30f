//! Reads odd YAML as helm reads it: documents of a list and generated ones go through a real helm
//! (`fromYaml`, the parser with which helm, kubectl and the API server read manifests), and whatever
//! that accepts has the same content here.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fmt::Write as _;

use gantry_chart::post_render::post_render;
use gantry_chart::relocate::{ProofVerdict, RelocationTarget};
use gantry_chart::values::read_values;
use serde_json::Value;
use types::naming::NamingRule;

use crate::post_render_law::choices::{Choices, derive_bytes};
use crate::support::Written;

/// Documents that helm accepts.
const DOCUMENTS: &[&str] = &[
    // A quoted text that goes on at the start of a line, or with less indentation than its key.
    "a: \"one\ntwo\"\n",
    "a:\n  b: 'one\n two\n\nthree'\n  c: 1\n",
    "a:\n- \"one\ntwo\"\n- b: \"x\\\n  y\"\n",
    "a: \"one\\n\\\nb: two\"\n",
    "a: \"\none\n\"\n",
    "a: 'it''s\nhere'   # x\nb: 1\n",
    // The header of a block on a line of its own.
    "a:\n|\n  x: 1\nb: 1\n",
    "a:\n  b:\n  >-\n    x\n    y\n",
    // Blocks.
    "a: |2\n    x\n   y\nb: >+\n  x\n\n\nc: |-\n  x\n\n",
    "a: |\n\n\n  x\n\n   y\n# z\nb: 1\n",
    "a: >\n  x\n  y\n\n  z\n    w\n  v\n",
    "a: | # why\n  x\n",
    "a: |\n  x\n  # no comment\n # a comment\nb: 1\n",
    "a: |\n  \tx\n\ty\n",
    "a: |\nb: 1\n",
    // Brackets with any indentation.
    "a: {\nb: 1,\nc: [\n1,\n],\n}\nd: 1\n",
    "a:\n  b: [\n  1\n  , 2\n]\n",
    "{\"a\":1,\"b\":{\"c\":[1,2,],},}\n",
    "a: {b: 1, c, d: }\n",
    "a: [b: 1, c: 2, [d], {e: f}]\n",
    "a: {x:1, 'y':2, \"z\":3}\n",
    "a: [http://x/y:1, a:b, ::1, -x, ?y]\n",
    "{a: 1, ? b : 2, ? c}\n",
    // Lists.
    "a:\n- 1\n-   b: 1\n    c: 2\n- - 3\n  - 4\n-\n  d: 1\n- # x\n  e\n",
    "a:\n# x\n  # y\n- 1\n   # z\n- 2\n",
    // Keys.
    "? a\n: 1\n? b\n? c\n: - 1\n",
    "\"a b\" : 1\n'c': 2\nd/e.f-g: 3\n1: 4\ntrue: 5\n1.5: 7\n",
    "a: 1\na: 2\nb: {x: 1, x: 2}\n",
    "a :  1\nb:\t2\nc:\n    3\n",
    "<<: {a: 1}\nb: 2\n",
    // Anchors, tags and merges.
    "a: &x {b: 1, c: 2}\nd: {<<: *x, b: 3}\ne: *x\n",
    "a: &x {b: 1}\nc: &y {b: 2, d: 3}\ne: {<<: [*x, *y]}\nf:\n  <<: *y\n  b: 0\n",
    "a: &x\n  - 1\nb: *x\n",
    "a: !!str 1\nb: !!int \"2\"\nc: !x z\nd: !!binary eA==\ne: ! z\n",
    "a: &x 1\nb: &x 2\nc: *x\n",
    "a: &a !!str\n  x\n",
    // Plain texts.
    "a: one\n  two\n\n  three # x\nb: x#y\nc: x: \n",
    "a: x:y\nb: -1x\nc: 10:30\nd: 2001-01-01\ne: 1_000\nf: 0x1F\ng: 010\nh: 0o10\ni: .5\nj: 1e3\n",
    "a: yes\nb: on\nc: 'no'\nd: y\ne: NULL\nf: ~\ng:\nh: True\n",
    "a: '\"'\nb: \"\\u00e9\\x41\\t\\/\\0\"\nc: \"\\\"\"\n",
    "a: x\u{a0}y\nb: é\n\"é\": ü\n",
    // Around documents.
    "\u{feff}a: 1\n",
    "a: 1\r\nb: |\r\n  x\r\n  y\r\nc: \"d\r\n  e\"\r\n",
    "# x\n\na: 1   \n\n\n# y",
    "--- # x\na: 1\n",
    "%YAML 1.1\n---\na: 1\n...\n",
    "a: 1\n...\n",
    "a: 1\n  \n\t\nb: 2\n",
    "a:\t\n  b:  \t1\t# x\n",
    "a: [\t1,\n\t2\n]\n",
    "a: 'x'  \nb: 'y'\t\n",
    // Merges behind keys of their own: the later one wins, as in go-yaml 2.
    "a: &x {b: 1, c: 2}\nd:\n  b: 3\n  <<: *x\n",
    "a: &x {b: 1, c: 2}\nd:\n  b: 3\n  <<: *x\n  e: 5\n  c: 7\n",
    "a: &x {b: 1}\ne: &y {b: 2}\nd:\n  <<: *x\n  <<: *y\n",
    "a: &x {b: 1}\ne: &y {b: 2, c: 1}\nd:\n  c: 0\n  <<: [*x, *y]\n",
    "a: &x {b: {p: 1}}\nd:\n  b: {q: 1}\n  <<: *x\n",
    "a: {b: 1, <<: {b: 2}}\n",
    "a: {\"<<\": {b: 2}, c: 1}\n",
    "a: {'b': 1, '<<': {b: 2}}\n",
    "a: &x {b: 1}\nd: {<<: *x, <<: {b: 7}}\n",
    // Without a line break at the end.
    "a: |\n  x",
    "a: >\n  x",
    "a: |+\n  x",
    "a: |-\n  x",
    "a: |\n  x\n ",
    "a: |\n  x\n  ",
    "a: x",
    "a: 'x'",
    "a: |\n  x\n\n",
    "a: |+\n  x\n\n  ",
    "a:\n- |\n  x",
    "a: |",
    "a: >+\n  x\n",
    "a: |\n  x # c",
    "# x",
    "a: |\n  x\n# z",
    "a: |+\n  x\n\n# z",
    // Blocks with their indentation written out.
    "a: |2\n    x\n   y\n",
    "a:\n- |2\n   x\n",
    "a:\n  - |2\n     x\n",
    "a:\n  b: |2\n     x\n    y\n",
    "a: |1\n x\n  y\n",
    "a: |4\n    x\n",
    "a: |2-\n   x\n",
    "a: |-2\n   x\n",
    "a:\n- b: |2\n     x\n    y\n",
    "a:\n- - |2\n     x\n",
    "a: >2\n   x\n  y\n",
    "a: |9\n         x\n",
    "a:\n  b: |1\n   x\n    y\nc: 1\n",
    "a:\n- |1\n x\n- y\n",
    "a:\n-   b: |2\n        x\n    c: 1\n",
    "a: |2\n\n    x\n\n   y\nb: 1\n",
    // Tags of lists and maps.
    "a: !!str {b: 1}\n",
    "a: !!str\n  b: 1\n",
    "a: !!map {b: 1}\n",
    "a: !!seq [1]\n",
    "a: !!str [1]\n",
    "a: !!int {b: 1}\n",
    "a: !foo {b: 1}\n",
    "a: !!seq {b: 1}\n",
    "a: !!map [1]\n",
    "!!map\na: 1\n",
    "a: !!set {b, c}\n",
    "a: !!omap [b: 1]\n",
    "a: !!null {b: 1}\n",
    "a: !!map\n|\n  x\nb: !!str {c: \"d\ne\"}\n",
    "a:\n- !mine\n- !mine v\nb: !!seq\n- 1\n",
    // Tags of plain texts.
    "a: !foo y\n",
    "a: !foo 1\n",
    "a: !foo true\n",
    "a: !foo ~\n",
    "a: !foo\n",
    "a: !foo yes\n",
    "a: ! y\n",
    "a: ! 1\n",
    "a: !!str y\n",
    "a: !!bool y\n",
    "a: !!bool 'true'\n",
    "a: !!int '1'\n",
    "a: !!float 1\n",
    "a: !!null ''\n",
    "a: !!str\n",
    "a: !!str ~\n",
    "a: !!timestamp 2001-01-01\n",
    "a: !foo 'y'\n",
    "a: !foo 2001-01-01\n",
    "a: [!foo y, !foo 1]\n",
    "a: !<tag:yaml.org,2002:str> 1\n",
    "%TAG !e! tag:x,2000:\n---\na: !e!foo y\n",
    "a: y\nb: Y\nc: n\nd: N\n",
    "? !foo y\n: 1\n",
    "a: !!binary eA==\n",
];

/// What helm reads in each document; `None` where it accepts none.
fn read_with_helm(documents: &[String]) -> Vec<Option<Value>> {
    let mut files = vec![
        ("Chart.yaml".to_owned(), "apiVersion: v2\nname: odd\nversion: 1.0.0\n".to_owned()),
        (
            "templates/all.yaml".to_owned(),
            "{{- range $path, $text := .Files.Glob \"odd/*\" }}\n{{ $path }}: {{ $text | toString | fromYaml | toJson }}\n{{- end }}\n".to_owned(),
        ),
    ];
    for (number, document) in documents.iter().enumerate() {
        files.push((format!("odd/{number}.yaml"), document.clone()));
    }
    let files: Vec<(&str, &str)> =
        files.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
    let stream =
        Written::new(&files).render(None).unwrap_or_else(|error| panic!("{}", error.message));
    let mut read = vec![None; documents.len()];
    for line in stream.lines() {
        let Some((path, json)) = line.split_once(".yaml: ") else { continue };
        let Some(number) = path.strip_prefix("odd/") else { continue };
        let value: Value = serde_json::from_str(json).unwrap();
        let is_refused = value.get("Error").is_some_and(|error| {
            error.as_str().is_some_and(|text| text.to_lowercase().contains("yaml"))
        });
        if !is_refused {
            read[number.parse::<usize>().unwrap()] = Some(value);
        }
    }
    read
}

/// The content of a document as the crate reads it.
fn read_here(document: &str) -> Result<Value, String> {
    read_values("odd.yaml", document).map_err(|error| error.to_string())
}

/// Whether two contents are the same. Numbers of helm have gone through JSON.
fn is_same(here: &Value, there: &Value) -> bool {
    match (here, there) {
        (Value::Object(here), Value::Object(there)) => {
            here.len() == there.len()
                && here
                    .iter()
                    .all(|(key, own)| there.get(key).is_some_and(|other| is_same(own, other)))
        }
        (Value::Array(here), Value::Array(there)) => {
            here.len() == there.len() && here.iter().zip(there).all(|(a, b)| is_same(a, b))
        }
        (Value::Number(here), Value::Number(there)) => here.as_f64() == there.as_f64(),
        _ => here == there,
    }
}

/// How many documents helm accepts, and what is wrong with those that are read otherwise here.
fn compare_with_helm(documents: &[String]) -> (usize, String) {
    let (mut accepted, mut wrong) = (0, String::new());
    for (document, there) in documents.iter().zip(read_with_helm(documents)) {
        let Some(there) = there else { continue };
        accepted += 1;
        let here = read_here(document);
        if !here.as_ref().is_ok_and(|here| is_same(here, &there)) {
            let here = here.map_or_else(|fault| fault, |here| here.to_string());
            let _ = writeln!(wrong, "{document:?}\n  helm: {there}\n  here: {here}");
        }
    }
    (accepted, wrong)
}

#[test]
fn odd_documents_are_read_as_helm_reads_them() {
    let documents: Vec<String> = DOCUMENTS.iter().map(|text| (*text).to_owned()).collect();
    let (accepted, wrong) = compare_with_helm(&documents);
    assert!(wrong.is_empty(), "{wrong}");
    assert!(accepted * 10 >= documents.len() * 9, "helm accepts {accepted} of {}", documents.len());
}

#[test]
fn generated_documents_are_read_as_helm_reads_them() {
    let read = |name: &str, default: u64| {
        std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
    };
    let (runs, seed) = (read("GANTRY_YAML_RUNS", 1500), read("GANTRY_YAML_SEED", 1));
    let documents: Vec<String> = (0..runs)
        .map(|number| {
            let bytes = derive_bytes(seed, number);
            let mut writer =
                OddWriter { choices: Choices::new(&bytes), text: String::new(), depth: 0 };
            writer.write_map(0);
            writer.text
        })
        .collect();
    let (accepted, wrong) = compare_with_helm(&documents);
    println!("helm accepts {accepted} of {runs} documents of seed {seed}");
    assert!(wrong.is_empty(), "{wrong}");
    assert!(accepted * 4 > documents.len(), "helm accepts {accepted} of {runs}");
}

#[test]
fn an_image_in_an_odd_document_is_moved_in_place() {
    let target = RelocationTarget {
        prefix: "site.internal:5000/ai".parse().unwrap(),
        naming: NamingRule::Path,
        pull_secret: None,
    };
    for stream in [
        "kind: ConfigMap\ndata:\n  note: \"one\ntwo\"\n  image: quay.io/org/app:1\n  app.yaml:\n  |\n    image: quay.io/org/app:1\n    note: 'a\n    b'\n",
        "kind: Pod\nmetadata: {annotations: {a: b}}\nspec:\n  containers:\n  - args: [\"x\n\ny\"]\n    name: \"a\nb\"\n    image: quay.io/org/app:1 # keep\n",
    ] {
        let moved = post_render(stream, &target).unwrap();
        assert_eq!(moved.proof.verdict(), ProofVerdict::Proven, "{:?}", moved.proof);
        assert_eq!(moved.stream, stream.replace("quay.io", "site.internal:5000/ai"));
    }
}

/// Writes odd YAML.
struct OddWriter<'a> {
    choices: Choices<'a>,
    text: String,
    depth: usize,
}

impl OddWriter<'_> {
    fn push(&mut self, text: &str) {
        self.text.push_str(text);
    }

    fn pick(&mut self, texts: &[&str]) {
        let text = self.choices.pick_item(texts);
        self.push(text);
    }

    /// A line break, perhaps with a comment or blank lines, and the indentation of the next line.
    fn break_line(&mut self, indent: usize) {
        self.pick(&[
            "\n",
            "\n",
            "\n",
            "\n",
            " # x\n",
            "\n\n",
            "  \n",
            "\n# y\n",
            "\n      # z\n",
            "\r\n",
        ]);
        let indent = " ".repeat(indent);
        self.push(&indent);
    }

    /// An indentation near one.
    fn pick_indent(&mut self, indent: usize) -> usize {
        match self.choices.pick_number(6) {
            0 => 0,
            1 => indent.saturating_sub(1),
            2 => indent + 1,
            _ => indent,
        }
    }

    fn write_map(&mut self, indent: usize) {
        for number in 0..=self.choices.pick_number(3) {
            if number > 0 {
                self.break_line(indent);
            }
            self.pick(&["a", "b", "c", "\"d e\"", "'f'", "g/h.i", "1", "x-y", "*", "? k\n"]);
            self.pick(&[":", ":", ":", ":", ":", " :", ":"]);
            self.write_value(indent);
        }
        if self.depth == 0 {
            self.pick(&["\n", "\n", "\n\n", "\n...\n"]);
        }
    }

    fn write_value(&mut self, indent: usize) {
        self.pick(&[" ", " ", " ", "  ", "\t", " &n "]);
        match self.choices.pick_number(12) {
            0 | 1 => self.pick(&[
                "v",
                "v w",
                "1",
                "!!str 1",
                "true",
                "",
                "~",
                "v#w",
                "u:v",
                "-1",
                "é",
                "0x1F",
                "'q'",
                "\"r\\n\"",
                "*n",
                "http://h:1/p",
                "v: w",
            ]),
            2 | 3 => self.write_quoted(indent),
            4 | 5 => self.write_block(indent),
            6 | 7 => self.write_flow(indent),
            8 => {
                self.push("one");
                let indent = self.pick_indent(indent + 2);
                self.break_line(indent);
                self.push("two");
            }
            9 | 10 if self.depth < 3 => {
                let inner = indent + self.choices.pick_number(4);
                self.break_line(inner);
                self.depth += 1;
                self.write_map(inner);
                self.depth -= 1;
            }
            _ if self.depth < 3 => {
                let inner = indent + self.choices.pick_number(3);
                self.depth += 1;
                for _ in 0..=self.choices.pick_number(3) {
                    self.break_line(inner);
                    self.push("-");
                    match self.choices.pick_number(3) {
                        0 => {
                            self.push(" ");
                            self.write_map(inner + 2);
                        }
                        _ => self.write_value(inner),
                    }
                }
                self.depth -= 1;
            }
            _ => self.push("v"),
        }
    }

    fn write_quoted(&mut self, indent: usize) {
        let quote = self.choices.pick_item(&["\"", "'"]);
        self.push(quote);
        for number in 0..=self.choices.pick_number(4) {
            if number > 0 {
                self.pick(&["\n", "\n", "  \n", "\n\n", "\n \n"]);
                let indent = self.pick_indent(indent + 2);
                self.push(&" ".repeat(indent));
            }
            self.pick(&["one", "two: x", "# three", "- four", "", "five  ", "key: |"]);
        }
        self.push(quote);
    }

    fn write_block(&mut self, indent: usize) {
        if self.choices.is_one_in(3) {
            let indent = self.pick_indent(indent);
            self.break_line(indent);
        }
        self.pick(&["|", ">", "|-", ">-", "|+", ">+", "| # x"]);
        let inner = indent + 1 + self.choices.pick_number(3);
        for _ in 0..self.choices.pick_number(4) {
            self.push("\n");
            let indent = self.pick_indent(inner);
            self.push(&" ".repeat(indent));
            self.pick(&["one", "two: x", "# three", "- four", "", "|", "five: |", "\tsix"]);
        }
    }

    fn write_flow(&mut self, indent: usize) {
        let (open, close) = self.choices.pick_item(&[("{", "}"), ("[", "]")]);
        self.push(open);
        for number in 0..self.choices.pick_number(4) {
            if number > 0 {
                self.push(",");
            }
            if self.choices.is_one_in(2) {
                let indent = self.pick_indent(indent + 2);
                self.push("\n");
                self.push(&" ".repeat(indent));
            }
            if open == "{" {
                self.pick(&["a: ", "'b': ", "\"c\":", "d", "e : ", "f:\n "]);
            }
            self.pick(&["1", "x", "'y'", "\"z\"", "{}", "[1, 2]", "h:1/p", "", "{q: [r]}"]);
        }
        if self.choices.is_one_in(3) {
            let indent = self.pick_indent(indent);
            self.push("\n");
            self.push(&" ".repeat(indent));
        }
        self.push(close);
    }
}
