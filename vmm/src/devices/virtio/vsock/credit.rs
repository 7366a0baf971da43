// SPDX-License-Identifier: Apache-2.0
//! Flow control: each side says how large its buffer is and how much has left it (virtio 1.2,
//! section 5.10.6.3). Counters are bytes modulo 2³².

use super::packet::Header;

/// The host's buffer for a connection, in bytes.
pub(super) const BUFFER_SIZE: u32 = 64 << 10;
/// The same where there are many connections.
pub(super) const BUFFER_SIZE_MANY: u32 = 4 << 10;
/// More than this is never on its way to a guest, whatever it promises to take.
const WINDOW_MAX: u32 = 1 << 30;

/// The driver's accounts make no sense.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Impossible;

/// One connection's accounts.
#[derive(Debug, Default)]
pub(super) struct Credit {
    /// The host's buffer.
    size: u32,
    /// From the guest: what came, what of it the host has, and what of that the guest was told.
    received: u32,
    forwarded: u32,
    told: u32,
    /// To the guest: what it got, what it says has left its buffer, and the buffer's size.
    sent: u32,
    peer_forwarded: u32,
    peer_size: u32,
}

impl Credit {
    /// With a buffer of `size` bytes on the host's side.
    pub(super) fn new(size: u32) -> Self {
        Self { size, ..Self::default() }
    }

    /// Takes note of what every packet of the guest's carries.
    ///
    /// # Errors
    /// The guest has forwarded bytes that it never got.
    pub(super) fn hear(&mut self, header: &Header) -> Result<(), Impossible> {
        let unforwarded = self.sent.wrapping_sub(header.fwd_cnt);
        if unforwarded > WINDOW_MAX {
            return Err(Impossible);
        }
        self.peer_size = header.buf_alloc;
        // Linux may queue two packets in another order than it counted them in: the newest counts.
        if unforwarded < self.sent.wrapping_sub(self.peer_forwarded) {
            self.peer_forwarded = header.fwd_cnt;
        }
        Ok(())
    }

    /// Bytes that the guest takes now.
    pub(super) fn peer_room(&self) -> u32 {
        let unforwarded = self.sent.wrapping_sub(self.peer_forwarded);
        self.peer_size.min(WINDOW_MAX).saturating_sub(unforwarded)
    }

    /// `len` bytes, at most [`Self::peer_room`], go to the guest.
    pub(super) fn send(&mut self, len: u32) {
        self.sent = self.sent.wrapping_add(len);
    }

    /// `len` bytes came from the guest.
    ///
    /// # Errors
    /// There is no room for them.
    pub(super) fn receive(&mut self, len: u32) -> Result<(), Impossible> {
        if len > self.size - self.received.wrapping_sub(self.forwarded) {
            return Err(Impossible);
        }
        self.received = self.received.wrapping_add(len);
        Ok(())
    }

    /// The host has `len` bytes of what was received.
    pub(super) fn forward(&mut self, len: usize) {
        self.forwarded = self.forwarded.wrapping_add(len as u32);
    }

    /// Whether the guest should hear that there is room again: it knows of less than half a buffer.
    pub(super) fn update_is_due(&self) -> bool {
        self.forwarded != self.told && self.received.wrapping_sub(self.told) > self.size / 2
    }

