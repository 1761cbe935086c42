"""The command line's frame: commands by group, one way to print, one way to fail."""

from __future__ import annotations

import json
import sys

import typer

from ..errors import EvolutionError, ExitCode
from . import audit, inspect, operate, run, safety, store, store_data

app = typer.Typer(
    name="bedrock-evolution",
    help="Supervised evolution of running AI applications.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
run.add_to(app)
inspect.add_to(app)
operate.add_to(app)
safety.add_to(app)
audit.add_to(app)
store.add_to(app)
store_data.add_to(store.group)


def run_command_line() -> None:
    """Run one command; errors made on purpose are one message and an exit code, never a traceback."""
    try:
        app()
    except EvolutionError as error:
        if "--json" in sys.argv:
            print(json.dumps({"error": error.message, "hint": error.hint, "exit_code": int(error.exit_code)}))
        print(f"error: {error.message}", file=sys.stderr)
        if error.hint:
            print(f"  -> {error.hint}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(ExitCode.FAILED)
