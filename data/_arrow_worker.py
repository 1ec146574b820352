"""One process of several that make the images of a split.

`python -m reprise.data._arrow_worker OPTIONS SPLIT K N PARENT` (options as JSON, the parent's process id).
It makes every image i with i % N = K that is not there, and ends early when its parent is gone.
"""

from __future__ import annotations

import json
import os
import signal
import sys

from ..core.dataset import Split
from ..core.errors import UsageError
from .arrow_room import ArrowRoom


def main(options: str, split: Split, k: str, n: str, parent: str) -> int:
    """Make this process's share; 0, or 3 after a sentence about what went wrong."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears it and ends us
    try:
        shards, make = ArrowRoom(**json.loads(options)).workshop(split)
        for index in shards.missing():
            if os.getppid() != int(parent):
                break
            if index % int(n) == int(k):
                shards.write(index, make)
    except UsageError as error:
        print(error, file=sys.stderr)
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))  # type: ignore[arg-type]  # the parent names a split
