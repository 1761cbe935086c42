"""The desk at work: it serves customers with whatever genes are live, and tells how many stars they gave."""

import sys

from app import evolution
from desk import customers, stars

A_DAY = 20


def serve(days: int, week: str) -> None:
    """Serve some days of customers of a `usual` week or one with a `strike`, and print what came of it."""
    arriving = customers(week)
    for day in range(1, days + 1):
        generation, given = evolution.dna.generation, []
        for request, mood in (next(arriving) for _ in range(A_DAY)):
            # Read anew for each customer: a rollback reaches the next one.
            given.append(stars(evolution.genes, request, mood))
            evolution.record_outcome(given[-1])
        evolution.flush_outcomes()
        note = ""
        if evolution.dna.generation != generation:
            note = f"  <- rolled back: generation {evolution.dna.generation} is live"
        print(f"day {day}: genes of generation {generation}, {sum(given) / A_DAY:.2f} stars{note}")


if __name__ == "__main__":
    serve(int(sys.argv[1]), sys.argv[2])
    evolution.close()
