"""DooD, Figure 8: how does it go on with a drawing that has been begun?

Four first strokes of the prior for each set, and six ways to go on from the image of each.

Cost: nothing beyond Figure 4, whose runs it shares (seed 0). At tiers demo and mini, DooD trained on MNIST.

The authors' code goes on from the reconstruction of what was begun, and its first step looks at the ink before it is
squashed, where the paper sets the canvas to the partial figure itself.

Expect completions that differ and keep what was begun. The figure has no numbers.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from ..core.protocol import Gallery
from ..core.results import PublishedValue, ResultRow
from ._dood import (
    AFFINE,
    CITATION,
    COMPLETIONS,
    DATA,
    DATASETS,
    DOOD,
    LEAK,
    PARTIAL,
    POSTERIOR,
    SILENCES,
    TEMPERING,
    pending,
)
from ._dood_figures import columns_of_tiles, said_of_data

# fmt: off
MODELS = {"DooD": DOOD}
METRICS = {"Completions": COMPLETIONS}
# fmt: on


def draw(
    rows: Sequence[ResultRow],
    published: Sequence[PublishedValue],
    artifacts: Mapping[Any, Mapping[str, Any]],
) -> Any:
    """What was begun on top, its completions below."""
    made = {row.dataset for row in rows}
    panels = [
        (label, ("DooD", label, "Completions", 0), "grid")
        for label in DATASETS
        if label in made or not made
    ]
    return said_of_data(columns_of_tiles(rows, artifacts, panels, across=5, columns=4), rows)


# fmt: off
protocol = Gallery(
    paper=f"{CITATION}, Figure 8",
    models=MODELS,
    datasets=DATASETS,
    metrics=METRICS,
    sizes={tier: ({"dataset": ("MNIST",)},) for tier in ("demo", "mini")},
    array="grid",
    pending=pending(MODELS, DATASETS, METRICS),
    deviations=AFFINE + LEAK + POSTERIOR + TEMPERING + PARTIAL + SILENCES + DATA,
    draw=draw,
)
# fmt: on
