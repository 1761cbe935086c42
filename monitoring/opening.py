"""Metrics for an application, by the way that is open where it runs."""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path
from typing import TextIO

from ..clock import Clock
from ..dna.aws.calls import Clients
from .cloudwatch import CloudWatch
from .emf import StandardOutput, reads_standard_output
from .measures import Measures
from .metrics import Metrics, Outlet
from .outcomes import Outcomes
from .work_file import WorkFile


def open_metrics(  # noqa: PLR0913  # one for each thing it is made of
    *,
    app: str,
    namespace: str,
    path: Path,
    clients: Clients,
    region: str,
    clock: Clock,
    draws: random.Random,
    environment: Mapping[str, str],
    out: TextIO,
) -> Metrics:
    """Return the metrics of an application; nothing is opened before something is published.

    Args:
        app: The application.
        namespace: The namespace of the metrics.
        path: The application's file on this machine.
        clients: Make the calls; no credentials are looked for before the first one.
        region: Where the metrics are kept.
        clock: Tells the time of what is published.
        draws: Of the jitter.
        environment: The process's environment variables: they tell whether CloudWatch reads its standard output.
        out: Its standard output.
    """
    file = WorkFile(path)
    outlet: Outlet = StandardOutput(out, namespace)
    if not reads_standard_output(environment):
        outlet = CloudWatch(file, clients, region, namespace, app, clock, draws)
    return Metrics(Measures(app, Outcomes(file, app)), outlet, file, clock=clock)
