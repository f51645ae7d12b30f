//! Charts from repositories, registries, folders and archives: the version that helm would choose,
//! kept byte for byte, rendered by the real helm.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::world::web::Web;
use crate::world::{self, text};
use gantry_remote::helm::{self, ChartArchive, ChartRepository, HelmBinary, ReleaseSpec};
use gantry_remote::oci::RegistryClient;
use gantry_remote::{Error, http};
use net::{Client, Mirrors};
use store::progress::SilentProgress;
use store::{Source as _, Store};
use testkit::FaultProxy;
use types::RootKind;
use types::input::SetExpressions;

fn helm() -> PathBuf {
    testkit::tools::tool_path("helm")
}

/// A small chart with a hook, a test and a CRD.
fn chart(folder: &Path, name: &str, version: &str) -> PathBuf {
    let chart = folder.join(name);
    let write = |path: &str, content: &str| {
        let path = chart.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    };
    write(
        "Chart.yaml",
        &format!("apiVersion: v2\nname: {name}\nversion: {version}\nappVersion: 1.10\n"),
    );
    write("values.yaml", "image: web:1\n");
    write(
        "templates/web.yaml",
        "apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec:\n  containers: [{name: web, image: {{ .Values.image | quote }}}]\n",
    );
    write(
        "templates/hook.yaml",
        "apiVersion: v1\nkind: Pod\nmetadata: {name: hook, annotations: {helm.sh/hook: pre-install}}\nspec: {containers: [{name: a, image: hook:1}]}\n",
    );
    write(
        "templates/tests/check.yaml",
        "apiVersion: v1\nkind: Pod\nmetadata: {name: check, annotations: {helm.sh/hook: test}}\nspec: {containers: [{name: a, image: check:1}]}\n",
    );
    write(
        "templates/version.yaml",
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: v}\ndata: {kube: {{ .Capabilities.KubeVersion | quote }}, has: {{ .Capabilities.APIVersions.Has \"example.com/v1\" | quote }}, release: {{ .Release.Name }}.{{ .Release.Namespace }}}\n",
    );
    write(
        "crds/thing.yaml",
        "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {name: things.example.com}\n",
    );
    write(".helmignore", "*.swp\n.git/\n");
    write("notes.swp", "left out");
    write(".git/config", "left out");
    chart
}

fn release(chart: &Path) -> ReleaseSpec {
    ReleaseSpec {
        chart: chart.to_owned(),
        name: "own".into(),
        namespace: Some("team".into()),
        kube_version: None,
        api_versions: vec!["example.com/v1".into()],
        values: vec![],
        set: SetExpressions::default(),
    }
}

#[test]
fn a_render_has_hooks_tests_and_crds_and_knows_only_what_it_was_told() {
    let folder = tempfile::tempdir().unwrap();
    let chart = chart(folder.path(), "web", "1.0.0");
    let values = folder.path().join("values.yaml");
    fs::write(&values, "image: web:2\n").unwrap();
    let helm = HelmBinary::at_path(&helm()).unwrap();

    let plain = helm.render_release(&release(&chart)).unwrap();
    let changed =
        helm.render_release(&ReleaseSpec { values: vec![values], ..release(&chart) }).unwrap();
    let set = helm
        .render_release(&ReleaseSpec {
            set: SetExpressions { typed: vec!["image=web:3".into()], ..SetExpressions::default() },
            ..release(&chart)
        })
        .unwrap();

    for part in ["web:1", "hook:1", "check:1", "things.example.com", "own.team", "\"true\""] {
        assert!(plain.contains(part), "{part} is missing in\n{plain}");
    }
    assert!(plain.contains(&format!("v{}", helm::DEFAULT_KUBE_VERSION)), "{plain}");
    assert!(changed.contains("web:2") && set.contains("web:3"));
}

#[test]
fn what_helm_says_reaches_the_user() {
    let folder = tempfile::tempdir().unwrap();
    let chart = chart(folder.path(), "web", "1.0.0");
    fs::write(
        chart.join("templates/bad.yaml"),
        "{{ required \"give a password\" .Values.password }}",
    )
    .unwrap();
    let helm = HelmBinary::at_path(&helm()).unwrap();

    let error = helm.render_release(&release(&chart)).unwrap_err();

    assert!(matches!(error, Error::Render { .. }) && error.is_input(), "{error}");
    assert!(error.to_string().contains("give a password"), "{error}");
}

#[test]
fn a_helm_that_is_missing_or_too_old_is_said_with_the_way_out() {
    let folder = tempfile::tempdir().unwrap();
    let fake = |name: &str, script: &str| {
        let path = folder.path().join(name);
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    };
    for (path, expected) in [
        (fake("old", "echo v3.7.2"), "helm 3.7.2"),
        (fake("two", "echo v2.17.0"), "3.8.0 or newer"),
        (fake("five", "echo v5.0.0"), "up to helm 4"),
        (fake("silent", "exit 1"), "does not print a helm version"),
        (folder.path().join("absent"), "cannot be started"),
    ] {
        let error = HelmBinary::at_path(&path).unwrap_err();
        assert!(matches!(error, Error::Program { .. }), "{error}");
        assert!(error.to_string().contains(expected), "{error}");
    }
    assert_eq!(HelmBinary::at_path(&fake("four", "echo v4.1.0")).unwrap().version().major, 4);
}

#[test]
fn a_folder_becomes_the_same_archive_every_time_and_helm_renders_it_alike() {
    let folder = tempfile::tempdir().unwrap();
    let (one, two) = (folder.path().join("one"), folder.path().join("two"));
    let (first, second) = (chart(&one, "web", "1.0.0+x"), chart(&two, "web", "1.0.0+x"));
    let helm = HelmBinary::at_path(&helm()).unwrap();

    let archive = helm::package_chart(&first).unwrap();

    assert_eq!(archive, helm::package_chart(&second).unwrap());
    let tgz = folder.path().join("web.tgz");
    fs::write(&tgz, &archive.bytes).unwrap();
    let listed = world::run("tar", &["tzf", &text(&tgz)]);
    assert!(listed.starts_with("web/Chart.yaml\n") && !listed.contains("left out"), "{listed}");
    assert!(!listed.contains(".git") && !listed.contains("swp"), "{listed}");
    assert_eq!(
        helm.render_release(&release(&tgz)).unwrap(),
        helm.render_release(&release(&first)).unwrap()
    );
    assert_eq!(ChartArchive::read(&tgz).unwrap(), archive);
    fs::write(second.join("values.yaml"), "image: web:9\n").unwrap();
    assert_ne!(helm::package_chart(&second).unwrap().digest(), archive.digest());
}

#[test]
fn an_umbrella_needs_its_charts() {
    let folder = tempfile::tempdir().unwrap();
    let umbrella = chart(folder.path(), "umbrella", "1.0.0");
    let yaml = "apiVersion: v2\nname: umbrella\nversion: 1.0.0\ndependencies: [{name: sub, version: 1.x, repository: \"https://charts.example\"}]\n";
    fs::write(umbrella.join("Chart.yaml"), yaml).unwrap();

    let error = helm::package_chart(&umbrella).unwrap_err().to_string();
    chart(&umbrella.join("charts"), "sub", "1.2.0");
    let whole = helm::package_chart(&umbrella).unwrap();

    assert!(error.contains("helm dependency build") && error.contains("sub"), "{error}");
    assert_eq!(whole.metadata.dependencies[0].name, "sub");
}

/// An umbrella in `top` of two charts beside it, one of them under an alias too, of which one has a part
/// of its own; nothing is in any `charts/`.
fn umbrella_of_folders(folder: &Path) -> PathBuf {
    let top = chart(folder, "top", "1.0.0");
    chart(folder, "sub", "0.1.0");
    chart(folder, "part", "2.0.0");
    let dependencies = |name: &str, version: &str, list: &str| {
        let yaml =
            format!("apiVersion: v2\nname: {name}\nversion: {version}\ndependencies:\n{list}");
        fs::write(folder.join(name).join("Chart.yaml"), yaml).unwrap();
    };
    dependencies(
        "top",
        "1.0.0",
        "- {name: sub, version: '>=0.1.0', repository: 'file://../sub'}\n\
         - {name: sub, alias: other, version: 0.1.0, repository: 'file://../sub'}\n",
    );
    dependencies("sub", "0.1.0", "- {name: part, version: ^2, repository: 'file://../part'}\n");
    top
}

#[test]
fn dependencies_that_are_folders_are_built_as_helm_builds_them_and_nothing_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let top = umbrella_of_folders(folder.path());
    let helm = HelmBinary::at_path(&helm()).unwrap();

    let archive = helm::package_incomplete_chart(&top).unwrap().unwrap();

    assert_eq!(helm::package_chart(&top).unwrap(), archive);
    assert!(!top.join("charts").exists() && !folder.path().join("sub/charts").exists());
    let tgz = folder.path().join("top.tgz");
    fs::write(&tgz, &archive.bytes).unwrap();
    let ours = helm.render_release(&release(&tgz)).unwrap();
    // helm itself, from the inside out.
    for name in ["sub", "top"] {
        let chart = folder.path().join(name);
        world::run(&text(&self::helm()), &["dependency", "update", &text(&chart)]);
    }
    assert_eq!(ours, helm.render_release(&release(&top)).unwrap());
    assert!(ours.contains("top/charts/other/charts/part/"), "{ours}");
    assert_eq!(helm::package_incomplete_chart(&top).unwrap(), None);
}

#[test]
fn a_dependency_that_cannot_be_built_is_told() {
    for (change, parts) in [
        (
            ("sub/Chart.yaml", "apiVersion: v2\nname: sub\nversion: 0.0.9\n"),
            ["version >=0.1.0", "has version 0.0.9"],
        ),
        (
            ("sub/Chart.yaml", "apiVersion: v2\nname: bus\nversion: 0.1.0\n"),
            ["dependency sub", "called bus"],
        ),
        (
            (
                "part/Chart.yaml",
                "apiVersion: v2\nname: part\nversion: 2.0.0\ndependencies: \
                 [{name: top, version: 1.x, repository: 'file://../top'}]\n",
            ),
            ["dependency top", "is the chart itself"],
        ),
        (
            (
                "part/Chart.yaml",
                "apiVersion: v2\nname: part\nversion: 2.0.0\ndependencies: \
                 [{name: db, version: 1.x, repository: 'https://charts.example'}]\n",
            ),
            ["missing in charts/: db", "helm dependency build"],
        ),
        (
            (
                "part/Chart.yaml",
                "apiVersion: v2\nname: part\nversion: 2.0.0\ndependencies: \
                 [{name: db, version: 1.x, repository: 'file://../nowhere'}]\n",
            ),
            ["dependency db", "file://../nowhere"],
        ),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let top = umbrella_of_folders(folder.path());
        let (file, content) = change;
        fs::write(folder.path().join(file), content).unwrap();
        let error = helm::package_chart(&top).unwrap_err().to_string();
        assert!(parts.iter().all(|part| error.contains(part)), "{file}: {error}");
    }
}

/// A chart repository with three versions, created by helm.
fn repository(folder: &Path) -> PathBuf {
    let site = folder.join("site");
    fs::create_dir_all(site.join("stable")).unwrap();
    for version in ["1.2.0", "1.10.0", "2.0.0-rc.1"] {
        let chart = chart(&folder.join(version), "web", version);
        world::run(&text(&helm()), &["package", &text(&chart), "-d", &text(&site.join("stable"))]);
    }
    world::run(&text(&helm()), &["repo", "index", &text(&site.join("stable"))]);
    site
}

#[tokio::test]
async fn a_repository_gives_the_version_that_helm_would_take() {
    let folder = tempfile::tempdir().unwrap();
    let site = repository(folder.path());
    let web = Web::serve(&site);
    let client = Client::builder().build().unwrap();
    let repository = ChartRepository::new(&client, &web.url("stable")).unwrap();
    let index = repository.fetch_index().await.unwrap();
    let store = Store::open(folder.path().join("store")).unwrap();

    for (wanted, version) in
        [(None, "1.10.0"), (Some("~1.2"), "1.2.0"), (Some(">1-0"), "2.0.0-rc.1")]
    {
        let chart = index.choose_version("web", wanted).unwrap();
        assert_eq!(chart.version, version);
        let archive = repository.download_chart(&chart, &store).await.unwrap();
        assert_eq!(
            archive.bytes,
            fs::read(site.join(format!("stable/web-{version}.tgz"))).unwrap()
        );
        assert_eq!(archive.metadata.version, version);
    }
    let error = index.choose_version("wob", None).unwrap_err().to_string();
    assert!(error.contains("similar names: web"), "{error}");
    fs::write(site.join("stable/web-1.10.0.tgz"), "not the archive").unwrap();
    let chart = index.choose_version("web", None).unwrap();
    let error = repository.download_chart(&chart, &store).await.unwrap_err();
    assert!(matches!(error, Error::DigestMismatch { .. }), "{error}");
    let index = site.join("stable/index.yaml");
    let moved = fs::read_to_string(&index)
        .unwrap()
        .replace("web-1.10.0.tgz", "oci://registry.example/charts/web:1.10.0");
    fs::write(&index, moved).unwrap();
    let chart = repository.fetch_index().await.unwrap().choose_version("web", None).unwrap();
    let place = chart.registry_location();
    assert_eq!(place, Some(("registry.example/charts/web".into(), "1.10.0".into())));
    let nowhere = ChartRepository::new(&client, &web.url("unstable")).unwrap();
    let error = nowhere.fetch_index().await.unwrap_err().to_string();
    assert!(error.contains("helm repo add"), "{error}");
}

#[tokio::test]
async fn helm_pulls_the_artifact_that_a_chart_became_and_it_comes_back_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let chart = chart(folder.path(), "web", "1.0.0+build.7");
    let mut archive = helm::package_chart(&chart).unwrap();
    archive.provenance = Some(b"-----BEGIN PGP SIGNED MESSAGE-----\n".to_vec());
    let store = Store::open(folder.path().join("store")).unwrap();
    let server = testkit::TestRegistry::start();
    let host = server.host().to_owned();

    let artifact = helm::store_chart_artifact(&archive, &format!("{host}/charts"), &store).unwrap();
    assert_eq!(
        artifact,
        helm::store_chart_artifact(&archive, &format!("{host}/charts"), &store).unwrap()
    );
    assert_eq!(artifact.root.kind, RootKind::Chart);
    assert_eq!(artifact.root.name.to_string(), format!("{host}/charts/web:1.0.0_build.7"));
    store.publish_roots(std::slice::from_ref(&artifact.root)).unwrap();
    let from = format!("oci:{}:{}", text(store.path()), artifact.root.name);
    world::run(
        "skopeo",
        &[
            "copy",
            "-q",
            "--dest-tls-verify=false",
            &from,
            &format!("docker://{}", artifact.root.name),
        ],
    );
    let out = folder.path().join("pulled");
    fs::create_dir(&out).unwrap();
    let url = format!("oci://{host}/charts/web");
    world::run(
        &text(&helm()),
        &["pull", &url, "--version", "1.0.0+build.7", "--plain-http", "-d", &text(&out)],
    );
    assert_eq!(fs::read(out.join("web-1.0.0+build.7.tgz")).unwrap(), archive.bytes);

    let client = Client::builder().build().unwrap();
    let registry = RegistryClient::new(&client, &Mirrors::default(), &host);
    let fresh = Store::open(folder.path().join("fresh")).unwrap();
    let repository = format!("{host}/charts/web");
    for wanted in [Some("1.0.0+build.7"), Some("^1"), None] {
        let back =
            helm::import_chart_from_registry(&registry, &repository, wanted, &fresh).await.unwrap();
        assert_eq!(back.artifact.manifest, artifact.manifest);
        assert_eq!(back.archive.bytes, archive.bytes);
        store::find_closure(&fresh, &back.artifact.root).unwrap();
    }
    let error = helm::import_chart_from_registry(&registry, &repository, Some("^2"), &fresh)
        .await
        .unwrap_err();
    assert!(matches!(error, Error::NotFound { .. }), "{error}");
}

