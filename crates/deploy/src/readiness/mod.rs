//! Whether workloads and pods are ready, and if not, why. `release::wait` polls it during a
//! deploy, and the checks report it afterwards, so that both judge alike.

mod pod;
mod rejection;
mod workload;

pub(crate) use pod::{find_failing_container, list_container_statuses, read_last_lines};
pub(crate) use rejection::advise_on_rejection;
pub(crate) use workload::{
    JobStatus, WorkloadStatus, judge_daemon_set, judge_deployment, judge_job, judge_stateful_set,
};
