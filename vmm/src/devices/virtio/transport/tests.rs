// SPDX-License-Identifier: Apache-2.0
use std::sync::Mutex as StdMutex;

use virtio_bindings::virtio_config::VIRTIO_CONFIG_S_FAILED;
use vm_memory::{Bytes, GuestAddress};

use super::*;
use crate::devices::virtio::testing::{self, BUFFERS, Driver, INDIRECT, NEXT, WRITE};
use crate::devices::virtio::{Chain, Flow, Turn, Turns};

/// Echoes the number of readable bytes and notes what happened to it.
#[derive(Default)]
struct Probe {
    events: Arc<StdMutex<Vec<String>>>,
    config: [u8; 6],
}

impl Probe {
    fn note(&self, event: impl Into<String>) {
        self.events.lock().unwrap().push(event.into());
    }
}

impl VirtioDevice for Probe {
    const TYPE: u32 = 42;
    const QUEUES: &'static [u16] = &[16, 64];

    fn features(&self) -> u64 {
        1 << 5
    }
    fn config(&self) -> &[u8] {
        &self.config
    }
    fn activate(&mut self, features: u64, _rings: &mut Rings) -> Result<(), DeviceError> {
        self.note(format!("activate {features:#x}"));
        Ok(())
    }
    fn notify(&mut self, index: usize, rings: &mut Rings) -> Result<(), DeviceError> {
        self.note(format!("notify {index}"));
        let mut turn = Turns::new().map_err(|_| DeviceError::Other("no event"))?.begin();
        let handle =
            |chain: Chain, _: &mut Turn| Ok(Flow::Done(chain.readable().map(|descriptor| descriptor.len()).sum()));
        rings.serve(index, &mut turn, handle)
    }
    fn host_event(&mut self, _rings: &mut Rings) -> Result<(), DeviceError> {
        self.note("host event");
        Ok(())
    }
    fn reset(&mut self) {
        self.note("reset");
    }
}

fn probe() -> (Probe, Arc<StdMutex<Vec<String>>>) {
    let probe = Probe { config: [1, 2, 3, 4, 5, 6], ..Probe::default() };
    let events = probe.events.clone();
    (probe, events)
}

fn active() -> (Driver<Probe>, Arc<StdMutex<Vec<String>>>) {
    let (probe, events) = probe();
    let driver = Driver::active(probe, 0);
    events.lock().unwrap().clear();
    (driver, events)
}

#[test]
fn registers_of_a_new_device_identify_it() {
    let driver = Driver::new(probe().0);
    assert_eq!(driver.read(VIRTIO_MMIO_MAGIC_VALUE).to_le_bytes(), *b"virt");
    assert_eq!((driver.read(VIRTIO_MMIO_VERSION), driver.read(VIRTIO_MMIO_DEVICE_ID)), (2, 42));
    assert_eq!(driver.features(), RING_FEATURES | 1 << 5);
    driver.write(VIRTIO_MMIO_QUEUE_SEL, 1);
    assert_eq!(driver.read(VIRTIO_MMIO_QUEUE_NUM_MAX), 64);
    driver.write(VIRTIO_MMIO_QUEUE_SEL, 2);
    assert_eq!(driver.read(VIRTIO_MMIO_QUEUE_NUM_MAX), 0);
    assert_eq!(driver.read(VIRTIO_MMIO_SHM_LEN_LOW), u32::MAX);
}

#[test]
fn config_that_changes_under_a_driver_that_reads_it_is_another_generation() {
    let driver = Driver::new(probe().0);
    let before = driver.read(VIRTIO_MMIO_CONFIG_GENERATION);
    driver.transport.change(|probe| (probe.config[0] = 9, ConfigChange::Yes));
    assert_ne!(driver.read(VIRTIO_MMIO_CONFIG_GENERATION), before);
    assert!(!driver.interrupted(), "there is nobody to interrupt");
    let before = driver.read(VIRTIO_MMIO_CONFIG_GENERATION);
    driver.transport.change(|_| ((), ConfigChange::No));
    assert_eq!(driver.read(VIRTIO_MMIO_CONFIG_GENERATION), before);
}

