"""Write the counts that the code gives now: ``python -m tests.frozen``.

A value changes only with the reason in the commit that changes it.
"""

from __future__ import annotations

import json

from tests.frozen import COUNTS
from tests.frozen.models import figures, reports

if __name__ == "__main__":
    lines = [f"{json.dumps(name)}: {json.dumps(figures(report))}" for name, report in reports()]
    COUNTS.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    print(f"{len(lines)} reports in {COUNTS}")
