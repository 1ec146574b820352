"""GNM supplement, Figure 6: what is left to z^s once z^g is fixed?

One z^g per row, drawn from the prior; along the row, ten images with z^s drawn anew from p(z^s | z^g).

Cost: nothing beyond Table 1, whose runs it shares (seed 0).

All other samples of the authors take the mode of z^s, in the supplement and in the code; what exactly they drew
here is not said. We draw every part of z^s, presences too.

Expect the same scene along a row: digit styles change a little, positions and classes do not. The number beside
each panel is the standard deviation of a pixel along its row; the paper finds it alike in Figures 5 and 6.
"""

from ..core.protocol import Gallery, dataset, metric, model
from ._gnm import ARROW_ROOM, CITATION, GNM, GNM_ARROW, RESAMPLING, SCENES

# fmt: off
protocol = Gallery(
    paper=f"{CITATION}, supplement, Figure 6",
    models={"GNM": model("gnm")},
    datasets={
        "Arrow room": dataset("arrow_room"),
        "MNIST-10":   dataset("scenes", rule="mnist10"),
        "MNIST-4":    dataset("scenes", rule="mnist4"),
    },
    metrics={"z^s samples": metric("resampling", source="prior", rows=5, draws=10)},
    array="grid",
    rows=5,
    columns=10,
    deviations=GNM + GNM_ARROW + SCENES + ARROW_ROOM + RESAMPLING,
)
# fmt: on
