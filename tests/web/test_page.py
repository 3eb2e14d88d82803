"""The page, as a person uses it, in a real browser: Debian's Chromium, driven by Playwright.

With `GIEMSA_SCREENSHOTS=FOLDER` the pictures for the documentation are written there; nothing but drawn cells is seen.
"""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
from contextlib import contextmanager
from pathlib import Path

import pytest

from giemsa.formats.evaluations import Predictions, write_evaluation_files

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install playwright")
expect = playwright.expect

EXAMPLES = Path(__file__).parents[2] / "examples" / "cells"
FIELDS = Path(__file__).parents[2] / "examples" / "fields"
SLOW = 60_000  # ms, for machines that do much else


@pytest.fixture(scope="module")
def browser():
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None:
        pytest.skip("there is no browser: on Debian, apt-get install chromium")
    with playwright.sync_playwright() as started:
        options = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"]
        browser = started.chromium.launch(executable_path=program, args=options)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def site(tmp_path_factory, start_server):
    """A server with the embedded model, curves to show, and a database."""
    import numpy as np

    folder = tmp_path_factory.mktemp("site")
    run = folder / "drawn-cells"
    run.mkdir()
    rng = np.random.default_rng(0)
    infected = rng.random(2_000) < 0.5
    logit = rng.normal(np.where(infected, 4, -4), 2)
    patient = np.arange(2_000) % 40
    predictions = Predictions(
        images=[f"{i}.png" for i in range(2_000)],
        p_parasitized=1 / (1 + np.exp(-logit)),
        logit=logit,
        official=infected.astype(np.int8),
        reviewed=infected.astype(np.int8),
        donor=(patient < 10) & ~infected,
        patients=[f"P{who}" for who in patient],
    )
    write_evaluation_files(run, predictions, {"threshold": 0.5}, threshold=0.5)
    with start_server(threads=2, runs=(run,), database=f"sqlite:///{folder / 'reviews.sqlite'}") as server:
        yield server.url


@pytest.fixture
def page(browser, site, request):
    """A page that must not complain, nor ask any other server for anything."""
    options = getattr(request, "param", {})
    context = browser.new_context(base_url=site, accept_downloads=True, reduced_motion="reduce",
                                  **({"viewport": {"width": 1280, "height": 900}} | options))  # fmt: skip
    context.set_default_timeout(SLOW)
    expect.set_options(timeout=SLOW)
    page = context.new_page()
    complaints, strangers = [], []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
    page.on(
        "request",
        lambda asked: strangers.append(asked.url) if not asked.url.startswith((site, "data:", "blob:")) else None,
    )
    page.forgiven = []  # complaints that a test brings about
    page.goto("/")
    yield page
    assert not context.cookies()
    context.close()
    assert not [said for said in complaints if not any(word in said for word in page.forgiven)]
    assert not strangers


def come_between(page, addresses, answer):
    """Answer in the server's place, and load the page anew: one that is there already may still ask past this."""
    page.route(addresses, answer)
    page.reload()


def judge_examples(page, count=32):
    page.click("#examples")
    expect(page.locator("body")).to_have_attribute("data-judged", str(count))


def judge_files(page, paths, count):
    page.set_input_files("#files", [str(path) for path in paths])
    expect(page.locator("body")).to_have_attribute("data-judged", str(count))


def shot(page, name):
    folder = os.environ.get("GIEMSA_SCREENSHOTS")
    if folder:
        from PIL import Image

        path = Path(folder) / f"{name}.png"
        page.screenshot(path=path)
        Image.open(path).convert("RGB").quantize(256).save(path, optimize=True)


def violations(page):
    """Axe's verdict on what is shown; it is put into the page by the browser, past the page's own policy."""
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page).response["violations"]
    return [
        (one["id"], one["nodes"][0]["html"][:160], one["nodes"][0].get("failureSummary", "")[:200]) for one in found
    ]


def test_drawn_examples_in_one_click_with_those_to_look_at_first(page):
    judge_examples(page)
    expect(page.locator("#grid .cell")).to_have_count(32)
    words = page.locator("#grid .cell .word").all_text_contents()
    infected = sum("parasitized" in word for word in words)
    assert infected > 10
    assert all("parasitized" in word for word in words[:infected])
    expect(page.locator('[data-total="all"] b')).to_have_text("32")
    expect(page.locator('[data-total="parasitized"] b')).to_have_text(str(infected))
    expect(page.locator("footer")).to_contain_text("no diagnosis without a qualified professional")
    expect(page.locator("footer")).to_be_in_viewport()
    shot(page, "web-cells")


