// SPDX-License-Identifier: Apache-2.0
//! The host's end of the cable: a TAP, and pieces of guest memory that the kernel reads and writes.
#![allow(unsafe_code)] // ioctl, readv and writev; the pieces point into guest memory.

use std::ffi::{c_int, c_uint, c_ulong};
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::marker::PhantomData;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;

use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, VolatileSlice};

use super::HEADER_SIZE;
use crate::memory::GuestMemory;

/// The most pieces that one system call takes (UIO_MAXIOV), less the one that [`Tap::read`] adds.
pub(super) const PIECES_MAX: usize = 1023;

/// Why a network device cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// What no network device is called.
    #[error("{0:?} cannot be a TAP's name; host_dev_name has 1 to 15 bytes, none of them '/', ':', '%' or space")]
    Name(String),
    /// No TAPs on this host.
    #[error("/dev/net/tun cannot be opened; load the host's tun module and make the device reachable")]
    NoTun(#[source] io::Error),
    /// Not ours to use.
    #[error(
        "TAP {name:?} may not be used; make it the VMM's user's own (ip tuntap add {name} mode tap user …) or grant \
         CAP_NET_ADMIN"
    )]
    Permission {
        /// The TAP's name.
        name: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// Another process has it.
    #[error("TAP {0:?} is in use by another process; give each VM a TAP of its own")]
    Busy(String),
    /// A device of another kind.
    #[error("{0:?} is no TAP with one queue; make one with ip tuntap add NAME mode tap")]
    NotTap(String),
    /// Anything else.
    #[error("TAP {name:?} cannot be set up")]
    Tap {
        /// The TAP's name.
        name: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// The timer of a rate limiter, or another descriptor of the device's own.
    #[error("No event descriptor for network interface {id:?}; raise the limit of open files (ulimit -n)")]
    Descriptor {
        /// The interface's id.
        id: String,
        /// What the kernel said.
        source: io::Error,
    },
}

/// A TAP whose frames begin with a virtio header of [`HEADER_SIZE`] bytes.
#[derive(Debug)]
pub(super) struct Tap {
    file: File,
}

impl Tap {
    /// Takes the TAP `name` for this process; makes one for as long as the VM lives if there is none
    /// and the process may.
    pub(super) fn open(name: &str) -> Result<Self, Error> {
        let mut request = request(name).ok_or_else(|| Error::Name(name.to_owned()))?;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
            .open("/dev/net/tun")
            .map_err(|err| match err.kind() {
                ErrorKind::PermissionDenied => Error::Permission { name: name.to_owned(), source: err },
                _ => Error::NoTun(err),
            })?;
        let error = |source: io::Error| {
            let name = name.to_owned();
            match source.raw_os_error() {
                Some(libc::EBUSY) => Error::Busy(name),
                Some(libc::EINVAL) => Error::NotTap(name),
                Some(libc::EPERM | libc::EACCES) => Error::Permission { name, source },
                _ => Error::Tap { name, source },
            }
        };
        // SAFETY: request is an ifreq that outlives the call.
        check(unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &raw mut request) }).map_err(error)?;
        let size = HEADER_SIZE as c_int;
        // SAFETY: TUNSETVNETHDRSZ reads an int.
        check(unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETVNETHDRSZ, &raw const size) }).map_err(error)?;
        let tap = Self { file };
        // A TAP that is there for longer than its users keeps what the last one has said.
        tap.set_offload(0).map_err(error)?;
        Ok(tap)
    }

    /// Says which unfinished frames (TUN_F_…) the guest takes.
    pub(super) fn set_offload(&self, flags: c_uint) -> io::Result<()> {
        // SAFETY: TUNSETOFFLOAD takes its argument by value.
        check(unsafe { libc::ioctl(self.file.as_raw_fd(), libc::TUNSETOFFLOAD, c_ulong::from(flags)) })
    }

    /// Reads a frame with its header straight into guest memory. None if it is longer than `pieces`:
    /// it is lost then.
    pub(super) fn read(&self, pieces: &mut Pieces) -> io::Result<Option<usize>> {
        // A frame that is cut does not say so; one that reaches this byte is too long.
        let mut beyond = 0_u8;
        pieces.iovecs.push(libc::iovec { iov_base: (&raw mut beyond).cast(), iov_len: 1 });
        let result = retry(|| {
            // SAFETY: every piece is guest memory or `beyond`, alive and writable during the call;
            // PIECES_MAX keeps their number within c_int.
            unsafe { libc::readv(self.file.as_raw_fd(), pieces.iovecs.as_ptr(), pieces.iovecs.len() as c_int) }
        });
        pieces.iovecs.pop();
        result.map(|len| Some(len).filter(|len| *len <= pieces.len))
    }

    /// Writes a frame with its header straight from guest memory.
    pub(super) fn write(&self, pieces: &Pieces) -> io::Result<usize> {
        retry(|| {
            // SAFETY: every piece is guest memory, alive during the call.
            unsafe { libc::writev(self.file.as_raw_fd(), pieces.iovecs.as_ptr(), pieces.iovecs.len() as c_int) }
        })
    }
}

