"""`reprise data`: fetch, verify, unpack or render a dataset."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import get_args

from ..core import spec
from ..core.errors import DataError, UsageError
from ..core.protocol import TierName
from ._arguments import as_change, as_count, once
from ._common import HOLDS, Add, Paced, say


def add_to(add: Add) -> None:
    """Its arguments."""
    data = add(
        "data",
        _data,
        "fetch the files of a dataset, verify that they are the right ones, or render its images",
    )
    data.add_argument("action", choices=("fetch", "verify", "render", "unpack"))
    data.add_argument("name", metavar="NAME", help="a dataset's, or all (of fetch and verify)")
    data.add_argument(
        "archive", nargs="?", type=Path, metavar="FILE", help="the archive to unpack (arrow_room)"
    )
    rendering = data.add_argument_group("render")
    rendering.add_argument(
        "--tier", choices=get_args(TierName), help="as many images as this tier has (paper)"
    )
    rendering.add_argument(
        "--set", action="append", default=[], metavar="dataset.KEY=VALUE", help="dataset.train=1000"
    )
    rendering.add_argument(
        "--workers", type=as_count, default=0, metavar="N", help="processes (one for each core)"
    )


def _data(arguments: argparse.Namespace) -> int:
    from ..core import progress
    from ..data import _registry

    if (arguments.action == "unpack") != (arguments.archive is not None):
        raise UsageError("`reprise data unpack NAME FILE` takes a file, and no other action does")
    if arguments.action == "unpack":
        with progress.watched_by(Paced()):
            print(_registry.unpack(arguments.name, arguments.archive))
        return HOLDS
    if arguments.action == "render":
        return _render(arguments)
    if arguments.action == "fetch":
        last = 0.0

        def watch(what: str, done: int, total: int) -> None:
            nonlocal last
            if time.monotonic() - last > 2:
                last = time.monotonic()
                say(f"{what}: {done / 1e6:.1f} of {total / 1e6:.1f} MB")

        with progress.watched_by(watch):
            _each(_registry.fetchable(), arguments.name, _fetch)
        return HOLDS
    _each(_registry.datasets(), arguments.name, _verify)
    return HOLDS


def _each(known: Sequence[str], name: str, act: Callable[[str], None]) -> None:
    """Do something with the files of one dataset, or with those of all: what fails then stops none of the others."""
    if name != "all":
        act(name)
        return
    failures = []
    for one in known:
        try:
            act(one)
        except DataError as error:
            failures.append(f"{one}: {error}")
            say(failures[-1])
    if failures:
        names = ", ".join(failure.partition(":")[0] for failure in failures)
        raise DataError(
            f"{len(failures)} of {len(known)} datasets are not whole: {names}; what was wrong is above"
        )


def _fetch(name: str) -> None:
    from ..data import _registry

    for path in _registry.fetch(name):
        print(path)


def _verify(name: str) -> None:
    from ..data import _registry

    checks = _registry.verify(name)
    for check in checks:
        print(check)
    if not all(check.ok for check in checks):
        raise DataError(f"{name} is not whole; mend it with `reprise data fetch {name}`")


def _render(arguments: argparse.Namespace) -> int:
    """Make the images of a dataset ahead of time; what is there is not made again."""
    from ..core import progress
    from ..core.dataset import SPLITS

    options: dict[str, spec.Value] = {}
    for key, value in once("--set", map(as_change, arguments.set)).items():
        kind, _, name = key.partition(".")
        if kind != "dataset":
            raise UsageError(f"--set {key} changes no dataset; expected dataset.KEY=VALUE")
        options[name] = value
    named = spec.dataset(arguments.name)
    cls = spec.load(named)
    if not hasattr(cls, "prepare"):
        raise UsageError(f"{arguments.name} has no images to render; they are there at once")
    data = spec.build(named.with_options(**{**cls.tiers.get(arguments.tier, {}), **options}))
    watch = Paced()
    with progress.watched_by(watch):
        for split in SPLITS:
            data.prepare(split, arguments.workers)
            found = data.split_digest(split)[:12]
            print(f"{data.info.name} {split}: {len(data.split(split)):,} images, digest {found}")
    return HOLDS
