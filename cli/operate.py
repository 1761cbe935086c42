"""`approvals`, `approve`, `reject`, `feedback`, `doctor`: what a person says to a running application."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from .options import App, AsJson, By, Store, Why, chosen_app, open_store, print_json, tell_what_waits

if TYPE_CHECKING:
    from ..dna.database import Database
    from ..dna.sqlite import SQLiteDNAStore
    from ..governance.approvals import Approval, Approvals
    from ..governance.feedback import Remark

ApprovalId = Annotated[str, typer.Argument(metavar="ID", help="The approval, as `approvals` lists it.")]
_LISTED = 50


def add_to(app: typer.Typer) -> None:
    """Register the commands of this group."""
    for command in (approvals, approve, reject, feedback, doctor):
        app.command()(command)


def approvals(
    app: App = None,
    store: Store = None,
    everything: Annotated[bool, typer.Option("--all", help="Answered, expired and void ones too.")] = False,
    as_json: AsJson = False,
) -> None:
    """List what waits for a person, with the changes and the evidence."""
    database, dna_store = open_store(store)
    name, asked = chosen_app(dna_store, app), approvals_of(database, dna_store)
    # What expired or became void since is recorded now, and shown this once.
    found = [asked.settle(each.approval_id) for each in asked.listed(name, pending_only=not everything)]
    if as_json:
        print_json({"approvals": found})
        return
    for approval in found:
        _print_approval(approval)
    if not found:
        print("nothing waits for a person")


def approve(approval_id: ApprovalId, by: By, why: Why = "", store: Store = None, as_json: AsJson = False) -> None:
    """Approve a mutation; the run goes on when it is resumed."""
    _answer(approval_id, "approve", by, why, store, as_json)


def reject(approval_id: ApprovalId, by: By, why: Why = "", store: Store = None, as_json: AsJson = False) -> None:
    """Reject a mutation; the run goes on when it is resumed."""
    _answer(approval_id, "reject", by, why, store, as_json)


def feedback(
    text: Annotated[str | None, typer.Argument(help="What to tell the advisor; it is data, without authority.")] = None,
    source: Annotated[str, typer.Option(help="Who says it.")] = "command line",
    listing: Annotated[bool, typer.Option("--list", help="Show the newest feedback, and what became of it.")] = False,
    app: App = None,
    store: Store = None,
    as_json: AsJson = False,
) -> None:
    """Leave feedback for the advisor, or list what became of it."""
    from ..clock import SystemClock
    from ..errors import UsageError
    from ..governance.feedback import FeedbackQueue

    if listing == (text is not None):
        raise UsageError("feedback needs a text, or --list.", hint="Give one of the two.")
    database, dna_store = open_store(store)
    name, queue = chosen_app(dna_store, app), FeedbackQueue(database, dna_store, SystemClock())
    if text is None:
        _list_feedback(database, queue.listed(name, limit=_LISTED), as_json)
        return
    remark = queue.add(name, text, source=source)
    if as_json:
        print_json(remark)
    else:
        print(f"kept as number {remark.number}; an advisor reads it in the next generation")
    tell_what_waits(dna_store)


def doctor(store: Store = None, as_json: AsJson = False) -> None:
    """Check settings, store, models, prices, credentials and access to AWS, and say how to mend what is wrong."""
    from .checks import all_checks

    checks = all_checks(store)
    if as_json:
        print_json({"checks": checks})
    else:
        for check in checks:
            print(f"{'ok  ' if check.ok else 'FAIL'} {check.name}: {check.found}")
            if check.remedy:
                print(f"     -> {check.remedy}")
    if not all(check.ok for check in checks):
        raise typer.Exit(1)


def approvals_of(database: Database, store: SQLiteDNAStore) -> Approvals:
    """Return the approvals of a store, to be read and answered."""
    from ..clock import SystemClock
    from ..governance.approvals import Approvals
    from ..settings import Autonomy

    # Questions are put by runs only, and keep the time they were given.
    return Approvals(database, store, SystemClock(), hours=Autonomy().approval_hours)


def _answer(
    approval_id: str, verdict: Literal["approve", "reject"], by: str, why: str, store: str | None, as_json: bool
) -> None:
    database, dna_store = open_store(store)
    approval = approvals_of(database, dna_store).answer(approval_id, verdict, by=by, why=why)
    if as_json:
        print_json(approval)
    else:
        print(f"{approval.approval_id} {approval.status} by {approval.by}")
        there = f" --store {store}" if store else ""
        print(f"  resume: bedrock-evolution run APP{there} --resume {approval.run_id}")
    tell_what_waits(dna_store)


def _print_approval(approval: Approval) -> None:
    from ..governance.feedback import flattened

    question = approval.question
    risk, evidence = question["risk"], question["evidence"]
    parts = ", ".join(f"{name} {part:.2f}" for name, part in risk["parts"].items())
    least = "" if evidence["at_least"] is None else f", at least {evidence['at_least']:+.4g}"
    print(f"{approval.approval_id}  {approval.status}  run {approval.run_id}, generation {approval.generation}")
    print(f"  asked {approval.asked_at}, expires {approval.expires_at}")
    print(f"  {flattened(question['why'])} · risk {risk['value']:.2f} ({parts})")
    print(f"  gain {evidence['gain']:+.4g}{least}, on {evidence['cases']} cases ({approval.evidence[:12]})")
    for gene, change in question["changes"].items():
        print(f"  {gene}: {change['from']!r} -> {change['to']!r}")
    if approval.status != "pending":
        reason = f": {approval.why}" if approval.why else ""
        print(f"  {approval.status} by {approval.by} at {approval.answered_at}{reason}")


def _list_feedback(database: Database, remarks: list[Remark], as_json: bool) -> None:
    from ..governance.feedback import flattened

    told = [(remark, _became(database, remark)) for remark in remarks]
    if as_json:
        print_json({"feedback": [asdict(remark) | {"trials": trials} for remark, trials in told]})
        return
    for remark, trials in told:
        where = f"read in {remark.run_id}, generation {remark.generation}" if remark.status == "read" else "queued"
        print(f"{remark.number}  {where}  {remark.source}: {remark.text!r}")
        if remark.meaning:
            print(f"  understood: {remark.meaning}")
        for trial in trials:
            print(f"  {trial['mutation']}  {trial['status']}  {flattened(trial['rationale'])}")
        if remark.status == "read" and not trials:
            print("  no proposal answers it")
    if not told:
        print("there is no feedback")


def _became(database: Database, remark: Remark) -> list[dict[str, Any]]:
    """Return the trials of the proposals that answer a remark."""
    from ..clock import SystemClock
    from ..fitness.journal import Journal

    if remark.run_id is None or remark.generation is None:
        return []
    trials = Journal(database, SystemClock()).trials(remark.run_id, generation=remark.generation)
    return [
        {"mutation": t.mutation, "status": t.status, "fitness": t.fitness, "rationale": t.about["rationale"]}
        for t in trials
        if t.mutation in remark.proposals
    ]
