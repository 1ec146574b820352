"""GNM, objects found: how many objects does the model see, and is it the right number?

No table of the paper: the check that stands before its tables. Mean number of objects present in an image (of 16
cells), the number that are there, and the share of test images where both agree.

Cost: nothing beyond Table 1, whose runs it shares (seed 0).

The authors' code lowers the prior probability of presence from 0.1 to 0.001 over the first 4,000 steps; the paper
says only that it is small.

Expect 4 objects on MNIST-4 and 10 on MNIST-10. The published average precision (0.905 at IoU 0.5, whose ceiling
is 10/11) leaves room for almost no missed digit.
"""

from ..core.protocol import Table, dataset, metric, model
from ._gnm import ARROW_ROOM, CITATION, GNM, GNM_ARROW, SCENES

# fmt: off
protocol = Table(
    paper=f"{CITATION}: number of objects found (no published item)",
    models={"GNM": model("gnm")},
    datasets={
        "MNIST-4":    dataset("scenes", rule="mnist4"),
        "MNIST-10":   dataset("scenes", rule="mnist10"),
        "Arrow room": dataset("arrow_room"),
    },
    metrics={
        "Found":  metric("presence", count="found"),
        "There":  metric("presence", count="there"),
        "Right":  metric("presence", count="right"),
    },
    rows=("model",),
    columns=("dataset", "metric"),
    deviations=GNM + GNM_ARROW + SCENES + ARROW_ROOM,
)
# fmt: on
