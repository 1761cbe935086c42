"""Answers calls from a cassette, and sends none."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import vcr
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.httpsession import URLLib3Session
from vcr.request import Request

from .calls import is_bedrock, is_this_machine, parsed
from .cassette_file import read_cassette
from .errors import CassetteError
from .interactions import canonical, same_request, vcr_request
from .json_difference import differences
from .offline import offline
from .tape import Recording, Send, Tape, named

_SHOWN = 3


class Player(Tape):
    """A cassette that calls are answered from.

    Args:
        path: The cassette.

    Raises:
        CassetteError: It is missing or corrupt.
    """

    record_mode = vcr.mode.NONE

    def __init__(self, path: Path) -> None:
        super().__init__(Recording(path, "replay"), read_cassette(path))

    @contextmanager
    def running(self) -> Iterator[None]:
        """Answer every request of botocore from this tape, without an account."""
        with offline(), super().running():
            yield

    def send(self, original: Send, session: URLLib3Session, request: AWSPreparedRequest) -> AWSResponse:
        """Answer a Bedrock call from the cassette; other calls may only go to this machine."""
        if not is_bedrock(request.url):
            if is_this_machine(request.url):
                return original(session, request)
            raise self.miss(f"{named(request)} would go over the network")
        wanted = vcr_request(request)
        # Asked before vcrpy raises: botocore would wrap its exception in one that is retried.
        if not self._cassette.can_play_response_for(wanted):
            raise self.miss(self._why(canonical(wanted)))
        try:
            response = original(session, request)
        except Exception as error:
            self.miss(f"{named(request)} could not be replayed: {error!r}")
            raise
        self.recording.calls = self._cassette.play_count
        return response

    def finish(self) -> None:
        """Raise CassetteError if a recorded call was not made."""
        if not self._cassette.all_played:
            requests = self._cassette.requests
            unplayed = [number for number in range(len(requests)) if not self._cassette.play_counts[number]]
            first = ", ".join(f"{number} ({requests[number].path})" for number in unplayed[:_SHOWN])
            raise CassetteError(
                f"{self.recording.path}: {len(unplayed)} of {len(requests)} recorded calls were not made, "
                f"such as interaction {first}; record it again if that is right"
            )

    def _why(self, wanted: Request) -> str:
        call = f"{wanted.method} {wanted.path}"
        same_path = [other for other in self._cassette.requests if other.uri == wanted.uri]
        if any(same_request(wanted, other) for other in same_path):
            return f"{call} was made more often than recorded"
        candidates = [list(differences(parsed(other.body), parsed(wanted.body))) for other in same_path]
        if not candidates:
            return f"{call} was never recorded"
        nearest = min(candidates, key=len)
        return f"{call} differs from the nearest recording: " + "; ".join(nearest[:_SHOWN])
