"""The demo directory as a process of its own, on https: `python -m azure_auth.demo`, for tests of the production build.

It prints the settings with which the app finds it, then serves until it is ended.
"""

import argparse
import asyncio
import ipaddress
import os
import secrets
import signal
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import certifi
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from granian.constants import Interfaces
from granian.server.embed import Server

from azure_auth.demo import Directory


def main() -> None:
    """Parse the command line, print the app's settings and serve."""
    parser = argparse.ArgumentParser(prog="python -m azure_auth.demo", description=__doc__)
    parser.add_argument("--port", type=int, default=9443)
    parser.add_argument("--app", default="http://localhost:3000", help="the app's public address")
    parser.add_argument("--tenant", default="c0ffee00-0000-4000-8000-00000000cafe", help="the GUID of the tenant")
    options = parser.parse_args()
    origin = f"https://localhost:{options.port}"
    directory = Directory(
        tenant_id=options.tenant,
        client_id="deface00-0000-4000-8000-00000000face",
        client_secret=secrets.token_urlsafe(32),
        redirect_uris=(f"{options.app}/callback", f"{options.app}/logout"),
        front_channel=f"{options.app}/auth/frontchannel-logout",
        origin=origin,
    )
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())  # so that the folder goes as well
    with TemporaryDirectory(prefix="demo-directory-") as folder:
        certificate, key = _write_certificate(Path(folder))
        trusted = Path(folder) / "trusted.pem"  # whoever trusts the directory goes on trusting everybody else
        known = os.environ.get("SSL_CERT_FILE") or certifi.where()
        trusted.write_bytes(Path(known).read_bytes() + certificate.read_bytes())
        for name, value in (
            ("AZURE_TENANT_ID", directory.tenant_id),
            ("AZURE_CLIENT_ID", directory.client_id),
            ("AZURE_CLIENT_SECRET", directory.client_secret),
            ("AZURE_AUTHORITY_HOST", origin),
            ("SSL_CERT_FILE", trusted),
        ):
            print(f"{name}={value}", flush=True)
        server = Server(
            directory.app(),
            port=options.port,
            interface=Interfaces.ASGINL,
            ssl_cert=certificate,
            ssl_key=key,
            log_enabled=False,
        )
        asyncio.run(server.serve())


def _write_certificate(folder: Path) -> tuple[Path, Path]:
    """Write a certificate for localhost, valid for a day, and its key; return their paths."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, f"Demo directory {secrets.token_hex(4)}")])
    now = datetime.now(UTC)
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    certificate_path, key_path = folder / "certificate.pem", folder / "key.pem"
    certificate_path.write_bytes(certificate.public_bytes(Encoding.PEM))
    key_path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return certificate_path, key_path


if __name__ == "__main__":
    main()
