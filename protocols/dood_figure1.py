"""DooD, Figure 1: how does a model that has only seen digits draw characters and doodles?

DooD trained on MNIST, images of all five sets, and the canvas after each stroke.

Cost: nothing beyond Figure 4, whose runs it shares (seed 0).

The authors' code shows the best of 20 draws by likelihood; here it is the one that is drawn.

Expect two or three strokes for a digit and up to six for the rest, each of which adds what was missing. The figure
has no numbers.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from ..core.protocol import Gallery
from ..core.results import PublishedValue, ResultRow
from ._dood import (
    AFFINE,
    CITATION,
    DATA,
    DATASETS,
    DOOD,
    DRAWINGS,
    LEAK,
    POSTERIOR,
    SHOWN,
    SILENCES,
    SOURCES,
    pending,
)
from ._dood_figures import said_of_data, step_by_step

# fmt: off
MODELS = {"DooD": DOOD}
METRICS = {"Drawing": DRAWINGS}
# fmt: on


def draw(
    rows: Sequence[ResultRow],
    published: Sequence[PublishedValue],
    artifacts: Mapping[Any, Mapping[str, Any]],
) -> Any:
    """Four images of each set, and the canvas after each stroke below them."""
    return said_of_data(step_by_step(artifacts, ("DooD",), SOURCES, "Drawing", 4), rows)


# fmt: off
protocol = Gallery(
    paper=f"{CITATION}, Figure 1",
    models=MODELS,
    train={"DooD": DATASETS["MNIST"]},
    datasets=DATASETS,
    metrics=METRICS,
    array="grid",
    pending=pending(MODELS, DATASETS, METRICS),
    deviations=AFFINE + LEAK + POSTERIOR + SHOWN + SILENCES + DATA,
    draw=draw,
)
# fmt: on
