"""Genes: the typed, bounded parts of an application that may change."""

from __future__ import annotations

import ast
import math
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal, TypeGuard

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from ..errors import InvalidGene

GeneValue = str | float | int | bool
"""What a gene may hold: JSON-plain, so that it can be stored, hashed and shown."""


_NAME_CHARS = 200


class BaseGene(BaseModel):
    """What all kinds of gene share."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)
    searchable: ClassVar[bool] = True

    locked: bool = False
    description: str = ""

    def check(self, value: Any) -> GeneValue:
        """Return the value as this gene stores it.

        Raises:
            InvalidGene: The value has the wrong type or is out of bounds; the message says which bound.
        """
        raise TypeError(f"{type(self).__name__} does not say what it accepts")

    def with_value(self, value: Any) -> Gene:
        """Return this gene with another value, checked against its bounds."""
        return self.model_copy(update={"value": self.check(value)})  # type: ignore[return-value]  # each kind is a Gene

    @property
    def bounds(self) -> str:
        """The bounds in words, as error messages and prompts show them."""
        return "any value"


class NumberGene(BaseGene):
    """A real number in a closed interval; `log` asks the search for a logarithmic scale."""

    kind: Literal["number"] = "number"
    value: float
    low: float
    high: float
    log: bool = False

    def check(self, value: Any) -> float:
        """Accept a finite number in [low, high]."""
        # A whole number too large for a float is finite all the same, and out of bounds.
        infinite = isinstance(value, float) and not math.isfinite(value)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or infinite:
            raise InvalidGene(f"{value!r} is not a finite number", hint=f"Give {self.bounds}.")
        if not self.low <= value <= self.high:
            raise InvalidGene(f"{value!r} is out of bounds", hint=f"Give {self.bounds}.")
        return float(value)

    @property
    def bounds(self) -> str:
        """The interval in words."""
        return f"a number from {_exact(self.low)} to {_exact(self.high)}"


class IntegerGene(BaseGene):
    """A whole number in a closed interval."""

    kind: Literal["integer"] = "integer"
    value: int
    low: int
    high: int
    log: bool = False

    def check(self, value: Any) -> int:
        """Accept a whole number in [low, high]; 3.0 counts as 3."""
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int):
            raise InvalidGene(f"{value!r} is not a whole number", hint=f"Give {self.bounds}.")
        if not self.low <= value <= self.high:
            raise InvalidGene(f"{value!r} is out of bounds", hint=f"Give {self.bounds}.")
        return value

    @property
    def bounds(self) -> str:
        """The interval in words."""
        return f"a whole number from {self.low} to {self.high}"


class ChoiceGene(BaseGene):
    """One of a fixed list of texts."""

    kind: Literal["choice"] = "choice"
    value: str
    options: tuple[str, ...]

    def check(self, value: Any) -> str:
        """Accept one of the options."""
        if not isinstance(value, str) or value not in self.options:
            raise InvalidGene(f"{value!r} is not an option", hint=f"Give {self.bounds}.")
        return value

    @property
    def bounds(self) -> str:
        """The options in words."""
        return "one of " + ", ".join(map(repr, self.options))


class FlagGene(BaseGene):
    """On or off."""

    kind: Literal["flag"] = "flag"
    value: bool

    def check(self, value: Any) -> bool:
        """Accept True or False."""
        if not isinstance(value, bool):
            raise InvalidGene(f"{value!r} is not a flag", hint="Give true or false.")
        return value

    @property
    def bounds(self) -> str:
        """Both values in words."""
        return "true or false"


class TextGene(BaseGene):
    """Free text of bounded length, such as a prompt or a description."""

    kind: Literal["text"] = "text"
    value: str
    min_chars: int = 0
    max_chars: int = 4000

    def check(self, value: Any) -> str:
        """Accept text whose length in characters is in [min_chars, max_chars]."""
        if not isinstance(value, str):
            raise InvalidGene(f"{value!r} is not text", hint=f"Give {self.bounds}.")
        if not _encodable(value):
            raise InvalidGene("the text holds lone surrogates and cannot be stored as UTF-8", hint="Remove them.")
        if len(value) < self.min_chars:
            shown = "empty" if not value else f"{len(value)} characters long"
            raise InvalidGene(f"the text is {shown}", hint=f"Give {self.bounds}.")
        if len(value) > self.max_chars:
            raise InvalidGene(f"the text is {len(value)} characters long", hint=f"Give {self.bounds}.")
        return value

    @property
    def bounds(self) -> str:
        """The length in words."""
        return f"text of {self.min_chars} to {self.max_chars} characters"


class CodeGene(BaseGene):
    """Python source of bounded length that must parse; this package never executes it."""

    kind: Literal["code"] = "code"
    searchable: ClassVar[bool] = False
    value: str
    max_chars: int = 8000

    def check(self, value: Any) -> str:
        """Accept source text that `ast.parse` accepts."""
        if not isinstance(value, str) or not _encodable(value) or len(value) > self.max_chars:
            raise InvalidGene("the source is not text or is too long", hint=f"Give {self.bounds}.")
        try:
            ast.parse(value)
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            raise InvalidGene(f"the source does not parse: {error}", hint=f"Give {self.bounds}.") from error
        return value

    @property
    def bounds(self) -> str:
        """The length in words."""
        return f"Python source of at most {self.max_chars} characters"


Gene = Annotated[NumberGene | IntegerGene | ChoiceGene | FlagGene | TextGene | CodeGene, Field(discriminator="kind")]
"""Any kind of gene; `kind` tells which when it is read back from JSON."""


_ANY_GENE: TypeAdapter[Gene] = TypeAdapter(Gene)


def _exact(number: float) -> str:
    """Write a bound with all its digits: a model that is told fewer would propose values that are refused."""
    return repr(int(number)) if isinstance(number, float) and number.is_integer() else repr(number)


def _is_text(value: Any) -> TypeGuard[str]:
    return isinstance(value, str)


def _encodable(value: str) -> bool:
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def number(
    value: float, *, low: float, high: float, log: bool = False, locked: bool = False, description: str = ""
) -> NumberGene:
    """Declare a real number in [low, high].

    A declaration is checked, with the gene's name, when an `Evolution` is made of it.

    Args:
        value: The value the application runs with today.
        low: Smallest value allowed.
        high: Largest value allowed.
        log: Search on a logarithmic scale; needs `low` above zero.
        locked: Nobody may change it, whatever a model says.
        description: What it does, for the advisor and the reader of a report.
    """
    return NumberGene.model_construct(
        kind="number", value=value, low=low, high=high, log=log, locked=locked, description=description
    )


def integer(
    value: int, *, low: int, high: int, log: bool = False, locked: bool = False, description: str = ""
) -> IntegerGene:
    """Declare a whole number in [low, high]; the arguments are those of `number`."""
    return IntegerGene.model_construct(
        kind="integer", value=value, low=low, high=high, log=log, locked=locked, description=description
    )


def choice(value: str, *, options: Sequence[str], locked: bool = False, description: str = "") -> ChoiceGene:
    """Declare one of a fixed list of texts; the other arguments are those of `number`."""
    return ChoiceGene.model_construct(
        kind="choice", value=value, options=tuple(options), locked=locked, description=description
    )


def flag(value: bool, *, locked: bool = False, description: str = "") -> FlagGene:
    """Declare a switch; the other arguments are those of `number`."""
    return FlagGene.model_construct(kind="flag", value=value, locked=locked, description=description)


def text(
    value: str, *, min_chars: int = 0, max_chars: int = 4000, locked: bool = False, description: str = ""
) -> TextGene:
    """Declare free text of `min_chars` to `max_chars` characters; the other arguments are those of `number`."""
    return TextGene.model_construct(
        kind="text",
        value=value,
        min_chars=min_chars,
        max_chars=max_chars,
        locked=locked,
        description=description,
    )


def code(value: str, *, max_chars: int = 8000, locked: bool = False, description: str = "") -> CodeGene:
    """Declare Python source that must parse; the other arguments are those of `number`."""
    return CodeGene.model_construct(
        kind="code", value=value, max_chars=max_chars, locked=locked, description=description
    )


def declared(name: str, gene: BaseGene) -> Gene:
    """Check a declaration as a whole: types, bounds that make sense, an initial value inside them.

    Raises:
        InvalidGene: Names the gene and what is wrong with it.
    """
    if not isinstance(gene, BaseGene):
        raise InvalidGene(
            f"gene {name!r} is {gene!r}",
            hint="Declare it with text(), number(), integer(), choice(), flag() or code().",
        )
    if not name or len(name) > _NAME_CHARS or not name.isprintable():
        raise InvalidGene(f"{name!r} is no name for a gene", hint="Use 1 to 200 printable characters.")
    try:
        low, high = getattr(gene, "low", 0), getattr(gene, "high", 1)
        if not low < high:
            raise InvalidGene(f"low={low!r} is not below high={high!r}", hint="Widen the bounds.")
        if getattr(gene, "log", False) and low <= 0:
            raise InvalidGene(f"log=True with low={low!r}", hint="A logarithmic gene needs low above zero.")
        if isinstance(gene, ChoiceGene) and len(set(gene.options)) < max(2, len(gene.options)):
            raise InvalidGene(f"options {gene.options!r}", hint="List at least two different options.")
        if not all(map(_encodable, filter(_is_text, [name, gene.description, *getattr(gene, "options", ())]))):
            raise InvalidGene("its name, description or options hold lone surrogates", hint="Remove them.")
        if isinstance(gene, TextGene) and not 0 <= gene.min_chars <= gene.max_chars:
            raise InvalidGene(
                f"min_chars={gene.min_chars}, max_chars={gene.max_chars}", hint="Need 0 <= min_chars <= max_chars."
            )
        fields = dict(gene)
        checked = _ANY_GENE.validate_python(fields | {"value": gene.check(fields["value"])})
    except InvalidGene as error:
        raise InvalidGene(f"gene {name!r}: {error.message}.", hint=error.hint) from None
    except (ValidationError, TypeError) as error:
        raise InvalidGene(f"gene {name!r} is not well declared: {error}", hint="See the gene's arguments.") from None
    return checked
