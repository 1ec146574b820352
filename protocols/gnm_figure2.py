"""GNM, Figure 2: what do the samples of every model look like beside the data?

Real images in the first row, then samples of each model, for the three datasets.

Cost: nothing beyond Table 1, whose runs it shares (seed 0): drawing 50 samples takes seconds.

The authors' code takes the mode of everything below a sampled z^g, as the supplement says (the main paper does
not); a sample with z^s drawn too is in Figure 6 of the supplement.

Expect GNM's images to be hard to tell from data, blurred and misplaced digits from GENESIS, sharp digits in
wrong places, some unreadable, from ConvDRAW, and smears from the VAE. The figure has no numbers.
"""

from ..core.protocol import Gallery, dataset, metric, model
from ._gnm import ARROW_ROOM, CITATION, GNM, GNM_ARROW, SAMPLING, SCENES
from ._gnm_baselines import BASELINE_TRAINING, CONVDRAW, GENESIS, VAE

# fmt: off
protocol = Gallery(
    paper=f"{CITATION}, Figure 2",
    models={
        "GNM":        model("gnm"),
        "GENESIS":    model("genesis"),
        "ConvDRAW":   model("convdraw"),
        "ConvDRAW-8": model("convdraw", draw_steps=8),
        "VAE":        model("vae"),
    },
    datasets={
        "MNIST-4":    dataset("scenes", rule="mnist4"),
        "MNIST-10":   dataset("scenes", rule="mnist10"),
        "Arrow room": dataset("arrow_room"),
    },
    metrics={"Samples": metric("samples")},
    array="samples",
    reference="data",
    rows=2,
    columns=4,
    sizes={"demo": (
        {"dataset": ("MNIST-4",)},
        {"dataset": ("MNIST-10", "Arrow room"), "model": ("GNM", "GENESIS", "VAE")},
    )},
    deviations=GNM + GNM_ARROW + GENESIS + CONVDRAW + VAE + BASELINE_TRAINING + SCENES + ARROW_ROOM + SAMPLING,
)
# fmt: on
