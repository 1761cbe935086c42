"""A scripted model behind the test endpoint: it reads Converse messages and answers every role by rules of its own.

It is no language model and not the product's stand-in: it writes the words of failed messages into the
descriptions that should have taken them, and on purpose it answers badly first.
"""

import hashlib
import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from tests.support.converse import ConverseRequest, Message, Reply, Respond

Slip: TypeAlias = Literal["words", "invented", "quoted", "hasty", "unnamed"]
Call: TypeAlias = tuple[str, dict[str, Any]]

SLIPS: Mapping[int, tuple[Slip, ...]] = {
    1: ("words",),
    2: ("invented",),
    4: ("quoted", "unnamed"),
    5: ("hasty",),
}
"""What goes wrong first in which generation: prose instead of a call; an unknown gene and a value out of bounds;
arguments as text; a strategy of unknown proposals; an answer before any proposal."""

_TOOL_USE_ID = re.compile(r"[a-zA-Z0-9_.:-]{1,64}")
_WORD = re.compile(r"[a-z]{3,}")
_QUOTED = re.compile(r'should (?P<negation>not )?have taken: "(?P<message>.*)"', re.DOTALL)
_COMMON_WORDS = (
    "the and for you your with that this have has was are but not can will would could from they them their there"
    " what when where which who how why does did been about into out just some any all get got its"
)
_COMMON = frozenset(_COMMON_WORDS.split())
_WORDS_PER_GENE = 12
_ATTEMPTS = 3
_FAILURES_READ = 120
_TRIALS_READ = 6
_IDEAS: tuple[dict[str, Any], ...] = (
    {"normaliser": "stem"},
    {"sublinear_tf": True},
    {"threshold": 0.05},
    {"threshold": 0.02},
)
_CHARS_PER_TOKEN = 4
_LEAST_CACHED_TOKENS = 1024


@dataclass(frozen=True)
class ScriptedModel:
    """Answers a Converse request; equal requests get equal answers, in any order and from any thread.

    Args:
        slips: What goes wrong first, by generation.
        restless: Draws new numbers as well, so that it never runs out of proposals.
    """

    slips: Mapping[int, tuple[Slip, ...]] = field(default_factory=dict)
    restless: bool = False

    def __call__(self, request: ConverseRequest) -> Reply:
        """Answer as the role whose tools are offered."""
        faults = wire_faults(request.body)
        if faults:
            raise AssertionError(f"Bedrock would refuse request {request.number}: {'; '.join(faults)}")
        talk = Talk(request.body)
        match request.tools:
            case ["read_evidence", "propose_mutations", "Advice"]:
                return self._advise(talk)
            case ["read_candidate", "DecisionResult"]:
                return talk.calling(_decision(talk))
            case ["read_degradation", "RootCause"]:
                return talk.calling(_root_cause(talk))
            case ["read_incident", "retry_step", "roll_back", "stop_run", "HealingPlan"]:
                return talk.calling(*_plan(talk))
            case ["read_spend", "CostMeasures"]:
                return talk.calling(_measures(talk))
            case tools:
                raise AssertionError(f"no role has the tools {tools}")

    def _advise(self, talk: "Talk") -> Reply:
        slips = self.slips.get(talk.situation["generation"], ())
        evidence = talk.result("read_evidence")
        if evidence is None:
            if "words" in slips and not talk.answers:
                return talk.saying("I would start with the words that customers use. Shall I go on?")
            return talk.calling(("read_evidence", {"trials": _TRIALS_READ, "failures": _FAILURES_READ}))
        corrected = talk.heard("That answer cannot be used")
        if "hasty" in slips and not corrected:
            return talk.calling(_advice([]))
        attempts, accepted = len(talk.results("propose_mutations")), talk.accepted()
        if not accepted and attempts < _ATTEMPTS:
            name, arguments = _proposal(talk, evidence, slips, attempts)
            if self.restless:
                arguments = {"proposals": [*_drawn(talk), *arguments["proposals"]]}
            return talk.calling((name, arguments))
        if "unnamed" in slips and not corrected:
            return talk.calling(_advice(["p7", "the second one"]))
        return talk.calling(_advice(accepted))


