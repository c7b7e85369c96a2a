//! What the machine says of this process and of the disk under its books; `None` where it says nothing.
//!
//! A few small reads of `/proc` and one system call, for a page that somebody asks for: nothing here is on a request's path.

use std::fs;
use std::path::Path;

/// The unit of processor times in `/proc`: `USER_HZ`, 100 on every architecture that Linux still runs on (proc(5), `sysconf(_SC_CLK_TCK)`).
const TICKS_PER_SECOND: f64 = 100.0;

/// The process and its disk at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Machine {
    pub open_fds: Option<u64>,
    pub max_fds: Option<u64>,
    pub resident_bytes: Option<u64>,
    pub cpu_seconds: Option<f64>,
    /// What is left for this user on the file system of the state directory.
    pub disk_free_bytes: Option<u64>,
}

impl Machine {
    pub fn look(state_dir: &Path) -> Self {
        let read = |file: &str| fs::read_to_string(Path::new("/proc/self").join(file)).ok();
        Self {
            open_fds: open_fds(),
            max_fds: read("limits").as_deref().and_then(max_fds),
            resident_bytes: read("status").as_deref().and_then(resident_bytes),
            cpu_seconds: read("stat").as_deref().and_then(cpu_seconds),
            disk_free_bytes: rustix::fs::statvfs(state_dir).ok().map(|disk| disk.f_bavail.saturating_mul(disk.f_frsize)),
        }
    }
}

/// Since Linux 6.2 the directory's size is the number of its entries; before it is 0, and they are counted.
fn open_fds() -> Option<u64> {
    let fds = Path::new("/proc/self/fd");
    match fs::metadata(fds).ok()?.len() {
        0 => u64::try_from(fs::read_dir(fds).ok()?.count()).ok(),
        known => Some(known),
    }
}

fn max_fds(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

fn resident_bytes(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()?.checked_mul(1_024)
}

/// The fields behind the command's name, which may hold anything; user and system time are the 12th and 13th of them (proc(5)).
fn cpu_seconds(stat: &str) -> Option<f64> {
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut times = fields.split(' ').skip(11).map_while(|ticks| ticks.parse::<u64>().ok());
    let ticks = times.next()?.checked_add(times.next()?)?;
    Some(ticks as f64 / TICKS_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_proc_says() {
        let limits = "Limit                     Soft Limit           Hard Limit           Units     \n\
                      Max processes             63426                63426                processes \n\
                      Max open files            1024                 524288               files     \n";
        assert_eq!(max_fds(limits), Some(1_024));
        assert_eq!(resident_bytes("VmHWM:\t  9000 kB\nVmRSS:\t    7168 kB\n"), Some(7_340_032));
        assert_eq!(cpu_seconds("42 (a) b) c) S 1 42 42 0 -1 4194560 500 0 0 0 1234 66 0 0 20 0"), Some(13.0));
        for nothing in ["", "Max open files unlimited", "VmRSS: much", "42 (a) S 1"] {
            assert_eq!((max_fds(nothing), resident_bytes(nothing), cpu_seconds(nothing)), (None, None, None), "{nothing}");
        }
    }

    #[test]
    fn this_process_has_files_memory_and_a_disk() {
        let machine = Machine::look(&std::env::temp_dir());
        assert!(machine.open_fds.unwrap() >= 3 && machine.resident_bytes.unwrap() > 1 << 20, "{machine:?}");
        assert!(machine.cpu_seconds.is_some() && machine.disk_free_bytes.is_some() && machine.max_fds.is_some(), "{machine:?}");
        assert_eq!(Machine::look(Path::new("/no/such/place")).disk_free_bytes, None);
    }
}
