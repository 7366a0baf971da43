// SPDX-License-Identifier: Apache-2.0
//! What the host's kernel says of itself, through the files in which it says it. What it does not
//! say to this process stays open: `None` is never taken for a good answer.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use secretvmm_evidence::{BuildId, Digest, Host, Kexec, Lockdown};

use crate::loader::find_note;

/// NT_GNU_BUILD_ID, of the owner "GNU".
const BUILD_ID: u32 = 3;
/// RAM on every PC, and behind the first MiB, which STRICT_DEVMEM shows as zeros instead of refusing it
/// (devmem_is_allowed, arch/x86/mm/init.c).
const RAM: u64 = 1 << 20;

/// What a file says.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    Text(String),
    /// There is no such file, where its folder is: the kernel has no such thing.
    Absent,
    /// It cannot be read, or its whole file system is not there.
    Unknown,
}

/// Asks the kernel, under `root` (`/`). KVM has been asked for `secretmem` already.
///
/// # Errors
/// There is no /proc.
pub(crate) fn ask(root: &Path, secretmem: u32, strict_devmem: Option<bool>) -> io::Result<Host> {
    let kernel = fs::read_to_string(root.join("proc/sys/kernel/osrelease"))?.trim().to_owned();
    let file = |folder: &str, name: &str| read(&root.join(folder), name);
    Ok(Host {
        kernel,
        build_id: fs::read(root.join("sys/kernel/notes")).ok().and_then(|notes| build_id(&notes)),
        secretmem: secretmem.into(),
        strict_devmem,
        lockdown: lockdown(&root.join("sys/kernel/security")),
        kexec: kexec(root),
        swap: match file("proc", "swaps") {
            Answer::Text(text) => Some(text.lines().count() > 1),
            Answer::Absent => Some(false),
            Answer::Unknown => None,
        },
        // 2 takes apart again what was merged, and merges nothing.
        ksm: flag(match file("sys/kernel/mm", "ksm/run") {
            Answer::Text(text) if text.trim() == "2" => Answer::Absent,
            answer => answer,
        }),
        yama: match file("proc/sys/kernel", "yama/ptrace_scope") {
            Answer::Text(text) => text.trim().parse().ok(),
            Answer::Absent => Some(0),
            Answer::Unknown => None,
        },
        cmdline: match file("proc", "cmdline") {
            Answer::Text(text) => Some(Digest::of(text.trim_end_matches('\n').as_bytes())),
            Answer::Absent | Answer::Unknown => None,
        },
    })
}

fn read(folder: &Path, name: &str) -> Answer {
    match fs::read_to_string(folder.join(name)) {
        Ok(text) => Answer::Text(text),
        Err(err) if err.kind() == io::ErrorKind::NotFound && folder.is_dir() => Answer::Absent,
        Err(_) => Answer::Unknown,
    }
}

/// 0, 1, or no such thing, which is as good as 0.
fn flag(answer: Answer) -> Option<bool> {
    match answer {
        Answer::Text(text) => match text.trim() {
            "0" => Some(false),
            "1" => Some(true),
            _ => None,
        },
        Answer::Absent => Some(false),
        Answer::Unknown => None,
    }
}

fn build_id(notes: &[u8]) -> Option<BuildId> {
    find_note(notes, b"GNU\0", BUILD_ID)?.try_into().ok()
}

/// A kernel without the device refuses everything. Of one that has it, reads one byte of RAM: only who may open it,
/// root without lockdown, learns anything.
///
/// The answer is one of the kernel's configuration and stays.
pub(crate) fn strict_devmem(root: &Path) -> Option<bool> {
    let devices = root.join("sys/class/mem");
    // /dev/null is always among them.
    if devices.join("null").exists() && !devices.join("mem").exists() {
        return Some(true);
    }
    match File::open(root.join("dev/mem")).ok()?.read_at(&mut [0], RAM) {
        Ok(1) => Some(false),
        Err(err) if err.raw_os_error() == Some(libc::EPERM) => Some(true),
        // The page was let through, and is not in the direct map.
        Err(err) if err.raw_os_error() == Some(libc::EFAULT) => Some(false),
        _ => None,
    }
}

/// The word in brackets: `none [integrity] confidentiality`.
fn lockdown(securityfs: &Path) -> Option<Lockdown> {
    // Without securityfs the folder is there, and empty.
    let mounted = securityfs.join("lsm").exists();
    match read(securityfs, "lockdown") {
        Answer::Text(text) => match text.split(['[', ']']).nth(1)? {
            "none" => Some(Lockdown::None),
            "integrity" => Some(Lockdown::Integrity),
            "confidentiality" => Some(Lockdown::Confidentiality),
            _ => None,
        },
        Answer::Absent if mounted => Some(Lockdown::None),
        Answer::Absent | Answer::Unknown => None,
    }
}

