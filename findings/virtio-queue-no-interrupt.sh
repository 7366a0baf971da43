#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# virtio-queue 0.18.0, `QueueT::needs_notification` without VIRTIO_F_EVENT_IDX.
#
# Expected: false once the driver has set VIRTQ_AVAIL_F_NO_INTERRUPT: "If flags is 1, the device SHOULD NOT send a
#           notification" (virtio 1.2, 2.7.7.2). The method's documentation makes no exception.
# Seen:     true. A comment in the source says that the flag is not supported yet; the documentation does not.
#
# A driver that polls gets an interrupt for each buffer. A device has to read the flag itself.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"; mkdir src

cat > Cargo.toml <<'TOML'
[package]
name = "finding"
version = "0.0.0"
edition = "2021"
[dependencies]
virtio-queue = { version = "=0.18.0", features = ["test-utils"] }
vm-memory = { version = "=0.18.0", features = ["backend-mmap"] }
TOML
cat > src/main.rs <<'RUST'
use virtio_queue::{mock::MockSplitQueue, Queue, QueueT};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

const VIRTQ_AVAIL_F_NO_INTERRUPT: u16 = 1;

fn main() {
    let memory = GuestMemoryMmap::<()>::from_ranges(&[(GuestAddress(0), 0x10000)]).unwrap();
    let mut queue: Queue = MockSplitQueue::new(&memory, 16).create_queue().unwrap();
    let flags = GuestAddress(queue.avail_ring());
    memory.write_obj(VIRTQ_AVAIL_F_NO_INTERRUPT.to_le(), flags).unwrap();
    queue.add_used(&memory, 0, 0).unwrap();
    let needed = queue.needs_notification(&memory).unwrap();
    println!("EVENT_IDX {}, NO_INTERRUPT set: needs_notification {needed}", queue.event_idx_enabled());
    println!("Expected needs_notification false");
    std::process::exit(if needed && !queue.event_idx_enabled() { 0 } else { 1 });
}
RUST
cargo run --quiet
