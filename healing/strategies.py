"""`CloudHealingStrategies`: what to do about each kind of failure of a model call."""

from __future__ import annotations

import random
from collections.abc import Sequence

from ..bedrock.failures import Failure, FailureKind, Remedy, Step, Target
from .breaker import CircuitBreaker

_FIRST_BACKOFF_S = 0.1
_LONGEST_BACKOFF_S = 1.0
_PATIENT = frozenset({FailureKind.THROTTLED, FailureKind.BUSY})
"""Kinds that pass by themselves: the same target is asked once more before another one."""
_HOPELESS = frozenset({FailureKind.DENIED, FailureKind.NOT_FOUND, FailureKind.INVALID})
"""Kinds that another attempt can only meet again."""
_RESTING = frozenset({FailureKind.DENIED, FailureKind.NOT_FOUND, FailureKind.QUOTA})
"""Kinds after which a target is left alone at once, so that the next call goes elsewhere."""
_ANY_MODEL = "*"
_TARGET_LIMIT, _REGION_LIMIT = 10, 3
"""Failures in a row after which a model in a region, or a whole region, is left alone."""


class CloudHealingStrategies:
    """Backoff, region failover, model switch, prompt shrinking, and circuit breakers for models and regions.

    `docs/failures.md` holds the table. Backoff is exponential with full jitter
    (https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/).

    Args:
        breaker: Knows which targets to leave alone.
        draws: Of the jitter; processes must draw differently, or they all come back at once.
    """

    def __init__(self, breaker: CircuitBreaker, draws: random.Random) -> None:
        self.breaker = breaker
        self._draws = draws

    def admits(self, target: Target) -> bool:
        """Whether an attempt may go to a target: neither it nor its region is left alone."""
        region = Target(_ANY_MODEL, target.region)
        # Asked first, since only what is then really tried should be taken for a probe.
        if self.breaker.rests(target) or self.breaker.rests(region):
            return False
        return self.breaker.admits(region) and self.breaker.admits(target)

    def succeeded(self, target: Target) -> None:
        """Close the breakers of a target that answered, and of its region."""
        self.breaker.succeeded(target)
        self.breaker.succeeded(Target(_ANY_MODEL, target.region))

    def failed(self, target: Target, failure: Failure) -> None:
        """Count a failure against the target, or against its region where that could not be reached.

        A prompt that is too long or invalid says nothing about the target.
        """
        if failure.kind is FailureKind.UNREACHABLE:
            self.breaker.failed(Target(_ANY_MODEL, target.region), failure.code, limit=_REGION_LIMIT)
        elif failure.kind not in (FailureKind.OVERFLOW, FailureKind.INVALID):
            limit = 1 if failure.kind in _RESTING else _TARGET_LIMIT
            self.breaker.failed(target, failure.code, limit=limit)

    def remedy(self, failures: Sequence[tuple[Target, Failure]]) -> Remedy:
        """Say what to do after the newest of a call's failures.

        Args:
            failures: All failed attempts of the call so far, oldest first.
        """
        target, failure = failures[-1]
        kind = failure.kind
        if kind in _HOPELESS:
            return Remedy(Step.STAND_IN)
        if kind is FailureKind.OVERFLOW:
            return Remedy(Step.SHRINK)
        if kind is FailureKind.QUOTA:
            return Remedy(Step.NEXT_MODEL)
        before = sum(earlier == target for earlier, _ in failures[:-1])
        if kind in _PATIENT and before == 0:
            return Remedy(Step.AGAIN, self._backoff(before))
        # Another target is asked at once; where this one failed so often, the others did too, and waiting is left.
        return Remedy(Step.NEXT, self._backoff(before) if before > 1 else 0.0)

    def _backoff(self, before: int) -> float:
        """Draw a wait, after so many earlier failures of the same target in this call."""
        return self._draws.uniform(0.0, min(_LONGEST_BACKOFF_S, _FIRST_BACKOFF_S * 2**before))
