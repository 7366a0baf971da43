// SPDX-License-Identifier: Apache-2.0
//! The suites of `cargo xtask test`: which tests run on which nested host.

use std::time::Duration;

use clap::builder::PossibleValue;

use crate::host::Host;
use crate::nested::MachineArgs;

/// Tests on one kind of nested host.
pub(crate) struct NestedSuite {
    /// A module of tests/nested has the same name, unless the suite's tests are others', on another host.
    pub(crate) name: &'static str,
    /// What its host is.
    pub(crate) what: &'static str,
    /// Modules of tests/nested.
    modules: &'static [&'static str],
    /// Tests that cannot work on this host: it has not the memory, or nothing that they count.
    without: &'static [&'static str],
    pub(crate) host: Host,
    /// Its memory, as `--mem` takes it.
    mem: &'static str,
    /// Its NUMA nodes.
    nodes: u32,
    /// With an IOMMU and a device behind it.
    dma: bool,
    /// With memory full of what was there before.
    stale: bool,
    /// Added to the kernel command line.
    append: &'static str,
    /// No part of the suite takes so long; one that does hangs.
    pub(crate) limit: Duration,
    /// Runs with `--full` only.
    full: bool,
}

/// The lab's suite; the others say what is different.
const LAB: NestedSuite = NestedSuite {
    name: "lab",
    what: "the patched kernel with everything a prober could use: kcore, ptdump, modules, BPF, kprobes",
    modules: &["lab"],
    without: &[],
    host: Host::Lab,
    mem: "6G",
    nodes: 1,
    dma: false,
    stale: false,
    append: "",
    limit: Duration::from_secs(25 * 60),
    full: false,
};

/// The lab's tests once more, on another machine or kernel.
const VARIANT: NestedSuite = NestedSuite { limit: Duration::from_secs(50 * 60), full: true, ..LAB };

/// So little memory that a test can take it all.
const SMALL: NestedSuite = NestedSuite {
    name: "small",
    what: "lab with 512 MiB, so that a test can take them all",
    modules: &["small"],
    mem: "512M",
    ..LAB
};

/// Every probe of the matrix: a second node to move pages to, a pool that one of its guests fills, memory kept for a kernel
/// after a crash, and little of it all to scan.
pub(crate) const MATRIX: NestedSuite = NestedSuite {
    name: "matrix",
    what: "lab on two nodes with a pool, memory for a kernel after a crash, an IOMMU and a device behind it, for every probe",
    modules: &["matrix"],
    mem: "2G",
    nodes: 2,
    dma: true,
    append: "secretmem=0:128M crashkernel=64M",
    ..LAB
};

/// Guests that a host of 2 GiB cannot hold.
const LARGE: &[&str] = &["lab::boot::memory_2g_is_all_there", "lab::boot::memory_5g_continues_above_the_hole"];

/// What needs an image of Debian, or Python packages.
const DISTRIBUTIONS: &[&str] = &[
    "devices::client::firecracker_python_creates_pauses_and_deletes_a_vm",
    "devices::debian::debian_on_our_kernel_lives_a_whole_life",
    "devices::debian::debian_on_its_own_cloud_kernel_lives_a_whole_life",
];

/// What has no meaning with `debug_pagealloc`: a control that counts splits, where nothing is left to split, and the size
/// of the direct map, which lacks all free memory.
const WHOLE_MAP: &[&str] = &[
    "lab::pages::guest_ram_with_huge_off_is_4k_and_splits_the_direct_map",
    "lab::ending::power_off_gives_everything_back",
    "lab::ending::sigint_code_130_gives_everything_back",
    "lab::ending::sigkill_before_the_guest_is_up_gives_everything_back",
    "lab::ending::sigkill_gives_everything_back",
    "lab::ending::sigterm_code_143_gives_everything_back",
];

