"""`approvals`, `approve`, `reject`, `rollback`, `feedback`, `doctor`: what a person does to a running application."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from .options import App, AsJson, By, Store, Why, chosen_app, open_store, print_json

if TYPE_CHECKING:
    from ..dna.database import Database
    from ..governance.approvals import Approval, Approvals

ApprovalId = Annotated[str, typer.Argument(metavar="ID", help="The approval, as `approvals` lists it.")]


def add_to(app: typer.Typer) -> None:
    """Register the commands of this group."""
    for command in (approvals, approve, reject, rollback, feedback, doctor):
        app.command()(command)


def approvals(
    app: App = None,
    store: Store = None,
    everything: Annotated[bool, typer.Option("--all", help="Answered ones too.")] = False,
    as_json: AsJson = False,
) -> None:
    """List what waits for a person, with the changes and the evidence."""
    database, dna_store = open_store(store)
    found = _approvals(database).listed(chosen_app(dna_store, app), pending_only=not everything)
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


def rollback(
    to: Annotated[int, typer.Option("--to", min=0, help="Generation of the DNA to go back to.")],
    by: By,
    why: Why = "",
    app: App = None,
    store: Store = None,
    as_json: AsJson = False,
) -> None:
    """Make the gene values of an earlier generation live again, as a new generation."""
    from ..clock import SystemClock
    from ..governance.rollback import roll_back

    _, dna_store = open_store(store)
    name = chosen_app(dna_store, app)
    dna = roll_back(dna_store, name, to, by=by, why=why, clock=SystemClock())
    if as_json:
        print_json({"app": name, "generation": dna.generation, "checksum": dna.checksum})
    else:
        print(f"{name}: generation {to} is live again, as generation {dna.generation}")


def feedback(
    text: Annotated[str, typer.Argument(help="What to tell the advisor; it is data and has no authority.")],
    source: Annotated[str, typer.Option(help="Who says it.")] = "command line",
    app: App = None,
    store: Store = None,
    as_json: AsJson = False,
) -> None:
    """Leave feedback for the advisor."""
    from ..clock import SystemClock
    from ..governance.feedback import FeedbackQueue

    database, dna_store = open_store(store)
    remark = FeedbackQueue(database, SystemClock()).add(chosen_app(dna_store, app), text, source=source)
    if as_json:
        print_json(remark)
    else:
        print(f"kept as number {remark.number}; the advisor reads it in the next generation")


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


def _answer(
    approval_id: str, verdict: Literal["approve", "reject"], by: str, why: str, store: str | None, as_json: bool
) -> None:
    database, _ = open_store(store)
    approval = _approvals(database).answer(approval_id, verdict, by=by, why=why)
    if as_json:
        print_json(approval)
    else:
        print(f"{approval.approval_id} {approval.status} by {approval.by}")
        there = f" --store {store}" if store else ""
        print(f"  resume: bedrock-evolution run APP{there} --resume {approval.run_id}")


def _approvals(database: Database) -> Approvals:
    from ..clock import SystemClock
    from ..governance.approvals import Approvals

    return Approvals(database, SystemClock())


def _print_approval(approval: Approval) -> None:
    question = approval.question
    evidence = question["evidence"]
    print(f"{approval.approval_id}  {approval.status}  {approval.asked_at}  run {approval.run_id}")
    print(f"  {question['why']} · risk {question['risk']['value']:.2f}")
    print(f"  gain {evidence['gain']:+.4g}, at least {evidence['at_least']:+.4g}, on {evidence['cases']} cases")
    for gene, change in question["changes"].items():
        print(f"  {gene}: {change['from']!r} -> {change['to']!r}")
