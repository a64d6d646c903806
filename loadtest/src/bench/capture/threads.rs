//! Processor time of threads: a process's of some name, and that of the calling one.

use anyhow::Context;
use rustix::time::{ClockId, clock_gettime};
use std::{fs, time::Duration};

/// What all living threads of a process whose names begin so have used, on a processor, since they began.
///
/// Errors: there is no such process.
pub(crate) fn used_by(pid: u32, name: &str) -> anyhow::Result<Duration> {
    let mut used = Duration::ZERO;
    let threads = format!("/proc/{pid}/task");
    for thread in fs::read_dir(&threads).with_context(|| format!("cannot read {threads}"))? {
        let path = thread?.path();
        // A thread may end meanwhile.
        let (Ok(comm), Ok(statistics)) =
            (fs::read_to_string(path.join("comm")), fs::read_to_string(path.join("schedstat")))
        else {
            continue;
        };
        if comm.starts_with(name) {
            used += running(&statistics);
        }
    }
    Ok(used)
}

/// The first of three numbers (Documentation/scheduler/sched-stats.rst): nanoseconds on a processor.
fn running(statistics: &str) -> Duration {
    let nanoseconds = statistics.split_whitespace().next().and_then(|number| number.parse().ok());
    Duration::from_nanos(nanoseconds.unwrap_or(0))
}

/// What the calling thread has used.
pub(crate) fn used() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let (seconds, nanoseconds) = (u64::try_from(time.tv_sec), u32::try_from(time.tv_nsec));
    Duration::new(seconds.unwrap_or(0), nanoseconds.unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_are_told_apart_by_their_names() {
        assert_eq!(running("123456789 42 7\n"), Duration::from_nanos(123_456_789));
        let busy = std::thread::Builder::new().name("busy-thread".into()).spawn(|| {
            while used() < Duration::from_millis(20) {}
            let used = |name| used_by(std::process::id(), name).unwrap();
            (used("busy-"), used("nobody"))
        });
        let (busy, nobody) = busy.unwrap().join().unwrap();
        assert!(busy >= Duration::from_millis(15), "{busy:?}");
        assert_eq!(nobody, Duration::ZERO);
    }
}
