"""The parts of the page that have addresses, and the templates that pages are made from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from giemsa.render.templates import environment
from giemsa.verdicts import DISCLAIMER


@dataclass(frozen=True, slots=True)
class Page:
    """A part of the page that has its own address.

    Attributes
    ----------
    name : str
        Its section is `page-NAME`, in the template of this name.
    path : str
        Its address.
    title : str
        What the navigation calls it.
    """

    name: str
    path: str
    title: str


PAGES: Final = (
    Page("cells", "/", "Cells"),
    Page("smear", "/smear", "Smear"),
    Page("model", "/model", "Model"),
    Page("review", "/review", "Review"),
)
_TEMPLATES: Final = Path(__file__).parent / "templates"


def render(name: str, **values: object) -> str:
    """Text of a page; `pages` and `disclaimer` are known to every template."""
    return environment(_TEMPLATES).get_template(name).render(pages=PAGES, disclaimer=DISCLAIMER, **values)
