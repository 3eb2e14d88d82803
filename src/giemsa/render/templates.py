"""Reports and pages from the templates beside this file.

Everything put into an HTML template is escaped, whatever its name; a name that a template does not get is an error and
not an empty place. Jinja2 is imported when the first report is written, and not by a command that writes none.
"""

from __future__ import annotations

from base64 import b64encode
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jinja2 import Environment

_TEMPLATES = Path(__file__).parent / "templates"


def render(template: str, /, **values: object) -> str:
    """Text of a template with these values.

    Parameters
    ----------
    template : str
        Its file in `templates/`.
    **values
        What it names. Text is escaped in HTML; only our own style sheets and scripts are marked as safe there.
    """
    return environment(_TEMPLATES).get_template(template).render(**values)


def data_uri(picture: bytes, kind: str = "jpeg") -> str:
    """A picture as an address that holds it whole."""
    return f"data:image/{kind};base64,{b64encode(picture).decode()}"


def _markdown_cell(text: str) -> str:
    """A text that stays within its cell of a Markdown table."""
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ")


@lru_cache(maxsize=4)
def environment(folder: Path) -> Environment:
    """Templates of a folder, under the rules above; those that end in `.html` or `.html.j2` are HTML."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

    made = Environment(
        loader=FileSystemLoader(folder),
        autoescape=select_autoescape(enabled_extensions=("html", "html.j2"), default=False),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.filters["data_uri"] = data_uri
    made.filters["cell"] = _markdown_cell
    made.filters["thousands"] = "{:,}".format
    made.policies["json.dumps_kwargs"] = {"sort_keys": False}
    return made
