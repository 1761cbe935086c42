"""Racing: few cases first, more only for candidates that still look promising.

Screening on the training cases finds what is worth breeding from; the gate on the validation cases decides
what may become live. Successive halving of the cases follows Jamieson & Talwalkar, "Non-stochastic best arm
identification" (AISTATS 2016).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from ..dna.genes import GeneValue
from ..errors import EvaluationFailed, InvalidCases
from .journal import TrialRecord
from .promotion import Evidence, PromotionRule, scale_of
from .score import Outcome
from .scorer import Request, Scorer, genes_key

CERTAIN_Z = 1000.0
"""Stands for a difference without any variance, so that records stay JSON-plain."""
_FIRST_RUNG = 8
_HALVINGS = 3
_DROP_Z = -0.5
_BEHIND_Z = 1.5
_HOPELESS_Z = -1.0

Values = Mapping[str, GeneValue]
Scores = Mapping[int, float]


@dataclass(frozen=True, slots=True)
class HeadScores:
    """The live DNA's scores by case index, the reference every candidate is paired with."""

    values: Values
    train: Scores
    validation: Scores

    @property
    def train_fitness(self) -> float:
        """Mean training score."""
        return mean(self.train)

    @property
    def fitness(self) -> float:
        """Mean validation score."""
        return mean(self.validation)


@dataclass(frozen=True, slots=True)
class Screening:
    """What became of a generation's candidates on the training cases."""

    trials: list[TrialRecord]
    out_of_budget: bool


