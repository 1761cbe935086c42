"""`status`: what is live, what runs, what waits for a person; nothing here changes anything."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Any

from .options import App, AsJson, Store, chosen_app, counted, open_store, print_json
from .tables import number, print_table

if TYPE_CHECKING:
    from ..dna.database import Database
    from ..dna.sqlite import SQLiteDNAStore
    from ..governance.approvals import Approval
    from ..governance.calibration import Calibration

_SHOWN, _MOST = 20, 1000
"""So many of this machine's runs are shown, and so many are known not to be another one's."""


def status(app: App = None, store: Store = None, as_json: AsJson = False) -> None:
    """Show the live DNA, the runs, what waits for a person, how decisions held, and what is left alone or stopped."""
    database, dna_store = open_store(store)
    found = _status(database, dna_store, chosen_app(dna_store, app), f" --store {store}" if store else "")
    if as_json:
        print_json(found)
    else:
        _print_status(found)


def _status(database: Database, store: SQLiteDNAStore, app: str, there: str) -> dict[str, Any]:
    from ..clock import SystemClock
    from ..governance.calibration import calibration
    from ..governance.feedback import FeedbackQueue
    from ..governance.outcomes import OutcomeTable
    from ..governance.safe_mode import SafeMode
    from ..healing.breaker import CircuitBreaker
    from ..settings import Settings
    from .operate import approvals_of

    live = OutcomeTable(database, store, app=app, safety=Settings.load().safety).summary()
    clock, head, asked = SystemClock(), store.head(app), approvals_of(database, store)
    safe = SafeMode(store, clock).since(app)
    return {
        "app": app,
        "live": head and {"generation": head.generation, "checksum": head.checksum, "fitness": head.fitness},
        "live_outcomes": live and asdict(live),
        "safe_mode": safe and {"since": safe.since.isoformat(), "why": safe.why, "by": safe.actor},
        "runs": _runs(database, store, app, there),
        "queue": store.queue(),
        "approvals": [asked.current(each) for each in asked.listed(app, pending_only=True)],
        "feedback": {"queued": FeedbackQueue(database, store, clock).count_queued(app)},
        "calibration": calibration(store, app),
        "resting": [
            {"model": model, "region": region, "until": until.isoformat(), "error": error}
            for (model, region), until, error in CircuitBreaker(database, clock).resting()
        ],
    }


def _runs(database: Database, store: SQLiteDNAStore, app: str, there: str) -> list[dict[str, Any]]:
    from ..clock import SystemClock
    from ..fitness.journal import Journal

    known = Journal(database, SystemClock()).runs(app, limit=_MOST)
    stopped = {run.run_id for run in known[:_SHOWN] if run.status != "done" and not database.leased(run.run_id)}
    elsewhere = {run_id for run_id in stopped if not store.works_on(app, run_id)}
    found = [asdict(run) for run in known[:_SHOWN] if run.run_id not in elsewhere]
    for run in found:
        # Nobody works on it: its process died without a word.
        if run["status"] == "running" and run["run_id"] in stopped:
            run |= {"status": "died", "resume": f"bedrock-evolution run APP{there} --resume {run['run_id']}"}
    return found + _elsewhere(store, app, {run.run_id for run in known} - elsewhere)


def _elsewhere(store: SQLiteDNAStore, app: str, here: set[str]) -> list[dict[str, Any]]:
    """Return the newest runs that other machines work on, as the record tells of them."""
    ends = {event.run_id: event.data["summary"] for event in reversed(store.recent(app, ["ended"], limit=100))}
    return [
        {
            "run_id": begun.run_id,
            "seed": begun.data["seed"],
            "status": ends.get(begun.run_id, {}).get("status", "elsewhere"),
            "summary": ends.get(begun.run_id, {}),
        }
        for begun in store.recent(app, ["begun"], limit=_SHOWN)
        if begun.run_id not in here
    ]


def _waits(found: Mapping[str, Any] | None) -> Iterator[str]:
    """Say what waits to be sent to a store in the cloud."""
    if not found:
        return
    if found["waiting"] or found["failing_since"]:
        since = f", the oldest since {found['oldest']}" if found["oldest"] else ""
        yield f"queue: {counted(found['waiting'])} to be sent{since}"
    if found["failing_since"]:
        yield f"  the store cannot be used since {found['failing_since']}: {found['error']}"
    if found["refused"]:
        yield f"set aside: {found['refused']} events, as another machine was faster or has taken their run over"


def _live_outcomes(found: Mapping[str, Any] | None) -> str:
    """Say how the live genes do for their users, and whether that is compared with the genes before them."""
    if not found or (not found["outcomes"] and not found["comparison"]):
        return ""
    told = f"live outcomes: mean {number(found['mean_now'])} over {found['outcomes']}"
    if compared := found["comparison"]:
        evidence = f"evidence of harm {compared['e_value']:.3g}, a rollback needs {compared['threshold']:.3g}"
        return f"{told}, {number(compared['mean_before'])} before; {evidence}"
    return f"{told}; not compared: {found['why_not']}"


def _print_status(found: Mapping[str, Any]) -> None:
    if live := found["live"]:
        shown = f"DNA generation {live['generation']} is live, fitness {number(live['fitness'])}"
        print(f"{found['app']}: {shown}, {live['checksum'][:12]}")
    if told := _live_outcomes(found["live_outcomes"]):
        print(told)
    if safe := found["safe_mode"]:
        print(f"SAFE MODE since {safe['since']}, by {safe['by']}: {safe['why']}")
        print("  nothing changes until a person lifts it: bedrock-evolution safe-mode lift --by NAME")
    rows = [
        [run["run_id"], run["status"], str(run["seed"])]
        + [_change(run["summary"], name) for name in ("fitness", "test_fitness")]
        + [str(run["summary"].get("trials", ""))]
        for run in found["runs"]
    ]
    print_table(["run", "status", "seed", "fitness", "test", "trials"], rows)
    for line in _waits(found["queue"] and asdict(found["queue"])):
        print(line)
    for run in found["runs"]:
        if "resume" in run:
            print(f"died: {run['run_id']}; resume: {run['resume']}")
    for approval in found["approvals"]:
        _print_waiting(approval)
    print(_calibrated(found["calibration"]))
    if queued := found["feedback"]["queued"]:
        print(f"feedback: {queued} queued for the advisor")
    for rest in found["resting"]:
        what = "every model" if rest["model"] == "*" else rest["model"]
        until = datetime.fromisoformat(rest["until"])
        print(f"left alone until {until:%H:%M:%S} UTC: {what} in {rest['region']}, after {rest['error']}")


def _print_waiting(approval: Approval) -> None:
    from ..governance.feedback import flattened

    what = f"{approval.approval_id} of {approval.run_id}"
    if approval.status == "pending":
        print(f"waiting: {what} until {approval.expires_at}: {flattened(approval.question['why'])}")
    else:
        print(f"{approval.status}: {what}: {approval.why}")


def _calibrated(found: Calibration) -> str:
    if not found.decisions:
        return "calibration: no decision has an outcome yet"
    told = f"calibration: {found.held} of {found.decisions} decisions held, at a mean confidence of"
    told += f" {found.mean_confidence:.1%}"
    told += f"; over-confident by {found.overconfidence:.1%}" if found.overconfidence else "; not over-confident"
    if found.actual_impact is not None:
        told += f"; undone changes: {found.predicted_impact:+.4g} predicted, {found.actual_impact:+.4g} measured"
    return told


def _change(summary: Any, name: str) -> str:
    return f"{number(summary.get(f'baseline_{name}'))} -> {number(summary.get(name))}" if summary else ""
