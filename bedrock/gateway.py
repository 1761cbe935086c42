"""The gateway every model call passes: route, reserve, call, settle; on failure heal, and at last the stand-in."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

from ..clock import Clock
from ..errors import InvalidSetting, ModelCallFailed
from ..settings import AGENTS, Settings
from .dialogue import Dialogue
from .failures import Healing, Target
from .models.catalog import Catalog
from .models.prices import Tokens
from .money.ledger import Ledger
from .routing.optimizer import CostOptimizer
from .routing.performance import PerformanceTracker
from .routing.router import Choice, ModelRouter
from .routing.task import TaskContext

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel
    from langchain_core.messages import BaseMessage

    from .aws.session import BedrockSession
    from .conversation import Conversation
    from .local_conversation import LocalConversation

_LIKELY_OUTPUT_TOKENS = 1024
"""What an answer is expected to have when models are compared; the reservation covers what it may have at most."""


_CALLS_OF_A_CONVERSATION = 4
"""How many calls at their worst case should fit what is left of a budget."""


@dataclass(frozen=True, slots=True)
class ModelTask:
    """What a conversation with a model is for."""

    agent: str
    run_id: str
    local_only: bool = False
    """Use the stand-in whatever the settings say: a cost measure."""
    routing: Mapping[str, Any] = field(default_factory=dict)
    """What the router had learned when this generation began: kept in the graph's state, so a replay routes alike."""
    pressure: float = 0.0
    """Share of the budget that was used then."""
    room_micro_usd: int | None = None
    """What was left of the budget then; None without a budget."""
    step: str = ""
    """The name under which the answers are put on record, such as `3/advisor`."""


class Gateway(Protocol):
    """What an agent needs of a gateway."""

    @property
    def stand_in(self) -> BaseChatModel:
        """The model that answers where no other does."""
        ...

    @property
    def local(self) -> bool:
        """Whether the stand-in answers everything."""
        ...

    def open(self, task: ModelTask, messages: Sequence[BaseMessage]) -> Dialogue:
        """Open a conversation for a task, given the system prompt and the brief."""
        ...


def _nobody_asks(run_id: str, model: str, latency_ms: int) -> None:  # what `answered` is given
    """Tell nobody."""


class ModelGateway:
    """Opens conversations with models, and holds what they need.

    Args:
        settings: Models, regions, residency, limits.
        ledger: Admits and settles calls.
        clock: Measures latency and the time for taking over.
        healing: Decides about attempts.
        tracker: Learns which models do well.
        catalog: Knows the models.
        session: Builds Bedrock models; None when the stand-in answers everything.
        answered: Told of every answer: the run, the model, and the milliseconds it took.

    Raises:
        UnknownModel: A configured model is in no catalog.
        UnknownPrice: A configured model has no known price.
        InvalidSetting: No configured model can be called in any region of the settings.
    """

    def __init__(
        self,
        settings: Settings,
        ledger: Ledger,
        *,
        clock: Clock,
        healing: Healing,
        tracker: PerformanceTracker,
        catalog: Catalog,
        session: BedrockSession | None,
        answered: Callable[[str, str, int], None] = _nobody_asks,
    ) -> None:
        self.answered = answered
        self._settings = settings
        self._session = session
        self.ledger = ledger
        self.clock = clock
        self.healing = healing
        self.tracker = tracker
        self.catalog = catalog
        self.takeover_s = settings.takeover_s
        self._check_models()

    @property
    def local(self) -> bool:
        """Whether the stand-in answers everything."""
        return self._session is None

    @cached_property
    def router(self) -> ModelRouter:
        """Ranks models for a task; made where models are called, since it looks up what each of them costs."""
        return ModelRouter(self.catalog, self._settings.models, CostOptimizer(self.catalog))

    @cached_property
    def stand_in(self) -> BaseChatModel:
        """The model that answers where no other does."""
        from .stand_in import StandIn

        return StandIn()

    def open(self, task: ModelTask, messages: Sequence[BaseMessage]) -> Conversation | LocalConversation:
        """Open a conversation: choose the models for a task, once for all its calls.

        Args:
            task: What it is for.
            messages: The system prompt and the brief.
        """
        if self.local or task.local_only:
            from .local_conversation import LocalConversation

            return LocalConversation(self.stand_in)
        from .conversation import Conversation
        from .prompt_size import most_tokens

        context = TaskContext.of(
            task.agent,
            messages[-1].text,
            input_tokens=most_tokens(messages),
            output_tokens=min(_LIKELY_OUTPUT_TOKENS, self._settings.max_tokens),
        )
        return Conversation(self, task, context, self._ranked(task, context))

    def targets(self, models: Sequence[str]) -> list[Target]:
        """Return every model in each region that it can be called from, model by model."""
        every = (Target(model, region) for model in models for region in self._settings.regions)
        return [target for target in every if self._callable(target)]

    def model(self, target: Target) -> BaseChatModel:
        """Return the chat model of a target.

        Raises:
            ModelCallFailed: No Bedrock session was opened.
        """
        if self._session is None:
            raise ModelCallFailed("no Bedrock session was opened, so no Bedrock model can be called.")
        return self._session.chat_model(
            self.callable_id(target),
            region=target.region,
            base_model=target.model,
            max_tokens=self.max_output(target.model),
        )

    def callable_id(self, target: Target) -> str:
        """Return the id that is sent to Bedrock for a target.

        Raises:
            InvalidSetting: The model cannot be called from that region inside the residency.
        """
        return self.catalog.callable_id(target.model, region=target.region, residency=self._settings.residency)

    def max_output(self, model: str) -> int:
        """Return how many tokens a model may write in one answer."""
        return min(self._settings.max_tokens, self.catalog.card(model).max_output_tokens)

    def _ranked(self, task: ModelTask, context: TaskContext) -> list[Choice]:
        ranked = self._affordable(task, context, self.router.rank(context, task.routing, pressure=task.pressure))
        pinned = self._settings.pinned_model(task.agent)
        if pinned is None:
            return ranked
        first = Choice(pinned, f"{task.agent} is bound to it by the settings", 1.0)
        return [first, *(choice for choice in ranked if choice.model_id != pinned)]

    def _affordable(self, task: ModelTask, context: TaskContext, ranked: list[Choice]) -> list[Choice]:
        """Leave out models that a small budget would stop at, as long as there are others."""
        if task.room_micro_usd is None:
            return ranked

        def worst_micro_usd(choice: Choice) -> int:
            most = Tokens(context.input_tokens, self.max_output(choice.model_id))
            return self.catalog.cost_micro_usd(choice.model_id, most)

        room = task.room_micro_usd / _CALLS_OF_A_CONVERSATION
        return [choice for choice in ranked if worst_micro_usd(choice) <= room] or sorted(ranked, key=worst_micro_usd)

    def _callable(self, target: Target) -> bool:
        try:
            self.callable_id(target)
        except InvalidSetting:
            return False
        return True

    def _check_models(self) -> None:
        for model in self._settings.models:
            self.catalog.card(model)
        if not self.local:
            _ = self.router  # refuses a model without a price
            self._check_targets()

    def _check_targets(self) -> None:
        pinned = [self._settings.pinned_model(agent) for agent in AGENTS]
        models = list(dict.fromkeys([*self._settings.models, *filter(None, pinned)]))
        for model in models:
            self.catalog.card(model)
            if not self.targets([model]):
                self.callable_id(Target(model, self._settings.home_region))  # raises, and says why
        for target in self.targets(models):
            self.catalog.cost_micro_usd(self.callable_id(target), Tokens(1, 1))
