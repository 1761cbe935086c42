"""The errors of docs/failures.md as they look on the wire, and what the ledger says of attempts."""

import itertools
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from tests.support.converse import Cut, Failure, Hang, Message, Reply
from tests.support.stage import HAIKU, SONNET, Stage

EAST, WEST = "us-east-1", "us-west-2"
NOBODY = "http://127.0.0.1:9"
"""A port of this machine that nothing listens on."""


@dataclass(frozen=True)
class Row:
    """A row of the table."""

    error: str
    http: str
    kind: str
    remedy: str
    attempts: int
    answered_by: str
    money: str


@cache
def table() -> dict[str, Row]:
    """Read the table; what is as above is told again."""
    text = (Path(__file__).parents[2] / "docs" / "failures.md").read_text(encoding="utf-8")
    lines = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("|")]
    rows: dict[str, Row] = {}
    above = ""
    for cells in lines[2:]:
        error, http, kind, remedy, attempts, answered_by, money = (cell.strip() for cell in cells)
        above = above if remedy.startswith("as above") else remedy
        rows[error] = Row(error, http, kind, above, int(attempts), answered_by, money)
    return rows


UNREACHABLE = "no connection to the region"
WIRE: Mapping[str, Reply] = {
    "`ThrottlingException`": Failure("ThrottlingException"),
    "`TooManyRequestsException`": Failure("TooManyRequestsException"),
    '`ValidationException`: "Too many tokens, please wait"': Failure(
        "ValidationException", "Too many tokens, please wait before trying again."
    ),
    "`ModelNotReadyException`": Failure("ModelNotReadyException"),
    "`ServiceUnavailableException`": Failure("ServiceUnavailableException"),
    "`ServiceUnavailableException` in an HTTP 400": Failure("ServiceUnavailableException", status=400),
    "`InternalServerException`": Failure("InternalServerException"),
    "`ModelTimeoutException`": Failure("ModelTimeoutException"),
    "`ModelErrorException`": Failure("ModelErrorException"),
    "`ServiceQuotaExceededException`": Failure("ServiceQuotaExceededException"),
    '`ValidationException`: "Input is too long"': Failure(
        "ValidationException", "Input is too long for requested model."
    ),
    '`ValidationException`: "prompt is too long"': Failure(
        "ValidationException", "prompt is too long: 210000 tokens > 200000 maximum"
    ),
    "silence until the read timeout": Hang(seconds=30),
    "connection closed without an answer": Hang(seconds=0),
    "answer cut in its middle": Cut(Message([{"text": "The incident is"}]), after=1),
    "`AccessDeniedException`": Failure("AccessDeniedException"),
    "`ExpiredTokenException`": Failure("ExpiredTokenException"),
    "`UnrecognizedClientException`": Failure("UnrecognizedClientException"),
    "`ResourceNotFoundException`": Failure("ResourceNotFoundException"),
    "`ValidationException` of any other kind": Failure("ValidationException", "The model identifier is invalid."),
}
"""How each error looks on the wire; the one that is missing never gets there."""


@contextmanager
def unreachable(stage: Stage, *regions: str, calls: int | None = None) -> Iterator[None]:
    """Let the first calls to some regions, or all of them, go to a port where nobody listens."""
    sent = itertools.count()

    def astray(request: Any, **_: Any) -> None:
        if calls is None or next(sent) < calls:
            request.url = request.url.replace(stage.endpoint.url, NOBODY)

    session = stage.gateway._session
    assert session is not None
    clients = [session.client(region) for region in regions]
    for client in clients:
        client.meta.events.register("before-send.bedrock-runtime", astray)
    yield
    for client in clients:
        client.meta.events.unregister("before-send.bedrock-runtime", astray)


def forgive(stage: Stage) -> None:
    """Close the breakers that an earlier test opened."""
    for target in stage.gateway.targets([SONNET, HAIKU]):
        stage.gateway.healing.succeeded(target)


@dataclass(frozen=True)
class Attempt:
    """A row of the ledger."""

    model: str
    region: str
    status: str
    reserved: int
    cost: int


def attempts_of(stage: Stage) -> list[Attempt]:
    """Return the attempts of all calls since the responder was chosen, oldest first."""
    query = (
        "SELECT model, region, status, reserved_micro_usd, cost_micro_usd FROM calls ORDER BY rowid LIMIT -1 OFFSET ?"
    )
    return [Attempt(*row) for row in stage.database.rows(query, [stage._calls_before])]


def answered_first_by(stage: Stage) -> str:
    """Return who gave the first answer, as the next call repeats it."""
    [first, *_] = [request for request in stage.requests if len(request.messages) > 1]
    [call] = [block["toolUse"]["toolUseId"] for block in first.messages[1]["content"] if "toolUse" in block]
    return "stand-in" if call.startswith("local-") else "model"
