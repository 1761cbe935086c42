"""LangGraph's `DynamoDBSaver`, made fit to resume runs from: written whole, read consistently, failing in our words."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    get_checkpoint_id,
    get_checkpoint_metadata,
)
from langgraph_checkpoint_aws.checkpoint.dynamodb import DynamoDBSaver  # type: ignore[import-untyped]

from ..dna.aws.calls import Clients, Service
from ..dna.database import Database
from ..errors import IntegrityError, StoreUnavailable
from .cloud_checkpoints import CheckpointPlace
from .dynamodb_repository import Payloads, Repository, Unreadable

log = logging.getLogger(__name__)

_CONSISTENT = {"get_item": {"ConsistentRead": True}, "query": {"ConsistentRead": True}}
_RESUME = "The run stopped where it was; resume it when its checkpoints can be reached."
_ALTERED = "The table was altered, or something else writes to it: restore it, or start a new run."
_FIRST_PAUSE_S = 0.1


class _Client:
    """A service in the form of a boto3 client, called through `Clients`, which alone retries; reads are consistent."""

    def __init__(self, clients: Clients, service: Service, region: str) -> None:
        self._clients, self._service, self._region = clients, service, region

    def __getattr__(self, operation: str) -> Callable[..., dict[str, Any]]:
        return partial(self._call, operation)

    def _call(self, operation: str, **arguments: Any) -> dict[str, Any]:
        asked = arguments | _CONSISTENT.get(operation, {})
        try:
            return self._clients.call(self._service, self._region, operation, **asked)
        except StoreUnavailable as error:
            hint = _RESUME if error.passing else error.hint
            raise StoreUnavailable(f"checkpoints: {error.message}", hint=hint, passing=error.passing) from error

    def batch_get_item(self, RequestItems: Mapping[str, Any]) -> dict[str, Any]:  # noqa: N803  # as boto3 names it
        """Read items, all of them."""
        [(table, asked)] = RequestItems.items()
        found: list[Any] = []
        for left in self._batches("batch_get_item", "UnprocessedKeys", {table: {**asked, "ConsistentRead": True}}):
            found += left.get("Responses", {}).get(table, [])
        return {"Responses": {table: found}}

    def batch_write_item(self, RequestItems: Mapping[str, Any]) -> dict[str, Any]:  # noqa: N803
        """Write items, all of them."""
        for _ in self._batches("batch_write_item", "UnprocessedItems", RequestItems):
            pass
        return {}

    def _batches(self, operation: str, unprocessed: str, request: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """Send what a throttled table did not take again; the package would do so for ever, without a pause."""
        for attempt in range(self._clients.attempts):
            told = self._call(operation, RequestItems=request)
            yield told
            request = told.get(unprocessed) or {}
            if not request:
                return
            self._clients.clock.sleep(self._clients.draws.uniform(0.0, _FIRST_PAUSE_S * 2**attempt))
        raise StoreUnavailable(f"checkpoints: dynamodb in {self._region} ({operation}) is throttled.", hint=_RESUME)


class _Session:
    """What the package makes its clients with."""

    def __init__(self, clients: Clients, region: str) -> None:
        self._clients, self._region = clients, region

    def client(self, service: Service, **_: Any) -> _Client:
        """Return a client; how it calls is settled by `Clients`."""
        return _Client(self._clients, service, self._region)


class EvolutionDynamoDBSaver(DynamoDBSaver):  # type: ignore[misc]
    """A `DynamoDBSaver` whose writes are commit points like those of the store.

    Args:
        place: The table and the bucket.
        clients: Make the calls; shared, so that nothing is to be closed here.
        database: The work file, which tells whoever watches.
        before_put: Given a run, sends what its next checkpoint, or its next writes, refer to; raises where that cannot
            be sent, or where the run is another machine's by now.
    """

    def __init__(
        self, place: CheckpointPlace, clients: Clients, database: Database, before_put: Callable[[str], object]
    ) -> None:
        # Without its `ttl_seconds`, with which the package would rewrite the bucket's lifecycle at each start.
        super().__init__(place.table, session=_Session(clients, place.region), region_name=place.region)
        s3 = _Client(clients, "s3", place.region)
        self.storage = Payloads(self.client, place.table, s3, place.bucket, place.folder)
        self.repo = Repository(self.client, place, self.storage, clients.clock)
        self.serializer = self.repo.serializer
        self.serde = self.serializer.serde
        self._database, self._before_put = database, before_put

    def get_next_version(self, current: str | None, channel: None) -> str:
        """Number the versions of a channel as the saver of the work file does."""
        return f"{int(current or 0) + 1:06d}"

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """Return a checkpoint, or the newest one.

        Raises:
            IntegrityError: It cannot be read.
            StoreError: What it holds is missing.
            StoreUnavailable: It cannot be reached.
        """
        with self._naming(config):
            found: CheckpointTuple | None = super().get_tuple(config)
        return found

    def list(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,  # noqa: A002  # as in what it overrides
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> Iterator[CheckpointTuple]:
        """Yield the checkpoints of a run, newest first.

        Raises:
            ValueError: No run is named.
            IntegrityError: One cannot be read.
        """
        with self._naming(config):
            for found in super().list(config, filter=filter, before=before, limit=limit):
                if config is None or get_checkpoint_id(config) in (None, found.checkpoint["id"]):
                    yield found

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Store a checkpoint, and forget the writes that it takes up."""
        within = config["configurable"]
        thread_id, namespace, parent = within["thread_id"], within.get("checkpoint_ns", ""), get_checkpoint_id(config)
        about = get_checkpoint_metadata(config, metadata)
        self._before_put(thread_id)
        self._database.reached("checkpoint.put", "before")
        stored = self.repo.put_checkpoint(thread_id, namespace, checkpoint, about, parent)
        if parent:
            self._forget_writes(thread_id, namespace, parent)
        self._database.reached("checkpoint.put", "after")
        return {"configurable": stored}

    def put_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        """Store what a step wrote, before the checkpoint that takes it up."""
        self._before_put(config["configurable"]["thread_id"])
        self._database.reached("checkpoint.writes", "before")
        super().put_writes(config, writes, task_id, task_path)
        self._database.reached("checkpoint.writes", "after")

    def _forget_writes(self, thread_id: str, namespace: str, checkpoint_id: str) -> None:
        try:
            self.repo.delete_thread_writes(thread_id, [(namespace, checkpoint_id)])
        except StoreUnavailable as error:
            # The checkpoint itself is stored: what it took up is of no use, and of no harm.
            log.warning("run=<%s> checkpoint=<%s> | its writes stay: %s", thread_id, checkpoint_id, error.message)

    @contextmanager
    def _naming(self, config: RunnableConfig | None) -> Iterator[None]:
        """Say which run a checkpoint that cannot be read belongs to."""
        try:
            yield
        except (Unreadable, KeyError, TypeError) as error:
            run_id = (config or {}).get("configurable", {}).get("thread_id")
            raise IntegrityError(
                f"a checkpoint of run {run_id} in table {self.table_name} cannot be read: {error}.", hint=_ALTERED
            ) from error
