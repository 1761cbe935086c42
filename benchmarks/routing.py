"""How well the router chooses between a weak and a strong model, on the outcomes that RouteLLM published.

The data (RouteLLM, Apache-2.0, https://github.com/lm-sys/RouteLLM) tells for 15,344 questions of MMLU and GSM8K whether
each of the two models answered right. A question's role is its domain; the router sees the domain and the prompt.

Offline, the router's table is learned on one half and ranks the questions of the other half by the expected gain of the
strong model. APGR is the area between the curve of accuracy over the share of strong calls and the weak model, relative
to that of the strong model: 0.5 for choosing at random; CPT(50) the share of strong calls that recovers half of the gap
(https://arxiv.org/abs/2406.18665, section 3). Online, `ModelRouter` chooses model by model and learns from the chosen
model's outcome alone. What it reaches is compared with what the same money buys when the models are mixed at random,
which is the convex hull of the single models, or "zero router" (https://arxiv.org/abs/2403.12031).

Prints tables, or one JSON object with `--json`; `--plot FILE` draws the curves.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import hashlib
import json
import platform
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from bedrock_evolution.bedrock.models.catalog import Catalog
from bedrock_evolution.bedrock.models.prices import Tokens
from bedrock_evolution.bedrock.routing.optimizer import CostOptimizer
from bedrock_evolution.bedrock.routing.performance import Evidence, Outcome, after_call, estimate
from bedrock_evolution.bedrock.routing.router import ModelRouter, prior_success
from bedrock_evolution.bedrock.routing.task import TaskContext, band_of, complexity_of, family_name
from bedrock_evolution.settings import ModelCard, ModelPrice

Floats = NDArray[np.float64]
State = dict[str, dict[str, Evidence]]

DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "routellm_pair.csv.gz"
TASKS = ("mmlu", "gsm8k")
LIMITS = {"mmlu": 0.66, "gsm8k": 0.59}
"""Held-out APGR to reach, as a mean over splits."""
SEALED_SHARE = 0.4
"""Share of the questions that were not looked at while features and constants were chosen."""
CAPABILITY = 0.7
"""Both models' cards say the same: all that tells them apart is learned."""
ANSWER_TOKENS = 250
CHARS_PER_TOKEN = 4
WEAK, STRONG = "mixtral-8x7b", "gpt-4-1106"
PRICES_USD = {WEAK: (0.6, 0.6), STRONG: (10.0, 30.0)}
"""Of a million tokens in and out, in November 2023."""
GRID = np.linspace(0, 1, 51)
"""Shares of strong calls at which curves are drawn."""
RESAMPLES = 200
NEEDS = ((0.25, 0.5), (0.25, 1.0), (0.15, 1.0))
"""Accuracy need and cost sensitivity of the online runs: from generous to thrifty."""


@dataclass(frozen=True, slots=True)
class Question:
    """A question, and which of the two models answered it right."""

    task: str
    prompt: str
    context: TaskContext
    right: dict[str, bool]

    def share(self, salt: str) -> float:
        """Return a number in [0, 1) that depends on the question and a salt alone."""
        text = f"{salt}\x1f{self.task}\x1f{self.context.role}\x1f{self.prompt}"
        return int(hashlib.sha256(text.encode()).hexdigest()[:12], 16) / 16**12


def load(path: Path) -> list[Question]:
    """Read the questions."""
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        return [_question(row) for row in csv.DictReader(file)]


def _question(row: dict[str, str]) -> Question:
    complexity = complexity_of(row["prompt"])
    context = TaskContext(
        family=family_name(row["domain"], band_of(complexity)),
        kind="reasoning",
        complexity=complexity,
        input_tokens=len(row["prompt"]) // CHARS_PER_TOKEN,
        output_tokens=ANSWER_TOKENS,
    )
    return Question(row["task"], row["prompt"], context, {WEAK: row["weak"] == "1", STRONG: row["strong"] == "1"})


# -- offline


def gain(state: State, context: TaskContext) -> float:
    """Return how much likelier than the weak model the strong one is to be right, as the router sees it."""
    expected = [estimate(state, context, model, lambda c: prior_success(CAPABILITY, c)) for model in (STRONG, WEAK)]
    return expected[0].success - expected[1].success


