"""The command line."""

from __future__ import annotations


def main() -> None:
    """Run the command line; installed as `bedrock-evolution`."""
    from .app import run_command_line

    run_command_line()
