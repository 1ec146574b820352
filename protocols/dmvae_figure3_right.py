"""DM-VAE, Figure 3, right: how soon do AIR and DM-VAE count their objects right?

The share of test images in which as many steps are drawn as there are digits, along the training.

Cost: nothing beyond Table I, whose runs it shares (three of its seeds): weights are kept along every training.

No code of the authors is known. Counts of re-implementations of AIR: pyro's passes 90 % near 6,000 to 8,000 steps and
98.5 % by 50,000; one user of it got stuck at 76 %; Aakhundov's author had 95 to 100 % in one or two of ten runs.

Expect "almost 100 % accuracy after convergence" of both. At tier mini the odds of the count prior fall to the
end, and few are right before they are below one.
"""

from ..core.claims import best_reaches, within
from ..core.protocol import Claim, Curves, metric, through_training
from ._dmvae import (
    AIR,
    BASELINES,
    CITATION,
    COMMON,
    CORRECTED_15,
    COUNTS,
    DATA,
    DMVAE_15,
    MULTI_MNIST,
)

DATASET, COUNT = "Multi-MNIST", "Count acc."

# fmt: off
MODELS = {
    "AIR":                        AIR,
    "DM-VAE (mem=15)":            DMVAE_15,
    "DM-VAE (mem=15, corrected)": CORRECTED_15,
}

protocol = Curves(
    paper=f"{CITATION}, Figure 3, right (no published item at hand: the axes are lost)",
    models=through_training(MODELS),
    datasets={DATASET: MULTI_MNIST},
    metrics={COUNT: metric("count_accuracy")},
    seeds=3,
    seeds_at={"mini": 3},
    claims=(
        *(
            Claim(f"the best seed of {label} ends above 95 %", "section V.B: 'almost 100 % accuracy'",
                  best_reaches((label, DATASET, COUNT), 0.95))
            for label in MODELS
        ),
        Claim("AIR and DM-VAE (mem=15) end within 2 % of one another", "section V.B: 'both models'",
              within(("AIR", DATASET, COUNT), ("DM-VAE (mem=15)", DATASET, COUNT), 0.02)),
    ),
    deviations=COMMON + BASELINES + DATA + COUNTS,
)
# fmt: on
