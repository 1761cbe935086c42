"""No credential reaches the store, its checkpoints, the log, an exception or the command line, in any spelling.

Everything that calls Bedrock is run with planted credentials and calls that fail in every way; then every artefact is
searched, decoded. That they were planted is shown too: the endpoint got them. Cassettes: `tests/testing`.
"""

import base64
import io
import itertools
import json
import logging
import sqlite3
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote, quote_plus

import pytest
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from bedrock_evolution import Evolution, number, text
from bedrock_evolution.agents.cost_governor import CostGovernor
from bedrock_evolution.agents.decision import BedrockDecisionEngine
from bedrock_evolution.agents.healer import SelfHealer
from bedrock_evolution.bedrock.aws.session import BedrockSession
from bedrock_evolution.bedrock.gateway import ModelTask
from bedrock_evolution.bedrock.money.ledger import Pressure
from bedrock_evolution.cli.app import run_command_line
from bedrock_evolution.errors import EvolutionError
from bedrock_evolution.graph.checkpoints import SERIALIZER
from bedrock_evolution.settings import Settings
from tests.support.bedrock_endpoint import BedrockEndpoint
from tests.support.certificate import over_tls
from tests.support.control_plane import ControlPlane, ControlReply, ControlRequest, granted, temporary_keys
from tests.support.converse import ConverseRequest, Cut, Failure, Hang, Message, Reply
from tests.support.model import ScriptedModel, tool_use
from tests.support.moto_server import MotoServer, moto_server
from tests.support.stage import CANARIES, CANDIDATE, INCIDENT, Stage, advisor_desk, with_dummy_aws

Kind = Literal["keys", "role", "API key"]
API_KEY = "bedrock-api-key-CANARY/of+a=key"
PASSWORD = "endpoint-CANARY-password"
ASSUMED = ("ASIACANARYCANARY0003", "assumed-CANARY-secret/key", "assumed-CANARY-session/token")
ROLE = "arn:aws:iam::123456789012:role/evolution"
REGIONS = ("us-east-1", "us-west-2")
LOGGERS = ("bedrock_evolution", "langchain", "langgraph", "langchain_aws")
WAYS = {
    "",
    "ThrottlingException",
    "ServiceUnavailableException",
    "ReadTimeoutError",
    "ConnectionClosedError",
    "ValueError",
    "ValidationException",
    "AccessDeniedException",
    "InvalidSignatureException",
    "ExpiredTokenException",
}
"""What the ledger says of the calls when everything went wrong once."""
MOST_ROUNDS = 8
SHORTEST = 12
"""Characters of a secret from which a piece of it counts as found."""


def echoed(request: ConverseRequest | ControlRequest, code: str) -> Failure:
    """Refuse as AWS refuses a signature: with the request as it should have been signed, security token included."""
    headers = "\n".join(f"{name}:{value}" for name, value in request.headers.items())
    return Failure(code, f"The Canonical String for this request should have been\n'POST\n/\n\n{headers}\n'", 403)


def failures(request: ConverseRequest) -> list[Reply]:
    """Return every way a call fails, those first after which a model is asked again."""
    return [
        Failure("ThrottlingException"),
        Failure("ServiceUnavailableException"),
        Hang(seconds=30),
        Hang(seconds=0),
        Cut(Message([{"text": "The incident is"}]), after=1),
        Message([tool_use("t1", "HealingPlan", "no object")]),
        Message([{"text": "prose"}]),
        Failure("ValidationException", f"Malformed input request: {json.dumps(request.headers)}"),
        Failure("AccessDeniedException"),
        echoed(request, "InvalidSignatureException"),
        echoed(request, "ExpiredTokenException"),
    ]


