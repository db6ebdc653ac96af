"""The table of docs/performance.md and its growth curves, from the results of benchmarks/results."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from benchmarks import charts, common

PAGE = common.ROOT / "docs" / "performance.md"
CURVES = common.ROOT / "docs" / "performance" / "growth.svg"
# Headings, because comments would show where the product renders the page.
BEGIN, END = "## The table\n", "## How time grows\n"


def write() -> None:
    """Put the table between the page's two headings, and draw the curves beside it."""
    results = read()
    text = PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    table = "\n".join(tables(results))
    PAGE.write_text(f"{before}{BEGIN}{table}\n\n{END}{after}", encoding="utf-8")
    CURVES.parent.mkdir(exist_ok=True)
    CURVES.write_text(charts.growth(curves(results)), encoding="utf-8")
    print(f"{PAGE.relative_to(common.ROOT)} and {CURVES.relative_to(common.ROOT)} written")


def read() -> dict[str, dict[int, dict[str, Any]]]:
    """Benchmark → size → its result, both in order."""
    found: dict[str, dict[int, dict[str, Any]]] = {}
    for path in common.RESULTS.glob("*.json"):
        result = json.loads(path.read_text(encoding="utf-8"))
        found.setdefault(result["benchmark"], {})[result["size"]] = result
    return {name: dict(sorted(found[name].items())) for name in sorted(found)}


def tables(results: Mapping[str, Mapping[int, Mapping[str, Any]]]) -> Iterator[str]:
    """One table for each benchmark: a row for each of its lines, a column for each size."""
    for name, sizes in results.items():
        last = next(reversed(sizes.values()))
        yield f"\n### {last['title']}\n"
        yield f"`script/bench {name}`. {_conditions(sizes)}\n"
        columns = [f"{size:,} {last['size_is']}" for size in sizes]
        yield f"| What | Beside it | Target | {' | '.join(columns)} |"
        yield f"|---|---|---|{'---|' * len(sizes)}"
        for line in _names(sizes):
            yield _row(line, sizes)


def _conditions(sizes: Mapping[int, Mapping[str, Any]]) -> str:
    one = next(iter(sizes.values()))["machine"]
    loads = [result["machine"][key] for result in sizes.values() for key in ("load_before", "load_after")]
    rounds = sorted({result["rounds"] for result in sizes.values()})
    return (
        f"{one['cores']} cores, {one['memory_gib']} GiB, {one['architecture']}, Python {one['python']}, load "
        f"{min(loads):g} to {max(loads):g}, {' or '.join(map(str, rounds))} rounds."
    )


def _names(sizes: Mapping[int, Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(line["name"] for result in sizes.values() for line in result["lines"]))


def _row(name: str, sizes: Mapping[int, Mapping[str, Any]]) -> str:
    lines = {size: line for size, result in sizes.items() for line in result["lines"] if line["name"] == name}
    one = next(iter(lines.values()))
    beside = "; ".join([one["limit_is"], *one["others"]]).strip("; ")
    cells = " | ".join(_cell(lines[size]) if size in lines else "" for size in sizes)
    return f"| {name} | {beside} | {one['target']} | {cells} |"


def _cell(line: Mapping[str, Any]) -> str:
    mark = {True: " ✓", False: " ✗", None: ""}[line["holds"]]
    if line["ratio"] is None:
        return f"{_value(line['aum'], line['unit'])}{mark}"
    ratio = line["ratio"]
    spread = f" ({ratio['min']:.2f} to {ratio['max']:.2f})" if ratio["min"] != ratio["max"] else ""
    beside = [line["limit"], *line["others"].values()]
    values = "; ".join(_value(value, line["unit"]) for value in beside)
    return f"**{ratio['median']:.2f}**{mark}{spread}: {_value(line['aum'], line['unit'])} beside {values}"


def _value(values: Mapping[str, float], unit: str) -> str:
    value = values["median"]
    if unit == "s" and value < 1:
        value, unit = value * 1000, "ms"
    digits = f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
    return f"{digits} {unit}".strip()


def curves(results: Mapping[str, Mapping[int, Mapping[str, Any]]]) -> list[charts.Curve]:
    """Each line that was measured at two sizes or more, in time."""
    found = []
    for sizes in results.values():
        for name in _names(sizes):
            points = {
                size: line
                for size, result in sizes.items()
                for line in result["lines"]
                if line["name"] == name and line["unit"] in {"s", "ms"} and line["limit"] and line["curve"]
            }
            if len(points) >= 2:
                factor = 1000 if next(iter(points.values()))["unit"] == "s" else 1
                found.append(
                    charts.Curve(
                        name,
                        {size: line["aum"]["median"] * factor for size, line in points.items()},
                        {size: line["limit"]["median"] * factor for size, line in points.items()},
                    )
                )
    return found
