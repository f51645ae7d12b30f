//! Policies in a real cluster: locked images start under their names at the site, by tag and by digest,
//! whatever creates the pod; all others are refused, and other namespaces are not affected.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use crate::story;
use crate::support::guard::{
    self, Gone, Ground, container, pod, pod_of, refused, runs, spec, try_pod,
};
use cluster::objects::api::apps::v1::Deployment;
use cluster::objects::api::core::v1::EphemeralContainer;
use cluster::objects::serde_json::{from_value, json};
use cluster::{Error, ObjectScope};

#[tokio::test]
async fn only_the_sites_names_of_locked_images_start_and_only_there() {
    let ground = Ground::new();
    let cluster = ground.here.connect().await;
    let (guarded, free) =
        (ground.here.create_namespace("policy"), ground.here.create_namespace("policy-free"));
    let (there, policy) = (guarded.name(), format!("gantry-images-{}", guarded.name()));
    let (tag, foreign) = (ground.at_site(), ground.foreign());
    let by_digest = format!("{}@{}", tag.rsplit_once(':').unwrap().0, ground.digest());

    let write = ["policy", "images", "--site", "site.yaml", "--receipt", "receipt.json"];
    let here = ["--namespace", there, "--name", &policy, "--output", "json"];
    let written = ground.gantry.run(write.iter().chain(&here)).assert_success().parse_json();
    let _gone = Gone::new(&ground, &written["manifests"]);
    guard::apply(&cluster, there, &written["manifests"]).await;
    // The API server takes a moment until it enforces a new policy.
    let why = guard::until("the policy is in force", async || {
        try_pod(&cluster, there, &pod("probe", &foreign)).await.err().map(|error| error.to_string())
    })
    .await;
    assert!(why.contains(&foreign) && why.contains(&policy), "{why}");

    let started = runs(&cluster, there, &pod("by-tag", &tag)).await;
    runs(&cluster, there, &pod("by-digest", &by_digest)).await;
    assert_eq!(guard::image(&started), tag);
    let other_tag = tag.replace(":1.35", ":1.36");
    let other_digest = format!("{}{}", &by_digest[..by_digest.len() - 4], "0000");
    for image in [&other_tag, &other_digest, &guard::LOCKED.to_owned()] {
        let why = refused(&cluster, there, &pod("refused", image)).await;
        assert!(why.contains(image.as_str()), "{why}");
    }
    let mut with_init = spec(&tag);
    with_init["initContainers"] = json!([container("first", &foreign)]);
    let why = refused(&cluster, there, &pod_of("init", with_init)).await;
    assert!(why.contains(&foreign), "{why}");

    let debug =
        |image: &str| -> EphemeralContainer { from_value(container("debug", image)).unwrap() };
    let why = cluster.add_ephemeral_container(there, "by-tag", debug(&foreign)).await.unwrap_err();
    assert!(matches!(why, Error::Refused { .. }), "{why}");
    cluster.add_ephemeral_container(there, "by-tag", debug(&tag)).await.unwrap();

    let why = cluster
        .apply_object(ObjectScope::Namespace(there), &deployment(&foreign))
        .await
        .unwrap_err();
    assert!(why.to_string().contains(&foreign), "{why}");
    cluster.apply_object(ObjectScope::Namespace(there), &deployment(&tag)).await.unwrap();
    guard::until("a pod of the deployment runs", async || {
        let found: Option<Deployment> =
            cluster.get_object(ObjectScope::Namespace(there), "web").await.unwrap();
        found?.status?.ready_replicas.filter(|ready| *ready > 0)
    })
    .await;
    try_pod(&cluster, free.name(), &pod("free", &foreign)).await.unwrap();
}

#[tokio::test]
async fn a_closed_namespace_reaches_its_own_pods_and_nothing_else() {
    let here = testkit::TestCluster::from_environment();
    let cluster = here.connect().await;
    let closed = here.create_namespace("closed");
    let there = closed.name();
    let home = tempfile::tempdir().unwrap();
    let gantry = story::alone(home.path());
    gantry.write_file("site.yaml", "version: 1\nregistry: {url: 'registry.internal:5000'}\n");
    let server = local_server(&here);
    let image = here.image_name("busybox");
    // wget of a static busybox crashes on names, since glibc's resolver cannot be linked statically; so
    // addresses are used.
    let ask = |address: String| {
        let cluster = cluster.clone();
        let there = there.to_owned();
        async move {
            let script = format!("timeout 3 nc {address} </dev/null");
            let command = ["/bin/busybox", "sh", "-c", &script];
            cluster.run_program(&there, "client", "main", &command, &[]).await.unwrap()
        }
    };
    let busybox = |name: &str, script: &str| {
        let mut spec = spec(&image);
        spec["containers"][0]["imagePullPolicy"] = json!("Never");
        spec["containers"][0]["command"] = json!(["/bin/busybox", "sh", "-c", script]);
        pod_of(name, spec)
    };
    let web =
        runs(&cluster, there, &busybox("web", "while nc -l -p 8080 -e echo inside; do :; done"))
            .await;
    runs(&cluster, there, &busybox("client", "exec sleep 600")).await;
    let inside = format!("{} 8080", web.status.unwrap().pod_ip.unwrap());
    let outside = format!("{} {}", server.ip(), server.port());
    guard::until("the client reaches this machine", async || {
        (ask(outside.clone()).await.stdout == "outside\n").then_some(())
    })
    .await;

    let close = ["policy", "egress", "--site", "site.yaml", "--namespace", there];
    let written =
        gantry.run(close.iter().chain(&["--output", "json"])).assert_success().parse_json();
    guard::apply(&cluster, there, &written["manifests"]).await;

    guard::until("the namespace is closed", async || {
        (ask(outside.clone()).await.code != 0).then_some(())
    })
    .await;
    assert_eq!(ask(inside).await.stdout, "inside\n");
}

fn deployment(image: &str) -> Deployment {
    from_value(json!({
        "metadata": {"name": "web"},
        "spec": {
            "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": spec(image)},
        },
    }))
    .unwrap()
}

/// Something on this machine that a pod can reach.
fn local_server(here: &testkit::TestCluster) -> std::net::SocketAddr {
    let listener = std::net::TcpListener::bind((here.host(), 0)).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = std::io::Write::write_all(&mut stream, b"outside\n");
        }
    });
    address
}
