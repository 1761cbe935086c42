"""Checkpoints of a run in a DynamoDB table, large ones in S3, so that a run can go on at another machine."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

from ..dna.aws.calls import Clients
from ..dna.database import Database
from ..errors import InvalidSetting, StoreError, StoreUnavailable

if TYPE_CHECKING:
    from .dynamodb_saver import EvolutionDynamoDBSaver

STORE = "store"
"""The setting's value for checkpoints in the work file."""
SCHEME = "dynamodb://"
TTL_ATTRIBUTE = "ttl"
_FORM = "dynamodb://TABLE?region=REGION&bucket=BUCKET&prefix=PREFIX, and &ttl_days=DAYS to let old ones expire"
_KEYS = (("PK", "HASH"), ("SK", "RANGE"))
_PATTERNS = {
    "table": re.compile(r"[A-Za-z0-9_.-]{3,255}"),
    "region": re.compile(r"[a-z]{2}(-[a-z]+)+-\d"),
    "bucket": re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]"),
    "prefix": re.compile(r"[\w.-]+(/[\w.-]+)*", re.ASCII),
    "ttl_days": re.compile(r"[1-9]\d{0,3}"),
}
_POLL_S = 1.0
_PATIENCE = 120
"""How often a new table is asked whether it is ready."""


@dataclass(frozen=True, slots=True)
class CheckpointPlace:
    """Where checkpoints are kept, as the setting `checkpoints` names it.

    Args:
        table: A DynamoDB table with the keys PK and SK.
        region: Of the table and the bucket.
        bucket: Holds the checkpoints that are too large for an item.
        prefix: What the keys of these objects begin with.
        ttl_days: Days after which a checkpoint expires; None keeps all.
    """

    table: str
    region: str
    bucket: str
    prefix: str
    ttl_days: int | None = None

    @classmethod
    def parse(cls, url: str) -> CheckpointPlace:
        """Read the setting.

        Raises:
            InvalidSetting: It names no such place.
        """
        parts = urlsplit(url)
        named = dict(parse_qsl(parts.query, keep_blank_values=True)) | {"table": parts.netloc}
        named["prefix"] = named.get("prefix", "").strip("/")
        if not url.startswith(SCHEME) or parts.path.strip("/"):
            raise _unusable(url, "it does not begin with dynamodb://TABLE?")
        if unknown := set(named) - set(_PATTERNS):
            raise _unusable(url, f"{min(unknown)!r} is no part of it")
        for name, pattern in _PATTERNS.items():
            if (name != "ttl_days" or name in named) and not pattern.fullmatch(named.get(name, "")):
                raise _unusable(url, f"its {name} {named.get(name, '')!r} cannot be used")
        days = named.pop("ttl_days", None)
        return cls(**named, ttl_days=int(days) if days else None)

    @property
    def folder(self) -> str:
        """Where in the bucket the large checkpoints lie; nothing else may, since they may expire there."""
        return f"{self.prefix}/checkpoints"


def _unusable(url: str, why: str) -> InvalidSetting:
    return InvalidSetting(f"setting 'checkpoints' is {url!r}: {why}.", hint=f"Write {STORE!r} or {_FORM}.")


def open_cloud_checkpointer(
    url: str, clients: Clients, database: Database, before_put: Callable[[str], object] = lambda _: None
) -> EvolutionDynamoDBSaver:
    """Open the checkpointer of a table; nothing is sent to AWS yet.

    Args:
        url: The setting `checkpoints`.
        clients: Make the calls, retry them, and read the time.
        database: The work file, which tells whoever watches.
        before_put: Given a run, sends what its next checkpoint refers to, where records are sent on: a checkpoint that
            is found at another machine before them would be gone on from without them. Raises where the run is another
            machine's by now.

    Raises:
        InvalidSetting: The setting cannot be used, or the extra it needs is not installed.
    """
    place = CheckpointPlace.parse(url)
    try:
        from .dynamodb_saver import EvolutionDynamoDBSaver
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith("langgraph_checkpoint_aws"):
            raise
        raise InvalidSetting(
            "setting 'checkpoints' names a DynamoDB table, for which langgraph-checkpoint-aws is not installed.",
            hint="Install it with: pip install 'bedrock-evolution[aws]'",
        ) from error
    return EvolutionDynamoDBSaver(place, clients, database, before_put)


