"""Time-outs that end what hangs, and are no part of a claim: a loaded machine is slow."""

from __future__ import annotations

from datetime import timedelta

SECONDS = 600  # for a process that a test starts
# A collective that waits longer fails, and the test with it, before its process is ended.
PATIENCE = timedelta(seconds=300)