def learned(questions: Sequence[Question], see: Callable[[TaskContext], TaskContext]) -> State:
    """Learn from both models' outcomes."""
    state: State = {}
    for question in questions:
        family = see(question.context).family
        for model, right in question.right.items():
            state[family] = after_call(state.get(family, {}), model, Outcome(right))
    return state


def curve(scores: Sequence[float], questions: Sequence[Question]) -> tuple[Floats, Floats]:
    """Return the share of strong calls, and the share of the gap that is recovered, at every threshold of the score."""
    order = np.argsort(-np.asarray(scores), kind="stable")
    gains = np.array([question.right[STRONG] - question.right[WEAK] for question in questions], dtype=float)[order]
    # Questions of equal score go over together.
    ends = np.append(np.flatnonzero(np.diff(np.asarray(scores)[order])) + 1, len(order))
    recovered = np.cumsum(gains)[ends - 1] / gains.sum()
    return np.append(0.0, ends / len(order)), np.append(0.0, recovered)


def apgr(shares: Floats, recovered: Floats) -> float:
    """Return the average share of the performance gap that is recovered."""
    return float(np.trapezoid(recovered, shares))


def cpt50(shares: Floats, recovered: Floats) -> float:
    """Return the smallest share of strong calls that recovers half of the gap."""
    over = int(np.argmax(recovered >= 0.5))
    step = (0.5 - recovered[over - 1]) / (recovered[over] - recovered[over - 1])
    return float(shares[over - 1] + step * (shares[over] - shares[over - 1]))


def by_domain(context: TaskContext) -> TaskContext:
    """Take a task's complexity away."""
    return replace(context, family=context.role, complexity=0.5)


def rankings(train: Sequence[Question], test: Sequence[Question]) -> dict[str, list[float]]:
    """Score the held-out questions by every way of routing; the higher, the sooner they go to the strong model."""
    whole = learned(train, lambda context: context)
    coarse = learned(train, by_domain)
    chance = random.Random(1)
    return {
        "this router": [gain(whole, question.context) for question in test],
        "table by domain": [gain(coarse, by_domain(question.context)) for question in test],
        "complexity alone": [question.context.complexity for question in test],
        "prompt length": [float(len(question.prompt)) for question in test],
        "random": [chance.random() for _ in test],
        "oracle": [float(question.right[STRONG] - question.right[WEAK]) for question in test],
    }


def offline(questions: Sequence[Question], splits: int) -> dict[str, Any]:
    """Measure every way of routing on held-out halves: several splits by a hash of the question, each both ways."""
    found: dict[str, Any] = {}
    for task in TASKS:
        its = [question for question in questions if question.task == task]
        drawn: dict[str, list[tuple[Floats, Floats]]] = {}
        for split in range(splits):
            halves = _parted(its, f"split-{split}", 0.5)
            for train, test in (halves, halves[::-1]):
                for name, scores in rankings(train, test).items():
                    drawn.setdefault(name, []).append(curve(scores, test))
        found[task] = {
            name: {
                "apgr": float(np.mean([apgr(*it) for it in curves])),
                "apgr_sd": float(np.std([apgr(*it) for it in curves], ddof=1)),
                "cpt50": float(np.mean([cpt50(*it) for it in curves])),
                "recovered": np.mean([np.interp(GRID, *it) for it in curves], axis=0).round(4).tolist(),
            }
            for name, curves in drawn.items()
        }
    return found


def sealed(questions: Sequence[Question]) -> dict[str, Any]:
    """Measure on the questions that were kept apart, with the standard error over resampled questions."""
    found: dict[str, Any] = {}
    draw = np.random.default_rng(1)
    for task in TASKS:
        its = [question for question in questions if question.task == task]
        train, test = _parted(its, "sealed", SEALED_SHARE)
        samples = [draw.integers(0, len(test), len(test)) for _ in range(RESAMPLES)]
        found[task] = {"questions": len(test)}
        for name, scores in rankings(train, test).items():
            again = [apgr(*curve([scores[i] for i in sample], [test[i] for i in sample])) for sample in samples]
            found[task][name] = {"apgr": apgr(*curve(scores, test)), "apgr_se": float(np.std(again, ddof=1))}
    return found


