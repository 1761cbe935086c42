"""Sends calls, and writes them on a cassette at the end."""

from __future__ import annotations

from pathlib import Path

import vcr
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.httpsession import URLLib3Session
from vcr.request import Request

from .calls import is_bedrock
from .cassette_file import read_cassette, write_cassette
from .errors import CassetteError
from .interactions import canonical, same_request, stored, vcr_request
from .tape import Recording, Send, Tape


class Recorder(Tape):
    """A cassette that calls are recorded on.

    Args:
        path: The file to write; one that is there must be a cassette.

    Raises:
        CassetteError: The file is something else.
    """

    record_mode = vcr.mode.ALL

    def __init__(self, path: Path) -> None:
        if path.exists():
            _check_is_cassette(path)
        super().__init__(Recording(path, "record"), [])
        self._unanswered: list[Request] = []

    def send(self, original: Send, session: URLLib3Session, request: AWSPreparedRequest) -> AWSResponse:
        """Send a request; vcrpy notes it and the response."""
        try:
            return original(session, request)
        except Exception:
            if is_bedrock(request.url):
                self._unanswered.append(canonical(vcr_request(request)))
            raise
        finally:
            self.recording.calls = len(self._cassette)

    def finish(self) -> None:
        """Write the cassette, if every call can be replayed from it."""
        path = self.recording.path
        answered = list(self._cassette.requests)
        for request in self._unanswered:
            if not any(same_request(request, other) for other in answered):
                raise CassetteError(
                    f"{path}: {request.method} {request.path} never got a response, which no cassette holds; nothing "
                    "was written. Record without it, and test timeouts and broken connections against a server"
                )
        if not answered:
            raise CassetteError(
                f"{path}: no Bedrock call was made, so nothing was written; if one was meant to be, look whether there "
                "are credentials and a region"
            )
        pairs = zip(answered, self._cassette.responses, strict=True)
        write_cassette(path, [stored(request, response) for request, response in pairs])


def _check_is_cassette(path: Path) -> None:
    try:
        read_cassette(path)
    except CassetteError as error:
        raise CassetteError(f"{error}; a file that is no cassette is not overwritten") from error
