"""Verify an audit export without the package: python verify_audit.py FILE [PUBLIC_KEY_HEX]."""

import hashlib
import json
import sys
from pathlib import Path

try:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
except ImportError:
    Ed25519PublicKey = None
first, *lines = Path(sys.argv[1]).read_bytes().splitlines()
header, hashes, heads = json.loads(first), ["0" * 64], []
key = sys.argv[2] if sys.argv[2:] else header["public_key"]
checks = Ed25519PublicKey is not None and bool(key)
for line in lines:
    try:
        record = json.loads(line)
        if "signed_head" in record:
            heads.append(record["signed_head"])
            continue
        end = b',"hash":"%b"}' % record["hash"].encode()
        whole = line.endswith(end) and hashlib.sha256(line[: -len(end)] + b"}").hexdigest() == record["hash"]
        follows = (record["app"], record["seq"], record["previous"]) == (header["app"], len(hashes), hashes[-1])
    except (ValueError, KeyError, TypeError, AttributeError):
        whole = follows = False
    if not whole or not follows or heads:
        sys.exit(f"event {len(hashes)} was altered, removed, inserted or moved")
    hashes.append(record["hash"])
for head in sorted(heads, key=lambda head: head["count"]):
    body = {name: head[name] for name in ("app", "count", "head", "key")}
    message = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    if checks:  # an InvalidSignature raised here is the answer
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(key)).verify(bytes.fromhex(head["signature"]), message)
    if hashes[head["count"] : head["count"] + 1] != [head["head"]] or head["app"] != header["app"]:
        sys.exit(f"event {min(head['count'], len(hashes))} is missing, or is not the one that was signed")
if hashes[1:] and not heads:
    sys.exit(f"none of the {len(hashes) - 1} events is covered by a signed head")
print(f"intact: {len(hashes) - 1} events; head {hashes[-1]}; last signed: {max([0, *(h['count'] for h in heads)])}")
print(f"signatures checked with {key}" if checks else "SIGNATURES WERE NOT CHECKED: `cryptography` or key missing")
