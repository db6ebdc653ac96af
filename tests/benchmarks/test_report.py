"""The figures of `script/bench`: what a ratio means, whether a target holds, what the table shows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import charts, common, report


@pytest.fixture
def run() -> common.Run:
    return common.Run(size=1000, rounds=3, seed=1)


def test_ratio_is_taken_within_each_round_when_time_is_compared(run: common.Run) -> None:
    # The machine slowed down tenfold in the second round; neither side changed.
    line = run.add("sync", aum=[2.0, 20.0, 2.2], limit=[1.0, 10.0, 1.0], limit_is="loop", target=common.at_most(2.1))

    assert line.ratio == {"median": 2.0, "min": 2.0, "max": 2.2}
    assert line.holds


def test_ratio_is_the_share_of_the_speed_when_the_target_is_a_least(run: common.Run) -> None:
    line = run.add("append", aum=[2.0], limit=[1.0], limit_is="COPY", target=common.at_least(0.6))

    assert line.ratio is not None
    assert line.ratio["median"] == 0.5
    assert line.holds is False


def test_ratio_is_ours_over_the_limit_when_rates_are_compared(run: common.Run) -> None:
    line = run.add("calls", aum=[590], limit=[640], limit_is="slots", target=common.at_least(0.9), unit="calls/s")

    assert line.ratio is not None
    assert line.ratio["median"] == pytest.approx(0.921875)
    assert line.holds


def test_each_side_runs_once_a_round_in_an_order_that_changes(run: common.Run) -> None:
    order: list[str] = []

    def work(name: str) -> float:
        order.append(name)
        return 1.0

    run.compare("x", aum=lambda: work("aum"), limit=lambda: work("limit"), limit_is="it", rounds=20)

    assert order.count("aum") == order.count("limit") == 20
    assert {tuple(order[at : at + 2]) for at in range(0, 40, 2)} == {("aum", "limit"), ("limit", "aum")}


def test_page_keeps_its_words_when_the_table_is_written_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "docs" / "performance.md"
    page.parent.mkdir()
    page.write_text(f"# Speed\n\n{report.BEGIN}old\n\n{report.END}\nwords\n", encoding="utf-8")
    machine = {"cores": 2, "memory_gib": 24, "architecture": "x", "python": "3", "load_before": 1, "load_after": 2}
    line = {"name": "plan", "unit": "s", "limit_is": "bare", "others": {}, "target": "≤ 1.2", "holds": True}
    for size in (10_000, 100_000):
        times = {"aum": _flat(size / 1e4), "limit": _flat(size / 1e4), "ratio": _flat(1.0), "curve": True}
        result = {"benchmark": "plan", "title": "Plans", "size": size, "size_is": "people", "rounds": 5}
        (tmp_path / f"plan-{size}.json").write_text(json.dumps({**result, "machine": machine, "lines": [line | times]}))
    monkeypatch.setattr(common, "ROOT", tmp_path)
    monkeypatch.setattr(common, "RESULTS", tmp_path)
    monkeypatch.setattr(report, "PAGE", page)
    monkeypatch.setattr(report, "CURVES", page.parent / "performance" / "growth.svg")

    report.write()
    report.write()

    text = page.read_text(encoding="utf-8")
    assert text.startswith("# Speed\n")
    assert text.endswith("\nwords\n")
    assert "old" not in text
    assert text.count("| plan | bare | ≤ 1.2 | **1.00** ✓: 1 s beside 1 s | **1.00** ✓: 10 s beside 10 s |") == 1
    assert 'class="aum" points=' in report.CURVES.read_text(encoding="utf-8")


def test_curve_is_flat_when_the_time_does_not_grow() -> None:
    picture = charts.growth([charts.Curve("page", {10_000: 5.0, 1_000_000: 5.0}, {10_000: 5.0, 1_000_000: 5.0})])

    points = picture.partition('class="aum" points="')[2].partition('"')[0].split()
    assert len({point.split(",")[1] for point in points}) == 1


def _flat(value: float) -> dict[str, float]:
    return {"median": value, "min": value, "max": value}
