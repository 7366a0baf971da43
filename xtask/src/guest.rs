// SPDX-License-Identifier: Apache-2.0
//! `cargo xtask guest`: the demo guest, a kernel with its root file system.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::linux::compile::Kernel;
use crate::linux::kconfig::Options;
use crate::linux::series::{self, Fragment};
use crate::linux::source::{self, Source, SourceArgs};
use crate::support::cache::{self, Shelf};
use crate::support::cargo::build_static;
use crate::support::key::Key;
use crate::support::paths::{Paths, create_dir};
use crate::support::process;

const BUSYBOX: &str = "/bin/busybox";
const KEPT: usize = 4;

/// Build the demo guest: the same source, unpatched, with a root file system inside.
///
/// Prints the path of its bzImage; vmlinux (for PVH) lies beside it,
/// target/artifacts/guest links there.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    source: SourceArgs,
}

pub(crate) fn run(paths: &Paths, args: &Args) -> Result<()> {
    let dir = ensure(paths, args.source.kernel_source.as_deref())?;
    println!("{}", dir.join("bzImage").display());
    Ok(())
}

/// Builds the guest unless the cache has it; gives the folder it is in.
pub(crate) fn ensure(paths: &Paths, given: Option<&Path>) -> Result<PathBuf> {
    let files = RootFiles {
        canary: build_static(paths, "secretvmm-canary", "canary")?,
        init: paths.repo.join("guest-kernel/rootfs/init"),
    };
    let applets = process::output(Command::new(BUSYBOX).arg("--list-full"))
        .context("No busybox; cargo xtask setup installs busybox-static")?;
    let list = files.list(&applets);

    let source = Source::locate(given)?;
    let versions_own = series::fragment(&paths.repo, &source.version(paths)?, Fragment::Guest)?;
    let mut options = Options::read([paths.repo.join("guest-kernel/config").as_path(), &versions_own])?;
    let key = Key::new("guest kernel 1")
        .with("source", source.id())
        .with("options", options.to_text())
        .with("applets", &applets)
        .with_file("busybox", Path::new(BUSYBOX))?
        .with_file("init", &files.init)?
        .with_file("canary", &files.canary)?
        .with("compiler", source::compiler()?)
        .finish();
    let dir = paths.cache.join("kernels/guest");
    let entry = Shelf { cache: &paths.cache, lock: "kernel-guest", dir, kept: KEPT }.entry(&key, |entry| {
        let objects = source.objects(paths, "guest");
        create_dir(&objects)?;
        let list_file = objects.join("rootfs.list");
        fs::write(&list_file, list).with_context(|| format!("Cannot write {}", list_file.display()))?;
        options.set("CONFIG_INITRAMFS_SOURCE", &format!("\"{}\"", list_file.display()));
        // The image as a whole is compressed; twice would only cost time.
        options.set("CONFIG_INITRAMFS_COMPRESSION_NONE", "y");
        let tree = source.pristine(paths)?;
        Kernel {
            title: "guest kernel".into(),
            suffix: "-guest".into(),
            tree: &tree,
            options: &options,
            module: None,
            objects,
            log: paths.build_logs().join("guest.log"),
        }
        .build(entry)
    })?;
    cache::link(&entry, &paths.artifacts().join("guest"))?;
    Ok(entry)
}

/// The files of the guest's root that do not come with busybox.
struct RootFiles {
    canary: PathBuf,
    init: PathBuf,
}

impl RootFiles {
    /// The root file system in the language of the kernel's `usr/gen_init_cpio`.
    fn list(&self, applets: &str) -> String {
        let mut list = String::new();
        for dir in ["bin", "dev", "etc", "mnt", "proc", "root", "sbin", "sys", "tmp", "usr", "usr/bin", "usr/sbin"] {
            line(&mut list, format_args!("dir /{dir} 0755 0 0"));
        }
        line(&mut list, format_args!("nod /dev/console 0600 0 0 c 5 1"));
        line(&mut list, format_args!("file /init {} 0755 0 0", self.init.display()));
        line(&mut list, format_args!("file /bin/canary {} 0755 0 0", self.canary.display()));
        line(&mut list, format_args!("file /bin/busybox {BUSYBOX} 0755 0 0"));
        for applet in applets.lines().map(str::trim).filter(|path| is_command(path)) {
            line(&mut list, format_args!("slink /{applet} /bin/busybox 0777 0 0"));
        }
        list
    }
}

/// Whether an applet belongs into one of the root's command folders.
fn is_command(path: &str) -> bool {
    let dirs = ["bin/", "sbin/", "usr/bin/", "usr/sbin/"];
    path != "bin/busybox" && dirs.iter().any(|dir| path.strip_prefix(dir).is_some_and(|name| !name.contains('/')))
}

fn line(list: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = writeln!(list, "{text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn list_has_console_init_and_links_for_applets_in_known_folders() {
        let files = RootFiles { canary: "/c".into(), init: "/i".into() };
        let list = files.list("bin/busybox\nbin/sh\nusr/sbin/chroot\nlinuxrc\n");
        for line in [
            "nod /dev/console 0600 0 0 c 5 1",
            "file /init /i 0755 0 0",
            "slink /bin/sh /bin/busybox 0777 0 0",
            "slink /usr/sbin/chroot /bin/busybox 0777 0 0",
        ] {
            assert!(list.lines().any(|have| have == line), "{line}");
        }
        assert!(!list.contains("linuxrc"));
        assert_eq!(list.matches("/bin/busybox 0755").count(), 1);
    }
}
