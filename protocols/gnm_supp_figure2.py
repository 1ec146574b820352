"""GNM supplement, Figure 2: more samples of GENESIS; does a model of components place them as in the data?

Samples of GENESIS for the three datasets, as it stands in Table 1.

Cost: nothing beyond Table 1, whose runs it shares (seed 0): drawing 50 samples takes seconds.

The official code of GENESIS does not decompose these scenes, say the authors; they lowered the learning rate on the
way, fixed beta and took a layer from the decoder, and gave no numbers for the first (see the deviations).

Expect digits that are blurred, misplaced and of the wrong number: on MNIST-10 no sample was judged right, on MNIST-4
three in ten (Table 1). The figure has no numbers.
"""

from ..core.protocol import Gallery, dataset, metric, model
from ._gnm import ARROW_ROOM, CITATION, SAMPLING, SCENES
from ._gnm_baselines import GENESIS

# fmt: off
protocol = Gallery(
    paper=f"{CITATION}, supplement, Figure 2",
    models={"GENESIS": model("genesis")},
    datasets={
        "MNIST-4":    dataset("scenes", rule="mnist4"),
        "MNIST-10":   dataset("scenes", rule="mnist10"),
        "Arrow room": dataset("arrow_room"),
    },
    metrics={"Samples": metric("samples")},
    array="samples",
    rows=8,
    columns=4,
    deviations=GENESIS + SCENES + ARROW_ROOM + SAMPLING,
)
# fmt: on
