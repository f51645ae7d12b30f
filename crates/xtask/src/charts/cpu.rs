//! The CPU time of this process and of the processes that it has waited for.

/// The clock ticks of `/proc/PID/stat` in a second: 100 on every architecture that Linux has
/// (`USER_HZ`, proc(5)).
const TICKS: f64 = 100.0;

/// The CPU seconds, user and system, of this process with all its threads and of all child processes
/// that have ended and were waited for, to 10 milliseconds.
///
/// # Errors
/// `/proc/self/stat` cannot be read, or is not as proc(5) says.
pub(super) fn read_cpu_seconds() -> Result<f64, String> {
    let path = "/proc/self/stat";
    let text = std::fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
    parse_cpu_seconds(&text).ok_or_else(|| format!("{path} is not as proc(5) says: {text}"))
}

/// `utime`, `stime`, `cutime` and `cstime`: fields 14 to 17. The second field, the name of the program
/// in parentheses, may have blanks.
fn parse_cpu_seconds(stat: &str) -> Option<f64> {
    let (_, behind_name) = stat.rsplit_once(')')?;
    let fields: Vec<f64> =
        behind_name.split_whitespace().skip(11).take(4).map_while(|f| f.parse().ok()).collect();
    (fields.len() == 4).then(|| fields.iter().sum::<f64>() / TICKS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_times_of_the_process_and_its_children_are_added() {
        let stat = "12 (a name) x) S 1 12 12 0 -1 4194304 90 0 0 0 150 50 300 100 20 0 1 0 999";
        assert_eq!(parse_cpu_seconds(stat), Some(6.0));
        assert_eq!(parse_cpu_seconds("12 (short) S 1"), None);
    }
}
