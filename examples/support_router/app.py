"""A support router whose queue descriptions and matching settings evolve."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from router import NO_QUEUE, QUEUE_PREFIX, Route, route

from bedrock_evolution import Budget, Evolution, Score, choice, flag, integer, number, text

MESSAGES = Path(__file__).with_name("messages.csv")

# What a product owner would write on day one: correct, and in the company's words rather than the customers'.
DESCRIPTIONS = {
    "billing": "Questions about an invoice, a charge or a payment method. Includes failed card payments, "
    "incorrect amounts, VAT and receipts.",
    "refunds": "The customer expects a refund and asks for its status or amount. Also requests for "
    "reimbursement or credit after a cancelled order.",
    "delivery": "Shipping and delivery of an order: tracking, delays, lost or incomplete parcels. Also "
    "changes to the delivery address.",
    "returns": "Return or exchange of an item within the return period, for example because it is wrong "
    "or damaged. Includes the return label.",
    "account_access": "Problems with signing in to the customer account: forgotten password, verification "
    "code, locked account. Also changes to the login email.",
    "technical": "Technical faults of a machine, a grinder, the app or the website. Error messages, "
    "connectivity, maintenance and repair.",
    "product_questions": "Advice before a purchase: features, compatibility and availability of machines "
    "and accessories. Also recommendations for coffee beans.",
    "subscription": "Managing a coffee subscription. The customer wants to change, pause, renew or cancel the plan.",
    "privacy": "Data protection requests: access to personal data or its deletion. Also marketing "
    "consent, newsletter and cookies.",
    "partnership": "Business enquiries from companies, cafés and the press. Wholesale, resale, sponsoring "
    "and other partnerships.",
    "complaints": "Complaints about our service or the behaviour of our staff. Cases that should be "
    "escalated to a manager.",
    "fraud": "Suspected fraud: phishing emails, unauthorised orders or payments and identity theft. Also "
    "stolen cards and compromised accounts.",
}

GENES = {
    **{QUEUE_PREFIX + queue: text(description, max_chars=600) for queue, description in DESCRIPTIONS.items()},
    "threshold": number(0.1, low=0.0, high=0.6),
    "analyser": choice("word", options=["word", "char_wb"]),
    "ngrams": integer(1, low=1, high=4),
    "normaliser": choice("casefold", options=["none", "casefold", "stem"]),
    "sublinear_tf": flag(False),
    "stop_words": flag(True),
}


def load_messages(path: Path = MESSAGES) -> list[dict[str, Any]]:
    """Read the messages as cases `{"id", "message", "accepted"}`; a mixed message accepts two queues."""
    with path.open(encoding="utf-8", newline="") as file:
        return [
            {
                "id": row["id"],
                "message": row["message"],
                "accepted": [queue for queue in (row["queue"], row["also"]) if queue],
            }
            for row in csv.DictReader(file)
        ]


def score(genes: Mapping[str, Any], cases: Sequence[Mapping[str, Any]]) -> list[Score]:
    """Score each case 1.0 if its message reaches an accepted queue, else 0.0 with feedback to the genes."""
    routes = route(genes, [case["message"] for case in cases])
    return [_score_one(case, chosen) for case, chosen in zip(cases, routes, strict=True)]


def _score_one(case: Mapping[str, Any], chosen: Route) -> Score:
    """Judge one route and tell the descriptions involved what they should have done."""
    accepted = case["accepted"]
    metrics = {"similarity": chosen.similarity}
    if chosen.queue in accepted:
        return Score(1.0, metrics=metrics)
    message = case["message"]
    gene_feedback: dict[str, str] = {}
    # "none" is the absence of a queue and has no description that could learn.
    if accepted[0] != NO_QUEUE:
        gene_feedback[QUEUE_PREFIX + accepted[0]] = f'should have taken: "{message}"'
    if chosen.queue != NO_QUEUE:
        gene_feedback[QUEUE_PREFIX + chosen.queue] = f'should not have taken: "{message}"'
    return Score(
        0.0,
        feedback=f"Went to {chosen.queue} instead of {' or '.join(accepted)}.",
        gene_feedback=gene_feedback,
        metrics=metrics,
    )


evolution = Evolution(
    app="support-router",
    genes=GENES,
    evaluate_all=score,
    cases=load_messages(),
    score_range=(0.0, 1.0),
    budget=Budget(daily_usd=5, max_evaluations=60_000),
)
