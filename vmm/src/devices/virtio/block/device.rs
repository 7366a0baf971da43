// SPDX-License-Identifier: Apache-2.0
//! The device itself: one queue, one file.

use std::io;
use std::os::fd::RawFd;
use std::path::Path;
use std::sync::Arc;

use secretvmm_api::{CacheType, Drive, DriveUpdate, IoEngine};
use virtio_bindings::virtio_blk::{
    VIRTIO_BLK_F_DISCARD, VIRTIO_BLK_F_FLUSH, VIRTIO_BLK_F_RO, VIRTIO_BLK_F_SEG_MAX, VIRTIO_BLK_F_WRITE_ZEROES,
    VIRTIO_BLK_ID_BYTES, VIRTIO_BLK_S_IOERR, VIRTIO_BLK_S_OK, VIRTIO_BLK_S_UNSUPP, VIRTIO_BLK_T_DISCARD,
    VIRTIO_BLK_T_FLUSH, VIRTIO_BLK_T_GET_ID, VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT, VIRTIO_BLK_T_WRITE_ZEROES,
};
use virtio_bindings::virtio_ids::VIRTIO_ID_BLOCK;

use super::disk::Disk;
use super::erase::{self, Erase, Refused};
use super::request::{self, BlockRequest, Invalid};
use super::transfer::Short;
use super::{Error, Metrics};
use crate::devices::RateLimiter;
use crate::devices::virtio::{Chain, ConfigChange, DeviceError, Flow, Rings, Turn, Turns, VirtioDevice};
use crate::memory::GuestMemory;
use crate::metrics::Counter;

const QUEUE_SIZE: u16 = 256;
/// Data buffers of a request: what a chain of the queue's size has besides header and status.
const SEG_MAX: u32 = QUEUE_SIZE as u32 - 2;
/// What a disk that can be written to has beside writes.
const ERASES: u64 = 1 << VIRTIO_BLK_F_DISCARD | 1 << VIRTIO_BLK_F_WRITE_ZEROES;

/// A disk.
#[derive(Debug)]
pub struct Block {
    id: String,
    pub(super) disk: Disk,
    cache: CacheType,
    /// Writes are made durable one by one, because the driver knows no flush (5.2.6.2).
    pub(super) write_through: bool,
    config: Config,
    limiter: RateLimiter,
    /// The queue's first request, if it was too large for one turn.
    partial: Option<Transfer>,
    pub(super) turns: Turns,
    metrics: Arc<Metrics>,
    /// A failure of this file was reported; the guest cannot fill the log with them.
    warned: bool,
}

/// `struct virtio_blk_config` (5.2.4).
type Config = [u8; 60];

/// A read or write that its turn was too short for, as the driver described it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Transfer {
    kind: u32,
    sector: u64,
    bytes: u64,
    done: u64,
}

/// What a request asks for.
enum Command {
    Read,
    Write,
    Flush,
    GetId,
    Erase(Erase),
}

/// How far a request has got.
enum Progress {
    /// It is done; so many bytes were written to the guest's memory.
    Done(u64),
    /// Its turn was over after so many bytes.
    Later(u64),
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
        match error.raw_os_error() {
            Some(libc::EOPNOTSUPP) => Self::Unsupported,
            _ => Self::Host(Short { done: 0, error }),
        }
    }
}

impl From<Short> for Failure {
    fn from(short: Short) -> Self {
        Self::Host(short)
    }
}

