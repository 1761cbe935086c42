"""Cassette files: YAML that people can review, that vcrpy can read, and that is searched for secrets."""

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import yaml

_VERSION = 1


class CassetteError(Exception):
    """A cassette cannot be read or written, or does not belong to the calls that were made."""


class _Dumper(yaml.SafeDumper):
    """Writes texts of several lines as they are."""


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _represent_text)


def read_cassette(path: Path) -> list[dict[str, Any]]:
    """Return the interactions of a cassette, each with `request` and `response`, and bodies as bytes.

    Raises CassetteError if the file is missing, empty, not a cassette, or incomplete.
    """
    return _parse(_read_text(path), path)


def write_cassette(path: Path, interactions: list[dict[str, Any]]) -> None:
    """Replace the file in one step, once it is sure that what is written can be read back.

    JSON bodies are indented; any other text stays text, and the rest is base64.
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
    if yaml.load(text, Loader=yaml.CSafeLoader) != document:
        raise CassetteError(f"{path}: the calls do not survive being written as YAML; nothing was written")
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        partial.write_text(text, encoding="utf-8", newline="\n")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def secrets_in(path: Path, canaries: Iterable[str]) -> list[str]:
    """Return where a cassette holds any of the canaries, as they are or as JSON or a URL writes them.

    Base64 (`!!binary`) is decoded first. The places name a canary by its position, so that a failing test
    does not print a secret. Raises CassetteError for a file that is no YAML, and ValueError for an empty
    canary.
    """
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
        raise CassetteError(f"{path}: the cassette cannot be read: {error}; record it again") from error
    if not text.strip():
        raise CassetteError(f"{path}: the cassette is empty; record it again")
    return text


def _load_yaml(text: str, path: Path) -> Any:
    try:
        return yaml.load(text, Loader=yaml.CSafeLoader)
    except yaml.YAMLError as error:
        raise CassetteError(f"{path}: the cassette is corrupt: {error}; record it again") from error


def _parse(text: str, path: Path) -> list[dict[str, Any]]:
    match _load_yaml(text, path):
        case {"version": 1, "interactions": [_, *_] as interactions}:
            return [_interaction(item, f"{path}: interaction {n}") for n, item in enumerate(interactions)]
        case _:
            raise CassetteError(f"{path}: no cassette of version {_VERSION} with interactions; record it again")


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
            raise CassetteError(f"{where} is not complete; record the cassette again")


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
