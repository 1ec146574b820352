"""`reprise list` and `reprise show`: what there is, and how much of it is done."""

from __future__ import annotations

import argparse
from typing import get_args

from ..core import protocol as protocols
from ..core.errors import DataError
from ..core.protocol import TIERS, Protocol, TierName
from ..core.published import published
from ..core.results import rows_of
from ..core.workspace import Workspace
from ._common import HOLDS, USAGE, Add, counted, say, tier_of


def add_to(add: Add) -> None:
    """Its arguments."""
    add("list", _list, "the protocols, and how much of each is done")
    show = add(
        "show",
        _show,
        "one protocol: its question, published values, what is done and what is missing",
    )
    show.add_argument("protocol", metavar="PROTOCOL")
    show.add_argument("--tier", choices=get_args(TierName))


def _list(_: argparse.Namespace) -> int:
    from tabulate import tabulate

    workspace, lines, unread = Workspace(_.root), [], list[str]()
    for name in protocols.names():
        _full, protocol, text = protocols.load(name)
        counts = []
        for tier in TIERS:
            try:
                counts.append(_progress(workspace, name, protocol, tier))
            except DataError as error:
                counts.append("unreadable")
                unread.append(str(error))
        lines.append([name, *counts, text.strip().partition("\n")[0]])
    print(tabulate(lines, ["protocol", *TIERS, "question"], disable_numparse=True))
    print("\ncells measured of cells there are, per tier; `reprise show PROTOCOL` says more")
    for trouble in unread:
        say(f"reprise: {trouble}")
    return USAGE if unread else HOLDS


def _progress(workspace: Workspace, name: str, protocol: Protocol, tier: TierName) -> str:
    wanted = _wanted(name, protocol, tier)
    done = {
        row.key for row in rows_of(workspace, tier, name) if row.status in ("ok", "n/a", "diverged")
    }
    return f"{len(wanted & done)}/{len(wanted)}"


def _wanted(name: str, protocol: Protocol, tier: TierName) -> set[tuple[str, str, str, int]]:
    cells = protocol.cells(name, protocol.seeds_for(tier), tier)
    return {(cell.model_label, cell.dataset_label, cell.metric_label, cell.seed) for cell in cells}


def _show(arguments: argparse.Namespace) -> int:
    workspace = Workspace(arguments.root)
    name, protocol, text = protocols.load(arguments.protocol)
    from ..render import table

    tier = tier_of(arguments.tier, workspace, name)
    rows = rows_of(workspace, tier, name)
    print(
        f"{name} — {protocol.paper}\n\n{text.strip()}\n\nTier {tier}: {TIERS[tier].description}.\n"
    )
    print(table.to_terminal(table.build(name, protocol, rows, published(name), tier)))
    missing = _wanted(name, protocol, tier) - {row.key for row in rows if row.status != "failed"}
    if missing:
        call = f"run_protocol {name} --tier {tier}"
        print(f"\nmissing: {counted(len(missing), 'cell')}; `{call}` makes what is missing")
    return HOLDS