impl From<Refused> for Failure {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Invalid => Self::Invalid,
            Refused::Unsupported => Self::Unsupported,
        }
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
        let descriptor = |source| Error::Descriptor { drive: id.clone(), source };
        let limiter = RateLimiter::new(drive.rate_limiter.as_ref()).map_err(descriptor)?;
        let turns = Turns::new().map_err(descriptor)?;
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
            partial: None,
            turns,
            metrics: Arc::default(),
            warned: false,
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
                self.metrics.update_fails.inc();
                return (Err(err), ConfigChange::No);
            }
        };
        if let Some(limits) = &update.rate_limiter {
            self.limiter.update(limits);
        }
        self.metrics.update_count.inc();
        (Ok(()), changed)
    }

    /// What the device counts.
    pub fn metrics(&self) -> Arc<Metrics> {
        self.metrics.clone()
    }

    fn change_file(&mut self, path: &Path) -> Result<(), Error> {
        let disk = Disk::open(&self.id, path, self.disk.read_only)?;
        self.flush_for_good();
        self.disk = disk;
        // The other half of it would be in the old file.
        self.partial = None;
        self.config = config(&self.disk);
        self.warned = false;
        Ok(())
    }

    /// Makes durable what no later flush reaches, as its file goes.
    fn flush_for_good(&self) {
        if self.cache != CacheType::Writeback || self.disk.read_only {
            return;
        }
        if let Err(err) = self.disk.flush() {
            log::warn!("Drive {}: the last writes to the old file may be lost: {err}", self.id);
        }
    }

    /// Serves the queue for one turn.
    fn serve(&mut self, rings: &mut Rings) -> Result<(), DeviceError> {
        let memory = rings.memory;
        let mut turn = self.turns.begin();
        let result = rings.serve(0, &mut turn, |chain, turn| Ok(self.request(chain, memory, turn)));
        if result.is_err() {
            self.metrics.event_fails.inc();
        }
        result
    }

    /// Does one request, unless the limits say not now, and for no longer than its turn.
    fn request(&mut self, chain: Chain, memory: &GuestMemory, turn: &mut Turn) -> Flow {
        let partial = self.partial.take();
        let request = match BlockRequest::parse(chain, memory) {
            Ok(request) => request,
            Err(invalid) => return Flow::Done(self.refuse(invalid)),
        };
        let command = self.command(&request);
        let bytes = match &command {
            Ok(Command::Read) => request::len(&request.writable),
            Ok(Command::Write) => request::len(&request.readable),
            Ok(Command::Erase(erase)) => erase.len(),
            Ok(Command::Flush | Command::GetId) | Err(_) => 0,
        };
        let new = Transfer { kind: request.kind, sector: request.sector, bytes, done: 0 };
        // A driver that has changed its request meanwhile makes a new one.
        let partial = partial.filter(|partial| Transfer { done: 0, ..*partial } == new);
        if partial.is_none() && !self.limiter.consume(bytes) {
            self.metrics.rate_limiter_throttled_events.inc();
            return Flow::Stop;
        }
        let transfer = partial.unwrap_or(new);
        match command.and_then(|command| self.execute(&request, command, transfer, turn)) {
            Ok(Progress::Later(done)) => {
                self.partial = Some(Transfer { done, ..transfer });
                Flow::Stop
            }
            Ok(Progress::Done(written)) => Flow::Done(self.answer(&request, Ok(written))),
            Err(failure) => Flow::Done(self.answer(&request, Err(failure))),
        }
    }

    fn refuse(&self, invalid: Invalid) -> u32 {
        self.metrics.invalid_reqs_count.inc();
        if let Invalid::WithStatus(status) = invalid {
            status.set(VIRTIO_BLK_S_IOERR as u8);
        }
        // Whatever comes before the status was not written to.
        0
    }

    /// Tells the driver what became of a request; how many bytes were written from its first writable one on.
    fn answer(&mut self, request: &BlockRequest, result: Result<u64, Failure>) -> u32 {
        let (status, written) = match result {
            Ok(written) => (VIRTIO_BLK_S_OK, written),
            Err(Failure::Host(short)) => {
                self.warn(&short.error);
                // What a write has done before it failed is in the file, not in the guest's memory.
                (VIRTIO_BLK_S_IOERR, if request.kind == VIRTIO_BLK_T_IN { short.done } else { 0 })
            }
            Err(failure) => {
                self.metrics.invalid_reqs_count.inc();
                let unsupported = matches!(failure, Failure::Unsupported);
                (if unsupported { VIRTIO_BLK_S_UNSUPP } else { VIRTIO_BLK_S_IOERR }, 0)
            }
        };
        request.status.set(status as u8);
        // The length has no holes (2.7.8.2): the status counts if all before it does.
        let status_counts = written == request::len(&request.writable);
        u32::try_from(written + u64::from(status_counts)).unwrap_or(u32::MAX)
    }

    /// What a request asks for; what an erasure needs is read here, once.
    fn command(&self, request: &BlockRequest) -> Result<Command, Failure> {
        Ok(match request.kind {
            VIRTIO_BLK_T_IN => Command::Read,
            VIRTIO_BLK_T_OUT => Command::Write,
            VIRTIO_BLK_T_FLUSH if self.cache == CacheType::Writeback => Command::Flush,
            VIRTIO_BLK_T_GET_ID => Command::GetId,
            VIRTIO_BLK_T_DISCARD | VIRTIO_BLK_T_WRITE_ZEROES => Command::Erase(Erase::parse(request, &self.disk)?),
            _ => return Err(Failure::Unsupported),
        })
    }

    /// Does a request that has come so far, or the next part of it.
    fn execute(
        &self,
        request: &BlockRequest,
        command: Command,
        transfer: Transfer,
        turn: &mut Turn,
    ) -> Result<Progress, Failure> {
        match command {
            Command::Read => self.read(request, transfer, turn),
            Command::Write => self.write(request, transfer, turn),
            Command::Flush => {
                self.disk.flush()?;
                self.metrics.flush_count.inc();
                Ok(Progress::Done(0))
            }
            Command::GetId => {
                let id = serial(&self.id);
                let filled = request::fill(&request.writable, &id);
                filled.then_some(Progress::Done(id.len() as u64)).ok_or(Failure::Invalid)
            }
            Command::Erase(erase) => {
                erase.run(&self.disk)?;
                self.make_durable()?;
                Ok(Progress::Done(0))
            }
        }
    }

    fn read(&self, request: &BlockRequest, transfer: Transfer, turn: &mut Turn) -> Result<Progress, Failure> {
        let offset = self.disk.offset(request.sector, transfer.bytes).filter(|_| request.readable.is_empty());
        let offset = offset.ok_or(Failure::Invalid)?;
        let piece = |done| self.disk.read(offset, &request.writable, done);
        let progress = in_pieces(transfer, turn, &self.metrics.read_bytes, piece)?;
        if let Progress::Done(_) = progress {
            self.metrics.read_count.inc();
        }
        Ok(progress)
    }

    fn write(&self, request: &BlockRequest, transfer: Transfer, turn: &mut Turn) -> Result<Progress, Failure> {
        let allowed = !self.disk.read_only && request.writable.is_empty();
        let offset = self.disk.offset(request.sector, transfer.bytes).filter(|_| allowed);
        let offset = offset.ok_or(Failure::Invalid)?;
        let piece = |done| self.disk.write(offset, &request.readable, done);
        match in_pieces(transfer, turn, &self.metrics.write_bytes, piece)? {
            Progress::Done(_) => {
                self.make_durable()?;
                self.metrics.write_count.inc();
                Ok(Progress::Done(0))
            }
            later => Ok(later),
        }
    }

    #[cfg(test)]
    pub(super) fn is_partial(&self) -> bool {
        self.partial.is_some()
    }

    fn make_durable(&self) -> io::Result<()> {
        if self.write_through { self.disk.flush() } else { Ok(()) }
    }

    fn warn(&mut self, err: &io::Error) {
        self.metrics.execute_fails.inc();
        if !self.warned {
            self.warned = true;
            log::warn!("Drive {}: the guest gets an I/O error, and further ones without a word here: {err}", self.id);
        }
    }
}

