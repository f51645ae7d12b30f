#!/usr/bin/env python3
"""A small enforcer of NetworkPolicy (networking.k8s.io/v1) for one node, as the cluster's CNI plugins have none.

network-policy.py API-URL PKI-FOLDER NODE PROCESS: reads pods, namespaces and policies twice a second and
writes one nftables table into the network namespace of PROCESS. It sees what is forwarded: pod to pod and
pod to outside, after kube-proxy. A node reaches its own pods whatever a policy says (probes). IPv4 only.
"""

import json
import ssl
import subprocess
import sys
import time
import urllib.request

TABLE = "gantry_network_policy"


def main():
    url, pki, node, process = sys.argv[1:]
    api = Api(url, pki)
    written = None
    while True:
        try:
            rules = table(node, *api.objects())
            if rules != written:
                nft = ["nsenter", "--target", process, "--net", "nft", "--file", "-"]
                subprocess.run(nft, input=rules, text=True, check=True)
                print(time.strftime("%T"), "written:", rules.count("chain ") - 1, "chains of pods", flush=True)
                written = rules
        except (OSError, subprocess.CalledProcessError, ValueError) as error:
            print(time.strftime("%T"), error, flush=True)
        time.sleep(0.5)


class Api:
    def __init__(self, url, pki):
        tls = ssl.create_default_context(cafile=f"{pki}/ca.crt")
        tls.load_cert_chain(f"{pki}/admin.crt", f"{pki}/admin.key")
        https = urllib.request.HTTPSHandler(context=tls)
        self.url, self.opener = url, urllib.request.build_opener(urllib.request.ProxyHandler({}), https)

    def objects(self):
        policies = self.list("/apis/networking.k8s.io/v1/networkpolicies")
        pods = [pod for pod in self.list("/api/v1/pods") if has_own_address(pod)] if policies else []
        namespaces = {n["metadata"]["name"]: n["metadata"].get("labels") for n in self.list("/api/v1/namespaces")}
        return policies, pods, namespaces

    def list(self, path):
        with self.opener.open(self.url + path, timeout=10) as answer:
            return json.load(answer)["items"]


def has_own_address(pod):
    running = pod["status"].get("phase") in ("Pending", "Running")
    return running and address(pod) and not pod["spec"].get("hostNetwork")


def table(node, policies, pods, namespaces):
    """The whole table as an nftables script that replaces the former one in one step."""
    forward, chains = ["ct state established,related accept"], []
    for pod in pods:
        if pod["spec"].get("nodeName") != node:
            continue
        for direction in (INGRESS, EGRESS):
            chosen = [p for p in policies if applies(p, pod, direction)]
            if not chosen:
                continue
            name = f"{direction['key']}_{address(pod).replace('.', '_')}"
            allowed = [match for p in chosen for match in allowances(p, pod, direction, pods, namespaces)]
            chains.append(chain(name, [f"{match} return".strip() for match in allowed] + ["counter drop"]))
            forward.append(f"ip {direction['own']} {address(pod)} jump {name}")
    chains.append(chain("forward", ["type filter hook forward priority -5; policy accept;"] + forward))
    return f"table ip {TABLE}\ndelete table ip {TABLE}\ntable ip {TABLE} {{\n" + "\n".join(chains) + "\n}\n"


INGRESS = {"type": "Ingress", "key": "ingress", "peers": "from", "own": "daddr", "other": "saddr"}
EGRESS = {"type": "Egress", "key": "egress", "peers": "to", "own": "saddr", "other": "daddr"}


def chain(name, rules):
    return f"chain {name} {{\n  " + "\n  ".join(rules) + "\n}"


def applies(policy, pod, direction):
    spec = policy["spec"]
    types = spec.get("policyTypes") or ["Ingress"] + (["Egress"] if "egress" in spec else [])
    same_namespace = policy["metadata"]["namespace"] == pod["metadata"]["namespace"]
    return same_namespace and direction["type"] in types and selects(spec.get("podSelector"), pod["metadata"])


def allowances(policy, pod, direction, pods, namespaces):
    for rule in policy["spec"].get(direction["key"]) or []:
        for peer in peers(rule.get(direction["peers"]), policy, direction, pods, namespaces):
            # A port's name is the receiving pod's.
            for port in ports(rule.get("ports"), [pod] if direction is INGRESS else pods):
                yield f"{peer} {port}".strip()


def peers(wanted, policy, direction, pods, namespaces):
    if not wanted:
        return [""]
    matches, addresses = [], set()
    for peer in wanted:
        block = peer.get("ipBlock")
        if block:
            match = f"ip {direction['other']} {block['cidr']}"
            if block.get("except"):
                match += f" ip {direction['other']} != {{ {', '.join(block['except'])} }}"
            matches.append(match)
            continue
        for pod in pods:
            namespace = pod["metadata"]["namespace"]
            if "namespaceSelector" in peer:
                inside = selects(peer["namespaceSelector"], {"labels": namespaces.get(namespace)})
            else:
                inside = namespace == policy["metadata"]["namespace"]
            if inside and selects(peer.get("podSelector"), pod["metadata"]):
                addresses.add(address(pod))
    if addresses:
        matches.append(f"ip {direction['other']} {{ {', '.join(sorted(addresses))} }}")
    return matches


def ports(wanted, pods):
    if not wanted:
        return [""]
    matches = []
    for port in wanted:
        protocol, number = port.get("protocol", "TCP").lower(), port.get("port")
        if number is None:
            matches.append(f"meta l4proto {protocol}")
        elif isinstance(number, int):
            last = f"-{port['endPort']}" if port.get("endPort") else ""
            matches.append(f"{protocol} dport {number}{last}")
        else:
            numbers = {
                p["containerPort"]
                for pod in pods
                for container in pod["spec"]["containers"]
                for p in container.get("ports", [])
                if p.get("name") == number and p.get("protocol", "TCP").lower() == protocol
            }
            matches += [f"{protocol} dport {n}" for n in sorted(numbers)]
    return matches


def selects(selector, metadata):
    labels = metadata.get("labels") or {}
    selector = selector or {}
    if any(labels.get(key) != value for key, value in (selector.get("matchLabels") or {}).items()):
        return False
    return all(expression_holds(e, labels) for e in selector.get("matchExpressions") or [])


def expression_holds(expression, labels):
    value, values = labels.get(expression["key"]), expression.get("values") or []
    return {
        "In": value in values,
        "NotIn": value not in values,
        "Exists": value is not None,
        "DoesNotExist": value is None,
    }[expression["operator"]]


def address(pod):
    return pod["status"].get("podIP")


main()
