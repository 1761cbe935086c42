"""The stand-in's search: what it proposes is valid, new, reproducible, and better than chance."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bedrock_evolution.bedrock.stand_in.search import Ancestor, Feedback, Proposal, propose
from bedrock_evolution.bedrock.stand_in.surrogate import Surrogate, log_improvement
from bedrock_evolution.bedrock.stand_in.text_evidence import TextEvidence
from bedrock_evolution.bedrock.stand_in.vector_space import VectorSpace
from bedrock_evolution.dna.genes import (
    Gene,
    GeneValue,
    choice,
    code,
    flag,
    integer,
    number,
    text,
)

Values = Mapping[str, GeneValue]

QUICK = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])

FLOATS = st.floats(-1e6, 1e6, allow_nan=False)
ANY_TEXT = st.text(max_size=120)


@st.composite
def any_gene(draw: st.DrawFn) -> Gene:
    """Draw a declaration of any kind, locked or not."""
    kind = draw(st.sampled_from(["number", "log", "integer", "choice", "flag", "text", "code"]))
    locked = draw(st.booleans()) and draw(st.booleans())
    if kind == "number":
        low, value, high = sorted(draw(st.tuples(FLOATS, FLOATS, FLOATS)))
        return number(value, low=low, high=high + 1.0, locked=locked)
    if kind == "log":
        low, high = draw(st.floats(1e-9, 1.0)), draw(st.floats(1.5, 1e9))
        return number(low, low=low, high=high, log=True, locked=locked)
    if kind == "integer":
        low = draw(st.integers(-(10**20), 10**20))
        return integer(low, low=low, high=low + draw(st.integers(1, 10**20)), locked=locked)
    if kind == "choice":
        options = draw(st.lists(ANY_TEXT, min_size=2, max_size=5, unique=True))
        return choice(options[0], options=options, locked=locked)
    if kind == "flag":
        return flag(draw(st.booleans()), locked=locked)
    if kind == "code":
        return code("answer = 1", locked=locked)
    words = draw(ANY_TEXT)
    return text(
        words,
        min_chars=draw(st.integers(0, len(words))),
        max_chars=len(words) + draw(st.integers(0, 60)),
        locked=locked,
    )


GENES = st.dictionaries(st.text("abcdefgh.", min_size=1, max_size=6), any_gene(), min_size=1, max_size=6)


def live_values(genes: Mapping[str, Gene]) -> dict[str, GeneValue]:
    return {name: gene.value for name, gene in genes.items()}


def key(values: Values) -> str:
    return json.dumps(dict(values), sort_keys=True)


def evolve(
    genes: Mapping[str, Gene],
    score: Callable[[Values], float | None],
    *,
    generations: int,
    seed: int,
    complain: Callable[[Values], Sequence[Feedback]] = lambda _: [],
) -> tuple[list[Ancestor], list[list[Proposal]]]:
    """Run a search as the graph does, with its bounded window, and check each proposal on the way."""
    live = live_values(genes)
    trials = [Ancestor(live, score(live), 1, "live", 0)]
    made: list[list[Proposal]] = []
    for generation in range(1, generations + 1):
        ranked = sorted(trials[:-64], key=lambda a: -(a.fitness if a.fitness is not None else -1e300))
        window = [a for a in trials if a in ranked[:8]] + trials[-64:]
        best = max(trials, key=lambda a: a.fitness if a.fitness is not None else -1e300)
        found = propose(genes, live, window, complain(best.values), count=4, seed=seed + generation)
        assert_valid(genes, live, window, found)
        made.append(found)
        for proposal in found:
            values = live | proposal.changes
            trials.append(Ancestor(values, score(values), 1, proposal.origin, generation))
    return trials, made


def assert_valid(
    genes: Mapping[str, Gene], live: Values, history: Sequence[Ancestor], found: Sequence[Proposal]
) -> None:
    tried = {key(live), *(key(a.values) for a in history)}
    for proposal in found:
        assert proposal.changes
        assert proposal.rationale
        assert 0.0 <= proposal.probability <= 1.0
        assert np.isfinite(proposal.predicted_gain)
        for name, value in proposal.changes.items():
            assert not genes[name].locked
            assert genes[name].searchable
            assert type(genes[name].check(value)) is type(value)
        now = key({**live, **proposal.changes})
        assert now not in tried, "a proposal repeats the live genes, a trial or another proposal"
        tried.add(now)


def plain_score(values: Values) -> float:
    """Score anything, the same in every process."""
    return sum(float(v) / (1 + abs(float(v))) if not isinstance(v, str) else len(v) % 7 for v in values.values())


@QUICK
@given(genes=GENES, seed=st.integers(0, 2**60), notes=st.lists(ANY_TEXT, max_size=4))
def test_proposals_are_valid_new_and_leave_locked_and_code_genes_alone(
    genes: dict[str, Gene], seed: int, notes: list[str]
) -> None:
    feedback = [Feedback(name, note) for name in [None, *genes] for note in notes]
    evolve(genes, plain_score, generations=4, seed=seed, complain=lambda _: feedback)


@QUICK
@given(genes=GENES, seed=st.integers(0, 2**60))
def test_equal_arguments_give_equal_proposals(genes: dict[str, Gene], seed: int) -> None:
    runs = [evolve(genes, plain_score, generations=3, seed=seed)[1] for _ in range(2)]
    assert runs[0] == runs[1]


@QUICK
@given(genes=GENES, scores=st.lists(st.none() | st.floats(-1e12, 1e12), min_size=13, max_size=13))
def test_failed_and_extreme_trials_are_survived(genes: dict[str, Gene], scores: list[float | None]) -> None:
    left = list(scores)
    evolve(genes, lambda _: left.pop(), generations=3, seed=1)


@pytest.mark.parametrize(
    "note",
    [
        "",
        " ",
        "\x00\x07\x1b[31m",
        "\ud800 lone",
        '"',
        "“”",
        "'" * 5000,
        "a" * 100_000,
        '"x" ' * 30_000,
        "должно быть «привет»",
        "应该包含“退款”。不要“发票”",
        "🙂 " * 50,
        "e\u0301 \u202e abc",
        "should: " * 9000,
    ],
)
def test_any_feedback_becomes_nothing_but_bounded_text(note: str) -> None:
    genes: dict[str, Gene] = {
        "a": text("Bills.", max_chars=40),
        "b": text("Cards.", max_chars=2000),
        "n": number(1, low=0, high=2),
    }
    said = [Feedback(name, note, weight) for name in ("a", "b", None, "gone") for weight in (1.0, 0.0, -3.0)]
    trials, _ = evolve(genes, plain_score, generations=5, seed=3, complain=lambda _: said * 30)
    for trial in trials:
        assert all(c.isprintable() for name in "ab" for c in str(trial.values[name]))


def test_words_that_feedback_asks_for_are_added_and_blamed_ones_removed() -> None:
    genes = {"a": text("Handles cards and parcels."), "b": text("Other matters.")}
    said = [
        Feedback("a", 'should have taken "my invoice is late"'),
        Feedback("a", 'wrongly took "lost parcels"'),
    ]
    live = live_values(genes)
    found = [p for s in range(12) for p in propose(genes, live, [], said, count=4, seed=s)]
    texts = [str(p.changes.get("a", live["a"])) for p in found]
    assert any("invoice" in t for t in texts)
    assert any("parcels" not in t for t in texts)
    assert not any("lost" in t for t in texts)


def test_a_small_space_is_exhausted_and_then_left() -> None:
    genes: dict[str, Gene] = {
        "f": flag(False),
        "n": integer(1, low=1, high=3),
        "c": choice("x", options=["x", "y", "z"]),
        "k": number(1.0, low=0.0, high=2.0, locked=True),
    }
    trials, made = evolve(genes, plain_score, generations=6, seed=5)
    assert len(trials) == 2 * 3 * 3
    assert made[-1] == []


def test_nothing_searchable_gives_no_proposals() -> None:
    genes: dict[str, Gene] = {
        "k": number(1.0, low=0.0, high=2.0, locked=True),
        "c": code("x = 1"),
        "t": text("", max_chars=0),
    }
    assert propose(genes, live_values(genes), [], [], count=4, seed=0) == []


def test_a_text_that_is_full_makes_room_for_better_words() -> None:
    start = "Pays bills."
    genes = {"a": text(start, max_chars=30)}
    filled = {"a": start + " useless useless2"}
    history = [
        Ancestor({"a": start}, 0.5, 10, "live", 0),
        Ancestor(filled, 0.5, 10, "text:add2", 1),
        Ancestor({"a": start + " refund"}, 0.4, 10, "text:add2", 1),
    ]
    said = [Feedback("a", 'missing "overcharged"')]
    found = [p for s in range(10) for p in propose(genes, {"a": start}, history, said, count=4, seed=s)]
    assert any("overcharged" in str(p.changes["a"]) and start in str(p.changes["a"]) for p in found)


_CHILD = """
import json
from bedrock_evolution.bedrock.stand_in.search import Ancestor, Feedback, propose
from bedrock_evolution.dna.genes import choice, flag, integer, number, text
genes = {
    "x": number(0.3, low=0.0, high=1.0), "lr": number(0.01, low=1e-5, high=1.0, log=True),
    "n": integer(4, low=1, high=99), "c": choice("a", options=["a", "b", "c"]), "f": flag(True),
    "t": text("Invoices, refunds and charges."), "u": text("Parcels; late deliveries."),
}
live = {n: g.value for n, g in genes.items()}
history = [Ancestor(live, 0.1, 8, "live", 0)]
said = [Feedback("t", 'should have taken "money back please"'), Feedback("u", 'wrongly took "late invoice"')]
for g in range(1, 8):
    for p in propose(genes, live, history, said, count=4, seed=g):
        v = live | p.changes
        s = -abs(v["x"] - 0.7) + ("money" in v["t"]) + 0.1 * (v["c"] == "b")
        history.append(Ancestor(v, s, 8, p.origin, g))
