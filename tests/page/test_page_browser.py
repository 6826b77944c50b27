"""The page in a real browser: the system's Chromium, without a window, opening the file from disk."""

import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Browser, Locator, Page, sync_playwright

from benchmark.analysis.cells import Analysis, analysis_of
from benchmark.analysis.format import percent
from benchmark.analysis.statistics import estimate
from benchmark.analysis.weights import learned_weights, weights_correlation
from benchmark.core.method import Method
from benchmark.core.registry import METHODS, TASKS
from benchmark.page.data import page_payload
from benchmark.page.render import page as page_of
from benchmark.page.render import render, write_page
from benchmark.reports.headline import (
    Column,
    broken_columns,
    comparison_columns,
    effect_columns,
    headline_columns,
    ranked,
    score_table,
    ties,
)
from benchmark.results.layout import MANIFEST
from benchmark.results.manifest import manifest_of
from benchmark.results.store import ResultStore
from support.synthetic import Task, default_tasks, entry, evaluation, fill, put

pytestmark = pytest.mark.browser

OPTIONS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
)
HOSTILE = """</script><script>document.title='owned'</script><img src=x onerror="owned()"> "quoted" & 'so' {{script}}"""
Open = Callable[..., Page]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One for the module, with a new, empty profile."""
    program = shutil.which("chromium")
    if program is None:
        why = "no chromium here (apt-get install --no-install-recommends chromium)"
        if os.environ.get("CI") == "true":
            pytest.fail(why)
        pytest.skip(why)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=OPTIONS.split())
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def windows(browser: Browser) -> Iterator[tuple[dict[str, Page], list[str]]]:
    """Windows by their options, each opened once; and what they said on a console or asked the network for."""
    pages: dict[str, Page] = {}
    yield pages, []
    for page in pages.values():
        page.context.close()


@pytest.fixture
def open_page(browser: Browser, windows: tuple[dict[str, Page], list[str]]) -> Iterator[Open]:
    """Opens files. At the end nothing may have been said on a console, nor asked for besides the files."""
    pages, faults = windows
    faults.clear()

    def opened(path: Path, width: int = 1280, address: str = "", **options: Any) -> Page:
        key = f"{width} {sorted(options.items())}"
        if key not in pages:
            context = browser.new_context(viewport={"width": width, "height": 800}, **options)
            context.set_default_timeout(60_000)  # for a busy machine
            pages[key] = page = context.new_page()
            page.on("console", lambda message: faults.append(f"console: {message.text}"))
            page.on("pageerror", lambda error: faults.append(f"error: {error}"))
            page.on("request", lambda request: faults.append(f"request: {request.url}"))
        page = pages[key]
        page.emulate_media(media="screen")
        page.goto("about:blank")  # else another address of the same file would not load it again
        page.goto(path.as_uri() + address)
        own = (f"request: {path.as_uri()}", "request: data:")
        faults[:] = [fault for fault in faults if not fault.startswith(own)]
        return page

    yield opened
    assert not faults


@pytest.fixture(scope="module")
def analysis(made: Path) -> Analysis:
    return analysis_of(ResultStore(made.parent / "results" / "default"))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of two made-up suites."""
    root = tmp_path_factory.mktemp("browser")
    installed = Task("sentiment-to-tweets", fingerprint="e5", version=TASKS["sentiment-to-tweets"].version)
    fill(ResultStore(root / "results" / "default"), [*default_tasks(), installed])
    methods = ("naive", "ensemble", "raven")
    fill(ResultStore(root / "results" / "other"), [Task("replies", "preference", "accuracy")], methods, range(2))
    return write_page(root / "results" / "default", root)


@pytest.fixture
def page(made: Path, open_page: Open) -> Page:
    return open_page(made)


def rows(page: Page) -> list[str]:
    return page.locator("#table tbody tr").evaluate_all("rows => rows.map(row => row.dataset.row)")