def test_evidence_is_laid_over_the_pictures(page):
    judge_examples(page)
    expect(page.locator("#grid canvas")).to_have_count(0)
    page.locator("#evidence").check(force=True)
    expect(page.locator("#grid canvas")).to_have_count(32)
    painted = page.locator("#grid canvas").first.evaluate(
        "canvas => canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data.some(value => value)"
    )
    assert painted
    shot(page, "web-evidence")
    page.locator("#evidence").uncheck(force=True)
    expect(page.locator("#grid canvas")).to_have_count(0)


def test_a_broken_file_and_odd_names_are_rows(page, tmp_path):
    odd = tmp_path / "<img src=x onerror=alert(1)> & 'quotes'.png"
    odd.write_bytes((EXAMPLES / "drawn_uninfected_plain_01.png").read_bytes())
    broken = tmp_path / "broken.png"
    broken.write_bytes(odd.read_bytes()[:500])
    page.on("dialog", lambda _: pytest.fail("a file's name was executed"))
    judge_files(page, [odd, broken, EXAMPLES / "drawn_parasitized_ring_01.png"], 3)
    expect(page.locator(".cell", has_text="unreadable")).to_contain_text("breaks off")
    page.locator(".cell", has_text="<img").locator("button").click()
    expect(page.locator("#look h2")).to_have_text(odd.name)
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Escape")
    expect(page.locator("#look")).to_be_hidden()


def test_verdicts_that_a_model_may_give_one_day_have_their_place(page, tmp_path):
    """No model gives these yet; the page is answered as by one that does."""
    cell = {"novelty": 0.5, "sha256": "a" * 64, "picture": None, "evidence": None}
    cells = [
        cell | {"image": "a.png", "verdict": "uninfected", "p_parasitized": 0.01, "reason": ""},
        cell
        | {"image": "b.png", "verdict": "indeterminate", "p_parasitized": 0.51, "reason": "too near the threshold"},
        cell | {"image": "c.png", "verdict": "not_a_cell", "p_parasitized": None, "reason": "unlike any red cell"},
    ]
    words = {"name": "m", "sha256": "b" * 64, "threshold": 0.5, "provider": "CPU", "giemsa": "1"}
    said = [{"judged": 0, "of": 3, "model": words}, {"judged": 3, "of": 3, "cells": cells}]
    body = "".join(json.dumps(line) + "\n" for line in said)
    answer = {"body": body, "content_type": "application/x-ndjson"}
    come_between(page, "**/api/v1/cells?**", lambda route: route.fulfill(**answer))
    legend = page.locator("dl.verdicts")
    expect(legend).to_contain_text("unreadable")
    for name in ("indeterminate", "not_a_cell"):  # not promised before it came
        expect(legend.locator(f'[data-verdict="{name}"]').first).to_be_hidden()
    for one in cells:
        (tmp_path / one["image"]).write_bytes(b"x")
    judge_files(page, sorted(tmp_path.glob("*.png")), 3)
    shown = page.locator("#grid .cell")
    expect(shown).to_have_count(3)
    for place, words in enumerate((("indeterminate", "0.51", "too near"), ("not a cell", "unlike any red cell"))):
        for word in words:
            expect(shown.nth(place)).to_contain_text(word)  # not innerText: cells out of view have none yet
    expect(page.locator('[data-total="indeterminate"] b')).to_have_text("1")
    for name in ("indeterminate", "not_a_cell"):
        expect(legend.locator(f'[data-verdict="{name}"]').first).to_be_visible()
    expect(page.locator('[data-total="not_a_cell"] b')).to_have_text("1")
    page.click("#view-table")
    for words in ("too near the threshold", "unlike any red cell", "not a cell", "0.5000"):
        expect(page.locator("#table tbody")).to_contain_text(words)
    expect(page.locator("#table th", has_text="Novelty")).to_be_visible()
    page.click('[data-total="not_a_cell"]')
    expect(page.locator("#table tbody tr")).to_have_count(1)
    page.click('[data-total="all"]')
    page.click("#view-grid")
    report = saved(page, lambda: page.click("#save-report"))
    assert "too near the threshold" in Path(report.path()).read_text()
    assert violations(page) == []


def test_who_is_at_a_cell_stays_there_when_more_come(page):
    judge_examples(page)
    title = "() => document.activeElement.title"
    page.locator("#grid .cell button").last.focus()
    before = page.evaluate(title)
    judge_files(page, sorted(EXAMPLES.glob("*_ring_*.png")), 32 + 6)
    assert before
    assert page.evaluate(title) == before


