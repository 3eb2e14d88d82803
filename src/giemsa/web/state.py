"""What the routes work with, as one value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from giemsa.classifier import Classifier
    from giemsa.smear.site import Site
    from giemsa.web.batching import Batcher
    from giemsa.web.calls import Calls
    from giemsa.web.counts import Counts
    from giemsa.web.database import Reviews
    from giemsa.web.settings import Settings
    from giemsa.web.uploads import Folder


@dataclass(frozen=True, slots=True)
class AppState:
    """What one server has opened.

    Attributes
    ----------
    settings : Settings
        What it was told.
    classifier, batcher
        The model, and the runs of it that requests share.
    folder : Folder
        Where bodies lie that are not held in memory.
    counts : Counts
        What it tells Prometheus.
    reviews, calls
        The reviewers' answers, and how the database is called: `await calls(reviews.add, review)`.
    curves : list of dict
        Labelled predictions of models, that of the serving one first.
    site : Site or None
        This laboratory's own rates.
    """

    settings: Settings
    classifier: Classifier
    batcher: Batcher
    folder: Folder
    counts: Counts
    reviews: Reviews
    calls: Calls
    curves: list[dict[str, Any]]
    site: Site | None = None
