"""The stand-in's search: proposes what to try next from what was tried before, without a language model.

Numbers, choices and flags are searched with a Gaussian process, optuna's TPE and evolutionary moves
(`vector_search`); text genes with edits drawn from feedback (`text_search`). Which of these operators is used
more is learnt from history (`operator_credit`). What remarks wish for is tried first (`remark_reader`); it is tried
like everything else, and no more.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence

import numpy as np

from ...clock import derive_seed
from ...dna.genes import Gene, GeneValue
from ...errors import InvalidGene
from .operator_credit import OperatorCredit
from .remark_reader import Remark, Wish, origin_of, understand
from .text_search import BATCH, TextSearch
from .trials import Ancestor, Feedback, Past, Proposal
from .vector_search import RATIONALES, VectorSearch
from .vector_space import VectorSpace

__all__ = ["Ancestor", "Feedback", "Proposal", "Remark", "propose"]

_TPE_SHARE = 0.06
"""Share of generations in which TPE may be asked: one question costs as much as all other work together."""
_SCREENING_TRIALS = 8
"""Trials from the start of a run that may go to settings before texts change at large."""
_PATIENCE, _TEXT_PATIENCE = 6, 3
"""How often an operator may offer nothing new in one generation."""
_REPEATED, _REPEATED_MODEL = 0.4, 0.9
"""What each further use in one generation costs an operator: the model's points differ, others often do not."""
_PARENTS = 4
"""Texts are bred from this many of the best trials, the best most often: fitness is noisy."""
_LEAST_WISHES = 2
"""Two wishes have a place in any generation that has two, so that those which contradict each other are both tried."""
_SWEEP_LIMIT = 4096
"""Spaces larger than this are never listed."""


def propose(
    genes: Mapping[str, Gene],
    live: Mapping[str, GeneValue],
    history: Sequence[Ancestor],
    feedback: Sequence[Feedback],
    *,
    count: int,
    seed: int,
    remarks: Sequence[Remark] = (),
) -> list[Proposal]:
    """Propose what to try next; equal arguments give equal proposals.

    Args:
        genes: Declarations of all genes; locked and code genes are left alone.
        live: The values the application runs with.
        history: Earlier trials, oldest first: a bounded window, with the best older ones.
        feedback: What the evaluator said of failed training cases of the best parent.
        count: How many proposals are wanted.
        seed: Derives every random choice; give another one each generation.
        remarks: What people said of the application, oldest first. What they wish for is proposed with the origin
            `feedback:` and their numbers, but takes no more than half the places, or two.

    Returns:
        At most `count` different proposals, none equal to the live genes or to a trial of the history; fewer
        if the space is exhausted.
    """
    wishes, others = understand(remarks, genes, live)
    heard = [*feedback, *(Feedback(gene=None, text=text) for text in others)]
    return _Planner(genes, live, history, heard, seed).run(count, wishes)


