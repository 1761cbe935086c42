"""Conflicts around a candidate, found by rules: same genes, contradictory feedback, a concurrent change."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

Conflict = dict[str, Any]
"""`id`, `kind`, what it is `between` (ids of mutations, `remark N`, or `live`), and which gene it is `about`."""
Kind = Literal["same gene", "feedback", "concurrent change"]

LIVE = "live"
"""Stands for the live DNA in a conflict."""
_HIGHER = re.compile(
    r"\b(?:higher|rais\w+|increas\w+|more|larger|bigger|longer|too (?:low|small|short|little|few|strict))\b"
)
_LOWER = re.compile(r"\b(?:lower|reduc\w+|decreas\w+|less|smaller|shorter|too (?:high|large|big|long|much|many|lax))\b")
_NOT = re.compile(r"(?:\b(?:not|never|no)|n['\u2019]t)(?: \w+)? $")


def conflicts(
    candidate: Mapping[str, Any],
    alternatives: Sequence[Mapping[str, Any]],
    remarks: Sequence[Mapping[str, Any]],
    *,
    head_moved: bool,
) -> list[Conflict]:
    """Return what somebody has to resolve before the candidate becomes live.

    Args:
        candidate: Its `mutation_id` and its `changes`, by gene, each with `from` and `to`.
        alternatives: Other mutations, of the same form.
        remarks: Feedback: `number` and `text` of each.
        head_moved: Whether the live DNA changed since the candidate was proposed.
    """
    changes = candidate["changes"]
    found: list[tuple[Kind, list[str], str]] = []
    for gene in changes:
        others = [other["mutation_id"] for other in alternatives if _differs(gene, changes, other["changes"])]
        if others:
            found.append(("same gene", [candidate["mutation_id"], *others], gene))
        asked = {direction(gene, remark["text"]): remark for remark in remarks}
        if {"higher", "lower"} <= asked.keys():
            numbers = sorted(asked[way]["number"] for way in ("higher", "lower"))
            found.append(("feedback", [f"remark {number}" for number in numbers], gene))
    if head_moved:
        found.append(("concurrent change", [candidate["mutation_id"], LIVE], "the live DNA"))
    return [
        {"id": f"c{number}", "kind": kind, "between": between, "about": about}
        for number, (kind, between, about) in enumerate(found, 1)
    ]


def direction(gene: str, remark: str) -> Literal["higher", "lower", ""]:
    """Return whether a remark asks for more or for less of a gene; empty if it does not speak of it, or asks both."""
    text = remark.casefold()
    name = re.sub(r"[\W_]+", r"[\\W_]+", gene.casefold())
    if not re.search(rf"(?<!\w){name}(?!\w)", text):
        return ""
    up = _wanted(_HIGHER, text) or _unwanted(_LOWER, text)
    down = _wanted(_LOWER, text) or _unwanted(_HIGHER, text)
    if up == down:
        return ""
    return "higher" if up else "lower"


def _differs(gene: str, changes: Mapping[str, Any], others: Mapping[str, Any]) -> bool:
    return gene in others and others[gene]["to"] != changes[gene]["to"]


def _wanted(words: re.Pattern[str], text: str) -> bool:
    return any(not _NOT.search(text[: match.start()]) for match in words.finditer(text))


def _unwanted(words: re.Pattern[str], text: str) -> bool:
    return any(_NOT.search(text[: match.start()]) for match in words.finditer(text))
