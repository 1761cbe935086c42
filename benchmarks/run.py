"""Measures what the README claims, and prints claim, figure and limit side by side; called by `make bench`."""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

HERE = Path(__file__).resolve().parent
EXAMPLES = HERE.parent / "examples"
OUTPUT = HERE.parent / "build" / "bench"
RATIO_LIMIT = 1.3
COMMAND = "from bedrock_evolution.cli import main; main()"
VERSIONS = ("langgraph", "langgraph-checkpoint-sqlite", "langchain", "numpy", "optuna")


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table.

    Args:
        claim: What is measured; a letter in brackets names the claim it belongs to.
        measured: The figure, with its unit.
        limit: The limit, with its unit; empty when there is none.
        met: Whether the figure is inside the limit; None when there is none.
        ratio: Whether it is a ratio, which holds on any machine, and so decides what `--check` returns.
    """

    claim: str
    measured: str
    limit: str = ""
    met: bool | None = None
    ratio: bool = False


@dataclass(frozen=True, slots=True)
class Part:
    """The rows of one part of the benchmark, and all its figures."""

    rows: list[Row]
    figures: dict[str, Any]


def overhead(*, short: bool) -> Part:
    """Measure what a generation costs when the evaluator costs nothing."""
    rows: list[Row] = []
    figures: dict[str, Any] = {}
    for objective in ("single", "multi"):
        generations = 150 if short else 1000
        arguments = [str(HERE / "overhead.py"), objective, "--generations", str(generations)]
        found = figures[objective] = json.loads(_child(arguments)[0])
        rows += _overhead_rows(f"{generations} generations, {objective}-case", found, short=short)
    return Part(rows, figures)


def _overhead_rows(name: str, found: dict[str, Any], *, short: bool) -> Iterator[Row]:
    wall, cpu = found["wall_ms_per_trial"], found["cpu_ms_per_trial"]
    yield Row(f"(f) {name}: a trial", f"{wall:.1f} ms ({cpu:.1f} ms of CPU)", "≤ 15 ms", wall <= 15)
    wall, cpu = found["wall_last_over_first"], found["cpu_last_over_first"]
    # Other work on the machine shows in the wall time, growth of our own cost in both.
    flat = min(wall, cpu) <= RATIO_LIMIT
    yield Row(f"(f) {name}: last 50 / first 50", f"{wall:.2f} (CPU {cpu:.2f})", f"≤ {RATIO_LIMIT}", flat, ratio=True)
    edges = f"{found['first_ms']:.1f} ms, {found['last_ms']:.1f} ms"
    yield Row(f"    {name}: a trial in the first 50, in the last 50", edges)
    size = found["database_mb"]
    # A short run writes a share of the file only, so it proves nothing about the limit.
    yield Row(f"(f) {name}: database", f"{size:.1f} MB", *(() if short else ("≤ 60 MB", size <= 60)))
    yield Row(f"    {name}: peak memory", f"{found['peak_memory_mb']:.0f} MB")


def ledger(*, short: bool) -> Part:
    """Measure what the ledger costs a model call."""
    size = ["--many", "5000", "--calls", "400"] if short else []
    found = json.loads(_child([str(HERE / "ledger.py"), *size])[0])
    few, ratio, crowd = found["few_ms"], found["many_over_few"], found["crowd"]
    longest = f"longest {crowd['longest_ms']:.0f} ms"
    among = f"{crowd['median_ms']:.1f} ms, {longest}, {crowd['calls_per_s']:.0f} a second together"
    rows = [
        Row("(c) ledger: to reserve and settle, median", f"{few:.2f} ms", "≤ 1 ms", few <= 1),
        Row("    ledger: two bare transactions of one row each", f"{found['disk_ms']:.2f} ms"),
        Row(
            f"(c) ledger: {found['many']:,} calls on record / {found['few']}",
            f"{ratio:.2f}",
            f"≤ {RATIO_LIMIT}",
            ratio <= RATIO_LIMIT,
            ratio=True,
        ),
        Row(f"    ledger: to reserve and settle among {found['processes']} processes, median", among),
    ]
    return Part(rows, found)


def audit(*, short: bool) -> Part:
    """Measure what the audit chain costs: to append a signed event, and to verify a long record."""
    size = ["--events", "5000", "--appended", "300"] if short else []
    found = json.loads(_child([str(HERE / "audit.py"), *size])[0])
    append, verified = found["append"], found["verify"]
    whole, disk, rate = append["append_us"], append["disk_us"], verified["events_per_s"]
    parts = f"{append['seal_us']:.0f} µs to hash, {append['sign_us']:.0f} µs to sign and write down"
    rows = [
        Row(
            f"(d) audit: {verified['events']:,} events verified", f"{rate:,.0f} a second", "≥ 100,000", rate >= 100_000
        ),
        Row("(d) audit: to append and sign an event, median", f"{whole:.0f} µs", "≤ 200 µs", whole <= 200),
        Row("    audit: a bare transaction of one row, median", f"{disk:.0f} µs"),
        Row("    audit: what an event costs beyond that", f"{whole - disk:.0f} µs, of which {parts}"),
    ]
    return Part(rows, found)


def startup(*, short: bool) -> Part:
    """Measure how long the command line, the public names and the demo's first trial take to be there."""
    repeats = 3 if short else 11
    installed = Path(sys.executable).with_name("bedrock-evolution")
    command = [str(installed)] if installed.exists() else [sys.executable, "-c", COMMAND]
    names = "import bedrock_evolution as b; [getattr(b, name) for name in b.__all__]"
    help_s = [_timed([*command, "--help"]) for _ in range(repeats)]
    import_s = [_timed([sys.executable, "-c", names]) for _ in range(repeats)]
    trials = [_first_trial() for _ in range(3)]
    first_s = [seconds for seconds, _ in trials]
    middle, full, first = (statistics.median(times) for times in (help_s, import_s, first_s))
    memory_mb = statistics.median(memory for _, memory in trials)
    rows = [
        Row("(h) bedrock-evolution --help, whole process", f"{middle:.3f} s", "≤ 0.3 s", middle <= 0.3),
        Row("(h) import of every public name, whole process", f"{full:.3f} s", "≤ 0.5 s", full <= 0.5),
        Row("(h) first trial of the demo, from the start of its process", f"{first:.2f} s", "≤ 4 s", first <= 4),
        Row("    peak memory by then", f"{memory_mb:.0f} MB"),
    ]
    return Part(rows, {"help_s": help_s, "import_s": import_s, "first_trial_s": first_s, "memory_mb": memory_mb})


