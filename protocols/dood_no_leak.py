"""DooD, Figure 4 without the leak: does DooD still carry over when its pen tells nothing of the image?

The log-likelihoods of Figure 4 once more, with width and slopes of the strokes fixed at their medians in training
("medians") beside those read off each image, and beside Difference-AIR, which has no pen. In brackets: the training
set.

Cost: nothing beyond Figure 4, whose runs and whose other rows it shares: 200 particles once more for DooD.

The authors' code predicts width and slopes from the image, without latent, prior or KL, so that log p(x) is given
information about x for nothing. The paper calls them part of the renderer; no number of theirs is without the leak.

Expect lower likelihoods of DooD, most where strokes are thicker or thinner than in training, and what remains of its
lead over AIR to be what strokes are worth. Without a published number only the paper's claim is tested.
"""

from ..core.protocol import Claim, Table
from ._dood import (
    CITATION,
    DATASETS,
    DOOD,
    LIKELIHOODS,
    LL,
    SOURCES,
    air_of,
    dood_of,
    everywhere_else,
    named,
    pending,
    trained_on,
)

# fmt: off
MEDIANS = {source: f"{named('DooD', source)}, medians" for source in SOURCES}
MODELS = {
    **{label: DOOD.with_options(rendering="median") for label in MEDIANS.values()},
    **{named("DooD", source): dood_of(source) for source in SOURCES},
    **{named("AIR", source): air_of(source) for source in SOURCES},
}
METRICS = {"LL": LL}
GAUSSIAN = " (AIR's likelihood is Gaussian here: another density)"
FROM_MNIST = MEDIANS["MNIST"], named("DooD", "MNIST"), named("AIR", "MNIST")

protocol = Table(
    paper=f"{CITATION}, Figure 4 without the leak (no published item)",
    models=MODELS,
    train=trained_on(MODELS),
    datasets=DATASETS,
    metrics=METRICS,
    rows=("model",),
    columns=("dataset",),
    seeds=5,
    sizes={
        "demo": ({"model": FROM_MNIST, "dataset": ("MNIST", "Omniglot")},),
        "mini": ({"model": FROM_MNIST},),
    },
    pending=pending(MODELS, DATASETS, METRICS),
    claims=tuple(
        Claim(f"trained on {source}, DooD without the leak has a higher likelihood than AIR on every other set",
              "section 3.1, Figure 4" + (GAUSSIAN if source == "Omniglot" else ""),
              everywhere_else(named("AIR", source), MEDIANS[source], source, "LL"))
        for source in SOURCES
    ),
    deviations=LIKELIHOODS,
)
# fmt: on
