//! Makes the report from the evidence: each attempt gets its workload, what stayed inside is left out,
//! and the findings in objects say what stops an attempt.

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

/// What a report is made from.
pub struct Case<'a> {
    /// The cluster; absent when only manifests were examined.
    pub cluster: Option<&'a Cluster>,
    /// The audited namespaces; empty for all.
    pub namespaces: &'a [String],
    /// What is inside, and the nodes.
    pub around: &'a Surroundings,
    /// The rules for programs that are known to phone home.
    pub switches: &'a Switches,
    /// The findings in objects.
    pub findings: Vec<Static>,
    /// The network policies.
    pub policies: Vec<Closed>,
    /// What was seen; absent when the audit did not listen.
    pub evidence: Option<Evidence>,
}

/// Makes the report. Without evidence it has the findings and policies alone.
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
        // An attempt without a workload counts only when the whole cluster is audited.
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

/// Attempts, grouped by workload, sender's address and destination.
struct Sorted<'a> {
    evidence: &'a Evidence,
    tried: BTreeMap<(Option<Workload>, Option<String>, String), Tried>,
}

impl<'a> Sorted<'a> {
    /// Groups all of the evidence that leads outside.
    fn of(evidence: &'a Evidence, around: &Surroundings) -> Self {
        let mut sorted = Self { evidence, tried: BTreeMap::new() };
        for (query, seen) in &evidence.queries {
            // CoreDNS' plugin `loop` asks itself a random name at its start, to find loops.
            let is_own = query.client.is_some_and(|client| client.is_loopback());
            if !is_own && !around.inside.has_name(&query.name) {
                let node = query.client.and_then(|client| node_of(client, around));
                let from = query.client;
                sorted.note(from, node, (query.name.clone(), By::Name), Some(&query.kind), *seen);
            }
        }
        for ((node, attempt), seen) in &evidence.attempts {
            let to = attempt.to;
            // The watchers knew the perimeter as it was at the start; new pods are known by now.
            if around.inside.has(to) || evidence.book.has(to) {
                continue;
            }
            // A sender that nobody knows came through the node from elsewhere: no attempt of this cluster.
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

    /// Adds sightings to the group that they belong to.
    fn note(
        &mut self,
        from: Option<IpAddr>,
        node: Option<&str>,
        (to, by): (String, By),
        detail: Option<&str>,
        seen: Seen,
    ) {
        let evidence = self.evidence;
        // The pod that had the address when it was seen first: later it may be another's.
        let known = from.and_then(|from| evidence.book.who(from, seen.first));
        let (whose, address): (Vec<&Who>, Option<String>) = match (known, from, node) {
            (Some(who), ..) => (vec![who], None),
            // A node's own address: one of the pods in its network, or the node itself.
            (None, from, Some(node)) => {
                (evidence.book.on_host(node), from.map(|from| format!("{from} (node {node})")))
            }
            (None, from, None) => (vec![], from.map(|from| from.to_string())),
        };
        let workloads: BTreeSet<&Workload> = whose.iter().map(|who| &who.workload).collect();
        // One candidate alone is named as the workload; of several, nobody can say which it was.
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

/// The node that has an address.
fn node_of(address: IpAddr, around: &Surroundings) -> Option<&str> {
    let mut nodes = around.nodes.iter();
    nodes.find(|(_, addresses)| addresses.contains(&address)).map(|(name, _)| name.as_str())
}

/// A destination as reports have it: `192.0.2.1:443 tcp`.
fn destination(to: IpAddr, port: Option<u16>, protocol: Protocol) -> String {
    match (to, port) {
        (to, None) => format!("{to} {}", protocol.as_str()),
        (IpAddr::V4(v4), Some(port)) => format!("{v4}:{port} {}", protocol.as_str()),
        (IpAddr::V6(v6), Some(port)) => format!("[{v6}]:{port} {}", protocol.as_str()),
    }
}

/// The settings that may stop an attempt, the most certain first: those of the workload's own object that
/// name the host; those of other objects of its namespace that do, and what a rule knows of the host;
/// and settings that keep the workload's program from going out at all. There is always at least one.
fn stops(tried: &Tried, findings: &[Static], switches: &Switches) -> Vec<Stop> {
    /// More would hide the likely ones among the possible.
    const MOST: usize = 5;
    let host = match tried.by {
        By::Name => tried.to.as_str(),
        By::Packet => tried.to.split([' ', ':', ']']).next().unwrap_or_default(),
    };
    // A finding for huggingface.co also explains cdn-lfs.huggingface.co.
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
            // A switch such as HF_HUB_OFFLINE=1 stops more than the hosts that its rule lists.
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
                    "no rule knows {host}: look for it in the program's own settings; if it belongs to \
                     the site, add --inside {host}"
                ),
                By::Packet => format!(
                    "no object names {host}: look for it in the program's own settings, or restrict the \
                     namespace (gantry policy egress); if it belongs to the site, add --inside {host}"
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
