"""A cassette in use: stands in for botocore's `send`, and lets no call pass by."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeAlias
from unittest import mock

import vcr
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.httpsession import URLLib3Session
from vcr.patch import PATCHER_NAMES

from .calls import without_account
from .errors import CassetteMissError
from .interactions import InMemory, canonical, same_body, without_private_headers

# vcrpy patches classes of the whole process and is not thread-safe (vcrpy #212, #295, #849).
_sending = threading.Lock()

Send: TypeAlias = Callable[[URLLib3Session, AWSPreparedRequest], AWSResponse]


@dataclass
class Recording:
    """What has happened on a cassette so far.

    Args:
        path: The cassette.
        mode: Whether calls are recorded or replayed.
        calls: How many were.
        misses: The calls that were not on the cassette, and why.
    """

    path: Path
    mode: Literal["record", "replay"]
    calls: int = 0
    misses: list[str] = field(default_factory=list)


class Tape:
    """A cassette in use; `send` stands in for botocore's own."""

    record_mode: ClassVar[vcr.mode]

    def __init__(self, recording: Recording, interactions: list[dict[str, Any]]) -> None:
        self.recording = recording
        self._interactions = interactions
        self._closed = False
        self._cassette: Any = None

    @contextmanager
    def running(self) -> Iterator[None]:
        """Send every request of botocore through this tape."""
        recorder = vcr.VCR(
            before_record_request=canonical,
            before_record_response=without_private_headers,
            decode_compressed_response=True,
            match_on=["method", "uri", "canonical body"],
            record_mode=self.record_mode,
            # Other HTTP libraries are none of our business, and patched without the lock they would race.
            skip_patchers=[name for name in PATCHER_NAMES if name != "boto3"],
        )
        recorder.register_matcher("canonical body", same_body)
        recorder.register_persister(InMemory(self._interactions))
        context = recorder.use_cassette(str(self.recording.path))
        original: Send = URLLib3Session.send

        def send(session: URLLib3Session, request: AWSPreparedRequest) -> AWSResponse:
            with _sending:
                return self._send_fresh(original, session, request)

        # The lock keeps calls of other threads from seeing half of the patches, at either end.
        with ExitStack() as patches:
            with _sending:
                patches.enter_context(mock.patch.object(URLLib3Session, "send", send))
                self._cassette = patches.enter_context(context)
            try:
                yield
            finally:
                with _sending:
                    self._closed = True

    def _send_fresh(self, original: Send, session: URLLib3Session, request: AWSPreparedRequest) -> AWSResponse:
        if self._closed:
            raise self.miss(f"{named(request)} was called after the cassette was closed")
        # vcrpy would not see a connection from before this cassette, and none may outlive it in a pool.
        session.close()
        try:
            return self.send(original, session, request)
        finally:
            session.close()

    def send(self, original: Send, session: URLLib3Session, request: AWSPreparedRequest) -> AWSResponse:
        """Answer a request, from the cassette or by sending it with `original`."""
        raise NotImplementedError

    def miss(self, reason: str) -> CassetteMissError:
        """Note a miss and return the error for whoever made the call."""
        self.recording.misses.append(reason)
        return CassetteMissError(f"{self.recording.path}: {reason}")

    def check_misses(self, cause: BaseException | None) -> None:
        """Raise CassetteMissError if there was a miss, whatever became of its error."""
        misses = self.recording.misses
        if misses:
            shown = "\n- ".join(misses)
            raise CassetteMissError(
                f"{self.recording.path}: {len(misses)} call(s) missed the cassette, whatever became of "
                f"the error; record it again if the calls are right:\n- {shown}"
            ) from cause

    def finish(self) -> None:
        """Do what is left to do when all went well."""
        raise NotImplementedError


def named(request: AWSPreparedRequest) -> str:
    """Return how an error calls a request."""
    return f"{request.method} {without_account(request.url)}"