def column(page: Page, header: str) -> dict[str, str]:
    """Row -> text of the column whose header begins so."""
    heads = [text.split(" ↓")[0].split(" ↑")[0] for text in page.locator("#table thead th").all_inner_texts()]
    at = next(i for i, text in enumerate(heads) if " ".join(text.split()).startswith(header))
    cells = page.locator(f"#table tbody tr > :nth-child({at + 1})").all_inner_texts()
    return dict(zip(rows(page), (" ".join(cell.split()).replace("−", "-") for cell in cells), strict=True))


def choose(page: Page, **choices: str) -> None:
    for name, value in choices.items():
        page.check(f"input[name={name}][value={value}]")


def open_task(page: Page, name: str) -> Locator:
    """The panel of a task, drawn: its event comes a moment after the click."""
    panel = page.locator(f"details[data-task={name}]")
    panel.locator("summary").click()
    panel.locator("table").first.wait_for()
    return panel


def head(page: Page, label: str) -> Locator:
    return page.locator("#table thead button", has_text=label)


# --- the leaderboard -------------------------------------------------------------------------------------------------


def test_families_of_methods_are_a_column_and_words(open_page: Open, tmp_path: Path, page: Page) -> None:
    assert head(page, "family").count() == 0, "results that name none"
    store = ResultStore(tmp_path / "results" / "default")
    fill(store, default_tasks(), ("ground_truth", "foreign"))
    for task in default_tasks():
        put(store, task, "ensemble", family="averaging")
        put(store, task, "raven", family="source-free adaptation")
    page = open_page(write_page(store.root, tmp_path))
    assert column(page, "family") == {
        "ensemble": "averaging",
        "raven": "source-free adaptation",
        "foreign": "other",
    }
    head(page, "family").click()
    assert [*column(page, "family").values()] == ["averaging", "other", "source-free adaptation"]
    page.locator("#claims summary", has_text="Which families of methods work where").click()
    assert page.locator("#claims li", has_text="Source-free adaptation:").is_visible()
    page.locator("#table button.link", has_text="Raven").click()
    assert "source-free adaptation" in page.locator("#detail dl").first.inner_text()


def test_the_numbers_are_the_leaderboards(page: Page, analysis: Analysis) -> None:
    choose(page, canaries="on", ablations="on")
    columns = {c.header: c for c in (*headline_columns(analysis), *comparison_columns(analysis))}
    columns |= {c.header: c for c in (*effect_columns(analysis), *broken_columns(analysis)) if isinstance(c, Column)}
    shown = {
        "mean of 5 tasks": "all OOD",
        "plain mean": "all OOD (plain mean)",
        "minus ensemble": "all OOD, minus ensemble",
        "image": "image OOD",
        "text": "text OOD",
        "preference": "preference OOD",
        "PGR": "PGR OOD (5/5 tasks)",
        "failures": "failure rate OOD",
    }
    for header, name in shown.items():
        expected = {row: columns[name].text(row) for row in analysis.titles}
        assert column(page, header) == expected | {row: "–" for row, text in expected.items() if text == "not run"}
    scores = score_table(analysis)
    assert column(page, "rank") == {row: scores.lines[row][0] for row in analysis.titles}
    assert ties(analysis, analysis.headline("ood")).replace("`", "") in page.locator("#table").inner_text()
    choose(page, supervisors="broken")
    broken = columns["broken supervisor OOD"]
    assert column(page, "mean of 1 task") == {row: broken.text(row) for row in analysis.titles}
    choose(page, supervisors="sound", condition="ind")
    assert column(page, "mean of 5 tasks") == {row: columns["all InD"].text(row) for row in analysis.titles}


