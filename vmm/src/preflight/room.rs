// SPDX-License-Identifier: Apache-2.0
//! Is there room for the guest? Its memory can be neither swapped nor reclaimed, so all of it must
//! be there, on the host and within the limits of this process's control groups.

use std::fs;
use std::path::{Path, PathBuf};

use crate::memory::{Huge, Pool, RamKind, SecretOptions};

/// Why the guest does not fit.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// MemAvailable of /proc/meminfo.
    #[error(
        "The host has {} MiB of memory available, but this guest needs {} MiB; give a smaller --mem or free some",
        .available >> 20, .need >> 20
    )]
    Host {
        /// Bytes asked for.
        need: u64,
        /// Bytes there are.
        available: u64,
    },
    /// SecretPoolFree of /proc/meminfo.
    #[error(
        "The pool of secret memory has {} MiB left, but this guest needs {} MiB; give a smaller --mem, boot the host \
         with a larger secretmem=SIZE, or leave pool=boot out",
        .available >> 20, .need >> 20
    )]
    Pool {
        /// Bytes asked for.
        need: u64,
        /// Bytes there are.
        available: u64,
    },
    /// memory.max of a control group (v2), less what the group uses.
    #[error(
        "The control group {} leaves {} MiB of memory, but this guest needs {} MiB; give a smaller --mem or raise its memory.max",
        group.display(), .available >> 20, .need >> 20
    )]
    Group {
        /// The group's folder.
        group: PathBuf,
        /// Bytes asked for.
        need: u64,
        /// Bytes that may still be charged.
        available: u64,
    },
}

/// Checks that `need` bytes are there. A host that does not say how much it has is believed.
pub(super) fn check(need: u64, ram: RamKind) -> Result<(), Error> {
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    if matches!(ram, RamKind::Secret(SecretOptions { pool: Pool::Boot, .. })) {
        return check_pool(&meminfo, need);
    }
    let need = need.saturating_sub(pooled(&meminfo, ram));
    check_host(&meminfo, need)?;
    let membership = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    check_groups(Path::new("/sys/fs/cgroup"), &membership, need)
}

/// Bytes that the pool may contribute, whose pages are all of 2 MiB. Whether this user may take from
/// it shows when it is tried: here, an optimist counts.
fn pooled(meminfo: &str, ram: RamKind) -> u64 {
    match ram {
        RamKind::Shared | RamKind::Secret(SecretOptions { huge: Huge::Off, .. }) => 0,
        RamKind::Secret(_) => figure(meminfo, "SecretPoolFree:").unwrap_or(0),
    }
}

fn check_host(meminfo: &str, need: u64) -> Result<(), Error> {
    match figure(meminfo, "MemAvailable:") {
        Some(available) if available < need => Err(Error::Host { need, available }),
        _ => Ok(()),
    }
}

fn check_pool(meminfo: &str, need: u64) -> Result<(), Error> {
    match figure(meminfo, "SecretPoolFree:") {
        Some(available) if available < need => Err(Error::Pool { need, available }),
        _ => Ok(()),
    }
}

/// A line of /proc/meminfo in bytes.
fn figure(meminfo: &str, name: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// Looks at the process's group and all above it: each may have a limit.
fn check_groups(root: &Path, membership: &str, need: u64) -> Result<(), Error> {
    // "0::/path" is the v2 hierarchy (cgroups(7)); paths outside a namespace's root begin with "/..".
    let Some(path) = membership.lines().find_map(|line| line.strip_prefix("0::/")) else { return Ok(()) };
    for group in root.join(path).ancestors().take_while(|group| group.starts_with(root)) {
        match left(group) {
            Some(available) if available < need => {
                return Err(Error::Group { group: group.to_path_buf(), need, available });
            }
            _ => {}
        }
    }
    Ok(())
}

/// What a group may still be charged, in bytes; None without a limit.
fn left(group: &Path) -> Option<u64> {
    let number = |name| fs::read_to_string(group.join(name)).ok()?.trim().parse::<u64>().ok();
    Some(number("memory.max")?.saturating_sub(number("memory.current")?))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use vmm_sys_util::tempdir::TempDir;

    use super::*;

    #[test]
    fn check_host_compares_kib_with_bytes() {
        let meminfo = "MemTotal: 9 kB\nMemAvailable:    1024 kB\n";
        assert_eq!(check_host(meminfo, 1 << 20), Ok(()));
        assert_eq!(check_host(meminfo, (1 << 20) + 1), Err(Error::Host { need: (1 << 20) + 1, available: 1 << 20 }));
        assert_eq!(check_host("MemTotal: 9 kB\n", u64::MAX), Ok(()), "an unknown amount");
    }

    #[test]
    fn check_pool_counts_nothing_but_the_pool() {
        let meminfo = "MemAvailable: 4096 kB\nSecretPoolTotal: 4096 kB\nSecretPoolFree: 2048 kB\n";
        assert_eq!(check_pool(meminfo, 2 << 20), Ok(()));
        assert_eq!(check_pool(meminfo, 3 << 20), Err(Error::Pool { need: 3 << 20, available: 2 << 20 }));
    }

    #[test]
    fn pooled_counts_for_secret_memory_in_2m_pages_only() {
        let meminfo = "SecretPoolTotal: 4096 kB\nSecretPoolFree: 2048 kB\n";
        let secret = |huge| RamKind::Secret(SecretOptions { huge, ..SecretOptions::default() });
        assert_eq!(pooled(meminfo, secret(Huge::Auto)), 2 << 20);
        assert_eq!(pooled(meminfo, secret(Huge::Off)), 0);
        assert_eq!(pooled(meminfo, RamKind::Shared), 0);
        assert_eq!(pooled("", secret(Huge::Auto)), 0, "no pool");
    }

    #[test]
    fn check_groups_finds_the_limit_of_a_group_above() {
        let dir = TempDir::new().unwrap();
        let (root, above) = (dir.as_path(), dir.as_path().join("tenants"));
        fs::create_dir_all(above.join("a")).unwrap();
        fs::write(above.join("memory.max"), "1000\n").unwrap();
        fs::write(above.join("memory.current"), "300\n").unwrap();
        fs::write(above.join("a/memory.max"), "max\n").unwrap();
        fs::write(above.join("a/memory.current"), "300\n").unwrap();
        assert_eq!(check_groups(root, "0::/tenants/a\n", 700), Ok(()));
        assert_eq!(
            check_groups(root, "1:cpu:/\n0::/tenants/a\n", 701),
            Err(Error::Group { group: above, need: 701, available: 700 })
        );
        assert_eq!(check_groups(root, "4:memory:/tenants/a\n", 701), Ok(()), "no v2 hierarchy");
    }
}