print(json.dumps([[dict(a.values), a.fitness, a.origin] for a in history]))
"""


def test_proposals_do_not_depend_on_the_process_or_its_hash_seed() -> None:
    outputs = set()
    for hash_seed in ("0", "1", "4242"):
        done = subprocess.run(
            [sys.executable, "-c", _CHILD],
            env=os.environ | {"PYTHONHASHSEED": hash_seed},
            capture_output=True,
            check=True,
            text=True,
        )
        outputs.add(done.stdout)
    assert len(outputs) == 1


def test_history_is_read_in_its_order_and_not_changed() -> None:
    genes = {"x": number(0.3, low=0.0, high=1.0), "y": number(0.3, low=0.0, high=1.0)}
    trials, _ = evolve(genes, plain_score, generations=4, seed=1)
    before = [key(a.values) for a in trials]
    propose(genes, live_values(genes), trials, [], count=4, seed=9)
    assert [key(a.values) for a in trials] == before


def sphere(values: Values) -> float:
    return -sum((float(v) - 0.3 * i + 0.5) ** 2 for i, v in enumerate(values.values()))


def best(trials: Sequence[Ancestor]) -> float:
    return max(a.fitness for a in trials if a.fitness is not None)


def test_numbers_are_found_far_better_than_by_chance() -> None:
    genes = {f"x{i}": number(4.0, low=-5.0, high=5.0) for i in range(5)}
    rng = np.random.default_rng(0)
    for seed in (1, 2, 3):
        ours = best(evolve(genes, sphere, generations=15, seed=seed * 1000)[0])
        chance = max(sphere({n: rng.uniform(-5, 5) for n in genes}) for _ in range(60))
        assert ours > chance / 10, f"{ours} is not a tenth of the error of random search, {chance}"


TOPICS = {
    "billing": "invoice refund charge card receipt payment",
    "parcels": "delivery courier tracking depot parcel late",
    "login": "password account locked email reset token",
    "crash": "freeze error screen update restart bug",
}
FILLER = "hello please the my is it help today with again"


def tickets(seed: int) -> list[tuple[str, str]]:
    rng = np.random.default_rng(seed)
    made = []
    for i in range(48):
        topic = list(TOPICS)[i % 4]
        words = [*rng.choice(TOPICS[topic].split(), 2, replace=False), *rng.choice(FILLER.split(), 4)]
        made.append((" ".join(map(str, rng.permutation(words))), topic))
    return made


def routed(values: Values, message: str) -> str:
    overlap = {n: len(set(message.split()) & set(str(t).lower().split())) for n, t in values.items()}
    return max(overlap, key=lambda n: overlap[n])


def test_texts_learn_their_words_from_feedback_far_better_than_by_chance() -> None:
    genes = {name: text(f"Handles {name}.", max_chars=200) for name in TOPICS}
    for seed in (1, 2, 3):
        cases = tickets(seed)

        def score(values: Values, cases: list[tuple[str, str]] = cases) -> float:
            return sum(routed(values, m) == t for m, t in cases) / len(cases)

        def complain(values: Values, cases: list[tuple[str, str]] = cases) -> list[Feedback]:
            missed = [(m, t, routed(values, m)) for m, t in cases if routed(values, m) != t]
            return [Feedback(t, f'should have taken "{m}"') for m, t, _ in missed] + [
                Feedback(w, f'wrongly took "{m}"') for m, _, w in missed
            ]

        ours = best(evolve(genes, score, generations=8, seed=seed * 1000, complain=complain)[0])
        rng = np.random.default_rng(seed)
        pool = [w for m, _ in cases for w in m.split()]
        chance = max(
            score({n: f"{g.value} " + " ".join(rng.choice(pool, 6)) for n, g in genes.items()}) for _ in range(32)
        )
        assert ours >= 0.95
        assert ours > chance + 0.15


LOOSE = [
    *(
        Feedback("a", f'should have taken "{words}"')
        for words in ("parcel lost monday", "parcels broken rain", "lost tuesday")
    ),
    *(Feedback("b", f'should have taken "{words}"') for words in ("monday refund", "refunded rain", "refund tuesday")),
]


def test_words_of_several_cases_come_before_those_of_one_and_variants_count_together() -> None:
    found = TextEvidence(["a", "b"], {"a": "Post.", "b": "Money."}, LOOSE)
    assert {"parcel", "lost"} <= found.confirmed["a"].keys()
    assert "refund" in found.confirmed["b"]
    assert found.gains["a"]["parcel"] > found.gains["a"].get("broken", 0.0)
    assert not {"broken", "monday", "tuesday", "rain"} & found.confirmed["a"].keys()


def test_a_word_of_one_case_is_trusted_where_words_keep_to_their_texts() -> None:
    def confirmed(*, keeping: bool) -> bool:
        said = [
            Feedback("a", f'should have taken "thing{chr(97 + i)}q seen by many of the people"')
            for i in range(20)
            for _ in "12"
        ]
        if not keeping:
            said = [Feedback("ab"[i % 2], entry.text) for i, entry in enumerate(said)]
        said.append(Feedback("a", 'should have taken "solitary word among several others here"'))
        return "solitary" in TextEvidence(["a", "b"], {"a": "A.", "b": "B."}, said).confirmed["a"]

    assert confirmed(keeping=True)
    assert not confirmed(keeping=False)


def test_numbers_and_words_other_texts_use_are_not_drawn_from_feedback() -> None:
    said = [Feedback("a", f'should have taken "ticket 4711 about invoice and courier {i}"') for i in range(3)]
    found = TextEvidence(["a", "b"], {"a": "Post.", "b": "Invoices.", "c": "Invoice, billing."}, said)
    assert "4711" not in found.confirmed["a"]
    assert found.gains["a"]["invoice"] < found.gains["a"]["courier"]


def test_an_explicit_request_counts_although_one_case_makes_it() -> None:
    found = TextEvidence(["a", "b"], {"a": "Post.", "b": "Money."}, [Feedback("a", 'missing "overcharged"')])
    assert "overcharged" in found.confirmed["a"]


def noisy_tickets(rng: np.random.Generator, count: int) -> list[tuple[str, str]]:
    """Write messages of two words of their topic among many that tell nothing, each in a few messages only."""
    made = []
    for i in range(count):
        topic = list(TOPICS)[i % 4]
        noise = [f"by{chr(97 + int(c) // 20)}{chr(97 + int(c) % 20)}x" for c in rng.integers(0, 160, 7)]
        made.append((" ".join([*map(str, rng.choice(TOPICS[topic].split(), 2, replace=False)), *noise]), topic))
    return made


def test_what_is_learnt_from_noisy_messages_holds_for_others() -> None:
    genes = {name: text(f"Handles {name}.", max_chars=400) for name in TOPICS}
    for seed in (1, 2, 3):
        rng = np.random.default_rng(seed)
        cases, unseen = noisy_tickets(rng, 80), noisy_tickets(rng, 200)

        def score(values: Values, cases: list[tuple[str, str]] = cases) -> float:
            return sum(routed(values, m) == t for m, t in cases) / len(cases)

        def complain(values: Values, cases: list[tuple[str, str]] = cases) -> list[Feedback]:
            return [Feedback(t, f'should have taken "{m}"') for m, t in cases if routed(values, m) != t]

        trials, _ = evolve(genes, score, generations=4, seed=seed * 1000, complain=complain)
        winner = max(trials, key=lambda a: a.fitness or 0.0)
        assert winner.fitness is not None
        assert score(winner.values, unseen) >= 0.85
        assert winner.fitness - score(winner.values, unseen) < 0.15


SETTINGS: dict[str, Gene] = {
    "norm": choice("none", options=["none", "fold", "stem"]),
    "stop": flag(False),
    "cut": number(0.2, low=0.0, high=1.0),
    "a": text("Handles parcels."),
    "b": text("Handles cards."),
}


def test_settings_are_tried_one_at_a_time_before_texts_change_at_large() -> None:
    for seed in range(5):
        trials, made = evolve(SETTINGS, plain_score, generations=2, seed=seed * 100, complain=lambda _: LOOSE)
        flips = [p for found in made for p in found if p.origin == "flip"]
        tried = {(name, trial.values[name]) for trial in trials for name in ("norm", "stop")}
        assert tried == {("norm", "none"), ("norm", "fold"), ("norm", "stem"), ("stop", False), ("stop", True)}
        assert all(len(p.changes) == 1 for p in made[0] if p.origin == "flip")
        assert len(flips) >= 3
        assert any(p.origin.startswith("text:") for p in made[0])
        assert not any(p.origin.startswith("text:batch") for p in made[0])


_TPE_CHILD = """
import sys
from bedrock_evolution.bedrock.stand_in.search import Ancestor, propose
from bedrock_evolution.dna.genes import number
genes = {"x": number(0.3, low=0.0, high=1.0), "y": number(0.3, low=0.0, high=1.0)}
history = [Ancestor({"x": i / 10, "y": 0.3}, -abs(i / 10 - 0.7), 8, "local", i) for i in range(10)]
live = {"x": 0.3, "y": 0.3}
for seed in range(400):
    origins = [p.origin for p in propose(genes, live, history, [], count=4, seed=seed)]
    assert ("optuna" in sys.modules) == ("tpe" in origins), (seed, origins)
    if "tpe" in origins:
        print("asked")
        break
