//! Shared by tests of whole platforms: a user with internet access who locks and packs, and a user inside
//! the air gap with the bundle, a cluster, and a registry with a password.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Instant;

use cluster::ObjectScope;
use cluster::objects::api::core::v1::Pod;
use serde_json::Value;
use tempfile::TempDir;
use testkit::gantry::CommandOutput;
use testkit::{
    Gantry, RegistryTrust, TestCluster, TestEnvironment, TestHub, TestImages, TestLogin,
    TestNamespace, TestRegistry, charts, tools,
};

use crate::story::{BINARY, pack, text};

/// What all tests share: images are prepared once, and what one test has loaded stays in the registry.
struct Ground {
    here: TestCluster,
    world: TestEnvironment,
    _trust: RegistryTrust,
}

/// A handle to what the tests share, held while a test uses it.
static GROUND: Mutex<Weak<Ground>> = Mutex::new(Weak::new());

/// A platform that is carried into a namespace of its own.
pub(crate) struct Platform {
    outside: Gantry,
    inside: Gantry,
    space: TestNamespace,
    media: TempDir,
    _home: TempDir,
    ground: Arc<Ground>,
}

impl Platform {
    /// A user with an empty folder, and a site with only a cluster and a registry.
    pub(crate) fn new(story: &str) -> Self {
        let ground = Ground::get();
        let space = ground.here.reserve_namespace(story);
        let outside = ground.world.gantry(BINARY);
        let outside = outside.in_folder(&ground.world.home().join(space.name()));
        let home = tempfile::tempdir().unwrap();
        fs::write(home.path().join("config.yaml"), "# nothing\n").unwrap();
        let site = ground.world.site();
        site.login().unwrap().write_docker_config(&home.path().join(".docker"), site.host());
        let inside = Gantry::new(BINARY, home.path()).in_cluster(&ground.here);
        let media = tempfile::tempdir().unwrap();
        Self { outside, inside, space, media, _home: home, ground }
    }

    /// The same, with another variable in the environment of the user inside the air gap.
    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.inside = self.inside.env(name, value);
        self
    }

    /// The namespace, which does not exist at first.
    pub(crate) fn name(&self) -> &str {
        self.space.name()
    }

    /// The cluster.
    pub(crate) fn here(&self) -> &TestCluster {
        &self.ground.here
    }

    /// The host of the site's registry.
    pub(crate) fn host(&self) -> &str {
        self.ground.world.site().host()
    }

    /// The folder of the user with internet access.
    pub(crate) fn folder(&self) -> &Path {
        self.outside.folder()
    }

    /// The user inside the air gap.
    pub(crate) fn inside(&self) -> &Gantry {
        &self.inside
    }

    /// Writes one of the small charts as an archive beside gantry.yaml.
    pub(crate) fn has_chart(&self, name: &str) {
        fs::create_dir_all(self.folder()).unwrap();
        charts::package_chart(name, self.folder());
    }

    /// Copies a real chart beside gantry.yaml, and returns its file name.
    pub(crate) fn has_real_chart(&self, name: &str) -> String {
        let archive = tools::chart_archive(name);
        let file = archive.file_name().unwrap().to_string_lossy().into_owned();
        fs::create_dir_all(self.folder()).unwrap();
        fs::copy(&archive, self.folder().join(&file)).unwrap();
        file
    }

    /// Writes gantry.yaml with Gantry's own image in it, and values files beside it; then runs
    /// `gantry lock`, `fetch` and `pack`. The folder inside the air gap then has what a person would
    /// carry: everything except the charts.
    pub(crate) fn carry(&self, input: &str, values: &[(&str, &str)]) {
        let started = Instant::now();
        let own = tools::static_gantry_path();
        let input = format!(
            "version: 1\nname: platform\nplatforms: [linux/amd64]\ntools: [{{gantry: ['{}']}}]\n{input}",
            own.display()
        );
        for (name, text) in values {
            self.outside.write_file(name, text);
            self.inside.write_file(name, text);
        }
        self.outside.write_file("gantry.yaml", &input);
        for verb in ["lock", "fetch"] {
            self.outside.run([verb]).assert_success();
        }
        pack(&self.outside, self.media.path(), "4GiB");
        self.inside.write_file("gantry.yaml", &input);
        self.inside.write_file("gantry.lock", &self.outside.read_file("gantry.lock"));
        told("lock, fetch and pack", started);
    }

    /// Writes site.yaml: the registry and these model targets.
    pub(crate) fn has_site(&self, models: &str) {
        self.inside.write_file(
            "site.yaml",
            &format!(
                "version: 1\ncontext: gantry\n\
                 registry: {{url: '{}/ai', plainHttp: true, pullSecret: site-pull}}\n{models}",
                self.host()
            ),
        );
    }

    /// Runs `gantry VERB --site site.yaml` with further arguments, inside the air gap.
    pub(crate) fn runs(&self, verb: &str, more: &[&str]) -> CommandOutput {
        let started = Instant::now();
        let all = [verb, "--site", "site.yaml", "--output", "json"];
        let output = self.inside.run(all.iter().chain(more));
        told(verb, started);
        output
    }

    /// Runs `gantry load` from the bundle files.
    pub(crate) fn load(&self) -> Value {
        self.runs("load", &[&self.media()]).assert_success().parse_json()
    }

    /// Runs `gantry deploy` with the charts in the bundle files.
    pub(crate) fn deploy(&self, more: &[&str]) -> CommandOutput {
        let media = self.media();
        let first = ["--from", &media, "--pod-security", "restricted", "--timeout", "5m"];
        self.runs("deploy", &[&first, more].concat())
    }

    /// The folder of the bundle files.
    pub(crate) fn media(&self) -> String {
        text(self.media.path())
    }

    /// The pods of a namespace with these labels that are not being deleted.
    pub(crate) fn pods(&self, namespace: &str, labels: &str) -> Vec<Pod> {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let mut pods = runtime.block_on(async {
            let cluster = self.ground.here.connect().await;
            cluster.list_objects::<Pod>(ObjectScope::Namespace(namespace), labels).await.unwrap()
        });
        pods.retain(|pod| pod.metadata.deletion_timestamp.is_none());
        pods
    }

    /// Runs `gantry check`, which must succeed, and returns its findings.
    pub(crate) fn is_well(&self, more: &[&str]) -> Findings {
        Findings(self.runs("check", more).assert_success().parse_json())
    }
}

