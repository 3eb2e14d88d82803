"""The parts of the page that have addresses, and the templates that pages are made from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import jinja2

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
_templates: Final = jinja2.Environment(
    loader=jinja2.PackageLoader("giemsa.web"), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
)


def render(name: str, **values: object) -> str:
    """Text of a page; `pages` and `disclaimer` are known to every template."""
    return _templates.get_template(name).render(pages=PAGES, disclaimer=DISCLAIMER, **values)
