//! The device itself: one queue, one file.

use std::io;
use std::os::fd::RawFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use secretvmm_api::{CacheType, Drive, DriveUpdate, IoEngine};
use virtio_bindings::virtio_blk::{
    VIRTIO_BLK_F_FLUSH, VIRTIO_BLK_F_RO, VIRTIO_BLK_F_SEG_MAX, VIRTIO_BLK_ID_BYTES, VIRTIO_BLK_S_IOERR,
    VIRTIO_BLK_S_OK, VIRTIO_BLK_S_UNSUPP, VIRTIO_BLK_T_FLUSH, VIRTIO_BLK_T_GET_ID, VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT,
};
use virtio_bindings::virtio_ids::VIRTIO_ID_BLOCK;

use super::disk::Disk;
use super::metrics::{add, count};
use super::request::{self, Invalid, Request};
use super::transfer::Short;
use super::{BlockMetrics, Error};
use crate::devices::virtio::{Chain, ConfigChange, DeviceError, Flow, RateLimiter, Rings, Turn, VirtioDevice};
use crate::memory::GuestMemory;

const QUEUE_SIZE: u16 = 256;
/// Data buffers of a request: what a chain of the queue's size has besides header and status.
const SEG_MAX: u32 = QUEUE_SIZE as u32 - 2;

/// A disk.
#[derive(Debug)]
pub struct Block {
    id: String,
    pub(super) disk: Disk,
    cache: CacheType,
    /// Writes are made durable one by one, because the driver knows no flush (5.2.6.2).
    pub(super) write_through: bool,
    /// capacity, size_max, seg_max.
    config: [u8; 16],
    limiter: RateLimiter,
    pub(super) turn: Duration,
    metrics: Arc<BlockMetrics>,
    /// A failure of this file was reported; the guest cannot fill the log with them.
    complained: bool,
}

/// Why a request was not done.
enum Failure {
    /// The driver should know better.
    Invalid,
    /// It was not offered.
    Unsupported,
    /// The host failed, after so many bytes.
    Host(Short),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Host(Short { done: 0, error })
    }
}

impl Block {
    /// Opens the drive's file.
    ///
    /// # Errors
    /// There is none, or it cannot be a disk.
    pub fn open(drive: &Drive) -> Result<Self, Error> {
        let id = drive.drive_id.clone();
        if drive.socket.is_some() {
            return Err(Error::VhostUser { drive: id });
        }
        let Some(path) = &drive.path_on_host else { return Err(Error::NoPath { drive: id }) };
        let disk = Disk::open(&id, path, drive.is_read_only.unwrap_or(false))?;
        let limiter = RateLimiter::new(drive.rate_limiter.as_ref());
        let limiter = limiter.map_err(|source| Error::Timer { drive: id.clone(), source })?;
        if drive.io_engine == Some(IoEngine::Async) {
            log::warn!("Drive {id}: io_engine Async is served as Sync, by system calls of the calling thread");
        }
        Ok(Self {
            config: config(&disk),
            id,
            disk,
            cache: drive.cache_type,
            write_through: false,
            limiter,
            turn: Turn::LENGTH,
            metrics: Arc::default(),
            complained: false,
        })
    }

    /// Takes another file, other limits, or both; for [`Transport::change`]. All of it or nothing.
    ///
    /// [`Transport::change`]: crate::devices::virtio::Transport::change
    pub fn update(&mut self, update: &DriveUpdate) -> (Result<(), Error>, ConfigChange) {
        let changed = match update.path_on_host.as_deref().map(|path| self.change_file(path)).transpose() {
            Ok(None) => ConfigChange::No,
            Ok(Some(())) => ConfigChange::Yes,
            Err(err) => {
                count(&self.metrics.update_fails);
                return (Err(err), ConfigChange::No);
            }
        };
        if let Some(limits) = &update.rate_limiter {
            self.limiter.update(limits);
        }
        count(&self.metrics.update_count);
        (Ok(()), changed)
    }

    /// What the device counts.
    pub fn metrics(&self) -> &Arc<BlockMetrics> {
        &self.metrics
    }

    fn change_file(&mut self, path: &Path) -> Result<(), Error> {
        self.disk = Disk::open(&self.id, path, self.disk.read_only)?;
        self.config = config(&self.disk);
        self.complained = false;
        Ok(())
    }

    /// Serves the queue for one turn.
    fn serve(&mut self, rings: &mut Rings) -> Result<(), DeviceError> {
        let memory = rings.memory;
        let mut turn = Turn::new(self.turn);
        let result = rings.serve(0, |chain| {
            if turn.is_over() {
                self.limiter.wake();
                return Ok(Flow::Stop);
            }
            Ok(self.request(chain, memory))
        });
        if result.is_err() {
            count(&self.metrics.event_fails);
        }
        result
    }

    /// Does one request, unless the limits say not now.
    fn request(&mut self, chain: Chain, memory: &GuestMemory) -> Flow {
        let request = match Request::parse(chain, memory, QUEUE_SIZE) {
            Ok(request) => request,
            Err(invalid) => return Flow::Done(self.refuse(invalid)),
        };
        let bytes = match request.kind {
            VIRTIO_BLK_T_IN => request::len(&request.writable),
            VIRTIO_BLK_T_OUT => request::len(&request.readable),
            _ => 0,
        };
        if !self.limiter.consume(bytes) {
            count(&self.metrics.rate_limiter_throttled_events);
            return Flow::Stop;
        }
        Flow::Done(self.answer(&request, bytes))
    }

