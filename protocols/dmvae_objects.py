"""DM-VAE, objects: are the objects found, each by one step, and does its slot say what it is?

What the paper shows as pictures, measured on images of up to two digits: images whose steps are as many as their digits
(drawn, and by the mode of the posterior), average precision of the boxes (COCO's rule), foreground ARI, and purity and
NMI of slots against digits.

Cost: nothing beyond Table I, whose runs it shares (three of its seeds).

No code of the authors is known. Boxes are tight about what a step paints; the windows drawn in the figures have a
margin.

Expect about 98 % of the images counted right, an average precision at 0.5 and an ARI above 0.9, and no difference
between AIR and DM-VAE in any of these: "comparable to AIR" is what the paper claims. A failed seed stays in the table.
"""

from ..core.claims import best_reaches, within
from ..core.protocol import Claim, Table, metric
from ._dmvae import (
    AIR,
    BASELINES,
    CITATION,
    COMMON,
    CORRECTED_15,
    COUNTS,
    DAIR,
    DATA,
    DMVAE_15,
    DMVAE_50,
    MULTI_MNIST,
    PICTURES,
)

DATASET = "Multi-MNIST"

# fmt: off
protocol = Table(
    paper=f"{CITATION}, section V.B: object detection (no published item)",
    models={
        "AIR":                        AIR,
        "DAIR":                       DAIR,
        "DM-VAE (mem=15)":            DMVAE_15,
        "DM-VAE (mem=50)":            DMVAE_50,
        "DM-VAE (mem=15, corrected)": CORRECTED_15,
    },
    datasets={DATASET: MULTI_MNIST},
    metrics={
        "Count acc.":   metric("count_accuracy"),
        "Count (mode)": metric("count_accuracy", presence="mode"),
        "AP@.5":        metric("average_precision", iou="0.5", interpolation="101-point"),
        "AP@[.5:.95]":  metric("average_precision", iou="0.5:0.95", interpolation="101-point"),
        "ARI":          metric("foreground_ari"),
        "NMI":          metric("slots", quantity="nmi"),
        "Purity":       metric("slots", quantity="purity"),
        "k-means NMI":  metric("slots", quantity="nmi", groups="k-means"),
    },
    rows=("model",),
    columns=("metric",),
    seeds=3,
    seeds_at={"mini": 3},
    claims=(
        *(
            Claim(f"gate: the best seed of {label} counts right in 95 % of the images", "Figure 3, right",
                  best_reaches((label, DATASET, "Count acc."), 0.95))
            for label in ("AIR", "DM-VAE (mem=15)", "DM-VAE (mem=15, corrected)")
        ),
        Claim("DM-VAE finds objects as AIR does: AP at 0.5 within 0.05", "section V.B: 'comparable to AIR'",
              within(("DM-VAE (mem=15)", DATASET, "AP@.5"), ("AIR", DATASET, "AP@.5"), 0.05)),
    ),
    deviations=COMMON + BASELINES + DATA + COUNTS + PICTURES,
)
# fmt: on
