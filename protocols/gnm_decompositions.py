"""GNM, decompositions: do GENESIS and SPACE take a scene apart into its objects?

Two rows per test image: the image, then the masks of the components; the sum of all layers, then each component seen
through its mask. Of many components those are shown that hold most of the image.

Cost: SPACE on the Arrow room is one run more than Table 1 and the supplement's Table 2 (seed 0 shared); GENESIS with
GECO, on MNIST-4 alone and not at tier demo, is that of `gnm_readings`.

The authors' code for the comparisons was not released. They write that GENESIS as published groups objects by colour
or place, and that their three changes make it decompose scenes correctly; one of the three replaces GECO, which stands
here beside it.

Expect one component per digit or object and one for what lies behind. The number beside each panel is the effective
number of components that share what stands out in an image: near 1, one component has taken everything. Near their
number, each may hold an object of its own or a share of all: the masks say which.
"""

from ..core.protocol import Gallery, dataset, metric, model
from ._gnm import ARROW_ROOM, CITATION, SCENES
from ._gnm_baselines import GENESIS, SPACE

# fmt: off
protocol = Gallery(
    paper=f"{CITATION}: decompositions by the comparisons (no published item)",
    models={
        "GENESIS":        model("genesis"),
        "GENESIS (GECO)": model("genesis", objective="geco"),
        "SPACE":          model("space"),
    },
    datasets={
        "MNIST-4":    dataset("scenes", rule="mnist4"),
        "MNIST-10":   dataset("scenes", rule="mnist10"),
        "Arrow room": dataset("arrow_room"),
    },
    metrics={"Decompositions": metric("decompositions")},
    only_on={"GENESIS (GECO)": ("MNIST-4",)},
    sizes={"demo": ({"model": ("GENESIS", "SPACE")},)},
    array="grid",
    rows=6,
    columns=12,
    stacked=True,
    deviations=GENESIS + SPACE + SCENES + ARROW_ROOM,
)
# fmt: on
