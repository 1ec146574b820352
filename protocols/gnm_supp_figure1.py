"""GNM supplement, Figure 1: more samples of GNM; do they stay right when there are many?

The authors' sheets hold 50 samples per dataset, and so does this figure.

Cost: nothing beyond Table 1, whose runs it shares (seed 0).

The authors' code does here what the supplement says: z^g from the prior, the mode of z^s below it.

Expect nearly every MNIST-4 scene to be right (0.984 by the authors' eyes) and about one MNIST-10 scene in six to
have a digit that is wrong, missing or unreadable. The figure has no numbers.
"""

from ..core.protocol import Gallery, dataset, metric, model
from ._gnm import ARROW_ROOM, CITATION, GNM, GNM_ARROW, SAMPLING, SCENES

# fmt: off
protocol = Gallery(
    paper=f"{CITATION}, supplement, Figure 1",
    models={"GNM": model("gnm")},
    datasets={
        "MNIST-4":    dataset("scenes", rule="mnist4"),
        "MNIST-10":   dataset("scenes", rule="mnist10"),
        "Arrow room": dataset("arrow_room"),
    },
    metrics={"Samples": metric("samples")},
    array="samples",
    rows=10,
    columns=5,
    deviations=GNM + GNM_ARROW + SCENES + ARROW_ROOM + SAMPLING,
)
# fmt: on
