"""Edits of text genes, drawn from what evaluators said of failed cases and from what paid before."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from itertools import chain
from typing import TypeAlias, TypeVar

import numpy as np

from ...clock import derive_seed
from ...dna.genes import Gene, GeneValue, TextGene
from .edit_worth import Edit, EditWorth
from .text_evidence import MAX_FEEDBACK, gather_evidence
from .trials import Array, Feedback, Past
from .wording import COMMON, clip, joined, parts, stem, tokens, word_set, words_of

Texts: TypeAlias = dict[str, str]
Operator: TypeAlias = Callable[[Texts], str]
"""Edits texts in place and says in one sentence how."""
Named = TypeVar("Named", bound=str | tuple[str, str, bool])

BATCH = "text:batch"
"""What the names of the edits that change every text at once begin with."""
_SIZES = (2, 4, 8, 16)
"""How many words an edit adds to a text at most."""
_LOAN_SIZES = (2, 6, 16)
"""The same for words nobody asked for."""
_TRIED = 1.5
"""How strongly what a word was worth when it was tried bears on trying it again."""
_VARIANT = 0.5
"""What a word counts for whose variant the text has already."""
_VARIETY, _WIDE_VARIETY = 0.35, 0.7
"""Noise on the weights of words, so that candidates differ."""
_PAID = 0.02
"""Additions worth less than this may be taken back."""
_LENT_WORDS = 400
"""Words a text lends at most: borrowing reads all of them."""
"""Words a text lends at most: borrowing reads all of them."""
_LEAST_CROSSED = 3
"""Fewer trials offer nothing to recombine."""
_HALF, _MOST = 0.5, 0.7
"""Chances of a random part of an edit."""
_CROSSED_TRIALS, _CROSSED_WORDS = 6, 24
"""How many of the best trials are recombined, and how many words a lone text takes over."""
_OWN_NAME = 1.5
"""What the words of a gene's own name and description count for, beside those of other texts."""


