//! Clocks and medians.

use std::time::Duration;

/// CPU time of this thread while `work` runs.
pub fn timed(work: impl FnOnce()) -> Duration {
    let before = thread_cpu();
    work();
    thread_cpu().saturating_sub(before)
}

/// CPU time of this thread.
fn thread_cpu() -> Duration {
    clock(libc::CLOCK_THREAD_CPUTIME_ID)
}

/// CPU time of all threads of this process.
pub fn process_cpu() -> Duration {
    clock(libc::CLOCK_PROCESS_CPUTIME_ID)
}

/// Milliseconds since 1970.
pub fn now_ms() -> i64 {
    clock(libc::CLOCK_REALTIME).as_millis() as i64
}

fn clock(id: libc::clockid_t) -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid place for the answer; both clocks exist on every Linux.
    unsafe { libc::clock_gettime(id, &mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// CPU time so far of the thread of this process that bears this name.
pub fn cpu_of_thread(name: &str) -> Option<Duration> {
    // The kernel keeps the first fifteen bytes of a thread's name.
    let name = &name[..name.len().min(15)];
    let threads = std::fs::read_dir("/proc/self/task").ok()?;
    let named = threads
        .flatten()
        .find(|thread| std::fs::read_to_string(thread.path().join("comm")).is_ok_and(|comm| comm.trim_end() == name))?;
    let stat = std::fs::read_to_string(named.path().join("schedstat")).ok()?;
    stat.split(' ').next()?.parse().ok().map(Duration::from_nanos)
}

/// The middle one; of an even number the upper of the two. Zero of none.
pub fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

/// `median (least–greatest)`.
pub fn spread(values: &[f64], digits: usize) -> String {
    let (least, greatest) = values.iter().fold((f64::MAX, f64::MIN), |(l, g), v| (l.min(*v), g.max(*v)));
    let median = median(values.iter().copied());
    format!("{median:.digits$} ({least:.digits$}–{greatest:.digits$})")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_one() {
        assert_eq!(median([3.0, 1.0, 2.0]), 2.0);
        assert_eq!(spread(&[3.0, 1.0, 2.5], 1), "2.5 (1.0–3.0)");
    }
}
