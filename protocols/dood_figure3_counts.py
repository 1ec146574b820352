"""DooD, Figure 3b to d: do the models draw simple images with few strokes and complex ones with many?

Strokes (AIR: parts) that models trained on MNIST draw images of three sets with, at most ten instead of the six of
their training; and the share of images for which ten are not enough.

Cost: nothing beyond Figure 4 for DooD and AIR; three more models trained on MNIST at tier paper (vanilla AIR, and
DooD without guidance and with a neural renderer, of which the text speaks). At tiers demo and mini, DooD and AIR.

The authors' code leaves dropout on and takes one draw of 704 images of each set, and so do "Strokes" and "At cap";
"no dropout" is ours. Their histograms' legend has colours in the wrong order, and their percentages are of three sets
together. Published means are read off bars.

Expect 2.2 to 2.6 strokes on MNIST, 4.8 to 6.2 on Omniglot and more than 7.5 on QuickDraw; of vanilla AIR, one
everywhere.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from ..core.claims import all_of, at_least, at_most, each, lower, within
from ..core.protocol import Claim, Table, metric
from ..core.results import PublishedValue, ResultRow
from ._dood import (
    AIR,
    CITATION,
    COUNTS,
    DATA,
    DATASETS,
    DOOD,
    GUIDANCE,
    MODEL,
    VANILLA_AIR,
    pending,
)
from ._dood_figures import histograms, said_of_data

# fmt: off
MODELS = {
    "DooD":        DOOD.with_options(reads=10),
    "AIR":         AIR.with_options(reads=10),
    "Vanilla AIR": VANILLA_AIR.with_options(reads=10),
    "DooD−δR":     DOOD.with_options(renderer="mlp", reads=10),
    "DooD−EG":     DOOD.with_options(guided=False, reads=10),
}
TRAIN = dict.fromkeys(MODELS, DATASETS["MNIST"])
TARGETS = {label: DATASETS[label] for label in ("MNIST", "Omniglot", "QuickDraw")}
METRICS = {
    "Strokes":             metric("part_counts", dropout=True),
    "At cap":              metric("part_counts", quantity="at_cap", dropout=True),
    "Strokes, no dropout": metric("part_counts"),
}
# fmt: on


def draw(
    rows: Sequence[ResultRow],
    published: Sequence[PublishedValue],
    artifacts: Mapping[Any, Mapping[str, Any]],
) -> Any:
    """A histogram per model."""
    made = [label for label in MODELS if any(row.model == label for row in rows)]
    shown = made or list(MODELS)[:3]
    return said_of_data(
        histograms(rows, published, artifacts, shown, list(TARGETS), "Strokes", "Strokes"), rows
    )


# fmt: off
protocol = Table(
    paper=f"{CITATION}, Figure 3b to d",
    models=MODELS,
    train=TRAIN,
    datasets=TARGETS,
    metrics=METRICS,
    rows=("model",),
    columns=("metric", "dataset"),
    seeds=5,
    sizes={tier: ({"model": ("DooD", "AIR")},) for tier in ("demo", "mini")},
    pending=pending(MODELS, TARGETS, METRICS),
    claims=(
        Claim("DooD draws digits with two to three strokes on average", "Figure 3b",
              all_of(at_least(("DooD", "MNIST", "Strokes"), 2.0), at_most(("DooD", "MNIST", "Strokes"), 3.0))),
        *(
            Claim(f"{label} uses fewer strokes for digits than for Omniglot and QuickDraw",
                  "section 3.1: 'fewer strokes for simpler datasets (e.g. MNIST) and more strokes for more complex "
                  "datasets (e.g. Omniglot)'",
                  each({target: lower((label, "MNIST", "Strokes"), (label, target, "Strokes"))
                        for target in ("Omniglot", "QuickDraw")}))
            for label in ("DooD", "AIR", "DooD−δR")
        ),
        Claim("vanilla AIR does not use more for other sets: within half a step",
              "caption of Figure 3: 'unlike Vanilla AIR'",
              each({target: within(("Vanilla AIR", "MNIST", "Strokes"), ("Vanilla AIR", target, "Strokes"), 0.5)
                    for target in ("Omniglot", "QuickDraw")})),
        Claim("without guidance DooD uses all strokes that it may: at least 9.5 of ten",
              "section 3.1: 'always using the maximum allowed number'", at_least(("DooD−EG", "MNIST", "Strokes"), 9.5)),
    ),
    deviations=MODEL + COUNTS + GUIDANCE + DATA,
    draw=draw,
)
# fmt: on
