//! What a process uses, as Linux tells it in `/proc`. Elsewhere nothing is known, and nothing is guessed.

use earpiece_simulator::LoadProgress;
use serde::Serialize;

use crate::figure;

/// Microseconds in a tick of `/proc/PID/stat`: the kernel tells user space 100 ticks per second on every architecture
/// in use, whatever its own rate.
const TICK_US: u64 = 10_000;

/// A process that is looked at.
#[derive(Debug)]
pub(crate) struct Process {
    pid: u32,
}

/// What it uses at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Look {
    /// CPU time since its start, user and system.
    cpu_us: u64,
    /// Memory that is resident.
    pub(crate) rss_bytes: u64,
    /// The part of it that is the process's own: neither files nor shared.
    pub(crate) anon_bytes: u64,
}

impl Process {
    /// A process, where it can be looked at.
    pub(crate) fn of(pid: u32) -> Option<Self> {
        let process = Self { pid };
        process.look().is_some().then_some(process)
    }

    /// Looks.
    pub(crate) fn look(&self) -> Option<Look> {
        let read = |file: &str| std::fs::read_to_string(format!("/proc/{}/{file}", self.pid)).ok();
        let status = read("status")?;
        Some(Look {
            cpu_us: cpu_us(&read("stat")?)?,
            rss_bytes: kib(&status, "VmRSS:")? * 1024,
            anon_bytes: kib(&status, "RssAnon:")? * 1024,
        })
    }
}

/// `utime` and `stime`, the 14th and 15th field. The second one is a name in parentheses that may hold anything.
fn cpu_us(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    Some((ticks()? + ticks()?) * TICK_US)
}

fn kib(status: &str, field: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

/// What the server used while all streams were open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Usage {
    /// Resident before the first stream.
    pub(crate) idle_rss_bytes: u64,
    /// Resident at most.
    pub(crate) rss_bytes_max: u64,
    /// Its own memory before the first stream.
    pub(crate) idle_anon_bytes: u64,
    /// Its own memory at most.
    pub(crate) anon_bytes_max: u64,
    /// What each stream added to what is resident.
    pub(crate) rss_bytes_per_stream: u64,
    /// What each stream added to its own memory.
    pub(crate) anon_bytes_per_stream: u64,
    /// CPU time over the steady phase.
    pub(crate) cpu_us: u64,
    /// Frames sent to it over the steady phase.
    pub(crate) frames: u64,
    /// CPU time per frame, in nanoseconds.
    pub(crate) cpu_ns_per_frame: u64,
    /// CPU time per second, in thousandths of a core.
    pub(crate) cpu_millicores: u64,
}

/// The steady phase: all streams are open, and none closes yet.
#[derive(Debug)]
pub(crate) struct Phase {
    streams: u64,
    idle: Option<Look>,
    first: Option<Mark>,
    last: Option<Mark>,
    rss_bytes_max: u64,
    anon_bytes_max: u64,
}

#[derive(Debug, Clone, Copy)]
struct Mark {
    at_ms: u64,
    frames: u64,
    cpu_us: u64,
    live: u64,
}

impl Phase {
    /// A phase that has not begun, of a process that is idle.
    pub(crate) const fn new(streams: u64, idle: Option<Look>) -> Self {
        Self { streams, idle, first: None, last: None, rss_bytes_max: 0, anon_bytes_max: 0 }
    }

    const fn is_steady(&self, news: &LoadProgress) -> bool {
        let all_were_opened = news.opened + news.refused >= self.streams;
        all_were_opened && news.live > 0 && news.live + news.lost >= news.opened
    }

    /// Counts work from the first to the last time that all streams are open.
    pub(crate) fn count(&mut self, news: &LoadProgress, look: Option<Look>) {
        let Some(look) = look.filter(|_| self.is_steady(news)) else { return };
        let mark = Mark { at_ms: news.elapsed_ms, frames: news.frames, cpu_us: look.cpu_us, live: news.live };
        self.first.get_or_insert(mark);
        self.last = Some(mark);
        self.watch(news, Some(look));
    }

    /// Notes how much memory is used while all streams are open.
    pub(crate) fn watch(&mut self, news: &LoadProgress, look: Option<Look>) {
        if let Some(look) = look.filter(|_| self.is_steady(news)) {
            self.rss_bytes_max = self.rss_bytes_max.max(look.rss_bytes);
            self.anon_bytes_max = self.anon_bytes_max.max(look.anon_bytes);
        }
    }

    /// What was used; none when the phase was too short to say.
    pub(crate) fn usage(&self) -> Option<Usage> {
        let (idle, first, last) = (self.idle?, self.first?, self.last?);
        let (frames, cpu_us, ms) = (last.frames - first.frames, last.cpu_us - first.cpu_us, last.at_ms - first.at_ms);
        if ms == 0 {
            return None;
        }
        let per_stream = |max: u64, idle: u64| figure::divide(max.saturating_sub(idle), last.live);
        Some(Usage {
            idle_rss_bytes: idle.rss_bytes,
            rss_bytes_max: self.rss_bytes_max,
            idle_anon_bytes: idle.anon_bytes,
            anon_bytes_max: self.anon_bytes_max,
            rss_bytes_per_stream: per_stream(self.rss_bytes_max, idle.rss_bytes),
            anon_bytes_per_stream: per_stream(self.anon_bytes_max, idle.anon_bytes),
            cpu_us,
            frames,
            cpu_ns_per_frame: figure::divide(cpu_us * 1000, frames),
            cpu_millicores: figure::divide(cpu_us, ms),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn news(elapsed_ms: u64, live: u64, frames: u64) -> LoadProgress {
        LoadProgress { elapsed_ms, opened: live.max(100), refused: 0, live, lost: 0, frames }
    }

    fn look(cpu_us: u64, rss_kib: u64) -> Look {
        Look { cpu_us, rss_bytes: rss_kib * 1024, anon_bytes: rss_kib * 512 }
    }

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        let stat = "7 (a) b) S 1 2 3 4 5 6 7 8 9 10 250 50 0 0";
        assert_eq!(cpu_us(stat), Some(3_000_000));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_can_be_looked_at() {
        let process = Process::of(std::process::id()).expect("a process");
        assert!(process.look().is_some_and(|look| look.rss_bytes >= look.anon_bytes && look.anon_bytes > 0));
    }

    #[test]
    fn only_what_happens_while_all_streams_are_open_counts() {
        let mut phase = Phase::new(100, Some(look(0, 1000)));
        phase.count(&LoadProgress { opened: 50, ..news(500, 50, 10) }, Some(look(5_000_000, 9_000_000)));
        phase.count(&news(1_000, 100, 5_000), Some(look(1_000_000, 3000)));
        phase.watch(&news(1_000, 100, 5_000), Some(look(1_000_000, 4200)));
        phase.count(&news(3_000, 100, 15_000), Some(look(1_400_000, 3100)));
        phase.count(&news(4_000, 60, 18_000), Some(look(9_000_000, 9_000_000)));
        let usage = phase.usage().expect("a phase");
        assert_eq!((usage.frames, usage.cpu_us, usage.cpu_ns_per_frame), (10_000, 400_000, 40_000));
        assert_eq!((usage.cpu_millicores, usage.rss_bytes_per_stream), (200, 32 * 1024));
    }

    #[test]
    fn a_phase_without_length_says_nothing() {
        let mut phase = Phase::new(100, Some(look(0, 1)));
        phase.count(&news(1_000, 100, 5), Some(look(1, 1)));
        assert_eq!(phase.usage(), None);
    }
}