impl Ground {
    fn get() -> Arc<Self> {
        let mut shared = GROUND.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(ground) = shared.upgrade() {
            return ground;
        }
        let started = Instant::now();
        let here = TestCluster::from_environment();
        let site =
            TestRegistry::builder().address(here.host()).login(TestLogin::new("site", "sitepass"));
        let world = TestEnvironment::from_parts(
            TestImages::cluster(),
            TestRegistry::builder(),
            TestHub::builder().minilm(),
        );
        let world = world.with_site(site);
        let trust = here.trust_registry(world.site());
        let ground = Arc::new(Self { here, world, _trust: trust });
        *shared = Arc::downgrade(&ground);
        told("the world", started);
        ground
    }
}

/// What `gantry check` found.
pub(crate) struct Findings(Value);

impl Findings {
    /// Asserts that a finding of this check contains all of these words and has this state.
    #[track_caller]
    pub(crate) fn has(&self, check: &str, state: &str, words: &[&str]) {
        let found = self.0["findings"].as_array().unwrap().iter().any(|one| {
            let said = format!("{}: {}", one["what"], one["why"]);
            one["check"] == check && one["state"] == state && words.iter().all(|w| said.contains(w))
        });
        assert!(found, "no {check} is {state} with {words:?}: {:#}", self.0);
    }
}

/// What each release's deploy did: `(release, action, revision)`.
pub(crate) fn done(result: &Value) -> Vec<(String, String)> {
    let word = |one: &Value, key: &str| one[key].as_str().unwrap().to_owned();
    let all = result["releases"].as_array().unwrap();
    all.iter().map(|one| (word(one, "release"), word(one, "action"))).collect()
}

/// The path of a file beside gantry.yaml, whose folder is created.
pub(crate) fn beside(folder: &Path, name: &str) -> PathBuf {
    let file = folder.join(name);
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    file
}

#[expect(clippy::print_stdout, reason = "how long each part took, with --nocapture")]
fn told(what: &str, started: Instant) {
    let thread = std::thread::current();
    let story = thread.name().unwrap_or_default().to_owned();
    println!("{story}: {what}: {:.1} s", started.elapsed().as_secs_f64());
}
