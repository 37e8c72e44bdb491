"""A report may come from anyone: what is read is a report or a short ValueError, soon, and no code.

Fields and their ranges are tried one by one in ``test_json``; here are texts that attack.
"""

from __future__ import annotations

import contextlib
import json
import pickle
import sys
import time
import tracemalloc
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from snnmetrics.report import Report
from snnmetrics.report.json import VERSION, checks_of_report
from snnmetrics.report.schema import MAX_VALUE
from tests.report.made import full_report
from tests.report.test_json import PLACES, anything, edited

VALID = full_report().to_json()
BYTES = VALID.encode()

many = settings(
    deadline=None,
    derandomize=True,
    max_examples=150,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.generate],  # texts are small as they are
)


def read(source: Any, reader: Any = Report.from_json) -> Report | None:
    """A report that can be shown and survives a round trip, or None where it was refused."""
    try:
        made: Report = reader(source)
    except ValueError as error:
        message = str(error)
    else:
        shown(made)
        return made
    assert 0 < len(message) < 2000
    return None


def shown(made: Report) -> None:
    assert Report.from_json(made.to_json()) == made
    for text in (str(made), made.to_markdown(), made.to_latex(), made._repr_html_()):
        assert text
    assert str(made.compare(made))
    made.scalars()
    made.counts()


def placed(place: tuple[Any, ...], token: str) -> str:
    """The valid text with this JSON, however odd, at a place."""
    data = json.loads(VALID)
    *parents, last = place
    inner: Any = data
    for key in parents:
        inner = inner[key]
    inner[last] = "@here@"
    return json.dumps(data).replace('"@here@"', token)


@many
@given(st.binary(max_size=300) | st.text(max_size=300) | anything.map(json.dumps))
def test_arbitrary_json_bytes_and_text(text: str | bytes) -> None:
    assert read(text) is None


@many
@given(st.fixed_dictionaries(dict.fromkeys(checks_of_report(Report), anything)))
def test_the_right_names_with_arbitrary_values(values: dict[str, Any]) -> None:
    data = {"format": "snnmetrics.Report", "version": VERSION} | values
    read(json.dumps(data))
    read(data, Report.from_dict)


@many
@given(
    st.lists(st.tuples(st.integers(0, len(BYTES) - 1), st.integers(0, 255)), min_size=1, max_size=4)
)
def test_bytes_that_were_changed(changes: list[tuple[int, int]]) -> None:
    text = bytearray(BYTES)
    for place, byte in changes:
        text[place] = byte
    read(bytes(text))
    read(text)


@many
@given(st.integers(0, len(BYTES)), st.integers(0, len(BYTES)), st.integers(0, len(BYTES)))
def test_parts_that_were_cut_or_moved(start: int, stop: int, to: int) -> None:
    start, stop = sorted((start, stop))
    part, rest = BYTES[start:stop], BYTES[:start] + BYTES[stop:]
    read(rest)
    read(rest[:to] + part + rest[to:])
    read(BYTES[:to] + part + BYTES[to:])


ODD = [
    *(
        "-0",
        "-0.0",
        "1e999",
        "-1e999",
        "1e-999",
        "NaN",
        "Infinity",
        "-Infinity",
        "0x1",
        "01",
        "1_0",
    ),
    *(
        "9" * 4000,
        "9" * 5000,
        f"-{'9' * 5000}",
        f"{'9' * 5000}.0",
        f"0.{'1' * 5000}",
        f"1e{'9' * 50}",
    ),
    *('"\\ud800"', '"\\u0000"', '"\\u001b[2J"', '"\x00"', f'"{"x" * 10**5}"', "'x'"),
    *('{"a": 1, "a": 2}', '{"__class__": "os.system"}', '{"\\ud800": 1}', "{1: 2}"),
    *(f"{'[' * 500}{']' * 500}", "[" * 10**5, '{"a":' * 10**5, f"[{'0,' * 10**5}0]"),
    *("true", "null", "undefined", "", ",", "}", "/* */ 1", str(MAX_VALUE), str(MAX_VALUE + 1)),
]


