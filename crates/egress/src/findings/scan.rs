//! Searches objects for settings that lead outside, and merges what was found in manifests and in the
//! cluster.

use std::collections::BTreeSet;

use chart::manifest::Manifests;
use chart::phone_home::{self, PhoneHomeRules};
use chart::{FieldLabel, OperatorRules, inspect};
use serde_json::Value;

use super::finding::{FindingOrigin, StaticFinding, redact_secret};
use super::objects;
use crate::perimeter::Perimeter;
use crate::pods::Workload;
use crate::{Error, Result};

/// Parses manifests that helm rendered or a person wrote; `name` is what errors call them.
pub fn read_rendered_objects(name: &str, stream: &str) -> Result<Vec<Value>> {
    let manifests = Manifests::read(stream);
    if let Some(unread) = manifests.unread.first() {
        return Err(Error::Manifests {
            name: name.to_owned(),
            line: unread.line,
            fault: unread.reason.clone(),
        });
    }
    Ok(manifests.documents.into_iter().map(|document| document.value).collect())
}

/// The settings of these objects that lead outside, sorted and each once. `namespace` is that of
/// objects that name none. Values of Secrets are never looked at.
pub fn find_outside_references(
    objects: &[Value],
    namespace: &str,
    switches: &PhoneHomeRules,
    inside: &Perimeter,
    seen: FindingOrigin,
) -> Vec<StaticFinding> {
    let objects: Vec<Value> = objects.iter().map(redact_secret).collect();
    // The inspection of the chart crate reads a YAML stream, and JSON is YAML.
    let stream: String =
        objects.iter().map(|object| format!("---\n{object}\n")).collect::<Vec<_>>().concat();
    let inspection = inspect::inspect_stream(&stream, OperatorRules::builtin());
    let is_inside = |host: &str| match host.parse() {
        Ok(address) => inside.contains(address),
        Err(_) => inside.contains_name(host),
    };
    let documents = &inspection.manifests.documents;
    let setting = |place: &chart::find::ManifestLocation| {
        let object = documents.get(place.document).map(|document| &document.value);
        FieldLabel::of_field(object.unwrap_or(&Value::Null), &place.path)
    };
    let subject = |place: &chart::find::ManifestLocation| {
        let own = documents.get(place.document).map_or("", |document| document.namespace());
        // Rendered objects mostly name no namespace: helm's -n decides.
        let own = if own.is_empty() { namespace } else { own };
        Workload { kind: place.kind.clone(), namespace: own.to_owned(), name: place.name.clone() }
    };
    let mut found = Vec::new();
    for finding in switches.find_phone_home(&inspection, &is_inside) {
        match finding {
            // A finding about a chart's values; here are only objects.
            phone_home::PhoneHomeFinding::Value { .. } => {}
            phone_home::PhoneHomeFinding::Environment { name, off, places, why, .. } => {
                found.extend(places.iter().map(|place| StaticFinding {
                    subject: subject(place),
                    place: place.path.to_string(),
                    setting: setting(place),
                    what: format!("{name} is not set to {off}"),
                    why: why.clone(),
                    stop: format!("set {name}={off}"),
                    hosts: extract_hosts(&why),
                    seen: [seen].into(),
                }));
            }
            phone_home::PhoneHomeFinding::Address { host, urls, place, why, .. } => {
                found.push(StaticFinding {
                    subject: subject(&place),
                    place: place.path.to_string(),
                    setting: setting(&place),
                    what: urls.join(" "),
                    stop: format!(
                        "change {} to an address of the site, or turn off what uses it",
                        place.path
                    ),
                    why: why.unwrap_or_default(),
                    hosts: [host].into(),
                    seen: [seen].into(),
                });
            }
        }
    }
    for object in &objects {
        found.extend(objects::find_in_object(object, namespace, &is_inside, seen));
    }
    found.sort();
    found.dedup();
    found
}

/// The findings of rendered manifests and of the cluster as one list: the same setting is one finding
/// that was seen in both.
pub fn merge_findings(
    rendered: Vec<StaticFinding>,
    live: Vec<StaticFinding>,
) -> Vec<StaticFinding> {
    let mut all: Vec<StaticFinding> = Vec::new();
    for finding in rendered.into_iter().chain(live) {
        let is_it = |known: &&mut StaticFinding| {
            (&known.subject, &known.place, &known.what)
                == (&finding.subject, &finding.place, &finding.what)
        };
        match all.iter_mut().find(is_it) {
            Some(known) => known.seen.extend(finding.seen),
            None => all.push(finding),
        }
    }
    all.sort();
    all
}