#[test]
fn device_that_gives_up_again_and_again_says_so_once_a_second() {
    let (driver, _) = active();
    let mut inner = driver.transport.lock();
    let start = Instant::now();
    let said = (0..3000).filter(|ms| {
        inner.failure = Some("broken".into());
        inner.take_failure(start + Duration::from_millis(*ms)).is_some()
    });
    assert_eq!(said.count(), 3);
    assert_eq!(inner.take_failure(start + Duration::from_secs(9)), None, "nothing happened since");
}

#[test]
fn driver_that_wants_no_interrupt_gets_none() {
    let (driver, _) = active();
    let flags = |flags: u16| {
        driver.memory.write_obj(flags, GuestAddress(Driver::<Probe>::rings(0) + testing::AVAIL)).unwrap();
    };
    flags(1);
    driver.send(0, 0, &[(BUFFERS, 100, false)]);
    assert_eq!((driver.used(0).len(), driver.interrupted()), (1, false));
    flags(0);
    driver.send(0, 1, &[(BUFFERS, 100, false)]);
    assert_eq!((driver.used(0).len(), driver.interrupted()), (2, true));
    driver.write(VIRTIO_MMIO_QUEUE_NOTIFY, 0);
    assert!(!driver.interrupted(), "nothing is new");
}

/// From every index at which a ring can stand, around the ends of ring and counter, as many as fit.
#[test]
fn used_entries_lie_in_the_ring_in_order_and_are_seen_at_once() {
    let ram = crate::memory::GuestRam::create(crate::memory::RamKind::Shared, 2 << 20).unwrap();
    let memory = ram.memory();
    let (avail, used) = (0x1000, 0x2000);
    for start in (0..10).chain(u16::MAX - 10..=u16::MAX) {
        for count in 0..=4_u16 {
            let mut queue = Queue::new(4).unwrap();
            queue.set_size(4);
            queue.set_avail_ring_address(Some(avail), Some(0));
            queue.set_used_ring_address(Some(used), Some(0));
            queue.set_next_used(start);
            memory.write_slice(&[0xee; 64], GuestAddress(used.into())).unwrap();
            let entries: Vec<_> = (0..count).map(|at| (at, u32::from(at) + 100)).collect();
            let wants = crate::devices::virtio::queue::add_used(&mut queue, 0, memory, &entries).unwrap();
            assert_eq!(wants, count > 0);
            let index: u16 = memory.read_obj(GuestAddress((used + 2).into())).unwrap();
            assert_eq!(index, start.wrapping_add(count));
            for (at, (head, len)) in (0..).zip(&entries) {
                let place = used + 4 + 8 * u32::from(start.wrapping_add(at) % 4);
                let entry: [u32; 2] = [0, 4].map(|word| memory.read_obj(GuestAddress((place + word).into())).unwrap());
                assert_eq!(entry, [u32::from(*head), *len]);
            }
            let behind: u64 = memory.read_obj(GuestAddress((used + 4 + 32).into())).unwrap();
            assert_eq!(behind, 0xeeee_eeee_eeee_eeee);
            let error = crate::devices::virtio::queue::add_used(&mut queue, 0, memory, &[(4, 0)]);
            assert!(error.is_err(), "there are four descriptors");
        }
    }
}

#[test]
fn chain_is_no_longer_than_its_queue() {
    let (driver, _) = active();
    let table = BUFFERS + 0x1_0000;
    // A table of 1000 descriptors of a byte each, in a queue of 16.
    for at in 0..1000_u16 {
        driver.write_descriptor(table + u64::from(at) * 16, BUFFERS, 1, if at == 999 { 0 } else { NEXT }, at + 1);
    }
    driver.descriptor(0, 0, table, 16_000, INDIRECT, 0);
    driver.offer(0, 0);
    driver.write(VIRTIO_MMIO_QUEUE_NOTIFY, 0);
    assert_eq!(driver.used(0), [(0, 16)]);
}

#[test]
fn config_space_is_readable_at_any_width_and_zero_behind_its_end() {
    let driver = Driver::new(probe().0);
    let read = |offset, width: usize| {
        let mut data = vec![0xaa; width];
        driver.transport.read(0x100 + offset, &mut data);
        data
    };
    assert_eq!((read(0, 1), read(1, 2), read(4, 4)), (vec![1], vec![2, 3], vec![5, 6, 0, 0]));
    assert_eq!((read(6, 8), read(u64::MAX - 0x100, 4)), (vec![0; 8], vec![0; 4]));
    driver.transport.write(0x100, &[9; 4]);
    assert_eq!(read(0, 4), [1, 2, 3, 4]);
}

