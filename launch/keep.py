"""Keeps, beside the results, how a run was trained: from runs/<run>/ while it is there (core/trained.py)."""

from __future__ import annotations

import dataclasses
import json
import logging

from ..core import spec, trained
from ..core.errors import DataError
from ..core.run import Run
from ..core.spec import Spec
from ..core.trained import Trained
from ..core.workspace import Workspace

log = logging.getLogger(__name__)


def keep(workspace: Workspace, tier: str, run: Run, dataset: Spec, *, anew: bool = True) -> bool:
    """Write results/<tier>/trained/<run>.json if runs/ knows the run; True if the file changed.

    dataset: what the protocol says, without what the tier changed. anew: in the place of what was kept before.
    Damaged files leave what was kept before, and a warning: a report is no reason to lose a number.
    """
    folder, path = workspace.run(run.id), workspace.trained(tier, run.id)
    if path.exists() and not anew:
        return False
    published = {
        "model": dataclasses.asdict(run.published.config),
        "training": dataclasses.asdict(run.published.training),
        "dataset": dataclasses.asdict(spec.build(dataset)),
    }
    try:
        described = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        settings = described["settings"]
        if described["id"] != run.id:
            raise ValueError(f"it describes {described['id']}")
        kept = Trained(
            run=run.id,
            settings=settings,
            recipe=trained.differing(settings, published),
            log=trained.thinned(trained.read_curve(folder / "log.csv")),
        )
        return trained.write(path, kept)
    except FileNotFoundError:
        return False
    except (OSError, ValueError, TypeError, KeyError, AttributeError, DataError) as error:
        log.warning("%s: how it was trained is not kept (%s)", run.id, error)
        return False
