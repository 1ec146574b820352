"""DooD, linear probe: do its strokes say more of what an image shows than AIR's part codes?

Accuracy of one linear layer that reads the class of an image off all strokes and their places. In brackets stands
what the drawing model was trained on.

Cost: DooD and AIR are those of Figure 4, DooD-MT those of dood_ablations. At tiers demo and mini, DooD and AIR
trained on MNIST.

The authors' code trains the layer for 800,000 updates that never zero their gradients and keeps the best test
accuracy; ours is fitted to convergence, and is another dialect. Published is a figure of the authors' files, read
off; nothing of it is in the paper.

Expect neither ahead everywhere: of the 20 published cells AIR is at least as good in 12, in one of four from MNIST.
"""

from ..core.protocol import Block, Table
from ._dood import (
    CITATION,
    DATA,
    DATASETS,
    DOOD,
    DOOD_MT,
    LINEAR_PROBE,
    MODEL,
    PROBE,
    SOURCES,
    air_of,
    named,
    pending,
    trained_on,
)

# fmt: off
MODELS = {
    **{named("DooD-MT", source): DOOD_MT for source in SOURCES},
    **{named("AIR", source): air_of(source) for source in SOURCES},
    **{named("DooD", source): DOOD for source in SOURCES},  # ours
}
TARGETS = {label: DATASETS[label] for label in SOURCES[:4]}
METRICS = {"Accuracy": LINEAR_PROBE}
FROM_MNIST: Block = {"model": (named("DooD", "MNIST"), named("AIR", "MNIST"))}

protocol = Table(
    paper=f"{CITATION}: linear probe (a figure of the authors' files)",
    models=MODELS,
    train=trained_on(MODELS),
    datasets=TARGETS,
    metrics=METRICS,
    rows=("model",),
    columns=("dataset",),
    seeds=5,
    sizes=dict.fromkeys(("demo", "mini"), (FROM_MNIST,)),
    pending=pending(MODELS, TARGETS, METRICS),
    deviations=MODEL + PROBE + DATA,
)
# fmt: on
