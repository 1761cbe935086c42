"""Cassette files: YAML that people can review, that vcrpy can read, and that is searched for secrets."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import yaml

from .errors import CassetteError

_VERSION = 1
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # PyYAML may be built without libyaml


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


# Writes texts of several lines as they are.
_Dumper: Any = type("_Dumper", (yaml.SafeDumper,), {})
_Dumper.add_representer(str, _represent_text)


def read_cassette(path: Path) -> list[dict[str, Any]]:
    """Return the interactions of a cassette, each with `request` and `response`, and bodies as bytes.

    Raises:
        CassetteError: The file is missing, empty, not a cassette, or incomplete.
    """
    return _parse(_read_text(path), path)


def write_cassette(path: Path, interactions: list[dict[str, Any]]) -> None:
    """Replace the file in one step, once it is sure that what is written can be read back.

    JSON bodies are indented; any other text stays text, and the rest is base64.

    Args:
        path: The file; its folder is made if it is missing.
        interactions: As `read_cassette` returns them.

    Raises:
        CassetteError: They cannot be written as YAML; nothing was written.
    """
    stored = [
        {
            "request": {**interaction["request"], "body": _readable(interaction["request"]["body"])},
            "response": {
                **interaction["response"],
                "body": {"string": _readable(interaction["response"]["body"]["string"])},
            },
        }
        for interaction in interactions
    ]
    document = {"version": _VERSION, "interactions": stored}
    text = yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)
    if _loaded(text) != document:
        raise CassetteError(f"{path}: the calls do not survive being written as YAML; nothing was written")
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        partial.write_text(text, encoding="utf-8", newline="\n")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def secrets_in(path: str | os.PathLike[str], canaries: Iterable[str]) -> list[str]:
    """Return where a cassette holds any of the canaries, as they are or as JSON or a URL writes them.

    Base64 (`!!binary`) is decoded first, so a secret in an event stream is found, too.

    Args:
        path: A cassette, or any other YAML file.
        canaries: The texts to look for, such as a key, a token or an account number.

    Returns:
        One line for each place. They name a canary by its position, so that a failing test does not print a secret.

    Raises:
        CassetteError: The file is missing or no YAML.
        ValueError: A canary is empty.
    """
    path = Path(path)
    spellings = [_spellings(canary) for canary in canaries]
    text = _read_text(path)
    places = [
        f"{place} holds canary {number}"
        for place, content in _contents(_load_yaml(text, path), "")
        for number, needles in enumerate(spellings)
        if any(needle in content for needle in needles)
    ]
    raw = text.encode()
    for number, needles in enumerate(spellings):
        found = any(place.endswith(f" holds canary {number}") for place in places)
        if not found and any(needle in raw for needle in needles):
            places.append(f"the text of the file, outside its data, holds canary {number}")
    return places


def _read_text(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise CassetteError(f"{path}: there is no such cassette; record it first") from error
    except (OSError, UnicodeDecodeError) as error:
        raise CassetteError(f"{path}: the cassette cannot be read: {error}; delete it and record it again") from error
    if not text.strip():
        raise CassetteError(f"{path}: the cassette is empty; delete it and record it again")
    return text


def _loaded(text: str) -> Any:
    return yaml.load(text, Loader=_Loader)  # noqa: S506  # a safe loader, whichever it is


def _load_yaml(text: str, path: Path) -> Any:
    try:
        return _loaded(text)
    except yaml.YAMLError as error:
        raise CassetteError(f"{path}: the cassette is corrupt: {error}; delete it and record it again") from error


def _parse(text: str, path: Path) -> list[dict[str, Any]]:
    match _load_yaml(text, path):
        case {"version": 1, "interactions": [_, *_] as interactions}:
            return [_interaction(item, f"{path}: interaction {n}") for n, item in enumerate(interactions)]
        case _:
            raise CassetteError(
                f"{path}: no cassette of version {_VERSION} with interactions; delete it and record it again"
            )


def _interaction(item: Any, where: str) -> dict[str, Any]:
    match item:
        case {
            "request": {"method": str(), "uri": str(), "headers": dict(), "body": str() | bytes()} as request,
            "response": {
                "status": {"code": int(), "message": _},
                "headers": dict(),
                "body": {"string": str() | bytes() as content},
            } as response,
        }:
            return {
                "request": {**request, "body": _encoded(request["body"])},
                "response": {**response, "body": {"string": _encoded(content)}},
            }
        case _:
            raise CassetteError(f"{where} is not complete; delete the cassette and record it again")


def _encoded(body: str | bytes) -> bytes:
    return body.encode() if isinstance(body, str) else body


def _readable(body: bytes) -> str | bytes:
    try:
        text = body.decode()
    except UnicodeDecodeError:
        return body
    try:
        value = json.loads(text)
    except ValueError:
        return text
    if not isinstance(value, dict | list):
        return text
    pretty = json.dumps(value, indent=2, ensure_ascii=False)
    # YAML has no literal style for characters that cannot be printed; JSON has escapes for them.
    return pretty if pretty.replace("\n", "").isprintable() else json.dumps(value, indent=2)


def _spellings(canary: str) -> set[bytes]:
    if not canary:
        raise ValueError("an empty canary is in every file; name the secret to look for")
    in_json = {json.dumps(canary, ensure_ascii=ascii_only)[1:-1] for ascii_only in (True, False)}
    return {text.encode() for text in {canary, quote(canary, safe="")} | in_json}


def _contents(node: Any, place: str) -> Iterator[tuple[str, bytes]]:
    if isinstance(node, dict):
        for key, value in node.items():
            inner = f"{place}.{key}" if place else str(key)
            yield f"the key {inner}", str(key).encode()
            yield from _contents(value, inner)
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from _contents(value, f"{place}[{index}]")
    else:
        yield place, node if isinstance(node, bytes) else str(node).encode()