class Talk:
    """What has been said in a Converse request, and replies to it."""

    def __init__(self, body: Mapping[str, Any]) -> None:
        self._body = body
        self._messages: list[dict[str, Any]] = list(body["messages"])
        self.answers = sum(message["role"] == "assistant" for message in self._messages)

    @property
    def situation(self) -> dict[str, Any]:
        """The JSON value in the brief."""
        brief = self._messages[0]["content"][0]["text"]
        return dict(json.JSONDecoder().raw_decode(brief, brief.index("{"))[0])

    def results(self, tool: str) -> list[str]:
        """Return the text of every result of a tool, oldest first."""
        blocks = [block for message in self._messages for block in message["content"]]
        names = {block["toolUse"]["toolUseId"]: block["toolUse"]["name"] for block in blocks if "toolUse" in block}
        found = [block["toolResult"] for block in blocks if "toolResult" in block]
        return [
            "".join(part["text"] for part in result["content"])
            for result in found
            if names[result["toolUseId"]] == tool
        ]

    def result(self, tool: str) -> Any:
        """Return the newest result of a tool that is JSON, or None."""
        for text in reversed(self.results(tool)):
            try:
                return json.loads(text)
            except ValueError:
                continue
        return None

    def heard(self, words: str) -> bool:
        """Whether the caller said something with these words."""
        return any(
            words in block.get("text", "")
            for message in self._messages
            if message["role"] == "user"
            for block in message["content"]
        )

    def accepted(self) -> list[str]:
        """Return the ids of accepted proposals."""
        return [item["id"] for item in self.result("propose_mutations") or [] if "id" in item]

    def saying(self, text: str) -> Message:
        """Reply with text and no tool call."""
        return self._counted([{"text": text}])

    def calling(self, *calls: Call) -> Message:
        """Reply with tool calls."""
        return self._counted([tool_use(self._call_id(place), *call) for place, call in enumerate(calls)])

    def draw(self, purpose: str) -> float:
        """Return a number from 0 to 1 that follows from all that was said and from the purpose."""
        return int(self._digest(purpose)[:8], 16) / 0xFFFFFFFF

    def _call_id(self, place: int) -> str:
        return f"tooluse_{self._digest(str(place))[:22]}"

    def _digest(self, purpose: str) -> str:
        return hashlib.sha256(f"{_plain(self._body)}#{purpose}".encode()).hexdigest()

    def _counted(self, content: list[dict[str, Any]]) -> Message:
        """Reply with the usage that a prompt cache would lead to: what the call before sent is read from it."""
        prompt = {name: self._body[name] for name in ("system", "messages", "toolConfig") if name in self._body}
        whole, output = _tokens(prompt), _tokens(content)
        if "cachePoint" not in _plain(prompt) or whole < _LEAST_CACHED_TOKENS:
            return Message(content, input_tokens=whole, output_tokens=output)
        before = _tokens(prompt | {"messages": self._messages[:-2]}) if self._messages[:-2] else 0
        read = before if before >= _LEAST_CACHED_TOKENS else 0
        return Message(
            content, input_tokens=0, output_tokens=output, cache_read_tokens=read, cache_write_tokens=whole - read
        )


def tool_use(call_id: str, name: str, arguments: Any) -> dict[str, Any]:
    """Return a `toolUse` content block."""
    return {"toolUse": {"toolUseId": call_id, "name": name, "input": arguments}}


def strict(respond: Respond) -> Respond:
    """Return the responder, with requests refused that Bedrock would refuse."""

    def checked(request: ConverseRequest) -> Reply:
        if faults := wire_faults(request.body):
            raise AssertionError(f"Bedrock would refuse request {request.number}: {'; '.join(faults)}")
        return respond(request)

    return checked


