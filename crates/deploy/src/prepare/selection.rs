//! Selects the releases of gantry.yaml that are to be deployed, and matches each with its entry in the
//! lock.

use std::path::Path;

use cluster::Cluster;
use types::input::{Input, InputChart, InputManifestSet, InputRelease};
use types::lock::{Lock, LockedChart, LockedManifestSet};

use crate::{Error, Result};

/// A set of manifests of gantry.yaml that was selected to be deployed.
#[derive(Debug, Clone)]
pub struct SelectedManifests {
    /// Its index among the releases of gantry.yaml ([`Input::releases`]), from 0.
    pub number: usize,
    /// Its entry in gantry.yaml, with the namespace that it has in the cluster by
    /// [`Self::for_cluster`].
    pub set: InputManifestSet,
    /// Its entry in the lock.
    pub locked: LockedManifestSet,
}

impl SelectedManifests {
    /// The name of the release.
    pub fn name(&self) -> &str {
        &self.set.release
    }

    /// The release with the namespace that it has in this cluster.
    #[must_use]
    pub fn for_cluster(&self, cluster: &Cluster) -> Self {
        let namespace = choose_namespace(self.set.namespace.as_deref(), cluster);
        let set = InputManifestSet { namespace: Some(namespace), ..self.set.clone() };
        Self { set, ..self.clone() }
    }
}

/// A chart of gantry.yaml that was selected to be deployed.
#[derive(Debug, Clone)]
pub struct SelectedRelease {
    /// Its index among the releases of gantry.yaml ([`Input::releases`]), from 0.
    pub number: usize,
    /// Its entry in gantry.yaml, with the release's name filled in, and its namespace by
    /// [`Self::for_cluster`].
    pub chart: InputChart,
    /// Its entry in the lock.
    pub locked: LockedChart,
}

impl SelectedRelease {
    /// The name of the helm release.
    pub fn name(&self) -> &str {
        &self.locked.release
    }

    /// The release with the namespace that it has in this cluster.
    #[must_use]
    pub fn for_cluster(&self, cluster: &Cluster) -> Self {
        let namespace = choose_namespace(self.chart.namespace.as_deref(), cluster);
        let chart = InputChart { namespace: Some(namespace), ..self.chart.clone() };
        Self { chart, ..self.clone() }
    }
}

/// The namespace of a release: the one that gantry.yaml names, else that of the kubeconfig's context, as
/// for kubectl and helm.
pub fn choose_namespace(named: Option<&str>, cluster: &Cluster) -> String {
    named.unwrap_or_else(|| cluster.namespace()).to_owned()
}

/// Selects the charts of gantry.yaml by release name, all of them if no name is given; a name may also be
/// that of a set of manifests ([`select_manifests`]). Checks that each chart is locked and that its values files exist; their paths are relative to `base`.
pub fn select_releases(
    base: &Path,
    input: &Input,
    lock: &Lock,
    names: &[String],
) -> Result<Vec<SelectedRelease>> {
    let mut all = Vec::new();
    for (number, chart) in input.charts.iter().enumerate() {
        let locked = find_locked_chart(chart, lock)
            .ok_or_else(|| Error::NotLocked { chart: chart.source.locked_name().0 })?;
        let chart = InputChart { release: Some(locked.release.clone()), ..chart.clone() };
        all.push(SelectedRelease { number, chart, locked: locked.clone() });
    }
    // All charts are matched with the lock first, the selected ones afterwards: a stale lock must not pass
    // just because the changed chart was not named.
    let manifests = input.manifests.iter().map(|set| set.release.as_str());
    let known: Vec<&str> = all.iter().map(SelectedRelease::name).chain(manifests).collect();
    if known.is_empty() {
        return Err(Error::NoCharts);
    }
    if let Some(unknown) = names.iter().find(|name| !known.contains(&name.as_str())) {
        return Err(Error::UnknownRelease { name: unknown.clone(), known: known.join(", ") });
    }
    all.retain(|one| names.is_empty() || names.iter().any(|name| name == one.name()));
    for one in &all {
        check_values_files(base, one)?;
    }
    Ok(all)
}

/// Selects the sets of manifests of gantry.yaml by release name, all of them if no name is given. Checks
/// that all are locked as they are written. Names that are unknown are found by [`select_releases`].
pub fn select_manifests(
    input: &Input,
    lock: &Lock,
    names: &[String],
) -> Result<Vec<SelectedManifests>> {
    let mut all = Vec::new();
    for (number, release) in input.releases().into_iter().enumerate() {
        let InputRelease::Manifests(set) = release else { continue };
        let locked = lock.manifests.iter().find(|locked| locked.is_lock_of(set));
        let locked = locked
            .cloned()
            .ok_or_else(|| Error::ManifestsNotLocked { release: set.release.clone() })?;
        all.push(SelectedManifests { number, set: set.clone(), locked });
    }
    all.retain(|one| names.is_empty() || names.iter().any(|name| name == one.name()));
    Ok(all)
}

/// The releases of an input as pairs of name and namespace (`None` where gantry.yaml names none), in the
/// order of installation.
pub fn list_release_namespaces(input: &Input, lock: &Lock) -> Vec<(String, Option<String>)> {
    let order = input.install_order(&|_| false);
    let releases = input.releases();
    order.iter().filter_map(|number| find_release_namespace(releases[*number], lock)).collect()
}

fn find_release_namespace(
    release: InputRelease<'_>,
    lock: &Lock,
) -> Option<(String, Option<String>)> {
    let name = match release {
        InputRelease::Chart(chart) => find_locked_chart(chart, lock)?.release.clone(),
        InputRelease::Manifests(set) => set.release.clone(),
    };
    Some((name, release.namespace().map(str::to_owned)))
}

