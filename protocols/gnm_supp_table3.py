"""GNM supplement, Table 3: how large are the models?

Trainable parameters of GNM, GENESIS, ConvDRAW and VAE, per dataset.

Cost: nothing beyond Table 1, whose runs it shares (seed 0); the number does not depend on training.

The authors' code is decisive here: with the layer tables of the supplement (kernel-3 ConvLSTMs) GNM
would have 12.3M and 3.8M parameters, not the printed 8.6M and 2.9M; the code's kernel 1 gives
8,636,446 and 2,930,708. The baselines were not released.

Expect GNM equal to the printed digits. No reading of ConvDRAW's description gives both of its sizes, and the
VAE's 1.5M on all datasets only fits the wide encoder; ours have 1.67M and 1.42M on the MNIST scenes. GENESIS with
its official widths has 13.4M, not 13.9M.
"""

from ..core.protocol import Table, dataset, metric, model
from ._gnm import ARROW_ROOM, CITATION, GNM, GNM_ARROW, PARAMETERS
from ._gnm_baselines import CONVDRAW, GENESIS, VAE

# fmt: off
protocol = Table(
    paper=f"{CITATION}, supplement, Table 3",
    models={
        "GNM":      model("gnm"),
        "GENESIS":  model("genesis"),
        "ConvDRAW": model("convdraw"),
        "VAE":      model("vae"),
    },
    datasets={
        "ARROW":    dataset("arrow_room"),
        "MNIST-10": dataset("scenes", rule="mnist10"),
        "MNIST-4":  dataset("scenes", rule="mnist4"),
    },
    metrics={"Parameters": metric("parameters")},
    rows=("model",),
    columns=("dataset", "metric"),
    sizes={"demo": (
        {"dataset": ("MNIST-4",)},
        {"dataset": ("MNIST-10", "ARROW"), "model": ("GNM", "GENESIS", "VAE")},
    )},
    deviations=GNM + GNM_ARROW + GENESIS + CONVDRAW + VAE + PARAMETERS + ARROW_ROOM,
)
# fmt: on
