"""Verify an audit export without the package: python verify_audit.py FILE [PUBLIC_KEY_HEX]."""

import hashlib
import json
import sys
from pathlib import Path

try:
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.serialization import load_der_public_key
except ImportError:
    ed25519 = None


ED25519_BYTES = 32


def check(record: dict[str, object]) -> None:
    """Check the signature over a record's other fields; an InvalidSignature raised here is the answer."""
    body = {name: value for name, value in record.items() if name != "signature"}
    message = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    signature, public = bytes.fromhex(str(record["signature"])), bytes.fromhex(key)
    if len(public) == ED25519_BYTES:
        ed25519.Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    elif isinstance(loaded := load_der_public_key(public), ec.EllipticCurvePublicKey):
        loaded.verify(signature, message, ec.ECDSA(SHA256()))
    else:
        loaded.verify(signature, message, padding.PKCS1v15(), SHA256())


first, *lines = Path(sys.argv[1]).read_bytes().splitlines()
header, hashes, heads, digests = json.loads(first), ["0" * 64], [], []
key = sys.argv[2] if sys.argv[2:] else header["public_key"]
checks = ed25519 is not None and bool(key)
for line in lines:
    try:
        record = json.loads(line)
        if "signed_head" in record:
            heads.append(record["signed_head"])
            continue
        if "digest" in record:
            digests.append((record["digest"], line[len(b'{"digest":') : -1]))
            continue
        end = b',"hash":"%b"}' % record["hash"].encode()
        whole = line.endswith(end) and hashlib.sha256(line[: -len(end)] + b"}").hexdigest() == record["hash"]
        follows = (record["app"], record["seq"], record["previous"]) == (header["app"], len(hashes), hashes[-1])
    except (ValueError, KeyError, TypeError, AttributeError):
        whole = follows = False
    if not whole or not follows or heads or digests:
        sys.exit(f"event {len(hashes)} was altered, removed, inserted or moved")
    hashes.append(record["hash"])
for head in sorted(heads, key=lambda head: head["count"]):
    if checks:
        check({name: head[name] for name in ("app", "count", "head", "key", "signature")})
    if hashes[head["count"] : head["count"] + 1] != [head["head"]] or head["app"] != header["app"]:
        sys.exit(f"event {min(head['count'], len(hashes))} is missing, or is not the one that was signed")
previous, signed = "0" * 64, max([0, *(head["count"] for head in heads)])
for number, (digest, content) in enumerate(digests, 1):
    if checks:
        check(digest)
    names = ("app", "number", "first", "previous")
    if [digest[name] for name in names] != [header["app"], number, signed + 1, previous]:
        sys.exit(f"digest {number} is missing, or does not follow from the one before it")
    segment = b"".join(line + b"\n" for line in lines[signed : digest["last"]])
    if hashes[digest["last"] : digest["last"] + 1] != [digest["head"]]:
        sys.exit(f"one of the events {signed + 1} to {digest['last']} is missing, or is not the one that was signed")
    if hashlib.sha256(segment).hexdigest() != digest["segment_sha256"]:
        sys.exit(f"digest {number} was signed for another segment")
    previous, signed = hashlib.sha256(content).hexdigest(), digest["last"]
if hashes[1:] and not heads and not digests:
    sys.exit(f"none of the {len(hashes) - 1} events is covered by a signed head")
print(f"intact: {len(hashes) - 1} events; head {hashes[-1]}; last signed: {signed}")
print(f"signatures checked with {key}" if checks else "SIGNATURES WERE NOT CHECKED: `cryptography` or key missing")
