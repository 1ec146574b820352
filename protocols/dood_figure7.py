"""DooD, Figure 7: can it draw new exemplars of a character that it has seen once?

Five targets, and five others drawn of each: the strokes that were inferred, with noise on their control points, under
an affine map of the whole.

Cost: nothing beyond Figure 4, whose runs it shares (seed 0). At tiers demo and mini, models trained on MNIST (ours).

The authors' code keeps the likeliest of 20 parses, and turns by an angle converted twice, so by nothing. AIR's noise
is not in it. GNS is not implemented yet.

Expect characters that stay what they are and are written differently; by AIR, blurred ones. The figure has no
numbers.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from ..core.protocol import Block, Gallery, TierName
from ..core.results import PublishedValue, ResultRow
from ._dood import (
    AFFINE,
    AIR,
    CITATION,
    DATA,
    DATASETS,
    DOOD,
    EXEMPLARS,
    LEAK,
    NOT_OURS,
    ONE_SHOT_AIR,
    POSTERIOR,
    SILENCES,
    TOKENS,
    air_of,
    pending,
    trained_on,
)
from ._dood_figures import columns_of_tiles, said_of_data

# fmt: off
MODELS = {
    "DooD (QuickDraw)": DOOD.with_options(pen_noise=True),  # as the code has it for this set alone
    "DooD (Omniglot)":  DOOD,
    "AIR (Omniglot)":   air_of("Omniglot"),
    "GNS (Omniglot)":   NOT_OURS["GNS"],
    "DooD (MNIST)":     DOOD,  # ours, as is the next
    "AIR (MNIST)":      AIR,
}
TARGETS = {label: DATASETS[label] for label in ("QuickDraw", "Omniglot", "MNIST")}
METRICS = {"Exemplars": EXEMPLARS}
PANELS = (
    ("DooD (QuickDraw)", "QuickDraw"), ("DooD (Omniglot)", "Omniglot"), ("AIR (Omniglot)", "Omniglot"),
    ("GNS (Omniglot)", "Omniglot"), ("DooD (MNIST)", "MNIST"), ("DooD (MNIST)", "Omniglot"), ("AIR (MNIST)", "MNIST"),
    ("AIR (MNIST)", "Omniglot"),
)
FROM_MNIST: Block = {"model": ("DooD (MNIST)", "AIR (MNIST)"), "dataset": ("MNIST", "Omniglot")}
SIZES: dict[TierName, tuple[Block, ...]] = {
    "demo":  (FROM_MNIST,),
    "mini":  (FROM_MNIST,),
    "paper": (
        FROM_MNIST,
        {"model": ("DooD (QuickDraw)",), "dataset": ("QuickDraw",)},
        {"model": ("DooD (Omniglot)", "AIR (Omniglot)", "GNS (Omniglot)"), "dataset": ("Omniglot",)},
    ),
}
# fmt: on


def draw(
    rows: Sequence[ResultRow],
    published: Sequence[PublishedValue],
    artifacts: Mapping[Any, Mapping[str, Any]],
) -> Any:
    """Targets on top, their new exemplars below."""
    made = {row.key[:2] for row in rows}
    panels = [
        (f"{label}\non {target}", (label, target, "Exemplars", 0), "grid")
        for label, target in PANELS
        if (label, target) in made or not made
    ]
    return said_of_data(columns_of_tiles(rows, artifacts, panels, across=4, columns=5), rows)


# fmt: off
protocol = Gallery(
    paper=f"{CITATION}, Figure 7",
    models=MODELS,
    train=trained_on(MODELS),
    datasets=TARGETS,
    metrics=METRICS,
    sizes=SIZES,
    array="grid",
    pending=pending(MODELS, TARGETS, METRICS),
    deviations=AFFINE + LEAK + POSTERIOR + TOKENS + ONE_SHOT_AIR[1:3] + SILENCES + DATA,
    draw=draw,
)
# fmt: on
