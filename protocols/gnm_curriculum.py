"""GNM, no curriculum: would the background explain the Arrow room alone?

Average precision of the boxes, structure accuracy of the samples and log-likelihood on the Arrow room: with the mask
curriculum as coded, as the supplement describes it, and without it and without the weight on the background's prior.

Cost at tier paper: GNM is that of Table 1 (seed 0 shared); two runs of 1,125,000 updates more.

The authors' code differs from their supplement in what the curriculum does, see the deviations; both are rows.

Expect, from section 3 of the supplement, objects without presence where there is no curriculum, and so an average
precision near 0. No number of the paper is known for it, and none is laid beside ours.
"""

from ..core.protocol import Table, dataset, metric, model
from ._gnm import (
    ARROW_ROOM,
    AVERAGE_PRECISION,
    CITATION,
    GNM,
    GNM_ARROW,
    LOG_LIKELIHOOD,
    SAMPLING,
    STRUCTURE_ACCURACY,
    UNKNOWN_NUMBERS,
)

# fmt: off
protocol = Table(
    paper=f"{CITATION}, supplement, section 3: GNM without the curriculum (no published item)",
    models={
        "GNM":                       model("gnm"),
        "GNM (curriculum in boxes)": model("gnm", curriculum="boxes"),
        "GNM (no curriculum)":       model("gnm", curriculum="off"),
    },
    datasets={"ARROW": dataset("arrow_room")},
    metrics={
        "AP@.5": metric("average_precision", iou="0.5"),
        "S-Acc": metric("structure_accuracy"),
        "LL":    metric("log_marginal", particles=100),
    },
    rows=("model",),
    columns=("dataset", "metric"),
    sizes={"demo": ({"model": ("GNM", "GNM (no curriculum)")},)},
    deviations=UNKNOWN_NUMBERS + GNM + GNM_ARROW + SAMPLING + AVERAGE_PRECISION
    + STRUCTURE_ACCURACY + LOG_LIKELIHOOD + ARROW_ROOM,
)
# fmt: on
