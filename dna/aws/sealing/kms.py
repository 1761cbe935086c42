"""`KmsSigner`: signs with an RSA key that never leaves AWS KMS."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

from ....errors import StoreError, StoreUnavailable
from ...signing import genuine, key_id
from ..calls import Clients, Missing

log = logging.getLogger(__name__)

ALGORITHM = "RSASSA_PKCS1_V1_5_SHA_256"
_LONGEST_BYTES = 4096
_ARN = re.compile(r"(?P<start>arn:[^:]+:kms:)(?P<region>[^:]+)(?P<end>:[^:]*:(?P<name>.+))")
_MISSING = "`bedrock-evolution store init` makes the key of a store; a key of your own is named by `audit_kms_key`."
_HINT = "Name an asymmetric key with the usage SIGN_VERIFY and the specification RSA_2048 or longer."


class KmsSigner:
    """An RSA key in AWS KMS (https://docs.aws.amazon.com/kms/latest/APIReference/API_Sign.html).

    Messages are sent as they are and hashed there. Verification needs the public key only, and no call but the one
    that fetches it.

    Args:
        clients: Make the calls.
        key: Key id, alias (`alias/NAME`) or ARN of either.
        regions: Where to ask, in this order. Of an ARN only its own region is asked, unless it names a multi-Region
            key (`mrk-…`), which is the same in all of them.
    """

    def __init__(self, clients: Clients, key: str, regions: Sequence[str]) -> None:
        self.key = key
        self._clients = clients
        self._places = list(_places(key, regions))

    @property
    def key_id(self) -> str:
        """See `Signer.key_id`.

        Raises:
            StoreError: There is no such key.
        """
        return key_id(self._existing())

    def sign(self, message: bytes) -> bytes:
        """See `Signer.sign`.

        Raises:
            StoreUnavailable: KMS cannot be reached.
            StoreError: There is no such key, it cannot sign, or the message is longer than 4096 bytes.
        """
        if len(message) > _LONGEST_BYTES:
            raise StoreError(f"a message of {len(message)} bytes is too long for KMS, which takes {_LONGEST_BYTES}.")
        public_key = self._existing()
        answer = self._call("sign", Message=message, MessageType="RAW", SigningAlgorithm=ALGORITHM)
        signature = bytes(answer["Signature"])
        # An alias may name another key by now, or another one in another region.
        if not genuine(public_key, message, signature):
            raise StoreError(
                f"the KMS key {self.key} signed with another key than the one it named before.",
                hint="Name the key by its ARN: an alias can be moved.",
            )
        return signature

    def public_key(self) -> bytes | None:
        """See `Signer.public_key`: DER; fetched once.

        Raises:
            StoreUnavailable: KMS cannot be reached.
            StoreError: The key cannot sign.
        """
        try:
            return self._public
        except Missing:
            return None

    def exists(self) -> bool:
        """See `Signer.exists`."""
        return self.public_key() is not None

    @cached_property
    def _public(self) -> bytes:
        answer = self._call("get_public_key")
        if ALGORITHM not in answer.get("SigningAlgorithms", ()):
            raise StoreError(f"the KMS key {self.key} ({answer.get('KeySpec')}) cannot sign with RSA.", hint=_HINT)
        return bytes(answer["PublicKey"])

    def _existing(self) -> bytes:
        found = self.public_key()
        if found is None:
            asked = ", ".join(region for region, _ in self._places)
            raise StoreError(f"there is no KMS key {self.key} in {asked}.", hint=_MISSING)
        return found

    def _call(self, operation: str, **arguments: Any) -> dict[str, Any]:
        """Ask the regions in turn; that one lacks the key counts only where all could be asked."""
        failure: StoreUnavailable | Missing = Missing(self.key)
        for region, key in self._places:
            try:
                return self._clients.call("kms", region, operation, KeyId=key, **arguments)
            except StoreUnavailable as error:
                log.warning("region=<%s> | KMS cannot be used: %s", region, error.message)
                failure = error
            except Missing:
                continue
        raise failure


def _places(key: str, regions: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield each region to ask, and what the key is called there."""
    arn = _ARN.fullmatch(key)
    if arn is None:
        yield from ((region, key) for region in regions)
        return
    yield arn["region"], key
    if arn["name"].startswith("key/mrk-"):
        others = (region for region in regions if region != arn["region"])
        yield from ((region, f"{arn['start']}{region}{arn['end']}") for region in others)