def test_filter_and_find(page):
    judge_examples(page)
    page.click('[data-total="uninfected"]')
    expect(page.locator("#grid .cell .word", has_text="parasitized")).to_have_count(0)
    assert page.evaluate("document.activeElement.dataset.total") == "uninfected"
    page.fill("#find", "torn")
    expect(page.locator("#grid .cell")).to_have_count(3)
    page.fill("#find", "nothing is called so")
    page.click("#show-all")
    expect(page.locator("#grid .cell")).to_have_count(32)


def test_the_table_sorts_and_filters(page):
    judge_examples(page)
    page.click("#view-table")
    names = page.locator("#table tbody tr td:nth-child(2)")
    expect(names).to_have_count(32)
    header = page.locator("#table th", has_text="Name")
    header.locator("button").click()
    expect(header).to_have_attribute("aria-sort", "ascending")
    expect(names.first).to_contain_text("drawn_parasitized_edge")
    header.locator("button").focus()
    page.keyboard.press("Enter")
    expect(header).to_have_attribute("aria-sort", "descending")
    expect(names.first).to_contain_text("drawn_uninfected_torn")
    expect(page.locator("#table th", has_text="Novelty")).to_have_count(0)  # this model tells none
    shot(page, "web-table")
    page.fill("#find", "plain")
    expect(names.first).to_contain_text("plain")
    page.fill("#find", "")
    names.first.locator("button").click()
    expect(page.locator("#look h2")).to_contain_text("drawn_uninfected_torn")


def test_the_table_turns_its_pages(page, tmp_path, make_zip):
    cell = next(EXAMPLES.glob("*.png")).read_bytes()
    archive = tmp_path / "many.zip"
    archive.write_bytes(make_zip({f"cell_{i:03d}.png": cell for i in range(250)}))
    judge_files(page, [archive], 250)
    page.click("#view-table")
    rows = page.locator("#table tbody tr")
    expect(rows).to_have_count(100)
    page.locator("#table th", has_text="Name").locator("button").click()
    for _ in range(2):
        page.click("text=Next page")
    expect(rows).to_have_count(50)
    expect(rows.last).to_contain_text("cell_249")
    expect(page.locator("text=Next page")).to_be_disabled()
    expect(page.locator("#table [role=status]")).to_have_text("201 to 250 of 250")
    page.select_option("#table select", "500")
    expect(rows).to_have_count(250)


def test_what_is_downloaded_is_what_was_shown(page, browser, tmp_path):
    broken = tmp_path / 'a, "quoted" <b>name.png'
    broken.write_bytes(b"no picture")
    cells = sorted(EXAMPLES.glob("*.png"))[:5]
    judge_files(page, [*cells, broken], 6)
    with page.expect_download() as download:
        page.click("#save-csv")
    rows = list(csv.DictReader(io.StringIO(Path(download.value.path()).read_text(), newline="")))
    assert [row["image"] for row in rows] == [*(cell.name for cell in cells), broken.name]
    import giemsa

    expected = list(giemsa.load().classify_many(cells))
    assert [row["verdict"] for row in rows] == [*(one.verdict for one in expected), "unreadable"]
    for row, one in zip(rows, expected, strict=False):
        assert float(row["p_parasitized"]) == pytest.approx(one.p_parasitized, abs=1e-6)
    page.locator("#evidence").check(force=True)
    with page.expect_download() as download:
        page.click("#save-report")
    report = tmp_path / "report.html"
    download.value.save_as(report)
    assert "http" not in report.read_text().replace("http-equiv", "")
    context = browser.new_context()
    opened = context.new_page()
    asked = []
    opened.on("request", lambda request: asked.append(request.url))
    opened.goto(report.as_uri())
    expect(opened.locator("li")).to_have_count(6)
    expect(opened.locator("body")).to_contain_text("no diagnosis without")
    expect(opened.locator("body")).to_contain_text(broken.name)
    assert opened.locator("li img").first.evaluate("image => image.naturalWidth") > 0
    assert all(url.startswith(("file:", "data:")) for url in asked)
    context.close()


