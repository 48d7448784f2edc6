"""The tables of a run, and the page that is made of them."""

from pathlib import Path

import page
import pytest
import results
import table
from results import Results
from rows import Row, Sample
from scenarios import SCENARIOS


def row(peer: str, *figures: dict[str, float], errors: dict[str, int] | None = None) -> Row:
    return Row(peer, [Sample(each, errors or {}) for each in figures])


def crowd(per_cpu_second: float, first: float, p99: float) -> dict[str, float]:
    named = {"per_cpu_second": per_cpu_second, "first_requests": first, "steady_p99_ms": p99}
    return named | {"steady_p50_ms": 1, "first_p99_ms": 1, "resident_mib": 1, "upstream_connections": 1}


def real(peer: str, *figures: float) -> Row:
    named = ({"per_cpu_second": each, "per_second": each, "p50_ms": 1.0, "p99_ms": 2.0} for each in figures)
    return row(peer, *named)


def run(**tables: list[Row]) -> Results:
    return Results("a machine", {"rounds": 3, "seconds": 1}, {"nginx": "1.2"}, {}, 60.0, tables)


def cells(text: str, peer: str) -> list[str]:
    line = next(line for line in text.splitlines() if line.startswith(f"| {peer} |"))
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_a_ratio_is_the_median_of_those_within_each_round() -> None:
    """The machine is half as fast in the second round, which the ratio does not show."""
    text = table.markdown(
        SCENARIOS["real"], [real("nginx", 1000, 500, 1000), real("token-proxy", 700, 350, 600)]
    )
    assert cells(text, "token-proxy")[1:3] == ["600 (350-700)", "0.70"]


def test_further_columns_have_ratios_of_their_own() -> None:
    rows = [row("nginx", crowd(1000, 200, 10)), row("token-proxy", crowd(500, 300, 40))]
    text = table.markdown(SCENARIOS["many"], rows)
    headings = cells(text, "proxy")
    found = dict(zip(headings[:3], cells(text, "token-proxy")[:3], strict=True))
    assert found["vs nginx"] == "0.50"
    at = headings.index("p99 ms (min-max)")
    assert cells(text, "token-proxy")[at : at + 2] == ["40 (40-40)", "4.00"]
    at = headings.index("responses in the first second (min-max)")
    assert cells(text, "token-proxy")[at : at + 2] == ["300 (300-300)", "1.50"]


def test_errors_and_faults_are_shown() -> None:
    rows = [row("nginx", {"per_cpu_second": 1.0}, errors={"read": 2}), Row("envoy", fault="not built")]
    text = table.markdown(SCENARIOS["real"], rows)
    assert cells(text, "nginx")[-1] == "2 read"
    assert cells(text, "envoy")[-1] == "not built"


def test_the_page_has_all_tables_and_a_summary(tmp_path: Path) -> None:
    found = run(real=[real("nginx", 1000), real("token-proxy", 600), real("uncompiled", 450)], small=[])
    found.write(tmp_path / "run.json")
    text = page.speed(results.read(tmp_path / "run.json"))
    assert "| `real` | requests per CPU-second | 0.60 | - | 0.45 |" in text
    assert "| `small` | requests per CPU-second | - | - | - |" in text
    assert cells(text, "token-proxy")[1:3] == ["600 (600-600)", "0.60"]
    assert "Machine: a machine." in text


def test_runs_in_parts_become_one_run_and_the_later_one_counts() -> None:
    parts = [run(real=[real("nginx", 1)], small=[real("nginx", 2)]), run(small=[real("nginx", 3)])]
    whole = results.together(parts)
    assert list(whole.tables) == ["real", "small"]
    assert whole.tables["small"][0].median("per_cpu_second") == 3
    assert whole.took == 120


def test_runs_on_two_machines_are_not_one_run() -> None:
    other = Results("another machine", {"rounds": 3, "seconds": 1}, {}, {}, 1.0, {})
    with pytest.raises(ValueError, match="expected runs of one machine"):
        results.together([run(), other])
