"""GNM, Table 1: can one model have both a structured latent and a good density?

Scene structure accuracy of the samples, steps that a classifier needs to tell them from real images, and
log-likelihood by importance sampling with 100 samples; five models on three datasets.

Cost at tier paper: five models, three datasets and three seeds are 45 runs of 1,125,000 updates of 32 images;
`--dry-run` measures what that comes to here. A run of GNM serves its second row too. At tier demo every model is
trained on MNIST-4 and GNM on the Arrow room as well, which is what five minutes of two cores allow.

The authors' code draws relaxed presences and scores them with the Bernoulli mass when it estimates the
likelihood of GNM: neither the paper's model nor a bound. "GNM" follows the paper, "GNM (as coded)" the code.
The network differs in places as well; the deviations list them.

Expect GNM's structure accuracy far above all others (all baselines fail on MNIST-10), its D-Steps the largest
everywhere, and on the MNIST scenes a log-likelihood *below* ConvDRAW's, 863 and 349 nats under the ceiling
(`gnm_likelihood` says what a black image would have).
D-Steps are comparable with the paper in rank only; structure accuracy is known to about 0.05 (250 images).
"""

from ..core.claims import Claim, Test, all_of, at_least, at_most, each, lower
from ..core.protocol import Table, dataset, metric, model
from ._gnm import (
    ARROW_ROOM,
    BY_HAND,
    CITATION,
    DISCRIMINATOR_STEPS,
    GNM,
    GNM_ARROW,
    LOG_LIKELIHOOD,
    SAMPLING,
    SCENES,
    STRUCTURE_ACCURACY,
)
from ._gnm_baselines import BASELINE_TRAINING, CONVDRAW, GENESIS, VAE

BASELINES = ("GENESIS", "ConvDRAW", "ConvDRAW-8", "VAE")
SETS = ("ARROW", "MNIST-10", "MNIST-4")
# The bound of a likelihood, 16,384 C (ln 5 - ln(2 pi) / 2), and GNM's published one
GAPS = {"ARROW": (33_939.4, 33_809), "MNIST-10": (11_313.1, 10_450), "MNIST-4": (11_313.1, 10_964)}


def below(label: str, others: tuple[str, ...], data: str, metric_label: str) -> Test:
    """That all of `others` stand below `label`."""
    return each({o: lower((o, data, metric_label), (label, data, metric_label)) for o in others})


def near(data: str) -> Test:
    """That the gap to the bound is the published one, to within a quarter of it."""
    bound, published = GAPS[data]
    key, gap = ("GNM (as coded)", data, "LL"), bound - published
    return all_of(at_least(key, bound - 1.25 * gap), at_most(key, bound - 0.75 * gap))


# fmt: off
protocol = Table(
    paper=f"{CITATION}, Table 1",
    models={
        "GNM":            model("gnm"),
        "GNM (as coded)": model("gnm", presence="relaxed"),  # ours: the same weights, scored as the code does
        "GENESIS":        model("genesis"),
        "ConvDRAW":       model("convdraw"),
        "ConvDRAW-8":     model("convdraw", draw_steps=8),
        "VAE":            model("vae"),
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
    seeds=3,
    only={"GNM (as coded)": ("LL",)},  # presence="relaxed" changes no sample
    sizes={"demo": (
        {"dataset": ("MNIST-4",)},
        # its judge would have to be trained first, on renders of its own: minutes
        {"dataset": ("ARROW",), "model": ("GNM", "GNM (as coded)"), "metric": ("D-Steps", "LL")},
    )},
    by_hand=BY_HAND,
    claims=(
        *(Claim(f"GNM has the highest structure accuracy on {data}", "Table 1", below("GNM", BASELINES, data, "S-Acc"))
          for data in SETS),
        Claim("no other model has any structure accuracy to speak of on MNIST-10 (at most 0.05)", "Table 1: 0.000",
              each({label: at_most((label, "MNIST-10", "S-Acc"), 0.05) for label in BASELINES})),
        *(Claim(f"GNM's samples are the hardest to tell from images on {data}", "Table 1, D-Steps",
                below("GNM", BASELINES, data, "D-Steps")) for data in SETS),
        *(Claim(f"ConvDRAW has a higher likelihood than GNM on {data}", "Table 1: 10544 and 10450, 11020 and 10964",
                lower(("GNM", data, "LL"), ("ConvDRAW", data, "LL"))) for data in SETS[1:]),
        Claim("GNM has the highest likelihood on the Arrow room", "Table 1", below("GNM", BASELINES, "ARROW", "LL")),
        *(Claim(f"GENESIS has the lowest likelihood on {data}", "Table 1",
                each({label: lower(("GENESIS", data, "LL"), (label, data, "LL"))
                      for label in ("GNM", "ConvDRAW", "ConvDRAW-8", "VAE")})) for data in SETS),
        *(Claim(f"gate: the likelihood of GNM falls as short of its bound on {data} as published", "ours: to within a "
                "quarter", near(data)) for data in SETS),
    ),
    deviations=GNM + GNM_ARROW + GENESIS + CONVDRAW + VAE + BASELINE_TRAINING + SCENES + ARROW_ROOM + SAMPLING
    + STRUCTURE_ACCURACY + DISCRIMINATOR_STEPS + LOG_LIKELIHOOD,
)
# fmt: on