def wire_faults(body: Mapping[str, Any]) -> list[str]:
    """Return what Bedrock would refuse in the messages of a Converse request.

    Source: https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Message.html
    """
    return list(_faults(body["messages"]))


def _faults(messages: list[dict[str, Any]]) -> Iterator[str]:
    pending: list[str] = []
    seen: set[str] = set()
    for place, message in enumerate(messages):
        role = "user" if place % 2 == 0 else "assistant"
        if message["role"] != role:
            yield f"message {place} is of the {message['role']}, and the {role} is due"
        if not message["content"]:
            yield f"message {place} has no content"
        if any("text" in block and not block["text"].strip() for block in message["content"]):
            yield f"message {place} has a blank text"
        answered = [block["toolResult"]["toolUseId"] for block in message["content"] if "toolResult" in block]
        if sorted(answered) != sorted(pending):
            yield f"message {place} answers the calls {answered}, and {pending} were made"
        uses = [block["toolUse"] for block in message["content"] if "toolUse" in block]
        pending = [use["toolUseId"] for use in uses]
        for use in uses:
            if not isinstance(use["input"], dict):
                yield f"message {place} repeats a call whose input is a {type(use['input']).__name__}"
            if use["toolUseId"] in seen or not _TOOL_USE_ID.fullmatch(use["toolUseId"]):
                yield f"message {place} has the call id {use['toolUseId']!r}"
            seen.add(use["toolUseId"])
    if messages[-1]["role"] != "user":
        yield "the last message is not of the user"


# -- advisor


def _proposal(talk: Talk, evidence: Mapping[str, Any], slips: tuple[Slip, ...], attempts: int) -> Call:
    proposals = _proposals(talk.situation, evidence, attempts)
    if "invented" in slips and not attempts:
        proposals = [
            {"changes": {"queue.sales": "Everything about buying."}, "rationale": "There is no queue for sales."},
            {"changes": {"threshold": 7}, "rationale": "Higher is better."},
        ]
    if "quoted" in slips and not attempts:
        return "propose_mutations", {"proposals": json.dumps(proposals)}
    return "propose_mutations", {"proposals": proposals}


def _proposals(situation: Mapping[str, Any], evidence: Mapping[str, Any], attempts: int) -> list[dict[str, Any]]:
    genes = situation["genes"]
    best = max(evidence["trials"], key=lambda trial: trial["fitness"] or 0.0, default=None)
    base = best["differs"] if best and (best["fitness"] or 0.0) > evidence["live_fitness"] else {}
    values = {name: gene["value"] for name, gene in genes.items()} | base
    edits = {
        name: _with_words(values[name], words, genes[name]["max_chars"])
        for name, words in _wanted_words(evidence).items()
        if genes[name]["kind"] == "text"
    }
    new = [idea for idea in _IDEAS if all(values.get(name, value) != value for name, value in idea.items())]
    idea = new[attempts % len(new)] if new else {}
    both = base | edits | idea
    wishes = [
        (both, "Customers use these words, and the setting makes their forms meet.", 0.1),
        (base | edits, "Customers use these words, and the descriptions do not.", 0.08),
    ]
    return [
        {
            "changes": changes,
            "category": "communication enhancement",
            "rationale": rationale,
            "predicted_gain": gain,
            "probability": 0.7,
        }
        for changes, rationale, gain in wishes[: situation["candidates"]]
        if changes
    ]


def _drawn(talk: Talk) -> list[dict[str, Any]]:
    numbers = {name: gene for name, gene in talk.situation["genes"].items() if gene["kind"] == "number"}
    changes = {
        name: round(gene["low"] + (gene["high"] - gene["low"]) * talk.draw(name), 4) for name, gene in numbers.items()
    }
    return [{"changes": changes, "rationale": "Nobody has tried this yet."}]