#[test]
fn registers_at_other_widths_or_offsets_do_nothing() {
    let driver = Driver::new(probe().0);
    for width in [1, 2, 8] {
        let mut data = vec![0xaa; width];
        driver.transport.read(0, &mut data);
        assert_eq!(data, vec![0; width]);
        driver.transport.write(VIRTIO_MMIO_STATUS.into(), &vec![1; width]);
    }
    driver.write(VIRTIO_MMIO_STATUS + 1, u32::MAX);
    assert_eq!(driver.read(VIRTIO_MMIO_STATUS), 0);
}

#[test]
fn features_not_offered_or_without_version_1_are_not_ok() {
    for (select, value) in [(0, 1 << 6), (0, 0)] {
        let driver = Driver::new(probe().0);
        driver.write(VIRTIO_MMIO_STATUS, 1);
        driver.write(VIRTIO_MMIO_STATUS, 3);
        driver.write(VIRTIO_MMIO_DRIVER_FEATURES_SEL, select);
        driver.write(VIRTIO_MMIO_DRIVER_FEATURES, value);
        driver.write(VIRTIO_MMIO_STATUS, 11);
        assert_eq!(driver.read(VIRTIO_MMIO_STATUS), 3);
        driver.write(VIRTIO_MMIO_STATUS, 15);
        assert_eq!(driver.read(VIRTIO_MMIO_STATUS), 3, "DRIVER_OK without FEATURES_OK");
    }
}

#[test]
fn status_bits_stay_until_reset() {
    let (driver, events) = active();
    driver.write(VIRTIO_MMIO_STATUS, 1);
    assert_eq!(driver.read(VIRTIO_MMIO_STATUS), 15);
    driver.write(VIRTIO_MMIO_STATUS, VIRTIO_CONFIG_S_FAILED);
    assert_eq!(driver.read(VIRTIO_MMIO_STATUS), 15 | VIRTIO_CONFIG_S_FAILED);
    driver.write(VIRTIO_MMIO_STATUS, 0);
    assert_eq!(driver.read(VIRTIO_MMIO_STATUS), 0);
    assert_eq!(*events.lock().unwrap(), ["reset"]);
    driver.send(0, 0, &[(BUFFERS, 4, false)]);
    assert_eq!(*events.lock().unwrap(), ["reset"], "a device after its reset hears nothing");
}

#[test]
fn queue_changed_after_driver_ok_is_the_old_one() {
    let (driver, _) = active();
    driver.write(VIRTIO_MMIO_QUEUE_SEL, 0);
    driver.write(VIRTIO_MMIO_QUEUE_DESC_LOW, 0x3000);
    driver.write(VIRTIO_MMIO_QUEUE_NUM, 8);
    driver.write(VIRTIO_MMIO_QUEUE_READY, 0);
    driver.send(0, 0, &[(BUFFERS, 7, false)]);
    assert_eq!(driver.used(0), [(0, 7)]);
}

#[test]
fn ring_outside_memory_or_wrapping_needs_reset() {
    for high in [0x100, u32::MAX] {
        let driver = Driver::new(probe().0);
        driver.negotiate(0);
        driver.set_up_queue(0);
        driver.write(VIRTIO_MMIO_QUEUE_READY, 0);
        driver.write(VIRTIO_MMIO_QUEUE_USED_LOW, !0xfff);
        driver.write(VIRTIO_MMIO_QUEUE_USED_HIGH, high);
        driver.write(VIRTIO_MMIO_QUEUE_READY, 1);
        driver.write(VIRTIO_MMIO_STATUS, 15);
        assert!(driver.needs_reset());
        driver.write(VIRTIO_MMIO_STATUS, 0);
        assert_eq!(driver.read(VIRTIO_MMIO_STATUS), 0);
    }
}

