#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# memfd_secret(2), Debian's manpages-dev 6.03-2, on Linux from 5.14.
#
# Expected: the manual page names one flag, FD_CLOEXEC, so memfd_secret(FD_CLOEXEC) gives a close-on-exec descriptor.
# Seen:     EINVAL. The flag that the kernel takes is O_CLOEXEC (mm/secretmem.c), which the page does not name.
#
# FD_CLOEXEC is 1 and belongs to fcntl(F_SETFD). Whoever follows the page gets no secret memory, and may take EINVAL
# for a kernel without it. Kernels with the patches of this repository give the value 1 another meaning: use another.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"; chmod 755 .

apt-get -qq download manpages-dev=6.03-2
dpkg -x manpages-dev_*.deb .
echo "The page says:"
zcat usr/share/man/man2/memfd_secret.2.gz | grep -A3 'FD_CLOEXEC'

python3 - <<'PYTHON'
import ctypes, errno, fcntl, os, sys

libc = ctypes.CDLL(None, use_errno=True)

def memfd_secret(flags):
    """A descriptor, or a negative errno."""
    fd = libc.syscall(447, ctypes.c_uint(flags))
    return fd if fd >= 0 else -ctypes.get_errno()

plain = memfd_secret(0)
if plain < 0:
    print(f"No memfd_secret on this machine: {os.strerror(-plain)}")
    sys.exit(2)
by_page, by_kernel = memfd_secret(fcntl.FD_CLOEXEC), memfd_secret(os.O_CLOEXEC)
print("memfd_secret(FD_CLOEXEC):", os.strerror(-by_page) if by_page < 0 else "a descriptor")
print("memfd_secret(O_CLOEXEC): ", os.strerror(-by_kernel) if by_kernel < 0 else "a descriptor")
closes = by_kernel >= 0 and fcntl.fcntl(by_kernel, fcntl.F_GETFD) & fcntl.FD_CLOEXEC
sys.exit(0 if by_page == -errno.EINVAL and closes else 1)
PYTHON
