"""GNM, representation controls: what do the numbers of the supplement's Table 2 rest on?

No table of the paper. COCO's average precision (101 recalls), which has no ceiling at 10/11; the share of the objects
seen that are near a true one, the others being left out of the classification; and the classification where there
should be nothing to learn: z^what of an untrained model, and permuted classes.

Cost: nothing beyond the supplement's Table 2, whose runs it shares (seed 0).

Nothing of the authors' code is known here; COCO's average precision is COCO's own code.

Expect COCO's average precision near 1 at IoU 0.5 where the 11-point one is near 0.909, nearly every object seen near a
true one, permuted classes at about 0.10 on MNIST-10 and at most 0.14 on MNIST-4, and an untrained model well below
a trained one.
"""

from ..core.protocol import Table, dataset, metric, model
from ._gnm import AVERAGE_PRECISION, CITATION, GNM, SCENES, WHAT_CLASSIFICATION
from ._gnm_baselines import SPACE

# fmt: off
protocol = Table(
    paper=f"{CITATION}: controls of the supplement's Table 2 (no published item)",
    models={
        "GNM":   model("gnm"),
        "SPACE": model("space"),
    },
    datasets={
        "MNIST-10": dataset("scenes", rule="mnist10"),
        "MNIST-4":  dataset("scenes", rule="mnist4"),
    },
    metrics={
        "COCO AP@.5":       metric("average_precision", iou="0.5", interpolation="101-point"),
        "COCO AP@[.5:.95]": metric("average_precision", iou="0.5:0.95", interpolation="101-point"),
        "Matched":          metric("matched_objects"),
        "Untrained":        metric("what_classification", control="untrained"),
        "Shuffled":         metric("what_classification", control="shuffled"),
    },
    rows=("model", "dataset"),
    columns=("metric",),

    deviations=GNM + SPACE + SCENES + AVERAGE_PRECISION + WHAT_CLASSIFICATION,
)
# fmt: on
