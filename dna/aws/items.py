"""DynamoDB's form of values, and the parts of a transaction."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

Item: TypeAlias = Mapping[str, Any]
"""An item of the table: texts, whole numbers, floats, bytes, None, and lists and mappings of them."""
_NAMES = re.compile(r"#\w+")


@dataclass(frozen=True, slots=True)
class Key:
    """Names one item."""

    pk: str
    sk: str


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a transaction: a write, or a condition on an item that is left as it is.

    Args:
        kind: What is done.
        key: The item it is done to; an item that is put has its own key.
        item: What is put.
        update: An update expression.
        condition: A condition expression; empty for none.
        values: What stands for the `:name`s in the expressions. Names of attributes are written as `#name`.
    """

    kind: Literal["Put", "Update", "Delete", "ConditionCheck"]
    key: Key
    item: Item = field(default_factory=dict)
    update: str = ""
    condition: str = ""
    values: Mapping[str, Any] = field(default_factory=dict)

    def request(self, table: str) -> dict[str, Any]:
        """Return the part as the API takes it."""
        said: dict[str, Any] = {"TableName": table}
        if self.kind == "Put":
            said["Item"] = encoded({"pk": self.key.pk, "sk": self.key.sk, **self.item})
        else:
            said["Key"] = encoded({"pk": self.key.pk, "sk": self.key.sk})
        if self.update:
            said["UpdateExpression"] = self.update
        if self.condition:
            said["ConditionExpression"] = self.condition
        if names := {*_NAMES.findall(self.update), *_NAMES.findall(self.condition)}:
            said["ExpressionAttributeNames"] = {name: name[1:] for name in sorted(names)}
        if self.values:
            said["ExpressionAttributeValues"] = {f":{name}": _value(value) for name, value in self.values.items()}
        return {self.kind: said}


def put(pk: str, sk: str, item: Item, *, condition: str = "", **values: Any) -> Part:
    """Return the part that puts an item, in place of what is there."""
    return Part("Put", Key(pk, sk), item, condition=condition, values=values)


def put_new(pk: str, sk: str, item: Item) -> Part:
    """Return the part that puts an item which must not be there yet."""
    return put(pk, sk, item, condition="attribute_not_exists(pk)")


def update(pk: str, sk: str, expression: str, *, condition: str = "", **values: Any) -> Part:
    """Return the part that changes an item."""
    return Part("Update", Key(pk, sk), update=expression, condition=condition, values=values)


def check(pk: str, sk: str, condition: str, **values: Any) -> Part:
    """Return the part that only demands something of an item."""
    return Part("ConditionCheck", Key(pk, sk), condition=condition, values=values)


def encoded(item: Item) -> dict[str, Any]:
    """Return an item in the form of the API."""
    return {name: _value(value) for name, value in item.items()}


def decoded(item: Mapping[str, Any]) -> dict[str, Any]:
    """Return an item of the API as plain values."""
    return {name: _plain(value) for name, value in item.items()}


def _value(value: Any) -> dict[str, Any]:  # noqa: PLR0911  # one for each type
    match value:
        case bool():
            return {"BOOL": value}
        case str():
            return {"S": value}
        case int() | float():
            return {"N": repr(value)}
        case bytes():
            return {"B": value}
        case None:
            return {"NULL": True}
        case Mapping():
            return {"M": encoded(value)}
        case _:
            return {"L": [_value(each) for each in value]}


def _plain(value: Mapping[str, Any]) -> Any:
    [(kind, content)] = value.items()
    match kind:
        case "N":
            return int(content) if content.lstrip("-").isdigit() else float(content)
        case "M":
            return decoded(content)
        case "L":
            return [_plain(each) for each in content]
        case "NULL":
            return None
        case _:
            return content
