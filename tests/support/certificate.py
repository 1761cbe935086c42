"""A certificate for 127.0.0.1 that nobody signed but itself, for what goes over TLS only."""

import ssl
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.support.bedrock_endpoint import BedrockEndpoint


def self_signed(folder: Path) -> tuple[Path, ssl.SSLContext]:
    """Return the file that a client has to trust, and the context that a server uses."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    trusted, private = folder / "certificate.pem", folder / "key.pem"
    trusted.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(trusted, private)
    return trusted, context


def over_tls(endpoint: BedrockEndpoint, folder: Path, patch: pytest.MonkeyPatch) -> str:
    """Let an endpoint speak TLS only, and clients trust it; return its URL."""
    trusted, context = self_signed(folder)
    endpoint._server.socket = context.wrap_socket(endpoint._server.socket, server_side=True)
    patch.setenv("AWS_CA_BUNDLE", str(trusted))
    return endpoint.url.replace("http:", "https:")
