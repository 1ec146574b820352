"""`reprise bundle` and `reprise verify-bundle`: everything behind a table, and whether it makes the table."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import get_args

from ..core import protocol as protocols
from ..core.protocol import TierName
from ..core.workspace import Workspace
from ._common import FAILED, HOLDS, Add, Paced, tier_of


def add_to(add: Add) -> None:
    """Its arguments."""
    bundle = add("bundle", _bundle, "everything behind a protocol's table, as one archive")
    verify = add(
        "verify-bundle",
        _verify_bundle,
        "make every number and table of a bundle again from its stored values; exit code 1 if one does not match",
    )
    bundle.add_argument("protocol", metavar="PROTOCOL")
    bundle.add_argument("--tier", choices=get_args(TierName), help="(the largest that has results)")
    bundle.add_argument(
        "-o", "--out", type=Path, metavar="FILE.zip", help="(PROTOCOL-TIER.zip, here)"
    )
    verify.add_argument("file", type=Path, metavar="FILE.zip")


def _bundle(arguments: argparse.Namespace) -> int:
    """Exit code 1 if a number is not what its own stored values make."""
    from ..core import progress
    from ..evidence.bundle import bundle

    workspace = Workspace(arguments.root)
    name, _, _ = protocols.load(arguments.protocol)
    tier = tier_of(arguments.tier, workspace, name)
    with progress.watched_by(Paced()):
        made = bundle(workspace, name, tier, arguments.out or Path(f"{name}-{tier}.zip"))
    counted = (f"{made.counts[state]} {state}" for state in ("recomputable", "as recorded", "missing"))  # fmt: skip
    print(f"{name}, tier {tier}: {sum(made.counts.values())} numbers, {', '.join(counted)}")
    for cell, why in made.unmade:
        print(f"  not recomputable: {cell}: {why}")
    for sentence in made.missing:
        print(f"  missing: {sentence}")
    for sentence in made.wrong:
        print(f"  wrong: {sentence}")
    print(f"{made.path}  {made.size / 2**20:.1f} MiB")
    return FAILED if made.wrong else HOLDS


def _verify_bundle(arguments: argparse.Namespace) -> int:
    from ..core import progress
    from ..evidence.verify import verify

    with progress.watched_by(Paced()):
        found = verify(arguments.file)
    print(found)
    return found.code
