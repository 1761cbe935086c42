"""Draws the pictures of the README: `python docs/draw.py` writes `docs/images/`.

The graph is drawn from the compiled graph's own edges: an edge that is missing here, or drawn in vain, is an error.
The fitness curve is that of a run made on the spot.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from matplotlib.path import Path as Line

from bedrock_evolution import EvolutionResult
from bedrock_evolution.clock import SystemClock
from bedrock_evolution.dna.database import Database
from bedrock_evolution.fitness.journal import Journal, TrialRecord
from bedrock_evolution.graph.loading import load_app

if TYPE_CHECKING:
    from bedrock_evolution import Evolution

DOCS = Path(__file__).resolve().parent
IMAGES = DOCS / "images"
APP = DOCS.parent / "examples" / "support_router" / "app.py"
GENERATIONS, SEED = 15, 1

INK, GREY, BLUE, GREEN, AMBER, RED = "#2b3440", "#6f7a86", "#3b6ea5", "#3f8f5f", "#b7791f", "#b4544d"
FILLS = {BLUE: "#e9f0f7", GREEN: "#e6f3ea", AMBER: "#fbf1dd", RED: "#f9e9e7", GREY: "#f1f3f5"}
Point = tuple[float, float]
Edge = tuple[str, str]

# -- the graph

NODES: dict[str, tuple[Point, str, str]] = {
    "begin": ((0.75, 3.4), "opens the run", GREY),
    "observe": ((2.75, 3.4), "live DNA, its scores", BLUE),
    "govern": ((4.55, 3.4), "how much to spend", BLUE),
    "advise": ((6.35, 3.4), "proposes candidates", BLUE),
    "trial": ((8.15, 3.4), "races, then weighs", BLUE),
    "decide": ((9.95, 3.4), "rule or engine", BLUE),
    "approve": ((12.15, 3.4), "waits for a person", AMBER),
    "apply": ((12.15, 4.75), "changes the DNA", GREEN),
    "record": ((12.15, 2.05), "keeps the reasons", BLUE),
    "diagnose": ((4.55, 4.6), "why it got worse", BLUE),
    "heal": ((4.55, -0.1), "chooses, in bounds", RED),
    "rollback": ((2.3, -0.1), "stable genes again", RED),
    "report": ((9.95, -0.1), "sealed test, summary", GREY),
}
SIZE = (1.5, 0.72)
FRAME = (1.75, 1.02, 11.4, 4.73)
"""Left, bottom, width and height of the frame around the steps."""
STEPS = ("observe", "diagnose", "govern", "advise", "trial", "decide", "approve", "apply", "record")
START, END = ("__start__", (0.75, 4.75)), ("__end__", (12.15, -0.1))


class Drawing:
    """An axes that remembers which edges were drawn on it."""

    def __init__(self, axes: Axes) -> None:
        self.axes = axes
        self.edges: set[Edge] = set()

    def node(self, name: str, place: Point, told: str, colour: str) -> None:
        """Draw a box with a name and a line below it."""
        (x, y), (width, height) = place, SIZE
        self.axes.add_patch(
            FancyBboxPatch(
                (x - width / 2, y - height / 2),
                width,
                height,
                boxstyle="round,pad=0,rounding_size=0.14",
                facecolor=FILLS[colour],
                edgecolor=colour,
                linewidth=1.4,
                zorder=3,
            )
        )
        self.axes.text(x, y + 0.13, name, ha="center", va="center", fontsize=13, weight="bold", color=INK, zorder=4)
        self.axes.text(x, y - 0.17, told, ha="center", va="center", fontsize=8.6, color=INK, zorder=4)

    def edge(self, source: str, target: str, *points: Point, colour: str = INK) -> None:
        """Draw one edge of the graph along a line of points."""
        self.edges.add((source, target))
        self.arrow(*points, colour=colour)

    def arrow(self, *points: Point, colour: str = INK) -> None:
        """Draw an arrow along points, with round corners."""
        self.axes.add_patch(
            FancyArrowPatch(
                path=_rounded(points),
                arrowstyle="-|>,head_length=6,head_width=3",
                color=colour,
                linewidth=1.4,
                joinstyle="round",
                zorder=2,
            )
        )

    def note(self, x: float, y: float, text: str, colour: str = GREY, ha: str = "center") -> None:
        """Write beside an arrow."""
        self.axes.text(x, y, text, ha=ha, va="center", fontsize=9.5, color=colour, style="italic", zorder=4)


def _rounded(points: tuple[Point, ...], radius: float = 0.22) -> Line:
    """Return a line through points whose corners are quarter turns."""
    places, codes = [points[0]], [Line.MOVETO]
    for before, corner, after in zip(points, points[1:], points[2:], strict=False):
        places += [_towards(corner, before, radius), corner, _towards(corner, after, radius)]
        codes += [Line.LINETO, Line.CURVE3, Line.CURVE3]
    return Line([*places, points[-1]], [*codes, Line.LINETO])


def _towards(start: Point, goal: Point, length: float) -> Point:
    far = max(1e-9, ((goal[0] - start[0]) ** 2 + (goal[1] - start[1]) ** 2) ** 0.5)
    return start[0] + (goal[0] - start[0]) * length / far, start[1] + (goal[1] - start[1]) * length / far


def draw_graph(evolution: Evolution) -> None:
    """Draw the state machine; refuse if it is not the one that is compiled."""
    figure, axes = plt.subplots(figsize=(13.6, 7.6))
    drawing = Drawing(axes)
    _draw_frame(drawing)
    for name, (place, told, colour) in NODES.items():
        drawing.node(name, place, told, colour)
    for _, place in (START, END):
        axes.plot(*place, "o", markersize=13, color=INK, zorder=3)
    axes.plot(*END[1], "o", markersize=19, markerfacecolor="none", markeredgecolor=INK, markeredgewidth=1.4, zorder=3)
    _draw_steps(drawing)
    _draw_beside(drawing)
    compiled = {(edge.source, edge.target) for edge in evolution.graph.get_graph().edges}
    if drawing.edges != compiled:
        missing, invented = sorted(compiled - drawing.edges), sorted(drawing.edges - compiled)
        sys.exit(f"the picture is not the graph: missing {missing}, invented {invented}")
    axes.set(xlim=(-0.15, 13.3), ylim=(-1.55, 5.95), aspect="equal")
    axes.axis("off")
    figure.subplots_adjust(0, 0, 1, 1)
    _save(figure, "graph", vector=True)


def _draw_frame(drawing: Drawing) -> None:
    left, bottom, width, height = FRAME
    drawing.axes.add_patch(
        FancyBboxPatch(
            (left, bottom),
            width,
            height,
            boxstyle="round,pad=0,rounding_size=0.25",
            facecolor="#fbfcfd",
            edgecolor="#c3cad2",
            linewidth=1.2,
            linestyle=(0, (5, 3)),
            zorder=0,
        )
    )
    drawing.note(left + 0.85, bottom + 0.22, "an arrow at this frame is one at every step inside", ha="left")


def _draw_steps(drawing: Drawing) -> None:
    """Draw what happens inside a generation."""
    half, tall = SIZE[0] / 2, SIZE[1] / 2
    place = {name: node[0] for name, node in NODES.items()}
    for source, target in (
        ("begin", "observe"),
        ("observe", "govern"),
        ("govern", "advise"),
        ("advise", "trial"),
        ("trial", "decide"),
        ("decide", "approve"),
    ):
        (x1, y), (x2, _) = place[source], place[target]
        drawing.edge(source, target, (x1 + half, y), (x2 - half, y))
    x, y = place["decide"]
    right = place["approve"][0]
    drawing.edge("decide", "apply", (x, y + tall), (x, 4.6), (right - half, 4.6))
    drawing.edge("decide", "record", (x, y - tall), (x, 2.2), (right - half, 2.2))
    tried = place["trial"][0]
    drawing.edge("trial", "record", (tried, y - tall), (tried, 1.9), (right - half, 1.9))
    drawing.edge("approve", "apply", (right, y + tall), (right, 4.75 - tall))
    drawing.edge("approve", "record", (right, y - tall), (right, 2.05 + tall))
    home, above = place["observe"][0], place["diagnose"]
    drawing.edge("observe", "diagnose", (home + 0.45, y + tall), (home + 0.45, above[1]), (above[0] - half, above[1]))
    drawing.edge("diagnose", "govern", (above[0], above[1] - tall), (above[0], y + tall))
    drawing.note(above[0] + half + 0.12, above[1], "after an automatic rollback", ha="left")
    drawing.edge("apply", "observe", (right, 4.75 + tall), (right, 5.42), (home, 5.42), (home, y + tall))
    drawing.edge("record", "observe", (right, 2.05 - tall), (right, 1.5), (home, 1.5), (home, y - tall))
    drawing.note((home + right) / 2, 5.27, "next generation, on the new DNA")
    drawing.note((home + right) / 2, 1.66, "next generation, on the same DNA")
    drawing.note(11.02, 3.54, "asks")
    drawing.note(10.1, 4.75, "approved", ha="left")
    drawing.note(10.1, 2.34, "rejected", ha="left")
    drawing.note(tried + 0.12, 2.05, "nothing passed", ha="left")
    drawing.note(right + 0.1, 4.08, "yes", ha="left")
    drawing.note(right + 0.1, 2.73, "no", ha="left")


def _draw_beside(drawing: Drawing) -> None:
    """Draw where a run begins and ends, and what happens when a step fails."""
    half, tall, bottom = SIZE[0] / 2, SIZE[1] / 2, FRAME[1]
    (heal_x, low), (report_x, _), (back_x, _) = (NODES[name][0] for name in ("heal", "report", "rollback"))
    drawing.edge(START[0], "begin", START[1], (START[1][0], 3.4 + tall))
    drawing.edge("report", END[0], (report_x + half, low), (END[1][0] - 0.17, low))
    drawing.edge("heal", "report", (heal_x + half, low), (report_x - half, low), colour=RED)
    drawing.edge("heal", "rollback", (heal_x - half, low), (back_x + half, low), colour=RED)
    drawing.edge("rollback", "observe", (back_x, low + tall), (back_x, 3.4 - tall), colour=RED)
    under = low - tall - 0.25
    drawing.edge(
        "rollback",
        "report",
        (back_x, low - tall),
        (back_x, under),
        (report_x, under),
        (report_x, low - tall),
        colour=RED,
    )
    begin_x, lowest = NODES["begin"][0][0], under - 0.45
    drawing.edge(
        "begin",
        "report",
        (begin_x, 3.4 - tall),
        (begin_x, lowest),
        (report_x + 0.3, lowest),
        (report_x + 0.3, low - tall),
    )
    drawing.note((heal_x + report_x) / 2, lowest - 0.16, "begun again, with no generations left")
    drawing.note((heal_x + report_x) / 2, under - 0.16, "safe mode: nothing changes until a person lifts it", RED)
    drawing.arrow((heal_x - 0.35, bottom), (heal_x - 0.35, low + tall), colour=RED)
    drawing.arrow((heal_x + 0.35, low + tall), (heal_x + 0.35, bottom), colour=RED)
    drawing.arrow((report_x, bottom), (report_x, low + tall))
    drawing.edges |= {(step, "heal") for step in STEPS} | {("heal", step) for step in STEPS}
    drawing.edges |= {(step, "report") for step in STEPS}
    drawing.note(heal_x - 0.5, 0.64, "a step failed", RED, ha="right")
    drawing.note(heal_x + 0.5, 0.64, "the same step again", RED, ha="left")
    drawing.note((heal_x + report_x) / 2, low + 0.16, "stop", RED)
    drawing.note(report_x + 0.15, 0.64, "all done, or a budget is spent", ha="left")


# -- the fitness curve


def draw_fitness(evolution: Evolution) -> None:
    """Run the support router and draw how its fitness rose."""
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{folder}/run.db"
        live, result = _live_fitness(evolution.using(store=url, model="local"))
        journal = Journal(Database.from_url(url), SystemClock())
        trials = [
            trial
            for generation in range(1, result.generations + 1)
            for trial in journal.trials(result.run_id, generation=generation)
        ]
    figure, axes = plt.subplots(figsize=(9.2, 4.8), layout="constrained")
    _draw_trials(axes, trials)
    _draw_live(axes, live, trials)
    axes.set(
        xlabel="generation",
        ylabel="messages routed correctly",
        xlim=(0.3, result.generations + 2.1),
        xticks=range(1, result.generations + 1),
    )
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axes.yaxis.grid(visible=True, color="#e6e9ec", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    before, after = result.baseline_test_fitness or 0.0, result.test_fitness or 0.0
    axes.set_title(
        f"Support router: {result.trials} trials, seed {SEED}, no language model."
        f" Sealed test {before:.1%} → {after:.1%}",
        loc="left",
        pad=12,
        fontsize=11.5,
        color=INK,
    )
    axes.legend(
        handles=_legend(), loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=2, frameon=False, fontsize=9.5
    )
    _save(figure, "fitness", vector=False)


def _live_fitness(evolution: Evolution) -> tuple[list[float], EvolutionResult]:
    """Run; return the live DNA's validation fitness at the start of each generation and at the end."""
    live: dict[int, float] = {}
    for item in evolution.stream(GENERATIONS, seed=SEED):
        if isinstance(item, EvolutionResult):
            return [*live.values(), item.fitness or 0.0], item
        if item.step == "observe" and item.fitness is not None:
            live[item.generation] = item.fitness
    sys.exit("the run gave no result")


