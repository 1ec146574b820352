"""`make faults`, at its end: reports/faults.md from what the tests and the self-test have just written into build/."""

from __future__ import annotations

import datetime
import platform
import sys
from pathlib import Path

from reprise.launch.provenance import provenance
from reprise.training.engine import cores

ROOT = Path(__file__).resolve().parent.parent
HEAD = """# Faults, and what they cost

What was done to the program, how often, and what came of it: written by `make faults` from what it has just run.
*Lost* counts finished things that were gone afterwards: cells, rows of the CSV, steps of training, prepared images,
bytes that were fetched. *Wrong* counts things that were believed and not true: rows that an undisturbed run does not
have, files that were read as something else than was written. Random moments and places have a fixed seed. A fault of
one try is a test that compares what is left with what an undisturbed call leaves.
"""


def main() -> int:
    """Write the page; 1 if something in it is not as it should be."""
    faults = (ROOT / "build" / "faults.md").read_text(encoding="utf-8")
    mutants = (ROOT / "build" / "mutants.txt").read_text(encoding="utf-8")
    day = datetime.datetime.now(datetime.UTC).date()
    made = provenance()
    where = f"{day}, commit {made}, Python {platform.python_version()}, {platform.system()}, {cores()} cores."
    bugs = f"""## Known bugs, put in one at a time

`reprise self-test` puts a bug into a copy of the code and asks what notices it: a promise of the code, or the
regression check.

```
{mutants.strip()}
```
"""
    text = "\n".join([HEAD, where + "\n", faults, bugs])
    (ROOT / "reports" / "faults.md").write_text(text, encoding="utf-8")
    return int("tests failed**" in faults or "MISSED" in mutants)


if __name__ == "__main__":
    sys.exit(main())
