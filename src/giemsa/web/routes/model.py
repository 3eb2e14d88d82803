"""What the model says of itself, and what thresholds cost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi import APIRouter
from pydantic import Field

from giemsa import __version__
from giemsa.images import MAX_PIXELS
from giemsa.verdicts import DISCLAIMER
from giemsa.web.schemas import Words, problems, with_example
from giemsa.web.settings import MAX_CELLS, MAX_FIELDS

if TYPE_CHECKING:
    from giemsa.classifier import Classifier
    from giemsa.web.settings import Settings
    from giemsa.web.state import AppState


class CardAnswer(Words):
    """What a model says about itself."""

    model_config = with_example(
        {
            "name": "default", "sha256": "fc7b272d6d41...", "threshold": 0.5, "provider": "CPUExecutionProvider",
            "giemsa": __version__, "input_size_px": 64, "class_names": ["uninfected", "parasitized"],
            "has_evidence": True, "calibration": {"temperature": 0.62, "bias": 0.25},
            "label_set": "disputed: leave-out; donors: negative", "training_patients": 120,
            "digests": {"data": "6c8f1d983170...", "recipe": "cebc4d324e4f..."},
            "figures": {"how": "5-fold cross-validation, patients grouped"}, "licence": "Apache-2.0",
            "created_by": f"giemsa {__version__}",
            "limits": {"body_bytes": 52_428_800, "cells": 5_000, "fields": 500, "pixels_per_picture": 50_000_000},
            "disclaimer": DISCLAIMER,
        }
    )  # fmt: skip

    name: str
    sha256: str
    threshold: float
    provider: str
    giemsa: str
    input_size_px: int
    class_names: list[str]
    has_evidence: bool
    calibration: dict[str, float]
    label_set: str
    training_patients: int = Field(description="How many; 0 where they are not known")
    digests: dict[str, str]
    figures: dict[str, Any]
    licence: str
    created_by: str
    limits: dict[str, int]
    disclaimer: str


class CurvesAnswer(Words):
    """What a model's labelled predictions show at every threshold."""

    model_config = with_example(
        {
            "name": "default", "model_sha256": "fc7b272d6d41...", "serving": True,
            "labels": {
                "confirmed": {
                    "n": 2_000, "positives": 1_000, "units": 40, "kind": "patients", "thresholds": [0.1, 0.5, 0.9],
                    "true_positives": [998, 990, 951], "false_positives": [61, 12, 3],
                    "sensitivity": {"low": [0.99, 0.98, 0.93], "high": [1.0, 1.0, 0.97]},
                    "specificity": {"low": [0.91, 0.98, 0.99], "high": [0.96, 1.0, 1.0]},
                    "roc_auc": {"value": 0.998, "low": 0.997, "high": 0.999},
                    "reliability": {"said": [0.02, 0.97], "seen": [0.03, 0.98], "n": [1_010, 990]},
                }
            },
        }
    )  # fmt: skip

    name: str
    model_sha256: str | None
    serving: bool = Field(description="Whether this is the model that judges here")
    labels: dict[str, dict[str, Any]] = Field(
        description="By set of labels (confirmed, official, donors): n, positives, units, thresholds, true_positives, "
        "false_positives, limits of sensitivity and specificity, roc_auc, reliability"
    )


def model_router(state: AppState) -> APIRouter:
    """Routes that tell of the model."""
    router = APIRouter()

    @router.get("/api/v1/model", summary="Read the model's card", tags=["model"], responses=problems())
    async def read_model() -> CardAnswer:
        card, model = state.classifier.model.card, state.classifier.model
        return CardAnswer(
            **model_words(state.classifier),
            input_size_px=card.input_size_px,
            class_names=list(card.class_names),
            has_evidence=model.has_evidence,
            calibration={"temperature": card.temperature, "bias": card.bias},
            label_set=card.label_set,
            training_patients=len(card.training_patients),
            digests=dict(card.digests),
            figures=dict(card.figures),
            licence=card.licence,
            created_by=card.created_by,
            limits=limits(state.settings),
            disclaimer=DISCLAIMER,
        )

    @router.get("/api/v1/model/curves", summary="Read what thresholds cost", tags=["model"], responses=problems())
    async def read_curves() -> list[CurvesAnswer]:
        return [CurvesAnswer(**one) for one in state.curves]

    return router


def limits(settings: Settings) -> dict[str, int]:
    """What one request may send."""
    return {
        "body_bytes": settings.max_upload_bytes,
        "cells": MAX_CELLS,
        "fields": MAX_FIELDS,
        "pixels_per_picture": MAX_PIXELS,
    }


def model_words(classifier: Classifier) -> dict[str, Any]:
    """What judges: name, digest, threshold, provider, version."""
    record = classifier.record()
    return {
        "name": record.model,
        "sha256": record.model_sha256,
        "threshold": record.threshold,
        "provider": record.provider,
        "giemsa": record.giemsa,
    }
