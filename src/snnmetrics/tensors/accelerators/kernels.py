"""Triton kernels that read activations on an accelerator.

Every kernel reads a tensor once. For each neuron or vector it counts events and two sums of
magnitudes: of the nearest spike counts (``whole``) and of the values themselves (``raw``). The
loosest kind among all elements determines which sum is valid. Therefore each program writes its
result to its own line, and a later kernel selects the sum by kind. Kernels do not use atomics or
cleared memory: results do not depend on the order of programs.

Sums of spike counts are int32 within a program (``layout.py`` limits its rows) and float64 from
there on, exact below 2**53.
"""

# mypy: disallow-untyped-defs=False, disallow-incomplete-defs=False
# mypy: disable-error-code="untyped-decorator"
from __future__ import annotations

import triton
import triton.language as tl

from snnmetrics.tensors.accelerators.lines import FACTS, KIND, OF_COUNTS, OF_VALUES, WIDTH
from snnmetrics.tensors.counts import LARGEST_COUNT
from snnmetrics.tensors.kinds import InputKind

_LARGEST = tl.constexpr(LARGEST_COUNT)
_ANALOG = tl.constexpr(int(InputKind.ANALOG))
_KIND, _OF_COUNTS, _OF_VALUES = tl.constexpr(KIND), tl.constexpr(OF_COUNTS), tl.constexpr(OF_VALUES)
_WIDTH, _FACTS = tl.constexpr(WIDTH), tl.constexpr(len(FACTS))
_FIGURES = tl.constexpr(OF_VALUES - OF_COUNTS)
# Adding and subtracting it rounds a smaller float32 or float64 to an integer, ties to even.
_SINGLE, _DOUBLE = tl.constexpr(2.0**23), tl.constexpr(2.0**52)
_SINGLE_EXPONENT, _DOUBLE_EXPONENT = tl.constexpr(0xFF << 23), tl.constexpr(0x7FF << 52)


