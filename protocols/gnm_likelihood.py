"""GNM, the scale of the likelihood: what would a black image score, or the mean of all images?

No table of the paper. Table 1's log-likelihoods beside three that no model is needed for: every image explained by a
black one, by the mean training image, and by itself, with the same sigma; the last is the bound that a model comes near
to as its images grow sharp and its latents cheap.

Cost: nothing beyond Table 1, whose runs it shares (seed 0); the three scales need no training.

Sigma is not stated in the paper; the authors' code has 0.2 for GNM, from where our baselines have it.

Expect every model of Table 1 far above the mean image: the published numbers are 85 to 99.6 per cent of the bound. One
that is not has not trained, whatever its samples look like.
"""

from ..core.claims import Claim, lower
from ..core.protocol import Table, dataset, metric, model
from ._gnm import ARROW_ROOM, CITATION, GNM, GNM_ARROW, LOG_LIKELIHOOD, SCENES
from ._gnm_baselines import BASELINE_TRAINING, CONVDRAW, GENESIS, VAE

# fmt: off
MODELS = {
    "GNM":        model("gnm"),
    "GENESIS":    model("genesis"),
    "ConvDRAW":   model("convdraw"),
    "ConvDRAW-8": model("convdraw", draw_steps=8),
    "VAE":        model("vae"),
}
DATASETS = {
    "ARROW":    dataset("arrow_room"),
    "MNIST-10": dataset("scenes", rule="mnist10"),
    "MNIST-4":  dataset("scenes", rule="mnist4"),
}

protocol = Table(
    paper=f"{CITATION}: scale of Table 1's likelihoods (no published item)",
    models=MODELS,
    datasets=DATASETS,
    metrics={
        "Black":      metric("likelihood_scale", shows="black"),
        "Mean image": metric("likelihood_scale", shows="mean"),
        "Bound":      metric("likelihood_scale", shows="itself"),
        "LL":         metric("log_marginal", particles=100),
    },
    rows=("model",),
    columns=("dataset", "metric"),
    only=dict.fromkeys([label for label in MODELS if label != "GNM"], ("LL",)),  # their sigma is the same
    sizes={"demo": ({"dataset": ("MNIST-4",)}, {"dataset": ("ARROW",), "model": ("GNM",)})},
    claims=tuple(
        Claim(f"gate: {label} explains more of {data} than the mean image does", "ours",
              lower(("GNM", data, "Mean image"), (label, data, "LL")))
        for data in DATASETS for label in MODELS
    ),
    deviations=GNM + GNM_ARROW + GENESIS + CONVDRAW + VAE + BASELINE_TRAINING + SCENES + ARROW_ROOM + LOG_LIKELIHOOD,
)
# fmt: on