def prepare_checkpoints(url: str, clients: Clients) -> None:
    """Make the table where it is missing, and let old checkpoints expire if the setting says so.

    The bucket must be there. Its other lifecycle rules stay as they are.

    Args:
        url: The setting `checkpoints`.
        clients: Make the calls.

    Raises:
        InvalidSetting: The setting cannot be used.
        StoreError: There is a table of this name with other keys, or AWS refuses.
        StoreUnavailable: AWS cannot be reached.
    """
    place = CheckpointPlace.parse(url)
    _prepare_table(place, clients)
    if place.ttl_days is not None:
        _expire_items(place, clients)
        _expire_objects(place, place.ttl_days, clients)


def _prepare_table(place: CheckpointPlace, clients: Clients) -> None:
    if (table := _described(place, clients)) is None:
        clients.call(
            "dynamodb",
            place.region,
            "create_table",
            TableName=place.table,
            AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name, _ in _KEYS],
            KeySchema=[{"AttributeName": name, "KeyType": kind} for name, kind in _KEYS],
            BillingMode="PAY_PER_REQUEST",
        )
    for _ in range(_PATIENCE):
        table = _described(place, clients)
        if table is not None and table["TableStatus"] == "ACTIVE":
            break
        clients.clock.sleep(_POLL_S)
    else:
        raise StoreUnavailable(f"table {place.table} in {place.region} is not ready yet.", hint="Try again later.")
    if {(key["AttributeName"], key["KeyType"]) for key in table["KeySchema"]} != set(_KEYS):
        raise StoreError(
            f"table {place.table} in {place.region} has other keys than PK and SK: it is no table of checkpoints.",
            hint="Name another table in setting 'checkpoints'.",
        )


def _described(place: CheckpointPlace, clients: Clients) -> dict[str, Any] | None:
    try:
        told = clients.call("dynamodb", place.region, "describe_table", TableName=place.table)
    except StoreError as error:
        if _code(error) == "ResourceNotFoundException":
            return None
        raise
    return dict(told["Table"])


def _expire_items(place: CheckpointPlace, clients: Clients) -> None:
    told = clients.call("dynamodb", place.region, "describe_time_to_live", TableName=place.table)
    if told["TimeToLiveDescription"].get("TimeToLiveStatus") not in ("ENABLED", "ENABLING"):
        clients.call(
            "dynamodb",
            place.region,
            "update_time_to_live",
            TableName=place.table,
            TimeToLiveSpecification={"Enabled": True, "AttributeName": TTL_ATTRIBUTE},
        )


def _expire_objects(place: CheckpointPlace, days: int, clients: Clients) -> None:
    rule_id = f"bedrock-evolution {place.folder}"
    try:
        told = clients.call("s3", place.region, "get_bucket_lifecycle_configuration", Bucket=place.bucket)
    except StoreError as error:
        if _code(error) != "NoSuchLifecycleConfiguration":
            raise
        told = {}
    rule = {
        "ID": rule_id,
        "Status": "Enabled",
        "Filter": {"Prefix": f"{place.folder}/"},
        "Expiration": {"Days": days},
        # Where the bucket keeps versions, what expired would stay as one.
        "NoncurrentVersionExpiration": {"NoncurrentDays": 1},
    }
    others = [each for each in told.get("Rules", []) if each.get("ID") != rule_id]
    clients.call(
        "s3",
        place.region,
        "put_bucket_lifecycle_configuration",
        Bucket=place.bucket,
        LifecycleConfiguration={"Rules": [*others, rule]},
    )


def _code(error: StoreError) -> str:
    """Return the code that AWS refused with."""
    response = getattr(error.__cause__, "response", {})
    return str(response.get("Error", {}).get("Code", ""))