fn find_locked_chart<'a>(chart: &InputChart, lock: &'a Lock) -> Option<&'a LockedChart> {
    lock.charts.iter().find(|locked| locked.is_lock_of(chart))
}

/// Checks that a release's values files exist, before anything is changed: they are not part of the
/// chart and have to be carried across separately.
fn check_values_files(base: &Path, selected: &SelectedRelease) -> Result<()> {
    for file in &selected.chart.values {
        let path = base.join(file);
        // `~` is replaced by the home folder only when the chart is opened; a missing file is reported
        // there.
        let is_home = file.starts_with("~");
        if !is_home && !path.is_file() {
            return Err(Error::MissingValuesFile { release: selected.name().to_owned(), path });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const INPUT: &str = "version: 1\nname: shop\ncharts:\n- {chart: ./web, namespace: shop}\n- {chart: 'oci://r.example/db', version: ^1}\n";

    fn read_lock(requested: &str) -> Lock {
        let digest = format!("sha256:{}", "a".repeat(64));
        let entry = |chart: &str, requested: &str, release: &str| {
            format!(
                "- {{chart: '{chart}', {requested}version: 1.0.0, release: {release}, reference: 'r.example/charts/{release}:1.0.0', manifest: {{digest: '{digest}', size: 1, mediaType: x}}}}\n"
            )
        };
        let text = format!(
            "version: 1\nname: shop\nplatforms: [linux/amd64]\ncharts:\n{}{}",
            entry("oci://r.example/db", requested, "db"),
            entry("./web", "", "web"),
        );
        Lock::parse("gantry.lock", &text).unwrap()
    }

    /// A kubeconfig whose context has a namespace; nothing is asked of the server.
    const KUBECONFIG: &str = "\
apiVersion: v1
kind: Config
clusters: [{name: site, cluster: {server: 'http://127.0.0.1:1'}}]
users: [{name: me, user: {token: t}}]
contexts: [{name: site, context: {cluster: site, user: me, namespace: team}}]
current-context: site
";

    #[tokio::test]
    async fn a_release_without_a_namespace_goes_where_kubectl_would_go() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), KUBECONFIG).unwrap();
        let access = cluster::ClusterAccess { kubeconfig: Some(file.path().into()), context: None };
        let cluster = Cluster::connect(&access).await.unwrap();
        let input = Input::parse("gantry.yaml", INPUT).unwrap();
        let all = select_releases(Path::new("."), &input, &read_lock("requested: ^1, "), &[]);

        let namespaces: Vec<Option<String>> =
            all.unwrap().iter().map(|one| one.for_cluster(&cluster).chart.namespace).collect();

        assert_eq!(namespaces, [Some("shop".to_owned()), Some("team".to_owned())]);
    }

    #[test]
    fn manifests_are_selected_beside_charts_and_have_to_be_locked_as_they_are_written() {
        let manifests = "manifests:\n- {release: web-extra, namespace: shop, from: [./a.yaml]}\n";
        let input = Input::parse("gantry.yaml", &format!("{INPUT}{manifests}")).unwrap();
        let digest = format!("sha256:{}", "a".repeat(64));
        let mut lock = read_lock("requested: ^1, ");
        lock.manifests.push(LockedManifestSet {
            release: "web-extra".into(),
            namespace: Some("shop".into()),
            from: vec!["./a.yaml".into()],
            reference: "manifests.gantry/web-extra:aaaaaaaaaaaa".parse().unwrap(),
            content: types::lock::Blob { digest: digest.parse().unwrap(), size: 1 },
            manifest: types::lock::Blob { digest: digest.parse().unwrap(), size: 1 },
        });
        let names = ["web-extra".to_owned()];

        let charts = select_releases(Path::new("."), &input, &lock, &names).unwrap();
        let sets = select_manifests(&input, &lock, &names).unwrap();
        let other = select_manifests(&input, &lock, &["db".to_owned()]).unwrap();
        lock.manifests[0].from = vec!["./b.yaml".into()];
        let stale = select_manifests(&input, &lock, &[]).unwrap_err();

        assert!(charts.is_empty() && other.is_empty());
        assert_eq!((sets[0].name(), sets[0].number), ("web-extra", 2));
        assert!(matches!(stale, Error::ManifestsNotLocked { release } if release == "web-extra"));
    }

    #[test]
    fn releases_are_selected_by_name_and_have_to_be_locked_as_they_are_written() {
        let input = Input::parse("gantry.yaml", INPUT).unwrap();
        let select = |lock: &Lock, names: &[&str]| {
            let names: Vec<String> = names.iter().map(ToString::to_string).collect();
            select_releases(Path::new("."), &input, lock, &names)
        };
        let lock = read_lock("requested: ^1, ");

        let all = select(&lock, &[]).unwrap();
        let one = select(&lock, &["db"]).unwrap();
        let unknown = select(&lock, &["cache"]).unwrap_err();
        // The changed chart is not the one that was named, and still the lock does not fit.
        let stale = select(&read_lock(""), &["web"]).unwrap_err();

        assert_eq!(all.iter().map(SelectedRelease::name).collect::<Vec<_>>(), ["web", "db"]);
        assert_eq!(one[0].chart.namespace, None);
        assert!(matches!(unknown, Error::UnknownRelease { known, .. } if known == "web, db"));
        assert!(matches!(stale, Error::NotLocked { chart } if chart == "oci://r.example/db"));
    }
}