def _first_trial() -> tuple[float, float]:
    """Begin the demonstration as `make demo` does; return the seconds until its first trial, and its peak memory."""
    script = (
        "import resource, sys; from bedrock_evolution.graph.loading import load_app;"
        "app = load_app(sys.argv[1]).using(store=sys.argv[2], model='local');"
        "next(item for item in app.stream(15, seed=1) if item.step == 'trial');"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)"
    )
    with tempfile.TemporaryDirectory() as folder:
        store = f"sqlite:///{folder}/bench.db"
        out, wall_s = _child(["-c", script, str(EXAMPLES / "support_router" / "app.py:evolution"), store])
    return wall_s, float(out)


def demo(*, short: bool) -> Part:
    """Measure the demonstration as `make demo` runs it, in an environment that is ready."""
    result, wall_s = _run("support_router", generations=4 if short else 15, seed=1)
    gain = 100 * (result["test_fitness"] - result["baseline_test_fitness"])
    rows = [
        Row("(a) make demo, environment ready", f"{wall_s:.1f} s", "< 60 s", wall_s < 60),
        _gain_row(1, result, gain, short=short),
    ]
    return Part(rows, {"wall_s": wall_s, "result": result})


def quality(*, short: bool) -> Part:
    """Measure what runs of the examples gain, on sealed test cases."""
    rows: list[Row] = []
    figures: dict[str, Any] = {"support_router": [], "noisy_thermostat": []}
    for seed in (1,) if short else (1, 2, 3):
        result, _ = _run("support_router", generations=4 if short else 15, seed=seed)
        figures["support_router"].append(result)
        gain = 100 * (result["test_fitness"] - result["baseline_test_fitness"])
        rows.append(_gain_row(seed, result, gain, short=short))
    for seed in (1,) if short else (1, 2, 3):
        result, _ = _run("noisy_thermostat", generations=15, seed=seed)
        figures["noisy_thermostat"].append(result)
        best = _best_test_score()
        share = (result["test_fitness"] - result["baseline_test_fitness"]) / (best - result["baseline_test_fitness"])
        measured = f"{share:.0%} of the way to {best:.3f}, {result['trials']} trials"
        rows.append(Row(f"    noisy thermostat, seed {seed}: sealed test", measured, "≥ 50 %", share >= 0.5))
    return Part(rows, figures)


