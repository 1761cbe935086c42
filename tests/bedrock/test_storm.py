"""A run in a storm: most of its HTTP calls fail, and nothing of that can be seen in what it arrives at."""

import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from bedrock_evolution import Evolution, EvolutionResult, Score, Settings, number, text
from bedrock_evolution.bedrock.money.ledger import Spend
from bedrock_evolution.clock import CountedIds
from bedrock_evolution.fitness.journal import TrialRecord
from tests.support.bedrock_endpoint import BedrockEndpoint
from tests.support.bill import billed_micro_usd, micro_usd
from tests.support.converse import ConverseRequest, Cut, Failure, Hang, Message, Reply
from tests.support.model import ScriptedModel
from tests.support.stage import HAIKU, SONNET, with_dummy_aws

pytestmark = pytest.mark.slow

GENERATIONS = 50
FAILING = 0.6
STORM = 1
"""Any number makes a storm like it."""
READ_TIMEOUT_S = 1.5
PLANTS = ("fern", "moss", "orchid", "cactus", "ivy", "palm")
CASES = [{"plot": plot, "plant": PLANTS[plot % len(PLANTS)]} for plot in range(60)]
GENES = {"words": text("plants", max_chars=200), "threshold": number(0.1, low=0.0, high=1.0)}


def grow(genes: Mapping[str, Any], case: Mapping[str, Any], seed: int) -> Score:
    """Score a plot: best at a threshold of 0.7, and with words that name its plant."""
    named = case["plant"] in genes["words"]
    value = 0.5 - (genes["threshold"] - 0.7) ** 2 + 0.3 * named + random.Random(seed).gauss(0, 0.02)
    return Score(value, gene_feedback={} if named else {"words": f'should have taken: "my {case["plant"]} is dry"'})


@dataclass(frozen=True)
class Weather:
    """A model behind a service that fails at random, by the number of the request."""

    failing: float
    model: ScriptedModel = ScriptedModel(restless=True)  # noqa: RUF009  # it is frozen

    def __call__(self, request: ConverseRequest) -> Reply:
        answer = self.model(request)
        assert isinstance(answer, Message)
        draws = random.Random(f"{STORM}/{request.number}")
        if draws.random() >= self.failing:
            return answer
        errors: list[tuple[Reply, int]] = [
            (Failure("ThrottlingException"), 35),
            (Failure("ServiceUnavailableException"), 35),
            (Cut(answer, after=1), 13),
            (Hang(seconds=0), 13),
            (Hang(seconds=60), 4),
        ]
        replies, weights = zip(*errors, strict=True)
        return draws.choices(replies, weights)[0]


@dataclass(frozen=True)
class Call:
    """A row of the ledger."""

    status: str
    error: str
    model: str
    region: str
    reserved: int
    cost: int


@dataclass(frozen=True)
class Run:
    """What a run arrived at, what its books say, and what the service saw of it."""

    result: EvolutionResult
    trials: list[TrialRecord]
    spend: Spend
    calls: list[Call]
    requests: list[ConverseRequest]
    answered: list[tuple[ConverseRequest, Message]]


def run_in(folder: Path, *, failing: float) -> Run:
    with pytest.MonkeyPatch.context() as patch, BedrockEndpoint(Weather(failing)) as endpoint:
        with_dummy_aws(patch)
        settings = Settings.load(
            near=folder,
            model="bedrock",
            endpoint_url=endpoint.url,
            read_timeout_s=READ_TIMEOUT_S,
            models=(SONNET, HAIKU),
            candidates=2,
            store=f"sqlite:///{folder / 'garden.db'}",
        )
        evolution = Evolution("garden", GENES, evaluate=grow, cases=CASES, settings=settings, ids=CountedIds())
        result = evolution.run(GENERATIONS, seed=5, progress=False)
        columns = "status, error, model, region, reserved_micro_usd, cost_micro_usd"
        return Run(
            result,
            evolution._services.journal.recent_trials(result.run_id, before=GENERATIONS + 1, limit=10**6),
            evolution._services.gateway.ledger.run_spend(result.run_id),
            [Call(*row) for row in evolution._database.rows(f"SELECT {columns} FROM calls ORDER BY rowid")],
            endpoint.requests,
            endpoint.answered,
        )


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run_in(tmp_path_factory.mktemp("calm"), failing=0.0)


@pytest.fixture(scope="module")
def storm(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run_in(tmp_path_factory.mktemp("storm"), failing=FAILING)


def test_the_storm_is_one(calm: Run, storm: Run) -> None:
    assert len(calm.answered) == len(calm.requests)
    assert 1 - len(storm.answered) / len(storm.requests) == pytest.approx(FAILING, abs=0.03)
    errors = Counter(call.error for call in storm.calls)
    assert {"ThrottlingException", "ServiceUnavailableException", "ReadTimeoutError"} <= set(errors)
    assert len(errors) == 6  # with the cut connections, the cut answers, and none


def test_it_arrives_at_the_same_dna_by_the_same_trials(calm: Run, storm: Run) -> None:
    assert calm.result.status == storm.result.status == "done"
    assert calm.result.dna_generation > 3, "a run that changes little would prove little"
    assert {trial.about["origin"] for trial in calm.trials} == {"model"}
    assert storm.trials == calm.trials
    assert storm.result.dna_checksum == calm.result.dna_checksum
    assert storm.result.test_fitness == calm.result.test_fitness


@pytest.mark.parametrize("weather", ["calm", "storm"])
def test_the_tracked_cost_is_the_services_own_bill(weather: str, request: pytest.FixtureRequest) -> None:
    run: Run = request.getfixturevalue(weather)
    settled = [call.cost for call in run.calls if call.status == "settled"]
    assert settled == [micro_usd(sent.model_id, message) for sent, message in run.answered]
    assert run.spend.micro_usd - run.spend.unconfirmed_micro_usd == sum(settled) == billed_micro_usd(run.answered)
    assert run.spend.held_micro_usd == 0


def test_lost_answers_are_shown_apart_at_more_than_they_can_have_cost(calm: Run, storm: Run) -> None:
    assert calm.spend.unconfirmed_micro_usd == 0
    assert [(call.model, call.region) for call in storm.calls] == [(it.model_id, it.region) for it in storm.requests]
    lost = [(call, sent) for call, sent in zip(storm.calls, storm.requests, strict=True) if call.status == "lost"]
    assert storm.spend.unconfirmed_micro_usd == sum(call.cost for call, _ in lost) > 0
    for call, sent in lost:
        assert call.cost == call.reserved >= most_micro_usd(sent)


def test_refused_calls_cost_nothing(storm: Run) -> None:
    refused = [call for call in storm.calls if call.status == "void"]
    assert refused
    assert {call.cost for call in refused} == {0}


def most_micro_usd(sent: ConverseRequest) -> int:
    """Return what a request can cost whose answer nobody saw: all written to the cache, and all that may be written."""
    usage = ScriptedModel(restless=True)(sent)
    assert isinstance(usage, Message)
    read = usage.input_tokens + usage.cache_read_tokens + usage.cache_write_tokens
    most = Message([], input_tokens=0, output_tokens=sent.body["inferenceConfig"]["maxTokens"], cache_write_tokens=read)
    return micro_usd(sent.model_id, most)
