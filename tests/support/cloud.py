"""A cloud store's bucket and table in an emulator, made anew for each test."""

import random
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import boto3

from bedrock_evolution.clock import Clock, RandomIds, SystemClock
from bedrock_evolution.dna.aws.calls import ATTEMPTS, Clients
from bedrock_evolution.dna.aws.place import CloudPlace, Site
from bedrock_evolution.dna.aws.regions import Regions
from bedrock_evolution.dna.aws.setup.blueprint import signing_alias
from bedrock_evolution.dna.aws.stored import dna_sk
from bedrock_evolution.dna.cloud import CloudDNAStore
from bedrock_evolution.dna.database import Database
from bedrock_evolution.dna.events import EvolutionEvent

REGIONS = ("eu-central-1", "eu-west-1")
PREFIX = "prod"
_NUMBERS = count(1)


def session() -> boto3.Session:
    """Return a session with credentials that no service knows."""
    return boto3.Session(aws_access_key_id="test", aws_secret_access_key="test")


@dataclass(frozen=True)
class Cloud:
    """A store's place, empty."""

    url: str
    endpoints: Mapping[str, str]

    @property
    def place(self) -> CloudPlace:
        return CloudPlace.parse(self.url)

    def clients(self, *, attempts: int = ATTEMPTS, read_timeout_s: float = 5.0) -> Clients:
        """Return clients of their own, as another process has them."""
        return Clients(session, self.endpoints, attempts=attempts, read_timeout_s=read_timeout_s, connect_timeout_s=1.0)

    def regions(self, clock: Clock | None = None, *, attempts: int = ATTEMPTS) -> Regions:
        return Regions(self.clients(attempts=attempts), self.place, clock or SystemClock())

    def client(self, service: str, region: str = REGIONS[0]) -> Any:
        """Return a client of boto3 itself, to look behind the store's back."""
        return session().client(service, region_name=region, endpoint_url=self.endpoints[region])

    def alter_dna(self, app: str, generation: int, old: str, new: str, *, region: str = REGIONS[0]) -> None:
        """Replace a text in both copies of a stored DNA, behind the store's back."""
        table = (
            session()
            .resource("dynamodb", region_name=region, endpoint_url=self.endpoints[region])
            .Table(self.site(region).table)
        )
        key = {"pk": self.place.partition(app), "sk": dna_sk(generation)}
        item = table.get_item(Key=key)["Item"]
        table.put_item(Item=item | {"document": item["document"].replace(old, new)})
        s3, where = self.client("s3", region), {"Bucket": self.site(region).bucket, "Key": item["object"]}
        body = s3.get_object(**where)["Body"].read().decode()
        s3.put_object(**where, Body=body.replace(old, new).encode())

    def site(self, region: str = REGIONS[0]) -> Site:
        return next(site for site in self.place.sites if site.region == region)

    def environment(self) -> dict[str, str]:
        """Return what another process needs in its environment."""
        endpoints = ",".join(f'"{region}": "{url}"' for region, url in self.endpoints.items())
        return {
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "BEDROCK_EVOLUTION_AWS_ENDPOINTS": "{" + endpoints + "}",
            # A key of several regions cannot be shared by two emulators.
            "BEDROCK_EVOLUTION_AUDIT_KMS_KEY": "none" if len(self.endpoints) > 1 else signing_alias(self.place),
        }


def opened(
    there: Cloud,
    path: Path,
    *,
    patience_s: float = 60.0,
    attempts: int = ATTEMPTS,
    read_timeout_s: float = 5.0,
    clock: Clock | None = None,
) -> CloudDNAStore:
    """Open the store as a machine that works on a file of its own."""
    clock = clock or SystemClock()
    clients = there.clients(attempts=attempts, read_timeout_s=read_timeout_s)
    return CloudDNAStore(
        Database(path),
        Regions(clients, there.place, clock),
        clock=clock,
        ids=RandomIds(clock),
        draws=random.Random(str(path)),
        project=nothing,
        patience_s=patience_s,
    )


def nothing(connection: sqlite3.Connection, event: EvolutionEvent) -> None:
    """Project nothing."""


def cloud(*servers: str) -> Cloud:
    """Make a bucket and a table under names that nobody has.

    Args:
        servers: The emulator's URL for each region.
    """
    name = f"store-{next(_NUMBERS)}"
    endpoints = dict(zip(REGIONS, servers, strict=False))
    for region, endpoint in endpoints.items():
        make(name if region == REGIONS[0] else f"{name}-copy", name, region, endpoint)
    url = f"s3://{name}/{PREFIX}?table={name}&region={REGIONS[0]}"
    made = Cloud(url + "".join(f"&replica={region}:{name}-copy" for region in list(endpoints)[1:]), endpoints)
    kms = made.client("kms")
    key = kms.create_key(KeyUsage="SIGN_VERIFY", KeySpec="RSA_2048")["KeyMetadata"]["KeyId"]
    kms.create_alias(AliasName=signing_alias(made.place), TargetKeyId=key)
    return made


def make(bucket: str, table: str, region: str, endpoint: str) -> None:
    """Make a versioned bucket and a table."""
    s3 = session().client("s3", region_name=region, endpoint_url=endpoint)
    s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": region})
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    keys: Sequence[tuple[str, str]] = (("pk", "HASH"), ("sk", "RANGE"))
    session().client("dynamodb", region_name=region, endpoint_url=endpoint).create_table(
        TableName=table,
        AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name, _ in keys],
        KeySchema=[{"AttributeName": name, "KeyType": kind} for name, kind in keys],
        BillingMode="PAY_PER_REQUEST",
    )