class _Planner:
    """Shares one generation's proposals among the operators, by Thompson sampling of their credit."""

    def __init__(
        self,
        genes: Mapping[str, Gene],
        live: Mapping[str, GeneValue],
        history: Sequence[Ancestor],
        feedback: Sequence[Feedback],
        seed: int,
    ) -> None:
        self._genes, self._live, self._seed = genes, live, seed
        self._past = Past(history, genes.keys())
        self._credit = OperatorCredit(self._past)
        self._space = VectorSpace(genes)
        self._texts = TextSearch(genes, live, self._past, feedback, seed)
        self._names = [*self._space.names, *self._texts.names]
        self._seen = {self._key(live), *(self._key(trial.values) for trial in self._past.trials)}
        self._rng = np.random.default_rng(derive_seed(seed, "share"))
        self._edits = self._texts.operators()
        self._moves = self._open_moves()
        self._vector: VectorSearch | None = None
        self._screening = self._screens()
        if self._screening:
            self._edits = {name: edit for name, edit in self._edits.items() if not name.startswith(BATCH)}
        self._mixed = ["mixed"] if self._moves and self._edits and self._past.modelled else []
        self._used: dict[str, int] = {}
        self._misses: dict[str, int] = {}

    def _open_moves(self) -> list[str]:
        if not self._space.names:
            return []
        if not self._past.modelled:
            return ["flip", "local", "fill"]
        tpe = ["tpe"] if self._rng.random() < _TPE_SHARE else []
        return ["model", "flip", "local", "cross", "fill", *tpe]

    def _screens(self) -> bool:
        """Whether this generation goes to single settings first.

        A setting holds for all cases, seen or not, and is told best from others while nothing else has changed;
        words drawn for the better setting come on top of it.
        """
        early = len(self._past) < _SCREENING_TRIALS
        return early and bool(self._moves) and bool(self._edits) and bool(self._vectors.untried())

    @property
    def _vectors(self) -> VectorSearch:
        """The search of numbers and choices, made when it is first needed."""
        if self._vector is None:
            self._vector = VectorSearch(self._space, self._live, self._past, self._texts.distances(), self._seed)
        return self._vector

    def run(self, count: int, wishes: Sequence[Wish]) -> list[Proposal]:
        """Fill the generation; an operator that has nothing new to offer loses its place to another."""
        granted = filter(None, map(self._wished, wishes))
        found = list(itertools.islice(granted, min(count, max(_LEAST_WISHES, count // 2))))
        while len(found) < count and (operators := self._open(count - len(found))):
            operator = self._choose(operators, self._used)
            proposal = self._proposal(operator, *self._make(operator))
            tally = self._misses if proposal is None else self._used
            tally[operator] = tally.get(operator, 0) + 1
            if proposal is not None:
                found.append(proposal)
        return found + self._sweep(count - len(found))

    def _wished(self, wish: Wish) -> Proposal | None:
        rationale = f"Feedback asks to change {', '.join(map(repr, wish.changes))}."
        return self._proposal(origin_of(wish), self._values(None) | wish.changes, rationale, 0.0)

    def _sweep(self, count: int) -> list[Proposal]:
        """List what is left of a small space that sampling no longer finds."""
        if count <= 0 or not self._space.names or math.prod(self._space.sizes()) > _SWEEP_LIMIT:
            return []
        base = self._values(None)
        points = (
            dict(zip(self._space.names, values, strict=True)) for values in itertools.product(*self._space.grid())
        )
        proposals = (self._proposal("fill", base | point, RATIONALES["fill"], 0.0) for point in points)
        return list(itertools.islice(filter(None, proposals), count))

    def _open(self, left: int) -> list[str]:
        """Return the operators still worth asking; the last place goes to the kind of gene that has none yet."""
        if self._screening and left > 1 and self._worth_asking("flip") and self._vectors.untried():
            return ["flip"]
        every = [operator for operator in (*self._moves, *self._edits, *self._mixed) if self._worth_asking(operator)]
        if left > 1 or not self._used or not (self._moves and self._edits):
            return every
        has_text = any(operator in self._edits for operator in self._used)
        has_move = any(operator in self._moves for operator in self._used)
        rest = [o for o in every if (o in self._edits and not has_text) or (o in self._moves and not has_move)]
        return rest or every

    def _worth_asking(self, operator: str) -> bool:
        if operator == "tpe" and operator in self._used:
            return False
        return self._misses.get(operator, 0) < (_TEXT_PATIENCE if operator in self._edits else _PATIENCE)

    def _choose(self, operators: Sequence[str], used: Mapping[str, int]) -> str:
        # Before anything is known of the space, its points should differ: no move is preferred.
        even = [] if self._past.modelled else self._moves
        draws = [
            self._rng.beta(*((1.0, 1.0) if operator in even else self._credit.beta(operator)))
            * (_REPEATED_MODEL if operator == "model" else _REPEATED) ** used.get(operator, 0)
            for operator in operators
        ]
        return operators[int(np.argmax(np.round(draws, 9)))]

    def _make(self, operator: str) -> tuple[dict[str, GeneValue], str, float]:
        """Return all values of a candidate, what was done, and the gain the model expects of it."""
        if operator in self._moves:
            point, gain = self._vectors.draw(operator)
            values = self._values(self._vectors.base) | self._space.decode(point)
            return values, RATIONALES[operator], gain
        values = self._values(self._parent())
        texts = {name: str(values[name]) for name in self._texts.names}
        if operator == "mixed":
            rationale = self._edits[self._choose(list(self._edits), {})](texts)
            values |= self._space.decode(self._vectors.draw("model")[0])
            rationale += " Moves numbers and choices where the model expects more."
        else:
            rationale = self._edits[operator](texts)
        return values | texts, rationale, self._credit.expect(operator)[1]

    def _parent(self) -> int | None:
        order = self._past.order
        return order[int(self._rng.random() ** 3 * min(_PARENTS, len(order)))] if order else None

    def _values(self, trial: int | None) -> dict[str, GeneValue]:
        source = self._live if trial is None else self._past.trials[trial].values
        return {name: source[name] for name in self._names}

    def _key(self, values: Mapping[str, GeneValue]) -> tuple[GeneValue, ...]:
        return tuple(values[name] for name in self._names)

    def _proposal(self, operator: str, values: Mapping[str, GeneValue], rationale: str, gain: float) -> Proposal | None:
        key = self._key(values)
        if key in self._seen or not all(_fits(self._genes[name], value) for name, value in values.items()):
            return None
        self._seen.add(key)
        changes = {name: value for name, value in values.items() if value != self._live[name]}
        probability, usual = self._credit.expect(operator)
        return Proposal(changes, rationale, operator, gain or usual, min(max(probability, 0.0), 1.0))


def _fits(gene: Gene, value: GeneValue) -> bool:
    try:
        gene.check(value)
    except InvalidGene:
        return False
    return True
