"""Templates escape what they are given, and miss nothing."""

from __future__ import annotations

import subprocess
import sys

import pytest
from jinja2 import UndefinedError

from giemsa.render.templates import render


def page(**changed):
    values = {
        "heading": "A", "warnings": (), "sheets": (), "pictures": (), "provenance": (), "disclaimer": "D",
        "warning_colour": "#d55e00",
    }  # fmt: skip
    return values | changed


def test_html_is_escaped():
    html = render("comparison.html.j2", **page(heading="<b>", pictures=[('"><script>', b"x")]))
    assert "<h1>&lt;b&gt;</h1>" in html
    assert "<script>" not in html
    assert 'src="data:image/png;base64,eA=="' in html


def test_markdown_is_not_escaped_but_stays_in_its_cell():
    class Sheet:
        title, note = "T", ""
        columns = ("run", "a|b")
        rows = (("r <1>", "c\\d\ne"),)

    lines = render("comparison.md.j2", **page(sheets=[Sheet])).splitlines()
    assert "| run | a\\|b |" in lines
    assert "| r <1> | c\\\\d e |" in lines


def test_a_value_that_is_missing_is_an_error():
    values = page()
    del values["heading"]
    with pytest.raises(UndefinedError, match="heading"):
        render("comparison.html.j2", **values)


def test_templates_are_loaded_only_where_one_is_written():
    code = "import sys, giemsa.smear.store, giemsa.smear.report, giemsa.cli.smear; print('jinja2' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
