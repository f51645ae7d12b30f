//! Changes to Corefiles as they are found in clusters: kubeadm's, k3s', EKS', one with a site's own zones,
//! and the one of the development cluster.

#![allow(clippy::unwrap_used, missing_docs)]

use gantry_egress::corefile::{Corefile, EditedCorefile, SinkRedirection, redirect_to_sink};

const SINK: &str = "10.244.1.9:5353";

fn change(text: &str, inside: &[&str]) -> EditedCorefile {
    let inside: Vec<String> = inside.iter().map(ToString::to_string).collect();
    let kept_in = "ConfigMap kube-system/gantry-audit";
    let wish = SinkRedirection { sink: SINK.parse().unwrap(), inside: &inside, kept_in };
    redirect_to_sink(&Corefile::parse(text).unwrap(), &wish).unwrap()
}

/// The lines of one text that the other lacks; a line that is there twice counts twice.
fn gone(from: &str, to: &str) -> Vec<String> {
    let mut left: Vec<&str> = to.lines().map(str::trim).collect();
    let is_gone = |line: &&str| match left.iter().position(|other| other == line) {
        Some(at) => {
            left.remove(at);
            false
        }
        None => true,
    };
    from.lines().map(str::trim).filter(is_gone).map(str::to_owned).collect()
}

#[test]
fn kubeadm_forwards_to_the_sink_with_the_client_and_keeps_no_answers() {
    let text = include_str!("corefiles/kubeadm");

    let edited = change(text, &[]);

    assert_eq!(
        gone(text, &edited.text),
        [
            "forward . /etc/resolv.conf {",
            "max_concurrent 1000",
            "cache 30 {",
            "disable success cluster.local",
            "disable denial cluster.local",
            "}",
        ]
    );
    assert_eq!(
        gone(&edited.text, text),
        [
            "# by gantry audit; the original is in ConfigMap kube-system/gantry-audit",
            "rewrite continue edns0 local set 0xfeed {client_ip}",
            "forward . 10.244.1.9:5353 {",
            "max_fails 0",
            "",
        ]
    );
    assert_eq!(edited.before.len(), 2);
}

#[test]
fn the_sites_own_names_go_where_they_went_before() {
    for text in [include_str!("corefiles/kubeadm"), include_str!("corefiles/k3s")] {
        let edited = change(text, &["git.site.net", "depot.site.net", "git.site.net"]);
        for name in ["git.site.net", "depot.site.net"] {
            let block = format!("\n{name}:53 {{\n    errors\n    forward . /etc/resolv.conf");
            assert_eq!(edited.text.matches(&block).count(), 1, "{}", edited.text);
        }
    }
}

#[test]
fn k3s_and_eks_are_changed_in_the_same_way() {
    for text in [include_str!("corefiles/k3s"), include_str!("corefiles/eks")] {
        let edited = change(text, &[]);
        let mut lost = gone(text, &edited.text);
        lost.sort();
        assert_eq!(lost, ["cache 30", "forward . /etc/resolv.conf"]);
        assert!(edited.text.contains(&format!("forward . {SINK} {{")));
    }
}

#[test]
fn zones_of_the_site_exceptions_and_other_protocols_stay_as_they_are() {
    let text = include_str!("corefiles/stub-zones");

    let edited = change(text, &["site.net", "git.corp.net"]);

    let kept = [
        "(upstream) {\n    forward . 10.0.0.2 10.0.0.3\n}",
        "corp.net:53 site.net:53 {\n    errors\n    import upstream\n}",
        "log . \"{remote} \\\"{name}\\\" {type}\" # a { in a comment }",
        "forward lab.net 10.0.0.9\n    forward . 10.244.1.9:5353 {\n        max_fails 0\n        \
         except printers.net cameras.net\n    }",
        "tls://.:853 {\n    forward . 10.0.0.2\n}",
        // Its own block is there for site.net; git.corp.net gets one.
        "git.corp.net:53 {\n    errors\n    forward . tls://10.0.0.2 tls://10.0.0.3 {",
    ];
    for part in kept {
        assert!(edited.text.contains(part), "{part}\n\n{}", edited.text);
    }
    assert_eq!(edited.text.matches("site.net:53 {").count(), 1);
    // Ours comes first: CoreDNS stops at the first rewrite rule that matches.
    let place = |text: &str| edited.text.find(text).unwrap();
    assert!(place("rewrite continue edns0") < place("rewrite name exact"));
}

#[test]
fn a_template_that_answers_everything_makes_way() {
    let text = include_str!("corefiles/dev-cluster");
    let edited = change(text, &["git.site.net"]);
    assert!(!edited.text.contains("template"), "{}", edited.text);
    // Nobody was asked before, so nobody is asked now.
    assert!(!edited.text.contains("git.site.net"), "{}", edited.text);
    assert!(edited.text.starts_with("cluster.local:53 in-addr.arpa:53 ip6.arpa:53 {\n  errors\n"));
}

#[test]
fn without_a_block_for_all_names_one_is_put_at_the_end() {
    let edited = change("cluster.local {\n  kubernetes\n  reload\n}\n", &[]);
    assert!(edited.text.starts_with("cluster.local {\n  kubernetes\n  reload\n}\n\n.:53 {\n"));
    let edited = change(".:53 {\n  kubernetes cluster.local\n  reload # the end\n}", &[]);
    assert!(edited.text.contains("reload # the end\n    forward . "), "{}", edited.text);
}

#[test]
fn what_cannot_be_changed_safely_is_refused_with_the_next_step() {
    let inside = [];
    let wish = SinkRedirection { sink: SINK.parse().unwrap(), inside: &inside, kept_in: "x" };
    let error = |text| match Corefile::parse(text) {
        Ok(corefile) => redirect_to_sink(&corefile, &wish).unwrap_err().to_string(),
        Err(error) => error.to_string(),
    };
    assert!(error(".:53 {\n  forward . 10.0.0.2\n}").contains("a line `reload`"));
    assert!(error(".:53 {\n  errors\n").contains("line 1: its closing brace is missing"));
    assert!(error(".:53 {\n  health {\n  errors\n}\n").contains("brace"));
    assert!(error(".:53\nerrors\n").contains("has no braces"));
    assert!(error(".:53 {\n  errors }\n}\n").contains("line 2"));
}

#[test]
fn reading_never_breaks_whatever_the_text() {
    let text = include_str!("corefiles/stub-zones");
    for end in (0..text.len()).filter(|end| text.is_char_boundary(*end)) {
        let _ = Corefile::parse(&text[..end]);
        let _ = Corefile::parse(&text[end..]);
    }
}