def test_verdicts_are_not_lost_without_a_word(page):
    asked = []

    def answer(dialog):
        asked.append((dialog.type, dialog.message))
        dialog.dismiss()

    judge_files(page, sorted(EXAMPLES.glob("*.png"))[:2], 2)
    page.on("dialog", answer)
    page.click("#clear")
    expect(page.locator("#grid .cell")).to_have_count(2)
    assert [kind for kind, _ in asked] == ["confirm"]
    page.evaluate("location.reload()")
    expect(page.locator("#grid .cell")).to_have_count(2)
    assert [kind for kind, _ in asked] == ["confirm", "beforeunload"]
    saved(page, lambda: page.click("#save-csv"))
    page.click("#clear")
    expect(page.locator("#grid .cell")).to_have_count(0)
    assert len(asked) == 2  # they are on the disk


def test_examples_are_cleared_without_a_word(page):
    page.on("dialog", lambda _: pytest.fail("nobody would miss them"))
    judge_examples(page)
    page.click("#clear")
    expect(page.locator("#grid .cell")).to_have_count(0)


def test_a_threshold_has_no_more_digits_than_it_needs(page):
    judge_examples(page)
    page.locator(".cell button").first.click()
    expect(page.locator("#look")).to_contain_text("(parasitized from 0.6233)")
    report = Path(saved(page, lambda: page.locator("#save-report").dispatch_event("click")).path()).read_text()
    assert "p_parasitized &gt;= 0.6233." in report


def test_who_goes_astray_is_shown_the_way(page):
    page.forgiven.append("404")
    page.goto("/nonsense")
    expect(page.locator("h1")).to_have_text("Not Found")
    expect(page.locator("main")).to_contain_text("There is nothing at /nonsense")
    assert violations(page) == []
    page.click("footer >> text=API")
    expect(page.locator("#swagger")).to_contain_text("/api/v1/cells")


def test_a_thousand_cells(page, tmp_path, make_zip):
    cells = [path.read_bytes() for path in sorted(EXAMPLES.glob("*.png"))]
    archive = tmp_path / "thousand.zip"
    archive.write_bytes(make_zip({f"cell_{i:04d}.png": cells[i % len(cells)] for i in range(1_000)}))
    page.evaluate("""() => {
        window.seen = [];
        const text = document.getElementById("progress-text");
        new MutationObserver(() => seen.push(text.textContent)).observe(text, { childList: true });
    }""")
    judge_files(page, [archive], 1_000)
    said = page.evaluate("seen")
    assert len([text for text in said if "of 1,000 cells read" in text]) > 3
    assert said[-1] == "1,000 of 1,000 cells read"
    expect(page.locator("#grid .cell")).to_have_count(1_000)
    expect(page.locator('[data-total="all"] b')).to_have_text("1,000")
    page.fill("#find", "0999")
    expect(page.locator("#grid .cell")).to_have_count(1)


def test_the_threshold_moves_the_figures(page):
    page.click("nav >> text=Model")
    expect(page.locator("body")).to_have_attribute("data-model", "ready")

    def table():
        return [int(text.replace(",", "")) for text in page.locator("#confusion-table td").all_inner_texts()]

    before = table()
    page.locator("#threshold").focus()
    for _ in range(20):
        page.keyboard.press("ArrowRight")
    after = table()
    assert sum(before) == sum(after) > 1_000
    assert after[0] < before[0]  # fewer called parasitized
    assert after[2] < before[2]
    for _ in range(20):
        page.keyboard.press("ArrowLeft")
    assert table() == before
    page.click("text=1 in 10,000")
    low = page.locator("#live-figures .figure", has_text="(PPV)").locator("b").inner_text()
    page.click("text=50 %, as in the data set")
    high = page.locator("#live-figures .figure", has_text="(PPV)").locator("b").inner_text()
    assert float(high.split()[0]) > float(low.split()[0])
    expect(page.locator("#roc svg.chart")).to_be_attached()
    expect(page.locator("#live-figures")).to_contain_text("in a million healthy cells")
    shot(page, "web-model")


def test_a_click_on_the_curve_sets_the_threshold(page):
    page.click("nav >> text=Model")
    expect(page.locator("body")).to_have_attribute("data-model", "ready")
    before = page.locator("#threshold-said").inner_text()
    chart = page.locator("#roc svg.chart")
    mark = chart.locator(".mark")
    chart.scroll_into_view_if_needed()
    at = mark.bounding_box()
    page.mouse.click(at["x"] + 40, at["y"] + 2)
    expect(page.locator("#threshold-said")).not_to_have_text(before)
    after = mark.bounding_box()
    assert after["x"] > at["x"]  # more false alarms
    page.mouse.move(after["x"] + 7, after["y"] + 7)
    expect(page.locator("#roc .told")).to_contain_text("sensitivity")
    expect(page.locator("#live-note")).to_contain_text("verdicts are given at 0.6233")


