"""`run`: evolve an application, or go on with a run."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from .options import AsJson, Store, print_json

if TYPE_CHECKING:
    from ..evolution import Evolution
    from ..results import EvolutionResult, Progress


def add_to(app: typer.Typer) -> None:
    """Register the commands of this group."""
    app.command()(run)


def run(
    app: Annotated[str, typer.Argument(help="The application: path/app.py:evolution or module:evolution.")],
    generations: Annotated[int | None, typer.Option(min=1, help="Generations at most; 10 by default.")] = None,
    seed: Annotated[int, typer.Option(help="Equal seeds give equal runs on equal DNA.")] = 0,
    store: Store = None,
    model: Annotated[str | None, typer.Option(help="local (the stand-in) or bedrock.")] = None,
    resume: Annotated[str | None, typer.Option(metavar="RUN", help="Go on with this run instead.")] = None,
    as_json: AsJson = False,
) -> None:
    """Evolve an application on its own data; it goes on from the DNA that is live in the store."""
    from ..graph.loading import app_file, load_app

    evolution: Evolution = load_app(app).using(near=app_file(app), store=store, model=model)
    with _stopped_by_ctrl_c(evolution):
        items = (
            evolution.stream_resumed(resume, generations=generations)
            if resume is not None
            else evolution.stream(generations or 10, seed=seed)
        )
        result = _followed(items, quiet=as_json, local=evolution.local)
    if as_json:
        print_json(result.as_json())
    else:
        from .report import print_result

        there = f" --store {store}" if store else ""
        print_result(result, again=app + there + (f" --model {model}" if model else ""), store=there)
    sys.exit(result.exit_code)


def _followed(items: Iterator[Progress | EvolutionResult], *, quiet: bool, local: bool) -> EvolutionResult:
    from ..progress import watch
    from ..results import Progress

    def announced() -> Iterator[Progress | EvolutionResult]:
        named = False
        for item in items:
            if not named and isinstance(item, Progress):
                named = True
                who = "the stand-in (rules, no language model)" if local else "Bedrock"
                print(f"run {item.run_id} · advised by {who}", file=sys.stderr)
            yield item

    return watch(announced(), show=not quiet)


@contextmanager
def _stopped_by_ctrl_c(evolution: Evolution) -> Iterator[None]:
    """Stop after the current step at the first Ctrl-C or SIGTERM, at once at the second Ctrl-C."""

    def stop(*_: object) -> None:
        evolution.stop()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        # Not print: the signal may have come while something else was writing to the same buffer.
        os.write(2, b"\nstopping after the current step; Ctrl-C again stops at once\n")

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