    /// Writes the host's side of the account into a packet.
    pub(super) fn tell(&mut self, header: &mut Header) {
        self.told = self.forwarded;
        header.buf_alloc = self.size;
        header.fwd_cnt = self.forwarded;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn says(buf_alloc: u32, fwd_cnt: u32) -> Header {
        Header { buf_alloc, fwd_cnt, ..Header::default() }
    }

    #[test]
    fn peer_room_shrinks_with_what_is_sent_and_grows_with_what_is_forwarded() {
        let mut credit = Credit::new(BUFFER_SIZE);
        credit.hear(&says(100, 0)).unwrap();
        credit.send(60);
        assert_eq!(credit.peer_room(), 40);
        credit.hear(&says(100, 50)).unwrap();
        assert_eq!(credit.peer_room(), 90);
        credit.hear(&says(5, 50)).unwrap();
        assert_eq!(credit.peer_room(), 0);
    }

    #[test]
    fn stale_counter_is_ignored_and_one_ahead_is_a_lie() {
        let mut credit = Credit::new(BUFFER_SIZE);
        credit.hear(&says(100, 0)).unwrap();
        credit.send(60);
        credit.hear(&says(100, 50)).unwrap();
        credit.hear(&says(100, 20)).unwrap();
        assert_eq!(credit.peer_room(), 90);
        assert_eq!(credit.hear(&says(100, 61)), Err(Impossible));
    }

    #[test]
    fn counters_wrap() {
        let mut credit = Credit { sent: u32::MAX, peer_forwarded: u32::MAX, ..Credit::new(BUFFER_SIZE) };
        credit.hear(&says(100, u32::MAX)).unwrap();
        credit.send(10);
        assert_eq!(credit.peer_room(), 90);
        credit.hear(&says(100, 9)).unwrap();
        assert_eq!(credit.peer_room(), 100);
    }

    #[test]
    fn receiving_more_than_the_buffer_is_a_lie() {
        let mut credit = Credit::new(BUFFER_SIZE);
        credit.receive(BUFFER_SIZE).unwrap();
        assert_eq!(credit.receive(1), Err(Impossible));
        credit.forward(1);
        credit.receive(1).unwrap();
    }

    #[test]
    fn update_is_due_when_the_guest_knows_of_less_than_half_a_buffer() {
        let mut credit = Credit::new(BUFFER_SIZE);
        credit.receive(BUFFER_SIZE / 2).unwrap();
        credit.forward(BUFFER_SIZE as usize / 2);
        assert!(!credit.update_is_due());
        credit.receive(1).unwrap();
        assert!(credit.update_is_due());
        let mut header = Header::default();
        credit.tell(&mut header);
        assert_eq!((header.buf_alloc, header.fwd_cnt), (BUFFER_SIZE, BUFFER_SIZE / 2));
        assert!(!credit.update_is_due());
    }

    /// All sequences of a guest's and a socket's moves, up to a length, at both ends of the counters.
    #[test]
    fn host_never_holds_more_than_its_buffer_whatever_happens() {
        fn go(credit: &Credit, held: u32, depth: u32) {
            assert!(held <= credit.size);
            assert_eq!(credit.received.wrapping_sub(credit.forwarded), held);
            if depth == 0 {
                return;
            }
            for len in 0..=credit.size + 1 {
                let mut next = Credit { ..*credit };
                let taken = next.receive(len).is_ok();
                assert_eq!(taken, held + len <= credit.size);
                go(&next, if taken { held + len } else { held }, depth - 1);
            }
            for len in 0..=held {
                let mut next = Credit { ..*credit };
                next.forward(len as usize);
                let mut header = Header::default();
                next.tell(&mut header);
                assert_eq!((header.fwd_cnt, header.buf_alloc), (next.forwarded, credit.size));
                go(&next, held - len, depth - 1);
            }
        }
        for start in [0, u32::MAX - 2, u32::MAX] {
            go(&Credit { received: start, forwarded: start, told: start, ..Credit::new(3) }, 0, 6);
        }
    }

    /// All that a guest can say of small numbers, at both ends of the counters.
    #[test]
    fn guest_never_gets_more_than_it_has_said() {
        for start in [0, u32::MAX - 1, u32::MAX] {
            for (sent, forwarded, size) in (0..6).flat_map(|a| (0..6).flat_map(move |b| (0..6).map(move |c| (a, b, c))))
            {
                let mut credit = Credit { sent: start, peer_forwarded: start, ..Credit::new(BUFFER_SIZE) };
                credit.hear(&says(10, start)).unwrap();
                credit.send(sent);
                let honest = forwarded <= sent;
                assert_eq!(credit.hear(&says(size, start.wrapping_add(forwarded))).is_ok(), honest);
                if honest {
                    assert_eq!(credit.peer_room(), size.saturating_sub(sent - forwarded));
                }
            }
        }
    }
}