    fn refuse(&self, invalid: Invalid) -> u32 {
        count(&self.metrics.invalid_reqs_count);
        if let Invalid::Told(status) = invalid {
            status.set(VIRTIO_BLK_S_IOERR as u8);
        }
        // Whatever comes before the status was not written to.
        0
    }

    /// Does a request and tells the driver; how many bytes were written from its first writable one on.
    fn answer(&mut self, request: &Request, bytes: u64) -> u32 {
        let (status, written) = match self.execute(request, bytes) {
            Ok(written) => (VIRTIO_BLK_S_OK, written),
            Err(Failure::Host(short)) => {
                self.complain(&short.error);
                // What a write has done before it failed is in the file, not in the guest's memory.
                (VIRTIO_BLK_S_IOERR, if request.kind == VIRTIO_BLK_T_IN { short.done } else { 0 })
            }
            Err(failure) => {
                count(&self.metrics.invalid_reqs_count);
                let unsupported = matches!(failure, Failure::Unsupported);
                (if unsupported { VIRTIO_BLK_S_UNSUPP } else { VIRTIO_BLK_S_IOERR }, 0)
            }
        };
        request.status.set(status as u8);
        // The length has no holes (2.7.8.2): the status counts if all before it does.
        let status_counts = written == request::len(&request.writable);
        u32::try_from(written + u64::from(status_counts)).unwrap_or(u32::MAX)
    }

    /// Does a request whose data are so many bytes; how many were written to the guest's memory.
    fn execute(&self, request: &Request, bytes: u64) -> Result<u64, Failure> {
        match request.kind {
            VIRTIO_BLK_T_IN => self.read(request, bytes),
            VIRTIO_BLK_T_OUT => self.write(request, bytes).map(|()| 0),
            VIRTIO_BLK_T_FLUSH if self.cache == CacheType::Writeback => {
                self.disk.flush()?;
                count(&self.metrics.flush_count);
                Ok(0)
            }
            VIRTIO_BLK_T_GET_ID => {
                let id = serial(&self.id);
                request::fill(&request.writable, &id).then_some(id.len() as u64).ok_or(Failure::Invalid)
            }
            _ => Err(Failure::Unsupported),
        }
    }

    fn read(&self, request: &Request, bytes: u64) -> Result<u64, Failure> {
        let offset = self.disk.offset(request.sector, bytes).filter(|_| request.readable.is_empty());
        let result = self.disk.read(offset.ok_or(Failure::Invalid)?, &request.writable);
        add(&self.metrics.read_bytes, done(&result));
        let read = result.map_err(Failure::Host)?;
        count(&self.metrics.read_count);
        Ok(read)
    }

    fn write(&self, request: &Request, bytes: u64) -> Result<(), Failure> {
        let allowed = !self.disk.read_only && request.writable.is_empty();
        let offset = self.disk.offset(request.sector, bytes).filter(|_| allowed);
        let result = self.disk.write(offset.ok_or(Failure::Invalid)?, &request.readable);
        add(&self.metrics.write_bytes, done(&result));
        result.map_err(Failure::Host)?;
        if self.write_through {
            self.disk.flush()?;
        }
        count(&self.metrics.write_count);
        Ok(())
    }

    fn complain(&mut self, err: &io::Error) {
        count(&self.metrics.execute_fails);
        if !self.complained {
            self.complained = true;
            log::warn!("Drive {}: the guest gets an I/O error, and further ones without a word here: {err}", self.id);
        }
    }
}

impl VirtioDevice for Block {
    const TYPE: u32 = VIRTIO_ID_BLOCK;
    const QUEUES: &'static [u16] = &[QUEUE_SIZE];

    fn features(&self) -> u64 {
        let read_only = u64::from(self.disk.read_only) << VIRTIO_BLK_F_RO;
        let flush = u64::from(self.cache == CacheType::Writeback) << VIRTIO_BLK_F_FLUSH;
        1 << VIRTIO_BLK_F_SEG_MAX | read_only | flush
    }

    fn config(&self) -> &[u8] {
        &self.config
    }

    fn activate(&mut self, features: u64, rings: &mut Rings) -> Result<(), DeviceError> {
        self.write_through = self.cache == CacheType::Writeback && features & 1 << VIRTIO_BLK_F_FLUSH == 0;
        self.serve(rings).inspect_err(|_| count(&self.metrics.activate_fails))
    }

    fn notify(&mut self, _index: usize, rings: &mut Rings) -> Result<(), DeviceError> {
        count(&self.metrics.queue_event_count);
        self.serve(rings)
    }

    fn descriptors(&self) -> Vec<RawFd> {
        vec![self.limiter.descriptor()]
    }

    fn host_event(&mut self, rings: &mut Rings) -> Result<(), DeviceError> {
        count(&self.metrics.rate_limiter_event_count);
        self.serve(rings)
    }

    fn reset(&mut self) {
        self.write_through = false;
    }
}

fn config(disk: &Disk) -> [u8; 16] {
    let mut config = [0; 16];
    config[..8].copy_from_slice(&disk.sectors.to_le_bytes());
    config[12..].copy_from_slice(&SEG_MAX.to_le_bytes());
    config
}

/// What a guest finds the drive by, under /dev/disk/by-id: the first bytes of its id. It says nothing
/// about the host.
fn serial(id: &str) -> [u8; VIRTIO_BLK_ID_BYTES as usize] {
    let mut serial = [0; VIRTIO_BLK_ID_BYTES as usize];
    for (to, from) in serial.iter_mut().zip(id.bytes()) {
        *to = from;
    }
    serial
}

fn done(result: &Result<u64, Short>) -> u64 {
    match result {
        Ok(done) | Err(Short { done, .. }) => *done,
    }
}
