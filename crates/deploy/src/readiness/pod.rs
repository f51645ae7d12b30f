//! The containers of a pod: which one fails, and what it said last.

use cluster::Cluster;
use cluster::objects::api::core::v1::{ContainerStatus, Pod};

/// How many of the last lines of a log are shown.
const LINES: u32 = 5;
/// How many characters of a line are shown.
const WIDTH: usize = 200;

/// Lists the status of all containers of a pod, init containers first.
pub(crate) fn list_container_statuses(pod: &Pod) -> impl Iterator<Item = &ContainerStatus> {
    pod.status.iter().flat_map(|status| {
        let init = status.init_container_statuses.iter().flatten();
        init.chain(status.container_statuses.iter().flatten())
    })
}

/// The first container that failed or runs without being ready: its log probably says why. One that never
/// started has no log.
pub(crate) fn find_failing_container(pod: &Pod) -> Option<String> {
    let is_failing = |status: &&ContainerStatus| {
        let state = status.state.as_ref();
        let has_failed = state
            .and_then(|state| state.terminated.as_ref())
            .is_some_and(|ended| ended.exit_code != 0);
        let is_running = state.is_some_and(|state| state.running.is_some());
        let ended_before =
            status.last_state.as_ref().is_some_and(|state| state.terminated.is_some());
        has_failed || (!status.ready && (is_running || ended_before || status.restart_count > 0))
    };
    list_container_statuses(pod).find(is_failing).map(|status| status.name.clone())
}

/// The last lines of a container's log, without empty ones.
pub(crate) async fn read_last_lines(
    cluster: &Cluster,
    namespace: &str,
    pod: &str,
    container: &str,
) -> Vec<String> {
    let log = cluster.read_logs(namespace, pod, Some(container), Some(LINES)).await;
    let log = log.unwrap_or_default();
    let lines = log.lines().filter(|line| !line.trim().is_empty());
    lines.map(|line| line.chars().take(WIDTH).collect()).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use cluster::objects::serde_json::{Value, from_value, json};

    use super::*;

    #[test]
    fn the_container_that_fails_is_the_one_whose_log_is_read() {
        let pod = |init: Value, main: Value| -> Pod {
            from_value(
                json!({"status": {"initContainerStatuses": init, "containerStatuses": main}}),
            )
            .unwrap()
        };
        let status = |name: &str, is_ready: bool, restarts: i32, state: Value| {
            json!({"name": name, "image": "", "imageID": "", "ready": is_ready,
                "restartCount": restarts, "state": state})
        };
        let runs = json!({"running": {}});
        let ended = |code: i32| json!({"terminated": {"exitCode": code}});
        let waits = json!({"waiting": {"reason": "CrashLoopBackOff"}});
        let done = status("init", true, 0, ended(0));

        let well = pod(json!([done]), json!([status("a", true, 3, runs.clone())]));
        let unready = pod(
            json!([done]),
            json!([status("a", true, 0, runs.clone()), status("b", false, 0, runs)]),
        );
        let crashing = pod(json!([]), json!([status("c", false, 2, waits.clone())]));
        let failed = pod(json!([status("init", false, 0, ended(1))]), json!([]));
        let unstarted = pod(json!([]), json!([status("d", false, 0, waits)]));

        assert_eq!(find_failing_container(&well), None);
        assert_eq!(find_failing_container(&unready).as_deref(), Some("b"));
        assert_eq!(find_failing_container(&crashing).as_deref(), Some("c"));
        assert_eq!(find_failing_container(&failed).as_deref(), Some("init"));
        assert_eq!(find_failing_container(&unstarted), None);
    }
}
