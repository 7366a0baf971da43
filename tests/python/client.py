# SPDX-License-Identifier: Apache-2.0
"""firecracker-python as its users use it: creates a VM, looks at it, deletes it.

    client.py KERNEL ROOTFS

Prints a line for each step and waits for one on standard input before the next.
"""

import sys

from firecracker import MicroVM


def step(name, said):
    print(f"{name}: {said}", flush=True)
    sys.stdin.readline()


kernel, rootfs = sys.argv[1:]
vm = MicroVM(
    name="guest",
    kernel_file=kernel,
    base_rootfs=rootfs,
    vcpu=1,
    memory=256,
    ip_addr="172.16.0.2",
    mmds_enabled=True,
    user_data="hello from the host",
    vsock_enabled=True,
)
step("create", vm.create())
step("list", vm.list())
step("config", vm.config())
step("pause", vm.pause())
step("resume", vm.resume())
step("delete", vm.delete())
