"""DooD, Figure 3a: what is left of the drawings without guidance, without the spline, and by AIR?

Models trained on MNIST draw images of all five sets again, part by part; the error of what they end with.

Cost: DooD and AIR are those of Figure 4; −δR and −EG are two more models trained on MNIST. At tier mini, DooD and
AIR; at tier demo all four.

The authors' code shows the best of 20 draws by likelihood for DooD and a single one for AIR; here all models have
one. Guidance is taken away with more than the canvas, see the deviations.

Expect DooD's drawings to be right on digits and nearly right elsewhere, AIR's to be blurred or incomplete, −δR's to
be blurred too, and −EG to take all six strokes for every image.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from ..core.protocol import Claim, Table
from ..core.results import PublishedValue, ResultRow
from ._dood import (
    AFFINE,
    AIR,
    CITATION,
    CONFOUND,
    DATA,
    DATASETS,
    DOOD,
    DRAWINGS,
    GUIDANCE,
    LEAK,
    POSTERIOR,
    RECONSTRUCTIONS,
    SHOWN,
    SILENCES,
    SOURCES,
    everywhere_else,
    pending,
)
from ._dood_figures import said_of_data, step_by_step

# fmt: off
MODELS = {
    "DooD":    DOOD,
    "AIR":     AIR,
    "DooD−δR": DOOD.with_options(renderer="mlp"),
    "DooD−EG": DOOD.with_options(guided=False),
}
TRAIN = dict.fromkeys(MODELS, DATASETS["MNIST"])
METRICS = {"Drawing": DRAWINGS, "MSE": RECONSTRUCTIONS}
# fmt: on


def draw(
    rows: Sequence[ResultRow],
    published: Sequence[PublishedValue],
    artifacts: Mapping[Any, Mapping[str, Any]],
) -> Any:
    """A line of panels per model: three images of each set, and the canvas after each part below them."""
    made = [label for label in MODELS if any(row.model == label for row in rows)]
    return said_of_data(step_by_step(artifacts, made or list(MODELS), SOURCES, "Drawing", 3), rows)


# fmt: off
protocol = Table(
    paper=f"{CITATION}, Figure 3a (no published item: pictures)",
    models=MODELS,
    train=TRAIN,
    datasets=DATASETS,
    metrics=METRICS,
    rows=("metric", "model"),
    columns=("dataset",),
    seeds=5,
    sizes={"mini": ({"model": ("DooD", "AIR")},)},
    pending=pending(MODELS, DATASETS, METRICS),
    claims=tuple(
        Claim(f"DooD's reconstructions of every other set are nearer than those of {label}",
              f"section 3.1, Figure 3a: {said}",
              everywhere_else("DooD", label, "MNIST", "MSE"))
        for label, said in (
            ("AIR", "'reconstructions are often inaccurate, blurry or incomplete'"),
            ("DooD−δR", "'the reconstruction quality suffers'"),
            ("DooD−EG", "'it still shows instances of missing strokes'"),
        )
    ),
    deviations=AFFINE + LEAK + POSTERIOR + SHOWN + GUIDANCE + CONFOUND + SILENCES + DATA,
    draw=draw,
)
# fmt: on