/// The files have moved to a folder of their own (Documentation/ABI/testing/sysfs-kernel-kexec-kdump).
fn kexec(root: &Path) -> Option<Kexec> {
    let sysfs = root.join("sys/kernel");
    let either = |new: &str, old: &str| match read(&sysfs, new) {
        Answer::Absent => read(&sysfs, old),
        answer => answer,
    };
    let normal = either("kexec/loaded", "kexec_loaded");
    let crash = either("kexec/crash_loaded", "kexec_crash_loaded");
    if normal == Answer::Absent && crash == Answer::Absent {
        return Some(Kexec::Absent);
    }
    match (flag(normal)?, flag(crash)?, flag(read(&root.join("proc/sys/kernel"), "kexec_load_disabled"))?) {
        (false, false, true) => Some(Kexec::Disabled),
        (false, false, false) => Some(Kexec::Possible),
        _ => Some(Kexec::Loaded),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use tempfile::TempDir;

    /// A host's files.
    struct Tree(TempDir);

    impl Tree {
        fn new() -> Self {
            let tree = Self(tempfile::tempdir().unwrap());
            tree.put("proc/sys/kernel/osrelease", "6.12.57\n");
            tree
        }

        fn put(&self, path: &str, contents: impl AsRef<[u8]>) {
            let path = self.0.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, contents).unwrap();
        }

        fn ask(&self) -> Host {
            ask(self.0.path(), 0x6f, strict_devmem(self.0.path())).unwrap()
        }
    }

    /// A host of which only /proc and an empty /sys are seen, as in some containers.
    #[test]
    fn ask_what_cannot_be_seen_stays_open() {
        let host = Tree::new().ask();
        assert_eq!((host.kernel.as_str(), host.secretmem), ("6.12.57", 0x6f));
        let open = (host.build_id, host.strict_devmem, host.lockdown, host.kexec, host.ksm, host.cmdline);
        assert_eq!(open, (None, None, None, None, None, None));
        assert!(ask(Path::new("/nonexistent"), 0x6f, None).is_err());
    }

    #[test]
    fn ask_features_that_the_kernel_was_built_without_are_off() {
        let tree = Tree::new();
        tree.put("sys/kernel/mm/x", "");
        tree.put("sys/kernel/security/lsm", "capability");
        let host = tree.ask();
        assert_eq!(
            (host.kexec, host.swap, host.ksm, host.yama),
            (Some(Kexec::Absent), Some(false), Some(false), Some(0))
        );
        assert_eq!(host.lockdown, Some(Lockdown::None));
    }

    #[test]
    fn ask_every_answer_is_understood() {
        let tree = Tree::new();
        tree.put("sys/kernel/mm/x", "");
        for (file, text, expected) in [
            ("sys/kernel/security/lockdown", "none [integrity] confidentiality\n", "lockdown: Some(Integrity)"),
            ("sys/kernel/security/lockdown", "none integrity [confidentiality]\n", "lockdown: Some(Confidentiality)"),
            ("sys/kernel/security/lockdown", "[none] integrity confidentiality\n", "lockdown: Some(None)"),
            ("sys/kernel/security/lockdown", "[more]\n", "lockdown: None"),
            ("sys/kernel/kexec_loaded", "0\n", "kexec: Some(Possible)"),
            ("sys/kernel/kexec_crash_loaded", "1\n", "kexec: Some(Loaded)"),
            ("sys/kernel/kexec_crash_loaded", "0\n", "kexec: Some(Possible)"),
            ("proc/sys/kernel/kexec_load_disabled", "1\n", "kexec: Some(Disabled)"),
            ("sys/kernel/kexec_loaded", "1\n", "kexec: Some(Loaded)"),
            ("sys/kernel/kexec/loaded", "0\n", "kexec: Some(Disabled)"),
            ("sys/kernel/kexec/loaded", "x\n", "kexec: None"),
            ("proc/swaps", "Filename\tType\n", "swap: Some(false)"),
            ("proc/swaps", "Filename\tType\n/swap\tfile\n", "swap: Some(true)"),
            ("sys/kernel/mm/ksm/run", "1\n", "ksm: Some(true)"),
            ("sys/kernel/mm/ksm/run", "2\n", "ksm: Some(false)"),
            ("sys/kernel/mm/ksm/run", "9\n", "ksm: None"),
            ("proc/sys/kernel/yama/ptrace_scope", "3\n", "yama: Some(3)"),
        ] {
            tree.put(file, text);
            let said = format!("{:?}", tree.ask());
            assert!(said.contains(expected), "{file} {text:?}: {said}");
        }
        tree.put("proc/cmdline", "quiet secretmem=1G\n");
        assert_eq!(tree.ask().cmdline, Some(Digest::of(b"quiet secretmem=1G")));
    }

    #[test]
    fn ask_build_id_is_that_of_the_gnu_note() {
        let tree = Tree::new();
        let mut notes = b"\x06\0\0\0\x04\0\0\0\x00\x01\0\0Linux\0\0\0\0\x0c\x06\0".to_vec();
        notes.extend(b"\x04\0\0\0\x14\0\0\0\x03\0\0\0GNU\0");
        tree.put("sys/kernel/notes", &notes);
        assert_eq!(tree.ask().build_id, None);
        notes.extend(1..=20);
        tree.put("sys/kernel/notes", &notes);
        assert_eq!(tree.ask().build_id.unwrap().to_string(), "0102030405060708090a0b0c0d0e0f1011121314");
    }

    /// A file of this size is a /dev/mem that lets everything through.
    #[test]
    fn ask_devmem_that_can_be_read_is_not_strict() {
        let tree = Tree::new();
        tree.put("dev/mem", vec![0; (RAM + 1) as usize]);
        assert_eq!(tree.ask().strict_devmem, Some(false));
        tree.put("dev/mem", b"");
        assert_eq!(tree.ask().strict_devmem, None);
        tree.put("sys/class/mem/null", "");
        assert_eq!(tree.ask().strict_devmem, Some(true));
        tree.put("sys/class/mem/mem", "");
        assert_eq!(tree.ask().strict_devmem, None);
    }

    #[test]
    fn ask_this_machine_has_a_command_line() {
        let host = ask(Path::new("/"), 0, strict_devmem(Path::new("/"))).unwrap();
        assert!(!host.kernel.is_empty() && host.cmdline.is_some() && host.swap.is_some(), "{host:?}");
    }
}