def begin_review(page, name):
    judge_examples(page)
    page.click("#to-review")
    expect(page.locator("body")).to_have_attribute("data-review", "ready")
    page.fill("#reviewer", name)
    page.keyboard.press("Tab")
    expect(page.locator("#page-review")).to_contain_text("0 of 32 cells answered")


@contextmanager
def drawn_anew(page):
    """Go on when the review has been drawn another time."""
    page.evaluate("() => document.getElementById('review-body').firstChild.classList.add('drawn-before')")
    yield
    expect(page.locator(".drawn-before")).to_have_count(0)


def test_a_review_with_the_keyboard_alone(page, site):
    import httpx

    begin_review(page, "Keyboard")
    expect(page.locator("#page-review .answers")).to_be_visible()
    for key in ("p", "u", "d"):
        page.keyboard.press(key)
    expect(page.locator("#page-review")).to_contain_text("3 of 32 cells answered")
    page.keyboard.press("z")
    expect(page.locator("#page-review")).to_contain_text("2 of 32 cells answered")
    expect(page.locator("#page-review h2").first).to_have_text("Cell 3")
    shot(page, "web-review")
    page.keyboard.press("n")
    expect(page.locator("body")).to_have_attribute("data-unsaved", "0")
    kept = httpx.get(f"{site}/api/v1/reviews?reviewer=Keyboard", trust_env=False).json()
    assert [one["answer"] for one in kept] == ["parasitized", "uninfected", "not_a_cell"]
    page.click("text=Compute again")
    expect(page.locator("#page-review")).to_contain_text("Keyboard and the model")


def test_after_the_name_and_enter_keys_are_answers(page):
    judge_examples(page)
    page.click("#to-review")
    expect(page.locator("body")).to_have_attribute("data-review", "ready")
    page.click("#reviewer")
    page.keyboard.type("Enter")
    page.keyboard.press("Enter")
    page.keyboard.press("p")
    expect(page.locator("#page-review")).to_contain_text("1 of 32 cells answered")
    expect(page.locator("#reviewer")).to_have_value("Enter")


def test_the_click_that_ends_the_name_is_an_answer(page):
    judge_examples(page)
    page.click("#to-review")
    expect(page.locator("body")).to_have_attribute("data-review", "ready")
    page.click("#reviewer")
    page.keyboard.type("First click")
    page.click('[data-answer="uninfected"]')
    expect(page.locator("#page-review")).to_contain_text("1 of 32 cells answered")
    expect(page.locator("body")).to_have_attribute("data-unsaved", "0")
    expect(page.locator("#page-review")).to_contain_text("1 of 32 cells answered")


def test_of_two_answers_to_a_cell_the_later_counts_though_the_earlier_is_sent_again(page, site):
    import httpx

    page.forgiven.append("ERR_FAILED")
    tries = []

    def lose_the_first(route):
        tries.append(route.request.post_data_json["answer"])
        if len(tries) == 1:
            route.abort()
        else:
            route.continue_()

    come_between(page, "**/api/v1/reviews", lose_the_first)
    begin_review(page, "Second thoughts")
    for key in ("d", "z", "n"):
        page.keyboard.press(key)
    expect(page.locator("body")).to_have_attribute("data-unsaved", "0")  # it was 3 when the keys had been pressed
    assert tries == ["unsure", "unsure", "withdrawn", "not_a_cell"]
    kept = httpx.get(f"{site}/api/v1/reviews?reviewer=Second thoughts", trust_env=False).json()
    assert [one["answer"] for one in kept] == ["not_a_cell"]


def test_answers_given_while_older_ones_are_read_count(page):
    """Who goes on before the server has told of earlier answers loses neither the new ones nor the place."""
    held, sent = [], []

    def hold(route):
        if "Quick" in route.request.url and not held:
            held.append(route)
        else:
            route.continue_()

    come_between(page, "**/api/v1/reviews?reviewer=**", hold)
    page.on("request", lambda asked: sent.append(asked.post_data_json) if asked.url.endswith("/reviews") else None)
    begin_review(page, "Quick")
    for key in ("p", "u", "z"):
        page.keyboard.press(key)
    expect(page.locator("body")).to_have_attribute("data-unsaved", "0")
    assert [one["answer"] for one in sent] == ["parasitized", "uninfected", "withdrawn"]
    with drawn_anew(page):
        held[0].fulfill(json=[{"image_sha256": one["image_sha256"], "answer": "unsure"} for one in sent])
    expect(page.locator("#page-review")).to_contain_text("1 of 32 cells answered")
    page.keyboard.press("ArrowLeft")
    expect(page.locator('[data-answer="parasitized"]')).to_have_attribute("aria-pressed", "true")


