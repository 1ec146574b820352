"""GNM, ablations: what do StructDRAW and its interaction MLP contribute?

Structure accuracy, D-Steps and log-likelihood of GNM with a Gaussian z^g (GNM-Gaussian), of GNM without the MLP that
lets all cells interact (GNM-NoMLP), and of ConvDRAW with that MLP (ConvDRAW-MLP), beside GNM and ConvDRAW.

Cost at tier paper: GNM and ConvDRAW are those of Table 1 (seed 0 shared); three variants on three datasets are 9 runs
of 1,125,000 updates more.

The authors' code has GNM alone. The paper announces the ablation; the copy at hand ends before it, so none of its
numbers is known and none is laid beside ours. The cells of GNM and ConvDRAW are compared in Table 1.

Expect, from the argument of section 3.2, both variants of GNM to lose structure accuracy, most on MNIST-10, and
ConvDRAW to gain some from the MLP. Without a published number this is an expectation, not a claim to be met.
"""

from ..core.protocol import Table, dataset, metric, model
from ._gnm import (
    ABLATIONS,
    ARROW_ROOM,
    CITATION,
    DISCRIMINATOR_STEPS,
    GNM,
    GNM_ARROW,
    LOG_LIKELIHOOD,
    SAMPLING,
    SCENES,
    STRUCTURE_ACCURACY,
    UNKNOWN_NUMBERS,
)
from ._gnm_baselines import BASELINE_TRAINING, CONVDRAW

# fmt: off
protocol = Table(
    paper=f"{CITATION}, section 4, goal iii: ablations (no published item at hand)",
    models={
        "GNM":          model("gnm"),
        "GNM-Gaussian": model("gnm", global_prior="gaussian"),
        "GNM-NoMLP":    model("gnm", interaction="cnn"),
        "ConvDRAW":     model("convdraw"),
        "ConvDRAW-MLP": model("convdraw", interaction="mlp"),
    },
    datasets={
        "ARROW":    dataset("arrow_room"),
        "MNIST-10": dataset("scenes", rule="mnist10"),
        "MNIST-4":  dataset("scenes", rule="mnist4"),
    },
    metrics={
        "S-Acc":   metric("structure_accuracy"),
        "D-Steps": metric("discriminator_steps"),
        "LL":      metric("log_marginal", particles=100),
    },
    rows=("model",),
    columns=("dataset", "metric"),
    sizes={"demo": ({"dataset": ("MNIST-4",), "metric": ("S-Acc", "LL")},)},
    deviations=UNKNOWN_NUMBERS + ABLATIONS + GNM + GNM_ARROW + CONVDRAW + BASELINE_TRAINING + SCENES
    + ARROW_ROOM + SAMPLING + STRUCTURE_ACCURACY + DISCRIMINATOR_STEPS + LOG_LIKELIHOOD,
)
# fmt: on