def test_a_modality_shows_its_tasks(page: Page, analysis: Analysis) -> None:
    choose(page, condition="ind", modality="image")
    for task in ("digits", "solar"):
        cell = analysis.cells[task, "ind"]
        expected = {row: percent(estimate([cell.samples[row]])) for row in rows(page)}
        assert column(page, task) == expected
    cells = analysis.select("ind", "image")
    expected = {row: percent(analysis.over(cells, lambda cell, row=row: cell.score(row))) for row in rows(page)}
    assert column(page, "mean of 2 tasks") == expected
    assert page.locator("#tasks summary").all_inner_texts()[0].startswith("digits")
    assert page.locator("#tasks summary").count() == 2
    assert (
        page.locator("#status").inner_text()
        == "3 rows; 2 image tasks, InD, no supervisor broken, each task’s own metric."
    )


def test_the_metric_and_broken_supervisors_are_filters(page: Page, analysis: Analysis) -> None:
    choose(page, supervisors="broken")
    broken = analysis.cells["tweets-broken", "ood"]
    assert column(page, "mean of 1 task")["raven"] == percent(estimate([broken.samples["raven"]]))
    own = column(page, "mean of 1 task")
    choose(page, metric="accuracy")
    mean = 100 * sum(broken.records["raven"][seed].metrics["accuracy"] for seed in range(3)) / 3
    assert column(page, "mean of 1 task")["raven"].startswith(f"{mean:.1f} ±")
    assert column(page, "mean of 1 task") != own
    choose(page, supervisors="sound")
    assert "mean of 5 tasks" in " ".join(page.locator("#table thead").inner_text().split())


def test_canaries_and_ablations_on_demand(page: Page, analysis: Analysis) -> None:
    assert rows(page) == [row for row in ranked(analysis) if row in analysis.competitors]
    choose(page, canaries="on")
    assert set(rows(page)) == set(analysis.titles) - analysis.ablations
    page.uncheck("input[name=canaries]")
    choose(page, ablations="on")
    assert set(rows(page)) == set(analysis.methods)
    page.fill("input[name=find]", "EASY")
    assert rows(page) == ["raven_no_easy"]
    page.fill("input[name=find]", "nothing like it")
    assert rows(page) == []


def test_sorting_by_a_column_both_ways(page: Page) -> None:
    choose(page, canaries="on", ablations="on")
    for label, first in (("PGR", "descending"), ("failures", "ascending"), ("image", "descending")):
        for direction in (first, "ascending" if first == "descending" else "descending"):
            head(page, label).click()
            values = [float(text.split()[0]) for text in column(page, label).values() if text[0] != "–"]
            assert values == sorted(values, reverse=direction == "descending")
            assert page.locator("#table th[aria-sort]:not([aria-sort=none])").count() == 1
            assert head(page, label).locator("xpath=..").get_attribute("aria-sort") == direction
    head(page, "method").click()
    titles = page.locator("#table tbody th .link").all_inner_texts()
    assert titles == sorted(titles, key=str.lower)


def test_incomparable_means_stand_last_both_ways(tmp_path: Path, open_page: Open) -> None:
    store = ResultStore(tmp_path / "results")
    fill(store, [Task("digits")], ("raven", "ensemble", "naive"))
    fill(store, [Task("tweets")], ("raven", "ensemble"))
    page = open_page(write_page(store.root, tmp_path))
    for _ in range(2):
        assert rows(page)[-1] == "naive"
        assert "(1/2)" in column(page, "mean of 2 tasks")["naive"]
        head(page, "mean of").click()


def test_marks_colour_a_method_in_the_figures(page: Page) -> None:
    button = page.get_by_role("button", name="Mark Naive in the figures")
    assert button.get_attribute("aria-pressed") == "false"
    assert "Naive" not in page.locator("#legend").inner_text()
    button.click()
    assert button.get_attribute("aria-pressed") == "true"
    assert "Naive" in page.locator("#legend").inner_text()
    marked = page.locator("#figures .pick[data-method=naive] .fill")
    assert marked.count() == 5 + 1 + 2  # on every task, OOD against InD, without and with a broken supervisor
    button.click()
    assert marked.count() == 0


# --- a method, a task, figures ---------------------------------------------------------------------------------------