def test_what_has_the_focus_keeps_it_when_the_review_is_drawn_anew(page):
    def focused():
        return page.evaluate("document.activeElement.dataset.answer || document.activeElement.id")

    begin_review(page, "Keys")
    page.locator('[data-answer="uninfected"]').focus()
    for answered in ("1 of 32", "2 of 32"):
        page.keyboard.press("Enter")
        expect(page.locator("#page-review")).to_contain_text(f"{answered} cells answered")
        assert focused() == "uninfected"
    page.locator("#reviewer").focus()
    page.keyboard.type(" of somebody")
    with drawn_anew(page):
        page.evaluate(
            "import('/static/pages.mjs').then(({ show }) => show('/review', false))"
        )  # as when the data come late
    assert focused() == "reviewer"
    expect(page.locator("#reviewer")).to_have_value("Keys of somebody")


def test_kept_pictures_are_reviewed_by_somebody_else(page):
    judge_files(page, sorted(EXAMPLES.glob("drawn_parasitized_ring_*.png"))[:3], 3)
    page.click("#to-review")
    expect(page.locator("body")).to_have_attribute("data-review", "ready")
    page.click("#keep")
    expect(page.locator("#take")).to_contain_text("(3)")
    page.reload()
    expect(page.locator("body")).to_have_attribute("data-review", "ready")
    page.fill("#reviewer", "Somebody else")
    page.keyboard.press("Tab")
    expect(page.locator("body")).to_have_attribute("data-review", "ready")  # no button is replaced while clicked
    page.click("#take")
    expect(page.locator("#page-review")).to_contain_text("0 of 3 cells answered")
    page.keyboard.press("p")
    expect(page.locator("#page-review")).to_contain_text("1 of 3 cells answered")
    expect(page.locator("body")).to_have_attribute("data-unsaved", "0")


def test_kept_pictures_can_be_removed(page, site):
    import httpx

    judge_files(page, sorted(EXAMPLES.glob("drawn_uninfected_torn_*.png"))[:3], 3)
    page.click("#to-review")
    expect(page.locator("body")).to_have_attribute("data-review", "ready")
    page.click("#keep")
    rows = page.locator("#kept li")
    expect(rows.filter(has_text="torn")).to_have_count(3)  # kept by now, so that nothing is drawn anew
    page.locator("#kept summary").focus()
    page.keyboard.press("Enter")
    expect(rows.first).to_be_visible()
    assert violations(page) == []
    before = rows.count()
    rows.filter(has_text="torn").first.locator("button").click()
    expect(rows).to_have_count(before - 1)
    page.on("dialog", lambda dialog: dialog.accept())
    page.click("#remove-all")
    expect(page.locator("#kept")).to_have_count(0)
    expect(page.locator("#take")).to_be_disabled()
    assert httpx.get(f"{site}/api/v1/pictures", trust_env=False).json() == []


def read_smear(page, paths, count):
    page.click("nav >> text=Smear")
    page.set_input_files("#smear-files", [str(path) for path in paths])
    expect(page.locator("body")).to_have_attribute("data-smear", str(count))


def saved(page, press):
    with page.expect_download() as download:
        press()
    return download.value


