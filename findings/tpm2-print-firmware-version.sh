#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# tpm2-tools 5.4 (Debian 5.4-1), `tpm2_print -t TPMS_ATTEST`: the firmware's version in a quote.
#
# Expected: `firmwareVersion` as the TPM signed it, a big-endian number whose halves are TPM2_PT_FIRMWARE_VERSION_1 and
#           _2 (TPM 2.0 Library, Part 2, TPMS_ATTEST), as `tpm2_getcap properties-fixed` prints them. `magic`, in the
#           lines above, is printed that way.
# Seen:     its eight bytes in reverse order, on a little-endian machine.
#
# Whoever compares what is printed with the vendor's version, or with the message's bytes, sees another firmware.
set -euo pipefail
work=$(mktemp -d); chmod 755 "$work"; cd "$work"
trap '[ -f pid ] && kill "$(cat pid)"; rm -rf "$work"' EXIT

# Both come from Debian 12; the version is the finding's, so another one says nothing.
version=$(dpkg-query -Wf '${Version}' tpm2-tools 2>/dev/null || true)
if [ "$version" != 5.4-1 ] || ! command -v swtpm >/dev/null; then
    echo "Install tpm2-tools=5.4-1 and swtpm (Debian 12); found tpm2-tools '$version'"
    exit 2
fi

swtpm socket --tpm2 --tpmstate dir="$work" --server type=unixio,path=s --ctrl type=unixio,path=s.ctrl \
    --flags not-need-init,startup-clear --pid file="$work/pid" --daemon
export TPM2TOOLS_TCTI=swtpm:path=$work/s
tpm2_createek -Q -c ek.ctx -G ecc
tpm2_createak -Q -C ek.ctx -c ak.ctx -G ecc -g sha256 -s ecdsa
tpm2_flushcontext -t
tpm2_quote -Q -c ak.ctx -l sha256:0 -q 00112233 -m message -s signature -g sha256

printed=$(tpm2_print -t TPMS_ATTEST message | sed -n 's/^firmwareVersion: //p')
half() { tpm2_getcap properties-fixed | grep -A1 "FIRMWARE_VERSION_$1" | sed -n 's/.*raw: //p'; }
expected=$(printf '%08x%08x' "$(half 1)" "$(half 2)")
reversed=$(printf %s "$expected" | fold -w2 | tac | tr -d '\n')
echo "tpm2_getcap: $expected"
echo "tpm2_print:  $printed"
xxd -p message | tr -d '\n' | grep -q "$expected" && echo "The message has the bytes as tpm2_getcap prints them"
[ "$printed" = "$reversed" ] && [ "$printed" != "$expected" ]