class TextSearch:
    """Makes new texts from a base; one method per operator.

    Args:
        genes: All genes; those that are text and not locked are searched.
        live: The live values.
        past: Earlier trials.
        feedback: What was said of failed cases.
        seed: Derives every random choice.
    """

    def __init__(
        self,
        genes: Mapping[str, Gene],
        live: Mapping[str, GeneValue],
        past: Past,
        feedback: Sequence[Feedback],
        seed: int,
    ) -> None:
        self._genes = {n: g for n, g in genes.items() if isinstance(g, TextGene) and not g.locked}
        self.names = list(self._genes)
        self._live, self._past = live, past
        self._rng = np.random.default_rng(derive_seed(seed, "text"))
        texts = {name: str(live[name]) for name, gene in genes.items() if isinstance(gene, TextGene)}
        heard = tuple(feedback[:MAX_FEEDBACK]) if self.names else ()
        self._evidence = gather_evidence(tuple(self.names), tuple(texts.items()), heard)
        self._worth = EditWorth(self.names, live, past)
        self._all_texts = texts

    def distances(self) -> Array:
        """Return how far the trials' texts are apart."""
        return self._worth.distances()

    @cached_property
    def _paid(self) -> dict[Edit, float]:
        return self._worth.best()

    @cached_property
    def _loans(self) -> dict[str, dict[str, float]]:
        """What each text could borrow: words of other texts, of its own name, and of edits that paid."""
        return {name: self._lent(name) for name in self.names}

    def _lent(self, name: str) -> dict[str, float]:
        others = [words_of(text)[:_LENT_WORDS] for other, text in self._all_texts.items() if other != name]
        pool = dict.fromkeys(chain.from_iterable(others), 1.0)
        pool |= dict.fromkeys(words_of(f"{name} {self._genes[name].description}"), _OWN_NAME)
        pool |= {edit.word: 1.0 for edit in self._paid if edit.added}
        return {word: weight for word, weight in pool.items() if word not in COMMON}

    def operators(self) -> dict[str, Operator]:
        """Return the operators that have something to work with."""
        if not self.names:
            return {}
        found: dict[str, Operator] = {}
        if len(self.names) > 1 and any(self._evidence.confirmed.values()):
            found |= {f"{BATCH}{size}": partial(self._batch, size=size) for size in _SIZES}
        if any(self._evidence.gains.values()):
            found |= {f"text:add{size}": partial(self._add, size=size) for size in _SIZES}
        if any(self._evidence.phrases.values()):
            found["text:phrase"] = self._phrase
        if any(self._evidence.blamed.values()):
            found["text:drop"] = self._drop
        found |= {f"text:borrow{size}": partial(self._borrow, size=size) for size in _LOAN_SIZES}
        if self._worth:
            found |= {"text:undo": self._undo, "text:keep": self._keep}
        if len(self._past) >= _LEAST_CROSSED:
            found["text:cross"] = self._cross
        found |= {
            "text:cut": self._cut,
            "text:move": self._move,
            "text:repeat": self._repeat,
            "text:thin": self._thin,
        }
        return found

    # -- adding what is asked for

    def _batch(self, texts: Texts, size: int) -> str:
        """Add to every text at once, and only words that more than one case confirms while there are any."""
        fresh = {name: self._fresh(name, texts[name], self._evidence.confirmed[name]) for name in self.names}
        for name, table in fresh.items():
            self._append(texts, name, self._spell(self._pick(table, size)))
        changed = sum(bool(table) for table in fresh.values())
        return f"Adds to each of {changed} texts up to {size} words its own failed cases ask for."

    def _add(self, texts: Texts, size: int) -> str:
        fresh = {name: self._fresh(name, texts[name], self._evidence.gains[name]) for name in self.names}
        name = self._neediest(fresh)
        self._append(texts, name, self._spell(self._pick(fresh[name], size)))
        return f"Adds to {name!r} up to {size} words its failed cases ask for."

    def _phrase(self, texts: Texts) -> str:
        phrases = self._evidence.phrases
        fresh = {
            name: {phrase: weight for phrase, weight in phrases[name].items() if phrase.casefold() not in text}
            for name, text in ((name, texts[name].casefold()) for name in self.names)
        }
        name = self._neediest(fresh)
        for phrase in self._pick(fresh[name], int(self._rng.integers(1, 4)), variety=_WIDE_VARIETY):
            self._append(texts, name, [phrase])
        return f"Adds to {name!r} phrases of its feedback word for word."

    def _borrow(self, texts: Texts, size: int) -> str:
        fresh = {name: table for name in self.names if (table := self._fresh(name, texts[name], self._loans[name]))}
        if not fresh:
            return "Finds no word to borrow."
        name = self._one(list(fresh))
        self._append(texts, name, self._spell(self._pick(fresh[name], size, variety=_WIDE_VARIETY)))
        return f"Adds to {name!r} up to {size} words from other texts and descriptions."

    def _repeat(self, texts: Texts) -> str:
        name = self._one(self.names)
        if pieces := parts(texts[name]):
            self._append(texts, name, [self._one(pieces).strip()])
        return f"Repeats one clause of {name!r} for emphasis."

    # -- taking away

    def _drop(self, texts: Texts) -> str:
        """Remove blamed words, or the whole clauses that hold them."""
        guilt = {name: self._evidence.guilt(name, texts[name]) for name in self.names}
        everywhere, whole = bool(self._rng.random() < _HALF), bool(self._rng.random() < _HALF)
        worst = self._neediest(guilt)
        for name in self.names if everywhere else [worst]:
            self._remove(texts, name, self._pick(guilt[name], int(self._rng.integers(1, 6))), whole=whole)
        return "Removes words that failed cases blame" + (", with their clauses." if whole else ".")

    def _undo(self, texts: Texts) -> str:
        """Take back the additions that history values least."""
        count = 0
        for name in self.names:
            old = word_set(str(self._live[name]))
            added = {word: self._worth.of(name, word) for word in words_of(texts[name]) if word not in old}
            worst = sorted((worth, word) for word, worth in added.items() if worth < _PAID)
            gone = worst[: int(self._rng.integers(1, max(2, len(worst) // 2 + 1)))]
            if gone and (len(self.names) == 1 or self._rng.random() < _MOST):
                self._remove(texts, name, [word for _, word in gone], whole=False)
                count += len(gone)
        return f"Takes back {count} earlier additions that did not pay."

    def _cut(self, texts: Texts) -> str:
        name = self._one(self.names)
        pieces = parts(texts[name])
        if len(pieces) > 1:
            pieces.pop(int(self._rng.integers(len(pieces))))
            texts[name] = joined(pieces)
        return f"Leaves one clause out of {name!r}."

    def _thin(self, texts: Texts) -> str:
        """Remove a few words, those history values least first."""
        name, worth = self._one(self.names), self._worth
        weights = {
            word: math.exp(_TRIED * (worth.of(name, word, added=False) - worth.of(name, word)))
            for word in words_of(texts[name])
        }
        most = int(2 ** self._rng.integers(0, 4))
        self._remove(texts, name, self._pick(weights, most, variety=_WIDE_VARIETY), whole=False)
        return f"Removes a few words of {name!r}."

    # -- arranging what is there

    def _move(self, texts: Texts) -> str:
        name = self._one(self.names)
        if pieces := parts(texts[name]):
            moved = pieces.pop(int(self._rng.integers(len(pieces))))
            pieces.insert(int(self._rng.integers(len(pieces) + 1)), moved)
            texts[name] = joined(pieces)
        return f"Moves one clause of {name!r}."

    def _keep(self, texts: Texts) -> str:
        """Apply the edits history values most, wherever they were tried."""
        chosen = self._pick(self._paid, int(2 ** self._rng.integers(1, 6)))
        for name in self.names:
            mine = [edit for edit in chosen if edit.gene == name]
            have = word_set(texts[name])
            self._remove(texts, name, [e.word for e in mine if not e.added and e.word in have], whole=False)
            self._append(texts, name, self._spell([e.word for e in mine if e.added and e.word not in have]))
        return "Combines the single edits that went with good scores so far."

    def _cross(self, texts: Texts) -> str:
        """Take each gene's text from one of the good trials; a lone text takes words of one instead."""
        good = self._past.order[:_CROSSED_TRIALS]
        for name in self.names:
            if len(self.names) > 1 and self._rng.random() < _HALF:
                continue
            other = str(self._past.trials[good[int(self._rng.integers(len(good)))]].values[name])
            if len(self.names) > 1:
                texts[name] = other
            else:
                have = word_set(texts[name])
                self._append(texts, name, [word for word in words_of(other) if word not in have][:_CROSSED_WORDS])
        return "Recombines the texts of good earlier trials."

    # -- how texts are edited

    def _fresh(self, name: str, text: str, table: Mapping[str, float]) -> dict[str, float]:
        """Return what of a table of words a text does not have yet, weighted by its worth where it was tried."""
        have = word_set(text)
        roots = frozenset(map(stem, have))
        return {
            word: score * (_VARIANT if stem(word) in roots else 1.0) * math.exp(_TRIED * self._worth.of(name, word))
            for word, score in table.items()
            if word not in have
        }

    def _pick(self, weights: Mapping[Named, float], most: int, *, variety: float = _VARIETY) -> list[Named]:
        """Take what has the highest weights, with some noise so that candidates differ."""
        noise = np.exp(variety * self._rng.standard_normal(len(weights))).tolist()
        ranked = sorted((-weight * luck, name) for (name, weight), luck in zip(weights.items(), noise, strict=True))
        return [name for _, name in ranked[:most]]

    def _neediest(self, tables: Mapping[str, Mapping[str, float]]) -> str:
        """Choose a gene, those with most to do first."""
        return self._pick({name: sum(table.values()) for name, table in tables.items()}, 1, variety=_WIDE_VARIETY)[0]

    def _one(self, candidates: Sequence[str]) -> str:
        return candidates[int(self._rng.integers(len(candidates)))]

    def _spell(self, words: Sequence[str]) -> list[str]:
        return [self._evidence.spelling.get(word, word) for word in words]

    def _append(self, texts: Texts, name: str, pieces: Sequence[str]) -> None:
        """Append words or phrases; if there is no room, earlier additions that paid least make some."""
        if not pieces:
            return
        limit, text = self._genes[name].max_chars, texts[name]
        addition = clip(" ".join(pieces), limit)
        over = len(text) + 1 + len(addition) - limit
        if over > 0:
            text = self._make_room(name, text, over)
        room = limit - len(text) - 1
        texts[name] = f"{text} {clip(addition, room)}".strip() if room > 0 else text

    def _make_room(self, name: str, text: str, over: int) -> str:
        old, pieces = word_set(str(self._live[name])), tokens(text)
        added = [i for i, piece in enumerate(pieces) if not old.issuperset(words_of(piece))]
        added.sort(key=lambda i: (self._worth.of(name, words_of(pieces[i])[0]), i))
        for i in added:
            if over <= 0:
                break
            over -= len(pieces[i])
            pieces[i] = ""
        return "".join(pieces).strip()

    def _remove(self, texts: Texts, name: str, words: Sequence[str], *, whole: bool) -> None:
        """Remove words, or the whole clauses that hold them."""
        gone = frozenset(words)
        pieces = parts(texts[name]) if whole else tokens(texts[name])
        texts[name] = joined([piece for piece in pieces if gone.isdisjoint(words_of(piece))])