def test_a_smear_is_counted_and_its_cells_decided_on_by_keyboard(page, tmp_path, monkeypatch, capsys):
    """The count that follows in the page is the command's with the file that the page saved, to the digit."""
    import giemsa.cli

    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no photograph")
    read_smear(page, [*sorted(FIELDS.glob("*.jpg")), broken], 4)
    headline = page.locator("#smear-live #headline")
    expect(headline).to_contain_text("red cells of 3 fields")
    meaning = page.locator("#smear-live #meaning")
    expect(meaning).to_contain_text("95 %")
    before = headline.inner_text()
    expect(page.locator("#smear-live .left-out")).to_contain_text("broken.jpg")
    numbers = [float(text) for text in page.locator("#smear-live .cell b").all_text_contents()]
    assert numbers == sorted(numbers, reverse=True)
    for key in ("ArrowRight", "c", "r", "r", "u"):
        page.keyboard.press(key)
    expect(page.locator("#smear-live .cell").nth(0).locator(".decision")).to_have_text("parasite")
    expect(page.locator("#smear-live .cell").nth(1).locator(".decision")).to_have_text("no parasite")
    expect(page.locator("#smear-live #progress")).to_contain_text("1 confirmed, 2 rejected")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("u")
    expect(page.locator("#smear-live #progress")).to_contain_text("1 confirmed, 1 rejected")
    page.locator("#smear-live details.field summary").first.click()
    page.locator("#smear-live details.field").first.locator("rect.uninfected").first.click()
    expect(page.locator("#smear-live #progress")).to_contain_text("2 confirmed, 1 rejected")
    page.keyboard.press("n")
    expect(page.locator("#smear-live .cell.current")).to_be_focused()
    expect(page.locator("#smear-live .cell.current .decision")).to_have_text("")
    page.locator("#smear-live .complete").first.check()
    after, understood = headline.inner_text(), meaning.inner_text()
    per_ul = page.locator("#smear-live #per-ul").inner_text()
    assert after != before
    decisions = tmp_path / "decisions.json"
    saved(page, lambda: page.keyboard.press("s")).save_as(decisions)
    page.set_viewport_size({"width": 1280, "height": 1180})
    page.locator("#smear-live details.field summary").first.click()
    page.locator("#smear-live").evaluate("element => element.scrollIntoView()")
    shot(page, "web-smear")

    monkeypatch.chdir(tmp_path)
    asked = ["smear", str(FIELDS), "--output", "out", "--threads", "1", "--decisions", str(decisions)]
    assert giemsa.cli.main(asked) == 0
    said = capsys.readouterr().out
    assert after in said
    assert understood in said
    assert per_ul in said
    assert len(json.loads(decisions.read_text())["complete_fields"]) == 1


def test_a_smears_report_carries_what_was_decided(page, browser, tmp_path):
    page.click("nav >> text=Smear")
    page.fill("#smear-patient", "P </script> <1>")
    page.click("#smear-examples")
    expect(page.locator("body")).to_have_attribute("data-smear", "3")
    for key in ("c", "r"):
        page.keyboard.press(key)
    page.locator("#smear-live details.field summary").first.click()
    page.locator("#smear-live details.field").first.locator("rect.uninfected").first.click()
    headline, progress = (page.locator(f"#smear-live #{name}").inner_text() for name in ("headline", "progress"))
    download = saved(page, lambda: page.click("#smear-report"))
    assert download.suggested_filename == "report-P_script_1_.html"
    report = tmp_path / "report.html"
    download.save_as(report)
    context = browser.new_context()
    opened = context.new_page()
    complaints, asked = [], []
    opened.on("console", lambda said: complaints.append(said.text))
    opened.on("request", lambda request: asked.append(request.url))
    opened.goto(report.as_uri())
    expect(opened.locator("h1")).to_have_text("Smear of P </script> <1>")
    expect(opened.locator("#headline")).to_have_text(headline)
    expect(opened.locator("#progress")).to_have_text(progress)
    opened.keyboard.press("c")  # the first again, which had been confirmed
    opened.keyboard.press("c")  # and the second, which had been rejected
    expect(opened.locator("#progress")).to_contain_text("3 confirmed, 0 rejected")
    decisions = tmp_path / "decisions.json"
    saved(opened, lambda: opened.click("#save")).save_as(decisions)
    context.close()
    assert not complaints
    assert all(url.startswith(("file:", "data:")) for url in asked)

    page.set_input_files("#smear-decisions", str(decisions))
    expect(page.locator("#smear-live #progress")).to_contain_text("3 confirmed, 0 rejected")
    page.fill("#smear-red-cells", "4,000,000")
    page.click("#smear-again")
    expect(page.locator("#smear-live")).to_contain_text("4,000,000 red cells per microlitre, as given")
    expect(page.locator("#smear-live #progress")).to_contain_text("3 confirmed, 0 rejected")
    other = tmp_path / "other.json"
    other.write_text('{"cells": []}')
    page.set_input_files("#smear-decisions", str(other))
    expect(page.locator("#trouble")).to_contain_text("no file of decisions")
    page.on("dialog", lambda dialog: dialog.accept())
    page.click("#smear-clear")
    expect(page.locator("#smear-live")).to_have_count(0)


def test_what_goes_wrong_with_a_smear_is_said(page, tmp_path):
    nothing = tmp_path / "notes.txt"
    nothing.write_text("no photograph")
    reached = [True]
    come_between(page, "**/api/v1/smears?**", lambda route: route.continue_() if reached[-1] else route.abort())
    read_smear(page, [nothing], 1)
    expect(page.locator("#smear-live #headline")).to_contain_text("Nothing was counted")
    expect(page.locator("#smear-live .left-out")).to_contain_text("notes.txt")
    page.keyboard.press("c")  # nothing to decide on
    reached.append(False)
    page.click("#smear-again")
    expect(page.locator("#trouble")).to_contain_text("cannot be reached")
    page.forgiven.append("ERR_FAILED")


