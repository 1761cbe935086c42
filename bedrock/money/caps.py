"""What caps ask of a ledger, wherever it is kept: which balances they are on, when they refuse and when they alarm."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from ...errors import SpendExhausted
from ...settings import MICRO, Budget
from .ledger import Alarm, AlarmKind, Pressure, Spend

log = logging.getLogger(__name__)

_THRESHOLDS: tuple[tuple[AlarmKind, int], ...] = (("measures", 80), ("exhausted", 100))
"""Percent of a cap from which an alarm is raised; from the first, `CostGovernor` makes work cheaper."""
_HINTS = {
    "call": "Raise the budget of a call, or lower max_tokens.",
    "run": "Raise the budget, then resume the run.",
    "monthly": "Raise the budget or wait for the next month, then resume the run.",
}
_NEXT_DAY = "Raise the budget or wait for the next day, then resume the run."


@dataclass(frozen=True, slots=True)
class Account:
    """One balance and the cap on it, if there is one.

    Args:
        scope: Which cap it is for: `run`, `daily <agent>`, `daily` or `monthly`.
        period: The run, the UTC day or the UTC month.
        cap: The cap in micro-dollars.
    """

    scope: str
    period: str
    cap: int | None


def accounts_of(budget: Budget, *, run_id: str, agent: str, day: str) -> list[Account]:
    """Return the accounts that a call of this run, agent and UTC day belongs to, with the budget's caps."""
    return [
        Account("run", run_id, micro(budget.run_usd)),
        agents_account(budget, agent, day),
        Account("daily", day, micro(budget.daily_usd)),
        Account("monthly", day[:7], micro(budget.monthly_usd)),
    ]


def agents_account(budget: Budget, agent: str, day: str) -> Account:
    """Return the account of one agent's UTC day, with the budget's cap."""
    usd = next((usd for name, usd in budget.agent_daily_usd.items() if name == agent), None)
    return Account(f"daily {agent}", day, micro(usd))


def thresholds(cap: int) -> dict[AlarmKind, int]:
    """Return the least micro-dollars that are an alarm of each kind under a cap."""
    return {kind: -(-cap * percent // 100) for kind, percent in _THRESHOLDS}


def reached(taken: Mapping[Account, int], at: str) -> Iterator[Alarm]:
    """Yield the alarms that balances call for, whether or not they were raised before."""
    for account, amount in taken.items():
        if account.cap is None:
            continue
        for kind, least in thresholds(account.cap).items():
            if amount >= least:
                said = f"{dollars(amount)} of the {account.scope} budget of {dollars(account.cap)} are spent or held."
                yield Alarm(at, kind, account.scope, account.period, account.cap, amount, said)


def call_refusal(budget: Budget, amount: int, *, agent: str, at: str, day: str) -> Alarm | None:
    """Return the refusal of a call that costs more than a single call may; None where it does not."""
    cap = micro(budget.call_usd)
    if cap is None or amount <= cap:
        return None
    said = f"{_refused('call', cap, agent)} it may cost {dollars(amount)}."
    return Alarm(at, "exhausted", "call", day, cap, amount, said)


def refusal(account: Account, amount: int, *, agent: str, at: str, taken: int) -> Alarm:
    """Return the refusal of an amount that an account has no room for."""
    cap = account.cap or 0
    known = f"{dollars(taken)} are spent or held and"
    said = f"{_refused(account.scope, cap, agent)} {known} it may cost {dollars(amount)}."
    return Alarm(at, "exhausted", account.scope, account.period, cap, taken, said)


def spend_exhausted(refusals: Sequence[Alarm]) -> SpendExhausted:
    """Return the error that tells of the first refusal."""
    return SpendExhausted(refusals[0].message, hint=_HINTS.get(refusals[0].scope, _NEXT_DAY))


def _refused(scope: str, cap: int, agent: str) -> str:
    return f"the {scope} budget of ${cap / MICRO:.2f} does not allow this call of {agent}:"


def tightest(budget: Budget, *, run_id: str, day: str, spend: Callable[[str, str], Spend]) -> Pressure:
    """Return how far the cap closest to its limit is used up, as a run sees it on a UTC day.

    Args:
        budget: The caps.
        run_id: The run.
        day: The UTC day.
        spend: Returns what the account of a scope and period has spent.
    """
    shared = accounts_of(budget, run_id=run_id, agent="", day=day)
    agents = [agents_account(budget, agent, day) for agent in budget.agent_daily_usd]
    found = Pressure(0.0, "no", 0)
    rooms = [cap] if (cap := micro(budget.call_usd)) is not None else []
    for account in [*shared, *agents]:
        if account.cap is None:
            continue
        spent = spend(account.scope, account.period)
        share = spent.micro_usd / account.cap if account.cap else 1.0
        found = max(found, Pressure(share, account.scope, spent.calls), key=lambda pressure: pressure.share)
        if account in shared:
            rooms.append(max(0, account.cap - spent.micro_usd))
    return replace(found, room_micro_usd=min(rooms, default=None))


def tell(raised: Sequence[Alarm]) -> None:
    """Log alarms that were raised just now."""
    for alarm in raised:
        log.warning(
            "alarm=<%s> scope=<%s> period=<%s> cap_micro_usd=<%d> micro_usd=<%d> | %s",
            alarm.kind,
            alarm.scope,
            alarm.period,
            alarm.cap_micro_usd,
            alarm.micro_usd,
            alarm.message,
        )


def micro(usd: float | None) -> int | None:
    """Return a cap in whole micro-dollars."""
    return None if usd is None else round(usd * MICRO)


def dollars(micro_usd: int) -> str:
    """Write an amount as it is shown to people."""
    return f"${micro_usd / MICRO:.4f}"