def _parted(questions: Sequence[Question], salt: str, share: float) -> tuple[list[Question], list[Question]]:
    """Part questions into those to learn from and a share that is held out."""
    parts: tuple[list[Question], list[Question]] = ([], [])
    for question in questions:
        parts[question.share(salt) >= 1 - share].append(question)
    return parts


# -- online


def online(questions: Sequence[Question], orders: int) -> list[dict[str, Any]]:
    """Stream the questions past the router, which sees the outcome of the model it chose and no other."""
    own = {model: _card(*price) for model, price in PRICES_USD.items()}
    catalog = Catalog(own)
    router = ModelRouter(catalog, list(own), CostOptimizer(catalog))
    found = []
    for accuracy, cost_sensitivity in NEEDS:
        needy = [
            replace(q, context=replace(q.context, accuracy=accuracy, cost_sensitivity=cost_sensitivity))
            for q in questions
        ]
        runs = [_stream(router, catalog, needy, order) for order in range(orders)]
        found.append({"accuracy_need": accuracy, "cost_sensitivity": cost_sensitivity, "runs": runs})
    return found


def _card(input_usd: float, output_usd: float) -> ModelCard:
    return ModelCard(
        context_tokens=32_000,
        max_output_tokens=4_096,
        reasoning=CAPABILITY,
        code=CAPABILITY,
        creative=CAPABILITY,
        data=CAPABILITY,
        speed=0.5,
        price=ModelPrice(input_usd=input_usd, output_usd=output_usd),
    )


def _stream(router: ModelRouter, catalog: Catalog, questions: Sequence[Question], order: int) -> dict[str, float]:
    state: State = {}
    right = strong_calls = micro_usd = 0
    single = {model: {"right": 0, "micro_usd": 0} for model in PRICES_USD}
    rescued = 0
    for question in random.Random(order).sample(questions, len(questions)):
        context = question.context
        chosen = router.rank(context, state)[0].model_id
        state[context.family] = after_call(state.get(context.family, {}), chosen, Outcome(question.right[chosen]))
        tokens = Tokens(context.input_tokens, context.output_tokens)
        for model, total in single.items():
            total["right"] += question.right[model]
            total["micro_usd"] += catalog.cost_micro_usd(model, tokens)
        right += question.right[chosen]
        strong_calls += chosen == STRONG
        micro_usd += catalog.cost_micro_usd(chosen, tokens)
        rescued += question.right[STRONG] and not question.right[WEAK]
    weak, strong = single[WEAK], single[STRONG]
    share = (micro_usd - weak["micro_usd"]) / (strong["micro_usd"] - weak["micro_usd"])
    count = len(questions)
    return {
        "accuracy": right / count,
        "weak_accuracy": weak["right"] / count,
        "strong_accuracy": strong["right"] / count,
        "strong_calls": strong_calls / count,
        "cost_share": micro_usd / strong["micro_usd"],
        "weak_cost_share": weak["micro_usd"] / strong["micro_usd"],
        "mixed_accuracy": (weak["right"] + share * (strong["right"] - weak["right"])) / count,
        "oracle_accuracy": (weak["right"] + min(rescued, share * count)) / count,
    }


# -- telling


def measure(path: Path, *, short: bool) -> dict[str, Any]:
    """Measure everything; where the data is missing say so, and nothing else."""
    if not path.is_file():
        return {"skipped": f"no data at {path.name}; name the file with --data"}
    questions = load(path)
    return {
        "questions": len(questions),
        "limits": LIMITS,
        "offline": offline(questions, splits=2 if short else 10),
        "sealed": sealed(questions),
        "online": online(questions, orders=2 if short else 5),
    }


