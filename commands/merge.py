"""`reprise merge`: the CSVs of shards as one."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..core.errors import UsageError
from ..core.workspace import Workspace
from ._common import HOLDS, INCOMPLETE, Add, counted, say


def add_to(add: Add) -> None:
    """Its arguments."""
    merge = add(
        "merge",
        _merge,
        "join the CSVs of shards; exit code 2 if shards are missing, 3 (nothing is written) if rows conflict",
    )
    merge.add_argument(
        "paths", nargs="*", type=Path, metavar="PATH",
        help="CSVs, or folders of them (the shards below results/)",
    )  # fmt: skip


def _merge(arguments: argparse.Namespace) -> int:
    from tabulate import tabulate

    from ..launch.shards import merge

    merged, conflicts = merge(Workspace(arguments.root), arguments.paths)
    if conflicts:
        lines = [
            [one.row.protocol, *one.row.key, name, f"{one.first}: {first}\n{one.second}: {second}"]
            for one in conflicts
            for name, (first, second) in one.differences.items()
        ]
        heads = ["protocol", "model", "dataset", "metric", "seed", "column", "says"]
        print(tabulate(lines, heads, disable_numparse=True))
        raise UsageError(
            f"two files disagree about {counted(len(conflicts), 'cell')}; nothing was written: "
            "leave out one of the files, or measure again"
        )
    for one in merged:
        print(
            f"{one.path}: {counted(one.rows, 'row')}, joined from {counted(len(one.files), 'file')}"
        )
    if missing := [f"{shard} of {one.path.stem}" for one in merged for shard in one.missing]:
        say(f"missing: shard {', shard '.join(missing)}")
        return INCOMPLETE
    return HOLDS
