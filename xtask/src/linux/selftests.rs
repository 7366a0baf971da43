// SPDX-License-Identifier: Apache-2.0
//! The kernel's own selftests (tools/testing/selftests), built from the patched source.
//! They reach the nested host as every file of this machine does.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use anyhow::{Context, Result};

use super::compile::make_in;
use super::series::Series;
use super::source::{self, Source, Tree};
use crate::support::cache::{self, Draft, Shelf};
use crate::support::key::Key;
use crate::support::paths::{Paths, create_dir};
use crate::support::process;
use crate::support::progress::Progress;

/// Programs of KVM's selftests, as the Makefile of 6.12 names them.
const KVM: [&str; 15] = [
    "dirty_log_test",
    "kvm_page_table_test",
    "memslot_modification_stress_test",
    "pre_fault_memory_test",
    "set_memory_region_test",
    "steal_time",
    "x86_64/hyperv_svm_test",
    "x86_64/kvm_clock_test",
    "x86_64/smm_test",
    "x86_64/state_test",
    "x86_64/svm_int_ctl_test",
    "x86_64/svm_nested_shutdown_test",
    "x86_64/svm_nested_soft_inject_test",
    "x86_64/svm_vmcall_test",
    "x86_64/xen_shinfo_test",
];

/// Builds of the selftests that are kept.
const KEPT: usize = 2;

/// Builds the selftests unless the cache has them; gives the folder with
/// `kvm/PROGRAM` and `mm/memfd_secret`.
pub(crate) fn ensure(paths: &Paths, given: Option<&Path>) -> Result<PathBuf> {
    let source = Source::locate(given)?;
    let series = Series::read(&paths.repo, &source.version(paths)?)?;
    let key = Key::new("selftests 1")
        .with("source", source.id())
        .with("series", series.key()?)
        .with("programs", KVM.join("\n"))
        .with("compiler", source::compiler()?)
        .finish();
    let dir = paths.cache.join("selftests");
    let entry = Shelf { cache: &paths.cache, lock: "selftests", dir, kept: KEPT }.entry(&key, |entry| {
        let tree = source.patched(paths, "patched", &series)?;
        Build {
            tree: &tree,
            objects: source.objects(paths, "selftests"),
            log: paths.build_logs().join("selftests.log"),
        }
        .run(entry)
    })?;
    cache::link(&entry, &paths.artifacts().join("selftests"))?;
    Ok(entry)
}

struct Build<'a> {
    tree: &'a Tree,
    /// Objects of this build alone: make sees no change of the kernel's headers here.
    objects: PathBuf,
    log: PathBuf,
}

impl Build<'_> {
    fn run(&self, entry: &Path) -> Result<()> {
        let draft = Draft::new(entry)?;
        for dir in [draft.path().join("kvm/x86_64"), draft.path().join("mm")] {
            create_dir(&dir)?;
        }
        cache::remove(&self.objects)?;
        create_dir(&self.objects)?;
        cache::remove(&self.log)?;
        let mut progress = Progress::start("selftests");
        for mut command in [self.headers(), self.kvm(), self.memfd_secret(&draft.path().join("mm/memfd_secret"))] {
            process::logged(&mut command, &self.log, &mut progress, |_| false, "")
                .context("Cannot build the selftests")?;
        }
        progress.finish("");
        for program in KVM {
            let from = self.objects.join("kvm").join(self.name_here(program));
            fs::copy(&from, draft.path().join("kvm").join(program))
                .with_context(|| format!("Cannot copy {}", from.display()))?;
        }
        draft.publish()
    }

    /// The kernel's headers for user space, into the object folder's `usr/include`.
    fn headers(&self) -> Command {
        let mut make = make_in(&self.tree.dir);
        make.arg(format!("O={}", self.objects.display())).arg("headers");
        make
    }

    fn kvm(&self) -> Command {
        let jobs = thread::available_parallelism().map_or(1, usize::from);
        let output = self.objects.join("kvm");
        let mut make = make_in(&self.tree.dir.join("tools/testing/selftests/kvm"));
        make.arg(format!("-j{jobs}")).args(["ARCH=x86_64", "CROSS_COMPILE=", "LLVM="]);
        make.arg(format!("OUTPUT={}", output.display()));
        make.arg(format!("INSTALL_HDR_PATH={}", self.objects.join("usr").display()));
        make.arg(format!("KHDR_INCLUDES={}", self.include()));
        make.args(KVM.map(|program| output.join(self.name_here(program))));
        make
    }

    /// What this source calls a program of KVM's: later versions have `x86/` instead of `x86_64/`.
    fn name_here(&self, program: &str) -> String {
        let as_ever = self.tree.dir.join("tools/testing/selftests/kvm/x86_64").is_dir();
        if as_ever { program.to_owned() } else { program.replace("x86_64/", "x86/") }
    }

    /// Not by its Makefile, which wants libraries of other tests and writes into the source.
    fn memfd_secret(&self, output: &Path) -> Command {
        let mut gcc = Command::new("gcc");
        let selftests = self.tree.dir.join("tools/testing/selftests");
        gcc.args(["-O2", "-Wall"]).args(self.include().split(' ')).arg("-I").arg(&selftests);
        gcc.arg(selftests.join("mm/memfd_secret.c")).arg("-o").arg(output);
        gcc
    }

    fn include(&self) -> String {
        format!("-isystem {}", self.objects.join("usr/include").display())
    }
}