def test_a_method_opens_by_mouse_with_all_its_numbers(page: Page, analysis: Analysis) -> None:
    page.get_by_role("button", name="Raven", exact=True).click()
    dialog = page.get_by_role("dialog", name="Raven")
    text = dialog.inner_text()
    raven: type[Method] = METHODS["raven"]
    assert "CE(q, t), t = sum_m w_m p_m" in text
    assert raven.citation in text
    assert dialog.get_by_role("link").first.get_attribute("href") == "https://arxiv.org/abs/2510.21332"
    assert re.search(r"student\.learning_rate\s+0\.001", text)
    assert "1.00 × naive" in text
    means = dialog.get_by_role("region", name="Means of the method").inner_text()
    effects = {c.header: c.text("raven") for c in effect_columns(analysis)}
    assert effects["families as random"] in means
    assert "PGR from the mean supervisor" in means
    lines = dialog.get_by_role("region", name="All numbers of the method").locator("tbody tr").all_inner_texts()
    assert len(lines) == 6 * 2
    cell = analysis.cells["digits", "ood"]
    line = next(line for line in lines if line.startswith("digits") and "OOD" in line).split()
    score, gain, recovered = (
        percent(estimate([sample]), sign)
        for sample, sign in (
            (cell.score("raven"), False),
            (cell.gain("raven", "ensemble"), True),
            (cell.recovered("raven"), False),
        )
        if sample
    )
    failed = f"{int(cell.failed('raven').values.sum())}/3"  # type: ignore[union-attr]
    seeds = [f"{100 * value:.1f}" for value in cell.samples["raven"].values]
    expected = ["digits", "OOD", *score.split(), *gain.split(), *recovered.split(), failed, "100", *seeds]
    assert [word.replace("−", "-") for word in line] == expected
    dialog.get_by_role("button", name="Close").click()
    assert not dialog.is_visible()


def test_everything_by_keyboard(page: Page) -> None:
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the leaderboard"
    assert page.locator(".skip").bounding_box()["x"] >= 0  # type: ignore[index]
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "leaderboard"

    def tab_to(text: str) -> None:
        for _ in range(60):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.textContent") == text:
                break
        assert page.evaluate("document.activeElement.textContent") == text
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"

    tab_to("PGR")
    page.keyboard.press("Enter")
    assert page.locator("#table th[aria-sort=descending]").inner_text().startswith("PGR")
    assert page.evaluate("document.activeElement.textContent").startswith("PGR")  # it keeps the focus
    tab_to("Raven")
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog", name="Raven")
    assert dialog.is_visible()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Close"
    page.keyboard.press("Escape")
    assert not dialog.is_visible()
    assert page.evaluate("document.activeElement.textContent") == "Raven"


def test_filters_by_keyboard(page: Page) -> None:
    page.focus("input[name=condition][value=ood]")
    page.keyboard.press("ArrowRight")
    assert "InD" in page.locator("#status").inner_text()
    page.focus("input[name=canaries]")
    page.keyboard.press("Space")
    assert "ground_truth" in rows(page)


def test_a_tasks_panel(page: Page, analysis: Analysis) -> None:
    panel = open_task(page, "sentiment-to-tweets")
    text = panel.inner_text()
    card = TASKS["sentiment-to-tweets"].card
    cell = analysis.cells["sentiment-to-tweets", "ood"]
    for part in (card.shift, *card.classes, card.licence, "balanced accuracy", "s0", "s1", "s2"):
        assert part in text, part
    for row in ("supervisor_ensemble", "ground_truth"):
        assert percent(estimate([cell.samples[row]])) in text
    assert [line.split()[0] for line in panel.locator("table tbody tr").all_inner_texts()] == [
        "Raven",
        "Ensemble",
        "Naive",
    ]
    drawn = panel.locator("figure").first
    assert drawn.locator(".floor").count() == drawn.locator(".ceiling").count() == 1
    assert drawn.locator(".pick .whisker").count() == 3
    ends = drawn.locator(".floor, .ceiling").evaluate_all("lines => lines.map(line => +line.getAttribute('x1'))")
    assert ends[0] < ends[1]
    assert panel.locator("svg .cloud").count() == 3 * 3  # supervisors and seeds, RAVEN's weights
    assert "not known here" in open_task(page, "digits").inner_text()


