"""Checkpoints as items of a DynamoDB table: read as `langgraph_checkpoint_aws` does, written so that none is torn.

What is read, its keys and its format are the package's, version 1.2.6. What a kill between two requests would leave
half there is written anew (`docs/checkpoints.md`).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from typing import Any
from urllib.parse import quote

from langgraph.checkpoint.base import WRITES_IDX_MAP, Checkpoint, CheckpointMetadata, PendingWrite, writes_sort_key
from langgraph_checkpoint_aws.checkpoint.dynamodb.serialization import (  # type: ignore[import-untyped]
    CheckpointSerializer,
)
from langgraph_checkpoint_aws.checkpoint.dynamodb.storage_strategy import (  # type: ignore[import-untyped]
    StorageStrategy,
)
from langgraph_checkpoint_aws.checkpoint.dynamodb.unified_repository import (  # type: ignore[import-untyped]
    UnifiedRepository,
    _checkpoint_pk,
    _checkpoint_ref_pk,
    _checkpoint_sk,
    _writes_pk,
)

from ..clock import Clock
from ..dna.aws.calls import ConditionFailed, Missing
from ..errors import StoreError
from .checkpoints import PlainSerializer
from .cloud_checkpoints import TTL_ATTRIBUTE, CheckpointPlace

log = logging.getLogger(__name__)

_DAY_S = 86_400
_DIGITS = 16


class Unreadable(Exception):
    """A payload is none of ours."""


class _CheckedSerializer(PlainSerializer):
    """Refuses what cannot be read back already when it is written."""

    def dumps_typed(self, obj: Any) -> tuple[str, bytes]:
        packed = super().dumps_typed(obj)
        self.loads_typed(packed)
        return packed


class _Serializer(CheckpointSerializer):  # type: ignore[misc]  # the package has no types; so below
    """Tells apart what cannot be read from what cannot be reached."""

    def deserialize(self, value_type: str, data: bytes, compression_type: object = None) -> Any:
        try:
            return super().deserialize(value_type, data, compression_type)
        except Exception as error:
            raise Unreadable(f"{type(error).__name__}: {error}") from error


class Payloads(StorageStrategy):  # type: ignore[misc]
    """Payloads beside the items that name them, or in S3 when they are too large for an item."""

    def retrieve_data(self, ref_key: str, ref_location: str) -> bytes | None:
        """Return a payload, or None if it is gone."""
        found: bytes | None = super().retrieve_data(ref_key, ref_location)
        if found is None:
            log.warning("table=<%s> key=<%s> | a payload is missing: passed over", self.table_name, ref_key)
        return found

    def _retrieve_from_s3(self, s3_key: str) -> bytes | None:
        try:
            read = self.s3_client.get_object(Bucket=self.s3_bucket, Key=self._prefixed_s3_key(s3_key))
        except Missing:
            return None
        return bytes(read["Body"])  # `Clients` has read it

    def put_object(self, key: str, payload: bytes) -> dict[str, Any]:
        """Store a large payload, and return what an item says of it."""
        self.s3_client.put_object(Bucket=self.s3_bucket, Key=self._prefixed_s3_key(key), Body=payload)
        return {"ref_loc": {"S": "S3"}, "ref_key": {"S": key}}


class Repository(UnifiedRepository):  # type: ignore[misc]
    """Reads as the package does, and writes so that a kill leaves nothing that is half there.

    Args:
        client: Calls DynamoDB as a boto3 client does.
        place: Names the table.
        storage: Keeps what is too large for an item.
        clock: From which checkpoints expire.
    """

    storage: Payloads

    def __init__(self, client: Any, place: CheckpointPlace, storage: Payloads, clock: Clock) -> None:
        serde = _CheckedSerializer()
        super().__init__(client, place.table, _Serializer(serde), storage)
        self._ttl_days, self._clock = place.ttl_days, clock

    def put_checkpoint(
        self,
        thread_id: str,
        checkpoint_ns: str,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        parent_checkpoint_id: str | None = None,
    ) -> dict[str, str]:
        """Store a checkpoint: its payload first, so that one that is listed is whole."""
        checkpoint_id = checkpoint["id"]
        kind, payload, _ = self.serializer.serialize({"checkpoint": checkpoint, "metadata": metadata})
        if self.storage.should_offload_to_s3(payload):
            kept = self.storage.put_object(_object_key(thread_id, checkpoint_ns, checkpoint_id), payload)
        else:
            key = _checkpoint_ref_pk(thread_id, checkpoint_ns, checkpoint_id)
            self._put(key, "CHUNK", {"payload": {"B": payload}})
            kept = {"ref_loc": {"S": "DYNAMODB"}, "ref_key": {"S": key}}
        item = {"id": {"S": checkpoint_id}, "ns": {"S": checkpoint_ns}, "type": {"S": kind}, **kept}
        if parent_checkpoint_id:
            item["parent_checkpoint_id"] = {"S": parent_checkpoint_id}
        self._put(_checkpoint_pk(thread_id), _checkpoint_sk(checkpoint_ns, checkpoint_id), item)
        return {"thread_id": thread_id, "checkpoint_ns": checkpoint_ns, "checkpoint_id": checkpoint_id}

    def get_checkpoint(
        self, thread_id: str, checkpoint_ns: str = "", checkpoint_id: str | None = None
    ) -> dict[str, Any] | None:
        """Return a checkpoint, or the newest one that is whole.

        Raises:
            StoreError: There are checkpoints, and what they hold is missing: the run must not begin anew.
        """
        found: dict[str, Any] | None = super().get_checkpoint(thread_id, checkpoint_ns, checkpoint_id)
        if found is None:
            begins = _checkpoint_sk(checkpoint_ns, checkpoint_id or "")
            for item in self._items(_checkpoint_pk(thread_id), begins=begins):
                raise StoreError(
                    f"what checkpoint {item['id']['S']} of run {thread_id} holds is missing: table {self.table_name}"
                    f" has it in {item['ref_loc']['S']} under {item['ref_key']['S']!r}.",
                    hint="Restore it" + ("." if checkpoint_id is None else ", or resume the run without naming one."),
                )
        return found

    def put_writes(
        self,
        thread_id: str,
        checkpoint_ns: str,
        checkpoint_id: str,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        """Store all that a task wrote as one item: LangGraph takes a task with any write for one that is done.

        As in other savers the first ordinary writes of a task stay, and a longer list adds to them; special ones
        (interrupts, resumes, errors) replace each other.
        """
        special = all(channel in WRITES_IDX_MAP for channel, _ in writes)
        if special:
            parcels = {f"{task_id}#{WRITES_IDX_MAP[write[0]]}": [write] for write in writes}
        else:
            parcels = {f"{task_id}#{len(writes):06d}": list(writes)}
        pk = _writes_pk(thread_id, checkpoint_ns, checkpoint_id)
        about = {"task_id": {"S": task_id}, "task_path": {"S": task_path}}
        folder = _object_key(thread_id, checkpoint_ns, checkpoint_id)
        items = [(sk, about | self._packed(f"{folder}.writes/{quote(sk)}", parcel)) for sk, parcel in parcels.items()]
        if len(items) > 1:
            puts = [{"Put": self._request(pk, sk, item)} for sk, item in items]
            self.dynamodb_client.transact_write_items(TransactItems=puts)
        for sk, item in items if len(items) == 1 else ():
            self._put(pk, sk, item, once=not special)

    def get_pending_writes(self, thread_id: str, checkpoint_ns: str, checkpoint_id: str) -> list[PendingWrite]:
        """Return what tasks wrote since a checkpoint, in the order in which they wrote it."""
        found: dict[tuple[str, int], tuple[tuple[str, str, int], PendingWrite]] = {}
        for item in self._items(_writes_pk(thread_id, checkpoint_ns, checkpoint_id)):
            task_id, path = item["task_id"]["S"], item["task_path"]["S"]
            for place, (channel, value) in enumerate(self._unpacked(item)):
                index = WRITES_IDX_MAP.get(channel, place)
                # Special writes are sorted first, then the shorter list: whichever comes first holds.
                write = (task_id, channel, value)
                found.setdefault((task_id, index), (writes_sort_key(path, task_id, index), write))
        return [write for _, write in sorted(found.values(), key=lambda each: each[0])]

    def _packed(self, key: str, parcel: Sequence[tuple[str, Any]]) -> dict[str, Any]:
        kind, payload, _ = self.serializer.serialize(parcel)
        if self.storage.should_offload_to_s3(payload):
            # Named by what it holds: an item that stays never points to another's writes.
            named = f"{key}-{sha256(payload).hexdigest()[:_DIGITS]}"
            return {"type": {"S": kind}, **self.storage.put_object(named, payload)}
        return {"type": {"S": kind}, "payload": {"B": payload}}

    def _unpacked(self, item: Mapping[str, Any]) -> list[tuple[str, Any]]:
        if "ref_key" not in item:
            payload = item["payload"]["B"]
        elif (payload := self.storage.retrieve_data(item["ref_key"]["S"], item["ref_loc"]["S"])) is None:
            return []
        return list(self.serializer.deserialize(item["type"]["S"], payload))

    def _items(self, pk: str, *, begins: str = "") -> Iterator[dict[str, Any]]:
        condition, values = "PK = :pk", {":pk": {"S": pk}}
        if begins:
            condition, values = f"{condition} AND begins_with(SK, :begins)", values | {":begins": {"S": begins}}
        asked = {"KeyConditionExpression": condition, "ExpressionAttributeValues": values}
        while True:
            page = self.dynamodb_client.query(TableName=self.table_name, **asked)
            yield from page["Items"]
            if "LastEvaluatedKey" not in page:
                return
            asked["ExclusiveStartKey"] = page["LastEvaluatedKey"]

    def _put(self, pk: str, sk: str, item: Mapping[str, Any], *, once: bool = False) -> None:
        """Put an item; with `once` one that is there stays, which may be this very one, sent again."""
        condition = {"ConditionExpression": "attribute_not_exists(PK)"} if once else {}
        try:
            self.dynamodb_client.put_item(**self._request(pk, sk, item), **condition)
        except ConditionFailed:
            log.debug("pk=<%s> sk=<%s> | stored already", pk, sk)

    def _request(self, pk: str, sk: str, item: Mapping[str, Any]) -> dict[str, Any]:
        stored = {"PK": {"S": pk}, "SK": {"S": sk}, **item}
        if self._ttl_days is not None:
            expires_s = int(self._clock.now().timestamp()) + self._ttl_days * _DAY_S
            stored[TTL_ATTRIBUTE] = {"N": str(expires_s)}
        return {"TableName": self.table_name, "Item": stored}


def _object_key(thread_id: str, checkpoint_ns: str, checkpoint_id: str) -> str:
    """Return the key of a payload in S3, below the place's folder."""
    return f"{quote(thread_id, safe='')}/{quote(checkpoint_ns, safe='') or 'run'}/{checkpoint_id}"