/// The folder with published charts: `GANTRY_CHARTS`, or `shared/charts` next to the repository or
/// to one of its worktrees.
fn published_charts() -> PathBuf {
    let given = std::env::var_os("GANTRY_CHARTS").map(PathBuf::from);
    let beside = || {
        let above = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
        above.map(|folder| folder.join("shared/charts")).find(|folder| folder.is_dir())
    };
    given.or_else(beside).expect("no ../shared/charts; set GANTRY_CHARTS")
}

#[test]
fn the_published_charts_are_read_and_rendered() {
    let charts = published_charts();
    let mut seen = 0;
    for entry in fs::read_dir(&charts)
        .unwrap_or_else(|error| panic!("{}: {error}; set GANTRY_CHARTS", charts.display()))
    {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "tgz") {
            continue;
        }
        let archive = ChartArchive::read(&path).unwrap();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        assert!(name.starts_with(&archive.metadata.name), "{name}");
        archive.metadata.to_json().unwrap();
        seen += 1;
    }
    assert_eq!(seen, 18);
    let helm = HelmBinary::at_path(&helm()).unwrap();
    let rendered =
        helm.render_release(&release(&charts.join("kube-prometheus-stack-88.5.2.tgz"))).unwrap();
    assert!(rendered.contains("quay.io/prometheus-operator"));
}

