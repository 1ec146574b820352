"""DooD, Table 1: which of twenty characters, each seen once, is this another drawing of?

Accuracy in the 20 runs of the Omniglot challenge, 20 ways within an alphabet: the support under which the query is
likeliest, a token of the support's parse being fitted to the query by gradients. Beside it the modified Hausdorff
distance, which knows nothing of drawing and reaches 61.25 % (38.75 % errors).

Cost at tier paper: DooD and AIR trained on Omniglot's background set, five seeds; 20 runs x 20 queries x 240 parses x
100 steps each. Tiers demo and mini measure DooD trained on MNIST (ours), with fewer parses and steps, and the
control.

The authors' code leaves AIR's affine unused, so that its published 14.5 % lie far below the control; "AIR (affine
used)" is ours. It turns by an angle converted twice, so by nothing. Which variant and seed stand behind Table 1 is
not recorded. VHE, GNS and BPL are quoted, with more supervision; they are not implemented yet.

Expect DooD (published: 73.5 %) above the control, and AIR (published: 14.5 %) below DooD; DooD trained on MNIST, and
for a short while, below both.
"""

from ..core.claims import at_least, lower
from ..core.protocol import Claim, Table
from ._dood import (
    CITATION,
    DATA,
    DATASETS,
    DOOD,
    HAUSDORFF,
    MODEL,
    NOT_OURS,
    ONE_SHOT,
    ONE_SHOT_ACCURACY,
    ONE_SHOT_AIR,
    TOKENS,
    air_of,
    pending,
)

# fmt: off
DATASET, CONTROL = "Omniglot", "Modified Hausdorff"
MODELS = {
    "AIR":               air_of("Omniglot").with_options(refit="shape"),  # as coded
    "AIR (affine used)": air_of("Omniglot"),  # ours
    "DooD":              DOOD,
    **NOT_OURS,
    "DooD (MNIST)":      DOOD,  # ours
    CONTROL:             DOOD,  # its metric asks no model; this one is trained anyway
}
TRAIN = {
    **dict.fromkeys(MODELS, DATASETS["Omniglot"]),
    "DooD (MNIST)": DATASETS["MNIST"],
    CONTROL:        DATASETS["MNIST"],
}
TESTS = {DATASET: ONE_SHOT}
METRICS = {"Accuracy": ONE_SHOT_ACCURACY, "MHD accuracy": HAUSDORFF}

protocol = Table(
    paper=f"{CITATION}, Table 1",
    models=MODELS,
    train=TRAIN,
    datasets=TESTS,
    metrics=METRICS,
    rows=("model",),
    columns=("metric",),
    seeds=5,
    only={**dict.fromkeys(MODELS, ("Accuracy",)), CONTROL: ("MHD accuracy",)},
    sizes={tier: ({"model": ("DooD (MNIST)", *NOT_OURS, CONTROL)},) for tier in ("demo", "mini")},
    pending=pending(MODELS, TRAIN, TESTS, METRICS),
    claims=(
        *(
            Claim(f"DooD outperforms {label}", "section 3.2, Table 1",
                  lower((label, DATASET, "Accuracy"), ("DooD", DATASET, "Accuracy")))
            for label in ("AIR", "AIR (affine used)")
        ),
        Claim("DooD outperforms the modified Hausdorff distance, 61.25 %",
              "ours: 73.5 % in Table 1, the control in the files of the runs",
              at_least(("DooD", DATASET, "Accuracy"), 0.6125)),
        Claim("trained on MNIST too, DooD outperforms the modified Hausdorff distance", "ours",
              at_least(("DooD (MNIST)", DATASET, "Accuracy"), 0.6125)),
    ),
    deviations=MODEL + TOKENS + ONE_SHOT_AIR + DATA,
)
# fmt: on
