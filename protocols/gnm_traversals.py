"""GNM, traversals: does moving one latent change one thing, and does the scene change as a whole with z^g?

Three rows per test image: the object in the red box pushed along x, then along y, by its z^where alone and by up to a
quarter of the image to either side; then the straight line from the z^g of this image to that of the next, all below
it at the mode of its prior.

Cost: nothing beyond Table 1, whose runs it shares (seed 0).

The authors' code has no such figure. As a survey describes it, the part of section 4.1 that is not at hand moves one
object's latents alone and all of a scene's together; which images, latents and steps were shown is not known.

Expect the first two rows to move one object and nothing else, as far as the middle of the next cell, and the third to
keep the rule of the scenes all along: digits that change places and values together, an arrow that turns. The number
beside each panel is the share of what changes in the first two rows that lies where the object goes: 1 if nothing else
stirs. The Arrow room is ArrowRoom-R, our renders.
"""

from ..core.protocol import Gallery, dataset, metric, model
from ._gnm import ARROW_ROOM, CITATION, GNM, GNM_ARROW, SCENES, TRAVERSALS

# fmt: off
protocol = Gallery(
    paper=f"{CITATION}, section 4.1: latent manipulation (no published item at hand)",
    models={"GNM": model("gnm")},
    datasets={
        "MNIST-4":    dataset("scenes", rule="mnist4"),
        "MNIST-10":   dataset("scenes", rule="mnist10"),
        "Arrow room": dataset("arrow_room"),
    },
    metrics={"Traversals": metric("traversals")},
    array="grid",
    rows=6,
    columns=11,
    stacked=True,
    deviations=TRAVERSALS + GNM + GNM_ARROW + SCENES + ARROW_ROOM,
)
# fmt: on
