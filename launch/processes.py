"""How processes are made: forked from a clean one that has imported torch and done nothing else, where possible.

Importing torch takes seconds; a fork of the driver itself would inherit its threads and handles. No torch here.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.forkserver
from multiprocessing.context import ForkServerContext, SpawnContext


def processes() -> SpawnContext | ForkServerContext:
    """What makes worker processes."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([f"{__package__}.work"])
    return context


def warm_up() -> None:
    """Let the clean process begin to import torch now, while the driver is busy with something else."""
    if isinstance(processes(), ForkServerContext):
        multiprocessing.forkserver.ensure_running()