@pytest.mark.parametrize("token", ODD, ids=lambda token: token[:12])
def test_odd_json_at_any_place(token: str) -> None:
    for place in PLACES[:: max(1, len(PLACES) // 60)]:
        read(placed(place, token))


def numbers(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        return [found for key, entry in items for found in numbers(entry, (*at, key))]
    return [at] if type(value) in (int, float) else []


def test_all_numbers_as_large_as_they_may_be_can_be_shown() -> None:
    data = json.loads(VALID)
    for place in numbers(data):
        *parents, last = place
        inner: Any = data
        for key in parents:
            inner = inner[key]
        if "counts" in place or last in ("samples", "calls", "parameters", "total", "squares"):
            inner[last] = MAX_VALUE
    assert read(json.dumps(data)) is not None
    for place in numbers(json.loads(VALID)):
        read(placed(place, str(MAX_VALUE)))
        read(placed(place, "1e-300"))
        read(placed(place, "0"))


def test_integers_too_long_to_be_written_are_refused_by_their_place() -> None:
    for value in (10**5000, -(10**5000), [10**5000]):
        with pytest.raises(ValueError, match=r"^samples: expected a non-negative integer, found"):
            Report.from_dict(edited("samples", value))


HOSTILE = {
    "lists": "[" + "[]," * 10**6 + "[]]",
    "objects": "[" + "{}," * 10**6 + "{}]",
    "digits": "1" * (4 * 10**6),
    "fraction": "0." + "1" * (4 * 10**6),
    "exponent": "1e" + "1" * (4 * 10**6),
    "numbers": "[" + "1e5," * 10**6 + "1]",
    "names": "{" + ",".join(f'"{i}":0' for i in range(3 * 10**5)) + "}",
    "one name": "{" + ",".join(['"samples":0'] * (3 * 10**5)) + "}",
    "text": '"' + "x" * (4 * 10**6) + '"',
    "escapes": '"' + "\\u0041" * (7 * 10**5) + '"',
    "open text": '"' * 10**6,
    "depth": "[" * (4 * 10**6),
    "depth of objects": '{"a":' * 10**6,
    "closed depth": "[" * 10**6 + "]" * 10**6,
    "space": " " * (4 * 10**6),
    "many layers": placed(
        ("layers",), "{" + ",".join(f'"{i}":{{}}' for i in range(3 * 10**5)) + "}"
    ),
    "long map": placed(
        ("layers", "block.conv", "synops_per_neuron"),
        '{"shape": [1000000], "values": [' + "0," * (10**6 - 1) + "0]}",
    ),
    "long shape": placed(("layers", "fc", "operation", "stride"), "[" + "1," * 10**6 + "1]"),
    "long notes": placed(("notes",), "[" + '"",' * 10**6 + "1]"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", HOSTILE)
def test_time_and_memory_are_in_proportion_to_the_text(name: str) -> None:
    text = HOSTILE[name]
    start = time.process_time()
    read_once(text)
    assert time.process_time() - start < 20  # a few tenths of a second; quadratic ones take minutes
    tracemalloc.start()
    try:
        read_once(text)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 100 * len(text) + 10**6


def read_once(text: str) -> None:
    with contextlib.suppress(ValueError):
        Report.from_json(text)


class Touched:
    def __reduce__(self) -> tuple[Any, ...]:
        return (sys.exit, (1,))


_RUNS_CODE = {"compile", "exec", "os.system", "os.exec", "os.posix_spawn", "subprocess.Popen"}
_RUNS_CODE |= {"pickle.find_class", "import", "open", "ctypes.dlopen", "marshal.loads"}


def test_nothing_is_run_imported_or_opened() -> None:
    read(VALID)  # whatever is imported late is there now
    seen: list[str] = []
    watching = False

    def hook(event: str, _: tuple[Any, ...]) -> None:
        if watching and event in _RUNS_CODE:
            seen.append(event)

    sys.addaudithook(hook)  # stays for good, and is deaf after this test
    tokens = [
        *("\"__import__('os').system('true')\"", '{"py/object": "os.system"}', '"os:system"'),
        *('{"__reduce__": ["os.system", ["true"]]}', '"${PATH} {0.__class__} %s"', '"/etc/passwd"'),
    ]
    watching = True
    try:
        for place in PLACES[::5]:
            for token in tokens:
                read_once(placed(place, token))
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            with pytest.raises(ValueError):  # noqa: PT011  # whichever is found first
                Report.from_json(pickle.dumps(Touched(), protocol))
    finally:
        watching = False
    assert not seen
