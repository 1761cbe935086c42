"""What failed cases say about each text: which words and phrases it lacks, and which mislead."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import chain
from typing import TypeAlias

from .feedback_reader import Ask, read
from .trials import Feedback
from .wording import says_little, stem, word_set

MAX_FEEDBACK = 512
"""Pieces of feedback read; the rest is cut, so that untrusted text costs bounded time."""
_LONGEST_INSTRUCTION = 24
"""Words in an unquoted phrase that can still be taken over as it stands."""
_LITTLE = 0.05
"""What a word that says little counts for."""
_VARIANT = 0.5
"""What another form of a word counts for, beside the form seen most."""
_RIVAL = 0.5
"""How much another text's own use of a word counts against it, in cases."""
_RECURRENCE_PRIOR, _RECURRENCE_STRENGTH = 0.3, 8.0
"""How often both cases of a word are of the same text, before any word was seen twice, and what that counts for."""
_PAIR = 2.0
_ACQUITTAL = 2.0
"""How many cases that blame a word one case that asks for it outweighs."""
_LEAST_SCORE = 0.02
"""Words that score less are not offered at all."""
_CONFIRMED = 0.5
"""Score from which a word is likelier than not to help a case it was not drawn from."""

Table: TypeAlias = dict[str, dict[str, float]]
"""By gene, then by word, stem or phrase."""


@lru_cache(maxsize=4)
def gather_evidence(
    names: tuple[str, ...], texts: tuple[tuple[str, str], ...], feedback: tuple[Feedback, ...]
) -> TextEvidence:
    """Return what feedback says; generations of the same best parent share it, so nobody may change it."""
    return TextEvidence(names, dict(texts), feedback)


class TextEvidence:
    """Words to add and to drop, gene by gene, scored by how far they should hold for cases not seen.

    A word drawn from one failed case always helps that case, and says nothing about others. So of its first case
    a word is credited only with what such a word is usually worth: the share of words seen in exactly two cases
    for which both were of the same text (as Good and Turing estimate the unseen from what was seen least). Every
    further case counts in full. Words of many cases of this text and of few others thus come first, and what
    one case alone mentions is trusted only where words keep to their texts.

    Args:
        names: The text genes that are searched.
        texts: The live values of all text genes.
        feedback: What was said of failed cases.
    """

    def __init__(self, names: Sequence[str], texts: Mapping[str, str], feedback: Sequence[Feedback]) -> None:
        self._names = names
        self.blamed: Table = {name: defaultdict(float) for name in names}
        self.wanted: Table = {name: defaultdict(float) for name in names}
        """Cases by stem."""
        self.phrases: Table = {name: defaultdict(float) for name in names}
        self.spelling: dict[str, str] = {}
        # Of each stem: the fewest telling words it was asked for with, and the weight of a single case.
        self._shortest: dict[str, dict[str, int]] = {name: {} for name in names}
        self._share: Table = {name: {} for name in names}
        self._forms: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
        self._asked: dict[str, float] = defaultdict(float)
        for entry in feedback:
            if entry.gene is None or entry.gene in self.wanted:
                self._listen(entry)
        recurrence = self._recurrence()
        used = {name: frozenset(map(stem, word_set(text))) for name, text in texts.items()}
        users = Counter(chain.from_iterable(used.values()))
        leads = {root: max(forms, key=forms.__getitem__) for root, forms in self._forms.items()}
        self.gains: Table = {}
        for name in names:
            rivals = {root: users[root] - (root in used[name]) for root in self.wanted[name]}
            self.gains[name] = self._score(name, rivals, leads, recurrence)
        self.confirmed: Table = {
            name: {word: score for word, score in scores.items() if score >= _CONFIRMED}
            for name, scores in self.gains.items()
        }

    def _listen(self, entry: Feedback) -> None:
        weight = entry.weight if 0.0 < entry.weight < math.inf else 1.0
        targets = self._names if entry.gene is None else [entry.gene]
        share = weight / len(targets)
        for ask in read(entry.text):
            for target in targets:
                self._count(target, ask, share)
            if ask.wanted:
                for root in ask.stems:
                    self._asked[root] += weight
                for word in ask.words:
                    self._forms[stem(word)][word] += weight
            for word, spelling in ask.spelled:
                if not self.spelling.get(word, "").islower():
                    self.spelling[word] = spelling

    def _count(self, target: str, ask: Ask, share: float) -> None:
        """Count one case for or against the words of one phrase."""
        if not ask.wanted:
            for root in ask.stems:
                self.blamed[target][root] += share
            return
        shortest, shares = self._shortest[target], self._share[target]
        for root in ask.stems:
            self.wanted[target][root] += share
            shortest[root] = min(shortest.get(root, ask.telling), ask.telling)
            shares[root] = max(shares.get(root, 0.0), share)
        if ask.quoted or len(ask.words) <= _LONGEST_INSTRUCTION:
            self.phrases[target][ask.phrase] += share

    def _recurrence(self) -> float:
        """Estimate how likely a word of one case of a text is to come from that text again."""
        if len(self._names) == 1:
            return 0.0
        twice = [root for root, count in self._asked.items() if count == _PAIR and not says_little(root)]
        same = sum(sum(root in wanted for wanted in self.wanted.values()) == 1 for root in twice)
        pairs = len(twice) + _RECURRENCE_STRENGTH
        return (same + _RECURRENCE_PRIOR * _RECURRENCE_STRENGTH) / pairs

    def _score(
        self, name: str, rivals: Mapping[str, int], leads: Mapping[str, str], recurrence: float
    ) -> dict[str, float]:
        """Score the words a text could gain."""
        scores: dict[str, float] = {}
        for root, cases in self.wanted[name].items():
            # The case asked for all its words together; one of them alone is credited with its part.
            credit = max(recurrence, 1.0 / self._shortest[name][root])
            support = cases - self._share[name][root] * (1.0 - credit)
            against = max(self._asked[root] - cases, self.blamed[name].get(root, 0.0))
            score = support * (support / (support + against + _RIVAL * rivals[root])) ** 2
            if score <= _LEAST_SCORE:
                continue
            forms, lead = self._forms[root], leads[root]
            for word, count in forms.items():
                worth = score if word == lead else score * _VARIANT * count / forms[lead]
                worth *= _LITTLE if says_little(word) else 1.0
                if worth > _LEAST_SCORE:
                    scores[word] = worth
        return scores

    def guilt(self, name: str, text: str) -> dict[str, float]:
        """Return the words of a text that failed cases blame, far more than others ask for them."""
        wanted, blamed = self.wanted[name], self.blamed[name]
        found = {
            word: blamed.get(stem(word), 0.0) - _ACQUITTAL * wanted.get(stem(word), 0.0)
            for word in sorted(word_set(text))
            if not says_little(word)
        }
        return {word: score for word, score in found.items() if score > 0.0}
