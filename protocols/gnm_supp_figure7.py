"""GNM supplement, Figure 7: what do samples look like when scenes of 4 and of 10 digits are mixed?

MNIST-4-10 samples of six models, panels (a) to (f) of the figure, beside real images.

Cost: five models share the runs of the supplement's Table 1 (seed 0); the VAE is one run more.

Neither paper nor code says how MNIST-4-10 was mixed; ours is half of each, trained as MNIST-10.

Expect GNM and GNM-8 to keep the two kinds of scene apart, and every baseline to mix them: wrong counts, wrong
places, unreadable digits. The figure has no numbers.
"""

from ..core.protocol import Gallery, dataset, metric, model
from ._gnm import CITATION, GNM, MNIST410, SAMPLING, SCENES
from ._gnm_baselines import BASELINE_TRAINING, CONVDRAW, GENESIS, VAE

# fmt: off
protocol = Gallery(
    paper=f"{CITATION}, supplement, Figure 7",
    models={
        "GNM":        model("gnm"),
        "GNM-8":      model("gnm", draw_steps=8),
        "GENESIS":    model("genesis"),
        "ConvDRAW":   model("convdraw"),
        "ConvDRAW-8": model("convdraw", draw_steps=8),
        "VAE":        model("vae"),
    },
    datasets={"MNIST-4-10": dataset("scenes", rule="mnist4_10")},
    metrics={"Samples": metric("samples")},
    array="samples",
    reference="data",
    rows=4,
    columns=4,
    deviations=GNM + GENESIS + CONVDRAW + VAE + BASELINE_TRAINING + SCENES + MNIST410 + SAMPLING,
)
# fmt: on
