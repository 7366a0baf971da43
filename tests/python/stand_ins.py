# SPDX-License-Identifier: Apache-2.0
"""What firecracker-python wants from the world around it, on a host without one.

Its constructor asks a Docker daemon for its version, though no image is used,
and one of three public services for the host's address. This answers both, on
this machine only, so that the package itself can stay as it is:

    stand_ins.py ADDRESS FOLDER

writes FOLDER/authority.pem for REQUESTS_CA_BUNDLE and prints "ready".
"""

import datetime
import http.server
import os
import socketserver
import ssl
import sys
import threading

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

# The service that the package asks first; /etc/hosts sends it here.
SERVICE = "ifconfig.me"
DOCKER_SOCKET = "/var/run/docker.sock"


def answer(text, kind):
    """A handler that gives `text` to every GET."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            body = text.encode()
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def address_string(self):
            return "local"

        def log_message(self, *_):
            pass

    return Handler


def certificate(folder):
    """A certificate for the service, signed by itself; gives the paths of it and of its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, SERVICE)])
    now = datetime.datetime.now(datetime.timezone.utc)
    cert = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(SERVICE)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    cert_path, key_path = os.path.join(folder, "authority.pem"), os.path.join(folder, "key.pem")
    with open(cert_path, "wb") as file:
        file.write(cert.public_bytes(serialization.Encoding.PEM))
    with open(key_path, "wb") as file:
        file.write(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
    return cert_path, key_path


def main():
    address, folder = sys.argv[1:]
    docker = socketserver.ThreadingUnixStreamServer(
        DOCKER_SOCKET, answer('{"ApiVersion": "1.41", "Version": "20.10.24"}', "application/json")
    )
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(*certificate(folder))
    service = http.server.ThreadingHTTPServer(("127.0.0.1", 443), answer(address, "text/plain"))
    service.socket = tls.wrap_socket(service.socket, server_side=True)
    with open("/etc/hosts", "a") as hosts:
        hosts.write(f"127.0.0.1 {SERVICE}\n")
    threading.Thread(target=docker.serve_forever, daemon=True).start()
    threading.Thread(target=service.serve_forever, daemon=True).start()
    print("ready", flush=True)
    sys.stdin.read()


main()
