"""Reading what an evaluator said of a failed case: which phrases it asks for, and which it blames.

Feedback is untrusted: it is cut to a bounded size, and nothing of it goes anywhere but into a gene's text.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

from .wording import clean, says_little, spellings, stem, words_of

MAX_CHARS = 2000
_MAX_PHRASE_CHARS = 600
_LONGEST_LABEL = 8
"""A colon after more words than this ends a clause, not a label."""
QUOTE = re.compile(
    r"\"([^\"]+)\"|\u201c([^\u201d]+)\u201d|\u00ab([^\u00bb]+)\u00bb|`([^`]+)`"
    r"|(?<!\w)'([^']+)'(?!\w)|\u2018([^\u2019]+)\u2019"
)
_CLAUSE = re.compile(r"(?<=[.!?;\u3002\uff01\uff1f])\s*|:\s+|,\s+(?=but\b|not\b|and\b|got\b|instead\b)|\s+(?=but\b)")
_AGAINST = re.compile(
    r"\b(?:not|never|no|avoid\w*|wrong\w*|false\w*|incorrect\w*|remov\w*|drop\w*|delet\w*|irrelevant|"
    r"unneeded|unnecessar\w*|without|stop|too|excess\w*|mistaken\w*|confus\w*|harmful|forbid\w*|instead of|"
    r"rather than|unwanted|stole|stolen|got|over\w+)\b|n['\u2019]t\b",
    re.IGNORECASE,
)
_FOR = re.compile(r"\b(?:require\w*|includ\w*|add|mention\w*|want\w*|absent|should)\b", re.IGNORECASE)
_STRONG_FOR = re.compile(
    r"\b(?:miss\w*|lack\w*|need\w*(?! not)|expect\w*|omit\w*|forg[eo]t\w*|should have|must(?! not)|"
    r"(?:did|does|do|was|were|is)(?:n['\u2019]t| not) (?:\w+ )?(?:recogni[sz]\w*|match\w*|includ\w*|"
    r"mention\w*|find|found|tak\w*|cover\w*|know\w*|contain\w*|handl\w*|catch|caught))",
    re.IGNORECASE,
)
_NO_NEED = re.compile(r"(?:\b(?:no|not|never)|n['\u2019]t) (?:need|require|expect|miss)", re.IGNORECASE)


class Ask(NamedTuple):
    """One phrase of a piece of feedback."""

    phrase: str
    wanted: bool
    """Asked for; if not, blamed."""
    quoted: bool
    """Given word for word."""
    words: tuple[str, ...]
    """The distinct words of the phrase, folded."""
    stems: tuple[str, ...]
    """Their distinct stems."""
    telling: int
    """How many of its words say something; at least 1."""
    spelled: tuple[tuple[str, str], ...]
    """All its words, folded, each with its spelling."""


def read(text: str) -> tuple[Ask, ...]:
    """Split one piece of feedback into what it asks for and what it blames."""
    return _read(text[:MAX_CHARS])


@lru_cache(maxsize=1024)
def _read(text: str) -> tuple[Ask, ...]:
    return tuple(_ask(*found) for found in _phrases(clean(text)))


def _ask(phrase: str, wanted: bool, quoted: bool) -> Ask:
    head = phrase[:_MAX_PHRASE_CHARS]
    words = words_of(head)
    return Ask(
        phrase=phrase,
        wanted=wanted,
        quoted=quoted,
        words=words,
        stems=tuple(dict.fromkeys(map(stem, words))),
        telling=sum(not says_little(word) for word in words) or 1,
        spelled=tuple(spellings(head)),
    )


def _phrases(text: str) -> list[tuple[str, bool, bool]]:
    """Return (phrase, wanted, quoted): the quotes if there are any, else what follows a label, else clauses."""
    if quotes := _quotes(text):
        return quotes
    head, colon, tail = text.partition(": ")
    if colon and len(words_of(head)) <= _LONGEST_LABEL and words_of(tail) and not _STRONG_FOR.match(tail):
        return [(tail, _wanted(head, default=True), True)]
    found, wanted = [], True
    for clause in _CLAUSE.split(text):
        if clause and words_of(clause):
            wanted = _wanted(clause, default=wanted)
            found.append((clause.strip(" ,;:"), wanted, False))
    return found


def _quotes(text: str) -> list[tuple[str, bool, bool]]:
    found, last, wanted = [], 0, True
    for match in QUOTE.finditer(text):
        wanted = _wanted(text[last : match.start()], default=wanted)
        found.append((next(group for group in match.groups() if group), wanted, True))
        last = match.end()
    return found


def _wanted(lead: str, *, default: bool) -> bool:
    """Whether some words ask for what they are said of; the default if they do not tell."""
    if _NO_NEED.search(lead):
        return False
    if _STRONG_FOR.search(lead):
        return True
    if _AGAINST.search(lead):
        return False
    return True if _FOR.search(lead) else default
