"""The attempts of one call, with a plan of remedies made by hand: where they go, how long they are waited for."""

import threading
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError, ReadTimeoutError
from langchain_core.exceptions import ContextOverflowError

from bedrock_evolution.bedrock.attempts import Attempts, NoAnswer
from bedrock_evolution.bedrock.failures import Failure, FailureKind, Remedy, Step, Target
from bedrock_evolution.clock import FixedClock
from bedrock_evolution.errors import BudgetExhausted, MalformedAnswer

EAST, WEST = Target("claude", "us-east-1"), Target("claude", "us-west-2")
NOVA_EAST, NOVA_WEST = Target("nova", "us-east-1"), Target("nova", "us-west-2")
LADDER = [EAST, WEST, NOVA_EAST, NOVA_WEST]
TAKEOVER_S = 5.0
PATIENCE_S = 60.0
"""How long a test waits for what is bound to happen."""


def refused(code: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": ""}}, "Converse")


class TooLong(ClientError, ContextOverflowError):
    """As langchain-aws raises it."""


THROTTLED = refused("ThrottlingException")
QUOTA = refused("ServiceQuotaExceededException")
OVERFLOW = TooLong({"Error": {"Code": "ValidationException", "Message": "prompt is too long"}}, "Converse")
UNREACHABLE = EndpointConnectionError(endpoint_url="https://nowhere")


@dataclass
class Plan:
    """A `Healing` that is data: the remedies in their order, the last one for good, and what is left alone."""

    remedies: list[Remedy]
    resting: set[Target] = field(default_factory=set)

    def admits(self, target: Target) -> bool:
        return target not in self.resting

    def succeeded(self, target: Target) -> None:
        self.resting.discard(target)

    def failed(self, target: Target, failure: Failure) -> None:
        self.resting.add(target)

    def remedy(self, failures: Sequence[tuple[Target, Failure]]) -> Remedy:
        return self.remedies[min(len(failures), len(self.remedies)) - 1]


@dataclass
class Bench:
    """One call's attempts, and what they need."""

    plan: Plan
    clock: FixedClock = field(default_factory=lambda: FixedClock(datetime(2026, 3, 1, tzinfo=UTC)))
    shortens: bool = False
    usual_s: float = 0.0
    shortened: list[Target] = field(default_factory=list)

    def attempts(self) -> Attempts:
        def shorten(target: Target) -> bool:
            self.shortened.append(target)
            return self.shortens

        return Attempts(
            LADDER,
            self.plan,
            self.clock,
            takeover_s=TAKEOVER_S,
            shorten=shorten,
            usual_s=lambda target: self.usual_s,
        )

    def pass_s(self, seconds: float) -> None:
        self.clock.moment += timedelta(seconds=seconds)


def bench(*steps: Step, resting: Sequence[Target] = (), shortens: bool = False) -> Bench:
    return Bench(Plan([Remedy(step) for step in steps], set(resting)), shortens=shortens)


def raising(error: BaseException) -> Callable[[Target], None]:
    def attempt(target: Target) -> None:
        raise error

    return attempt


def failing(attempts: Attempts, error: Exception) -> bool:
    """Let the next attempt fail; return whether there is to be another one."""
    with pytest.raises(NoAnswer) as raised:
        attempts.make(raising(error))
    assert raised.value.__cause__ is error
    return attempts.prepare(raised.value)


def walked(attempts: Attempts, *errors: Exception) -> list[Target]:
    """Let attempts fail one after the other; return where they went, the next one included if there is one."""
    for error in errors:
        if not failing(attempts, error):
            return [target for target, _ in attempts.failures]
    return [*(target for target, _ in attempts.failures), attempts.make(lambda target: target)]


# -- where attempts go


def test_the_first_attempt_goes_to_the_first_target_that_is_not_left_alone() -> None:
    assert walked(bench(Step.NEXT).attempts()) == [EAST]
    assert walked(bench(Step.NEXT, resting=[EAST, WEST]).attempts()) == [NOVA_EAST]


def test_again_stays_unless_the_target_is_left_alone_by_now() -> None:
    assert walked(bench(Step.AGAIN).attempts(), THROTTLED) == [EAST, EAST]
    case = bench(Step.AGAIN)
    attempts = case.attempts()
    case.plan.failed(EAST, Failure(FailureKind.THROTTLED, "", may_be_billed=False))
    assert walked(attempts, THROTTLED) == [EAST, WEST]


def test_next_goes_down_the_ladder_and_begins_again_at_its_top() -> None:
    errors = [THROTTLED] * 5
    assert walked(bench(Step.NEXT).attempts(), *errors) == [*LADDER, EAST, WEST]


def test_next_passes_what_is_left_alone_and_comes_back_to_the_only_one_that_is_not() -> None:
    assert walked(bench(Step.NEXT, resting=[WEST]).attempts(), THROTTLED) == [EAST, NOVA_EAST]
    only_east = bench(Step.NEXT, resting=[WEST, NOVA_EAST, NOVA_WEST])
    assert walked(only_east.attempts(), THROTTLED) == [EAST, EAST]


def test_next_model_leaves_all_regions_of_a_model_out() -> None:
    assert walked(bench(Step.NEXT_MODEL).attempts(), QUOTA) == [EAST, NOVA_EAST]


def test_next_model_never_comes_back_to_a_model_whose_quota_or_window_was_met() -> None:
    assert walked(bench(Step.NEXT_MODEL).attempts(), QUOTA, QUOTA) == [EAST, NOVA_EAST]
    assert walked(bench(Step.NEXT, Step.NEXT_MODEL).attempts(), THROTTLED, QUOTA) == [EAST, WEST, NOVA_EAST]


def test_a_prompt_that_can_be_shorter_is_sent_to_the_same_target_again() -> None:
    case = bench(Step.SHRINK, shortens=True)
    assert walked(case.attempts(), OVERFLOW, OVERFLOW) == [EAST, EAST, EAST]
    assert case.shortened == [EAST, EAST]


def test_a_prompt_that_cannot_be_shorter_goes_to_the_next_model() -> None:
    assert walked(bench(Step.SHRINK).attempts(), OVERFLOW) == [EAST, NOVA_EAST]
    assert walked(bench(Step.SHRINK).attempts(), OVERFLOW, OVERFLOW) == [EAST, NOVA_EAST]


def test_a_prompt_is_not_shortened_for_any_other_remedy() -> None:
    case = bench(Step.AGAIN, Step.NEXT, Step.NEXT_MODEL, Step.STAND_IN)
    walked(case.attempts(), THROTTLED, THROTTLED, THROTTLED, THROTTLED)
    assert case.shortened == []


def test_the_stand_in_ends_the_attempts() -> None:
    assert walked(bench(Step.STAND_IN).attempts(), refused("AccessDeniedException")) == [EAST]


def test_where_every_target_is_left_alone_nothing_is_attempted() -> None:
    attempts = bench(Step.AGAIN, resting=LADDER).attempts()
    with pytest.raises(NoAnswer, match="every model is left alone") as raised:
        attempts.make(lambda target: pytest.fail("an attempt was made"))
    assert not attempts.prepare(raised.value)
    assert attempts.failures == []


def test_failures_are_kept_with_their_targets_and_kinds() -> None:
    attempts = bench(Step.NEXT).attempts()
    walked(attempts, THROTTLED, UNREACHABLE, ReadTimeoutError(endpoint_url="https://slow"))
    assert [(target, failure.kind) for target, failure in attempts.failures] == [
        (EAST, FailureKind.THROTTLED),
        (WEST, FailureKind.UNREACHABLE),
        (NOVA_EAST, FailureKind.TIMED_OUT),
    ]


def test_it_is_known_whether_a_request_was_refused_for_what_it_is() -> None:
    attempts = bench(Step.NEXT, Step.STAND_IN).attempts()
    assert failing(attempts, THROTTLED)
    assert not attempts.refused
    assert not failing(attempts, refused("ValidationException"))
    assert attempts.refused


def test_what_goes_into_logs_holds_no_text_of_the_service() -> None:
    secret = ClientError({"Error": {"Code": "AccessDeniedException", "Message": "canary-arn"}}, "Converse")
    with pytest.raises(NoAnswer) as raised:
        bench(Step.AGAIN).attempts().make(raising(secret))
    assert str(raised.value) == "denied: AccessDeniedException"


@pytest.mark.parametrize("error", [BudgetExhausted("spent"), MalformedAnswer("no JSON"), AssertionError()])
def test_what_is_no_failure_of_a_call_is_raised(error: Exception) -> None:
    attempts = bench(Step.AGAIN).attempts()
    with pytest.raises(type(error)) as raised:
        attempts.make(raising(error))
    assert raised.value is error
    assert attempts.failures == []


# -- how long


def test_it_waits_as_the_remedy_says() -> None:
    case = Bench(Plan([Remedy(Step.AGAIN, 0.25), Remedy(Step.NEXT)]))
    attempts, began = case.attempts(), case.clock.monotonic_s()
    assert failing(attempts, THROTTLED)
    assert case.clock.monotonic_s() - began == pytest.approx(0.25)
    assert failing(attempts, THROTTLED)
    assert case.clock.monotonic_s() - began == pytest.approx(0.25)


def test_time_runs_from_the_first_failure_however_long_the_first_attempt_took() -> None:
    case = bench(Step.NEXT)
    attempts = case.attempts()
    case.pass_s(300)
    assert failing(attempts, THROTTLED)
    case.pass_s(TAKEOVER_S - 0.01)
    assert failing(attempts, THROTTLED)
    case.pass_s(0.01)
    assert not attempts.prepare(NoAnswer("late", Failure(FailureKind.BUSY, "late", may_be_billed=False)))


def test_no_wait_goes_beyond_the_time_for_taking_over() -> None:
    case = Bench(Plan([Remedy(Step.AGAIN), Remedy(Step.AGAIN, 1.0)]))
    attempts = case.attempts()
    assert failing(attempts, THROTTLED)
    case.pass_s(TAKEOVER_S - 1.0)
    before = case.clock.moment
    assert not failing(attempts, THROTTLED)
    assert case.clock.moment == before


def test_no_attempt_is_begun_once_the_time_for_taking_over_has_come() -> None:
    case = bench(Step.NEXT)
    attempts = after_one_failure(case)
    case.pass_s(TAKEOVER_S)
    with pytest.raises(NoAnswer, match="the time for taking over has come") as raised:
        attempts.make(lambda target: pytest.fail("an attempt was made"))
    assert not attempts.prepare(raised.value)


def after_one_failure(case: Bench) -> Attempts:
    attempts = case.attempts()
    assert failing(attempts, THROTTLED)
    return attempts


caller: ContextVar[str] = ContextVar("caller", default="nobody")


def test_the_first_attempt_is_made_by_the_caller_and_later_ones_in_its_context() -> None:
    attempts = bench(Step.NEXT).attempts()
    token = caller.set("somebody")
    assert attempts.make(lambda target: threading.current_thread()) is threading.current_thread()
    failing(attempts, THROTTLED)
    thread, who = attempts.make(lambda target: (threading.current_thread(), caller.get()))
    caller.reset(token)
    assert thread is not threading.current_thread()
    assert who == "somebody"


def test_a_later_attempt_is_waited_for_until_the_time_for_taking_over() -> None:
    case, answered = bench(Step.NEXT), threading.Event()
    attempts = after_one_failure(case)
    case.pass_s(TAKEOVER_S - 0.05)

    with pytest.raises(NoAnswer, match="took too long") as raised:
        attempts.make(lambda target: answered.wait(PATIENCE_S))

    assert not attempts.prepare(raised.value)
    assert len(attempts.failures) == 1  # it is no failure of the target
    answered.set()


def test_an_attempt_that_is_not_waited_for_goes_on_to_its_end() -> None:
    case, answered, ended = bench(Step.NEXT), threading.Event(), threading.Event()
    attempts = after_one_failure(case)
    case.pass_s(TAKEOVER_S - 0.05)

    def attempt(target: Target) -> None:
        assert answered.wait(PATIENCE_S)
        ended.set()

    with pytest.raises(NoAnswer):
        attempts.make(attempt)
    assert not ended.is_set()
    answered.set()
    assert ended.wait(PATIENCE_S)


def test_a_model_that_usually_takes_longer_is_waited_for_twice_as_long_as_usual() -> None:
    case, answered = bench(Step.NEXT), threading.Event()
    case.usual_s = PATIENCE_S
    attempts = after_one_failure(case)
    case.pass_s(TAKEOVER_S - 0.001)
    threading.Timer(0.2, answered.set).start()
    assert attempts.make(lambda target: answered.wait(PATIENCE_S))


@pytest.mark.parametrize(
    ("error", "kind"), [(THROTTLED, FailureKind.THROTTLED), (TimeoutError("of its own"), FailureKind.TIMED_OUT)]
)
def test_how_a_later_attempt_fails_is_known(error: Exception, kind: FailureKind) -> None:
    attempts = after_one_failure(bench(Step.NEXT))
    assert failing(attempts, error)
    assert attempts.failures[-1][1].kind == kind


@pytest.mark.parametrize("error", [KeyboardInterrupt(), BudgetExhausted("spent")])
def test_what_a_later_attempt_raises_besides_is_raised(error: BaseException) -> None:
    with pytest.raises(type(error)):
        after_one_failure(bench(Step.NEXT)).make(raising(error))
