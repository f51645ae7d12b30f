//! Makes the report from the evidence: each attempt gets its workload, what stayed inside is left out,
//! and the findings in objects say what stops an attempt.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use chart::phone_home::PhoneHomeRules;
use cluster::Cluster;
use jiff::Timestamp;

use super::audit_report::{
    AttemptMethod, AuditReport, AuditVerdict, EgressAttempt, FixConfidence, SuggestedFix,
};
use crate::cluster_network::ClusterNetwork;
use crate::coverage::NamespaceCoverage;
use crate::evidence::AuditEvidence;
use crate::findings::StaticFinding;
use crate::observer::ObservedProtocol;
use crate::pods::{PodIdentity, Workload};
use crate::tally::Sightings;

/// What a report is made from.
pub struct AuditCase<'a> {
    /// The cluster; absent when only manifests were examined.
    pub cluster: Option<&'a Cluster>,
    /// The audited namespaces; empty for all.
    pub namespaces: &'a [String],
    /// What is inside, and the nodes.
    pub network: &'a ClusterNetwork,
    /// The rules for programs that are known to phone home.
    pub switches: &'a PhoneHomeRules,
    /// The findings in objects.
    pub findings: Vec<StaticFinding>,
    /// The network policies.
    pub policies: Vec<NamespaceCoverage>,
    /// What was seen; absent when the audit did not listen.
    pub evidence: Option<AuditEvidence>,
}

/// Makes the report. Without evidence it has the findings and policies alone.
pub fn build_report(case: AuditCase<'_>) -> AuditReport {
    let mut report = AuditReport {
        version: 1,
        gantry: types::own_image::VERSION.to_owned(),
        context: case.cluster.map(|cluster| cluster.context().to_owned()).unwrap_or_default(),
        server: case.cluster.map(|cluster| cluster.server().to_owned()).unwrap_or_default(),
        namespaces: case.namespaces.to_vec(),
        written: Timestamp::now(),
        verdict: AuditVerdict::NotSoaked,
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
    let all = AttemptGroups::from_evidence(&evidence, case.network).into_attempts();
    for mut tried in all {
        tried.stops = find_fixes(&tried, &report.findings, case.switches);
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
        (false, _) => AuditVerdict::Tried,
        (true, true) => AuditVerdict::Quiet,
        (true, false) => AuditVerdict::Unproven,
    };
    (report.from, report.to) = (evidence.from, evidence.to);
    report.sources = evidence.sources;
    report.exercised = evidence.exercised;
    report.gaps = evidence.gaps;
    report
}

/// Attempts, grouped by workload, sender's address and destination.
struct AttemptGroups<'a> {
    evidence: &'a AuditEvidence,
    attempts: BTreeMap<(Option<Workload>, Option<String>, String), EgressAttempt>,
}

impl<'a> AttemptGroups<'a> {
    /// Groups all of the evidence that leads outside.
    fn from_evidence(evidence: &'a AuditEvidence, around: &ClusterNetwork) -> Self {
        let mut sorted = Self { evidence, attempts: BTreeMap::new() };
        for (query, seen) in &evidence.queries {
            // CoreDNS' plugin `loop` asks itself a random name at its start, to find loops.
            let is_own = query.client.is_some_and(|client| client.is_loopback());
            if !is_own && !around.perimeter.contains_name(&query.name) {
                let node = query.client.and_then(|client| node_with_address(client, around));
                let from = query.client;
                sorted.add_sightings(
                    from,
                    node,
                    (query.name.clone(), AttemptMethod::Name),
                    Some(&query.kind),
                    *seen,
                );
            }
        }
        for ((node, attempt), seen) in &evidence.attempts {
            let to = attempt.to;
            // The watchers knew the perimeter as it was at the start; new pods are known by now.
            if around.perimeter.contains(to) || evidence.book.has_address(to) {
                continue;
            }
            // A sender that nobody knows came through the node from elsewhere: no attempt of this cluster.
            let is_known =
                evidence.book.has_address(attempt.from) || around.perimeter.contains(attempt.from);
            if is_known {
                let to = format_destination(to, attempt.port, attempt.protocol);
                let asks = attempt.asks.as_ref().map(|name| format!("asks for {name}"));
                let node = Some(node.as_str());
                sorted.add_sightings(
                    Some(attempt.from),
                    node,
                    (to, AttemptMethod::Packet),
                    asks.as_deref(),
                    *seen,
                );
            }
        }
        sorted
    }