def _draw_trials(axes: Axes, trials: list[TrialRecord]) -> None:
    known = [trial for trial in trials if trial.fitness is not None]
    for trial in known:
        whole = trial.status != "dropped"
        axes.plot(
            trial.generation + 0.14 * (trial.slot - 1.5),
            trial.fitness,
            "o",
            markersize=5.5,
            markerfacecolor=GREY if whole else "white",
            markeredgecolor=GREY,
            zorder=2,
        )


def _draw_live(axes: Axes, live: list[float], trials: list[TrialRecord]) -> None:
    places = range(1, len(live) + 1)
    axes.step(places, live, where="post", color=BLUE, linewidth=2.2, zorder=3)
    axes.plot([len(live), len(live) + 0.4], [live[-1]] * 2, color=BLUE, linewidth=2.2, zorder=3)
    axes.annotate(f"{live[0]:.1%}", (1, live[0]), (0, -15), textcoords="offset points", color=BLUE, weight="bold")
    axes.annotate(
        f"{live[-1]:.1%}", (len(live) + 0.45, live[-1]), (3, -4), textcoords="offset points", color=BLUE, weight="bold"
    )
    # A promotion is decided at the end of a generation, so the new DNA is live from the next one on.
    steps = [place for place in places if place > 1 and live[place - 1] != live[place - 2]]
    for place in steps:
        axes.plot(place, live[place - 1], marker="^", markersize=10, color=GREEN, zorder=4)
    promoted = [trial for trial in trials if trial.status == "promoted"]
    if len(promoted) != len(steps):
        sys.exit(f"{len(promoted)} promotions, but the live fitness moved {len(steps)} times")


