"""The exceptions of the package: each says what was wrong, where, and what to do next."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """What the command line answers to the shell."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    WAITING_FOR_APPROVAL = 3
    STOPPED_BY_BUDGET = 4


class EvolutionError(Exception):
    """Base of every error this package raises on purpose.

    Args:
        message: What was wrong, and where.
        hint: What to do next; printed on a line of its own.
    """

    exit_code: ExitCode = ExitCode.FAILED

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        end = "" if self.message.endswith((".", "!", "?")) or not self.hint else "."
        return f"{self.message}{end} {self.hint}".strip()


class UsageError(EvolutionError):
    """The caller gave something that cannot be used; nothing was changed."""

    exit_code = ExitCode.USAGE


class InvalidGene(UsageError):
    """A gene's declaration or value breaks its own bounds."""


class InvalidMutation(UsageError):
    """A mutation names an unknown or locked gene, or a value out of bounds."""


class InvalidCases(UsageError):
    """The cases are missing, too few, or cannot be stored as JSON."""


class InvalidSetting(UsageError):
    """A setting has a value that is not allowed."""


class UnknownModel(InvalidSetting):
    """A model was named that neither the catalog nor the settings' own cards hold."""


class AppNotFound(UsageError):
    """The application file or its `Evolution` object cannot be loaded."""


class UnknownRun(UsageError):
    """A run, approval or generation was named that the store does not hold."""


class StoreError(UsageError):
    """The store cannot be opened, is not ours, or is damaged."""


class StoreUnavailable(StoreError):
    """The store's service cannot be reached or used now; what is queued is sent when it can be.

    Args:
        message: What was wrong, and where.
        hint: What to do next.
        passing: Whether the same call may succeed a moment later.
    """

    exit_code = ExitCode.FAILED

    def __init__(self, message: str, *, hint: str = "", passing: bool = True) -> None:
        super().__init__(message, hint=hint)
        self.passing = passing


class WriterFenced(StoreError):
    """Another writer has taken over: another region was promoted, or the run goes on elsewhere."""

    exit_code = ExitCode.FAILED


class StaleParent(EvolutionError):
    """The live DNA changed since the mutation was made: compare-and-set lost, nothing was written."""


class SafeModeActive(EvolutionError):
    """Nothing changes until a person lifts safe mode."""

    exit_code = ExitCode.WAITING_FOR_APPROVAL


class IntegrityError(EvolutionError):
    """Stored data does not match its checksum."""

    exit_code = ExitCode.USAGE


class EvaluationFailed(EvolutionError):
    """The evaluator raised, timed out or returned something that is no score."""


class LiveGenesFailed(EvaluationFailed):
    """The live genes cannot be scored any more, though they could when they were promoted."""


class BudgetExhausted(EvolutionError):
    """An evaluation or money limit would be passed; the work was not started."""

    exit_code = ExitCode.STOPPED_BY_BUDGET


class SpendExhausted(BudgetExhausted):
    """A model call does not fit a money cap: the run pauses where it is, and goes on when the budget does."""


class ModelCallFailed(EvolutionError):
    """A model call failed or was refused before it was sent."""


class MalformedAnswer(ModelCallFailed):
    """A model answered in a form that cannot be read; it is told so and asked again."""


class UnknownPrice(ModelCallFailed):
    """No price is known for a model, so a call cannot be admitted to a budget."""

    exit_code = ExitCode.USAGE


class ReplayDiverged(EvolutionError):
    """A replay did something else than the run on record.

    Args:
        message: What differs.
        step: Where, such as `3/advisor`.
        number: Which call or record of that step, from 1.
        expected: What is on record.
        found: What the replay did.
    """

    def __init__(
        self, message: str, *, step: str, number: int = 0, expected: object = None, found: object = None, hint: str = ""
    ) -> None:
        super().__init__(message, hint=hint)
        self.step = step
        self.number = number
        self.expected = expected
        self.found = found
