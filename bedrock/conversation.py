"""One agent's work on one task: routed once, then reserved, called, settled and healed call by call."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from langchain_core.messages import AnyMessage, BaseMessage
from pydantic import ValidationError

from ..errors import MalformedAnswer
from .answers import checked
from .attempts import Attempts, NoAnswer
from .classification import CALL_FAILURES, classify
from .dialogue import Invoke, Said
from .failures import Failure, Target
from .metering import metered
from .models.prices import Tokens
from .money.ledger import Hold
from .plain_messages import answer_in, plain, request_hash
from .prompt_size import half_of, most_tokens, shrunk
from .protocol import STAND_IN
from .recorded import RecordedCall
from .routing.performance import estimate
from .routing.router import Choice
from .routing.task import TaskContext

if TYPE_CHECKING:
    from .gateway import ModelGateway, ModelTask

log = logging.getLogger(__name__)

_CACHED = {"cache_control": {"ttl": "5m"}}
"""langchain-aws turns this into cache points: https://docs.aws.amazon.com/bedrock/latest/userguide/prompt-caching.html"""
_WINDOW_USED = 0.9


@dataclass(slots=True)
class _Used:
    """What one model did since the conversation was last judged."""

    calls: int = 0
    latency_ms: int = 0
    micro_usd: int = 0