"""


def test_optuna_is_imported_only_when_it_is_asked_and_it_is_asked_at_times() -> None:
    done = subprocess.run([sys.executable, "-c", _TPE_CHILD], capture_output=True, check=True, text=True)
    assert done.stdout == "asked\n"


def test_a_snapped_point_stands_for_exactly_the_values_it_decodes_to() -> None:
    space = VectorSpace(
        {
            "n": integer(4, low=1, high=99),
            "m": integer(8, low=1, high=4096, log=True),
            "c": choice("a", options=["a", "b", "c"]),
            "f": flag(True),
        }
    )
    points = space.random(200, np.random.default_rng(0))
    again = np.array([space.encode(space.decode(point)) for point in points])
    assert np.allclose(points, again, atol=1e-12)


def test_the_model_predicts_unseen_points_of_a_smooth_function_and_knows_its_doubt() -> None:
    rng = np.random.default_rng(0)
    space = VectorSpace({"x": number(0.5, low=0, high=1), "y": number(0.5, low=0, high=1), "c": flag(False)})
    points, unseen = space.random(60, rng), space.random(200, rng)

    def truth(p: np.ndarray) -> np.ndarray:
        return np.asarray(np.sin(4 * p[:, 0]) + p[:, 1] ** 2 + 0.5 * p[:, 2])

    fitness, no_text = truth(points), np.zeros((60, 60))
    model = Surrogate(space, points, no_text, fitness, np.ones(60))
    mean, variance, _ = model.predict(unseen, no_text[:1])
    error = mean * model.scale + model.centre - truth(unseen)
    assert float(np.sqrt((error**2).mean())) < 0.1 * float(truth(unseen).std())
    _, at_trials, _ = model.predict(points, no_text[:1])
    assert float(np.median(at_trials)) < float(np.median(variance))


def test_the_log_of_the_expected_improvement_is_exact_near_and_finite_far() -> None:
    for z in (-30.0, -5.0, -1.0, 0.0, 2.0):
        found = float(log_improvement(np.array([z]), np.array([1.0]), 0.0)[0])
        assert math.isfinite(found)
        if z > -10:
            density = math.exp(-0.5 * z * z) / math.sqrt(2 * math.pi)
            assert found == pytest.approx(math.log(density + z * 0.5 * math.erfc(-z / math.sqrt(2))), rel=1e-4)
