"""`store verify`: everything that a cloud store holds, in every region, and the regions with one another."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

from ....errors import StoreUnavailable, UnknownRun
from ...database import Database
from ..mending import Mender
from ..objects import folders
from ..place import CloudPlace
from ..record import Record
from ..regions import Regions
from .control import Controls
from .findings import Finding, Findings, Told, nobody
from .following import bring_up
from .inspection import Inspection
from .run_inspection import RunInspection
from .summed import Look

_AT_ONCE = 16
"""So many objects are read at once; a client has 32 connections."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How a region's record of an application compares with that of the region that is written to.

    Args:
        app: The application.
        region: The region.
        role: `writer` or `replica`.
        events: How many events it holds.
        generations: How many generations of DNA it holds.
        behind: How many events of the writer's region it lacks.
        forked_at: Number of the first event that is another one than in the writer's region; None for none.
    """

    app: str
    region: str
    role: str
    events: int
    generations: int
    behind: int = 0
    forked_at: int | None = None


@dataclass(frozen=True, slots=True)
class Verification:
    """What a verification looked at, and what is wrong.

    Args:
        epoch: Number of the epoch.
        writer: The region that is written to.
        standings: How each region stands, by application.
        runs: How many runs were looked at.
        items: How many items were looked at, over all regions.
        objects: How many objects were read, over all regions.
        findings: What is wrong.
        mended: What was wrong and is mended.
        unreachable: Regions that could not be reached, and were not looked at.
    """

    epoch: int
    writer: str
    standings: tuple[Standing, ...]
    runs: int
    items: int
    objects: int
    findings: tuple[Finding, ...]
    mended: tuple[Finding, ...]
    unreachable: tuple[str, ...]

    @property
    def intact(self) -> bool:
        """Whether nothing is wrong, and every region could be asked."""
        return not self.findings and not self.unreachable


def verify(
    regions: Regions,
    *,
    app: str | None = None,
    repair: bool = False,
    copy: Database | None = None,
    also: Sequence[Look] = (),
    told: Told = nobody,
) -> Verification:
    """Look at everything that a store holds.

    Args:
        regions: Where it is.
        app: Only this application; None for all.
        repair: Mend what has a sound copy: in the same region, as an older version, or in another region.
        copy: The working copy of this machine, if it may be a source too.
        also: Look at what other parts of the program keep in the table.
        told: Told of the progress.

    Raises:
        StoreUnavailable: No region can be reached.
        UnknownRun: The store does not hold the application.
    """
    findings = Findings(repair)
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return _Verifying(regions, findings, copy, pool, told, also).run(app)


class _Verifying:
    """One verification at work."""

    def __init__(
        self,
        regions: Regions,
        findings: Findings,
        copy: Database | None,
        pool: Executor,
        told: Told,
        also: Sequence[Look],
    ) -> None:
        self._regions = regions
        self._place: CloudPlace = regions.place
        self._findings = findings
        self._copy = copy
        self._pool = pool
        self._told = told
        self._also = also
        self._unreachable: dict[str, None] = {}
        self._standings: list[Standing] = []
        self._runs = 0

    def run(self, only: str | None) -> Verification:
        controls = Controls(self._regions, self._findings)
        epoch = controls.judge()
        self._unreachable.update(dict.fromkeys(controls.unreachable))
        records = {
            region: Record(table, self._place)
            for region, table in self._regions.tables.items()
            if region not in self._unreachable
        }
        # The region that is written to comes first: the others are compared with it.
        records = dict(sorted(records.items(), key=lambda each: each[0] != epoch.region))
        apps = self._apps(records)
        if only is not None and only not in apps:
            raise UnknownRun(f"the store holds no application {only!r}.", hint=f"It holds: {', '.join(apps)}.")
        for app in [only] if only else apps:
            self._app(app, records, epoch.region)
        for region, record in records.items():
            self._reached(region, partial(controls.judge_names, record, apps))
        found = self._findings.found
        return Verification(
            epoch=epoch.number,
            writer=epoch.region,
            standings=tuple(self._standings),
            runs=self._runs,
            items=self._findings.items,
            objects=self._findings.objects,
            findings=tuple(finding for finding in found if not finding.mended),
            mended=tuple(finding for finding in found if finding.mended),
            unreachable=tuple(self._unreachable),
        )

    def _apps(self, records: Mapping[str, Record]) -> list[str]:
        """Return the applications that have anything in any region."""
        apps: set[str] = set()
        for region, record in records.items():
            self._reached(region, partial(self._add_apps, record, apps))
        return sorted(apps)

    def _add_apps(self, record: Record, apps: set[str]) -> None:
        for what in ("events", "dna"):
            apps.update(folders(record.table, f"{self._place.prefix}/{what}/"))
        apps.update(app for app in record.apps() if record.holds(app))

    def _reached(self, region: str, look: Callable[[], None]) -> bool:
        """Look at something in a region; tell whether it could be reached."""
        try:
            look()
        except StoreUnavailable:
            self._unreachable[region] = None
        return region not in self._unreachable

    def _mender(self, record: Record, records: Mapping[str, Record]) -> Mender:
        others = [other for other in records.values() if other is not record]
        return Mender([record, *others], copy=self._copy, thorough=True)

    def _app(self, app: str, records: Mapping[str, Record], writer: str) -> None:
        looked: dict[str, Inspection] = {}
        for region, record in records.items():
            inspection = Inspection(
                app,
                record,
                self._place,
                mender=self._mender(record, records),
                findings=self._findings,
                pool=self._pool,
                told=self._told,
            )
            if self._reached(region, inspection.run):
                looked[region] = inspection
        for region, inspection in looked.items():
            self._compare(app, region, inspection, looked.get(writer), records, writer)
        self._look_at_runs(app, {region: records[region] for region in looked}, looked, writer)
        for region in looked:
            others = [records[other].table for other in looked if other != region]
            for look in self._also:
                self._reached(region, partial(look, app, records[region].table, others, self._findings))

    def _compare(
        self,
        app: str,
        region: str,
        found: Inspection,
        writers: Inspection | None,
        records: Mapping[str, Record],
        writer: str,
    ) -> None:
        events, generations = len(found.hashes), len(found.checksums)
        if region == writer or writers is None:
            role = "writer" if region == writer else "replica"
            self._standings.append(Standing(app, region, role, events, generations))
            return
        hashes = writers.hashes
        if len(hashes) < events:  # stored since the writer's region was looked at, or there only
            hashes = [*hashes, *(e.hash for e in records[writer].events(app, after=len(hashes), upto=events))]
        common = _common(found.hashes, hashes)
        behind = len(hashes) - common
        lacks = len(writers.checksums) - _common(found.checksums, writers.checksums)
        if common < events:
            self._standings.append(Standing(app, region, "replica", events, generations, behind, common + 1))
            other = "holds another one" if behind else "lacks it"
            wrong = f"event {common + 1} is not the one of {writer}, which {other}: the region was written to by itself"
            self._findings.add(records[region].site, f"the record of {app!r}", wrong)
            return
        if behind or lacks:
            what = f"{behind} events" if behind else f"{lacks} generations"
            mend = partial(bring_up, app, writers.end, records[writer], records[region], self._regions)
            self._findings.add(
                records[region].site, f"the record of {app!r}", f"is {what} behind {writer}", source=writer, mend=mend
            )
        if behind and self._findings.found[-1].mended:
            events, generations, behind = len(writers.hashes), len(writers.checksums), 0
        self._standings.append(Standing(app, region, "replica", events, generations, behind))

    def _look_at_runs(
        self, app: str, records: Mapping[str, Record], looked: Mapping[str, Inspection], writer: str
    ) -> None:
        runs = {run for inspection in looked.values() for run in inspection.runs}
        for record in records.values():
            runs.update(folders(record.table, f"{self._place.folder('runs', app)}/"))
        for number, run_id in enumerate(sorted(runs), 1):
            self._run(app, run_id, records, writer)
            self._told(f"runs of {app}", number, len(runs))
        self._runs += len(runs)

    def _run(self, app: str, run_id: str, records: Mapping[str, Record], writer: str) -> None:
        looked: dict[str, RunInspection] = {}
        for region, record in records.items():
            inspection = RunInspection(
                app,
                run_id,
                record,
                mender=self._mender(record, records),
                findings=self._findings,
                pool=self._pool,
            )
            if self._reached(region, inspection.run):
                looked[region] = inspection
        for region, inspection in looked.items():
            if region != writer and writer in looked:
                inspection.follow(looked[writer])


def _common(one: Sequence[Any], other: Sequence[Any]) -> int:
    """Return how many of the first ones are the same."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((number for number, (a, b) in pairs if a != b), min(len(one), len(other)))
