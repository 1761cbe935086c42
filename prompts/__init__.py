"""Prompt texts, one Markdown file each."""

from __future__ import annotations

from functools import cache
from importlib.resources import files


@cache
def prompt(name: str) -> str:
    """Return the text of `name.md`.

    Raises:
        FileNotFoundError: There is no such prompt.
    """
    return (files(__package__) / f"{name}.md").read_text(encoding="utf-8").strip()