#[tokio::test]
async fn a_url_is_learnt_once_and_checked() {
    let folder = tempfile::tempdir().unwrap();
    let site = folder.path().join("site");
    fs::create_dir(&site).unwrap();
    let content = world::noise(5, 100_000);
    fs::write(site.join("tiny.gguf"), &content).unwrap();
    let web = Web::serve(&site);
    let client = Client::builder().build().unwrap();
    let store = Store::open(folder.path().join("store")).unwrap();
    let silent: std::sync::Arc<dyn store::progress::Progress> = std::sync::Arc::new(SilentProgress);
    let digest = store::hash::sha256(&content);
    let url = web.url("tiny.gguf?token=x");

    let known = http::look_up_file(&client, &url, Some(digest), &store, &silent).await.unwrap();
    assert_eq!(store.blob_size(&digest).unwrap(), None, "only its length was asked for");
    let learnt = http::look_up_file(&client, &url, None, &store, &silent).await.unwrap();

    assert_eq!(known, learnt);
    assert_eq!((learnt.title.as_str(), learnt.content.size), ("tiny.gguf", 100_000));
    assert_eq!(store.blob_size(&digest).unwrap(), Some(100_000));
    let error =
        http::look_up_file(&client, &web.url("absent"), None, &store, &silent).await.unwrap_err();
    assert!(matches!(error, Error::NotFound { .. }), "{error}");
}

