"""Words, stems, sentences: the little that is known of any text without understanding it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

_CACHED_CHARS = 4000
"""Longer texts are read again each time, so that the caches stay small."""
_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")
_STOP = r"[.!?;。！？]"
_SENTENCE = re.compile(rf".+?(?:{_STOP}(?=\s)\s*|\n\s*|$)", re.DOTALL)
_CLAUSE = re.compile(r".+?(?:,\s+|$)", re.DOTALL)
_TOKEN = re.compile(r"\S+\s*")
_ENDINGS = ("ings", "ing", "ied", "ies", "ers", "er", "ed", "es", "ly", "s", "e", "y")
_SHORTEST_STEM = 3
# Words that say little in any text, one string for the reader's sake.
_COMMON_WORDS = """
a an the and or but if of to in on at by for from with without as is are was were be been being am do does did
has have had i you he she it we they me my your his her its our their this that these those there here not no
so than then too very can could should would will may might must just about into over under up out off again
what which who whom when where why how all any both each few more most other some such only own same s t
please should've shouldn't wasn't isn't don't doesn't didn't case text gene word words hello hi
"""
COMMON = frozenset(_COMMON_WORDS.split())


def words_of(text: str) -> tuple[str, ...]:
    """Return the distinct words of a text, folded, in order."""
    return _words(text) if len(text) <= _CACHED_CHARS else _words.__wrapped__(text)


@lru_cache(maxsize=4096)
def _words(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(_WORD.findall(text.casefold())))


def word_set(text: str) -> frozenset[str]:
    """Return the distinct words of a text, folded."""
    return _word_set(text) if len(text) <= _CACHED_CHARS else frozenset(words_of(text))


@lru_cache(maxsize=4096)
def _word_set(text: str) -> frozenset[str]:
    return frozenset(_words(text))


def spellings(text: str) -> list[tuple[str, str]]:
    """Return the words of a text folded, each with its spelling."""
    return [(word.casefold(), word) for word in _WORD.findall(text)]


@lru_cache(maxsize=8192)
def stem(word: str) -> str:
    """Fold the common English variants of a word together; a word of another language mostly stays itself."""
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= _SHORTEST_STEM:
            word = word.removesuffix(ending)
            break
    doubled = len(word) > _SHORTEST_STEM and word[-1] == word[-2]
    return word[:-1] if doubled else word


@lru_cache(maxsize=8192)
def says_little(word: str) -> bool:
    """Whether a word is too common, too short or too particular (a number) to describe anything."""
    return word in COMMON or len(word) == 1 or any(c.isdigit() for c in word)


def clean(text: str) -> str:
    """Collapse blanks and control characters; lone surrogates cannot be stored and go."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def clip(text: str, limit: int) -> str:
    """Cut a text to a length, at the end of a word where there is one."""
    if len(text) <= limit:
        return text
    head = text[: limit + 1]
    cut = head.rfind(" ")
    return head[:cut].rstrip() if cut > limit // 2 else text[:limit]


def tokens(text: str) -> list[str]:
    """Split a text at blanks, which stay with the word before them."""
    return _TOKEN.findall(text)


def parts(text: str) -> list[str]:
    """Split a text into sentences with the blanks after them, or into clauses if it has only one sentence."""
    sentences = _SENTENCE.findall(text)
    return sentences if len(sentences) > 1 else _CLAUSE.findall(text)


def joined(pieces: Sequence[str]) -> str:
    """Put parts together again, apart by the blanks they bring or by one."""
    return "".join(piece if piece[-1:].isspace() else piece + " " for piece in pieces if piece).strip()
