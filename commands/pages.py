"""`reprise report`: the pages of reports/ from the CSVs of results/."""

from __future__ import annotations

import argparse
from typing import get_args

from ..core import protocol as protocols
from ..core.errors import DataError
from ..core.protocol import TIERS, TierName
from ..core.results import rows_of
from ..core.workspace import Workspace
from ._common import HOLDS, USAGE, Add, say


def add_to(add: Add) -> None:
    """Its arguments."""
    report = add("report", _report, "write the pages of reports/ anew from the CSVs of results/")
    report.add_argument("protocols", nargs="*", metavar="PROTOCOL", help="(all that have results)")
    report.add_argument("--tier", choices=get_args(TierName), help="(all that have results)")


def _report(arguments: argparse.Namespace) -> int:
    from ..render import document

    workspace, written, unread = Workspace(arguments.root), [], False
    chosen = [protocols.load(name)[0] for name in arguments.protocols]
    tiers: list[TierName] = [arguments.tier] if arguments.tier else list(TIERS)
    there = {
        tier: [name for name in protocols.names() if workspace.results(tier, name).exists()]
        for tier in tiers
    }
    for name in chosen:
        if not any(name in names for names in there.values()):
            where = workspace.results(arguments.tier or "*", name)
            tier = arguments.tier or tiers[0]
            raise DataError(f"{where} does not exist; `run_protocol {name} --tier {tier}` makes it")
    for tier, known in there.items():
        names = [name for name in known if name in chosen]
        for name in () if chosen else known:  # of all of them, those that can be read
            try:
                rows_of(workspace, tier, name)
            except DataError as error:
                say(f"reprise: {error}")
                unread = True
            else:
                names.append(name)
        if names:
            written += document.report(workspace, tier, names)
    if not written:
        raise DataError(
            f"{workspace.root / 'results'} has no results to report; `run_protocol` makes some"
        )
    for file in written:
        print(file)
    return USAGE if unread else HOLDS