def print_tables(found: dict[str, Any]) -> None:
    """Print the figures, and the versions they were measured with."""
    table = Table(title="Held-out halves: APGR (standard deviation over splits), CPT(50)", title_justify="left")
    for column in ("routing", *(f"{task.upper()}, to reach {LIMITS[task]}" for task in TASKS)):
        table.add_column(column)
    for name in found["offline"][TASKS[0]]:
        cells = [found["offline"][task][name] for task in TASKS]
        table.add_row(name, *(f"{it['apgr']:.3f} ({it['apgr_sd']:.3f}), {it['cpt50']:.0%}" for it in cells))
    console = Console()
    console.print(table)
    for task in TASKS:
        its = found["sealed"][task]
        parts = ", ".join(
            f"{name} {its[name]['apgr']:.3f} ± {its[name]['apgr_se']:.3f}" for name in its if name != "questions"
        )
        console.print(f"{task.upper()}, {its['questions']} questions that were kept apart: APGR of {parts}")
    table = Table(title="Online, from the chosen model's outcomes alone", title_justify="left")
    for column in ("strong calls", "cost", "accuracy", "models mixed at equal cost", "gain, points", "oracle"):
        table.add_column(column)
    for setting in found["online"]:
        runs = setting["runs"]
        gains = gains_in_points(runs)
        table.add_row(
            f"{_mean(runs, 'strong_calls'):.0%}",
            f"{_mean(runs, 'cost_share'):.0%}",
            f"{_mean(runs, 'accuracy'):.1%}",
            f"{_mean(runs, 'mixed_accuracy'):.1%}",
            f"{np.mean(gains):+.2f} ({min(gains):+.2f} to {max(gains):+.2f})",
            f"{_mean(runs, 'oracle_accuracy'):.1%}",
        )
    console.print(table)
    first = found["online"][0]["runs"][0]
    weak, strong = first["weak_accuracy"], first["strong_accuracy"]
    console.print(
        f"{found['questions']} questions; always weak {weak:.1%}, uniformly at random {(weak + strong) / 2:.1%}, always"
        f" strong {strong:.1%}; Python {platform.python_version()}, numpy {np.__version__}"
    )


def plot(found: dict[str, Any], path: Path) -> None:
    """Draw what is recovered of the gap over the share of strong calls, and the online runs beside the mix."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, (*both, last) = plt.subplots(1, 3, figsize=(12, 3.9), layout="constrained")
    colours = {"this router": "#3b6ea5", "prompt length": "#c07a3e", "random": "#999999", "oracle": "#6a9f58"}
    for axes, task in zip(both, TASKS, strict=True):
        for name, colour in colours.items():
            its = found["offline"][task][name]
            axes.plot(GRID, its["recovered"], color=colour, label=f"{name} ({its['apgr']:.2f})")
        axes.set(title=f"{task.upper()}, held out", xlabel="share of strong calls", ylabel="share of the gap recovered")
        axes.legend(title="APGR", frameon=False)
    runs = [run for setting in found["online"] for run in setting["runs"]]
    ends = [(runs[0]["weak_cost_share"], runs[0]["weak_accuracy"]), (1.0, runs[0]["strong_accuracy"])]
    last.plot(*zip(*ends, strict=True), color="#999999", marker="o", label="models mixed at random")
    reached = [(run["cost_share"], run["accuracy"]) for run in runs]
    last.plot(*zip(*reached, strict=True), "o", color="#3b6ea5", markersize=4, label="this router, learning")
    last.set(title="online, all questions", xlabel="cost, share of always strong", ylabel="accuracy")
    last.legend(frameon=False, loc="lower right")
    for axes in (*both, last):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)


def gains_in_points(runs: Sequence[dict[str, float]]) -> list[float]:
    """Return how much more accurate each run was than the models mixed at random for the same money."""
    return [100 * (run["accuracy"] - run["mixed_accuracy"]) for run in runs]


def _mean(runs: Sequence[dict[str, float]], name: str) -> float:
    return sum(run[name] for run in runs) / len(runs)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="How well the router chooses between a weak and a strong model.")
    parser.add_argument("--data", type=Path, default=DATA, help="The outcomes; default: beside the checkout.")
    parser.add_argument("--short", action="store_true", help="Fewer splits and orders.")
    parser.add_argument("--json", action="store_true", help="Print one JSON object.")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="Draw the curves into this picture.")
    options = parser.parse_args()
    found = measure(options.data, short=options.short)
    if options.json:
        print(json.dumps(found))
    elif "skipped" in found:
        print(found["skipped"])
    else:
        print_tables(found)
    if options.plot and "skipped" not in found:
        plot(found, options.plot)


if __name__ == "__main__":
    main()