/// The hosts in the text of a rule's reason: `reports usage to stats.vllm.ai`. A host is a word with a
/// dot whose last label has two lower-case letters or more, so that `e.g.` and `v0.9` are none.
fn extract_hosts(why: &str) -> BTreeSet<String> {
    let words = why.split(|c: char| !(c.is_ascii_alphanumeric() || c == '.' || c == '-'));
    let is_host = |word: &&str| {
        let labels: Vec<&str> = word.split('.').collect();
        let is_zone =
            labels.last().is_some_and(|l| l.len() > 1 && l.bytes().all(|b| b.is_ascii_lowercase()));
        labels.len() > 1 && is_zone && labels.iter().all(|label| !label.is_empty())
    };
    words.map(|word| word.trim_matches('.')).filter(is_host).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    fn find_live(objects: &[Value]) -> Vec<StaticFinding> {
        let inside = Perimeter::from_networks(["10.244.0.0/16".parse().unwrap()]);
        find_outside_references(
            objects,
            "shop",
            PhoneHomeRules::builtin(),
            &inside,
            FindingOrigin::Live,
        )
    }

    #[test]
    fn each_finding_names_its_object_its_hosts_and_what_stops_it() {
        let pod = json!({"kind": "Deployment", "metadata": {"name": "llm"}, "spec": {"template": {"spec": {
            "containers": [{"name": "vllm", "image": "docker.io/vllm/vllm-openai:v0.9", "args": ["--hub=https://hub.maker.com/v1"]}]}}}});
        let found = find_live(&[pod]);
        let subject: Vec<String> = found.iter().map(|f| f.subject.to_string()).collect();
        assert!(subject.iter().all(|s| s == "Deployment shop/llm"), "{subject:?}");
        let of = |host: &str| found.iter().find(|f| f.hosts.contains(host)).unwrap();
        assert_eq!(of("huggingface.co").stop, "set HF_HUB_OFFLINE=1");
        assert_eq!(of("stats.vllm.ai").stop, "set VLLM_NO_USAGE_STATS=1");
        assert!(of("hub.maker.com").stop.contains("args"), "{found:?}");
    }

    #[test]
    fn of_a_secret_only_the_keys_are_known() {
        let secret = json!({"kind": "Secret", "metadata": {"name": "s"},
            "stringData": {"HF_HUB_OFFLINE": "https://secret.maker.com"}});
        let pod = json!({"kind": "Pod", "metadata": {"name": "p"}, "spec": {"containers": [
            {"image": "docker.io/vllm/vllm-openai:v0.9", "envFrom": [{"secretRef": {"name": "s"}}]}]}});
        let all = format!("{:?}", find_live(&[secret, pod]));
        assert!(!all.contains("secret.maker.com") && !all.contains("HF_HUB_OFFLINE"), "{all}");
        assert!(all.contains("VLLM_NO_USAGE_STATS"), "{all}");
    }

    #[test]
    fn what_is_rendered_and_live_is_one_finding() {
        let one = |seen: FindingOrigin| StaticFinding {
            subject: Workload { kind: "Pod".into(), namespace: "a".into(), name: "b".into() },
            place: String::new(),
            setting: FieldLabel::default(),
            what: "https://x.y".into(),
            why: String::new(),
            stop: String::new(),
            hosts: BTreeSet::new(),
            seen: [seen].into(),
        };
        let all =
            merge_findings(vec![one(FindingOrigin::Rendered)], vec![one(FindingOrigin::Live)]);
        assert_eq!(all.len(), 1);
        assert_eq!(all[0].seen.len(), 2);
    }

    #[test]
    fn hosts_are_taken_out_of_a_reason_and_other_words_with_dots_are_not() {
        let hosts = |why: &str| extract_hosts(why).into_iter().collect::<Vec<_>>().join(" ");
        assert_eq!(
            hosts("reports usage to stats.vllm.ai, (cdn-lfs.hf.co)."),
            "cdn-lfs.hf.co stats.vllm.ai"
        );
        for none in ["e.g. nothing", "since v0.9", "version 1.2.3", "a..b", "Main.GO", "end."] {
            assert_eq!(hosts(none), "", "{none}");
        }
    }

    #[test]
    fn what_differs_in_object_place_or_text_stays_apart_when_findings_are_merged() {
        let finding = |name: &str, place: &str, what: &str| StaticFinding {
            subject: Workload { kind: "Pod".into(), namespace: "a".into(), name: name.into() },
            place: place.into(),
            setting: FieldLabel::default(),
            what: what.into(),
            why: String::new(),
            stop: String::new(),
            hosts: BTreeSet::new(),
            seen: [FindingOrigin::Live].into(),
        };
        let all =
            [("b", "p", "w"), ("a", "p", "w"), ("a", "q", "w"), ("a", "p", "x"), ("a", "p", "w")];
        let all = all.map(|(name, place, what)| finding(name, place, what)).to_vec();
        let merged = merge_findings(vec![], all);
        let shown: Vec<String> =
            merged.iter().map(|f| format!("{}{}{}", f.subject.name, f.place, f.what)).collect();
        assert_eq!(shown, ["apw", "apx", "aqw", "bpw"]);
    }

    #[test]
    fn manifests_that_do_not_parse_are_an_error_with_their_name_and_line() {
        let text = "kind: Pod\n---\nkind: Service\n  bad: [\n";
        let error = read_rendered_objects("shop", text).unwrap_err();
        assert!(
            matches!(&error, Error::Manifests { name, line, .. } if name == "shop" && *line > 1),
            "{error:?}"
        );
        assert_eq!(
            read_rendered_objects("shop", "kind: Pod\n---\n---\nkind: Job\n").unwrap().len(),
            2
        );
    }
}
