"""Who signs the record: an Ed25519 key (RFC 8032) in a file, and the seam for a key kept elsewhere.

A public key is told by its bytes: 32 of them are an Ed25519 key, anything else is the DER of a SubjectPublicKeyInfo
(RFC 5280, section 4.1), as AWS KMS and `openssl pkey -pubout -outform DER` write it.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from ..errors import StoreError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

_KEY_ID_DIGITS = 16
_PUBLIC_BYTES = 32


class Signer(Protocol):
    """Signs messages with one key."""

    @property
    def key_id(self) -> str:
        """Which key signs; asking makes the key where it is missing."""
        ...

    def sign(self, message: bytes) -> bytes:
        """Return the signature of a message."""
        ...

    def public_key(self) -> bytes | None:
        """Return the public key, 32 bytes or DER; None where there is no key yet. Makes none."""
        ...

    def exists(self) -> bool:
        """Whether there is a key, or was one: its public half is kept."""
        ...


def key_id(public_key: bytes) -> str:
    """Return the short name of a public key: the first 16 digits of its SHA-256."""
    return hashlib.sha256(public_key).hexdigest()[:_KEY_ID_DIGITS]


def genuine(public_key: bytes, message: bytes, signature: bytes) -> bool:
    """Whether a signature of a message is that of the key's owner.

    Args:
        public_key: 32 bytes for Ed25519; DER for RSA (PKCS #1 v1.5, RFC 8017) and ECDSA (FIPS 186-5), with SHA-256.
        message: What was signed.
        signature: The signature.

    Raises:
        StoreError: It is no public key of these kinds.
    """
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        if len(public_key) == _PUBLIC_BYTES:
            Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
        else:
            _verify_der(public_key, message, signature)
    except InvalidSignature:
        return False
    return True


def _verify_der(public_key: bytes, message: bytes, signature: bytes) -> None:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.serialization import load_der_public_key

    try:
        key = load_der_public_key(public_key)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise StoreError(f"{len(public_key)} bytes are no public key: {error}.", hint=_KINDS) from error
    match key:
        case rsa.RSAPublicKey():
            key.verify(signature, message, padding.PKCS1v15(), SHA256())
        case ec.EllipticCurvePublicKey():
            key.verify(signature, message, ec.ECDSA(SHA256()))
        case _:
            raise StoreError(f"a public key of the kind {type(key).__name__} cannot be used.", hint=_KINDS)


_KINDS = "Use an Ed25519 key (32 bytes), or the DER of an RSA or ECDSA key."


class KeyFile:
    """An Ed25519 key in a file (PEM, PKCS #8), with its public half in hexadecimal beside it.

    Both are made, once, when something is signed for the first time. Reading needs the public half only.

    Args:
        path: The private key; the public key is beside it, as `<path>.pub`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.public_path = path.with_name(f"{path.name}.pub")

    @property
    def key_id(self) -> str:
        """See `Signer.key_id`."""
        return self._identity

    def sign(self, message: bytes) -> bytes:
        """See `Signer.sign`."""
        return self._private.sign(message)

    def exists(self) -> bool:
        """See `Signer.exists`."""
        return self.path.exists() or self.public_path.exists()

    def public_key(self) -> bytes | None:
        """See `Signer.public_key`.

        Raises:
            StoreError: A key file cannot be read.
        """
        if not self.public_path.exists():
            return self._public_half() if self.path.exists() else None
        try:
            found = bytes.fromhex(self.public_path.read_text(encoding="ascii"))
        except (OSError, ValueError) as error:
            raise StoreError(f"{self.public_path} cannot be read: {error}.", hint=_PUT_BACK) from error
        if len(found) != _PUBLIC_BYTES:
            raise StoreError(f"{self.public_path} holds no Ed25519 key of 32 bytes.", hint=_PUT_BACK)
        return found

    @cached_property
    def _identity(self) -> str:
        return key_id(self._public_half())

    @cached_property
    def _private(self) -> Ed25519PrivateKey:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        try:
            if not self.path.exists():
                self._make()
            loaded = load_pem_private_key(self.path.read_bytes(), password=None)
            if not isinstance(loaded, Ed25519PrivateKey):
                raise StoreError(f"{self.path} holds a key of another kind.", hint="Name an Ed25519 key, or none.")
            if not self.public_path.exists():
                _place(self.public_path, loaded.public_key().public_bytes_raw().hex().encode() + b"\n", mode=0o644)
        except (OSError, ValueError, TypeError) as error:
            raise StoreError(f"the key {self.path} cannot be used: {error}.", hint=_PUT_BACK) from error
        return loaded

    def _public_half(self) -> bytes:
        return self._private.public_key().public_bytes_raw()

    def _make(self) -> None:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        if self.public_path.exists():
            raise StoreError(f"the key {self.path} is gone, and {self.public_path} is there.", hint=_PUT_BACK)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        pem = Ed25519PrivateKey.generate().private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        _place(self.path, pem, mode=0o600)


_PUT_BACK = "Put the key back, or name where it is with the setting `audit_key`."


def _place(path: Path, content: bytes, *, mode: int) -> None:
    """Let a file appear whole, unless it is there already: of several processes, the first one's stays."""
    draft = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(draft, path)
        except FileExistsError:
            return
    finally:
        draft.unlink()
