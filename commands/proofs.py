"""`reprise self-test` and `reprise check-model`: does the code notice bugs, and does a model keep its contract?"""

from __future__ import annotations

import argparse

from ..core import spec
from ._arguments import as_count
from ._common import FAILED, HOLDS, Add, Paced


def add_to(add: Add) -> None:
    """Its arguments."""
    proof = add(
        "self-test", _self_test, "put known bugs in, one at a time: is each of them caught?"
    )
    proof.add_argument("--only", action="append", default=[], metavar="BUG", help="by its name")
    proof.add_argument("--list", action="store_true", help="the bugs, and where they are put")
    proof.add_argument("--workers", type=as_count, default=0, metavar="N", help="processes")

    contract = add(
        "check-model", _check_model, "does a class keep the contract of GenerativeModel?"
    )
    contract.add_argument(
        "model", metavar="MODULE:CLASS", help="or the name of a model of this repository"
    )


def _self_test(arguments: argparse.Namespace) -> int:
    """Exit code 1 if a bug survives; 3 if the guard finds fault with the code as it is."""
    from ..core import progress
    from ..guard import selftest

    mutants = selftest.chosen(arguments.only)
    if arguments.list:
        for mutant in mutants:
            print(f"{mutant.name}  ({mutant.file})")
        return HOLDS
    with progress.watched_by(Paced()):
        found = list(selftest.run(mutants, arguments.workers))
    print(selftest.table(found, mutants))
    return HOLDS if all(one.caught for one in found) else FAILED


def _check_model(arguments: argparse.Namespace) -> int:
    from ..launch.contract import check_model

    for finding in check_model(spec.model(arguments.model)):
        print(f"ok  {finding}", flush=True)
    print(f"{arguments.model} keeps the contract")
    return HOLDS
