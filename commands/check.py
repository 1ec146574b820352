"""`reprise check` and `reprise compare`: are the numbers still what they were, and how do two results differ?"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import get_args

from ..core import protocol as protocols
from ..core import results
from ..core.protocol import TIERS, TierName
from ..core.published import published
from ..core.results import NoiseRow, ResultRow
from ..core.workspace import Workspace
from ._arguments import as_allowance, once
from ._common import HOLDS, Add


def add_to(add: Add) -> None:
    """Its arguments."""
    check = add(
        "check", _check, "are the numbers still what they were? exit code 1 if one has moved"
    )
    check.add_argument(
        "--against", type=Path, required=True, metavar="PATH", help="a results folder, or one CSV"
    )
    check.add_argument("--current", type=Path, metavar="PATH", help="(results/ below --root)")
    check.add_argument("--tier", action="append", choices=get_args(TierName), default=[])
    check.add_argument(
        "--errors", type=float, default=3.0, metavar="Z", help="standard errors a mean may move (3)"
    )
    check.add_argument(
        "--allow",
        action="append",
        default=[],
        metavar="METRIC=X",
        help="a movement allowed whatever the noise",
    )
    check.add_argument(
        "--noise", type=Path, metavar="CSV", help="measured noise (results/noise.csv below --root)"
    )
    check.add_argument(
        "--same-weights",
        action="store_true",
        help="no weights were trained anew: evaluation's noise only",
    )
    check.add_argument(
        "--junit", type=Path, metavar="FILE", help="write JUnit XML for a CI service"
    )
    check.add_argument("--json", type=Path, metavar="FILE", help="write everything as JSON")

    compare = add(
        "compare", _compare, "two results side by side: files, tiers (mini) or models (mini:GNM)"
    )
    compare.add_argument("left", metavar="A")
    compare.add_argument("right", metavar="B")


def _check(arguments: argparse.Namespace) -> int:
    from ..render.check import Tolerance, check_folders

    workspace = Workspace(arguments.root)
    current = arguments.current or workspace.root / "results"
    allowed = once("--allow", map(as_allowance, arguments.allow))
    path = arguments.noise or workspace.noise
    # Noise that was asked for must be there; what is not measured yet is said cell by cell.
    noise = results.read(path, NoiseRow) if arguments.noise or path.exists() else []
    tolerance = Tolerance(arguments.errors, allowed, noise, arguments.same_weights)
    found = check_folders(current, arguments.against, tolerance, arguments.tier)
    found.write(arguments.junit, arguments.json)
    print(found)
    for line in _standing(found.rows):
        print(line)
    return found.code


def _standing(rows: Iterable[ResultRow]) -> list[str]:
    """The verdicts of these rows beside the published values, by protocol and tier; and of all together."""
    from ..render import table

    parts: dict[tuple[str, str], list[ResultRow]] = defaultdict(list)
    for row in rows:
        parts[row.protocol, row.tier].append(row)
    known = {(name, tier) for name in protocols.names() for tier in TIERS}
    tables, lines = [], []
    for name, tier in sorted(parts.keys() & known):
        protocol = protocols.load(name)[1]
        laid = table.build(name, protocol, parts[name, tier], published(name), tier)
        tables.append(laid)
        if laid.has_published:
            lines.append(f"verdicts of {name} ({tier}): {laid.summary}")
    total = table.overall(tables)
    return [*lines, f"verdicts of all: {total}"] if len(lines) > 1 else lines


def _compare(arguments: argparse.Namespace) -> int:
    from ..render.compare import compare, select

    workspace = Workspace(arguments.root)
    print(compare(select(workspace, arguments.left), select(workspace, arguments.right)))
    return HOLDS
