"""The scorer: scores what is not yet recorded, records it as it comes, never passes the limit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from ..clock import derive_seed
from ..dna.canonical import checksum
from ..dna.genes import GeneValue
from ..errors import BudgetExhausted
from .cases import Cases, Part
from .evaluator import Evaluator, Job
from .journal import EvaluationKey, Journal
from .panels import Panels
from .score import Outcome
from .workers import Finished, Workers


def genes_key(values: Mapping[str, GeneValue]) -> str:
    """Name a set of gene values by a hash of their content."""
    return checksum(dict(values))[:24]


@dataclass(frozen=True, slots=True)
class Request:
    """Ask for some cases of one part to be scored with one set of gene values."""

    values: Mapping[str, GeneValue]
    part: Part
    cases: tuple[int, ...]
    sample: int = 0

    @property
    def genes(self) -> str:
        """The name of the gene values."""
        return genes_key(self.values)


def _key(request: Request, genes: str, case: int) -> EvaluationKey:
    return EvaluationKey(genes, request.part, case, request.sample)


class Scorer:
    """Scores requests for one run.

    Args:
        run_id: The run whose records are used and extended.
        seed: The run's seed; seeds of a case are derived from it, equal for all candidates, so that noise
            which an evaluator draws from its seed cancels in paired differences.
        limit: Hard limit of evaluations for the run, or None. An evaluation is one case scored once.
        reserve: Evaluations of the limit that only the final report may use.
    """

    def __init__(  # noqa: PLR0913  # all of them belong to one run
        self,
        *,
        run_id: str,
        seed: int,
        evaluator: Evaluator,
        cases: Cases,
        panels: Panels,
        journal: Journal,
        workers: Workers,
        limit: int | None,
        reserve: int,
    ) -> None:
        self.run_id = run_id
        self.panels = panels
        self.cases = cases
        self._seed = seed
        self._evaluator = evaluator
        self._journal = journal
        self._workers = workers
        self._limit = limit
        self._reserve = reserve
        self.used = journal.count_evaluations(run_id)

    def left(self, *, final: bool = False) -> int | None:
        """Return how many evaluations may still be made, or None for no limit."""
        if self._limit is None:
            return None
        return max(0, self._limit - self.used - (0 if final else self._reserve))

    def recorded(self, request: Request) -> dict[int, Outcome]:
        """Return what is recorded for a request's gene values on its part, whatever cases it names."""
        return self._journal.outcomes(self.run_id, request.genes, request.part, request.sample)

    def missing(self, requests: Sequence[Request]) -> int:
        """Return how many evaluations the requests would cost."""
        known = [self.recorded(request) for request in requests]
        return sum(sum(case not in has for case in r.cases) for r, has in zip(requests, known, strict=True))

    def score(
        self, requests: Sequence[Request], *, final: bool = False, again: bool = False
    ) -> list[dict[int, Outcome]]:
        """Score requests; what is recorded already is read, the rest is evaluated in parallel.

        Args:
            requests: What to score, with distinct gene values per part and sample.
            final: Whether the reserve of the final report may be used.
            again: Whether recorded failures are evaluated again; the evaluator may have been mended.

        Returns:
            The outcomes by case index, one mapping for each request, whatever order the work finished in.

        Raises:
            BudgetExhausted: The work would pass the limit; none of it was started.
            EvaluationFailed: The executor broke.
        """
        known = [self.recorded(request) for request in requests]
        if again:
            known = [{case: outcome for case, outcome in has.items() if not outcome.error} for has in known]
        jobs, places = self._jobs(requests, known)
        needed = sum(len(job.cases) for job in jobs)
        left = self.left(final=final)
        if left is not None and needed > left:
            raise BudgetExhausted(
                f"{needed} more evaluations would pass the limit of {self._limit}: {self.used} are made"
                f" and {0 if final else self._reserve} are kept for the final report.",
                hint="Raise max_evaluations and resume the run.",
            )
        names = [request.genes for request in requests]
        keys = [[_key(requests[which], names[which], case) for case in group] for which, group in places]
        for finished in self._evaluated(jobs, keys):
            rows: list[tuple[EvaluationKey, Outcome]] = []
            for place, outcomes in finished:
                for key, outcome in zip(keys[place], outcomes, strict=True):
                    known[places[place][0]][key.case] = outcome
                    rows.append((key, outcome))
            self._journal.record_outcomes(self.run_id, rows)
            self.used += len(rows)
        return [{case: has[case] for case in r.cases} for r, has in zip(requests, known, strict=True)]

    def _evaluated(
        self,
        jobs: Sequence[Job],
        keys: Sequence[Sequence[EvaluationKey]],  # what a replay finds them by
    ) -> Iterator[list[Finished]]:
        """Evaluate jobs, and yield what is finished as it comes."""
        return self._workers.run(self._evaluator, jobs)

    def _jobs(
        self, requests: Sequence[Request], known: Sequence[Mapping[int, Outcome]]
    ) -> tuple[list[Job], list[tuple[int, tuple[int, ...]]]]:
        jobs: list[Job] = []
        places: list[tuple[int, tuple[int, ...]]] = []
        for which, request in enumerate(requests):
            wanted = tuple(case for case in request.cases if case not in known[which])
            groups = [wanted] if self._evaluator.batch and wanted else [(case,) for case in wanted]
            for group in groups:
                jobs.append(self._job(request, group))
                places.append((which, group))
        return jobs, places

    def _job(self, request: Request, group: tuple[int, ...]) -> Job:
        part = self.cases.part(request.part)
        return Job(
            values=dict(request.values),
            cases=tuple(part[case] for case in group),
            seeds=tuple(derive_seed(self._seed, "case", request.part, case, request.sample) for case in group),
        )
