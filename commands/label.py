"""`reprise label`: have people judge samples."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import get_args

from ..core import protocol as protocols
from ..core.protocol import TierName
from ..core.workspace import Workspace
from ._arguments import as_count, as_labels
from ._common import HOLDS, Add, tier_of


def add_to(add: Add) -> None:
    """Its arguments."""
    label = add(
        "label",
        _label,
        "have people judge samples: make a page for them, or take what they exported",
    )
    label.add_argument("action", choices=("export", "import"))
    label.add_argument("what", metavar="PROTOCOL|FILE", help="export PROTOCOL, import FILE.csv")
    exporting = label.add_argument_group("export")
    exporting.add_argument(
        "--tier", choices=get_args(TierName), help="whose samples (the largest tier measured)"
    )
    exporting.add_argument("--models", type=as_labels, default=(), metavar="A,B", help="(all)")
    exporting.add_argument("--datasets", type=as_labels, default=(), metavar="A,B", help="(all)")
    exporting.add_argument(
        "--images", type=as_count, default=250, metavar="N", help="per model and dataset (250)"
    )
    exporting.add_argument(
        "--out", type=Path, default=Path(), metavar="FOLDER", help="where the page goes (here)"
    )


def _label(arguments: argparse.Namespace) -> int:
    from ..render.label import export, import_labels

    workspace = Workspace(arguments.root)
    if arguments.action == "import":
        written, sentence = import_labels(workspace, Path(arguments.what))
        print(sentence)
        for file in written:
            print(file)
        return HOLDS
    name, _, _ = protocols.load(arguments.what)
    tier = tier_of(arguments.tier, workspace, name)
    made = export(
        workspace,
        name,
        tier,
        arguments.models,
        arguments.datasets,
        arguments.images,
        arguments.out,
    )
    print(f"{made.items} images of {name} at tier {tier}, shuffled and without names")
    print(f"{made.page}  for the raters")
    print(f"{made.key}  says which is which: keep it from them")
    return HOLDS
