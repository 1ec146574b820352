"""GNM, reconstructions with the inferred boxes: does the model explain each digit with a box of its own?

No figure of the paper at hand, but the first thing to look at: input, reconstruction, and the reconstruction
with a box around every object that is present (probability above one half). Nothing else in Table 1 means what
it says before these boxes sit on digits.

Cost: nothing beyond Table 1, whose runs it shares (seed 0).

Nothing is known to differ between the authors' code and their paper here; our boxes are posterior means, not draws.

Expect one tight box per digit, about 2 pixels larger than the digit on each side, and no boxes elsewhere. Few
large boxes, or none, mean that the presences have collapsed; `gnm_presence` counts them.
"""

from ..core.protocol import Gallery, dataset, metric, model
from ._gnm import ARROW_ROOM, CITATION, GNM, GNM_ARROW, SCENES

# fmt: off
protocol = Gallery(
    paper=f"{CITATION}: inferred boxes on reconstructions (no published item)",
    models={"GNM": model("gnm")},
    datasets={
        "MNIST-4":    dataset("scenes", rule="mnist4"),
        "MNIST-10":   dataset("scenes", rule="mnist10"),
        "Arrow room": dataset("arrow_room"),
    },
    metrics={"Reconstructions": metric("reconstructions")},
    array="grid",
    rows=6,
    columns=3,
    deviations=GNM + GNM_ARROW + SCENES + ARROW_ROOM,
)
# fmt: on
