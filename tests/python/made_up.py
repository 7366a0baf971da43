# SPDX-License-Identifier: Apache-2.0
"""Requests by the hundreds, made from the OpenAPI description, for a crash or an answer outside of it.

    made_up.py SECRETVMM OPENAPI

Starts the VMM in the current folder with nothing configured, and schemathesis
against it: what fits the description, and what does not. The seed is fixed, so
that a finding is found again.
"""

import shutil
import socket
import subprocess
import sys
import threading
import time

from schemathesis.cli import schemathesis

SOCKET = "api.sock"
EXAMPLES = 15
CHECKS = [
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
]


def start(program):
    messages = open("messages", "wb")
    # It ends when this program ends, in whatever way.
    command = ["setpriv", "--pdeathsig", "KILL", program, "--api-sock", SOCKET]
    vmm = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=messages, stderr=messages)
    for _ in range(100):
        try:
            connect().close()
            return vmm
        except OSError:
            time.sleep(0.05)
    sys.exit("The VMM does not listen: " + open("messages").read())


def connect():
    stream = socket.socket(socket.AF_UNIX)
    stream.connect(SOCKET)
    return stream


def bridge():
    """Carries connections from a TCP port, which is all that schemathesis can talk to; gives the port."""
    listener = socket.create_server(("127.0.0.1", 0))

    def carry(source, sink):
        try:
            while data := source.recv(65536):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def accept():
        while True:
            client, _ = listener.accept()
            try:
                server = connect()
            except OSError:
                client.close()
                continue
            threading.Thread(target=carry, args=(client, server), daemon=True).start()
            threading.Thread(target=carry, args=(server, client), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    return listener.getsockname()[1]


def main():
    program, description = sys.argv[1:]
    # Beside what the VMM is told to write, so that nothing else is found under a name that is made up.
    shutil.copy(description, "openapi.json")
    vmm = start(program)
    arguments = ["run", "openapi.json", f"--url=http://127.0.0.1:{bridge()}", "--seed=1", "--no-color"]
    arguments += [f"--max-examples={EXAMPLES}", "--phases=examples,coverage,fuzzing", f"--checks={','.join(CHECKS)}"]
    arguments += ["--request-timeout=10", "--warnings=off", "--continue-on-failure"]
    try:
        code = schemathesis.main(arguments, standalone_mode=False)
    except SystemExit as ending:
        # How it ends a run, also a good one.
        code = ending.code
    status = vmm.poll()
    vmm.kill()
    said = open("messages", errors="replace").read()
    if status is not None or "panicked" in said:
        sys.exit(f"The VMM ended with {status}:\n{said[-3000:]}")
    sys.exit(code)


main()