#[tokio::test]
async fn a_file_at_a_url_is_downloaded_once_while_its_server_says_the_same_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let site = folder.path().join("site");
    fs::create_dir(&site).unwrap();
    let path = site.join("tiny.gguf");
    // The server gives the file's time as Last-Modified; a young one could hide another change.
    let write = |content: &[u8], age: Duration| {
        fs::write(&path, content).unwrap();
        let times = fs::FileTimes::new().set_modified(SystemTime::now() - age);
        fs::File::options().write(true).open(&path).unwrap().set_times(times).unwrap();
    };
    let server = Web::serve(&site);
    let web = FaultProxy::in_front_of(&server.url(""));
    let client = Client::builder().build().unwrap();
    let store = Store::open(folder.path().join("store")).unwrap();
    let silent: std::sync::Arc<dyn store::progress::Progress> = std::sync::Arc::new(SilentProgress);
    let look_up = async || {
        let url = format!("{}/tiny.gguf", web.url());
        http::look_up_file(&client, &url, None, &store, &silent).await.unwrap().content.digest
    };
    let downloads = || web.requests().iter().filter(|one| one.method == "GET").count();
    let hour = Duration::from_hours(1);

    write(b"first", hour);
    assert_eq!(look_up().await, look_up().await);
    assert_eq!(downloads(), 1);
    // Another content of the same length.
    write(b"other", hour / 2);
    assert_eq!(look_up().await, store::hash::sha256(b"other"));
    assert_eq!(downloads(), 2);
    write(b"third", Duration::ZERO);
    assert_eq!(look_up().await, look_up().await);
    assert_eq!(downloads(), 4);
}