impl VirtioDevice for Block {
    const TYPE: u32 = VIRTIO_ID_BLOCK;
    const QUEUES: &'static [u16] = &[QUEUE_SIZE];

    fn features(&self) -> u64 {
        let access = if self.disk.read_only { 1 << VIRTIO_BLK_F_RO } else { ERASES };
        let flush = u64::from(self.cache == CacheType::Writeback) << VIRTIO_BLK_F_FLUSH;
        1 << VIRTIO_BLK_F_SEG_MAX | access | flush
    }

    fn config(&self) -> &[u8] {
        &self.config
    }

    fn activate(&mut self, features: u64, rings: &mut Rings) -> Result<(), DeviceError> {
        self.write_through = self.cache == CacheType::Writeback && features & 1 << VIRTIO_BLK_F_FLUSH == 0;
        self.serve(rings).inspect_err(|_| self.metrics.activate_fails.inc())
    }

    fn notify(&mut self, _index: usize, rings: &mut Rings) -> Result<(), DeviceError> {
        self.metrics.queue_event_count.inc();
        self.serve(rings)
    }

    fn descriptors(&self) -> Vec<RawFd> {
        vec![self.turns.descriptor(), self.limiter.descriptor()]
    }

    fn host_event(&mut self, rings: &mut Rings) -> Result<(), DeviceError> {
        self.metrics.rate_limiter_event_count.inc();
        self.serve(rings)
    }

    fn reset(&mut self) {
        self.write_through = false;
        self.partial = None;
    }
}

/// Moves pieces of a request until all of it or its turn is over.
fn in_pieces(
    transfer: Transfer,
    turn: &mut Turn,
    moved: &Counter,
    piece: impl Fn(u64) -> Result<u64, Short>,
) -> Result<Progress, Short> {
    let mut done = transfer.done;
    while done < transfer.bytes {
        let before = done;
        done = piece(before)?;
        moved.add(done - before);
        if done < transfer.bytes && turn.is_over() {
            return Ok(Progress::Later(done));
        }
    }
    Ok(Progress::Done(done))
}

fn config(disk: &Disk) -> Config {
    let mut config = [0; size_of::<Config>()];
    config[..8].copy_from_slice(&disk.sectors.to_le_bytes());
    for (offset, value) in [
        (12, SEG_MAX),
        // max_discard_sectors, max_discard_seg, discard_sector_alignment; the same for zeroes, without alignment.
        (36, erase::SECTORS_MAX),
        (40, erase::RANGES_MAX),
        (44, erase::ALIGNMENT),
        (48, erase::SECTORS_MAX),
        (52, erase::RANGES_MAX),
        // write_zeroes_may_unmap, one byte: a range that is to be zero may become a hole.
        (56, 1),
    ] {
        config[offset..offset + 4].copy_from_slice(&value.to_le_bytes());
    }
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
