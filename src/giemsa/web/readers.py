"""How far reviewers agree with the model and with each other, for as many of them as can be shown."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING, Any, Final

from giemsa.data.patients import origin_of
from giemsa.stats.agreement import agree

if TYPE_CHECKING:
    from giemsa.web.database import Review

MODEL_READER: Final = "the model"
WITH_MODEL: Final = 100
"""Reviewers who are compared with the model: those with the most answers."""
WITH_EACH_OTHER: Final = 15
"""Reviewers of whom each two are compared: 105 pairs."""


def compare_readers(current: list[Review]) -> list[dict[str, Any]]:
    """Agreement of reviewers with the model, and of each two, on the pictures that both answered.

    Names cost nothing, and pairs are as many as their square: only those with the most answers are compared, in the
    order in which they first answered.
    """
    read: dict[str, dict[str, Review]] = {}
    for review in current:
        read.setdefault(review.reviewer, {})[review.image_sha256] = review
    most = sorted(read, key=lambda name: -len(read[name]))  # of equals, who came first
    with_model, with_each_other = set(most[:WITH_MODEL]), set(most[:WITH_EACH_OTHER])
    compared = []
    for name in (one for one in read if one in with_model):
        ones = list(read[name].values())
        answers, verdicts = [one.answer for one in ones], [one.verdict for one in ones]
        compared.append(_compared(name, MODEL_READER, ones, answers, verdicts))
    for first, second in combinations((one for one in read if one in with_each_other), 2):
        both = [digest for digest in read[first] if digest in read[second]]
        ones = [read[first][digest] for digest in both]
        answers = [one.answer for one in ones]
        compared.append(_compared(first, second, ones, answers, [read[second][digest].answer for digest in both]))
    return compared


def _compared(first: str, second: str, ones: list[Review], answers: list[str], others: list[str]) -> dict[str, Any]:
    origins = [origin_of(one.image.rpartition("/")[2]) for one in ones]
    patients = [origin.patient for origin in origins if origin is not None]
    units = patients if patients and len(patients) == len(ones) else None
    return {"first": first, "second": second} | agree(answers, others, units).to_dict()
