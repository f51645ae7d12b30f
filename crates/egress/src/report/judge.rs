//! From what was seen to what it means: each attempt gets its workload, what was inside is left
//! out, and what was found in objects says what stops it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use chart::phone_home::Switches;
use cluster::Cluster;
use jiff::Timestamp;

use super::{By, Report, Stop, Sure, Tried, Verdict};
use crate::coverage::Closed;
use crate::evidence::Evidence;
use crate::findings::Static;
use crate::line::Protocol;
use crate::pods::{Who, Workload};
use crate::surroundings::Surroundings;
use crate::tally::Seen;

/// All that a report is made of.
pub struct Case<'a> {
    /// The cluster; absent when only manifests were looked at.
    pub cluster: Option<&'a Cluster>,
    /// The audited namespaces; empty for all.
    pub namespaces: &'a [String],
    /// What is inside.
    pub around: &'a Surroundings,
    /// The rules.
    pub switches: &'a Switches,
    /// What was found in objects.
    pub findings: Vec<Static>,
    /// The policies.
    pub policies: Vec<Closed>,
    /// What was seen, where it was listened.
    pub evidence: Option<Evidence>,
}

/// Judges.
pub fn judge(case: Case<'_>) -> Report {
    let mut report = Report {
        version: 1,
        gantry: types::own_image::VERSION.to_owned(),
        context: case.cluster.map(|cluster| cluster.context().to_owned()).unwrap_or_default(),
        server: case.cluster.map(|cluster| cluster.server().to_owned()).unwrap_or_default(),
        namespaces: case.namespaces.to_vec(),
        written: Timestamp::now(),
        verdict: Verdict::NotSoaked,
        from: None,
        to: None,
        attempts: vec![],
        elsewhere: vec![],
        findings: case.findings,
        policies: case.policies,
        sources: vec![],
        exercised: vec![],
        gaps: vec![],
    };
    let Some(evidence) = case.evidence else { return report };
    let all = Sorted::of(&evidence, case.around).into_tried();
    for mut tried in all {
        tried.stops = stops(&tried, &report.findings, case.switches);
        let is_audited = tried.workload.as_ref().map_or(case.namespaces.is_empty(), |workload| {
            case.namespaces.is_empty() || case.namespaces.contains(&workload.namespace)
        });
        match is_audited {
            true => report.attempts.push(tried),
            false => report.elsewhere.push(tried),
        }
    }
    report.verdict = match (report.attempts.is_empty(), evidence.gaps.is_empty()) {
        (false, _) => Verdict::Tried,
        (true, true) => Verdict::Quiet,
        (true, false) => Verdict::Unproven,
    };
    (report.from, report.to) = (evidence.from, evidence.to);
    report.sources = evidence.sources;
    report.exercised = evidence.exercised;
    report.gaps = evidence.gaps;
    report
}

/// Attempts by who and where to.
struct Sorted<'a> {
    evidence: &'a Evidence,
    tried: BTreeMap<(Option<Workload>, Option<String>, String), Tried>,
}

impl<'a> Sorted<'a> {
    fn of(evidence: &'a Evidence, around: &Surroundings) -> Self {
        let mut sorted = Self { evidence, tried: BTreeMap::new() };
        for (query, seen) in &evidence.queries {
            // CoreDNS asks itself whether it goes round in circles (its plugin `loop`).
            let is_own = query.client.is_some_and(|client| client.is_loopback());
            if !is_own && !around.inside.has_name(&query.name) {
                let node = query.client.and_then(|client| node_of(client, around));
                let from = query.client;
                sorted.note(from, node, (query.name.clone(), By::Name), Some(&query.kind), *seen);
            }
        }
        for ((node, attempt), seen) in &evidence.attempts {
            let to = attempt.to;
            if around.inside.has(to) || evidence.book.has(to) {
                continue;
            }
            let is_known = evidence.book.has(attempt.from) || around.inside.has(attempt.from);
            if is_known {
                let to = destination(to, attempt.port, attempt.protocol);
                let asks = attempt.asks.as_ref().map(|name| format!("asks for {name}"));
                let node = Some(node.as_str());
                sorted.note(Some(attempt.from), node, (to, By::Packet), asks.as_deref(), *seen);
            }
        }
        sorted
    }

    fn note(
        &mut self,
        from: Option<IpAddr>,
        node: Option<&str>,
        (to, by): (String, By),
        detail: Option<&str>,
        seen: Seen,
    ) {
        let evidence = self.evidence;
        let known = from.and_then(|from| evidence.book.who(from, seen.first));
        let (whose, address): (Vec<&Who>, Option<String>) = match (known, from, node) {
            (Some(who), ..) => (vec![who], None),
            // From a node's own address: one of the pods in its network, or the node itself.
            (None, from, Some(node)) => {
                (evidence.book.on_host(node), from.map(|from| format!("{from} (node {node})")))
            }
            (None, from, None) => (vec![], from.map(|from| from.to_string())),
        };
        let workloads: BTreeSet<&Workload> = whose.iter().map(|who| &who.workload).collect();
        // One alone may be blamed; several stay what they are: candidates.
        let workload = match workloads.len() {
            1 => workloads.first().map(|workload| (*workload).clone()),
            _ => None,
        };
        let key = (workload.clone(), address.clone(), to.clone());
        let tried = self.tried.entry(key).or_insert_with(|| Tried {
            workload,
            pods: BTreeSet::new(),
            nodes: BTreeSet::new(),
            address,
            to,
            by,
            detail: BTreeSet::new(),
            count: 0,
            first: seen.first,
            last: seen.last,
            stops: vec![],
        });
        tried.count = tried.count.saturating_add(seen.count);
        tried.first = tried.first.min(seen.first);
        tried.last = tried.last.max(seen.last);
        tried.detail.extend(detail.map(str::to_owned));
        tried.nodes.extend(node.map(str::to_owned));
        for who in whose {
            tried.pods.insert(format!("{}/{}", who.workload.namespace, who.pod));
            tried.nodes.insert(who.node.clone());
        }
    }

