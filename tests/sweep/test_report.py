"""The report: what it says, that it is safe, and that a browser draws all of it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from rollouts.experiments.sweep.records import RunRecord
from rollouts.experiments.sweep.report import write_report
from rollouts.experiments.sweep.report.figures import progress
from rollouts.experiments.sweep.report.page import html
from rollouts.experiments.sweep.report.parts import Palette
from tests.sweep.browser import CHROMIUM, Page, browser
from tests.sweep.test_compare import record

pytest.importorskip("plotly", reason="the report needs plotly")

AGENTS = ("reader", "router", "writer")
NASTY = "</script><script>document.title='broken'</script>"


def template(text: str, demos: int = 0) -> dict[str, Any]:
    shown = [{"input": f"in {n} {NASTY}", "output": "out"} for n in range(demos)]
    return {"system": text, "user_template": "{x}", "few_shot_examples": shown}


def searched(method: str, seed: int, budget: str, score: float) -> RunRecord:
    """A record of r-MIPRO as a run leaves it."""
    rounds = [
        {
            "round": number,
            "modules": {name: {"new": 1 + (name == "router"), "more": number % 3, "value": 0.1} for name in AGENTS},
            "spend": {"rollouts": 20 * number},
        }
        for number in range(1, 9)
    ]
    spent = [20.0 * number for number in range(1, 9)]
    start = {name: template(f"Do {name}.") for name in AGENTS}
    best = {**start, "router": template(f"Do router well.\n{NASTY}", demos=6)}
    return record(
        method,
        seed,
        score,
        budget=budget,
        settings={"budget": {"max_rollouts": 300}},
        validation={"start": 0.4, "best": score},
        convergence={"best": [0.4 + 0.03 * n for n in range(8)], "rollouts": spent},
        allocation=rounds,
        bottleneck=[
            {"module": name, "room": 0.1 + 0.02 * seed, "low": 0.05, "high": 0.4, "source": "scores"} for name in AGENTS
        ],
        rollout={"best": {"n": 9, "micros": 20.0 + seed, "tokens": 100.0, "p95_s": 1.0 + score}},
        prompts={"start": start, "best": best},
    )


def experiment() -> list[RunRecord]:
    """Two r-MIPRO methods and the start, two budgets, seven seeds, one run that failed."""
    out = [
        searched(method, seed, budget, 0.5 + (0.02 + gain / 20) * seed + gain)
        for budget in ("small", "large")
        for method, gain in (("uniform", 0.0), ("adaptive", 0.08))
        for seed in range(7)
    ]
    start = [
        record("start", n, 0.4 + 0.01 * n, rollout={"best": {"n": 9, "micros": 9.0, "p95_s": 1.0}}) for n in range(7)
    ]
    return [*start, *out, record("adaptive", 7, None, error=f"the key {NASTY} is not valid")]


def figures(page: str) -> list[dict[str, Any]]:
    found = re.search(r'<script type="application/json" id="figures">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    return list(json.loads(found[1]))


@pytest.fixture(scope="module")
def page() -> str:
    return html(experiment(), {"name": "desk", "description": NASTY}, "uniform")


def test_every_plot_that_is_asked_for_is_there_for_each_budget(page: str) -> None:
    kinds = {figure["id"].rsplit("-", 1)[0] for figure in figures(page)}
    assert kinds == {"progress", "allocation", "headroom", "cost", "latency"}
    ids = [figure["id"] for figure in figures(page)]
    assert len(set(ids)) == len(ids) == 2 * 6
    assert all(page.count(f'id="{name}"') == 1 for name in ids)


def test_plotly_takes_the_figures_as_they_are(page: str) -> None:
    from plotly.graph_objects import Figure

    for figure in figures(page):
        Figure(data=figure["data"], layout=figure["layout"])


def test_the_table_and_the_words_are_there(page: str) -> None:
    assert "adaptive is better than uniform" in page
    assert page.count('<span class="tag better">better</span>') == 2
    assert "1 not done" in page
    assert "Do router well." in page


def test_nothing_is_loaded_and_no_text_becomes_markup(page: str) -> None:
    assert NASTY not in page
    ours = re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL)
    assert not re.search(r"""(src|href)\s*=\s*["'](?!data:)""", ours)
    assert "default-src 'none'" in page