class Unruly:
    """A scripted model whose every second answer is a failure, each kind in turn."""

    def __init__(self) -> None:
        self._model = ScriptedModel()
        self._turns = itertools.count()
        self._lock = threading.Lock()
        self.on = True

    def __call__(self, request: ConverseRequest) -> Reply:
        """Answer, or fail."""
        with self._lock:
            turn = next(self._turns)
        if not self.on or turn % 2:
            return self._model(request)
        ways = failures(request)
        return ways[turn // 2 % len(ways)]


@dataclass
class Scene:
    """What was planted, and what came of it."""

    folder: Path
    secrets: set[str] = field(default_factory=set)
    received: str = ""
    output: str = ""
    log: list[logging.LogRecord] = field(default_factory=list)
    exceptions: list[BaseException] = field(default_factory=list)
    failed: set[str] = field(default_factory=set)


class Keeping(logging.Handler):
    """Keeps every record."""

    def __init__(self, records: list[logging.LogRecord]) -> None:
        super().__init__(logging.DEBUG)
        self.records = records

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@contextmanager
def logged(records: list[logging.LogRecord]) -> Iterator[None]:
    """Keep what our loggers and those of the agents' libraries say at DEBUG, and all others at INFO."""
    handler, root = Keeping(records), logging.getLogger()
    levels = {name: logging.getLogger(name).level for name in LOGGERS}
    before = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    for name in LOGGERS:
        logging.getLogger(name).setLevel(logging.DEBUG)
    try:
        yield
    finally:
        root.removeHandler(handler)
        root.setLevel(before)
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


@pytest.fixture(scope="module")
def moto() -> Iterator[MotoServer]:
    with moto_server() as running:
        yield running


@pytest.fixture(
    scope="module",
    params=["keys", pytest.param("role", marks=pytest.mark.slow), pytest.param("API key", marks=pytest.mark.slow)],
)
def scene(request: pytest.FixtureRequest, moto: MotoServer, tmp_path_factory: pytest.TempPathFactory) -> Scene:
    """Play everything with one kind of credentials."""
    kind: Kind = request.param
    played = Scene(tmp_path_factory.mktemp("secrets"), {*CANARIES, PASSWORD})
    outputs = io.StringIO()
    with ExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        with_dummy_aws(patch)
        patch.setenv("AWS_ENDPOINT_URL_STS", moto.url)
        patch.chdir(played.folder)
        (played.folder / "pyproject.toml").touch()
        endpoint = stack.enter_context(BedrockEndpoint(unruly := Unruly()))
        url = endpoint.url.replace("http://", f"http://user:{PASSWORD}@")
        if kind == "API key":
            played.secrets.add(API_KEY)
            patch.setenv("AWS_BEARER_TOKEN_BEDROCK", API_KEY)
            over_tls(endpoint, tmp_path_factory.mktemp("tls"), patch)
            url = url.replace("http:", "https:")
        given: dict[str, Any] = {"role_arn": ROLE} if kind == "role" else {}
        stage = Stage(played.folder, endpoint_url=url, regions=REGIONS, read_timeout_s=0.5, model_attempts=2, **given)
        with stage.endpoint, logged(played.log), redirect_stdout(outputs), redirect_stderr(outputs):
            play_agents(stage, played)
            play_run(stage, played, unruly)
            play_session_errors(played, moto, patch)
            patch.setenv("BEDROCK_EVOLUTION_MODEL", "bedrock")
            play_commands(stage, patch)
        if kind == "role":
            credentials = stage.gateway._session._boto.get_credentials().get_frozen_credentials()  # type: ignore[union-attr]
            played.secrets |= {credentials.access_key, credentials.secret_key, credentials.token}
        played.received = json.dumps([request.headers for request in endpoint.requests])
        played.output = outputs.getvalue()
    return played


def play_agents(stage: Stage, played: Scene) -> None:
    """Let every agent work until each way of failing was met, with the breakers closed in between."""
    task = ModelTask("healer", "run-1")
    agents: list[Callable[[], object]] = [
        lambda: stage.advise(advisor_desk()),
        lambda: BedrockDecisionEngine(stage.gateway, attempts=2).decide(CANDIDATE, task=ModelTask("decision", "run-1")),
        lambda: SelfHealer(stage.gateway, attempts=2).plan(INCIDENT, allowed=("retry", "stop"), task=task),
        lambda: CostGovernor(stage.gateway, attempts=2).govern(
            Pressure(share=0.9, scope="run", calls=3), task=ModelTask("cost_governor", "run-1")
        ),
    ]
    store = played.folder / "stage.db"
    for agent in itertools.islice(itertools.cycle(agents), MOST_ROUNDS * len(agents)):
        caught(played, agent)
        with closing(sqlite3.connect(store)) as connection, connection:
            connection.execute("DELETE FROM breakers")  # every model may be called again, whatever it refused
            played.failed = {error for (error,) in connection.execute("SELECT error FROM calls")}
        if played.failed >= WAYS:
            break


def play_run(stage: Stage, played: Scene, unruly: Unruly) -> None:
    """Evolve an application in the same store, with checkpoints."""
    evolution = Evolution(
        "demo",
        {"words": text("old words", max_chars=100), "threshold": number(0.3, low=0, high=1)},
        evaluate=lambda genes, case: float(case % 3 > 0 or "new" in genes["words"]),
        cases=range(30),
        settings=stage.settings,
    )
    caught(played, lambda: evolution.run(2, seed=1, progress=False))
    unruly.on = False
    caught(played, lambda: evolution.run(1, seed=2, progress=False))
    evolution.close()


def play_session_errors(played: Scene, moto: MotoServer, patch: pytest.MonkeyPatch) -> None:
    """Meet the errors of our own about credentials, and those of a service that repeats what was sent."""
    with ControlPlane(lambda request: echoed(request, "SignatureDoesNotMatch")) as plane, patch.context() as inner:
        inner.setenv("AWS_ENDPOINT_URL_STS", plane.url)
        caught(played, lambda: say_hello(BedrockSession(Settings(role_arn=ROLE, endpoint_url="http://127.0.0.1:9"))))
        caught(played, lambda: BedrockSession(Settings(profile="nobody")))
        inner.delenv("AWS_SECRET_ACCESS_KEY")
        caught(played, lambda: BedrockSession(Settings()))
    for error in played.exceptions:
        assert isinstance(error, EvolutionError), error


def say_hello(session: BedrockSession) -> None:
    model = session.chat_model("amazon.nova-pro-v1:0", region="us-east-1", base_model="amazon.nova-pro-v1:0")
    model.invoke("Hello?")


def caught(played: Scene, work: Callable[[], object]) -> None:
    try:
        work()
    except Exception as error:
        played.exceptions.append(error)


def play_commands(stage: Stage, patch: pytest.MonkeyPatch) -> None:
    """Run the commands that tell of the store and of AWS, with a control plane that repeats what was sent."""

    def respond(request: ControlRequest) -> ControlReply:
        if request.operation == "GetFoundationModelAvailability":
            return echoed(request, "InvalidSignatureException")
        return granted(request)

    patch.setenv("BEDROCK_EVOLUTION_STORE", stage.settings.store)
    if stage.settings.role_arn:
        patch.setenv("BEDROCK_EVOLUTION_ROLE_ARN", stage.settings.role_arn)
    with ControlPlane(respond) as plane:
        patch.setenv("AWS_ENDPOINT_URL_BEDROCK", plane.url)
        for command in ("doctor", "costs", "status", "history", "audit export", "audit verify"):
            for options in ([], ["--json"]):
                patch.setattr(sys, "argv", ["bedrock-evolution", *command.split(), *options])
                with suppress(SystemExit):
                    run_command_line()
        patch.setenv("BEDROCK_EVOLUTION_ENDPOINT_URL", f"http://user:{PASSWORD}@127.0.0.1:9")
        patch.setattr(sys, "argv", ["bedrock-evolution", "doctor", "--json"])
        with suppress(SystemExit):
            run_command_line()


def spellings(secret: str) -> set[str]:
    """Return how a secret may be written: plain, escaped, encoded, and in the middle of something encoded."""
    raw = secret.encode()
    plain = {secret, quote(secret, safe=""), quote(secret), quote_plus(secret), raw.hex(), raw.hex().upper()}
    plain |= {json.dumps(secret)[1:-1], secret.replace("/", "\\/"), "".join(f"\\u{ord(c):04x}" for c in secret)}
    for before in range(3):
        encoded = base64.b64encode(b"\0" * before + raw).decode()
        # Characters at both ends depend on what stands beside the secret.
        inner = encoded[(0, 2, 3)[before] : len(encoded) - (0, 3, 2)[(before + len(raw)) % 3] - 1]
        plain |= {inner, inner.replace("+", "-").replace("/", "_"), quote(inner, safe="")}
    return {spelling for spelling in plain if len(spelling) >= SHORTEST}


def found(secrets: set[str], artefact: str) -> set[str]:
    """Return the secrets that an artefact holds in any spelling."""
    return {secret for secret in secrets if any(spelling in artefact for spelling in spellings(secret))}


def raw_files(folder: Path) -> str:
    return "".join(path.read_bytes().decode("latin-1") for path in sorted(folder.rglob("*")) if path.is_file())


def decoded_rows(store: Path, *, checkpoints: bool) -> list[str]:
    """Return the rows of the tables of LangGraph, or of all others, with what is packed in them unpacked."""

    def cell(row: sqlite3.Row, column: str) -> str:
        value = row[column]
        if not isinstance(value, bytes):
            return str(value)
        packed = column in ("checkpoint", "value") and row["type"].startswith(("msgpack", "json"))
        serializer = SERIALIZER if "+" in row["type"] else JsonPlusSerializer()
        return value.decode("latin-1") + (repr(serializer.loads_typed((row["type"], value))) if packed else "")

    connection = sqlite3.connect(store)
    connection.row_factory = sqlite3.Row
    rows: list[str] = []
    for (table,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
        if (table in ("checkpoints", "writes")) is checkpoints:
            found_rows = connection.execute(f'SELECT * FROM "{table}"').fetchall()
            rows += ["\n".join(cell(row, column) for column in row.keys()) for row in found_rows]  # noqa: SIM118  # `in` gives values
    connection.close()
    return rows


def told(record: logging.LogRecord) -> str:
    """Return all that a log record could print, with the attributes that structured loggers add."""
    trace = "".join(traceback.format_exception(*record.exc_info)) if record.exc_info else ""
    return f"{record.getMessage()} {vars(record)!r} {trace}"


ARTEFACTS: dict[str, Callable[[Scene], list[str]]] = {
    "files": lambda scene: [raw_files(scene.folder)],
    "rows": lambda scene: decoded_rows(scene.folder / "stage.db", checkpoints=False),
    "checkpoints": lambda scene: decoded_rows(scene.folder / "stage.db", checkpoints=True),
    "log": lambda scene: [told(record) for record in scene.log],
    "exceptions": lambda scene: ["".join(traceback.format_exception(error)) for error in scene.exceptions],
    "output": lambda scene: scene.output.splitlines(),
}


@pytest.mark.parametrize("artefact", ARTEFACTS)
def test_no_secret_is_in(scene: Scene, artefact: str) -> None:
    pieces = ARTEFACTS[artefact](scene)
    assert pieces
    assert [(found(scene.secrets, piece), piece[:2000]) for piece in pieces if found(scene.secrets, piece)] == []


def test_the_secrets_were_in_play_and_every_way_of_failing_was_met(scene: Scene) -> None:
    assert found(scene.secrets, scene.received)
    assert scene.failed >= WAYS
    assert len(scene.exceptions) >= 3
    assert '"checks":' in scene.output
    assert '"spend":' in scene.output
    assert '"events":' in scene.output
    assert any(record.name.startswith("bedrock_evolution") for record in scene.log)


@pytest.mark.parametrize("secret", [*CANARIES, API_KEY])
def test_a_secret_is_found_however_it_is_written(secret: str, tmp_path: Path) -> None:
    inside = {f"{'x' * before}{secret}{'y' * after}" for before in range(4) for after in range(4)}
    for written in inside:
        for piece in (
            written,
            json.dumps({"deep": [written]}),
            quote(written, safe=""),
            base64.b64encode(written.encode()).decode(),
            base64.urlsafe_b64encode(written.encode()).decode(),
            written.encode().hex(),
        ):
            assert found({secret}, piece) == {secret}, piece
    assert found({secret}, "nothing of the kind") == set()


@pytest.mark.parametrize("serializer", [SERIALIZER, JsonPlusSerializer()])
def test_a_secret_in_a_checkpoint_is_found(tmp_path: Path, serializer: SerializerProtocol) -> None:
    kind, packed = serializer.dumps_typed({"messages": [{"headers": {"token": CANARIES[2]}}]})
    connection = sqlite3.connect(tmp_path / "store.db")
    connection.execute("CREATE TABLE checkpoints (type TEXT, checkpoint BLOB)")
    connection.execute("INSERT INTO checkpoints VALUES (?, ?)", [kind, packed])
    connection.commit()
    connection.close()
    [row] = decoded_rows(tmp_path / "store.db", checkpoints=True)
    assert found(set(CANARIES), row) == {CANARIES[2]}
    assert found(set(CANARIES), raw_files(tmp_path)) == (set() if serializer is SERIALIZER else {CANARIES[2]})


def test_a_secret_beside_the_message_of_a_log_record_is_found() -> None:
    record = logging.makeLogRecord({"msg": "retry", "caused_by": f"ClientError('token {CANARIES[2]}')"})
    assert found(set(CANARIES), told(record)) == {CANARIES[2]}


LOGGED_BY_BOTOCORE: dict[Kind, set[str]] = {
    "keys": {CANARIES[0], CANARIES[2]},  # of the secret key only what it makes of it
    "role": {CANARIES[0], CANARIES[2], *ASSUMED},  # the answer of STS, word for word
    "API key": {API_KEY},
}


@pytest.mark.parametrize("kind", LOGGED_BY_BOTOCORE)
def test_botocore_itself_logs_secrets_at_debug_as_the_documentation_warns(kind: Kind, tmp_path: Path) -> None:
    """What botocore prints is not ours to change; docs/aws.md says so, and this fails if that became untrue."""
    records: list[logging.LogRecord] = []
    handler, logger = Keeping(records), logging.getLogger("botocore")
    with ExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        with_dummy_aws(patch)
        endpoint = stack.enter_context(BedrockEndpoint(lambda request: Message([{"text": "Hello."}])))
        plane = stack.enter_context(ControlPlane(lambda request: temporary_keys(*ASSUMED)))
        patch.setenv("AWS_ENDPOINT_URL_STS", plane.url)
        url = endpoint.url
        if kind == "API key":
            patch.setenv("AWS_BEARER_TOKEN_BEDROCK", API_KEY)
            url = over_tls(endpoint, tmp_path, patch)
        assert logger.level == logging.NOTSET  # we never touch it
        logger.addHandler(handler)
        logger.setLevel(logging.DEBUG)
        try:
            say_hello(BedrockSession(Settings(endpoint_url=url, role_arn=ROLE if kind == "role" else None)))
        finally:
            logger.removeHandler(handler)
            logger.setLevel(logging.NOTSET)
    secrets = {*CANARIES, *ASSUMED, API_KEY}
    assert found(secrets, "".join(told(record) for record in records)) == LOGGED_BY_BOTOCORE[kind]
    assert "logger `botocore`" in (Path(__file__).parents[3] / "docs" / "aws.md").read_text(encoding="utf-8")