def _legend() -> list[Line2D]:
    def dot(marker: str, face: str, edge: str, label: str) -> Line2D:
        return Line2D([], [], linestyle="", marker=marker, markerfacecolor=face, markeredgecolor=edge, label=label)

    return [
        Line2D([], [], color=BLUE, linewidth=2.2, label="live DNA, on validation messages"),
        dot("^", GREEN, GREEN, "a candidate becomes live"),
        dot("o", GREY, GREY, "trial, on all training messages"),
        dot("o", "white", GREY, "trial dropped early, estimated from some of them"),
    ]


def _save(figure: Figure, name: str, *, vector: bool) -> None:
    IMAGES.mkdir(exist_ok=True)
    figure.savefig(IMAGES / f"{name}.png", dpi=130, facecolor="white")
    if vector:
        figure.savefig(IMAGES / f"{name}.svg", facecolor="white", metadata={"Date": None})
    plt.close(figure)


def main() -> None:
    """Draw what is asked for, by default everything."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=("graph", "fitness"))
    options = parser.parse_args()
    plt.rcParams |= {"font.family": "DejaVu Sans", "svg.hashsalt": "graph"}
    evolution: Evolution = load_app(f"{APP}:evolution")
    if options.only != "fitness":
        draw_graph(evolution)
    if options.only != "graph":
        draw_fitness(evolution)


if __name__ == "__main__":
    main()
