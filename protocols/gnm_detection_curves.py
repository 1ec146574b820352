"""GNM, detections through training: how soon do the inferred boxes sit on the objects?

Average precision at IoU 0.5 of the boxes of GNM and SPACE after each share of their training, by the rule of the
supplement's Table 2, which ends at 10/11 unless every object is found.

Cost: the runs of Table 1 and of the supplement's Table 2 (seed 0 shared), and SPACE on the Arrow room: weights are kept
along every training. At tier demo on MNIST-4 alone.

The authors' code logs no such curve, and SPACE as it was compared with was not released.

Expect both to rise while the prior of presence falls and to end near 0.905, the published value on both MNIST sets.
"""

from ..core.protocol import Curves, dataset, metric, model, through_training
from ._gnm import ARROW_ROOM, AVERAGE_PRECISION, CITATION, GNM, GNM_ARROW, SCENES
from ._gnm_baselines import SPACE

# fmt: off
protocol = Curves(
    paper=f"{CITATION}: boxes through training (no published item)",
    models=through_training({
        "GNM":   model("gnm"),
        "SPACE": model("space"),
    }),
    datasets={
        "MNIST-4":    dataset("scenes", rule="mnist4"),
        "MNIST-10":   dataset("scenes", rule="mnist10"),
        "Arrow room": dataset("arrow_room"),
    },
    metrics={"AP@.5": metric("average_precision", iou="0.5")},
    sizes={"demo": ({"dataset": ("MNIST-4",)},)},
    deviations=GNM + GNM_ARROW + SPACE + SCENES + ARROW_ROOM + AVERAGE_PRECISION,
)
# fmt: on
