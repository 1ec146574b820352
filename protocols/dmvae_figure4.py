"""DM-VAE, Figure 4: does the model still reconstruct well without the information loss?

Pairs of a test image and its reconstruction, with the window of every step: red, green, blue in their order. Top, the
full model; below, trained without the information loss; then both with the corrected objective, which is ours.

Cost: nothing beyond Table I and dmvae_objectives, whose runs it shares (three seeds).

No code of the authors is known. The images are chosen by a hash, not by eye: a third of them are blank.

Expect every digit in a window of its own, and reconstructions as good without the information loss as with it: the
squared error per pixel beside the pictures (512 images) may be 15 % larger.
"""

from ..core.claims import lower
from ..core.protocol import Claim, Gallery, metric
from ._dmvae import ABLATED, CITATION, COMMON, DATA, FULL, MULTI_MNIST, OBJECTIVES, PICTURES

DATASET, ERROR = "Multi-MNIST", "Squared error"

# fmt: off
protocol = Gallery(
    paper=f"{CITATION}, Figure 4",
    models=OBJECTIVES,
    datasets={DATASET: MULTI_MNIST},
    metrics={ERROR: metric("attended_reconstructions")},
    array="grid",
    rows=2,
    columns=8,
    seeds=3,
    seeds_at={"mini": 3},
    claims=(
        Claim("without the information loss the squared error is at most 15 % larger", "Figure 4, bottom row",
              lower((ABLATED, DATASET, ERROR), (FULL, DATASET, ERROR), factor=1.15)),
    ),
    deviations=COMMON + DATA + PICTURES,
)
# fmt: on
