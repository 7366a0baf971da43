// SPDX-License-Identifier: Apache-2.0
//! What an allocation can be refused for, and what a program can do wrong.

use std::io;

use crate::{Unavailable, memlock};

/// Why there is no secret memory for this.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AllocError {
    /// The kernel gives none.
    #[error("Secret memory is not available")]
    Unavailable(#[from] Unavailable),
    /// The limit of locked memory is too low.
    #[error("Secret memory has no room")]
    Memlock(#[from] memlock::Error),
    /// The range of addresses could not be reserved.
    #[error("4 GiB of addresses could not be reserved; raise the limit of the address space (ulimit -v)")]
    Reserve(#[source] io::Error),
    /// Pages could not be had.
    #[error("{len} bytes of secret memory could not be mapped; see RLIMIT_MEMLOCK (ulimit -l) and free memory")]
    Map {
        /// Bytes asked of the kernel.
        len: usize,
        /// EAGAIN, EDQUOT: RLIMIT_MEMLOCK; ENOMEM: memory or the number of mappings; EMFILE: descriptors.
        source: io::Error,
    },
    /// `pthread_atfork(3)` failed.
    #[error("The handlers for fork could not be registered")]
    Atfork(#[source] io::Error),
    /// Another configuration is in force: the first use fixes it.
    #[error("Secret memory is in use already with another configuration; call init first")]
    Configured,
    /// A mode that small allocations cannot be made of.
    #[error("Small allocations cannot be made of 2 MiB pages; use SecretFile for the mode HUGE")]
    Huge,
    /// Zero bytes were asked for.
    #[error("An allocation of 0 bytes was asked for; ask for 1 or more")]
    Zero,
    /// More than an allocation may have.
    #[error("An allocation of {0} bytes is too large; at most 1 GiB is possible, use SecretFile for more")]
    TooLarge(usize),
    /// No power of two, or more than a page.
    #[error("An alignment of {0} bytes is not possible; use a power of two up to 4096")]
    Alignment(usize),
    /// All addresses are in use.
    #[error("The 4 GiB of addresses for secret memory are used up; free allocations first")]
    Full,
    /// A signal handler allocates while its own thread is inside the allocator.
    #[error("A signal handler allocated while its thread was inside the allocator; allocate outside of handlers")]
    Reentered,
    /// The pointer to reallocate was none of ours.
    #[error("The allocation cannot be changed")]
    Misuse(#[from] Misuse),
}

/// A pointer was used in a way that ends the program, as its memory can no longer be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Misuse {
    /// The address was not allocated here.
    #[error("{0:#x} was freed but never allocated in secret memory")]
    Foreign(usize),
    /// The allocation is free already.
    #[error("{0:#x} was freed twice")]
    DoubleFree(usize),
    /// Bytes behind the allocation have changed.
    #[error("{1} bytes at {0:#x} were written past their end")]
    Overflow(usize, usize),
    /// A free slot was written to. Found when it is used again.
    #[error("Memory at {0:#x} was written after it was freed")]
    WrittenAfterFree(usize),
    /// A signal handler frees while its own thread is inside the allocator.
    #[error("A signal handler freed {0:#x} while its thread was inside the allocator; free outside of handlers")]
    Reentered(usize),
}

impl Misuse {
    /// Says what happened on standard error, and aborts.
    pub fn stop(self) -> ! {
        say(format_args!("{self}"));
        std::process::abort()
    }
}

/// A line on standard error; a closed one is no reason to fail.
pub(crate) fn say(text: std::fmt::Arguments<'_>) {
    use std::io::Write;
    let _ = writeln!(io::stderr(), "secretmem: {text}");
}

/// An error and what it comes from, on one line.
pub(crate) fn error_chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
