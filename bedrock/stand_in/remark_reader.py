"""Reading remarks: what a person says of a gene, as other values of it that are tried like any others.

It understands a gene's name with a direction, a value, an option, a switch, or words to add or leave out, and nothing
else. Remarks are untrusted: they are cut to a bounded size, and nothing of them goes anywhere but into a gene's value.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from ...dna.genes import ChoiceGene, FlagGene, Gene, GeneValue, TextGene
from .feedback_reader import MAX_CHARS, QUOTE
from .vector_space import VectorSpace
from .wording import COMMON, clean, joined, words_of

_ORIGIN = "feedback"
_STEP = 0.2
"""How far a number moves in its range when a remark names a direction only."""
_MOST_WISHES = 2
"""Of remarks that contradict each other about a gene, this many are tried."""
_HERE = "\x00"
"""Stands where a gene was named; no cleaned text holds it."""
_SENTENCES = re.compile(r"(?<=[.!?;])\s+")
_PIECES = re.compile(r",\s+|\s+(?:and|but|while)\s+")
_NO = re.compile(r"\b(?:not|never|no|avoid|without|stop)\b|n['\u2019]t\b", re.IGNORECASE)
_NOT_ENOUGH = re.compile(
    r"(?:\bnot|n['\u2019]t(?: \w+)?) (?:(high|large|big|long)|(low|small|short)) enough\b", re.IGNORECASE
)
_UP = re.compile(
    r"\b(?:rais\w+|increas\w+|(?:higher|more|larger|bigger|greater)(?! than)|up|too (?:low|small|little|few|short))\b",
    re.IGNORECASE,
)
_DOWN = re.compile(
    r"\b(?:reduc\w+|decreas\w+|(?:lower|less|smaller|fewer)(?! than)|down|"
    r"too (?:high|large|big|great|much|many|long))\b",
    re.IGNORECASE,
)
_TO = re.compile(r"(?:\b(?:to|be|at)|=)\s*(-?\d+(?:\.\d+)?)(?![\w%]|\.\d)", re.IGNORECASE)
_ON = re.compile(r"\b(?:turn|switch|set|put|be)\b.*\bon\b|\b(?:enabl|activat)\w+|\btrue\b", re.IGNORECASE)
_OFF = re.compile(r"\b(?:turn|switch|set|put|be)\b.*\boff\b|\b(?:disabl|deactivat)\w+|\bfalse\b", re.IGNORECASE)
_AGAINST_OPTION = re.compile(
    r"(?:\b(?:not|never|instead of|rather than|than|from|over|avoid|without|stop using)|n['\u2019]t(?: \w+)?)\s+\W?$",
    re.IGNORECASE,
)
_SAY = r"(?:mention|includ|add|say|name|cover|list)\w*"
_SAY_IN = re.compile(rf"\b{_SAY}\s+(.+?)\s+(?:in|into|to|for|under|from)\s+(?:the\s+)?{_HERE}", re.IGNORECASE)
_SAYS = re.compile(rf"{_HERE}\s+(?:\w+\s+){{1,3}}{_SAY}\s+(.+)$", re.IGNORECASE)
_OUT_OF = re.compile(rf"\b(?:remov|drop|delet)\w*\s+(.+?)\s+(?:in|from)\s+(?:the\s+)?{_HERE}", re.IGNORECASE)


class Remark(NamedTuple):
    """What a person or another program said of the application."""

    text: str
    number: int | None = None


class Wish(NamedTuple):
    """What remarks were understood to ask for."""

    changes: dict[str, GeneValue]
    numbers: tuple[int, ...]
    """The remarks that ask for it."""


def origin_of(wish: Wish) -> str:
    """Return the origin of a proposal that grants a wish, with the numbers of its remarks, such as `feedback:3,5`."""
    return f"{_ORIGIN}:{','.join(map(str, wish.numbers))}" if wish.numbers else _ORIGIN


def remarks_answered(origin: str) -> list[int]:
    """Return the numbers of the remarks that a proposal of this origin answers."""
    operator, _, numbers = origin.partition(":")
    return [int(number) for number in numbers.split(",")] if operator == _ORIGIN and numbers else []


def understand(
    remarks: Sequence[Remark], genes: Mapping[str, Gene], live: Mapping[str, GeneValue]
) -> tuple[list[Wish], list[str]]:
    """Return what remarks ask for, oldest first, and the texts of those in which nothing was understood.

    Args:
        remarks: What was said, oldest first.
        genes: Declarations of all genes; wishes for those that are locked or code are not granted.
        live: The values the application runs with.
    """
    reader = _Reader(genes, live)
    wishes: dict[tuple[tuple[str, GeneValue], ...], Wish] = {}
    about: dict[str, int] = {}
    others: list[str] = []
    for remark in remarks:
        changes = reader.read(clean(remark.text[:MAX_CHARS]))
        if not changes:
            others.append(remark.text)
            continue
        key, number = tuple(sorted(changes.items())), () if remark.number is None else (remark.number,)
        if key in wishes:
            wishes[key] = Wish(changes, wishes[key].numbers + number)
        elif all(about.get(name, 0) < _MOST_WISHES for name in changes):
            wishes[key] = Wish(changes, number)
            about |= {name: about.get(name, 0) + 1 for name in changes}
    return list(wishes.values()), others


class _Reader:
    """Finds in a remark the genes it names, and what it wants of each."""

    def __init__(self, genes: Mapping[str, Gene], live: Mapping[str, GeneValue]) -> None:
        self._genes, self._live = genes, live
        self._calls = _calls(genes)

    def read(self, text: str) -> dict[str, GeneValue]:
        """Return the values that a remark wants and the genes do not have."""
        wanted = {name: value for sentence in _SENTENCES.split(text) for name, value in self._wanted(sentence)}
        return {name: value for name, value in wanted.items() if value != self._live[name]}

    def _wanted(self, sentence: str) -> Iterator[tuple[str, GeneValue]]:
        several = len(self._named(sentence)) > 1
        for piece in _PIECES.split(sentence) if several else [sentence]:
            for name, clause in self._named(piece).items():
                value = _wanted_value(clause, name, self._genes[name], self._live[name])
                if value is not None:
                    yield name, value

    def _named(self, text: str) -> dict[str, str]:
        """Return the genes a text names, each with the text, its name replaced by a mark; longer names go first."""
        found: dict[str, str] = {}
        left = text
        for name, call in self._calls:
            # Most genes are not named at all, and looking for a word is cheaper than matching a pattern.
            if name in found or call not in left.casefold():
                continue
            pattern = re.compile(rf"(?<![\w.]){_quoted(call)}{re.escape(call)}(?!\w|\.\w)", re.IGNORECASE)
            if pattern.search(left):
                found[name], left = pattern.sub(_HERE, text, count=1), pattern.sub(" ", left)
        return {name: clause for name, clause in found.items() if self._open(self._genes[name])}

    @staticmethod
    def _open(gene: Gene) -> bool:
        return gene.searchable and not gene.locked


def _quoted(word: str) -> str:
    """Return what must stand before a word to make it a name: a quote, where it is a common word."""
    return r"[\"'`\u201c\u2018\u00ab]" if word in COMMON else ""


def _calls(genes: Mapping[str, Gene]) -> list[tuple[str, str]]:
    """Return what genes may be called: their name, the same in words, or its last part where only one has it."""
    parts = {name: re.findall(r"[^\W_]+", name.casefold()) for name in genes}
    lasts = [words[-1] for words in parts.values() if words]
    calls = [(name, name.casefold()) for name in genes]
    calls += [(name, " ".join(words)) for name, words in parts.items() if len(words) > 1]
    calls += [(name, words[-1]) for name, words in parts.items() if len(words) > 1 and lasts.count(words[-1]) == 1]
    return sorted(calls, key=lambda call: (-len(call[1]), call))


def _wanted_value(clause: str, name: str, gene: Gene, live: GeneValue) -> GeneValue | None:
    match gene:
        case TextGene():
            return _worded(clause, gene, str(live))
        case ChoiceGene():
            return _chosen(clause, gene, live)
        case FlagGene():
            on, off = bool(_ON.search(clause)), bool(_OFF.search(clause))
            return None if on == off or _NO.search(clause) else on
    direction = _direction(clause)
    space = VectorSpace({name: gene})
    if (given := _TO.search(clause)) and not _NO.search(clause):
        low, high, _ = space.limits[0]
        value = float(given.group(1))
        return _moved(space, name, min(max(value, low), high), 0.0)
    return _moved(space, name, live, _STEP * direction) if direction else None


def _direction(clause: str) -> int:
    """Return 1 for up, -1 for down, 0 where a clause says neither, or both."""
    if few := _NOT_ENOUGH.search(clause):
        return 1 if few.group(1) else -1
    if _NO.search(clause):
        return 0
    return bool(_UP.search(clause)) - bool(_DOWN.search(clause))


def _moved(space: VectorSpace, name: str, value: GeneValue, step: float) -> GeneValue:
    [unit] = space.encode({name: value})
    least = float(space.steps[0])
    move = step and (max(step, least) if step > 0 else min(step, -least))
    return space.decode(np.array([unit + move]))[name]


def _chosen(clause: str, gene: ChoiceGene, live: GeneValue) -> GeneValue | None:
    wanted = []
    for option in gene.options:
        pattern = rf"(?<!\w){_quoted(option.casefold())}{re.escape(option)}(?!\w)"
        found = re.search(pattern, clause, re.IGNORECASE) if option else None
        if found and option != live and not _AGAINST_OPTION.search(clause[: found.start()]):
            wanted.append(option)
    return wanted[0] if len(wanted) == 1 else None


def _worded(clause: str, gene: TextGene, live: str) -> GeneValue | None:
    out = _OUT_OF.search(clause)
    found = out or _SAY_IN.search(clause) or _SAYS.search(clause)
    if found is None:
        return None
    quoted = QUOTE.search(found.group(1))
    phrase = next(filter(None, quoted.groups())) if quoted else found.group(1).strip(" ,;:.!?")
    if not words_of(phrase):
        return None
    present = re.compile(rf"\s*(?<!\w){re.escape(phrase)}(?!\w)", re.IGNORECASE)
    if out or _NO.search(clause.replace(phrase, "", 1)):
        text = present.sub("", live).strip()
    else:
        text = live if present.search(live) else joined([live, phrase])
    return text if gene.min_chars <= len(text) <= gene.max_chars else None