#[test]
fn links_of_a_chart_stay_in_it_or_lead_to_another_chart() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("secret"), "geheim").unwrap();
    let (web, part) = (chart(folder.path(), "web", "1.0.0"), chart(folder.path(), "part", "1.0.0"));
    let unpack = |archive: &ChartArchive| helm::read_archive_files("web", &archive.bytes).unwrap();
    let plain = unpack(&helm::package_chart(&web).unwrap());

    symlink("../values.yaml", web.join("templates/inside.yaml")).unwrap();
    fs::create_dir(web.join("charts")).unwrap();
    symlink("../../part", web.join("charts/part")).unwrap();
    let linked = unpack(&helm::package_chart(&web).unwrap());

    let names: Vec<&str> = linked.iter().map(|(name, _)| name.as_str()).collect();
    for name in ["web/templates/inside.yaml", "web/charts/part/Chart.yaml"] {
        assert!(names.contains(&name), "{names:?}");
    }
    assert!(linked.len() > plain.len() + 2, "the other chart is there: {names:?}");
    for (target, link) in [
        ("../secret", "extra"),
        ("../../secret", "templates/extra.yaml"),
        ("../../", "charts/all"),
        ("../secret", ".helmignore"),
        // In the chart that is linked to.
        ("../../secret", "charts/part/templates/extra.yaml"),
        ("/etc/passwd", "charts/part-1.0.0.tgz"),
    ] {
        let link = web.join(link);
        let old = fs::read(&link).ok();
        let _ = fs::remove_file(&link);
        symlink(target, &link).unwrap();
        let error = helm::package_chart(&web).unwrap_err();
        assert!(error.is_input(), "{error}");
        let error = error.to_string();
        assert!(
            error.contains("outside") && !error.contains("geheim"),
            "{}: {error}",
            link.display()
        );
        fs::remove_file(&link).unwrap();
        if let Some(old) = old {
            fs::write(&link, old).unwrap();
        }
    }
    symlink(".", web.join("circle")).unwrap();
    let error = helm::package_chart(&web).unwrap_err().to_string();
    assert!(error.contains("loop") || error.contains("levels of symbolic links"), "{error}");
    fs::remove_file(web.join("circle")).unwrap();
    drop(part);

    // An archive may be a link, as its user names it; the file beside it is named by nobody.
    let tgz = folder.path().join("charts/web.tgz");
    fs::create_dir(folder.path().join("charts")).unwrap();
    fs::write(folder.path().join("real.tgz"), helm::package_chart(&web).unwrap().bytes).unwrap();
    symlink("../real.tgz", &tgz).unwrap();
    assert!(ChartArchive::read(&tgz).unwrap().provenance.is_none());
    symlink("../secret", folder.path().join("charts/web.tgz.prov")).unwrap();
    let error = ChartArchive::read(&tgz).unwrap_err().to_string();
    assert!(error.contains("web.tgz.prov") && error.contains("outside"), "{error}");
}
