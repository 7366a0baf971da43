// SPDX-License-Identifier: Apache-2.0
//! Everything that keeps a VM from starting: one line that says what to do, exit code 3, nothing left behind.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;

use anyhow::{Result, ensure};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use secretmem::{Mode, SecretFile, memlock};
use secretvmm_tests::artifacts::{GUEST_BZIMAGE, GUEST_VMLINUX, artifact};
use secretvmm_tests::guest::{BOOT_LIMIT, Ending, GuestBuilder, STEP_LIMIT};

use crate::support::{Scratch, assert_preflight_refuses, assert_refused, head, on_clean_host, own_guest};

/// A script that runs its arguments in a control group of 256 MiB.
const IN_SMALL_GROUP: &str = "cd /sys/fs/cgroup && echo +memory >cgroup.subtree_control && mkdir -p small && \
                              echo 256M >small/memory.max && echo $$ >small/cgroup.procs && exec \"$0\" \"$@\"";

/// May lock 384 MiB and raise that no further.
const LIMITED_384M: [&str; 4] = ["prlimit", "--memlock=402653184:402653184", "setpriv", "--bounding-set=-sys_resource"];

#[test]
fn kernel_missing() -> Result<()> {
    refused(&GuestBuilder::new("/nonexistent/bzImage"), &["/nonexistent/bzImage", "No such file"])
}

#[test]
fn kernel_is_a_folder() -> Result<()> {
    refused(&GuestBuilder::new("/tmp"), &["/tmp", "not a regular file"])
}

#[test]
fn kernel_is_no_kernel() -> Result<()> {
    let scratch = Scratch::new("no-kernel")?;
    let text = scratch.file("text", &b"not a kernel\n".repeat(1000))?;
    refused(&GuestBuilder::new(text), &["neither"])?;
    let empty = scratch.file("empty", b"")?;
    refused(&GuestBuilder::new(empty), &["empty", "with contents"])
}

#[test]
fn kernel_truncated() -> Result<()> {
    let scratch = Scratch::new("truncated")?;
    for (name, bytes) in [(GUEST_BZIMAGE, 100), (GUEST_BZIMAGE, 1 << 16), (GUEST_VMLINUX, 64), (GUEST_VMLINUX, 1 << 20)]
    {
        let image = scratch.file("image", &head(&artifact(name)?, bytes)?)?;
        refused(&GuestBuilder::new(image), &["Kernel image"])?;
    }
    Ok(())
}

#[test]
fn initrd_missing() -> Result<()> {
    refused(&own_guest()?.initrd("/nonexistent/initrd".as_ref()), &["/nonexistent/initrd"])
}

#[test]
fn initrd_larger_than_memory() -> Result<()> {
    let scratch = Scratch::new("large-initrd")?;
    let initrd = scratch.path("initrd");
    File::create(&initrd)?.set_len(64 << 20)?;
    refused(&own_guest()?.memory("64M").initrd(&initrd), &["Initrd", "--mem"])
}

#[test]
fn command_line_too_long() -> Result<()> {
    refused(&own_guest()?.parameters(&"x".repeat(5000)), &["Command line", "--cmdline"])
}

#[test]
fn memory_more_than_the_host_has() -> Result<()> {
    refused(&own_guest()?.memory("512G"), &["memory available", "--mem"])
}

#[test]
fn memory_more_than_the_control_group_allows() -> Result<()> {
    let guest = own_guest()?.memory("512M").under(["sh", "-c", IN_SMALL_GROUP]);
    refused(&guest, &["/sys/fs/cgroup/small leaves", "memory.max"])
}

/// From inside a control group namespace only the kernel sees the limit.
#[test]
fn memory_more_than_an_unseen_control_group_allows() -> Result<()> {
    let guest = own_guest()?.memory("512M").under(["sh", "-c", IN_SMALL_GROUP, "unshare", "--cgroup"]);
    let whole = guest.clone().arguments(["--backing", "secret,populate=all"]);
    // Whether code of the VMM is among what the kernel takes back is not the same each time.
    for _ in 0..5 {
        refused(&whole, &["Memory ran out", "512 MiB", "--mem", "memory.max"])?;
    }
    let guest = guest.arguments(["--backing", "secret,huge=require"]);
    refused(&guest, &["Pages of 2 MiB ran out", "512 MiB", "huge=auto", "memory.max"])
}

#[test]
fn memory_more_than_the_address_space_allows() -> Result<()> {
    let guest = own_guest()?.memory("512M").under(["prlimit", "--as=268435456"]);
    refused(&guest, &["512 MiB", "RLIMIT_AS", "ulimit -v"])
}

#[test]
fn pool_wanted_but_none_reserved() -> Result<()> {
    let guest = own_guest()?.arguments(["--backing", "secret,pool=boot"]);
    refused(&guest, &["no pool of secret memory", "secretmem=SIZE"])
}

