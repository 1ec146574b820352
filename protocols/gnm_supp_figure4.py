"""GNM supplement, Figure 4: samples of ConvDRAW with 8 drawing steps; what does a larger beta buy?

Samples at beta 1 and beta 10 for the three datasets, labelled as in the supplement's Table 1.

Cost: at beta 1 nothing beyond Table 1 (seed 0 shared); at beta 10 three runs of 1,125,000 updates of 32 images.

The authors' code for ConvDRAW was not released, so there is nothing to differ from; its architecture is read from
section 4.2 of the supplement, which leaves the decoder of z open (see the deviations).

Expect clearer structure and less sharp digits at beta 10: on MNIST-4-10 it raises structure accuracy from about 0
to 0.88 and costs 300 nats of log-likelihood (supplement, Table 1). The figure has no numbers.
"""

from ..core.protocol import Gallery, dataset, metric, model
from ._gnm import ARROW_ROOM, CITATION, SAMPLING, SCENES
from ._gnm_baselines import BASELINE_TRAINING, CONVDRAW

# fmt: off
protocol = Gallery(
    paper=f"{CITATION}, supplement, Figure 4",
    models={
        "ConvDRAW-8":      model("convdraw", draw_steps=8),
        "ConvDRAW-8-β-10": model("convdraw", draw_steps=8, beta=10.0),
    },
    datasets={
        "MNIST-4":    dataset("scenes", rule="mnist4"),
        "MNIST-10":   dataset("scenes", rule="mnist10"),
        "Arrow room": dataset("arrow_room"),
    },
    metrics={"Samples": metric("samples")},
    array="samples",
    rows=8,
    columns=4,
    sizes={"demo": ({"dataset": ("MNIST-4",)},)},
    deviations=CONVDRAW + BASELINE_TRAINING + SCENES + ARROW_ROOM + SAMPLING,
)
# fmt: on
