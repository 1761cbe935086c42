"""A key in KMS signs; who verifies needs its public half and no call."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key

from bedrock_evolution.dna.aws.calls import Clients
from bedrock_evolution.dna.aws.sealing.kms import KmsSigner, _places
from bedrock_evolution.dna.signing import genuine, key_id
from bedrock_evolution.errors import StoreError, StoreUnavailable
from tests.dna.aws.sealing import behind, clients, new_key, one_session, watched
from tests.support.cloud import REGIONS, Cloud, cloud
from tests.support.moto_server import moto_server

pytestmark = pytest.mark.slow

HERE, THERE = REGIONS
NOWHERE = "http://127.0.0.1:9"


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with moto_server() as running:
        yield running.url


@pytest.fixture(scope="module")
def where(server: str) -> Cloud:
    return cloud(server, server)


@pytest.fixture(scope="module")
def key(where: Cloud) -> str:
    return new_key(where)


@pytest.fixture
def signer(where: Cloud, key: str) -> KmsSigner:
    return KmsSigner(clients(where), key, [HERE])


def test_a_signature_is_verified_with_the_public_key_alone(signer: KmsSigner) -> None:
    message = "é 字".encode()
    signature, public_key = signer.sign(message), signer.public_key()
    assert public_key is not None
    loaded = load_der_public_key(public_key)
    assert isinstance(loaded, rsa.RSAPublicKey)
    loaded.verify(signature, message, padding.PKCS1v15(), SHA256())
    assert genuine(public_key, message, signature)
    assert not genuine(public_key, message + b" ", signature)
    assert not genuine(public_key, message, bytes(len(signature)))
    assert not genuine(public_key, message, b"")


def test_a_key_is_named_by_the_hash_of_its_public_half(signer: KmsSigner) -> None:
    public_key = signer.public_key()
    assert public_key is not None
    assert signer.exists()
    assert signer.key_id == hashlib.sha256(public_key).hexdigest()[:16]


def test_the_public_key_is_fetched_once(where: Cloud, key: str) -> None:
    calls = watched(where)
    signer = KmsSigner(calls, key, [HERE])
    for message in (b"one", b"two"):
        signer.sign(message)
    assert signer.key_id
    assert calls.operations == ["get_public_key", "sign", "sign"]


def test_a_key_that_is_not_there_is_told(where: Cloud) -> None:
    signer = KmsSigner(clients(where), "00000000-0000-0000-0000-000000000000", [HERE, THERE])
    assert signer.public_key() is None
    assert not signer.exists()
    with pytest.raises(StoreError, match=f"no KMS key 0.* in {HERE}, {THERE}") as error:
        signer.sign(b"message")
    assert "store init" in error.value.hint
    assert "audit_kms_key" in error.value.hint


def test_a_key_that_cannot_sign_with_rsa_is_refused(where: Cloud) -> None:
    signer = KmsSigner(clients(where), new_key(where, "ECC_NIST_P256"), [HERE])
    for attempt in (signer.public_key, lambda: signer.sign(b"message")):
        with pytest.raises(StoreError, match="cannot sign with RSA"):
            attempt()


def test_a_message_that_is_too_long_for_kms_is_refused_before_it_is_sent(signer: KmsSigner) -> None:
    assert signer.sign(bytes(4096))
    with pytest.raises(StoreError, match="4097 bytes"):
        signer.sign(bytes(4097))


def test_an_alias_that_names_another_key_by_now_is_noticed(where: Cloud, key: str) -> None:
    kms = behind(where, "kms")
    kms.create_alias(AliasName="alias/audit", TargetKeyId=key)
    signer = KmsSigner(clients(where), "alias/audit", [HERE])
    assert signer.sign(b"message")
    kms.update_alias(AliasName="alias/audit", TargetKeyId=new_key(where))
    with pytest.raises(StoreError, match="another key") as error:
        signer.sign(b"message")
    assert "ARN" in error.value.hint


def test_a_multi_region_key_signs_where_a_region_can_be_reached(where: Cloud, server: str) -> None:
    key = new_key(where, MultiRegion=True)
    behind(where, "kms").replicate_key(KeyId=key, ReplicaRegion=THERE)
    expected = KmsSigner(clients(where), key, [HERE]).public_key()
    arn = f"arn:aws:kms:{HERE}:123456789012:key/{key}"
    for name in (key, arn):
        cut_off = Clients(one_session, {HERE: NOWHERE, THERE: server}, attempts=1)
        signer = KmsSigner(cut_off, name, [HERE, THERE])
        assert signer.public_key() == expected
        assert expected is not None
        assert genuine(expected, b"message", signer.sign(b"message"))


def test_a_region_that_cannot_be_reached_may_have_the_key(server: str) -> None:
    cut_off = Clients(one_session, {HERE: NOWHERE, THERE: server}, attempts=1)
    signer = KmsSigner(cut_off, "00000000-0000-0000-0000-000000000000", [HERE, THERE])
    with pytest.raises(StoreUnavailable):
        signer.public_key()


@pytest.mark.parametrize(
    ("key", "places"),
    [
        ("1234", [(HERE, "1234"), (THERE, "1234")]),
        ("alias/audit", [(HERE, "alias/audit"), (THERE, "alias/audit")]),
        (f"arn:aws:kms:{THERE}:1:key/1234", [(THERE, f"arn:aws:kms:{THERE}:1:key/1234")]),
        (f"arn:aws:kms:{THERE}:1:alias/audit", [(THERE, f"arn:aws:kms:{THERE}:1:alias/audit")]),
        (
            f"arn:aws-cn:kms:{THERE}:1:key/mrk-1",
            [(THERE, f"arn:aws-cn:kms:{THERE}:1:key/mrk-1"), (HERE, f"arn:aws-cn:kms:{HERE}:1:key/mrk-1")],
        ),
    ],
)
def test_where_a_key_is_asked_for_follows_from_its_name(key: str, places: list[tuple[str, str]]) -> None:
    assert list(_places(key, REGIONS)) == places


# -- public keys of other kinds


def test_32_bytes_are_an_ed25519_key() -> None:
    private = ed25519.Ed25519PrivateKey.generate()
    public_key = private.public_key().public_bytes_raw()
    assert genuine(public_key, b"message", private.sign(b"message"))
    assert not genuine(public_key, b"messagE", private.sign(b"message"))


def der(public_key: rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed448.Ed448PublicKey) -> bytes:
    return public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def test_der_may_be_an_ecdsa_key() -> None:
    private = ec.generate_private_key(ec.SECP256R1())
    signature = private.sign(b"message", ec.ECDSA(SHA256()))
    assert genuine(der(private.public_key()), b"message", signature)
    assert not genuine(der(private.public_key()), b"messagE", signature)
    assert len(key_id(der(private.public_key()))) == 16


@pytest.mark.parametrize(
    "public_key",
    [b"", bytes(33), b"no key", der(ed448.Ed448PrivateKey.generate().public_key())],
    ids=["empty", "zeros", "text", "ed448"],
)
def test_what_is_no_public_key_of_these_kinds_is_refused(public_key: bytes) -> None:
    with pytest.raises(StoreError, match="public key") as error:
        genuine(public_key, b"message", bytes(64))
    assert "RSA" in error.value.hint
