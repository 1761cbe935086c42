"""What is measured on ours alone: start-up (row h), and search without a language model (row f)."""

from __future__ import annotations

import importlib.util
import json
import statistics
import subprocess
import sys
from pathlib import Path
from types import ModuleType

from processes import OURS, Bench
from table import Row, spread

BENCHMARKS = Path(__file__).resolve().parents[1]


def make_bench() -> ModuleType:
    """Return `benchmarks/run.py`, which `make bench` runs, as a module."""
    spec = importlib.util.spec_from_file_location("make_bench", BENCHMARKS / "run.py")
    if spec is None or spec.loader is None:
        raise FileNotFoundError(BENCHMARKS / "run.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def startup(bench: Bench, *, short: bool) -> list[Row]:
    """Measure how long the command line, the public names and the demo's first trial take to be there."""
    bench.expect(1)
    with bench.step("the command line, the public names, the demo"):
        found = make_bench().startup(short=short).figures
    return [
        _row("bedrock-evolution --help, whole process", found["help_s"], 0.3),
        _row("import of every public name, whole process", found["import_s"], 0.5),
        _row("first trial of the demo, from the start of its process", found["first_trial_s"], 4.0),
    ]


def search(bench: Bench, *, short: bool) -> list[Row]:
    """Measure search without a language model against random search, TPE and CMA-ES, with `benchmarks/search.py`.

    The last line that it prints is a JSON object whose `rows` are like those of `make bench`.
    """
    bench.expect(1)
    command = [sys.executable, str(BENCHMARKS / "search.py"), "--json", *(["--short"] if short else [])]
    with bench.step("search.py"), bench.out_of_the_way():
        out = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    return [
        Row("f", row["claim"].strip(), {OURS: [row["measured"]]}, row["limit"], row["met"], row["ratio"])
        for row in json.loads(out.splitlines()[-1])["rows"]
    ]


def _row(measure: str, times_s: list[float], limit_s: float) -> Row:
    met = statistics.median(times_s) <= limit_s
    return Row("h", measure, {OURS: [spread(times_s, 2, "s")]}, f"≤ {limit_s:g} s", met, figures={OURS: times_s})
