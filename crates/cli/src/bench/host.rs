//! The machine that everything runs on: what it is, and whether it allows as many open files as streams need.

use crate::figure;
use crate::trouble::Trouble;

/// Files that each of the two processes has open beside its sockets: store, segments being written, runtime.
const FILES_BESIDE: u64 = 200;

/// Whether a load of so many streams fits under the limit on open files, which a child process inherits. Where the
/// limit cannot be read, the load itself will tell.
///
/// # Errors
///
/// When it does not fit.
pub(crate) fn allows_open_files(streams: u32) -> Result<(), Trouble> {
    let Ok(limits) = std::fs::read_to_string("/proc/self/limits") else { return Ok(()) };
    fits(open_files_max(&limits), u64::from(streams) + FILES_BESIDE)
}

fn fits(allowed: Option<u64>, needed: u64) -> Result<(), Trouble> {
    match allowed {
        Some(allowed) if allowed < needed => Err(Trouble::usage(format!(
            "{} open files are allowed, and this load needs {}",
            figure::count(allowed),
            figure::count(needed)
        ))
        .next(format!("ulimit -n {needed}, and again; or fewer --streams"))),
        _ => Ok(()),
    }
}

/// The soft limit; none when there is no limit or no such line.
fn open_files_max(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

/// The machine in one line: processor, cores, system.
pub(crate) fn describe() -> String {
    let cores = std::thread::available_parallelism().map_or(0, |cores| cores.get() as u64);
    let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")).and_then(|rest| rest.split_once(':'));
    let model = model.map_or("unknown processor", |(_, model)| model.trim());
    let build = if cfg!(debug_assertions) { "debug build" } else { "release build" };
    format!("{} of {model}, {}, {build}", figure::plural(cores, "core"), std::env::consts::OS)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: &str = "\
Limit                     Soft Limit           Hard Limit           Units
Max processes             63432                63432                processes
Max open files            1024                 1048576              files
";

    #[test]
    fn the_soft_limit_is_what_counts() {
        assert_eq!(open_files_max(LIMITS), Some(1024));
        assert_eq!(open_files_max(&LIMITS.replace("1024 ", "unlimited ")), None);
    }

    #[test]
    fn a_load_that_does_not_fit_is_refused_with_what_to_do() {
        let refused = fits(Some(1024), 2200).expect_err("too many").text();
        assert!(refused.contains("1,024") && refused.contains("ulimit -n 2200"), "{refused}");
        assert!(fits(Some(1024), 1024).is_ok() && fits(None, 1 << 40).is_ok());
    }
}