    fn into_tried(self) -> Vec<Tried> {
        self.tried.into_values().collect()
    }
}

fn node_of(address: IpAddr, around: &Surroundings) -> Option<&str> {
    let mut nodes = around.nodes.iter();
    nodes.find(|(_, addresses)| addresses.contains(&address)).map(|(name, _)| name.as_str())
}

fn destination(to: IpAddr, port: Option<u16>, protocol: Protocol) -> String {
    match (to, port) {
        (to, None) => format!("{to} {}", protocol.as_str()),
        (IpAddr::V4(v4), Some(port)) => format!("{v4}:{port} {}", protocol.as_str()),
        (IpAddr::V6(v6), Some(port)) => format!("[{v6}]:{port} {}", protocol.as_str()),
    }
}

/// What stops an attempt: what of the workload's own objects names the host, what of its namespace
/// does, what a rule knows of the host, and what keeps the workload's program inside anyway.
fn stops(tried: &Tried, findings: &[Static], switches: &Switches) -> Vec<Stop> {
    /// More would hide the likely ones.
    const MOST: usize = 5;
    let host = match tried.by {
        By::Name => tried.to.as_str(),
        By::Packet => tried.to.split([' ', ':', ']']).next().unwrap_or_default(),
    };
    let names = |finding: &Static| {
        finding.hosts.iter().any(|known| {
            host.strip_suffix(known.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        })
    };
    let stop = |sure: Sure, finding: &Static| Stop {
        sure,
        setting: finding.stop.clone(),
        subject: Some(finding.subject.clone()),
        why: finding.why.clone(),
    };
    let mut stops = BTreeSet::new();
    for finding in findings {
        let is_own = tried.workload.as_ref() == Some(&finding.subject);
        let is_near =
            tried.workload.as_ref().is_some_and(|own| own.namespace == finding.subject.namespace);
        match (is_own, is_near, names(finding)) {
            (true, _, true) => stops.insert(stop(Sure::Certain, finding)),
            (false, true, true) => stops.insert(stop(Sure::Likely, finding)),
            (true, _, false) if finding.stop.starts_with("set ") => {
                stops.insert(stop(Sure::Possible, finding))
            }
            _ => false,
        };
    }
    if let Some(why) = switches.host(host).filter(|_| tried.by == By::Name) {
        stops.insert(Stop {
            sure: Sure::Likely,
            setting: format!("turn off what uses {host}"),
            subject: tried.workload.clone(),
            why: why.to_owned(),
        });
    }
    if stops.is_empty() {
        stops.insert(Stop {
            sure: Sure::Possible,
            setting: match tried.by {
                By::Name => format!(
                    "no rule knows {host}: look for it in the program's own settings; when it is the \
                     site's, say --inside {host}"
                ),
                By::Packet => format!(
                    "no object names {host}: look for it in the program's own settings, or close the \
                     namespace (gantry policy egress); when it is the site's, say --inside {host}"
                ),
            },
            subject: tried.workload.clone(),
            why: String::new(),
        });
    }
    stops.into_iter().take(MOST).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::findings::Seen as In;

    fn tried(to: &str, by: By) -> Tried {
        let now = Timestamp::now();
        Tried {
            workload: Some(Workload {
                kind: "Deployment".into(),
                namespace: "shop".into(),
                name: "llm".into(),
            }),
            pods: BTreeSet::new(),
            nodes: BTreeSet::new(),
            address: None,
            to: to.into(),
            by,
            detail: BTreeSet::new(),
            count: 1,
            first: now,
            last: now,
            stops: vec![],
        }
    }

    fn finding(name: &str, host: &str, stop: &str) -> Static {
        Static {
            subject: Workload {
                kind: "Deployment".into(),
                namespace: "shop".into(),
                name: name.into(),
            },
            place: String::new(),
            what: host.into(),
            why: String::new(),
            stop: stop.into(),
            hosts: [host.to_owned()].into(),
            seen: [In::Live].into(),
        }
    }

    #[test]
    fn the_workloads_own_setting_that_names_the_host_comes_first() {
        let findings = [
            finding("llm", "stats.vllm.ai", "set VLLM_NO_USAGE_STATS=1"),
            finding("other", "huggingface.co", "change args"),
            finding("llm", "huggingface.co", "set HF_HUB_OFFLINE=1"),
        ];
        let switches = Switches::builtin();
        let stops = stops(&tried("cdn-lfs.huggingface.co", By::Name), &findings, switches);
        assert_eq!(stops[0].setting, "set HF_HUB_OFFLINE=1");
        assert_eq!(stops[0].sure, Sure::Certain);
        assert_eq!(stops.last().unwrap().setting, "set VLLM_NO_USAGE_STATS=1");
    }

    #[test]
    fn what_no_rule_knows_has_a_next_step_all_the_same() {
        let switches = Switches::builtin();
        let stops = stops(&tried("192.0.2.1:443 tcp", By::Packet), &[], switches);
        assert!(stops[0].setting.contains("--inside 192.0.2.1"), "{stops:?}");
        let by_address = [finding("llm", "192.0.2.1", "change args")];
        let stops = super::stops(&tried("192.0.2.1:443 tcp", By::Packet), &by_address, switches);
        assert_eq!(stops[0].setting, "change args");
    }
}