class Conversation:
    """The model calls of one agent on one task; it always gets an answer, the stand-in's where all else fails.

    Args:
        gateway: Whose models, ledger and strategies it uses.
        task: What it is for.
        context: What the task asks of a model.
        choices: The models to ask, best first; none makes the stand-in answer everything.
    """

    def __init__(self, gateway: ModelGateway, task: ModelTask, context: TaskContext, choices: Sequence[Choice]) -> None:
        self._gateway = gateway
        self._task = task
        self._context = context
        self._reasons = {choice.model_id: choice.reason for choice in choices}
        self._ladder = gateway.targets([choice.model_id for choice in choices])
        self._used: dict[str, _Used] = {}
        self._settled: list[tuple[Tokens, int]] = []
        self._asked = STAND_IN
        self._most_tokens: int | None = None
        self.local = not self._ladder
        self.calls: list[RecordedCall] = []
        """The answers so far, the unreadable ones among them."""

    @property
    def model(self) -> str:
        """The model that is asked first, or `stand-in`."""
        return STAND_IN if self.local else self._ladder[0].model

    @property
    def reason(self) -> str:
        """Why that model is asked first; empty for the stand-in."""
        return self._reasons.get(self.model, "")

    def call(self, system: Sequence[BaseMessage], messages: Sequence[AnyMessage], invoke: Invoke[Said]) -> Said:
        """Make one model call.

        Args:
            system: The system prompt, which is sent whole whatever happens.
            messages: The conversation so far.
            invoke: Sends messages to a model.

        Returns:
            The model's response, or the stand-in's where no attempt succeeded in time.

        Raises:
            SpendExhausted: An attempt's worst case does not fit a cap; that attempt was not sent.
            MalformedAnswer: The model answered, but not in a form that can be read as a message.
        """
        local, request = self.local, request_hash(system, messages)
        try:
            response = self._answer(system, list(messages), invoke)
        except MalformedAnswer as error:
            self._note(RecordedCall(self._asked, local, request, malformed=error.message))
            raise
        answer = answer_in(response)
        model = str(answer.response_metadata.get("model_name") or self.model)
        self._note(RecordedCall(model, local, request, plain(answer)))
        return response

    def _answer(self, system: Sequence[BaseMessage], given: list[AnyMessage], invoke: Invoke[Said]) -> Said:
        if self.local:
            return invoke(self._gateway.stand_in, given, {})
        attempts = Attempts(
            self._ladder,
            self._gateway.healing,
            self._gateway.clock,
            takeover_s=self._gateway.takeover_s,
            shorten=lambda target: self._shorten(self._fitted(target, given)),
            usual_s=self._usual_s,
        )
        while True:
            try:
                return attempts.make(lambda target: self._once(target, system, given, invoke))
            except NoAnswer as last:
                if not attempts.prepare(last):
                    log.warning(
                        "agent=<%s> failed_attempts=<%d> reason=<%s> | the stand-in answers",
                        self._task.agent,
                        len(attempts.failures),
                        last,
                    )
                    break
        # In an outage the stand-in finishes the task: the next calls would each wait as long again.
        self.local = not attempts.refused
        return invoke(self._gateway.stand_in, given, {})

    def _note(self, call: RecordedCall) -> None:
        """Put an answer on record, with what was settled since the one before."""
        settled, self._settled = self._settled, []  # an attempt that nobody waits for may still add to it
        self.calls.append(
            replace(
                call,
                cost_micro_usd=sum(micro_usd for _, micro_usd in settled),
                input_tokens=sum(tokens.input for tokens, _ in settled),
                output_tokens=sum(tokens.output for tokens, _ in settled),
            )
        )

    def give_up(self) -> None:
        """Let the stand-in go on: the models gave no usable answer in the attempts they have."""
        self.judge(usable=False)
        self.local = True

    def judge(self, *, usable: bool) -> None:
        """Let the router learn whether the models of this conversation gave a usable answer."""
        judged, self._used = self._used, {}  # an attempt that nobody waits for may still add to it
        for model, used in judged.items():
            self._gateway.tracker.record(
                self._context,
                model,
                success=usable,
                latency_ms=used.latency_ms // used.calls,
                micro_usd=used.micro_usd // used.calls,
            )

    def _fitted(self, target: Target, messages: list[AnyMessage]) -> list[AnyMessage]:
        """Return the messages as short as the window asks, and as this conversation found that they have to be."""
        most = int(self._gateway.catalog.card(target.model).context_tokens * _WINDOW_USED)
        most = min(most, self._most_tokens or most)
        return shrunk(messages, most=most) if most_tokens(messages) > most else messages

    def _usual_s(self, target: Target) -> float:
        """Return how long this model usually takes for such a task, as far as is known."""
        return estimate(self._task.routing, self._context, target.model, lambda _: 0.0).latency_s or 0.0

    def _shorten(self, messages: list[AnyMessage]) -> bool:
        """Send half of the prompt from now on; False if it cannot be made any shorter."""
        shorter = shrunk(messages, most=half_of(messages))
        if shorter == messages:
            return False
        self._most_tokens = most_tokens(shorter)
        return True

    def _once(
        self, target: Target, system: Sequence[BaseMessage], messages: list[AnyMessage], invoke: Invoke[Said]
    ) -> Said:
        """Make one attempt: reserve, call and settle."""
        gateway, began_s = self._gateway, self._gateway.clock.monotonic_s()
        self._asked = target.model
        messages = self._fitted(target, messages)
        card, model_id = gateway.catalog.card(target.model), gateway.callable_id(target)
        hold = self._reserve(target, model_id, most_tokens([*system, *messages]), caches=card.caches)
        lost, may_be_billed = "interrupted", True
        with metered() as meter:
            try:
                response = invoke(gateway.model(target), messages, _CACHED if card.caches else {})
            except ValidationError as error:
                lost = "malformed answer"
                gateway.healing.succeeded(target)
                meant = f"the input of a tool call is no JSON object: {error.errors()[0]['msg']}"
                raise MalformedAnswer(meant) from error
            except CALL_FAILURES as error:
                failure = classify(error)
                lost, may_be_billed = failure.code, failure.may_be_billed
                self._failed(target, failure)
                raise
            else:
                lost = "no usage in the answer"
                gateway.healing.succeeded(target)
                return checked(response)
            finally:
                # What was metered is paid for, whatever could be made of the answer.
                if meter:
                    self._settle(target, hold, meter[-1], gateway.clock.monotonic_s() - began_s)
                elif may_be_billed:
                    gateway.ledger.keep(hold, error=lost)
                else:
                    gateway.ledger.void(hold, error=lost)

    def _reserve(self, target: Target, model_id: str, prompt_tokens: int, *, caches: bool) -> Hold:
        output = self._gateway.max_output(target.model)
        # Writing to the cache may cost more than reading anew, or less.
        worst = max(
            self._gateway.catalog.cost_micro_usd(model_id, Tokens(prompt_tokens, output, cache_write=written))
            for written in (0, prompt_tokens if caches else 0)
        )
        return self._gateway.ledger.reserve(
            run_id=self._task.run_id,
            agent=self._task.agent,
            model=model_id,
            region=target.region,
            task=self._context.family,
            reason=self._reasons[target.model],
            micro_usd=worst,
        )

    def _settle(self, target: Target, hold: Hold, tokens: Tokens, seconds: float) -> None:
        micro_usd = self._gateway.catalog.cost_micro_usd(self._gateway.callable_id(target), tokens)
        latency_ms = round(1000 * seconds)
        self._gateway.ledger.settle(hold, tokens=tokens, micro_usd=micro_usd, latency_ms=latency_ms)
        self._gateway.answered(self._task.run_id, target.model, latency_ms)
        used = self._used.setdefault(target.model, _Used())
        used.calls += 1
        used.latency_ms += latency_ms
        used.micro_usd += micro_usd
        self._settled.append((tokens, micro_usd))

    def _failed(self, target: Target, failure: Failure) -> None:
        self._gateway.healing.failed(target, failure)
        log.info(
            "agent=<%s> model=<%s> region=<%s> kind=<%s> error=<%s> | attempt failed",
            self._task.agent,
            target.model,
            target.region,
            failure.kind,
            failure.code,
        )
