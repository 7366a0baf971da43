// SPDX-License-Identifier: Apache-2.0
//! How much secret memory a user has already, from /proc.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Bytes of secret memory that the processes of `uid` have mapped, each file counted once.
///
/// The kernel shows its own per-user counter nowhere, so this adds up the mappings: what they
/// *may* come to use rather than what they have touched so far. Processes whose maps we may not
/// read are left out, as are files that are open but mapped by nobody.
pub fn in_use(uid: u32) -> u64 {
    let mut files = BTreeMap::new();
    let Ok(processes) = fs::read_dir("/proc") else {
        return 0;
    };
    for process in processes.flatten() {
        let dir = process.path();
        if !is_process_of(&dir, uid) {
            continue;
        }
        if let Ok(maps) = fs::read_to_string(dir.join("maps")) {
            collect(&maps, &mut files);
        }
    }
    files.values().sum()
}

fn is_process_of(dir: &Path, uid: u32) -> bool {
    let pid = dir.file_name().and_then(|name| name.to_str());
    if !pid.is_some_and(|pid| pid.bytes().all(|byte| byte.is_ascii_digit())) {
        return false;
    }
    let Ok(status) = fs::read_to_string(dir.join("status")) else {
        return false;
    };
    real_uid(&status) == Some(uid)
}

fn real_uid(status: &str) -> Option<u32> {
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Adds the secret mappings of one `maps` file: (inode, offset) → length in bytes.
fn collect(maps: &str, files: &mut BTreeMap<(u64, u64), u64>) {
    for line in maps.lines().filter(|line| is_secret(line)) {
        if let Some((key, len)) = parse(line) {
            let known = files.entry(key).or_default();
            *known = len.max(*known);
        }
    }
}

/// The kernel names these mappings `/secretmem`, or `/secretmem (deleted)`.
fn is_secret(line: &str) -> bool {
    line.split_whitespace().nth(5) == Some("/secretmem")
}

/// `start-end perms offset dev inode path`, see proc_pid_maps(5).
fn parse(line: &str) -> Option<((u64, u64), u64)> {
    let mut fields = line.split_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    let offset = u64::from_str_radix(fields.nth(1)?, 16).ok()?;
    let inode = fields.nth(1)?.parse().ok()?;
    let start = u64::from_str_radix(start, 16).ok()?;
    let end = u64::from_str_radix(end, 16).ok()?;
    Some(((inode, offset), end.checked_sub(start)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAPS: &str = "\
7f0000000000-7f0000200000 rw-s 00000000 00:0d 77   /secretmem (deleted)
7f0000400000-7f0000800000 rw-s 00200000 00:0d 77   /secretmem (deleted)
7f0001000000-7f0001001000 rw-p 00000000 00:00 0    [stack]
7f0002000000-7f0002001000 rw-s 00000000 08:01 9    /home/secretmem
";

    #[test]
    fn collect_counts_secret_mappings_only_and_each_once() {
        let mut files = BTreeMap::new();
        collect(MAPS, &mut files);
        collect(MAPS, &mut files);
        assert_eq!(files.values().sum::<u64>(), 6 << 20);
    }

    #[test]
    fn real_uid_is_the_first_of_four() {
        assert_eq!(real_uid("Name:\tx\nUid:\t1000\t0\t0\t0\n"), Some(1000));
        assert_eq!(real_uid("Name:\tx\n"), None);
    }
}