class Race:
    """Trials of one run.

    Args:
        scorer: Scores and records.
        rule: Decides whether a gain is credible.
        deterministic: Whether the evaluator gives equal scores for equal genes and case. If not, the live
            DNA is scored with draws of its own, since those it was chosen by are flattering.
    """

    def __init__(self, scorer: Scorer, rule: PromotionRule, *, deterministic: bool) -> None:
        self._scorer = scorer
        self._rule = rule
        self._head_sample = 0 if deterministic else 1
        self.single = scorer.cases.single

    def head(self, values: Values) -> HeadScores:
        """Score the live DNA on the training and validation panels.

        Raises:
            EvaluationFailed: The evaluator failed on the live DNA: names the case and the reason.
            BudgetExhausted: The limit does not allow it.
            InvalidCases: A single objective that gives two different scores.
        """
        if self.single:
            return self._single_head(values)
        panels = self._scorer.panels
        requests = [
            Request(values, "train", panels.train, self._head_sample),
            Request(values, "validation", panels.validation, self._head_sample),
        ]
        train, validation = map(_scores, requests, self._scorer.score(requests, again=True))
        return HeadScores(values, train, validation)

    def _single_head(self, values: Values) -> HeadScores:
        once, again = (
            _scores(request, self._scorer.score([request], again=True)[0])
            for request in (Request(values, "train", (0,)), Request(values, "train", (0,), sample=1))
        )
        if once != again:
            raise InvalidCases(
                f"one case, scored twice with the same genes, gave {once[0]:g} and {again[0]:g}.",
                hint="A noisy objective needs many cases: give different ones, such as range(100).",
            )
        return HeadScores(values, once, once)

    def test(self, each: Sequence[Values], *, sample: int) -> list[float]:
        """Return the mean scores of some genes on the sealed test panel; called by the final report only."""
        if self.single:
            return [self._single_head(values).fitness for values in each]
        requests = [Request(values, "test", self._scorer.panels.test, sample) for values in each]
        scored = self._scorer.score(requests, final=True, again=True)
        return [mean(_scores(request, outcomes)) for request, outcomes in zip(requests, scored, strict=True)]

    def screen(self, head: HeadScores, trials: Sequence[tuple[TrialRecord, Values]], *, best_gain: float) -> Screening:
        """Race candidates on the training panel.

        Args:
            head: The live DNA's scores.
            trials: The candidates with their effective gene values.
            best_gain: Training gain of the best candidate so far; those clearly behind it are dropped early.

        Returns:
            The candidates with what became of them, in the order given.
        """
        panel = self._scorer.panels.train
        records = [record for record, _ in trials]
        racing = list(range(len(trials)))
        out_of_budget = False
        for rung, size in enumerate(_rungs(len(panel))):
            while racing and not self._affordable([Request(trials[i][1], "train", panel[:size]) for i in racing]):
                # The later in the strategy, or the worse so far, the sooner it has to go.
                worst = max(racing, key=lambda i: (-(records[i].gain or 0.0), i))
                racing.remove(worst)
                records[worst] = _cut(records[worst])
                out_of_budget = True
            outcomes = self._scorer.score([Request(trials[i][1], "train", panel[:size]) for i in racing])
            for i, outcome in zip(racing, outcomes, strict=True):
                records[i] = _screened(records[i], head, outcome)
                if size < len(panel):
                    records[i] = _dropped(records[i], rung, best_gain)
            racing = [i for i in racing if records[i].status == "scored"]
        return Screening(records, out_of_budget=out_of_budget)

    def _affordable(self, requests: Sequence[Request]) -> bool:
        """Whether screening may go on without touching what the gate will need."""
        left = self._scorer.left()
        kept_for_gate = 0 if self.single else len(self._scorer.panels.validation)
        return left is None or self._scorer.missing(requests) <= left - kept_for_gate

    def gate(self, head: HeadScores, trial: TrialRecord, values: Values, *, test: int) -> tuple[TrialRecord, Evidence]:
        """Put a candidate to the promotion rule on the validation panel.

        Args:
            head: The live DNA's scores.
            trial: The candidate.
            values: Its effective gene values.
            test: Its number among all candidates of the run that were put to the rule, from 1.

        Returns:
            The candidate with its evidence, and the evidence.

        Raises:
            BudgetExhausted: The limit does not allow it; nothing was scored.
        """
        if self.single:
            evidence = self._rule.strict(trial.gain or 0.0, test=test)
            return replace(
                trial, status="gated", evidence=evidence_json(evidence, trial.genes, genes_key(head.values))
            ), evidence
        panel = self._scorer.panels.validation
        for size in _rungs(len(panel)):
            outcome = self._scorer.score([Request(values, "validation", panel[:size])])[0]
            if failure := _first_failure(outcome):
                nothing = self._rule.assess([], test=test)
                failed = replace(trial, status="failed", reason=failure)
                return replace(failed, evidence=evidence_json(nothing, trial.genes, genes_key(head.values))), nothing
            scored = {index: o.value for index, o in outcome.items() if o.value is not None}
            evidence = weigh(self._rule, scored, head.validation, panel, test=test)
            if not evidence.credible and _hopeless(scored, head.validation):
                break
        reason = (
            ""
            if evidence.credible
            else f"gain {evidence.gain:+.4g} on {evidence.cases} validation cases is not credible"
        )
        return replace(
            trial, status="gated", evidence=evidence_json(evidence, trial.genes, genes_key(head.values)), reason=reason
        ), evidence

    def promising(self, head: HeadScores, trial: TrialRecord, values: Values, *, test: int) -> bool:
        """Whether a candidate would probably pass the gate, judging by its training scores.

        Its gain is shrunk for having been selected, and the evidence scaled to the size of the validation panel.
        """
        if self.single:
            return (trial.gain or 0.0) > 0
        differences = self._differences(head, values)
        gain, z = paired(differences)
        if z <= 1:
            return False
        expected = self._rule.capital([d - gain / z**2 for d in differences])
        ratio = len(self._scorer.panels.validation) / len(differences)
        return ratio * math.log(max(expected, 1e-300)) >= math.log(self._rule.threshold(test))

    def paired_gain(self, head: HeadScores, values: Values) -> tuple[float, float, int]:
        """Return mean gain, z and number of cases of recorded training scores against another live DNA."""
        differences = self._differences(head, values)
        gain, z = paired(differences)
        return gain, z, len(differences)

    def _differences(self, head: HeadScores, values: Values) -> list[float]:
        """Return recorded training scores minus the live DNA's, on the cases both were scored on."""
        known = self._scorer.recorded(Request(values, "train", ()))
        return [o.value - head.train[i] for i, o in sorted(known.items()) if o.value is not None and i in head.train]


def paired(differences: Sequence[float]) -> tuple[float, float]:
    """Return the mean of paired differences and that mean in its own standard errors."""
    count = len(differences)
    if not count:
        return 0.0, 0.0
    center = math.fsum(differences) / count
    spread = math.sqrt(math.fsum((d - center) ** 2 for d in differences) / max(1, count - 1))
    error = spread / math.sqrt(count)
    if error <= abs(center) / CERTAIN_Z:
        return center, math.copysign(CERTAIN_Z, center) if center else 0.0
    return center, center / error