@triton.jit
def _offsets(index, DIMS: tl.constexpr, n1, n2, s0, s1, s2):
    """Offsets of the elements of a strided array of one to three dimensions."""
    if DIMS == 1:
        place = index.to(tl.int64) * s0
    elif DIMS == 2:
        place = (index // n1).to(tl.int64) * s0 + (index % n1).to(tl.int64) * s1
    else:
        last = index % n2
        rest = index // n2
        first = (rest // n1).to(tl.int64) * s0 + (rest % n1).to(tl.int64) * s1
        place = first + last.to(tl.int64) * s2
    return place


@triton.jit
def _classified(v, scale, SCALED: tl.constexpr, FLOATS: tl.constexpr, UNITS: tl.constexpr):
    """Spike count, magnitude and kind of each value.

    ``UNITS`` are four units in the last place of 1.
    """
    if SCALED:
        f = v.to(tl.float64) / tl.load(scale)
        a = tl.abs(f)
        w = (a + _DOUBLE) - _DOUBLE
        graded = ((tl.abs(a - w) <= a * UNITS) & (w <= _LARGEST)) == 0
        a = tl.where(graded, float("nan"), w)
        negative = f < 0
    elif FLOATS == 0:
        a = tl.abs(v.to(tl.float64))
        w = a
        graded = a > _LARGEST
        negative = v < 0
    else:
        if FLOATS == 8:
            f = v
            a = tl.abs(f)
            w = (a + _DOUBLE) - _DOUBLE
            power = (w.to(tl.int64, bitcast=True) & _DOUBLE_EXPONENT).to(tl.float64, bitcast=True)
        else:
            f = v.to(tl.float32)
            a = tl.abs(f)
            w = (a + _SINGLE) - _SINGLE
            power = (w.to(tl.int32, bitcast=True) & _SINGLE_EXPONENT).to(tl.float32, bitcast=True)
        near = tl.abs(a - w) <= power * UNITS  # false for NaN and infinity
        graded = (near & (w <= _LARGEST)) == 0
        negative = f < 0
    count = tl.where(graded, 0.0, w).to(tl.int32)
    kind = tl.where(count > 1, 2, tl.where(negative, 1, 0))
    return count, a.to(tl.float64), tl.where(graded, _ANALOG, kind)


@triton.jit
def _read_block(
    x, places, inside, first, last, r1, r2, sr0, sr1, sr2,
    scale, kinds,
    ROW_DIMS: tl.constexpr, BR: tl.constexpr, BN: tl.constexpr,
    SCALED: tl.constexpr, FLOATS: tl.constexpr, UNITS: tl.constexpr,
):  # fmt: skip
    """Events, whole and raw magnitudes of some neurons over some rows, and the loosest kinds."""
    events = tl.zeros((BR, BN), tl.int32)
    whole = tl.zeros((BR, BN), tl.int32)
    raw = tl.zeros((BR, BN), tl.float64)
    for start in range(first, last, BR):
        row = start + tl.arange(0, BR)
        rows = _offsets(row, ROW_DIMS, r1, r2, sr0, sr1, sr2)
        within = (row < last)[:, None] & inside[None, :]
        v = tl.load(x + (rows[:, None] + places[None, :]), mask=within, other=0)
        count, magnitude, kind = _classified(v, scale, SCALED, FLOATS, UNITS)
        events += (v != 0).to(tl.int32)
        whole += count
        raw += magnitude
        kinds = tl.maximum(kinds, kind)
    return (
        tl.sum(events, 0).to(tl.float64),
        tl.sum(whole, 0).to(tl.float64),
        tl.sum(raw, 0),
        kinds,
    )


@triton.jit
def _store_figures(
    to, events, magnitude, synops, event_synops, effective_synops, effective_magnitude
):
    """Store figures in the order of ``lines.FIGURES``."""
    tl.store(to, events)
    tl.store(to + 1, magnitude)
    tl.store(to + 2, synops)
    tl.store(to + 3, event_synops)
    tl.store(to + 4, effective_synops)
    tl.store(to + 5, effective_magnitude)


@triton.jit
def figures(
    x, scale, dense, effective, line,
    rows, r1, r2, sr0, sr1, sr2, rows_each,
    neurons, n1, n2, sn0, sn1, sn2, sd0, sd1, sd2, se0, se1, se2,
    ROW_DIMS: tl.constexpr, NEURON_DIMS: tl.constexpr, BR: tl.constexpr, BN: tl.constexpr,
    EFFECTIVE: tl.constexpr, SCALED: tl.constexpr, FLOATS: tl.constexpr, UNITS: tl.constexpr,
):  # fmt: skip
    """Read an input and multiply it with its maps; each program writes one line."""
    first = tl.program_id(1) * rows_each
    last = tl.minimum(rows, first + rows_each)
    kinds = tl.zeros((BR, BN), tl.int32)
    # Keep scalar sums, not one per neuron: ten of these would fill the registers.
    events = tl.sum(tl.zeros((BN,), tl.float64), 0)
    whole, raw, whole_synops, raw_synops, event_synops = events, events, events, events, events
    effective_events, effective_whole, effective_raw = events, events, events
    for block in range(tl.program_id(0), tl.cdiv(neurons, BN), tl.num_programs(0)):
        neuron = block * BN + tl.arange(0, BN)
        inside = neuron < neurons
        places = _offsets(neuron, NEURON_DIMS, n1, n2, sn0, sn1, sn2)
        e, w, a, kinds = _read_block(
            x, places, inside, first, last, r1, r2, sr0, sr1, sr2, scale, kinds,
            ROW_DIMS, BR, BN, SCALED, FLOATS, UNITS,
        )  # fmt: skip
        where = _offsets(neuron, NEURON_DIMS, n1, n2, sd0, sd1, sd2)
        fanout = tl.load(dense + where, mask=inside, other=0.0)
        events += tl.sum(e, 0)
        whole += tl.sum(w, 0)
        raw += tl.sum(a, 0)
        whole_synops += tl.sum(w * fanout, 0)
        raw_synops += tl.sum(a * fanout, 0)
        event_synops += tl.sum(e * fanout, 0)
        if EFFECTIVE:
            where = _offsets(neuron, NEURON_DIMS, n1, n2, se0, se1, se2)
            fanout = tl.load(effective + where, mask=inside, other=0.0)
            effective_events += tl.sum(e * fanout, 0)
            effective_whole += tl.sum(w * fanout, 0)
            effective_raw += tl.sum(a * fanout, 0)
    if not EFFECTIVE:
        effective_events, effective_whole, effective_raw = event_synops, whole_synops, raw_synops
    line += (tl.program_id(1) * tl.num_programs(0) + tl.program_id(0)).to(tl.int64) * _WIDTH
    tl.store(line + _KIND, tl.max(tl.max(kinds, 0), 0).to(tl.float64))
    _store_figures(
        line + _OF_COUNTS, events, whole, whole_synops, event_synops,
        effective_events, effective_whole,
    )  # fmt: skip
    _store_figures(
        line + _OF_VALUES, events, raw, raw_synops, event_synops, effective_events, effective_raw
    )


@triton.jit
def neuron_sums(
    x, scale, out,
    rows, r1, r2, sr0, sr1, sr2, rows_each,
    neurons, n1, n2, sn0, sn1, sn2, so0, so1, so2,
    ROW_DIMS: tl.constexpr, NEURON_DIMS: tl.constexpr, BR: tl.constexpr, BN: tl.constexpr,
    SCALED: tl.constexpr, FLOATS: tl.constexpr, UNITS: tl.constexpr,
):  # fmt: skip
    """Read a small tensor in one program: events, magnitudes and kind of all neurons."""
    kinds = tl.zeros((BR, BN), tl.int32)
    neuron = tl.arange(0, BN)
    inside = neuron < neurons
    places = _offsets(neuron, NEURON_DIMS, n1, n2, sn0, sn1, sn2)
    e, w, a, kinds = _read_block(
        x, places, inside, 0, rows, r1, r2, sr0, sr1, sr2, scale, kinds,
        ROW_DIMS, BR, BN, SCALED, FLOATS, UNITS,
    )  # fmt: skip
    kind = tl.max(tl.max(kinds, 0), 0)
    own = _offsets(neuron, NEURON_DIMS, n1, n2, so0, so1, so2)
    tl.store(out + own, e, mask=inside)
    tl.store(out + neurons + own, tl.where(kind == _ANALOG, a, w), mask=inside)
    tl.store(out + 2 * neurons, kind.to(tl.float64))


@triton.jit
def neuron_parts(
    x, scale, scratch,
    rows, r1, r2, sr0, sr1, sr2, rows_each,
    neurons, n1, n2, sn0, sn1, sn2, so0, so1, so2,
    ROW_DIMS: tl.constexpr, NEURON_DIMS: tl.constexpr, BR: tl.constexpr, BN: tl.constexpr,
    SCALED: tl.constexpr, FLOATS: tl.constexpr, UNITS: tl.constexpr,
):  # fmt: skip
    """Read a tensor; each part of the rows writes events and magnitudes of every neuron.

    The scratch memory has ``(3, parts, neurons)`` numbers: events, whole and raw magnitudes; then
    the loosest kind found by each program.
    """
    first = tl.program_id(1) * rows_each
    last = tl.minimum(rows, first + rows_each)
    part = tl.program_id(1).to(tl.int64)
    plane = tl.num_programs(1).to(tl.int64) * neurons
    kinds = tl.zeros((BR, BN), tl.int32)
    for block in range(tl.program_id(0), tl.cdiv(neurons, BN), tl.num_programs(0)):
        neuron = block * BN + tl.arange(0, BN)
        inside = neuron < neurons
        places = _offsets(neuron, NEURON_DIMS, n1, n2, sn0, sn1, sn2)
        e, w, a, kinds = _read_block(
            x, places, inside, first, last, r1, r2, sr0, sr1, sr2, scale, kinds,
            ROW_DIMS, BR, BN, SCALED, FLOATS, UNITS,
        )  # fmt: skip
        own = part * neurons + _offsets(neuron, NEURON_DIMS, n1, n2, so0, so1, so2)
        tl.store(scratch + own, e, mask=inside)
        tl.store(scratch + plane + own, w, mask=inside)
        tl.store(scratch + 2 * plane + own, a, mask=inside)
    program = tl.program_id(1) * tl.num_programs(0) + tl.program_id(0)
    tl.store(scratch + 3 * plane + program, tl.max(tl.max(kinds, 0), 0).to(tl.float64))


@triton.jit
def _loosest(kinds, programs, BLOCK: tl.constexpr):
    found = tl.zeros((BLOCK,), tl.float64)
    for start in range(0, programs, BLOCK):
        place = start + tl.arange(0, BLOCK)
        found = tl.maximum(found, tl.load(kinds + place, mask=place < programs, other=0.0))
    return tl.max(found, 0)


@triton.jit
def add_parts(scratch, out, parts, neurons, programs, BN: tl.constexpr):
    """Add the parts of each neuron; the loosest kind selects the magnitudes.

    The output has the events of all neurons, their magnitudes, and the kind.
    """
    plane = tl.cast(parts, tl.int64) * neurons
    kind = _loosest(scratch + 3 * plane, programs, BN)
    neuron = tl.program_id(0) * BN + tl.arange(0, BN)
    inside = neuron < neurons
    events = tl.zeros((BN,), tl.float64)
    magnitudes = tl.zeros((BN,), tl.float64)
    chosen = scratch + tl.where(kind == _ANALOG, 2 * plane, plane)
    for part in range(parts):
        place = tl.cast(part, tl.int64) * neurons + neuron
        events += tl.load(scratch + place, mask=inside, other=0.0)
        magnitudes += tl.load(chosen + place, mask=inside, other=0.0)
    tl.store(out + neuron, events, mask=inside)
    tl.store(out + neurons + neuron, magnitudes, mask=inside)
    if tl.program_id(0) == 0:
        tl.store(out + 2 * neurons, kind)


@triton.jit
def figures_of_sums(
    sums, dense, effective, other_kind, line,
    neurons, n1, n2, ss0, ss1, ss2, sd0, sd1, sd2, se0, se1, se2,
    NEURON_DIMS: tl.constexpr, BN: tl.constexpr, EFFECTIVE: tl.constexpr, PRODUCT: tl.constexpr,
    BY_EVENTS: tl.constexpr, KINDS: tl.constexpr,
):  # fmt: skip
    """Multiply sums per neuron with the maps; for a product, with the events of the other factor.

    ``sums`` has the events of all neurons, their magnitudes, and the kind. The last figure of a
    product is the number of events of the other factor, or 0.
    """
    zero = tl.zeros((BN,), tl.float64)
    total, magnitude, synops, event_synops = zero, zero, zero, zero
    effective_events, effective_synops, others = zero, zero, zero
    for block in range(tl.program_id(0), tl.cdiv(neurons, BN), tl.num_programs(0)):
        neuron = block * BN + tl.arange(0, BN)
        inside = neuron < neurons
        place = _offsets(neuron, NEURON_DIMS, n1, n2, ss0, ss1, ss2)
        e = tl.load(sums + place, mask=inside, other=0.0)
        a = tl.load(sums + neurons + place, mask=inside, other=0.0)
        place = _offsets(neuron, NEURON_DIMS, n1, n2, sd0, sd1, sd2)
        fanout = tl.load(dense + place, mask=inside, other=0.0)
        total += e
        magnitude += a
        synops += a * fanout
        event_synops += e * fanout
        if BY_EVENTS:
            others += fanout
        if EFFECTIVE:
            place = _offsets(neuron, NEURON_DIMS, n1, n2, se0, se1, se2)
            fanout = tl.load(effective + place, mask=inside, other=0.0)
            effective_events += e * fanout
            effective_synops += a * fanout
    found = tl.load(sums + 2 * neurons)
    if PRODUCT:  # not weighted by value
        synops = event_synops
        found = found * KINDS + tl.load(other_kind)
    if not EFFECTIVE:
        effective_events, effective_synops = event_synops, synops
    if PRODUCT:
        effective_synops = others
    line += tl.program_id(0).to(tl.int64) * _WIDTH
    tl.store(line + _KIND, found.to(tl.float64))
    all_events, all_magnitudes = tl.sum(total, 0), tl.sum(magnitude, 0)
    all_synops, all_event_synops = tl.sum(synops, 0), tl.sum(event_synops, 0)
    all_effective, all_effective_synops = tl.sum(effective_events, 0), tl.sum(effective_synops, 0)
    for place in tl.static_range(2):
        _store_figures(
            line + (_OF_COUNTS if place == 0 else _OF_VALUES), all_events, all_magnitudes,
            all_synops, all_event_synops, all_effective, all_effective_synops,
        )  # fmt: skip


@triton.jit
def vector_parts(
    x, scale, dense, scratch,
    rows, r1, r2, sr0, sr1, sr2,
    neurons, n1, n2, sn0, sn1, sn2, sd0, sd1, sd2,
    ROW_DIMS: tl.constexpr, NEURON_DIMS: tl.constexpr, BR: tl.constexpr, BN: tl.constexpr,
    SCALED: tl.constexpr, FLOATS: tl.constexpr, UNITS: tl.constexpr,
):  # fmt: skip
    """Read a tensor; each part of the neurons writes the synops of every input vector.

    The scratch memory has ``(2, parts, rows)`` numbers: synops by whole and by raw magnitudes; then
    the loosest kind found by each program.
    """
    plane = tl.num_programs(0).to(tl.int64) * rows
    kinds = tl.zeros((BR, BN), tl.int32)
    for group in range(tl.program_id(1), tl.cdiv(rows, BR), tl.num_programs(1)):
        row = group * BR + tl.arange(0, BR)
        rows_ = _offsets(row, ROW_DIMS, r1, r2, sr0, sr1, sr2)
        whole_synops = tl.zeros((BR, BN), tl.float64)
        raw_synops = tl.zeros((BR, BN), tl.float64)
        for block in range(tl.program_id(0), tl.cdiv(neurons, BN), tl.num_programs(0)):
            neuron = block * BN + tl.arange(0, BN)
            inside = neuron < neurons
            places = _offsets(neuron, NEURON_DIMS, n1, n2, sn0, sn1, sn2)
            where = _offsets(neuron, NEURON_DIMS, n1, n2, sd0, sd1, sd2)
            fanout = tl.load(dense + where, mask=inside, other=0.0)
            within = (row < rows)[:, None] & inside[None, :]
            v = tl.load(x + (rows_[:, None] + places[None, :]), mask=within, other=0)
            count, magnitude, classes = _classified(v, scale, SCALED, FLOATS, UNITS)
            whole_synops += count.to(tl.float64) * fanout[None, :]
            raw_synops += magnitude * fanout[None, :]
            kinds = tl.maximum(kinds, classes)
        own = tl.program_id(0).to(tl.int64) * rows + row
        tl.store(scratch + own, tl.sum(whole_synops, 1), mask=row < rows)
        tl.store(scratch + plane + own, tl.sum(raw_synops, 1), mask=row < rows)
    program = tl.program_id(1) * tl.num_programs(0) + tl.program_id(0)
    tl.store(scratch + 2 * plane + program, tl.max(tl.max(kinds, 0), 0).to(tl.float64))


@triton.jit
def add_vector_parts(
    scratch, synops, parts, rows, programs,
    ANALOG_COUNTS: tl.constexpr, BR: tl.constexpr,
):  # fmt: skip
    """Add the parts of each vector; zeros for analog input, unless it counts.

    The output has the synops of all vectors, and the kind.
    """
    plane = tl.cast(parts, tl.int64) * rows
    kind = _loosest(scratch + 2 * plane, programs, BR)
    row = tl.program_id(0) * BR + tl.arange(0, BR)
    total = tl.zeros((BR,), tl.float64)
    chosen = scratch + tl.where(kind == _ANALOG, plane, 0)
    for part in range(parts):
        place = tl.cast(part, tl.int64) * rows + row
        total += tl.load(chosen + place, mask=row < rows, other=0.0)
    if not ANALOG_COUNTS:
        total = tl.where(kind == _ANALOG, 0.0, total)
    tl.store(synops + row, total, mask=row < rows)
    if tl.program_id(0) == 0:
        tl.store(synops + rows, kind)


@triton.jit
def nonzero_counts(
    x, out, rows, r1, r2, sr0, sr1, sr2,
    neurons, n1, n2, sn0, sn1, sn2, so0, so1, so2,
    ROW_DIMS: tl.constexpr, NEURON_DIMS: tl.constexpr, BR: tl.constexpr, BN: tl.constexpr,
):  # fmt: skip
    """Count the elements of each column that are not zero."""
    neuron = tl.program_id(0) * BN + tl.arange(0, BN)
    inside = neuron < neurons
    places = _offsets(neuron, NEURON_DIMS, n1, n2, sn0, sn1, sn2)
    found = tl.zeros((BR, BN), tl.int32)
    for start in range(0, rows, BR):
        row = start + tl.arange(0, BR)
        rows_ = _offsets(row, ROW_DIMS, r1, r2, sr0, sr1, sr2)
        within = (row < rows)[:, None] & inside[None, :]
        v = tl.load(x + (rows_[:, None] + places[None, :]), mask=within, other=0)
        found += (v != 0).to(tl.int32)
    own = _offsets(neuron, NEURON_DIMS, n1, n2, so0, so1, so2)
    tl.store(out + own, tl.sum(found, 0).to(tl.float64), mask=inside)


@triton.jit
def totals(
    lines, places, facts, row_starts, out,
    KINDS: tl.constexpr, BLOCK: tl.constexpr, LINES: tl.constexpr,
):  # fmt: skip
    """Add the calls of each row by kind; one program per row, in the order of the calls.

    ``LINES`` lines of a call are read at a time. ``places`` has four numbers per call: first line,
    number of lines, index of facts, row. ``row_starts`` is the first call of each row, and the end
    of the last. The totals are ``(rows, KINDS, TOTALS)``.
    """
    row = tl.program_id(0)
    column = tl.arange(0, BLOCK)
    numbers = tl.arange(0, KINDS)
    sums = tl.zeros((KINDS, BLOCK), tl.float64)
    is_figure = (column >= _FACTS) & (column < _FACTS + _FIGURES)
    for call in range(tl.load(row_starts + row), tl.load(row_starts + row + 1)):
        first = lines + tl.load(places + 4 * call).to(tl.int64) * _WIDTH
        count = tl.load(places + 4 * call + 1)
        fact = facts + tl.load(places + 4 * call + 2) * _FACTS
        found = tl.load(fact + column, mask=column < _FACTS, other=0.0)
        kind = tl.load(first + _KIND)
        for start in range(0, count, LINES):
            line = start + tl.arange(0, LINES)
            kinds = tl.load(first + line * _WIDTH + _KIND, mask=line < count, other=0.0)
            kind = tl.maximum(kind, tl.max(kinds, 0))
        chosen = first + tl.where(kind == _ANALOG, _OF_VALUES, _OF_COUNTS)
        for start in range(0, count, LINES):
            line = start + tl.arange(0, LINES)
            of_lines = chosen + (line * _WIDTH)[:, None] + (column - _FACTS)[None, :]
            within = (line < count)[:, None] & is_figure[None, :]
            found += tl.sum(tl.load(of_lines, mask=within, other=0.0), 0)
        sums += tl.where((numbers == kind.to(tl.int32))[:, None], found[None, :], 0.0)
    to = (row * KINDS + numbers) * (_FACTS + _FIGURES)
    tl.store(
        out + (to[:, None] + column[None, :]), sums, mask=(column < _FACTS + _FIGURES)[None, :]
    )
