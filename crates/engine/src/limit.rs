//! The memory there is: the machine's, or less where the process runs in a control group with a limit.

use std::fs;
use std::path::Path;
use std::sync::OnceLock;

use crate::ir::error::Rule;

/// Bytes this process can have; None where the system does not tell.
fn memory() -> Option<u64> {
    static MEMORY: OnceLock<Option<u64>> = OnceLock::new();
    *MEMORY.get_or_init(|| {
        let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| total(&text));
        limits(&groups, Path::new("/sys/fs/cgroup")).into_iter().chain(machine).min()
    })
}

/// `MemTotal` of /proc/meminfo.
fn total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
}

/// The limits of the control groups that a /proc/self/cgroup names, of version 2 (`0::/a/b`) and 1 (`4:memory:/a/b`),
/// and of the groups around them.
fn limits(groups: &str, root: &Path) -> Vec<u64> {
    let mut limits = Vec::new();
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
        let (root, file) = match controllers {
            "" => (root.to_path_buf(), "memory.max"),
            list if list.split(',').any(|c| c == "memory") => (root.join("memory"), "memory.limit_in_bytes"),
            _ => continue,
        };
        let group = root.join(path.trim_start_matches('/'));
        for folder in group.ancestors().take_while(|folder| folder.starts_with(&root)) {
            let text = fs::read_to_string(folder.join(file)).unwrap_or_default();
            // Without a limit the file says "max".
            limits.extend(text.trim().parse::<u64>());
        }
    }
    limits
}

/// Why `bytes` of memory cannot be had for `what`.
pub(crate) fn refusal(what: &str, bytes: u128) -> Option<Rule> {
    let memory = memory().filter(|memory| bytes > u128::from(*memory))?;
    let gib = |bytes: u128| format!("{:.1} GiB", bytes as f64 / (1u64 << 30) as f64);
    let rule = Rule::new(format!("{what} takes {}, and there are {}", gib(bytes), gib(u128::from(memory))));
    Some(rule.hint("fewer or smaller layers, a smaller batch or a shorter context need less"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machines_memory_is_read() {
        assert_eq!(total("MemFree: 3 kB\n"), None);
        assert_eq!(total("MemFree: 3 kB\nMemTotal:       25165824 kB\n"), Some(24 << 30));
    }

    #[test]
    fn the_tightest_group_counts() {
        let root = std::env::temp_dir().join(format!("geartrain-groups-{}", std::process::id()));
        fs::create_dir_all(root.join("a/b")).unwrap();
        fs::create_dir_all(root.join("memory/c")).unwrap();
        fs::write(root.join("a/memory.max"), "4096\n").unwrap();
        fs::write(root.join("a/b/memory.max"), "max\n").unwrap();
        fs::write(root.join("memory/c/memory.limit_in_bytes"), "8192\n").unwrap();
        let found = |groups: &str| limits(groups, &root);
        assert_eq!(found("0::/a/b\n"), [4096]);
        assert_eq!(found("3:cpu:/a\n4:memory:/c\n"), [8192]);
        assert_eq!(found("0::/elsewhere\nnonsense\n"), [0u64; 0]);
        fs::remove_dir_all(root).unwrap();
    }
}
