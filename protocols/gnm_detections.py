"""GNM, detections: do the inferred boxes sit on the objects that are there?

Test images with a blue outline around every true object and a red one around every object that the model sees
(presence above one half). What the average precision of the supplement's Table 2 counts, to be looked at.

Cost: SPACE on the Arrow room is one run more than Table 1 and the supplement's Table 2 (seed 0 shared).

Nothing is known of the authors' code for such figures; our boxes are posterior means, not draws.

Expect one red box around each blue one, about 2 pixels larger on each side, and no red boxes elsewhere. The number
beside each panel is the share of true objects that a box of its own overlaps by more than one half.
"""

from ..core.protocol import Gallery, dataset, metric, model
from ._gnm import ARROW_ROOM, CITATION, GNM, GNM_ARROW, SCENES
from ._gnm_baselines import SPACE

# fmt: off
protocol = Gallery(
    paper=f"{CITATION}: inferred boxes on test images (no published item)",
    models={
        "GNM":   model("gnm"),
        "SPACE": model("space"),
    },
    datasets={
        "MNIST-4":    dataset("scenes", rule="mnist4"),
        "MNIST-10":   dataset("scenes", rule="mnist10"),
        "Arrow room": dataset("arrow_room"),
    },
    metrics={"Detections": metric("detections")},
    array="overlay",
    rows=3,
    columns=3,
    deviations=GNM + GNM_ARROW + SPACE + SCENES + ARROW_ROOM,
)
# fmt: on
