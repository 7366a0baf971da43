// SPDX-License-Identifier: Apache-2.0
#![allow(clippy::unwrap_used)]
use super::*;
use proptest::prelude::*;

fn bytes(ptr: NonNull<u8>, len: usize) -> &'static mut [u8] {
    // SAFETY: the tests pass live allocations of that length.
    unsafe { std::slice::from_raw_parts_mut(ptr.as_ptr(), len) }
}

#[test]
fn alloc_odd_sizes_and_alignments_are_typed_errors() {
    assert!(matches!(alloc(0), Err(AllocError::Zero)));
    assert!(matches!(alloc(usize::MAX), Err(AllocError::TooLarge(_))));
    assert!(matches!(aligned_alloc(24, 8), Err(AllocError::Alignment(24))));
    assert!(matches!(aligned_alloc(8192, 8), Err(AllocError::Alignment(8192))));
}

#[test]
fn free_wipes_and_a_second_free_is_found() {
    let key = alloc(40).unwrap();
    bytes(key, 40).fill(0xaa);
    // SAFETY: the slot is only read afterwards, and belongs to this thread's cache.
    unsafe {
        assert_eq!(try_free(key), Ok(()));
        assert!(bytes(key, 48).iter().all(|byte| *byte == 0));
        assert_eq!(try_free(key), Err(Misuse::DoubleFree(key.as_ptr().addr())));
    }
}

#[test]
fn free_of_what_was_never_allocated_is_found() {
    let key = alloc(100).unwrap();
    let inner = NonNull::new(key.as_ptr().wrapping_add(16)).unwrap();
    let other = NonNull::from(Box::leak(Box::new(0u64))).cast();
    // SAFETY: neither is touched.
    unsafe {
        assert!(matches!(try_free(inner), Err(Misuse::Foreign(_))));
        assert!(matches!(try_free(other), Err(Misuse::Foreign(_))));
        free(key);
    }
}

#[test]
fn free_after_one_byte_too_many_is_found() {
    for size in [1, 23, 24, 25, 4096, 20_000] {
        let key = alloc(size).unwrap();
        bytes(key, size + 1)[size] ^= 1;
        // SAFETY: the allocation is not used again.
        assert_eq!(unsafe { try_free(key) }, Err(Misuse::Overflow(key.as_ptr().addr(), size)));
    }
}

#[test]
fn alloc_inside_the_allocator_is_refused_and_does_not_wait() {
    let inner = cache::inside(heap().unwrap(), |_| (alloc(16).err(), alloc(100_000).err())).unwrap();
    assert!(matches!(inner, (Some(AllocError::Reentered), Some(AllocError::Reentered))), "{inner:?}");
}

#[test]
fn init_with_another_configuration_is_refused() {
    init(Config::default()).unwrap();
    assert!(matches!(init(Config { fork: Fork::Copy, ..Config::default() }), Err(AllocError::Configured)));
}

#[test]
#[cfg_attr(miri, ignore = "20 threads take minutes")]
fn threads_that_free_what_others_allocate_lose_nothing() {
    let (send, receive) = std::sync::mpsc::sync_channel::<pool::Slot>(64);
    let receive = std::sync::Arc::new(Mutex::new(receive));
    std::thread::scope(|scope| {
        for thread in 0..10usize {
            let send = send.clone();
            scope.spawn(move || {
                for turn in 0..2000 {
                    let key = alloc(1 + (thread * 37 + turn) % 600).unwrap();
                    bytes(key, 1)[0] = 1;
                    send.send(pool::Slot(key)).unwrap();
                }
            });
            let receive = receive.clone();
            scope.spawn(move || {
                for _ in 0..2000 {
                    let slot = receive.lock().unwrap().recv().unwrap();
                    // SAFETY: the sender has given it away.
                    unsafe { free(slot.0) };
                }
            });
        }
    });
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: if cfg!(miri) { 2 } else { 64 }, ..ProptestConfig::default() })]

    #[test]
    fn allocations_are_zeroed_aligned_apart_and_keep_their_bytes(
        steps in prop::collection::vec((1usize..9000, 0u32..13, any::<u8>(), any::<bool>()), 1..80)
    ) {
        let mut live: Vec<(NonNull<u8>, usize, u8)> = Vec::new();
        for (size, align, fill, drop_one) in steps {
            let ptr = aligned_alloc(1 << align, size).unwrap();
            prop_assert_eq!(ptr.as_ptr().addr() % (1usize << align), 0);
            prop_assert!(bytes(ptr, size).iter().all(|byte| *byte == 0));
            bytes(ptr, size).fill(fill);
            live.push((ptr, size, fill));
            if drop_one {
                let (ptr, size, fill) = live.swap_remove(usize::from(fill) % live.len());
                prop_assert_eq!(size_of(ptr), Some(size));
                prop_assert!(bytes(ptr, size).iter().all(|byte| *byte == fill));
                // SAFETY: it has left the list.
                unsafe { free(ptr) };
            }
        }
        for (ptr, size, fill) in live {
            prop_assert!(bytes(ptr, size).iter().all(|byte| *byte == fill));
            // SAFETY: the list ends here.
            unsafe { free(ptr) };
        }
    }
}