def test_figures_are_inline_and_to_scale(page: Page, analysis: Analysis) -> None:
    figures = page.locator("#figures figure")
    assert figures.count() == 4
    points = figures.nth(1).locator(".pick[data-method]")
    assert points.count() == 3
    at = {p.get_attribute("data-method"): p.locator(".fill, .other").bounding_box() for p in points.all()}
    ind, ood = analysis.headline("ind"), analysis.headline("ood")
    for name in ("naive", "ensemble"):
        low, high = at[name], at["raven"]
        assert low
        assert high
        over = [
            analysis.over(cells, lambda cell, r=r: cell.score(r)).mean for cells in (ind, ood) for r in (name, "raven")
        ]  # type: ignore
        assert (low["x"] < high["x"]) == (over[0] < over[1])
        assert (low["y"] > high["y"]) == (over[2] < over[3])
    assert figures.nth(2).locator(".cloud").count() == 3 * (4 * 3 + 4)  # seeds x supervisors of five tasks
    found = {(c.evaluation.family, c): weights_correlation(c, learned_weights(c, "raven")) for c in ood}
    known = {at: value for at, value in found.items() if value is not None}
    families = {family for family, _ in known}
    mean = np.mean([np.mean([v for (own, _), v in known.items() if own == family]) for family in families])
    shown = re.search(r"Raven \(rank correlation (-?\d\.\d\d)\)", figures.nth(2).inner_text())
    assert shown
    assert float(shown[1]) == pytest.approx(mean, abs=0.0052)
    figures.nth(1).locator(".pick[data-method=naive] circle").click()
    assert page.get_by_role("dialog", name="Naive").is_visible()


def test_stress_curves(made: Path, tmp_path: Path, open_page: Open) -> None:
    payload = page_payload([ResultStore(made.parent / "results" / "other")])
    page = open_page(made)
    assert page.locator("#figures figure", has_text="Supervisors made worse").locator("svg").count() == 1
    page.check("input[name=suite][value=other]")
    assert "Supervisors made worse" not in page.locator("#figures").inner_text()
    levels = [0, 1, 2]
    payload["suites"][0]["stress"] = [
        {
            "base": base,
            "kind": kind,
            "method": method,
            "levels": levels,
            "means": [80, 70, end],
            "halves": [1, None, 2],
        }
        for base in ("digits", "tweets")
        for kind in ("random", "adversarial")
        for method, end in (("raven", 65), ("naive", 50))
    ]
    path = tmp_path / "index.html"
    path.write_text(render(payload))
    figure = open_page(path).locator("#figures figure", has_text="Supervisors made worse")
    assert figure.locator("svg").count() == 4
    assert figure.locator("path.curve").count() == 8
    assert figure.locator("svg").first.locator("g.pick[data-method=raven] .whisker").count() == 2
    end = "path => path.getPointAtLength(path.getTotalLength()).y"
    assert figure.locator("g[data-method=raven] .curve").first.evaluate(end) < figure.locator(
        "g[data-method=naive] .curve"
    ).first.evaluate(end)


def test_suites_by_a_switch(page: Page) -> None:
    choose(page, modality="image")
    page.check("input[name=suite][value=other]")
    assert column(page, "mean of 1 task").keys() == {"naive", "ensemble", "raven"}
    assert page.locator("input[name=modality]").count() == 0  # there is one only
    page.check("input[name=suite][value=default]")
    assert "mean of 5 tasks" in " ".join(page.locator("#table thead").inner_text().split())


