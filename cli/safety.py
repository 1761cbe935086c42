"""`rollback` and `safe-mode`: what a person does when evolution went wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from .options import App, AsJson, By, Store, Why, chosen_app, open_store, print_json, tell_what_waits

if TYPE_CHECKING:
    from ..governance.safe_mode import SafeModeState

group = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Whether anything may change, and let it.")


def add_to(app: typer.Typer) -> None:
    """Register the commands of this group."""
    app.command()(rollback)
    app.add_typer(group, name="safe-mode")


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


@group.command()
def status(app: App = None, store: Store = None, as_json: AsJson = False) -> None:
    """Say whether the application is in safe mode, since when and why, and which generations are stable."""
    from ..clock import SystemClock
    from ..governance.rollback import stable
    from ..governance.safe_mode import SafeMode

    _, dna_store = open_store(store)
    name = chosen_app(dna_store, app)
    state = SafeMode(dna_store, SystemClock()).since(name)
    generations = [dna.generation for dna in stable(dna_store, name)]
    if as_json:
        print_json({"app": name, "safe_mode": _as_json(state), "stable": generations})
        return
    if state is None:
        print(f"{name}: not in safe mode")
    else:
        print(f"{name}: in safe mode since {state.since:%Y-%m-%d %H:%M} UTC, by {state.actor}")
        print(f"  {state.why}")
        print("  lift: bedrock-evolution safe-mode lift --by NAME")
    print(f"stable generations, newest first: {', '.join(map(str, generations))}")


@group.command()
def lift(by: By, why: Why = "", app: App = None, store: Store = None, as_json: AsJson = False) -> None:
    """Lift safe mode, so that evolution may change genes again."""
    from ..clock import SystemClock
    from ..governance.safe_mode import SafeMode

    _, dna_store = open_store(store)
    name = chosen_app(dna_store, app)
    event = SafeMode(dna_store, SystemClock()).lift(name, by=by, why=why)
    if as_json:
        print_json({"app": name, "lifted_at": event.at.isoformat(), "by": event.actor, "why": event.why})
    else:
        print(f"{name}: safe mode is lifted by {event.actor}")
    tell_what_waits(dna_store)


def _as_json(state: SafeModeState | None) -> dict[str, Any] | None:
    if state is None:
        return None
    return {"since": state.since.isoformat(), "why": state.why, "actor": state.actor}
