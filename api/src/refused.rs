// SPDX-License-Identifier: Apache-2.0
//! Why there is no such thing: what Firecracker has and secret memory rules out. The resources are
//! parsed all the same, so that a client hears about its mistakes first.

/// For `/balloon` and what is below it.
pub const BALLOON: &str = "There is no balloon: the kernel takes pages out of secret memory only when all of it is \
                           freed, so a guest cannot give any back while it runs; choose mem_size_mib accordingly";

/// For `/snapshot/create` and `/snapshot/load`.
pub const SNAPSHOT: &str = "There are no snapshots: the file would be a copy of the guest's memory that the host can \
                            read; stop the VM and start another one instead";

/// For `/pmem`.
pub const PMEM: &str = "There is no pmem device: it would make a file of the host, which is ordinary memory, part of \
                        the guest's memory; use a drive instead";

/// For `/hotplug/memory`.
pub const MEMORY_HOTPLUG: &str = "Memory cannot be plugged in: the size of secret memory and its slots are fixed \
                                  before the VM starts; choose mem_size_mib accordingly";

/// For a drive with a `socket`.
pub const VHOST_USER: &str = "There are no vhost-user devices: their process would have to map the guest's memory, \
                              which no other process can; give path_on_host instead of socket";

/// For `cpu_template`, and for `/cpu-config` that changes something.
pub const CPU_TEMPLATE: &str = "There are no CPU templates: the guest sees the host's processor; leave it out";

/// For `track_dirty_pages` in `/machine-config`.
pub const DIRTY_PAGES: &str = "Dirty pages are not tracked, as there are no snapshots that would need it: the file would \
                               be a copy of the guest's memory that the host can read; leave track_dirty_pages out";
