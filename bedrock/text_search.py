"""Edits of text genes, drawn from what evaluators said of failed cases and from what paid before.

Feedback is untrusted: it is cut to a bounded size, and nothing of it goes anywhere but into a gene's text.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..clock import derive_seed
from ..dna.genes import Gene, GeneValue, TextGene

if TYPE_CHECKING:
    from .search import Ancestor, Feedback

MAX_FEEDBACK = 256
MAX_FEEDBACK_CHARS = 2000
_WORD = re.compile(r"[^\W_]+(?:['\u2019-][^\W_]+)*")
_QUOTE = re.compile(
    r"\"([^\"]+)\"|\u201c([^\u201d]+)\u201d|\u00ab([^\u00bb]+)\u00bb|`([^`]+)`"
    r"|(?<!\w)'([^']+)'(?!\w)|\u2018([^\u2019]+)\u2019"
)
_STOP = r"[.!?;\u3002\uff01\uff1f]"
_CLAUSE = re.compile(rf"(?<={_STOP})\s*|:\s+|,\s+(?=but\b|not\b|and\b|got\b|instead\b)|\s+(?=but\b)")
_SENTENCE = re.compile(rf".+?(?:{_STOP}(?=\s)\s*|\n\s*|$)", re.DOTALL)
_AGAINST = re.compile(
    r"\b(?:not|never|no|avoid\w*|wrong\w*|false\w*|incorrect\w*|remov\w*|drop\w*|delet\w*|irrelevant|"
    r"unneeded|unnecessar\w*|without|stop|too|excess\w*|mistaken\w*|confus\w*|harmful|forbid\w*|instead of|"
    r"rather than|unwanted|stole|stolen|got|over\w+)\b|n['\u2019]t\b",
    re.IGNORECASE,
)
_FOR = re.compile(
    r"\b(?:require\w*|includ\w*|add|mention\w*|want\w*|absent|should)\b",
    re.IGNORECASE,
)
_STRONG_FOR = re.compile(
    r"\b(?:miss\w*|lack\w*|need\w*(?! not)|expect\w*|omit\w*|forg[eo]t\w*|should have|must(?! not)|"
    r"(?:did|does|do|was|were|is)(?:n['\u2019]t| not) (?:\w+ )?(?:recogni[sz]\w*|match\w*|includ\w*|"
    r"mention\w*|find|found|tak\w*|cover\w*|know\w*|contain\w*|handl\w*|catch|caught))",
    re.IGNORECASE,
)
_NO_NEED = re.compile(r"(?:\b(?:no|not|never)|n['\u2019]t) (?:need|require|expect|miss)", re.IGNORECASE)
_TOKEN = re.compile(r"\S+\s*")
# Words that say little in any text, one string for the reader's sake.
_COMMON_WORDS = """
a an the and or but if of to in on at by for from with without as is are was were be been being am do does did
has have had i you he she it we they me my your his her its our their this that these those there here not no
so than then too very can could should would will may might must just about into over under up out off again
what which who whom when where why how all any both each few more most other some such only own same s t
please should've shouldn't wasn't isn't don't doesn't didn't case text gene word words hello hi
"""
_COMMON = frozenset(_COMMON_WORDS.split())


def _words(text: str) -> tuple[str, ...]:
    """Return the distinct words of a text, folded, in order."""
    return _short_words(text) if len(text) <= 4000 else _short_words.__wrapped__(text)


@lru_cache(maxsize=4096)
def _short_words(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(_WORD.findall(text.casefold())))


def _forms(text: str) -> list[tuple[str, str]]:
    """Return the words of a text folded, each with its spelling."""
    return [(word.casefold(), word) for word in _WORD.findall(text)]


def _clean(text: str) -> str:
    """Collapse blanks and control characters; lone surrogates cannot be stored and go."""
    plain = "".join(c if c.isprintable() else " " for c in text)
    return " ".join(plain.split())


def _clip(text: str, limit: int) -> str:
    """Cut a text to a length, at the end of a word where there is one."""
    if len(text) <= limit:
        return text
    head = text[: limit + 1]
    cut = head.rfind(" ")
    return head[:cut].rstrip() if cut > limit // 2 else text[:limit]


@lru_cache(maxsize=1024)
def _read(text: str) -> tuple[tuple[str, float, bool], ...]:
    """Split one piece of feedback into (phrase, polarity, quoted); +1 asks for the phrase, -1 blames it."""
    text = _clean(text[:MAX_FEEDBACK_CHARS])
    found: list[tuple[str, float, bool]] = []
    last, sign = 0, 1.0
    for match in _QUOTE.finditer(text):
        lead = text[last : match.start()]
        sign = _polarity(lead, sign)
        found.append((next(group for group in match.groups() if group), sign, True))
        last = match.end()
    if found:
        return tuple(found)
    head, colon, tail = text.partition(": ")
    if colon and len(_words(head)) <= 8 and _words(tail) and not _STRONG_FOR.match(tail):
        return ((tail, _polarity(head, 1.0), True),)
    for clause in _CLAUSE.split(text):
        if clause and _words(clause):
            sign = _polarity(clause, sign)
            found.append((clause.strip(" ,;:"), sign, False))
    return tuple(found)


def _polarity(lead: str, default: float) -> float:
    if _NO_NEED.search(lead):
        return -1.0
    if _STRONG_FOR.search(lead):
        return 1.0
    if _AGAINST.search(lead):
        return -1.0
    return 1.0 if _FOR.search(lead) else default


class TextSearch:
    """Makes new texts from a base; one method per operator.

    Args:
        genes: All genes; those that are text and not locked are searched.
        live: The live values.
        history: Earlier trials, oldest first.
        feedback: What was said of failed cases.
        fitness: The trials' fitness, one number each.
        seed: Derives every random choice.
    """

    def __init__(
        self,
        genes: Mapping[str, Gene],
        live: Mapping[str, GeneValue],
        history: Sequence[Ancestor],
        feedback: Sequence[Feedback],
        fitness: NDArray[np.float64],
        seed: int,
    ) -> None:
        """Read the feedback and the history once; the operators share what was learnt."""
        self.genes = {n: g for n, g in genes.items() if isinstance(g, TextGene) and not g.locked}
        self.names = list(self.genes)
        self.all_text = {n: str(live[n]) for n, g in genes.items() if isinstance(g, TextGene)}
        self.live, self.history, self.fitness = live, history, fitness
        self.rng = np.random.default_rng(derive_seed(seed, "text"))
        self.wanted: dict[str, dict[str, float]] = {name: {} for name in self.names}
        self.blamed: dict[str, dict[str, float]] = {name: {} for name in self.names}
        self.phrases: dict[str, dict[str, float]] = {name: {} for name in self.names}
        self.spelling: dict[str, str] = {}
        if self.names:
            self._listen(feedback)
            self._attribute()
            self._rank(genes)

    def distances(self) -> NDArray[np.float64]:
        """Return how far the trials' texts are apart: the share of edits they do not have in common."""
        n = len(self.history)
        if not self.names or not self.edits:
            return np.zeros((n, n))
        both = self.table @ self.table.T
        own = np.diag(both)
        return np.asarray(1.0 - (both + 0.5) / (own[:, None] + own[None, :] - both + 0.5))

    def _listen(self, feedback: Sequence[Feedback]) -> None:
        """Count, gene by gene, the words that failed cases ask for and those they blame."""
        frequency: dict[str, int] = {}
        entries = [f for f in feedback[:MAX_FEEDBACK] if f.gene is None or f.gene in self.genes]
        asked: dict[str, float] = {}
        for entry in entries:
            weight = entry.weight if 0.0 < entry.weight < math.inf else 1.0
            targets = [entry.gene] if entry.gene is not None else self.names
            for phrase, sign, quoted in _read(entry.text):
                words = _words(phrase[:600])
                table = self.wanted if sign > 0 else self.blamed
                for target in targets:
                    share = weight / len(targets)
                    for word in words:
                        table[target][word] = table[target].get(word, 0.0) + share
                    if sign > 0 and (quoted or len(words) <= 24):
                        self.phrases[target][phrase] = self.phrases[target].get(phrase, 0.0) + share
                for word in words:
                    frequency[word] = frequency.get(word, 0) + 1
                    if sign > 0:
                        asked[word] = asked.get(word, 0.0) + weight
                for word, spelling in _forms(phrase[:600]):
                    if not self.spelling.get(word, "").islower():
                        self.spelling[word] = spelling
        self.asked, self.frequency, self.entries = asked, frequency, len(entries)

    def _attribute(self) -> None:
        """Estimate by ridge regression over history what each word added or removed was worth."""
        self.edits: dict[tuple[str, str, bool], int] = {}
        rows: list[list[int]] = []
        for ancestor in self.history:
            row: list[int] = []
            for name in self.names:
                text, old = str(ancestor.values.get(name, "")), str(self.live[name])
                if text != old:
                    now, was = frozenset(_words(text)), frozenset(_words(old))
                    for added, words in ((True, now - was), (False, was - now)):
                        row += [self.edits.setdefault((name, w, added), len(self.edits)) for w in sorted(words)]
            rows.append(row)
        self.table = np.zeros((len(rows), len(self.edits)))
        for i, row in enumerate(rows):
            self.table[i, row] = 1.0
        self.worth = np.zeros(len(self.edits))
        spread = float(self.fitness.std()) if rows else 0.0
        if len(rows) >= 3 and self.edits and spread > 0:
            centred = self.table - self.table.mean(0)
            gram = centred @ centred.T
            ridge = 0.3 * float(np.trace(gram)) / len(rows) + 1e-9
            target = (self.fitness - self.fitness.mean()) / spread
            self.worth = np.round(centred.T @ np.linalg.solve(gram + ridge * np.eye(len(rows)), target), 9)
        self.unit = float(np.abs(self.worth).max()) if len(self.worth) else 0.0

    def _worth(self, name: str, word: str, added: bool = True) -> float:
        """The estimated worth of an edit, from -1 to 1; 0 if never tried."""
        index = self.edits.get((name, word, added))
        return 0.0 if index is None or not self.unit else float(self.worth[index]) / self.unit

    def _rank(self, genes: Mapping[str, Gene]) -> None:
        """Score the words each gene could gain: asked for here, not elsewhere, and not blamed."""
        self.gains: dict[str, dict[str, float]] = {}
        for name in self.names:
            scores: dict[str, float] = {}
            for word, count in self.wanted[name].items():
                other = self.asked[word] - count
                score = count * (count / (count + other)) ** 2 - 0.7 * self.blamed[name].get(word, 0.0)
                template = self.entries >= 6 and self.frequency[word] > 0.5 * self.entries
                if word in _COMMON or word.isdigit() or len(word) < 2 or template:
                    score *= 0.05
                if score > 0.02:
                    scores[word] = score
            self.gains[name] = scores
        self.loans: dict[str, dict[str, float]] = {}
        for name in self.names:
            pool = {w: 1.0 for n, text in self.all_text.items() if n != name for w in _words(text)[:400]}
            pool |= dict.fromkeys(_words(name + " " + genes[name].description), 1.5)
            pool |= {w: 1.0 for (_n, w, added), k in self.edits.items() if added and self.worth[k] > 0}
            self.loans[name] = {w: s for w, s in pool.items() if w not in _COMMON}

    def operators(self) -> dict[str, Callable[[dict[str, str]], str]]:
        """Return the operators that have something to work with; each edits texts in place and says how."""
        found: dict[str, Callable[[dict[str, str]], str]] = {}
        if any(self.gains.values()):
            for size in (2, 4, 8, 16):
                if len(self.names) > 1:
                    found[f"text:batch{size}"] = lambda texts, size=size: self._batch(texts, size)  # type: ignore[misc]
                found[f"text:add{size}"] = lambda texts, size=size: self._add(texts, size)  # type: ignore[misc]
        if any(self.phrases.values()):
            found["text:phrase"] = self._phrase
        if any(self.blamed.values()):
            found["text:drop"] = self._drop
        if any(self.loans.values()):
            for size in (2, 6, 16):
                found[f"text:borrow{size}"] = lambda texts, size=size: self._borrow(texts, size)  # type: ignore[misc]
        if self.edits:
            found["text:undo"] = self._undo
            found["text:keep"] = self._keep
        if len(self.history) > 2:
            found["text:cross"] = self._cross
        found |= {
            "text:cut": self._cut,
            "text:move": self._move,
            "text:repeat": self._repeat,
            "text:thin": self._thin,
        }
        return found

    def _pick(self, weights: Mapping[str, float], most: int, *, spread: float = 0.35) -> list[str]:
        """Take the highest-weighted words, with some noise so that candidates differ."""
        names = list(weights)
        noise = np.exp(spread * self.rng.standard_normal(len(names)))
        keys = [-weights[n] * k for n, k in zip(names, noise.tolist(), strict=True)]
        return [names[i] for i in sorted(range(len(names)), key=lambda i: (keys[i], names[i]))[:most]]

    def _spell(self, words: Sequence[str]) -> list[str]:
        return [self.spelling.get(word, word) for word in words]

    def _one(self, candidates: Sequence[str]) -> str:
        return candidates[int(self.rng.integers(len(candidates)))]

    def _append(self, texts: dict[str, str], name: str, pieces: Sequence[str]) -> None:
        """Append words or phrases; if there is no room, earlier additions that paid least make some."""
        limit, text = self.genes[name].max_chars, texts[name]
        addition = _clip(" ".join(pieces), limit)
        over = len(text) + 1 + len(addition) - limit
        if over > 0:
            text = self._make_room(name, text, over)
        room = limit - len(text) - 1
        texts[name] = f"{text} {_clip(addition, room)}".strip() if room > 0 else text

    def _make_room(self, name: str, text: str, over: int) -> str:
        old = frozenset(_words(str(self.live[name])))
        tokens = _TOKEN.findall(text)
        added = [i for i, t in enumerate(tokens) if _words(t) and not old.issuperset(_words(t))]
        added.sort(key=lambda i: (self._worth(name, _words(tokens[i])[0]), i))
        for i in added:
            if over <= 0:
                break
            over -= len(tokens[i])
            tokens[i] = ""
        return "".join(tokens).strip()

    def _fresh(self, name: str, text: str, table: Mapping[str, float]) -> dict[str, float]:
        """What of a table of words a text does not have yet, weighted by its worth where it was tried."""
        have = frozenset(_words(text))
        return {w: s * math.exp(1.5 * self._worth(name, w)) for w, s in table.items() if w not in have}

    def _batch(self, texts: dict[str, str], size: int) -> str:
        changed = 0
        for name in self.names:
            words = self._pick(self._fresh(name, texts[name], self.gains[name]), size)
            if words:
                self._append(texts, name, self._spell(words))
                changed += 1
        return f"Adds to each of {changed} texts up to {size} words its own failed cases ask for."

    def _add(self, texts: dict[str, str], size: int) -> str:
        need = {n: sum(self._fresh(n, texts[n], self.gains[n]).values()) for n in self.names}
        name = self._pick(need, 1, spread=0.8)[0]
        words = self._pick(self._fresh(name, texts[name], self.gains[name]), size)
        self._append(texts, name, self._spell(words))
        return f"Adds to {name!r} up to {size} words its failed cases ask for."

    def _phrase(self, texts: dict[str, str]) -> str:
        whole = {
            n: {p: s for p, s in self.phrases[n].items() if p.casefold() not in texts[n].casefold()} for n in self.names
        }
        name = self._pick({n: sum(table.values()) for n, table in whole.items()}, 1, spread=0.8)[0]
        for phrase in self._pick(whole[name], int(self.rng.integers(1, 4)), spread=0.6):
            self._append(texts, name, [phrase])
        return f"Adds to {name!r} phrases of its feedback word for word."

    def _drop(self, texts: dict[str, str]) -> str:
        """Remove blamed words, or the whole clauses that hold them."""
        guilt = {}
        for name in self.names:
            wanted = self.wanted[name]
            guilt[name] = {
                w: s - 2 * wanted.get(w, 0.0)
                for w, s in self.blamed[name].items()
                if w in _words(texts[name]) and w not in _COMMON and s > 2 * wanted.get(w, 0.0)
            }
        everywhere = bool(self.rng.random() < 0.5)
        single = self._pick({n: sum(t.values()) for n, t in guilt.items()}, 1, spread=0.8)[0]
        whole = bool(self.rng.random() < 0.5)
        for name in self.names if everywhere else [single]:
            self._remove(texts, name, self._pick(guilt[name], int(self.rng.integers(1, 6))), whole=whole)
        return "Removes words that failed cases blame" + (", with their clauses." if whole else ".")

    def _remove(self, texts: dict[str, str], name: str, words: Sequence[str], *, whole: bool) -> None:
        gone = frozenset(words)
        pieces = _parts(texts[name]) if whole else _TOKEN.findall(texts[name])
        texts[name] = _join([p for p in pieces if gone.isdisjoint(_words(p))])

    def _borrow(self, texts: dict[str, str], size: int) -> str:
        open_ = {n: t for n in self.names if (t := self._fresh(n, texts[n], self.loans[n]))}
        if not open_:
            return ""
        name = self._one(list(open_))
        self._append(texts, name, self._spell(self._pick(open_[name], size, spread=0.6)))
        return f"Adds to {name!r} up to {size} words from other texts and descriptions."

    def _undo(self, texts: dict[str, str]) -> str:
        """Take back the additions that history values least."""
        count = 0
        for name in self.names:
            old = frozenset(_words(str(self.live[name])))
            worst = [w for w in _words(texts[name]) if w not in old and self._worth(name, w) < 0.02]
            worst.sort(key=lambda w: (self._worth(name, w), w))
            gone = worst[: int(self.rng.integers(1, max(2, len(worst) // 2 + 1)))]
            if gone and (self.rng.random() < 0.7 or len(self.names) == 1):
                self._remove(texts, name, gone, whole=False)
                count += len(gone)
        return f"Takes back {count} earlier additions that did not pay."

    def _keep(self, texts: dict[str, str]) -> str:
        """Apply the edits history values most, wherever they were tried."""
        best = {k: float(self.worth[i]) / (self.unit or 1.0) for k, i in self.edits.items() if self.worth[i] > 0}
        keys = {"\x1f".join(map(str, k)): k for k in best}
        chosen = self._pick({s: best[k] for s, k in keys.items()}, int(2 ** self.rng.integers(1, 6)))
        for name in self.names:
            mine = [keys[s] for s in chosen if keys[s][0] == name]
            have = frozenset(_words(texts[name]))
            self._remove(texts, name, [w for _n, w, added in mine if not added and w in have], whole=False)
            add = [w for _n, w, added in mine if added and w not in have]
            if add:
                self._append(texts, name, self._spell(add))
        return "Combines the single edits that went with good scores so far."

    def _cross(self, texts: dict[str, str]) -> str:
        """Take each gene's text from one of the good trials."""
        order = np.argsort(-self.fitness, kind="stable")[:6].tolist()
        for name in self.names:
            if len(self.names) == 1 or self.rng.random() < 0.5:
                other = str(self.history[order[int(self.rng.integers(len(order)))]].values.get(name, texts[name]))
                if len(self.names) > 1:
                    texts[name] = other
                else:
                    have = frozenset(_words(texts[name]))
                    self._append(texts, name, [w for w in _words(other) if w not in have][:24])
        return "Recombines the texts of good earlier trials."

    def _cut(self, texts: dict[str, str]) -> str:
        name = self._one(self.names)
        parts = _parts(texts[name])
        if len(parts) > 1:
            parts.pop(int(self.rng.integers(len(parts))))
            texts[name] = _join(parts)
        return f"Leaves one clause out of {name!r}."

    def _move(self, texts: dict[str, str]) -> str:
        name = self._one(self.names)
        parts = _parts(texts[name])
        parts.insert(
            int(self.rng.integers(len(parts))), parts.pop(int(self.rng.integers(len(parts))))
        ) if parts else None
        texts[name] = _join(parts)
        return f"Moves one clause of {name!r}."

    def _repeat(self, texts: dict[str, str]) -> str:
        name = self._one(self.names)
        parts = _parts(texts[name])
        if parts:
            self._append(texts, name, [self._one(parts).strip()])
        return f"Repeats one clause of {name!r} for emphasis."

    def _thin(self, texts: dict[str, str]) -> str:
        """Remove a few words, those history values least first."""
        name = self._one(self.names)
        words = {
            w: math.exp(-1.5 * self._worth(name, w) + 1.5 * self._worth(name, w, False)) for w in _words(texts[name])
        }
        self._remove(texts, name, self._pick(words, int(2 ** self.rng.integers(0, 4)), spread=0.6), whole=False)
        return f"Removes a few words of {name!r}."


def _parts(text: str) -> list[str]:
    """Split a text into sentences with the blanks after them, or into clauses if it has only one sentence."""
    parts = _SENTENCE.findall(text)
    return parts if len(parts) > 1 else re.findall(r".+?(?:,\s+|$)", text, re.DOTALL)


def _join(parts: Sequence[str]) -> str:
    """Put parts together again, apart by the blanks they bring or by one."""
    return "".join(p if p[-1:].isspace() else p + " " for p in parts if p).strip()