def _wanted_words(evidence: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return, for each blamed gene, the words of what it missed that are rare in what the others missed."""
    missed: dict[str, Counter[str]] = {}
    failures = [(gene, text) for gene, texts in evidence["failures"].items() for text in texts]
    for gene, text in failures:
        found = _QUOTED.fullmatch(text)
        if found and gene:
            words = {word for word in _WORD.findall(found["message"].casefold()) if word not in _COMMON}
            weight = -1 if found["negation"] else 1
            missed.setdefault(gene, Counter()).update(dict.fromkeys(words, weight))
    everywhere: Counter[str] = Counter()
    for counts in missed.values():
        everywhere.update({word: count for word, count in counts.items() if count > 0})

    def rank(counts: Counter[str]) -> list[str]:
        scores = {word: 2 * count - everywhere[word] for word, count in counts.items() if count > 1}
        return sorted((word for word in scores if scores[word] > 0), key=lambda word: (-scores[word], word))

    return {gene: words for gene, counts in sorted(missed.items()) if (words := rank(counts)[:_WORDS_PER_GENE])}


def _with_words(text: str, words: list[str], max_chars: int) -> str:
    known = set(_WORD.findall(text.casefold()))
    for word in words:
        if word not in known and len(text) + len(word) + 1 <= max_chars:
            text = f"{text} {word}"
    return text


def _advice(order: list[str]) -> Call:
    return "Advice", {
        "analysis": {
            "weaknesses": ["the descriptions use the company's words"],
            "opportunities": ["the customers' own words"],
            "confidence": 0.7,
            "reasoning": "The failed messages share few words with the descriptions that should have taken them.",
        },
        "strategy": {
            "primary_mutations": order[:1],
            "contingency_mutations": order[1:],
            "execution_order": order,
            "success_criteria": ["more messages reach their queue"],
        },
    }


# -- the other roles


def _decision(talk: Talk) -> Call:
    candidate = talk.result("read_candidate")
    if candidate is None:
        return "read_candidate", {}
    evidence = candidate["evidence"]
    verdict = "APPROVE" if evidence["credible"] and evidence["at_least"] > 0 else "REJECT"
    if not talk.results("DecisionResult"):
        verdict = "YES"
    result = {
        "verdict": verdict,
        "confidence": 0.9,
        "risks": {"longer descriptions": 0.2},
        "benefits": [f"{evidence['cases']} validation cases agree"],
        "reasoning": "The gain is credible, and the change can be taken back.",
        "estimated_impact": round(evidence["gain"], 3),
    }
    if others := [other["mutation_id"] for other in candidate.get("alternatives", [])]:
        result["ranking"] = [candidate["mutation_id"], *others]
    if found := candidate.get("conflicts"):
        result["resolutions"] = [
            {"conflict": conflict["id"], "keep": conflict["between"][0], "reasoning": "It was first."}
            for conflict in found
        ]
    return "DecisionResult", result


def _root_cause(talk: Talk) -> Call:
    degradation = talk.result("read_degradation")
    if degradation is None:
        return "read_degradation", {}
    suspects = sorted(degradation["undone"])
    return "RootCause", {
        "cause": f"The change of {', '.join(suspects)} did not hold on live cases.",
        "suspects": suspects,
        "confidence": 0.7,
        "evidence": [degradation["why"]],
        "recommendations": ["Change one of them at a time."],
        "reasoning": "Nothing else changed at that time.",
    }


def _plan(talk: Talk) -> list[Call]:
    incident = talk.result("read_incident")
    if incident is None:
        return [("read_incident", {})]
    reasoning = f"A person should see: {incident['kind']}."
    return [("stop_run", {}), ("HealingPlan", {"confidence": 0.8, "reasoning": reasoning})]


def _measures(talk: Talk) -> Call:
    spend = talk.result("read_spend")
    if spend is None:
        return "read_spend", {}
    return "CostMeasures", {"measures": ["shorter_context"], "reasoning": f"The {spend['scope']} budget is filling."}


def _tokens(value: Any) -> int:
    return math.ceil(len(_plain(value)) / _CHARS_PER_TOKEN)


def _plain(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))
