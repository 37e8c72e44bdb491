"""Two real processes in a gloo group, started once and fed with functions to run on every rank."""

from __future__ import annotations

import multiprocessing
import traceback
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from tests.helpers.limits import PATIENCE, SECONDS


class Ranks:
    """A gloo process group of ``size`` processes.

    ``run(function, per_rank)`` calls ``function(*per_rank[r])`` on rank r and returns one result a
    rank; an exception comes back as the exception. Functions travel by name, so they must live at
    the top of a module.
    """

    def __init__(self, size: int, folder: Path) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipes: list[Connection] = []
        self._processes = []
        for rank in range(size):
            ours, theirs = context.Pipe()
            process = context.Process(
                target=_serve, args=(theirs, rank, size, f"file://{folder}/store"), daemon=True
            )
            process.start()
            self._pipes.append(ours)
            self._processes.append(process)

    def run(self, function: Callable[..., Any], per_rank: Sequence[tuple[Any, ...]]) -> list[Any]:
        assert len(per_rank) == len(self._pipes)
        for pipe, args in zip(self._pipes, per_rank, strict=True):
            pipe.send((function, args))
        results = []
        for rank, pipe in enumerate(self._pipes):
            if not pipe.poll(SECONDS):
                self.close()
                raise TimeoutError(f"rank {rank} did not answer within {SECONDS} s")
            error, result, trace = pipe.recv()
            if error is not None:
                error.add_note(f"on rank {rank}:\n{trace}") if hasattr(error, "add_note") else None
            results.append(error if error is not None else result)
        return results

    def close(self) -> None:
        for process in self._processes:
            process.kill()
            process.join()


def _serve(pipe: Connection, rank: int, size: int, store: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=size, timeout=PATIENCE)
    while True:
        function, args = pipe.recv()
        try:
            pipe.send((None, function(*args), ""))
        except Exception as error:
            pipe.send((error, None, traceback.format_exc()))


def results_of(outcomes: Sequence[Any]) -> list[Any]:
    """The results of all ranks; raises if a rank failed."""
    for outcome in outcomes:
        if isinstance(outcome, BaseException):
            raise outcome
    return list(outcomes)