def test_a_view_is_in_its_address(made: Path, page: Page, open_page: Open) -> None:
    choose(page, condition="ind", modality="image", canaries="on")
    page.get_by_role("button", name="Ensemble", exact=True).click()
    seen = rows(page), page.locator("#status").inner_text()
    again = open_page(made, address=page.evaluate("location.hash"))
    assert (rows(again), again.locator("#status").inner_text()) == seen
    assert again.get_by_role("dialog", name="Ensemble").is_visible()
    assert (
        open_page(made, address="#suite=<b>&modality=%22&condition=no&method=__proto__").locator("#table").is_visible()
    )


# --- wherever it is read ---------------------------------------------------------------------------------------------


def test_a_phone_scrolls_tables_not_the_page(made: Path, open_page: Open) -> None:
    page = open_page(made, width=360)
    overflow = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    choose(page, canaries="on")
    open_task(page, "digits")
    assert page.evaluate(overflow) == 0
    box = page.locator("#table .scroll")
    assert box.evaluate("box => box.scrollWidth > box.clientWidth")
    page.evaluate("document.querySelector('#table .scroll').scrollLeft = 200")
    assert page.locator("#table tbody .link").first.is_visible()
    page.locator("#table tbody .link").first.click()
    assert page.locator("dialog").evaluate("box => box.scrollWidth - box.clientWidth") == 0
    assert page.evaluate(overflow) == 0


LOW_CONTRAST = """() => {
  const rgb = (text) => text.match(/[\\d.]+/g).map(Number);
  const linear = (v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  const luminance = (c) => [0.2126, 0.7152, 0.0722].reduce((sum, weight, i) => sum + weight * linear(c[i] / 255), 0);
  const behind = (e) => {
    const colour = rgb(getComputedStyle(e).backgroundColor);
    return colour[3] === 0 && e.parentElement ? behind(e.parentElement) : colour;
  };
  const said = (e) => [...e.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
  const low = [];
  for (const e of document.querySelectorAll("body *")) {
    if (!said(e) || !e.checkVisibility() || e.closest("title")) continue;
    const style = getComputedStyle(e);
    const [a, b] = [rgb(e.closest("svg") ? style.fill : style.color), behind(e)].map(luminance);
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    const what = `${e.tagName}.${e.getAttribute("class")} ${e.textContent.slice(0, 30)}`;
    if (ratio < 4.5) low.push(`${ratio.toFixed(2)} ${what}`);
  }
  return low;
}"""