/// The MTU of the host's device `name`.
pub(super) fn mtu(name: &str) -> io::Result<u32> {
    let mut request = request(name).ok_or(ErrorKind::InvalidInput)?;
    // Any socket will do (netdevice(7)).
    let socket = std::os::unix::net::UnixDatagram::unbound()?;
    // SAFETY: request is an ifreq that outlives the call.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFMTU as _, &raw mut request) })?;
    // SAFETY: the kernel has filled in this member.
    let mtu = unsafe { request.ifr_ifru.ifru_mtu };
    u32::try_from(mtu).map_err(io::Error::other)
}

#[cfg(test)]
impl From<File> for Tap {
    /// A socket for datagrams, nonblocking, whose peer is the test.
    fn from(file: File) -> Self {
        Self { file }
    }
}

impl AsRawFd for Tap {
    fn as_raw_fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }
}

/// What to say to TUNSETIFF; None if no device can have this name.
fn request(name: &str) -> Option<libc::ifreq> {
    // The kernel takes an empty name, and one with '%', for leave to choose another.
    let odd = |byte: u8| byte == 0 || byte == b'/' || byte == b':' || byte == b'%' || byte.is_ascii_whitespace();
    if name.is_empty() || name.len() >= libc::IFNAMSIZ || name.bytes().any(odd) {
        return None;
    }
    // SAFETY: ifreq is plain data, for which zeros are fine.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR) as _;
    Some(request)
}