    /// Adds sightings to the group that they belong to.
    fn add_sightings(
        &mut self,
        from: Option<IpAddr>,
        node: Option<&str>,
        (to, by): (String, AttemptMethod),
        detail: Option<&str>,
        seen: Sightings,
    ) {
        let evidence = self.evidence;
        // The pod that had the address when it was seen first: later it may be another's.
        let known = from.and_then(|from| evidence.book.find_pod(from, seen.first));
        let (whose, address): (Vec<&PodIdentity>, Option<String>) = match (known, from, node) {
            (Some(who), ..) => (vec![who], None),
            // A node's own address: one of the pods in its network, or the node itself.
            (None, from, Some(node)) => (
                evidence.book.host_network_pods(node),
                from.map(|from| format!("{from} (node {node})")),
            ),
            (None, from, None) => (vec![], from.map(|from| from.to_string())),
        };
        let workloads: BTreeSet<&Workload> = whose.iter().map(|who| &who.workload).collect();
        // One candidate alone is named as the workload; of several, nobody can say which it was.
        let workload = match workloads.len() {
            1 => workloads.first().map(|workload| (*workload).clone()),
            _ => None,
        };
        let key = (workload.clone(), address.clone(), to.clone());
        let tried = self.attempts.entry(key).or_insert_with(|| EgressAttempt {
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

    fn into_attempts(self) -> Vec<EgressAttempt> {
        self.attempts.into_values().collect()
    }
}

/// The node that has an address.
fn node_with_address(address: IpAddr, around: &ClusterNetwork) -> Option<&str> {
    let mut nodes = around.nodes.iter();
    nodes.find(|(_, addresses)| addresses.contains(&address)).map(|(name, _)| name.as_str())
}

/// A destination as reports have it: `192.0.2.1:443 tcp`.
fn format_destination(to: IpAddr, port: Option<u16>, protocol: ObservedProtocol) -> String {
    match (to, port) {
        (to, None) => format!("{to} {}", protocol.as_str()),
        (IpAddr::V4(v4), Some(port)) => format!("{v4}:{port} {}", protocol.as_str()),
        (IpAddr::V6(v6), Some(port)) => format!("[{v6}]:{port} {}", protocol.as_str()),
    }
}

/// The address in what [`format_destination`] made.
fn destination_address(destination: &str) -> &str {
    let socket = destination.split(' ').next().unwrap_or_default();
    match socket.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((v6, _)) => v6,
        // One colon stands before a port; an IPv6 address without a port has several.
        None => socket
            .split_once(':')
            .filter(|(_, port)| !port.contains(':'))
            .map_or(socket, |(v4, _)| v4),
    }
}

/// The settings that may stop an attempt, the most certain first: those of the workload's own object that
/// name the host; those of other objects of its namespace that do, and what a rule knows of the host;
/// and settings that keep the workload's program from going out at all. There is always at least one.
fn find_fixes(
    tried: &EgressAttempt,
    findings: &[StaticFinding],
    switches: &PhoneHomeRules,
) -> Vec<SuggestedFix> {
    /// More would hide the likely ones among the possible.
    const MOST: usize = 5;
    let host = match tried.by {
        AttemptMethod::Name => tried.to.as_str(),
        AttemptMethod::Packet => destination_address(&tried.to),
    };
    // A finding for huggingface.co also explains cdn-lfs.huggingface.co.
    let names = |finding: &StaticFinding| {
        finding.hosts.iter().any(|known| {
            host.strip_suffix(known.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        })
    };
    let stop = |sure: FixConfidence, finding: &StaticFinding| SuggestedFix {
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
            (true, _, true) => stops.insert(stop(FixConfidence::Certain, finding)),
            (false, true, true) => stops.insert(stop(FixConfidence::Likely, finding)),
            // A switch such as HF_HUB_OFFLINE=1 stops more than the hosts that its rule lists.
            (true, _, false) if finding.stop.starts_with("set ") => {
                stops.insert(stop(FixConfidence::Possible, finding))
            }
            _ => false,
        };
    }
    if let Some(why) = switches.host_purpose(host).filter(|_| tried.by == AttemptMethod::Name) {
        stops.insert(SuggestedFix {
            sure: FixConfidence::Likely,
            setting: format!("turn off what uses {host}"),
            subject: tried.workload.clone(),
            why: why.to_owned(),
        });
    }
    if stops.is_empty() {
        stops.insert(SuggestedFix {
            sure: FixConfidence::Possible,
            setting: match tried.by {
                AttemptMethod::Name => format!(
                    "no rule knows {host}: look for it in the program's own settings; if it belongs to \
                     the site, add --inside {host}"
                ),
                AttemptMethod::Packet => format!(
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
    use crate::findings::FindingOrigin as In;

    fn make_attempt(to: &str, by: AttemptMethod) -> EgressAttempt {
        let now = Timestamp::now();
        EgressAttempt {
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

    fn make_finding(name: &str, host: &str, stop: &str) -> StaticFinding {
        StaticFinding {
            subject: Workload {
                kind: "Deployment".into(),
                namespace: "shop".into(),
                name: name.into(),
            },
            place: String::new(),
            setting: chart::FieldLabel::default(),
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
            make_finding("llm", "stats.vllm.ai", "set VLLM_NO_USAGE_STATS=1"),
            make_finding("other", "huggingface.co", "change args"),
            make_finding("llm", "huggingface.co", "set HF_HUB_OFFLINE=1"),
        ];
        let switches = PhoneHomeRules::builtin();
        let stops = find_fixes(
            &make_attempt("cdn-lfs.huggingface.co", AttemptMethod::Name),
            &findings,
            switches,
        );
        assert_eq!(stops[0].setting, "set HF_HUB_OFFLINE=1");
        assert_eq!(stops[0].sure, FixConfidence::Certain);
        assert_eq!(stops.last().unwrap().setting, "set VLLM_NO_USAGE_STATS=1");
    }

    #[test]
    fn what_no_rule_knows_has_a_next_step_all_the_same() {
        let switches = PhoneHomeRules::builtin();
        let stops =
            find_fixes(&make_attempt("192.0.2.1:443 tcp", AttemptMethod::Packet), &[], switches);
        assert!(stops[0].setting.contains("--inside 192.0.2.1"), "{stops:?}");
        let by_address = [make_finding("llm", "192.0.2.1", "change args")];
        let stops = super::find_fixes(
            &make_attempt("192.0.2.1:443 tcp", AttemptMethod::Packet),
            &by_address,
            switches,
        );
        assert_eq!(stops[0].setting, "change args");
    }

    #[test]
    fn a_destination_shows_its_address_port_and_protocol_and_gives_the_address_back() {
        let tcp = ObservedProtocol::Tcp;
        for (address, port, shown) in [
            ("192.0.2.1", Some(443), "192.0.2.1:443 tcp"),
            ("192.0.2.1", None, "192.0.2.1 tcp"),
            ("2001:db8::1", Some(443), "[2001:db8::1]:443 tcp"),
            ("2001:db8::1", None, "2001:db8::1 tcp"),
        ] {
            let destination = format_destination(address.parse().unwrap(), port, tcp);
            assert_eq!(destination, shown);
            assert_eq!(destination_address(&destination), address);
        }
    }

    #[test]
    fn a_destination_of_ipv6_can_be_declared_inside_as_it_is_suggested() {
        let tried = make_attempt("[2001:db8::1]:443 tcp", AttemptMethod::Packet);
        let stops = find_fixes(&tried, &[], PhoneHomeRules::builtin());
        assert!(stops[0].setting.ends_with("add --inside 2001:db8::1"), "{stops:?}");
    }

    #[test]
    fn a_setting_of_another_workload_counts_only_in_the_same_namespace_and_for_the_same_domain() {
        let tried = make_attempt("cdn.maker.com", AttemptMethod::Name);
        let fixes =
            |finding: StaticFinding| find_fixes(&tried, &[finding], PhoneHomeRules::builtin());
        let near = fixes(make_finding("other", "maker.com", "change args"));
        assert_eq!(
            (near[0].sure, near[0].setting.as_str()),
            (FixConfidence::Likely, "change args")
        );
        let mut far = make_finding("llm", "maker.com", "change args");
        far.subject.namespace = "elsewhere".into();
        assert_ne!(fixes(far)[0].setting, "change args");
        for host in ["aker.com", "n.maker.com"] {
            let stops = fixes(make_finding("other", host, "change args"));
            assert_ne!(stops[0].setting, "change args", "{host}");
        }
    }

    #[test]
    fn the_most_certain_are_kept_where_there_are_too_many() {
        let tried = make_attempt("cdn.maker.com", AttemptMethod::Name);
        let mut findings: Vec<StaticFinding> =
            (0..9).map(|n| make_finding("other", "maker.com", &format!("change {n}"))).collect();
        findings.push(make_finding("llm", "maker.com", "own"));
        let stops = find_fixes(&tried, &findings, PhoneHomeRules::builtin());
        assert_eq!((stops.len(), stops[0].setting.as_str()), (5, "own"));
    }

    /// A network with the pods' addresses inside, and a node.
    fn make_network() -> ClusterNetwork {
        let networks = ["10.244.0.0/16", "10.0.0.11/32"].map(|text| text.parse().unwrap());
        ClusterNetwork {
            perimeter: crate::perimeter::Perimeter::from_networks(networks),
            nodes: [("node1".to_owned(), vec!["10.0.0.11".parse().unwrap()])].into(),
        }
    }

    fn add_pod(evidence: &mut AuditEvidence, name: &str, ip: &str, is_on_host: bool) {
        use cluster::objects::serde_json::{from_value, json};
        let pod = json!({
            "metadata": {"uid": name, "name": name, "namespace": "shop"},
            "spec": {"nodeName": "node1", "containers": [], "hostNetwork": is_on_host},
            "status": {"podIPs": [{"ip": ip}]},
        });
        let pod = from_value(pod).unwrap();
        evidence.book.apply_change(&cluster::WatchedChange::Present(pod));
    }

    fn add_query(evidence: &mut AuditEvidence, name: &str, kind: &str, client: &str) {
        let client = Some(client.parse().unwrap());
        let query = crate::observer::DnsQuery { name: name.into(), kind: kind.into(), client };
        evidence.queries.insert(query, Sightings::once(Timestamp::now()));
    }

    fn add_packet(evidence: &mut AuditEvidence, from: &str, to: &str) {
        let packet = crate::observer::OutgoingPacket {
            from: from.parse().unwrap(),
            to: to.parse().unwrap(),
            port: Some(443),
            protocol: ObservedProtocol::Tcp,
            asks: None,
        };
        evidence.attempts.insert(("node1".into(), packet), Sightings::once(Timestamp::now()));
    }

    fn build(evidence: AuditEvidence, namespaces: &[String]) -> AuditReport {
        build_report(AuditCase {
            cluster: None,
            namespaces,
            network: &make_network(),
            switches: PhoneHomeRules::builtin(),
            findings: vec![],
            policies: vec![],
            evidence: Some(evidence),
        })
    }

    #[test]
    fn questions_of_a_pod_for_one_name_are_one_attempt_with_all_record_types() {
        let mut evidence = AuditEvidence::default();
        add_pod(&mut evidence, "llm", "10.244.1.7", false);
        for kind in ["A", "AAAA"] {
            add_query(&mut evidence, "maker.com", kind, "10.244.1.7");
        }
        // A service that does not exist, and CoreDNS' own search for loops.
        add_query(&mut evidence, "db.shop.svc.cluster.local", "A", "10.244.1.7");
        add_query(&mut evidence, "1234.5678", "HINFO", "127.0.0.1");
        let attempts = build(evidence, &[]).attempts;
        assert_eq!(attempts.len(), 1, "{attempts:?}");
        assert_eq!(attempts[0].workload.as_ref().unwrap().to_string(), "Pod shop/llm");
        assert_eq!((attempts[0].count, attempts[0].detail.len()), (2, 2));
        assert_eq!(attempts[0].address, None);
    }

    #[test]
    fn packets_to_inside_and_from_strangers_are_no_attempts_of_the_cluster() {
        let mut evidence = AuditEvidence::default();
        add_pod(&mut evidence, "llm", "10.244.1.7", false);
        // A pod of a network that the watchers did not know when they started.
        add_pod(&mut evidence, "late", "172.16.0.9", false);
        add_packet(&mut evidence, "10.244.1.7", "10.244.9.9");
        add_packet(&mut evidence, "10.244.1.7", "172.16.0.9");
        add_packet(&mut evidence, "198.51.100.7", "192.0.2.1");
        assert_eq!(build(evidence, &[]).attempts, []);
    }

    #[test]
    fn a_packet_of_a_nodes_address_is_that_of_its_only_host_pod_and_of_nobody_where_there_are_two()
    {
        let mut evidence = AuditEvidence::default();
        add_pod(&mut evidence, "agent", "10.0.0.11", true);
        add_packet(&mut evidence, "10.0.0.11", "192.0.2.1");
        let one = build(evidence, &[]).attempts.remove(0);
        assert_eq!(one.sender_label(), "Pod shop/agent or 10.0.0.11 (node node1)");
        let mut evidence = AuditEvidence::default();
        add_pod(&mut evidence, "agent", "10.0.0.11", true);
        add_pod(&mut evidence, "proxy", "10.0.0.11", true);
        add_packet(&mut evidence, "10.0.0.11", "192.0.2.1");
        let two = build(evidence, &[]).attempts.remove(0);
        assert_eq!(two.sender_label(), "10.0.0.11 (node node1)");
        assert_eq!(two.pods, ["shop/agent", "shop/proxy"].map(str::to_owned).into());
    }

    #[test]
    fn silence_is_proof_only_without_gaps_and_for_the_audited_namespaces() {
        assert_eq!(build(AuditEvidence::default(), &[]).verdict, AuditVerdict::Quiet);
        let gaps = vec!["node2 was not seen".to_owned()];
        let with_gaps = AuditEvidence { gaps, ..AuditEvidence::default() };
        assert_eq!(build(with_gaps, &[]).verdict, AuditVerdict::Unproven);
        let tried = || {
            let mut evidence = AuditEvidence::default();
            add_pod(&mut evidence, "llm", "10.244.1.7", false);
            add_packet(&mut evidence, "10.244.1.7", "192.0.2.1");
            evidence
        };
        assert_eq!(build(tried(), &["shop".into()]).verdict, AuditVerdict::Tried);
        let other = build(tried(), &["other".into()]);
        assert_eq!((other.verdict, other.elsewhere.len()), (AuditVerdict::Quiet, 1));
    }
}