def background(page: Page) -> list[int]:
    return [
        int(value) for value in re.findall(r"\d+", page.evaluate("getComputedStyle(document.body).backgroundColor"))
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_both_schemes_have_contrast_and_a_toggle(made: Path, open_page: Open, scheme: str) -> None:
    page = open_page(made, color_scheme=scheme, reduced_motion="reduce")
    choose(page, canaries="on", ablations="on")
    open_task(page, "digits")
    assert (max(background(page)) < 60) == (scheme == "dark")
    assert page.evaluate(LOW_CONTRAST) == []
    page.locator("#table .link").first.click()
    assert page.evaluate(LOW_CONTRAST) == []
    page.keyboard.press("Escape")
    toggle = page.get_by_role("button", name="Dark theme")
    assert toggle.get_attribute("aria-pressed") == str(scheme == "dark").lower()
    assert toggle.evaluate("button => getComputedStyle(button).transitionDuration") == "0s"
    toggle.click()
    assert (max(background(page)) < 60) == (scheme == "light")
    assert toggle.get_attribute("aria-pressed") == str(scheme == "light").lower()


def test_on_paper_everything_is_open_and_nothing_to_press(made: Path, open_page: Open) -> None:
    page = open_page(made, color_scheme="dark")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    page.emulate_media(media="print")
    assert min(background(page)) > 240
    assert not page.locator("#filters").is_visible()
    assert page.locator("details table").count() == 5
    assert page.pdf()[:4] == b"%PDF"


def test_without_scripts_a_table_is_there(made: Path, open_page: Open, analysis: Analysis) -> None:
    page = open_page(made, java_script_enabled=False)
    tables = page.locator("#static table")
    assert tables.count() == 2
    lines = [line.split("\t") for line in tables.first.locator("tr").all_inner_texts()]
    columns = [*headline_columns(analysis), *broken_columns(analysis)[:1]]
    assert lines[0] == ["method", *(column.header for column in columns)]
    first = ranked(analysis)[0]
    assert lines[1] == [f"{analysis.titles[first]} {first}", *(column.text(first) for column in columns)]
    assert not page.locator("#filters").is_visible()


def test_a_foreign_script_or_style_does_not_run(browser: Browser, made: Path) -> None:
    page = browser.new_page()
    page.goto(made.as_uri())
    blocked = page.evaluate("""async () => {
      const add = (tag, text) => {
        const e = document.createElement(tag);
        e.textContent = text;
        document.body.append(e);
      };
      add('script', 'window.owned = true');
      add('style', 'body { background: rgb(1, 2, 3) !important }');
      const asked = await fetch('data:text/plain,x').then(() => 'answered', () => 'refused');
      return [window.owned === true, getComputedStyle(document.body).backgroundColor, asked];
    }""")
    assert blocked[0] is False
    assert blocked[1] != "rgb(1, 2, 3)"
    assert blocked[2] == "refused"
    page.close()


# --- odd results -----------------------------------------------------------------------------------------------------


def test_hostile_text_stays_text(tmp_path: Path, open_page: Open) -> None:
    store, task = ResultStore(tmp_path / "results"), Task("digits")
    evaluated = evaluation(task, "ood", range(2)).model_copy(update={"target": HOSTILE, "supervisors": (HOSTILE,) * 3})
    options = {"student": {}, "method": {HOSTILE: HOSTILE}}
    with store.lock():
        entries = [
            entry(task, evaluated, name, s, title=HOSTILE, hyperparameters=options)
            for name in ("raven", "mine")
            for s in range(2)
        ]
        store.write_unit(evaluated, entries)
    path = tmp_path / "index.html"
    path.write_text(page_of([store]))
    for scripts in (True, False):
        page = open_page(path, java_script_enabled=scripts)
        assert page.title().startswith("w2s-bench")
        assert page.locator("img").count() == 0
        assert page.locator("script").count() == 2
        shown = page.locator("#table .link" if scripts else "#static th").all_inner_texts()
        assert sum(HOSTILE in text for text in shown) == 2
    page = open_page(path)
    page.locator("#table .link").first.click()
    assert page.locator("dialog h2").inner_text() == HOSTILE
    assert HOSTILE in page.locator(".settings").inner_text()
    page.keyboard.press("Escape")
    assert open_task(page, "digits").inner_text().count(HOSTILE) >= 4
    assert page.title().startswith("w2s-bench")


def test_one_task_one_seed_one_method(tmp_path: Path, open_page: Open) -> None:
    store = ResultStore(tmp_path / "results")
    fill(store, [Task("alone")], ("mine",), range(1), ("ind",))
    manifest = manifest_of("results", "", [*store.load().records.values()], {}, "the <b>tests</b>")
    (store.root / "mine" / MANIFEST).write_text(manifest.to_text())
    page = open_page(write_page(tmp_path / "results", tmp_path))
    assert re.fullmatch(r"\d+\.\d", column(page, "mean of 1 task")["mine"])
    assert column(page, "PGR")["mine"] == "–"
    assert page.locator("input[name=condition]").count() == 0
    assert "not run" in open_task(page, "alone").inner_text()  # the ceiling
    page.locator("#table .link").click()
    assert "No description" in page.get_by_role("dialog").inner_text()
    assert re.search("developed on\\s+the <b>tests</b>", page.get_by_role("dialog").inner_text())
    assert page.locator("dialog .whisker").count() == 0
