"""The small apps of `examples/apps`: Streamlit's by its own test runner, Dash's by a real server and browser."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

import giemsa

ROOT = Path(__file__).parents[2]
APPS = ROOT / "examples" / "apps"
CELLS = sorted((ROOT / "examples" / "cells").glob("*_0[12].png"))[:3]
SLOW = 60  # s, for machines that do much else


@pytest.mark.parametrize("name", ["dash_app.py", "streamlit_app.py"])
def test_each_is_short(name):
    assert len((APPS / name).read_text().splitlines()) < 80


@pytest.fixture(scope="module")
def expected():
    """Verdicts on three drawn cells, and on a file that is no picture."""
    return [*giemsa.load().classify_many(CELLS), giemsa.load().classify(b"no picture")]


@pytest.fixture(scope="module")
def broken(tmp_path_factory):
    path = tmp_path_factory.mktemp("broken") / "broken.png"
    path.write_bytes(b"no picture")
    return path


def test_streamlit_shows_verdict_confidence_and_evidence(expected, broken):
    testing = pytest.importorskip("streamlit.testing.v1", reason="streamlit is not installed: pip install streamlit")
    app = testing.AppTest.from_file(str(APPS / "streamlit_app.py"), default_timeout=SLOW).run()
    assert not app.exception
    assert giemsa.DISCLAIMER in app.warning[0].value
    app.file_uploader[0].set_value([(path.name, path.read_bytes(), "image/png") for path in [*CELLS, broken]]).run()
    assert not app.exception
    assert [one.value for one in app.subheader] == [one.verdict for one in expected]
    assert app.metric[0].value == f"{sum(one.verdict == 'parasitized' for one in expected)} of 4"
    sure = [element.proto.text for element in app.get("progress")]
    assert sure == [f"p parasitized {one.p_parasitized:.4f}" for one in expected[:3]]
    assert len(app.get("image")) == 6  # three pictures, each with its evidence beside it
    assert any(expected[3].reason in element.value for element in app.markdown)


@pytest.fixture(scope="module")
def dash_url():
    pytest.importorskip("dash", reason="dash is not installed: pip install dash")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    source = os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, str(APPS / "dash_app.py"), "--port", str(port)]
    server = subprocess.Popen(command, env=os.environ | {"PYTHONPATH": source}, stderr=subprocess.DEVNULL,
                              stdout=subprocess.DEVNULL)  # fmt: skip
    try:
        for _ in range(10 * SLOW):
            with socket.socket() as asked:
                if asked.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert server.poll() is None, "the app ended"
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.kill()
        server.wait()


def test_dash_shows_verdict_confidence_and_evidence(dash_url, expected, broken):
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install playwright")
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None:
        pytest.skip("there is no browser: on Debian, apt-get install chromium")
    with sync_api.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-dev-shm-usage"])
        page = browser.new_page()
        page.set_default_timeout(1000 * SLOW)
        page.goto(dash_url)
        sync_api.expect(page.locator("main")).to_contain_text("no diagnosis", timeout=1000 * SLOW)
        page.set_input_files("input[type=file]", [str(path) for path in [*CELLS, broken]])
        cards = page.locator(".cell")
        sync_api.expect(cards).to_have_count(4, timeout=1000 * SLOW)
        for place, (one, path) in enumerate(zip(expected, [*CELLS, broken], strict=True)):
            text = cards.nth(place).inner_text()
            assert one.verdict in text
            assert path.name in text
            assert (f"{one.p_parasitized:.4f}" if one.p_parasitized is not None else one.reason) in text
            pictures = cards.nth(place).locator("img")
            assert pictures.count() == (one.p_parasitized is not None)
            assert not pictures.count() or pictures.first.evaluate("image => image.naturalWidth") > 0
        browser.close()
