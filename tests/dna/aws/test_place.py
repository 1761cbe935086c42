"""Where a cloud store is, read from its URL: no calls."""

from __future__ import annotations

import pytest

from bedrock_evolution.clock import RandomIds, SystemClock
from bedrock_evolution.dna.aws.calls import Clients
from bedrock_evolution.dna.aws.place import CloudPlace, Site
from bedrock_evolution.dna.aws.record import Record
from bedrock_evolution.dna.aws.regions import Regions
from bedrock_evolution.dna.aws.stored import Segment, Snapshot, StoredEvent
from bedrock_evolution.errors import StoreError

URL = "s3://acme/prod?table=evolution&region=eu-central-1"


def test_a_replica_has_the_table_of_its_home_unless_it_names_another() -> None:
    place = CloudPlace.parse(f"{URL}&replica=eu-west-1:copy&replica=eu-west-3:third:other")
    assert place.sites[1:] == (Site("eu-west-1", "copy", "evolution"), Site("eu-west-3", "third", "other"))


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("s3://acme?table=evolution&region=eu-central-1", "the prefix is missing"),
        ("s3://acme/prod?region=eu-central-1", "the table is missing"),
        ("s3://acme/prod?table=evolution", "the region is missing"),
        ("s3://acme/prod?table=evolution&region=Frankfurt", "'Frankfurt' is no name of a region"),
        ("s3://Acme/prod?table=evolution&region=eu-central-1", "'Acme' is no name of a bucket"),
        (f"{URL}&regin=eu-west-1", "'regin' is no part of it"),
        (f"{URL}&replica=eu-west-1", "names no bucket"),
        (f"{URL}&replica=eu-central-1:copy", "a region is named twice"),
    ],
)
def test_a_url_that_names_no_store_is_refused(url: str, told: str) -> None:
    with pytest.raises(StoreError, match=told) as refused:
        CloudPlace.parse(url)
    assert "s3://BUCKET/PREFIX?table=TABLE&region=REGION" in refused.value.hint


@pytest.mark.parametrize("app", ["a" * 797, "ä" * 133])
def test_a_name_that_would_be_too_long_for_a_key_is_refused(app: str) -> None:
    place = CloudPlace.parse(URL)
    for named in (place.partition, lambda app: place.folder("dna", app)):
        with pytest.raises(StoreError, match=r"takes 79[78] bytes in the keys of S3, where 796 are left"):
            named(app)


@pytest.mark.parametrize("app", ["a" * 796, "ä" * 132])
def test_every_key_of_the_longest_name_fits(app: str) -> None:
    place = CloudPlace.parse(URL)
    record = Record(Regions(Clients(lambda: None), place, SystemClock()).tables["eu-central-1"], place)
    digest = "f" * 64
    keys = [
        record.event_object(app, StoredEvent(10**11, "", "", digest, "", "2026/11/23")),
        record.snapshot_object(app, Snapshot(10**11, digest, None, None, "")),
        record.segment_object(app, Segment(RandomIds(SystemClock()).new("run"), 10**7, b"")),
        f"{place.folder('audit', app)}/segments/{10**11}-{10**11}.jsonl.gz",
    ]
    assert max(len(key.encode()) for key in keys) <= 1024
