"""`CloudDNAStore` does what every store must, on an emulator in a process of its own; each store is a machine."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import count
from pathlib import Path

import pytest

from bedrock_evolution.dna.cloud import CloudDNAStore
from tests.dna.store_contract import APP, Place, StoreContract
from tests.support.cloud import Cloud, cloud, opened
from tests.support.faulty_proxy import FaultyProxy
from tests.support.moto_server import MotoServer, moto_server

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server() -> Iterator[MotoServer]:
    with moto_server() as running:
        yield running


@pytest.fixture(scope="module")
def proxy(server: MotoServer) -> Iterator[FaultyProxy]:
    with FaultyProxy(server.url) as between:
        yield between


@pytest.fixture
def there(proxy: FaultyProxy) -> Cloud:
    return cloud(proxy.url)


class TestCloudDNAStore(StoreContract):
    @pytest.fixture
    def place(self, there: Cloud, proxy: FaultyProxy, tmp_path: Path) -> Place:
        machines = count(1)

        def opened_anew() -> CloudDNAStore:
            return opened(there, tmp_path / f"machine-{next(machines)}.db", patience_s=0.0, attempts=1)

        def alter(generation: int, old: str, new: str) -> None:
            there.alter_dna(APP, generation, old, new)
            for file in tmp_path.glob("machine-*.db"):
                with closing(sqlite3.connect(file)) as connection, connection:
                    connection.execute(
                        "UPDATE dna SET document = replace(document, ?, ?) WHERE generation = ?", [old, new, generation]
                    )

        def fail() -> Callable[[], None]:
            proxy.down()
            return proxy.up

        program = f"""
            from pathlib import Path
            from tempfile import mkdtemp
            from tests.support.cloud import Cloud, opened
            there = Cloud({there.url!r}, {dict(there.endpoints)!r})
            store = opened(there, Path(mkdtemp(dir={str(tmp_path)!r}), "work.db"))
        """
        return Place(open=opened_anew, program=program, alter=alter, fail=fail)
