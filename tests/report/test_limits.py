"""Budgets, on reports made by hand (see made.py)."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from snnmetrics import Limit
from snnmetrics.report import Counts, GroupData, Report
from snnmetrics.report.limits import STATISTICS, Violation
from tests.report.made import full_report, layer, report, spread

# Of the group: mean 22.5, samples of 15 and 30, of which no step had more than 9; 40 ms in all.
FIGURES = {
    ("synops", "mean"): 22.5,
    ("synops", "max"): 30.0,
    ("synops", "p50"): 15.0,
    ("synops", "p90"): 30.0,
    ("synops", "p99"): 30.0,
    ("synops", "peak_step"): 9.0,
    ("synops_per_second", "mean"): 1125.0,
    ("synops_per_second", "max"): 1500.0,
    ("synops_per_second", "p50"): 750.0,
    ("synops_per_second", "p90"): 1500.0,
    ("synops_per_second", "p99"): 1500.0,
    ("synops_per_second", "peak_step"): 9000.0,
}


@pytest.mark.parametrize(("figure", "statistic"), FIGURES)
def test_each_statistic_of_each_figure(figure: str, statistic: str) -> None:
    made, value = full_report(), FIGURES[figure, statistic]
    above = Limit(**{figure: value * 0.98}, statistic=statistic)
    (violation,) = made.check({"core": above})
    assert (violation.name, violation.figure, violation.statistic) == ("core", figure, statistic)
    assert violation.limit == value * 0.98
    assert value * (1 - 1e-12) <= violation.value <= value * 1.0109
    assert violation.ratio == violation.value / violation.limit
    assert made.check({"core": Limit(**{figure: value * 1.0110}, statistic=statistic)}) == []


def test_every_statistic_is_tested() -> None:
    assert {statistic for _, statistic in FIGURES} == set(STATISTICS)


def test_what_equals_its_limit_is_allowed() -> None:
    assert full_report().check({"core": Limit(synops=30, statistic="max")}) == []
    assert full_report().check({"core": Limit(synops=22.5)}) == []


def test_violations_come_in_the_order_of_the_limits_and_say_what_is_wrong() -> None:
    made = full_report()
    found = made.check(
        {
            "total": Limit(synops=1, synops_per_second=10),
            "core": Limit(synops=100),
            "fc": Limit(synops_per_second=125, statistic="p99"),
        }
    )
    assert [(v.name, v.figure) for v in found] == [
        ("total", "synops"),
        ("total", "synops_per_second"),
        ("fc", "synops_per_second"),
    ]
    assert str(found[2]) == "fc: p99 of synops_per_second is 1 k, 8.00 times the limit of 125"
    assert found[0] == Violation("total", "synops", "mean", 30.0, 1.0)
    assert made.check({}) == []


def test_a_report_that_was_read_is_checked_alike() -> None:
    limits = {name: Limit(synops=1, statistic="p90") for name in ("total", "core", "fc")}
    again = Report.from_json(full_report().to_json())
    assert again.check(limits) == full_report().check(limits) != []


@pytest.mark.parametrize(
    ("kwargs", "error", "message"),
    [
        ({}, ValueError, "expected synops or synops_per_second, found neither"),
        ({"synops": 0}, ValueError, "synops"),
        ({"synops": -1.0}, ValueError, "synops"),
        ({"synops": math.nan}, ValueError, "synops"),
        ({"synops": math.inf}, ValueError, "synops"),
        ({"synops_per_second": "1"}, TypeError, "synops_per_second"),
        ({"synops": 1, "statistic": "p95"}, ValueError, "statistic: expected one of .*'p95'"),
        ({"synops": 1, "statistic": 99}, ValueError, "statistic: expected one of"),
    ],
)
def test_bad_limits(kwargs: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Limit(**kwargs)


def test_bad_arguments_of_check() -> None:
    made, limit = full_report(), Limit(synops=1)
    with pytest.raises(TypeError, match="limits: expected a mapping"):
        made.check([("core", limit)])  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"limits\['core'\]: expected a Limit, found int"):
        made.check({"core": 5})  # type: ignore[dict-item]
    with pytest.raises(ValueError, match=r"limits: expected names among .*'core'.* found 'cores'"):
        made.check({"cores": limit})


SPIKES = {"fc": layer(per_sample=spread(5, 10))}


@pytest.mark.parametrize("statistic", STATISTICS)
@pytest.mark.parametrize("name", ["total", "core", "fc"])
def test_analog_input_and_no_samples_are_no_zeros_within_a_budget(
    name: str, statistic: str
) -> None:
    """Zero is below every limit: what was not counted must not pass."""
    limit, zero = Limit(synops=1, statistic=statistic), spread(0, 0, peak_step=0)
    analog = report(
        {"fc": layer("analog")},
        groups_data={"core": GroupData(("fc",), zero, zero)},
        per_sample=zero,
        per_second=zero,
        seconds=1.0,
    )
    with pytest.raises(ValueError, match=rf"limits\['{name}'\]: expected spikes at its input"):
        analog.check({name: limit})
    none = replace(zero, samples=0)
    empty = report(
        {"fc": layer(counts=replace(Counts(), calls=1), per_sample=none)},
        samples=0,
        groups_data={"core": GroupData(("fc",), none)},
        per_sample=none,
    )
    with pytest.raises(ValueError, match="expected at least one sample, found no"):
        empty.check({name: limit})


@pytest.mark.parametrize(
    ("made", "limit", "message"),
    [
        (
            report(SPIKES, per_sample=spread(5, 10)),
            Limit(synops_per_second=1),
            "known durations: .*found no mean of synops_per_second",
        ),
        (
            report(SPIKES, per_sample=spread(5, 10)),
            Limit(synops_per_second=1, statistic="p99"),
            "known durations: .*found no p99",
        ),
        (report(), Limit(synops=1, statistic="p50"), r"figures of samples: .*per_sample=True"),
        (
            report(SPIKES, per_sample=spread(5, 10)),
            Limit(synops=1, statistic="peak_step"),
            "time steps .* known: time_dim, or batch",
        ),
    ],
)
def test_figures_that_a_report_lacks(made: Report, limit: Limit, message: str) -> None:
    for name in ("total", "fc"):
        with pytest.raises(ValueError, match=message):
            made.check({name: limit})