def routing(*, short: bool) -> Part:
    """Measure how well the router chooses between a weak and a strong model, where the outcomes are at hand."""
    arguments = [str(HERE / "routing.py"), "--json", *(["--short"] if short else [])]
    found = json.loads(_child(arguments)[0])
    if "skipped" in found:
        return Part([Row("    routing", f"skipped: {found['skipped']}")], found)
    rows = []
    for task, limit in found["limits"].items():
        its = found["offline"][task]["this router"]
        measured = f"{its['apgr']:.3f}, half of the gap for {its['cpt50']:.0%} of strong calls"
        met = its["apgr"] >= limit
        rows.append(Row(f"    routing, {task.upper()}: held-out APGR", measured, f"≥ {limit}", met, ratio=True))
    for setting in found["online"]:
        gains = [100 * (run["accuracy"] - run["mixed_accuracy"]) for run in setting["runs"]]
        calls = statistics.mean(run["strong_calls"] for run in setting["runs"])
        measured = f"{min(gains):+.2f} to {max(gains):+.2f} points over a mix at equal cost"
        row = Row(f"    routing online, {calls:.0%} strong calls", measured, "> 0", min(gains) > 0, ratio=True)
        rows.append(row)
    return Part(rows, found)


def replays(*, short: bool) -> Part:
    """Measure how much faster a replay is than the run it replays, where no model is waited for."""
    found = json.loads(_child([str(HERE / "replay.py"), *(["--generations", "4"] if short else [])])[0])
    costly, free = found["costly"], found["free"]
    took = f"{costly['run_s']:.1f} s, {costly['replay_s']:.2f} s"
    rows = [
        Row(
            f"(d) run / replay, {found['case_ms']:g} ms a case, {costly['workers']} workers",
            f"{costly['ratio']:.0f} ({took})",
            "≥ 20",
            costly["ratio"] >= 20,
            ratio=True,
        ),
        Row("    run / replay, the demo's own evaluator, which takes no time", f"{free['ratio']:.1f}"),
        Row("    replay: evaluations and steps a second", _rates(costly)),
    ]
    return Part(rows, found)


def cloud(*, short: bool) -> Part:
    """Measure what a cloud store costs beyond its calls, and how many it makes."""
    size = ["--rounds", "3", "--times", "10", "--generations", "500", "--events", "500"] if short else []
    found = json.loads(_child([str(HERE / "cloud.py"), *size])[0])
    rows: list[Row] = []
    for kind, most in (("commit", 3), ("append", 2)):
        calls = found[kind]["disk"]["calls"]
        rows.append(Row(f"(f) cloud: calls for one {kind}", f"{calls}", f"≤ {most}", calls <= most, ratio=True))
        for where, its in found[kind].items():
            again = f"made again {its['again_ms']:.1f} ms: {its['again_ratio']:.2f}"
            measured = f"{its['ratio']:.2f} ({its['beyond_ms']:.1f} ms beyond {its['calls_ms']:.1f} ms; {again})"
            limit = ("≤ 1.1", its["ratio"] <= 1.1) if where == "memory" else ()
            name = f"{'(f)' if limit else '   '} cloud: {kind} / its calls, {_FILES[where]}"
            rows.append(Row(name, measured, *limit))
        cpu = f"{found[kind]['disk']['store_cpu_ms']:.1f} ms, {found[kind]['disk']['bare_cpu_ms']:.1f} ms"
        rows.append(Row(f"    cloud: CPU of one {kind}, of its calls", cpu))
    rows.append(Row("    cloud: a bare transaction of one row on this disk", f"{found['disk_ms']:.1f} ms"))
    return Part([*rows, *_empty_disk_rows(found["snapshot"], found["catching_up"])], found)


_FILES = {"disk": "file on the disk", "memory": "file in memory"}


def _empty_disk_rows(snapshot: dict[str, Any], caught_up: dict[str, Any]) -> Iterator[Row]:
    took = ", ".join(f"{name} {snapshot[f'{name}_ms']:.1f} ms" for name in ("first", "last", "random"))
    name = f"(f) cloud: reads for one of {snapshot['generations']:,} DNA, empty disk"
    yield Row(name, f"{snapshot['calls']} ({took})", "1", snapshot["calls"] == 1, ratio=True)
    read = f"{caught_up['calls']} reads, {caught_up['events_per_s']:,.0f} a second"
    shares = (
        f"{caught_up['wall_s']:.2f} s, {caught_up['bare_s']:.2f} s to read alone, {caught_up['cpu_s']:.2f} s of CPU"
    )
    yield Row(f"    cloud: {caught_up['events']:,} events on an empty disk", f"{read} ({shares})")


def _rates(found: dict[str, Any]) -> str:
    seconds = found["replay_s"]
    return f"{found['evaluations'] / seconds:,.0f}, {found['steps'] / seconds:,.0f}"


def _gain_row(seed: int, result: dict[str, Any], gain: float, *, short: bool) -> Row:
    measured = f"{result['test_fitness']:.1%}, {gain:+.1f} points, {result['trials']} trials"
    limit = () if short else ("≥ +15 points, ≤ 60 trials", gain >= 15 and result["trials"] <= 60)
    return Row(f"(b) support router, seed {seed}: sealed test accuracy", measured, *limit)