def test_a_server_with_a_token_asks_for_it_once(browser, tiny_model, start_server):
    with start_server(model=str(tiny_model), token="token-of-the-test") as server:
        context = browser.new_context(base_url=server.url)
        page = context.new_page()
        page.set_default_timeout(SLOW)
        page.goto("/")
        page.click("#examples")
        for attempt in ("wrong-token", "token-of-the-test"):
            page.locator("#ask-token").wait_for()
            page.fill("#token", attempt)
            page.click("text=Go on")
        expect(page.locator("body")).to_have_attribute("data-judged", "32")
        page.click("nav >> text=Model")
        expect(page.locator("#model-card")).to_contain_text("tiny")
        context.close()


def fits(page):
    """Tell whether nothing is wider than the window; curves are fitted to it a moment after they are drawn."""
    for _ in range(50):
        if page.evaluate("() => document.documentElement.scrollWidth <= innerWidth"):
            return True
        page.wait_for_timeout(100)
    return False


@pytest.mark.parametrize(
    "page",
    [{"color_scheme": "light"}, {"color_scheme": "dark", "viewport": {"width": 360, "height": 740}}],
    indirect=True,
    ids=["light, wide", "dark, narrow"],
)
def test_everybody_can_use_it(page, tmp_path):
    """No violation that axe-core finds, nothing wider than the window, on every page."""
    assert violations(page) == []
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    judge_files(page, [*sorted(EXAMPLES.glob("*.png"))[10:20], broken], 11)
    page.locator("#evidence").check(force=True)
    assert violations(page) == []
    assert fits(page)
    shot(page, f"web-cells-{page.viewport_size['width']}")
    page.locator(".cell button").first.click()
    assert violations(page) == []
    page.keyboard.press("Escape")
    page.click("#view-table")
    expect(page.locator("#table tbody tr").first).to_be_visible()
    assert violations(page) == []
    assert fits(page)
    page.click("nav >> text=Model")
    expect(page.locator("body")).to_have_attribute("data-model", "ready")
    expect(page.locator("#roc svg.chart")).to_be_attached()
    assert violations(page) == []
    assert fits(page)
    page.click("nav >> text=Review")
    expect(page.locator("body")).to_have_attribute("data-review", "ready")
    expect(page.locator("#page-review .answers")).to_be_visible()
    assert violations(page) == []
    assert fits(page)
    read_smear(page, [sorted(FIELDS.glob("*.jpg"))[0], broken], 2)
    for key in ("c", "r"):
        page.keyboard.press(key)
    page.locator("#smear-live details.field summary").first.click()
    assert violations(page) == []
    assert fits(page)
    shot(page, f"web-smear-{page.viewport_size['width']}")


@pytest.mark.parametrize("page", [{"viewport": {"width": 360, "height": 740}}], indirect=True)
def test_on_a_phone_what_matters_is_in_view(page):
    judge_files(page, sorted(EXAMPLES.glob("*.png"))[:4], 4)
    expect(page.locator("#grid .cell .word").first).to_be_in_viewport()
    page.locator(".cell button").first.click()
    expect(page.locator("#look .shown")).to_be_in_viewport(ratio=1)
    page.keyboard.press("Escape")
    page.click("nav >> text=Review")
    expect(page.locator("body")).to_have_attribute("data-review", "ready")
    for answer in ("parasitized", "not_a_cell"):
        expect(page.locator(f'[data-answer="{answer}"]')).to_be_in_viewport(ratio=1)
    page.on("dialog", lambda dialog: dialog.accept())  # the verdicts may go


def test_it_is_used_by_keyboard_alone(page):
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    reached = []
    for _ in range(12):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id || document.activeElement.textContent"))
    assert "examples" in reached
    page.locator("#examples").focus()
    page.keyboard.press("Enter")
    expect(page.locator("body")).to_have_attribute("data-judged", "32")
    page.locator("#evidence").focus()
    page.keyboard.press("Space")
    expect(page.locator("#grid canvas")).to_have_count(32)
    page.locator(".cell button").first.focus()
    page.keyboard.press("Enter")
    expect(page.locator("#look")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("#look")).to_be_hidden()


def test_the_api_is_described_in_the_browser(page, site):
    page.goto("/docs")
    expect(page.locator("#swagger")).to_contain_text("/api/v1/cells")