pub(crate) const SUITES: [NestedSuite; 19] = [
    LAB,
    NestedSuite {
        name: "devices",
        what: "lab, for disks, networks, sockets and the API",
        modules: &["devices"],
        without: DISTRIBUTIONS,
        ..LAB
    },
    NestedSuite { name: "pool", what: "lab with `secretmem=1G`", modules: &["pool"], append: "secretmem=1G", ..LAB },
    NestedSuite {
        name: "pool_forms",
        what: "lab on two nodes with every form of `secretmem=`, of which the last counts",
        modules: &["pool_forms"],
        mem: "2G",
        nodes: 2,
        // Only the last counts, and in that node 9 is not there.
        append: "secretmem secretmem=large secretmem= secretmem=0 secretmem=64M, secretmem=0:64M;1:64M secretmem=:64M \
                 secretmem=99999:64M secretmem=64Mx secretmem=0:64M,9:64M,1:33M",
        ..LAB
    },
    NestedSuite {
        name: "pool_stale",
        what: "lab with 64 MiB of pool, on a machine whose memory is full of what was there before a reset",
        modules: &["pool_stale"],
        mem: "512M",
        stale: true,
        append: "secretmem=64M",
        ..LAB
    },
    MATRIX,
    NestedSuite {
        name: "matrix_policy",
        what: "the same with yama's `ptrace_scope` at 3",
        modules: &["matrix_policy"],
        ..MATRIX
    },
    SMALL,
    NestedSuite {
        name: "disabled",
        what: "lab with `secretmem.enable=0`",
        modules: &["disabled"],
        append: "secretmem.enable=0",
        ..LAB
    },
    NestedSuite {
        name: "shipped",
        what: "the patched kernel as operators configure it",
        modules: &["shipped"],
        host: Host::Shipped,
        ..LAB
    },
    NestedSuite {
        name: "stock",
        what: "Debian's own kernel, to show what happens without the series",
        modules: &["stock"],
        host: Host::Stock,
        ..LAB
    },
    NestedSuite {
        name: "stock_small",
        what: "the same with 512 MiB",
        modules: &["stock_small"],
        host: Host::Stock,
        ..SMALL
    },
    NestedSuite {
        name: "matrix_full",
        what: "matrix at its other moments",
        modules: &["matrix_full"],
        limit: Duration::from_secs(180 * 60),
        full: true,
        ..MATRIX
    },
    NestedSuite {
        name: "matrix_policy_full",
        what: "matrix_policy at its other moments",
        modules: &["matrix_policy_full"],
        limit: Duration::from_secs(60 * 60),
        full: true,
        ..MATRIX
    },
    NestedSuite {
        name: "debian",
        what: "devices' guests with whole distributions, and a client made by others",
        modules: &["devices::debian", "devices::client"],
        full: true,
        ..LAB
    },
    NestedSuite {
        name: "map2m",
        what: "lab's tests on little memory and a direct map of 2M entries",
        mem: "2G",
        without: LARGE,
        append: "nogbpages",
        ..VARIANT
    },
    NestedSuite {
        name: "map4k",
        what: "lab's tests on a direct map of 4K entries",
        without: WHOLE_MAP,
        append: "debug_pagealloc=on",
        ..VARIANT
    },
    NestedSuite {
        name: "numa",
        what: "lab's tests, and its own, on two nodes",
        modules: &["lab", "numa"],
        nodes: 2,
        ..VARIANT
    },
    NestedSuite {
        name: "debug",
        what: "lab's tests, and its own, with KASAN, lockdep, kmemleak and page-table checks",
        modules: &["lab", "debug"],
        host: Host::Debug,
        mem: "8G",
        limit: Duration::from_secs(240 * 60),
        ..VARIANT
    },
];

impl NestedSuite {
    /// The suites to run: the one of this name, or all of them, or those of every day.
    pub(crate) fn wanted(full: bool, only: Option<&str>) -> impl Iterator<Item = &'static Self> {
        SUITES.iter().filter(move |suite| only.map_or(full || !suite.full, |only| suite.name == only))
    }

    /// The suite of this name.
    pub(crate) fn find(name: &str) -> Option<&'static Self> {
        SUITES.iter().find(|suite| suite.name == name)
    }

    /// What `--suite` takes.
    pub(crate) fn values() -> impl Iterator<Item = PossibleValue> {
        SUITES.iter().map(|suite| PossibleValue::new(suite.name).help(suite.line()))
    }

    /// What its host is, on a line.
    fn line(&self) -> String {
        format!("{}{}", self.what, if self.full { "; with --full" } else { "" })
    }

    /// Its tests among all, as far as the filter leaves them.
    pub(crate) fn select(&self, names: &[String], filter: Option<&str>) -> Vec<String> {
        let wanted = |name: &&String| {
            self.modules.iter().any(|module| in_module(name, module))
                && !self.without.contains(&name.as_str())
                && filter.is_none_or(|filter| name.contains(filter))
        };
        names.iter().filter(wanted).cloned().collect()
    }

    /// Whether its guests have Debian on their disks, and a client made by others.
    pub(crate) fn needs_debian(&self) -> bool {
        self.modules.contains(&"devices::debian")
    }

    /// The machine its hosts are.
    pub(crate) fn machine(&self) -> MachineArgs {
        MachineArgs {
            mem: self.mem.into(),
            nodes: self.nodes,
            dma: self.dma,
            stale: self.stale,
            append: self.append.into(),
            ..MachineArgs::default()
        }
    }
}

