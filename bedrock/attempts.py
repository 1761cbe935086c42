"""The attempts of one model call: where each goes, how long it is waited for, and when to give up."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial
from typing import TypeVar

from ..clock import Clock
from ..errors import StoreUnavailable, WriterFenced
from .classification import CALL_FAILURES, classify
from .failures import Failure, FailureKind, Healing, Step, Target

Answer = TypeVar("Answer")

_THE_MODELS = (FailureKind.OVERFLOW, FailureKind.QUOTA)
"""Kinds that the same model meets again in another region."""
_PATIENCE = 2.0
"""How many times its usual time an answer is waited for, once an attempt has failed."""


class NoAnswer(Exception):
    """An attempt gave no answer.

    Whoever logs it finds no text of the service or the network in it, which may hold a secret.

    Args:
        why: In a few words.
        failure: How it failed; None where another attempt is out of the question.
    """

    def __init__(self, why: str, failure: Failure | None = None) -> None:
        super().__init__(why)
        self.failure = failure


class Attempts:
    """Walks the targets of a call as the healing strategies say, until the time for taking over has come.

    Args:
        ladder: All targets, best first: a model in each of its regions, then the next model.
        healing: Says what to do about a failure, and which targets to leave alone.
        clock: Measures the time, and waits.
        takeover_s: Seconds after the first failure in which another attempt has to succeed.
        shorten: Makes the prompt for a target shorter from now on; False if it cannot be.
        usual_s: How many seconds a target usually takes to answer, as far as is known.
    """

    def __init__(
        self,
        ladder: Sequence[Target],
        healing: Healing,
        clock: Clock,
        *,
        takeover_s: float,
        shorten: Callable[[Target], bool],
        usual_s: Callable[[Target], float],
    ) -> None:
        self._ladder = list(ladder)
        self._healing = healing
        self._clock = clock
        self._takeover_s = takeover_s
        self._shorten = shorten
        self._usual_s = usual_s
        self._target = self._first(self._ladder)
        self._deadline_s = 0.0
        self.failures: list[tuple[Target, Failure]] = []
        self.refused = False
        """Whether the newest failure was one that no other attempt of this call can mend."""

    def make(self, attempt: Callable[[Target], Answer]) -> Answer:
        """Make the next attempt.

        The first one has all the time that the read timeout leaves it. Later ones are waited for as long as the time
        for taking over is not come, or as long as this model's answers usually take.

        Raises:
            NoAnswer: It failed or took too long, every target is left alone at present, or the ledger that has to admit
                it cannot be reached.
        """
        if self._target is None:
            raise NoAnswer("every model is left alone for now, after its failures")
        try:
            if not self.failures:
                return attempt(self._target)
            left_s = self._deadline_s - self._clock.monotonic_s()
            if left_s <= 0:
                raise NoAnswer("the time for taking over has come")
            return _within(max(left_s, _PATIENCE * self._usual_s(self._target)), partial(attempt, self._target))
        except CALL_FAILURES as error:
            failure = classify(error)
            raise NoAnswer(f"{failure.kind}: {failure.code}", failure) from error
        except (StoreUnavailable, WriterFenced) as error:
            # Raised by the reservation: what cannot be booked is not sent, to any model.
            raise NoAnswer("the ledger cannot be reached") from error

    def prepare(self, last: NoAnswer) -> bool:
        """Get ready for another attempt after one that gave no answer, waiting where the remedy says so.

        Returns:
            Whether there is to be another one.
        """
        if last.failure is None or self._target is None:
            return False
        now_s = self._clock.monotonic_s()
        if not self.failures:
            self._deadline_s = now_s + self._takeover_s
        self.failures.append((self._target, last.failure))
        remedy = self._healing.remedy(self.failures)
        self.refused = remedy.step is Step.STAND_IN
        self._target = self._after(self._target, remedy.step)
        if self._target is None or now_s + remedy.wait_s >= self._deadline_s:
            return False
        self._clock.sleep(remedy.wait_s)
        return True

    def _after(self, target: Target, step: Step) -> Target | None:
        place = self._ladder.index(target)
        others = self._ladder[place + 1 :] + self._ladder[: place + 1]
        if step is Step.STAND_IN:
            return None
        if step is Step.AGAIN or (step is Step.SHRINK and self._shorten(target)):
            return self._first([target, *others])
        if step is Step.NEXT:
            return self._first(others)
        useless = {met.model for met, failure in self.failures if failure.kind in _THE_MODELS}
        return self._first([other for other in others if other.model not in useless])

    def _first(self, order: Sequence[Target]) -> Target | None:
        return next(filter(self._healing.admits, order), None)


def _within(seconds: float, work: Callable[[], Answer]) -> Answer:
    done: Future[Answer] = Future()

    def run() -> None:
        try:
            done.set_result(work())
        except BaseException as error:  # noqa: BLE001  # raised again where it is waited for
            done.set_exception(error)

    threading.Thread(target=contextvars.copy_context().run, args=(run,), name="model-call", daemon=True).start()
    try:
        return done.result(seconds)
    except TimeoutError as error:
        if done.done():  # the error is the work's own, or the answer came at the last moment
            return done.result()
        raise NoAnswer("another attempt took too long; it goes on by itself, and pays what it costs") from error