@pytest.mark.parametrize(
    "records",
    [[record("mipro", 0, 0.5)], [record("mipro", 0, None)], [record("start", 0, 0.5)], experiment()[:9]],
    ids=["one run", "one failure", "the start alone", "one search"],
)
def test_little_to_show_is_still_a_page(records: list[RunRecord]) -> None:
    assert "</html>" in html(records, {}, None)


LOOKS = [
    pytest.param({"width": 1280, "height": 900}, id="desktop"),
    pytest.param({"width": 390, "height": 844, "phone": True}, id="phone"),
    pytest.param({"width": 390, "height": 844, "phone": True, "dark": True}, id="phone in the dark"),
]
DRAWN = """
[...document.querySelectorAll('.plot')].map((plot) => {
  const marks = [...plot.querySelectorAll('.scatterlayer path, .barlayer path')];
  const seen = marks.filter((mark) => { const box = mark.getBoundingClientRect(); return box.width + box.height > 2; });
  const box = plot.getBoundingClientRect();
  return {id: plot.id, marks: seen.length, x: box.x, y: box.y + scrollY, width: box.width, height: box.height};
})
"""


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed (scripts/test installs it where it may)")
@pytest.mark.parametrize("look", LOOKS)
async def test_a_browser_draws_every_plot_and_asks_for_nothing(tmp_path: Path, page: str, look: dict[str, Any]) -> None:
    path = tmp_path / "report.html"
    write_report(experiment(), path, config={"name": "desk", "description": NASTY}, baseline="uniform")
    async with browser(tmp_path / "profile") as tab:
        await tab.show(path.as_uri(), **look)
        await tab.until("document.documentElement && document.documentElement.dataset.drawn")
        await tab.screenshot(tmp_path / "report.png")
        plots = await tab.value(DRAWN)
        assert {plot["id"] for plot in plots} == {figure["id"] for figure in figures(page)}
        for plot in plots:
            assert plot["marks"] >= 3, plot
            assert await _painted(tab, plot), f"{plot['id']} is blank in the picture"
        assert await tab.value("document.documentElement.scrollWidth <= innerWidth"), (
            "the page is wider than its window"
        )
        assert await tab.value("document.title") == "desk"
        assert tab.requests == [path.as_uri()]
        assert tab.errors == []


async def _painted(tab: Page, plot: dict[str, Any]) -> bool:
    """Whether the picture of a plot is another one when its marks are hidden."""
    clip = {name: plot[name] for name in ("x", "y", "width", "height")}
    layers = f"document.getElementById('{plot['id']}').querySelectorAll('.scatterlayer, .barlayer')"
    whole = await tab.screenshot(clip=clip)
    await tab.value(f"{layers}.forEach((layer) => layer.style.display = 'none')")
    bare = await tab.screenshot(clip=clip)
    await tab.value(f"{layers}.forEach((layer) => layer.style.display = '')")
    return whole != bare


def convergence(*best: float | None) -> dict[str, Any]:
    return {"best": list(best), "rollouts": [30.0 * (n + 1) for n in range(len(best))]}


@pytest.mark.parametrize(
    ("curves", "modes"),
    [
        ({"a": convergence(0.5), "b": convergence(0.6)}, None),
        ({"a": convergence(0.5, None), "b": convergence()}, None),
        ({"a": convergence(0.5, 0.6), "b": {"best": [0.6], "rollouts": [60.0]}}, {"a": "lines", "b": "lines+markers"}),
    ],
)
def test_progress_shows_every_search_or_is_left_out(curves: dict[str, Any], modes: dict[str, str] | None) -> None:
    records = [
        record(method, seed, 0.5, settings={"budget": {"max_rollouts": 60}}, convergence=curve)
        for method, curve in curves.items()
        for seed in range(2)
    ]
    figure = progress(records, Palette.of(records), 0)
    shown = None if figure is None else {line["name"]: line["mode"] for line in figure.data if "name" in line}
    assert shown == modes


def test_the_column_of_effects_is_explained(page: str) -> None:
    assert page.count("<th>effect</th>") == page.count("Effect: the mean difference in standard deviations") == 2
