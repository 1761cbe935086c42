"""Checkpoints of a run, in the same SQLite file as its records."""

from __future__ import annotations

import sqlite3
import weakref
import zlib
from collections.abc import Sequence
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import ChannelVersions, Checkpoint, CheckpointMetadata
from langgraph.checkpoint.serde.base import CipherProtocol
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.checkpoint.serde.jsonplus import EXT_CONSTRUCTOR_KW_ARGS, JsonPlusSerializer
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.types import Interrupt

from ..dna.database import Database

_BUSY_MS = 30_000
_COMPRESSED = "zlib"
_FORGET_TAKEN_UP = """
CREATE TRIGGER IF NOT EXISTS forget_taken_up AFTER INSERT ON checkpoints WHEN NEW.parent_checkpoint_id IS NOT NULL
BEGIN
    DELETE FROM writes WHERE thread_id = NEW.thread_id AND checkpoint_ns = NEW.checkpoint_ns
        AND checkpoint_id = NEW.parent_checkpoint_id;
END
"""
"""What a step wrote is part of the checkpoint after it; kept beside it as well, it would be a fifth of the file."""


class _Compression(CipherProtocol):
    """What LangGraph calls a cipher is any reversible change of the bytes; this one makes them a quarter as many."""

    def encrypt(self, plaintext: bytes) -> tuple[str, bytes]:
        return _COMPRESSED, zlib.compress(plaintext)

    def decrypt(self, ciphername: str, ciphertext: bytes) -> bytes:
        if ciphername != _COMPRESSED:
            raise ValueError(f"a checkpoint is packed with {ciphername!r}, which is unknown")
        return zlib.decompress(ciphertext)


def _revived(code: int, data: bytes) -> Interrupt[Any]:
    """Revive the one class our checkpoints hold; any other would be imported and called by whoever wrote it there."""
    module, name, fields, *_ = _PLAIN.loads_typed(("msgpack", data))
    if (code, module, name) != (EXT_CONSTRUCTOR_KW_ARGS, Interrupt.__module__, Interrupt.__name__):
        raise TypeError(f"{module}.{name} is no part of our state")
    return Interrupt(**fields)


_PLAIN = JsonPlusSerializer(__unpack_ext_hook__=_revived)

# The others that LangGraph knows, `json` and `pickle`, revive what they name.
_KINDS = tuple(f"{kind}+{_COMPRESSED}" for kind in ("msgpack", "null", "bytes", "bytearray"))


class PlainSerializer(EncryptedSerializer):
    """Writes and reads checkpoints: nothing in them is secret, but they repeat themselves.

    What holds anything but JSON and interrupts is not read: checkpoints come from other machines too.
    """

    def __init__(self) -> None:
        super().__init__(_Compression(), _PLAIN)

    def loads_typed(self, data: tuple[str, bytes]) -> Any:
        """Read what `dumps_typed` wrote.

        Raises:
            TypeError: It holds something else.
        """
        if data[0] not in _KINDS:
            raise TypeError(f"it is packed as {data[0]!r}, not as one of {', '.join(_KINDS)}")
        try:
            return super().loads_typed(data)
        except ValueError as error:  # msgpack's own, which does not say what the hook above refused
            raise TypeError(f"it holds other things than JSON and interrupts ({error})") from error


SERIALIZER = PlainSerializer()


class EvolutionSaver(SqliteSaver):
    """A `SqliteSaver` whose writes are commit points like those of the store.

    Args:
        connection: A connection of its own to the store's file.
        database: The store's file, which tells whoever watches.
    """

    def __init__(self, connection: sqlite3.Connection, database: Database) -> None:
        super().__init__(connection, serde=SERIALIZER)
        self._database = database

    def get_next_version(self, current: str | None, channel: None) -> str:
        """Number the versions of a channel: each checkpoint names some eighty, so they are short."""
        return f"{int(current or 0) + 1:06d}"

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Store a checkpoint."""
        self._database.reached("checkpoint.put", "before")
        stored = super().put(config, checkpoint, metadata, new_versions)
        self._database.reached("checkpoint.put", "after")
        return stored

    def put_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        """Store what a step wrote, before the checkpoint that takes it up."""
        self._database.reached("checkpoint.writes", "before")
        super().put_writes(config, writes, task_id, task_path)
        self._database.reached("checkpoint.writes", "after")


def open_checkpointer(database: Database) -> EvolutionSaver:
    """Open the checkpointer of a store's file.

    A checkpoint lost with the power only makes a step run again, which every step allows, so checkpoints are
    written without waiting for the disk (`synchronous=NORMAL`); the store's own commits do wait.

    Args:
        database: The file of the store.
    """
    connection = sqlite3.connect(database.path, check_same_thread=False)
    connection.execute(f"PRAGMA busy_timeout={_BUSY_MS}")
    saver = EvolutionSaver(connection, database)
    weakref.finalize(saver, connection.close)
    database.reached("tables", "before")
    saver.setup()
    connection.executescript(_FORGET_TAKEN_UP)
    database.reached("tables", "after")
    connection.execute("PRAGMA synchronous=NORMAL")
    return saver
