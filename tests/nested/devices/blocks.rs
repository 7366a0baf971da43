// SPDX-License-Identifier: Apache-2.0
//! Disks and the entropy device.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::vm::{Vm, empty_file};
use crate::support::{Scratch, assert_hidden, on_clean_host};

const MIB: u64 = 1 << 20;

#[test]
fn disks_read_write_and_keep_out_writers() -> Result<()> {
    on_clean_host(|| {
        let mut vm = Vm::new("disks")?;
        vm.boots_demo("")?;
        let plain = empty_file(&vm.scratch, "plain", 8 * MIB)?;
        let locked = vm.scratch.file("locked", &b"read me\n".repeat(512))?;
        vm.drive("plain", &plain, &json!({ "cache_type": "Writeback" }))?;
        vm.drive("locked", &locked, &json!({ "is_read_only": true }))?;
        vm.put("/entropy", &json!({}))?;
        vm.start_to_shell()?;

        // Data go both ways, and a flush has them in the file.
        File::options().write(true).open(&plain)?.write_all_at(b"from the host", 5 * MIB)?;
        let said = vm.guest.shell("dd if=/dev/vda bs=1M skip=5 count=1 2>/dev/null | head -c 13")?;
        ensure!(said.ends_with("from the host"), "The guest read: {said}");
        vm.guest.shell("for i in $(seq 4096); do echo line $i; done >/tmp/lines")?;
        vm.guest.shell("dd if=/tmp/lines of=/dev/vda bs=4k seek=256 conv=fsync 2>/dev/null")?;
        let size: u64 = vm.guest.shell("wc -c </tmp/lines")?.parse().context("Not a size")?;
        let mut written = vec![0; usize::try_from(size)?];
        File::open(&plain)?.read_exact_at(&mut written, MIB)?;
        let lines: String = (1..=4096).map(|number| format!("line {number}\n")).collect();
        ensure!(written == lines.as_bytes(), "What the guest wrote is not in the file");

        // A file system works, discards and all.
        let said = vm.guest.shell(
            "mke2fs -q /dev/vda; mount -t ext4 /dev/vda /mnt && cp /bin/busybox /mnt && sync && \
                                   cmp /bin/busybox /mnt/busybox && umount /mnt && echo same",
        )?;
        ensure!(said.ends_with("same"), "No file system: {said}");

        let said =
            vm.guest.shell("cat /sys/block/vdb/ro; head -n 1 /dev/vdb; echo x 2>/dev/null >/dev/vdb || echo kept")?;
        ensure!(said == "1\nread me\nkept", "The read-only disk: {said}");
        ensure!(fs::read(&locked)? == b"read me\n".repeat(512), "The read-only file changed");

        let said =
            vm.guest.shell("cat /sys/class/misc/hw_random/rng_current; head -c 4096 /dev/hwrng | gzip | wc -c")?;
        let (source, compressed) = said.split_once('\n').context("Two lines")?;
        ensure!(source.starts_with("virtio_rng"), "Entropy comes from {source}");
        ensure!(compressed.parse::<u64>()? > 4000, "Entropy can be compressed to {compressed} bytes");
        assert_hidden(&vm.guest)?;
        vm.power_off()
    })
}

#[test]
fn disks_change_while_the_guest_runs() -> Result<()> {
    on_clean_host(|| {
        let mut vm = Vm::new("disk-changes")?;
        vm.boots_demo("")?;
        let first = empty_file(&vm.scratch, "first", 4 * MIB)?;
        let second = empty_file(&vm.scratch, "second", 6 * MIB)?;
        File::options().write(true).open(&second)?.write_all_at(b"the second", 0)?;
        vm.drive("data", &first, &json!({}))?;
        vm.start_to_shell()?;
        ensure!(vm.guest.shell("cat /sys/block/vda/size")? == (4 * MIB / 512).to_string(), "Not the first file's size");

        vm.patch("/drives/data", &json!({ "drive_id": "data", "path_on_host": second }))?;
        ensure!(
            vm.get("/vm/config")?["drives"][0]["path_on_host"] == json!(second),
            "The configuration has the old path"
        );
        let said = vm.guest.shell("sleep 1; cat /sys/block/vda/size; head -c 10 /dev/vda")?;
        ensure!(said == format!("{}\nthe second", 6 * MIB / 512), "After the change: {said}");

        // 4 MiB at 2 MiB a second, of which a bucket of 1 MiB is there from the start.
        let limit = json!({ "bandwidth": { "size": MIB, "refill_time": 500 } });
        vm.patch("/drives/data", &json!({ "drive_id": "data", "rate_limiter": limit }))?;
        let begun = Instant::now();
        vm.guest.shell("echo 3 >/proc/sys/vm/drop_caches; dd if=/dev/vda of=/dev/null bs=64k count=64 2>/dev/null")?;
        ensure!(begun.elapsed() > Duration::from_millis(1200), "4 MiB came within {:?}", begun.elapsed());

        // What cannot be opened changes nothing.
        let missing = vm.scratch.path("missing");
        let change = json!({ "drive_id": "data", "path_on_host": missing });
        vm.refuses("PATCH", "/drives/data", &change, &["missing"])?;
        vm.refuses("PATCH", "/drives/other", &json!({ "drive_id": "other", "path_on_host": first }), &["other"])?;
        // The kernel's own files are for nobody, whatever the user may.
        vm.refuses(
            "PATCH",
            "/drives/data",
            &json!({ "drive_id": "data", "path_on_host": "/proc/self/mem" }),
            &["(os error 13)"],
        )?;
        ensure!(vm.guest.shell("head -c 10 /dev/vda")? == "the second", "A refused change had an effect");
        vm.power_off()
    })
}

#[test]
fn drives_from_a_folder_come_from_no_other() -> Result<()> {
    on_clean_host(|| {
        let (inside, outside) = (Scratch::new("inside")?, Scratch::new("outside")?);
        let folder = inside.path("");
        let mut vm = Vm::with_arguments("drives-from", &["--drives-from", &folder.to_string_lossy()])?;
        vm.boots_demo("")?;
        let first = empty_file(&outside, "first", MIB)?;
        vm.drive("data", &first, &json!({}))?;
        vm.start_to_shell()?;
        let change = |path| json!({ "drive_id": "data", "path_on_host": path });
        let other = empty_file(&outside, "other", MIB)?;
        vm.refuses("PATCH", "/drives/data", &change(other), &["other", "--drives-from"])?;
        for path in [empty_file(&inside, "later", MIB)?, first] {
            vm.patch("/drives/data", &change(path))?;
        }
        vm.power_off()
    })
}
