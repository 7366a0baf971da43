// SPDX-License-Identifier: Apache-2.0
//! What the witness outside and its agent inside the nested host say to each other: a line of JSON each.

use serde::{Deserialize, Serialize};

/// Begins each answer; what follows is an [`Answer`].
pub const ANSWER: &str = "agent: ";

/// What is to be done next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "order")]
pub enum Order {
    /// Nothing but to answer.
    Wait,
    /// Boot a guest to its shell.
    Start {
        /// Arguments of `secretvmm` besides the kernel, such as `--mem 64M`.
        arguments: Vec<String>,
    },
    /// Let the guest power off, and wait for its VMM's end.
    Stop,
    /// Kill the VMM and wait for its end.
    Kill,
    /// Hold secret memory without a guest, each page a canary: what a kernel without the series can do.
    Hold {
        /// How much.
        mib: u64,
    },
    /// Give back what is held.
    Release,
    /// Map one canary of the guest into the kernel, as no part of the kernel may: a control of the witness.
    Leak {
        /// How.
        kind: Leak,
    },
    /// Take that mapping away.
    Mend,
}

/// Ways in which a frame can be in the kernel's page tables when it must not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Leak {
    /// A mapping of its own, by `vmap()`.
    Vmap,
    /// Its own page of the direct map, put back.
    Direct,
    /// An address of the kernel's image.
    Image,
}

impl Leak {
    /// All of them.
    pub const ALL: [Leak; 3] = [Leak::Vmap, Leak::Direct, Leak::Image];

    /// For people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Vmap => "vmap()",
            Self::Direct => "the direct map",
            Self::Image => "the kernel image's address",
        }
    }
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "answer")]
pub enum Answer {
    /// There was nothing to do.
    Waited,
    /// A guest runs.
    Started(Running),
    /// None does.
    Ended,
    /// The frame that is mapped now.
    Leaked {
        /// Its number.
        pfn: u64,
    },
    /// None is any more.
    Mended,
}

/// A guest that runs, in the words of its own host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    /// The VMM.
    pub pid: u32,
    /// What the guest's canaries are derived from, in hexadecimal.
    pub seed: String,
    /// How many canaries it planted, each in a page of its own.
    pub canaries: u64,
    /// The VMM's large writable mappings: addresses of the first byte and after the last.
    pub mappings: Vec<(u64, u64)>,
    /// Pages of secret memory, as the kernel counts them; 0 with ordinary memory.
    pub secret_pages: u64,
    /// How many of them the direct map has.
    pub direct_mapped: u64,
}