def mean(scores: Scores) -> float:
    """Return the mean score, equal for any order of the cases."""
    return math.fsum(scores.values()) / len(scores)


def evidence_json(evidence: Evidence, genes: str, live: str) -> dict[str, Any]:
    """Return evidence as it is recorded, with the names of the gene values it compares.

    What is made of logarithms and exponentials is rounded: its last digits differ between processors, and records and
    requests to models must not.
    """
    return asdict(evidence) | {
        "credible": evidence.credible,
        "e_value": _rounded(evidence.e_value),
        "at_least": _rounded(evidence.at_least),
        "confidence": _rounded(evidence.confidence),
        "genes": genes,
        "live": live,
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.9g}")


def weigh(
    rule: PromotionRule, candidate: Mapping[int, float], live: Mapping[int, float], panel: Sequence[int], *, test: int
) -> Evidence:
    """Weigh a candidate on the panel cases it was scored on, rung by rung, as the race did when it ran.

    Args:
        rule: The promotion rule.
        candidate: Its validation scores by case index.
        live: The live DNA's.
        panel: Case indices in the order they are scored.
        test: Number of this proposal among all that were put to the rule.
    """
    scale, reached = 0.0, 0.0
    differences: list[float] = []
    for size in _rungs(len(panel)):
        if any(index not in candidate for index in panel[:size]):
            break
        differences = [candidate[index] - live[index] for index in panel[:size]]
        scale = scale or scale_of(differences)
        capital = rule.capital(differences, scale=scale)
        if capital >= rule.threshold(test) and math.fsum(differences) > 0:
            reached = max(reached, capital)
    evidence = rule.assess(differences, test=test, scale=scale)
    # Evidence that once reached the threshold counts: that is what "anytime-valid" means.
    return evidence if evidence.credible or not reached else replace(evidence, e_value=reached)


def _hopeless(candidate: Scores, live: Scores) -> bool:
    """Whether a candidate is so clearly no better that more cases would be wasted on it."""
    return paired([value - live[index] for index, value in candidate.items()])[1] < _HOPELESS_Z


def _rungs(total: int) -> list[int]:
    sizes = {max(_FIRST_RUNG, math.ceil(total / 2**halving)) for halving in range(_HALVINGS + 1)}
    return sorted({min(size, total) for size in sizes})


def _scores(request: Request, outcomes: Mapping[int, Outcome]) -> dict[int, float]:
    if failure := _first_failure(outcomes):
        raise EvaluationFailed(
            f"the live genes cannot be scored on the {request.part} cases: {failure}.",
            hint="Mend the evaluator and resume the run.",
        )
    return {index: outcome.value for index, outcome in outcomes.items() if outcome.value is not None}


def _first_failure(outcomes: Mapping[int, Outcome]) -> str:
    return next((f"case {i}: {outcomes[i].error}" for i in sorted(outcomes) if outcomes[i].value is None), "")


def _screened(record: TrialRecord, head: HeadScores, outcomes: Mapping[int, Outcome]) -> TrialRecord:
    if failure := _first_failure(outcomes):
        return replace(record, status="failed", reason=failure, cases=len(outcomes))
    gain, z = paired([(outcome.value or 0.0) - head.train[index] for index, outcome in sorted(outcomes.items())])
    return replace(
        record, status="scored", gain=gain, z=z, cases=len(outcomes), fitness=head.train_fitness + gain, reason=""
    )


def _dropped(record: TrialRecord, rung: int, best_gain: float) -> TrialRecord:
    if record.status != "scored" or record.gain is None or record.z is None:
        return record
    error = abs(record.gain / record.z) if record.z else 0.0
    behind = rung > 0 and record.gain + _BEHIND_Z * error < best_gain
    if record.z < _DROP_Z or (rung > 0 and record.gain <= 0) or behind:
        than = "the best candidate" if behind and record.gain > 0 else "the live genes"
        return replace(record, status="dropped", reason=f"behind {than} after {record.cases} cases")
    return record


def _cut(record: TrialRecord) -> TrialRecord:
    seen = f"after {record.cases} cases" if record.cases else "before it was scored"
    return replace(record, status="dropped", reason=f"cut by the evaluation budget {seen}")