#[test]
fn queue_size_that_is_odd_or_too_large_is_not_taken() {
    let driver = Driver::new(probe().0);
    driver.negotiate(0);
    for size in [0, 3, 32, 0x1_0010, u32::MAX] {
        driver.set_up_queue(0);
        driver.write(VIRTIO_MMIO_QUEUE_READY, 0);
        driver.write(VIRTIO_MMIO_QUEUE_NUM, size);
    }
    driver.write(VIRTIO_MMIO_QUEUE_READY, 1);
    driver.write(VIRTIO_MMIO_STATUS, 15);
    driver.send(0, 15, &[(BUFFERS, 4, false)]);
    assert_eq!(driver.used(0), [(15, 4)]);
}

#[test]
fn notify_of_a_queue_that_is_not_there_is_ignored() {
    let (driver, _) = active();
    for index in [2, 64, u32::MAX] {
        driver.write(VIRTIO_MMIO_QUEUE_NOTIFY, index);
    }
    assert!(!driver.needs_reset());
}

#[test]
fn avail_index_that_jumps_needs_reset() {
    let (driver, _) = active();
    driver.set_avail_index(0, 17);
    driver.write(VIRTIO_MMIO_QUEUE_NOTIFY, 0);
    assert!(driver.needs_reset());
    assert!(driver.interrupted());
    assert_eq!(driver.read(VIRTIO_MMIO_INTERRUPT_STATUS) & VIRTIO_MMIO_INT_CONFIG, VIRTIO_MMIO_INT_CONFIG);
}

#[test]
fn descriptor_loops_and_bad_tables_end() {
    let (driver, _) = active();
    driver.descriptor(0, 0, BUFFERS, 8, NEXT, 0);
    driver.offer(0, 0);
    // A table in a table, and one of a size that is no multiple of 16.
    driver.descriptor(0, 1, BUFFERS, 32, INDIRECT, 0);
    driver.write_descriptor(BUFFERS, BUFFERS, 16, INDIRECT, 0);
    driver.offer(0, 1);
    driver.descriptor(0, 2, BUFFERS, 17, INDIRECT, 0);
    driver.offer(0, 2);
    driver.descriptor(0, 3, BUFFERS, 8, NEXT | WRITE, 200);
    driver.offer(0, 3);
    driver.write(VIRTIO_MMIO_QUEUE_NOTIFY, 0);
    assert_eq!(driver.used(0).iter().map(|used| used.0).collect::<Vec<_>>(), [0, 1, 2, 3]);
    assert!(!driver.needs_reset());
}

#[test]
fn head_beyond_the_queue_does_not_stop_it() {
    let (driver, _) = active();
    driver.offer(0, 999);
    driver.write(VIRTIO_MMIO_QUEUE_NOTIFY, 0);
    // The head cannot be put into the used ring.
    assert!(driver.needs_reset() || driver.used(0).is_empty());
}

#[test]
fn event_index_holds_interrupts_back() {
    let driver = Driver::active(probe().0, 1 << VIRTIO_RING_F_EVENT_IDX);
    // used_event, behind the avail ring: an interrupt at the second buffer only.
    let used_event = Driver::<Probe>::rings(0) + 0x4000 + 4 + 16 * 2;
    driver.memory.write_obj(1_u16, GuestAddress(used_event)).unwrap();
    driver.send(0, 0, &[(BUFFERS, 4, false)]);
    assert!(!driver.interrupted());
    driver.send(0, 1, &[(BUFFERS, 4, false)]);
    assert!(driver.interrupted());
}

#[test]
fn pause_keeps_host_events_back_and_resume_looks_for_them() {
    let (driver, events) = active();
    driver.transport.pause();
    driver.transport.host_event();
    assert!(events.lock().unwrap().is_empty());
    driver.transport.resume();
    assert_eq!(*events.lock().unwrap(), ["host event"]);
}

#[test]
fn change_of_the_configuration_interrupts_an_active_driver() {
    let (driver, _) = active();
    let generation = driver.read(VIRTIO_MMIO_CONFIG_GENERATION);
    driver.transport.change(|probe| {
        probe.config = [7; 6];
        ((), ConfigChange::Yes)
    });
    assert!(driver.interrupted());
    assert_ne!(driver.read(VIRTIO_MMIO_CONFIG_GENERATION), generation);
    driver.write(VIRTIO_MMIO_INTERRUPT_ACK, VIRTIO_MMIO_INT_CONFIG);
    assert_eq!(driver.read(VIRTIO_MMIO_INTERRUPT_STATUS), 0);
}
