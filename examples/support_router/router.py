"""Route customer messages to the queue whose description they resemble most."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer  # type: ignore[import-untyped]

NO_QUEUE = "none"
QUEUE_PREFIX = "queue."

# Function words only: scikit-learn's own English list also drops "bill", "back", "call" and "nobody".
STOP_WORDS = frozenset(
    [
        "a",
        "about",
        "after",
        "also",
        "am",
        "an",
        "and",
        "any",
        "are",
        "as",
        "at",
        "be",
        "been",
        "before",
        "being",
        "both",
        "but",
        "by",
        "can",
        "could",
        "did",
        "do",
        "does",
        "doing",
        "don",
        "for",
        "from",
        "had",
        "has",
        "have",
        "having",
        "he",
        "her",
        "here",
        "hers",
        "him",
        "his",
        "how",
        "i",
        "if",
        "in",
        "into",
        "is",
        "it",
        "its",
        "just",
        "let",
        "ll",
        "m",
        "may",
        "me",
        "might",
        "my",
        "no",
        "nor",
        "not",
        "of",
        "off",
        "on",
        "once",
        "only",
        "or",
        "other",
        "our",
        "out",
        "over",
        "own",
        "re",
        "s",
        "same",
        "shall",
        "she",
        "should",
        "so",
        "some",
        "such",
        "t",
        "than",
        "that",
        "the",
        "their",
        "them",
        "then",
        "there",
        "these",
        "they",
        "this",
        "those",
        "through",
        "to",
        "too",
        "under",
        "until",
        "up",
        "us",
        "ve",
        "very",
        "was",
        "we",
        "were",
        "what",
        "when",
        "where",
        "which",
        "while",
        "who",
        "whom",
        "why",
        "will",
        "with",
        "would",
        "you",
        "your",
        "yours",
    ]
)

_WORD = re.compile(r"[^\W_]+")
# Longest first, so that "delivering" loses "ing" and not just "g"; at least three letters must remain.
_SUFFIXES = ("ations", "ation", "ments", "ment", "ings", "ing", "ions", "ion", "ies", "ed", "es", "ly", "s", "y", "e")
_SHORTEST_STEM = 3


@dataclass(frozen=True)
class Route:
    """Where one message goes, how similar it is to that queue's description, and which queue came second."""

    queue: str
    similarity: float
    runner_up: str


def route(genes: Mapping[str, Any], messages: Sequence[str]) -> list[Route]:
    """Choose a queue for every message.

    Args:
        genes: One description per queue under `queue.<name>` (at least one), and the settings
            `threshold`, `analyser`, `ngrams`, `normaliser`, `sublinear_tf` and `stop_words`.
        messages: The messages to route.

    Returns:
        One `Route` per message, in order; its queue is `none` if no similarity reaches the threshold.

    Raises:
        KeyError: A setting is missing from `genes`.
    """
    queues = [name.removeprefix(QUEUE_PREFIX) for name in genes if name.startswith(QUEUE_PREFIX)]
    similarities = _similarities(genes, [str(genes[QUEUE_PREFIX + queue]) for queue in queues], messages)
    return [_choose(queues, row, float(genes["threshold"])) for row in similarities]


def _similarities(genes: Mapping[str, Any], descriptions: Sequence[str], messages: Sequence[str]) -> Any:
    """Compute the cosine similarities as an array of messages by descriptions."""
    normaliser, stop_words = str(genes["normaliser"]), bool(genes["stop_words"])
    clean_descriptions = [normalise(text, normaliser, stop_words) for text in descriptions]
    if not any(clean_descriptions) or not messages:
        # TfidfVectorizer refuses an empty vocabulary; nothing is similar to nothing.
        return np.zeros((len(messages), len(descriptions)))
    vectorizer = TfidfVectorizer(
        analyzer=genes["analyser"],
        ngram_range=_ngram_range(str(genes["analyser"]), int(genes["ngrams"])),
        sublinear_tf=bool(genes["sublinear_tf"]),
        lowercase=False,
        # Texts arrive as words separated by spaces; scikit-learn warns if a pattern is given for characters.
        token_pattern=r"\S+" if genes["analyser"] == "word" else None,
    )
    description_vectors = vectorizer.fit_transform(clean_descriptions)
    message_vectors = vectorizer.transform([normalise(text, normaliser, stop_words) for text in messages])
    return (message_vectors @ description_vectors.T).toarray()


def _choose(queues: Sequence[str], similarities: Any, threshold: float) -> Route:
    """Pick the most similar queue; ties go to the queue that is listed first."""
    order = np.argsort(-similarities, kind="stable")
    best = queues[int(order[0])]
    runner_up = queues[int(order[1])] if len(queues) > 1 else NO_QUEUE
    similarity = float(similarities[order[0]])
    # A message that shares no term with any description belongs to none, even at threshold 0.
    if similarity == 0.0:
        return Route(NO_QUEUE, similarity, NO_QUEUE)
    if similarity < threshold:
        return Route(NO_QUEUE, similarity, best)
    return Route(best, similarity, runner_up)


def _ngram_range(analyser: str, longest: int) -> tuple[int, int]:
    """Give the n-gram lengths: words count from 1, single characters carry no meaning and are left out."""
    if analyser == "word":
        return (1, longest)
    return (min(2, longest), longest)


# Normalising does not depend on the descriptions under evolution, so it is done once per message.
@lru_cache(maxsize=20_000)
def normalise(text: str, normaliser: str, stop_words: bool) -> str:
    """Reduce a text to its words, separated by spaces, in the form that is compared."""
    words = _WORD.findall(text if normaliser == "none" else text.casefold())
    if stop_words:
        words = [word for word in words if word.casefold() not in STOP_WORDS]
    if normaliser == "stem":
        words = [stem(word) for word in words]
    return " ".join(words)


def stem(word: str) -> str:
    """Strip one common English suffix, so that `charged`, `charges` and `charge` meet."""
    for suffix in _SUFFIXES:
        if word.endswith(suffix) and len(word) - len(suffix) >= _SHORTEST_STEM:
            return word.removesuffix(suffix)
    return word