#[test]
fn memory_options_that_make_no_sense_are_usage_errors() -> Result<()> {
    for memory in ["shared,huge=require", "secret,huge=2M", "secret,pool=", "secret,", "hidden"] {
        assert_refused(&own_guest()?.arguments(["--backing", memory]), 2, &["--backing"])?;
    }
    let guest = own_guest()?.arguments(["--backing", "secret,huge=off,pool=boot"]);
    assert_refused(&guest, 2, &["2 MiB only", "huge=off", "pool=boot"])
}

#[test]
fn memory_or_cpus_out_of_range_is_a_usage_error() -> Result<()> {
    for size in ["0M", "1M", "30M", "12Q", "2", "-1G", "99999999999G"] {
        assert_refused(&own_guest()?.memory(size), 2, &["error"])?;
    }
    for count in [0, 33, u32::MAX] {
        assert_refused(&own_guest()?.cpus(count), 2, &["--cpus"])?;
    }
    Ok(())
}

#[test]
fn locked_memory_limit_too_low_and_fixed() -> Result<()> {
    let wrapper = ["prlimit", "--memlock=1048576:1048576", "setpriv", "--bounding-set=-sys_resource"];
    refused(&own_guest()?.under(wrapper), &["RLIMIT_MEMLOCK", "ulimit -l", "LimitMEMLOCK"])
}

/// A file that nobody maps counts, and only the kernel sees it.
#[test]
fn locked_memory_limit_reached_unseen() -> Result<()> {
    let _other = populated(256 << 20)?;
    let guest = own_guest()?.memory("256M").arguments(["--backing", "secret,populate=all"]).under(LIMITED_384M);
    refused(&guest, &["RLIMIT_MEMLOCK", "393216 KiB", "256 MiB", "ulimit -l"])
}

/// Such a limit shows when it is reached, beside a guest that runs.
#[test]
fn locked_memory_limit_reached_while_the_guest_runs() -> Result<()> {
    on_clean_host(|| {
        let _other = populated(256 << 20)?;
        let mut guest = own_guest()?.memory("256M").under(LIMITED_384M).start()?;
        guest.messages.expect("the VM ends when its guest touches memory that is not there", BOOT_LIMIT)?;
        if guest.wait_for_shell().is_ok() {
            // It may end at any moment.
            let _ = guest.type_line("mount -t tmpfs -o size=90% tmpfs /tmp; dd if=/dev/zero of=/tmp/fill bs=1M");
        }
        let (ending, said) = (guest.wait(STEP_LIMIT)?, guest.all_messages());
        ensure!(ending == Ending::Code(1), "Ended with {ending:?}: {said}");
        for words in ["RLIMIT_MEMLOCK", "393216 KiB", "256 MiB", "KVM_RUN gave EFAULT"] {
            ensure!(said.contains(words), "It does not say {words:?}: {said}");
        }
        Ok(())
    })
}

#[test]
fn locked_memory_limit_low_but_raisable_boots() -> Result<()> {
    on_clean_host(|| {
        let mut guest = own_guest()?.memory("512M").under(["prlimit", "--memlock=1048576:1048576"]).start()?;
        guest.wait_for_shell()
    })
}

#[test]
fn kvm_missing() -> Result<()> {
    let hide = ["unshare", "-m", "sh", "-c", "mount -t tmpfs none /dev && exec \"$0\" \"$@\""];
    refused(&own_guest()?.under(hide), &["/dev/kvm"])
}

#[test]
fn kvm_without_permission() -> Result<()> {
    let scratch = Scratch::new("no-permission")?;
    // Somebody without rights may not look into root's folders.
    let kernel = scratch.path("bzImage");
    fs::copy(artifact(GUEST_BZIMAGE)?, &kernel)?;
    fs::set_permissions(&kernel, Permissions::from_mode(0o644))?;
    let nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
    refused(&GuestBuilder::new(kernel).under(nobody), &["/dev/kvm", "group"])
}

#[test]
fn help_and_version_succeed() -> Result<()> {
    for argument in ["--help", "--version"] {
        let output = std::process::Command::new("secretvmm").arg(argument).output()?;
        ensure!(output.status.success() && !output.stdout.is_empty(), "{argument}: {output:?}");
    }
    Ok(())
}

/// A file of this process's, all of whose pages are there. The limit is as before.
fn populated(size: u64) -> Result<SecretFile> {
    let file = SecretFile::create(size, Mode::empty())?;
    let (soft, hard) = getrlimit(Resource::RLIMIT_MEMLOCK)?;
    memlock::make_room(size)?;
    let populated = file.populate(0, size);
    setrlimit(Resource::RLIMIT_MEMLOCK, soft, hard)?;
    populated?;
    Ok(file)
}

fn refused(builder: &GuestBuilder, says: &[&str]) -> Result<()> {
    on_clean_host(|| assert_preflight_refuses(builder, says))
}