fn check(result: c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn retry(mut call: impl FnMut() -> isize) -> io::Result<usize> {
    loop {
        match usize::try_from(call()).map_err(|_| io::Error::last_os_error()) {
            Err(err) if err.kind() == ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// Pieces of guest memory, one after the other.
pub(super) struct Pieces<'m> {
    memory: &'m GuestMemory,
    iovecs: Vec<libc::iovec>,
    len: usize,
    _memory: PhantomData<VolatileSlice<'m>>,
}

impl<'m> Pieces<'m> {
    /// None yet.
    pub(super) fn new(memory: &'m GuestMemory) -> Self {
        Self { memory, iovecs: Vec::new(), len: 0, _memory: PhantomData }
    }

    pub(super) fn clear(&mut self) {
        self.iovecs.clear();
        self.len = 0;
    }

    /// The sum of their lengths.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Adds `len` bytes at `address`; false if they are not all memory, or there are too many pieces.
    pub(super) fn push(&mut self, address: GuestAddress, len: usize) -> bool {
        for slice in GuestMemoryBackend::get_slices(self.memory, address, len) {
            let Some(slice) = slice.ok().filter(|_| self.iovecs.len() < PIECES_MAX) else { return false };
            let iov_base = slice.ptr_guard_mut().as_ptr().cast();
            self.iovecs.push(libc::iovec { iov_base, iov_len: slice.len() });
            self.len += slice.len();
        }
        true
    }

    /// Copies from `offset` on into `bytes`; how many there were.
    pub(super) fn copy_out(&self, offset: usize, bytes: &mut [u8]) -> usize {
        let mut done = 0;
        self.each(offset, |slice| {
            let Some(rest) = bytes.get_mut(done..) else { return };
            done += slice.read(rest, 0).unwrap_or(0);
        });
        done
    }

    /// Copies `bytes` in from `offset` on; how many had a place.
    pub(super) fn copy_in(&self, offset: usize, bytes: &[u8]) -> usize {
        let mut done = 0;
        self.each(offset, |slice| {
            let Some(rest) = bytes.get(done..) else { return };
            done += slice.write(rest, 0).unwrap_or(0);
        });
        done
    }

    /// Calls `visit` with all memory from `offset` on.
    fn each(&self, mut offset: usize, mut visit: impl FnMut(VolatileSlice)) {
        for piece in &self.iovecs {
            let skip = offset.min(piece.iov_len);
            offset -= skip;
            // SAFETY: push() got the piece from a slice of guest memory, which 'm keeps alive.
            let slice = unsafe { VolatileSlice::new(piece.iov_base.cast::<u8>().add(skip), piece.iov_len - skip) };
            visit(slice);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(super) mod tests {
    use super::*;
    use crate::memory::{GuestRam, RamKind};

    #[test]
    fn name_that_no_device_can_have_is_refused() {
        for name in ["", "a-name-with-16-by", "0123456789abcdef", "tap%d", "a/b", "a b", "tap:0", "tap\0"] {
            assert!(matches!(Tap::open(name), Err(Error::Name(_))), "{name:?}");
        }
        assert!(request("0123456789abcde").is_some());
    }

    /// Runs `test` in a network namespace of its own, as a thread that ends with it; false if this
    /// machine does not allow that.
    pub(crate) fn in_namespace(test: impl FnOnce() + Send + 'static) -> bool {
        let thread = std::thread::spawn(|| {
            // SAFETY: only this thread moves, and it opens nothing before that knows the old namespace.
            let alone =
                unsafe { libc::unshare(libc::CLONE_NEWNET) } == 0 && std::path::Path::new("/dev/net/tun").exists();
            if alone {
                test();
            }
            alone
        });
        thread.join().unwrap()
    }

    #[test]
    fn tap_is_taken_by_one_and_refuses_others() {
        let done = in_namespace(|| {
            let tap = Tap::open("svmm-test0").unwrap();
            tap.set_offload(libc::TUN_F_CSUM | libc::TUN_F_TSO4).unwrap();
            assert!(matches!(Tap::open("svmm-test0"), Err(Error::Busy(_))));
            assert!(matches!(Tap::open("lo"), Err(Error::NotTap(_))));
            assert_eq!((mtu("svmm-test0").unwrap(), mtu("svmm-none").is_err()), (1500, true));
            drop(tap);
            let tap = Tap::open("svmm-test0").unwrap();
            // A TAP that stays keeps what its last user has said.
            // SAFETY: TUNSETPERSIST takes its argument by value.
            check(unsafe { libc::ioctl(tap.as_raw_fd(), libc::TUNSETPERSIST, 1 as c_ulong) }).unwrap();
            tap.set_offload(libc::TUN_F_CSUM | libc::TUN_F_TSO4).unwrap();
            assert!(receives_unfinished("svmm-test0"));
            drop(tap);
            let tap = Tap::open("svmm-test0").unwrap();
            assert!(!receives_unfinished("svmm-test0"));
            // What the device tells from a TAP that is down.
            let ip = std::process::Command::new("ip").args(["link", "delete", "svmm-test0"]).status();
            if ip.is_ok_and(|ip| ip.success()) {
                let ram = GuestRam::create(RamKind::Shared, 2 << 20).unwrap();
                let error = tap.read(&mut Pieces::new(ram.memory())).unwrap_err();
                assert_eq!(error.raw_os_error(), Some(libc::EBADFD));
            }
        });
        if !done {
            eprintln!("SKIPPED: no right to a network namespace and a TAP");
        }
    }

    /// Whether the host's stack leaves checksums to whoever has the TAP.
    fn receives_unfinished(name: &str) -> bool {
        const SIOCETHTOOL: c_ulong = 0x8946;
        const ETHTOOL_GTXCSUM: u32 = 0x16;
        // struct ethtool_value: what to say, and the answer.
        let mut value = [ETHTOOL_GTXCSUM, 0];
        let mut request = request(name).unwrap();
        request.ifr_ifru.ifru_data = value.as_mut_ptr().cast();
        let socket = std::os::unix::net::UnixDatagram::unbound().unwrap();
        // SAFETY: the request and the value that it points to outlive the call.
        check(unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL as _, &raw mut request) }).unwrap();
        value[1] != 0
    }

    #[test]
    fn pieces_are_copied_across_their_borders() {
        let ram = GuestRam::create(RamKind::Shared, 2 << 20).unwrap();
        let mut pieces = Pieces::new(ram.memory());
        assert!(pieces.push(GuestAddress(0x1000), 3));
        assert!(pieces.push(GuestAddress(0x2000), 5));
        assert!(!pieces.push(GuestAddress(u64::MAX - 1), 5));
        assert_eq!(pieces.copy_in(2, b"12345678"), 6);
        let mut bytes = [0; 8];
        assert_eq!(pieces.copy_out(1, &mut bytes), 7);
        assert_eq!(&bytes, b"\x00123456\0");
        pieces.clear();
        assert_eq!(pieces.copy_out(0, &mut bytes), 0);
    }
}
