"""What is to be otherwise in a fork, read from names and values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Annotated, Any, cast, get_origin

from pydantic import BaseModel, TypeAdapter, ValidationError

from ...errors import UsageError
from ...governance.approvals import Verdict
from ...settings import Autonomy, Safety, Settings
from .bound_settings import settings_of

_ANSWERS: Mapping[str, Verdict] = {"approve": "approve", "reject": "reject"}
_PLAIN = ("alpha", "candidates", "max_failed_trials")
_NESTED: Mapping[str, type[BaseModel]] = {"autonomy": Autonomy, "safety": Safety}
_NAMES = ("answer", *_PLAIN, *(f"{part}.{name}" for part, model in _NESTED.items() for name in model.model_fields))


@dataclass(frozen=True, slots=True)
class Alternative:
    """What is to be otherwise; what is None stays as it was.

    Args:
        settings: Settings of the run from then on: `alpha`, `candidates`, `max_failed_trials`, `autonomy`, `safety`.
        answer: How persons answer from then on.
    """

    settings: Settings | None = None
    answer: Verdict | None = None


def alternative_of(request: Mapping[str, Any], given: Mapping[str, str]) -> Alternative:
    """Read an alternative from names and values, such as `{"autonomy.ask_above": "0.5", "answer": "reject"}`.

    Args:
        request: What the run was bound to (`RunRecord.request`); what is not named stays like that.
        given: Values by name, as texts; lists are divided by commas.

    Raises:
        UsageError: A name is unknown, or its value is not allowed.
    """
    for name in given:
        if name not in _NAMES:
            near = get_close_matches(name, _NAMES, n=1)
            hint = f"Did you mean {near[0]}?" if near else f"There are: {', '.join(_NAMES)}."
            raise UsageError(f"a run has no {name!r} that a fork could change.", hint=hint)
    settings = settings_of(request)
    changed: dict[str, Any] = {name: _plain(name, given[name]) for name in _PLAIN if name in given}
    for part, model in _NESTED.items():
        named = {name.partition(".")[2]: text for name, text in given.items() if name.startswith(f"{part}.")}
        if named:
            changed[part] = _nested(part, model, request[part], named)
    return Alternative(settings.model_copy(update=changed) if changed else None, _answer(given.get("answer")))


def _answer(text: str | None) -> Verdict | None:
    if text is not None and text not in _ANSWERS:
        raise UsageError(f"answer={text} is no verdict.", hint="Use approve or reject.")
    return _ANSWERS[text] if text is not None else None


def _plain(name: str, text: str) -> Any:
    field = Settings.model_fields[name]
    allowed: TypeAdapter[Any] = TypeAdapter(cast(Any, Annotated[(field.annotation, *field.metadata)]))
    try:
        return allowed.validate_python(text)
    except ValidationError as error:
        raise _not_allowed(name, text, error) from error


def _nested(part: str, model: type[BaseModel], known: Mapping[str, Any], named: Mapping[str, str]) -> BaseModel:
    values = {name: _listed(text) if _is_list(model, name) else text for name, text in named.items()}
    try:
        return model.model_validate({**known, **values})
    except ValidationError as error:
        wrong = error.errors()[0]["loc"]
        name = str(wrong[0]) if wrong else ", ".join(named)
        raise _not_allowed(f"{part}.{name}", str(named.get(name, "")), error) from error


def _is_list(model: type[BaseModel], name: str) -> bool:
    return get_origin(model.model_fields[name].annotation) is tuple


def _listed(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _not_allowed(name: str, text: str, error: ValidationError) -> UsageError:
    told = error.errors()[0]["msg"].removeprefix("Value error, ")
    return UsageError(f"{name}={text} is not allowed: {told}.", hint="Give another value.")