def _best_test_score() -> float:
    """Return what the thermostat's best settings, found by brute force, score on the sealed test days."""
    script = (
        "import best; from bedrock_evolution.fitness.cases import split_cases;"
        "print(best.mean_score(best.BEST, split_cases(best.DAYS).test, seeds=10))"
    )
    return float(_child(["-c", script], folder=EXAMPLES / "noisy_thermostat")[0])


def _run(example: str, *, generations: int, seed: int) -> tuple[dict[str, Any], float]:
    """Run an example on a fresh store; return its result and the seconds it took."""
    app = EXAMPLES / example / "app.py:evolution"
    with tempfile.TemporaryDirectory() as folder:
        arguments = ["run", str(app), "--generations", str(generations), "--seed", str(seed), "--json"]
        out, wall_s = _child(["-c", COMMAND, *arguments, "--model", "local", "--store", f"sqlite:///{folder}/bench.db"])
    return json.loads(out), wall_s


def _child(arguments: list[str], folder: Path | None = None) -> tuple[str, float]:
    began = time.perf_counter()
    done = subprocess.run([sys.executable, *arguments], cwd=folder, stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout, time.perf_counter() - began


def _timed(command: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - began


def machine() -> dict[str, Any]:
    """Describe what the figures were measured on."""
    return {
        "system": platform.platform(),
        "cores": os.cpu_count(),
        "load_before": [round(load, 2) for load in os.getloadavg()] if hasattr(os, "getloadavg") else None,
        "python": platform.python_version(),
        "versions": {name: version(name) for name in VERSIONS},
    }


def print_table(rows: list[Row], about: dict[str, Any]) -> None:
    """Print the rows and the machine."""
    table = Table(title="bedrock-evolution", title_justify="left")
    for column in ("claim", "measured", "limit", "met"):
        table.add_column(column, overflow="fold")
    for row in rows:
        met = {True: "[green]yes[/green]", False: "[red]no[/red]", None: ""}[row.met]
        table.add_row(row.claim, row.measured, row.limit, met)
    console = Console()
    console.print(table)
    versions = ", ".join(f"{name} {number}" for name, number in about["versions"].items())
    console.print(f"{about['cores']} cores, load {about['load_before']}, Python {about['python']}, {versions}")


def plot(figures: dict[str, Any], path: Path) -> None:
    """Draw milliseconds per trial over generations, as running medians."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 4), layout="constrained")
    for colour, (objective, found) in zip(("#3b6ea5", "#c07a3e"), figures.items(), strict=True):
        wall = found["wall_ms_by_generation"]
        axes.plot(range(1, len(wall) + 1), wall, color=colour, alpha=0.18, linewidth=0.7)
        axes.plot(*_running_median(wall), color=colour, linewidth=1.8, label=f"{objective}-case objective")
    axes.axhline(15, color="#999999", linestyle="--", linewidth=1)
    axes.annotate("limit", (0, 15), (4, 3), textcoords="offset points", color="#777777")
    axes.set(
        xlabel="generation", ylabel="ms per trial (wall)", ylim=(0, None), title="What a trial costs, evaluator aside"
    )
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=150)


def _running_median(values: list[float], window: int = 25) -> tuple[list[int], list[float]]:
    places = list(range(window, len(values) + 1))
    return places, [statistics.median(values[place - window : place]) for place in places]


PARTS: dict[str, Callable[..., Part]] = {
    "startup": startup,
    "overhead": overhead,
    "ledger": ledger,
    "audit": audit,
    "replay": replays,
    "cloud": cloud,
    "demo": demo,
    "quality": quality,
    "routing": routing,
}


def main() -> None:
    """Measure, print, write and plot."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=sorted(PARTS), action="append", help="Run this part only; may be repeated.")
    parser.add_argument("--short", action="store_true", help="Fewer generations, repeats and seeds.")
    parser.add_argument("--check", action="store_true", help="Exit with 1 if a ratio is over its limit.")
    options = parser.parse_args()
    OUTPUT.mkdir(parents=True, exist_ok=True)
    about = machine()
    parts = {name: PARTS[name](short=options.short) for name in PARTS if not options.only or name in options.only}
    rows = [row for part in parts.values() for row in part.rows]
    print_table(rows, about)
    figures = {name: part.figures for name, part in parts.items()}
    written = {"machine": about, "rows": [asdict(row) for row in rows], "figures": figures}
    (OUTPUT / "results.json").write_text(json.dumps(written, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    if "overhead" in figures:
        plot(figures["overhead"], OUTPUT / "overhead.png")
    if options.check and any(row.ratio and row.met is False for row in rows):
        sys.exit(1)


if __name__ == "__main__":
    main()