/// Whether a filter names a test of a nested host.
pub(crate) fn is_nested(filter: &str) -> bool {
    SUITES.iter().flat_map(|suite| suite.modules).any(|module| in_module(filter, module))
}

fn in_module(name: &str, module: &str) -> bool {
    name.strip_prefix(module).is_some_and(|rest| rest.starts_with("::"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn suite(name: &str) -> &'static NestedSuite {
        SUITES.iter().find(|suite| suite.name == name).unwrap_or(&SUITES[0])
    }

    #[test]
    fn select_takes_one_hosts_tests_that_match() {
        let names = ["lab::boot::a", "lab::boot::b", "stock::boot::a", "debug::c"].map(str::to_owned);
        assert_eq!(suite("lab").select(&names, None).len(), 2);
        assert_eq!(suite("lab").select(&names, Some("::a")), ["lab::boot::a"]);
        assert_eq!(suite("debug").select(&names, None).len(), 3);
        assert!(suite("shipped").select(&names, None).is_empty());
        assert!(is_nested("lab::boot") && !is_nested("lab") && !is_nested("labour::x"));
    }

    #[test]
    fn select_leaves_out_what_does_not_fit() {
        let names = LARGE.iter().map(|name| name.to_string()).collect::<Vec<_>>();
        assert!(suite("map2m").select(&names, None).is_empty());
        assert_eq!(suite("map4k").select(&names, None).len(), LARGE.len());
    }

    #[test]
    fn select_deals_the_devices_tests_to_one_of_two_suites() {
        let names: Vec<String> =
            DISTRIBUTIONS.iter().chain(&["devices::blocks::a"]).map(|name| name.to_string()).collect();
        assert_eq!(suite("devices").select(&names, None), ["devices::blocks::a"]);
        assert_eq!(suite("debian").select(&names, None), DISTRIBUTIONS);
        assert!(suite("debian").full && suite("debian").needs_debian());
        assert!(!suite("devices").full && !suite("devices").needs_debian());
    }

    /// The one list is this; a part of ARCHITECTURE.md is made from it.
    #[test]
    fn architecture_has_the_list_of_suites() {
        let rows: String = SUITES.iter().map(|suite| format!("| {} | {} |\n", suite.name, suite.line())).collect();
        let text = include_str!("../../ARCHITECTURE.md");
        assert!(text.contains(&format!("\n| Suite | Host |\n|---|---|\n{rows}\n")), "It wants these rows:\n{rows}");
    }

    #[test]
    fn every_module_of_the_nested_tests_is_in_a_suite() {
        let modules = include_str!("../../tests/nested/main.rs").lines();
        for module in modules.filter_map(|line| line.strip_prefix("mod ")?.strip_suffix(';')) {
            let of = SUITES.iter().find(|suite| suite.name == module);
            assert!(module == "support" || of.is_some_and(|suite| suite.modules.contains(&module)), "{module}");
        }
    }

    #[test]
    fn wanted_variants_need_full() {
        assert!(NestedSuite::wanted(false, None).all(|suite| suite.name != "debug"));
        assert!(NestedSuite::wanted(true, None).any(|suite| suite.name == "debug"));
        let named = |full| NestedSuite::wanted(full, Some("debug")).map(|suite| suite.name).collect::<Vec<_>>();
        assert_eq!((named(false), named(true)), (vec!["debug"], vec!["debug"]));
    }
}
