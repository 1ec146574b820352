"""One-shot classification: which of 20 characters, each seen once, is this another drawing of (DooD, Table 1)?

Liang et al., "Drawing out of Distribution", NeurIPS 2022, on the 20 runs of Lake et al. (2015): a query belongs to the
support under which the model finds it likeliest, argmax_s log p(query | support). Two ways, as in GNS (Feinman & Lake,
2021): log p(query | support) + log p(support | query) - log p(support); the authors' code has both and used the first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ..core.dataset import Dataset
from ..core.errors import UsageError
from ..core.metric import Measurement, Metric
from ..core.model import Matches
from ..core.progress import track
from ..core.reductions import reduced
from ._drawing import refuse_other_shape
from ._episodes import episodes
from ._evaluation import as_floats

__all__ = ["OneShot"]


@dataclass(frozen=True)
class OneShot(Metric):
    """parses: explanations of each support. steps: of gradient descent that fit each of them to each query.

    way: see the module; log p(support) is estimated with as many particles as there are parses. episodes: the first so
    many of the data's.
    """

    better = "higher"
    requires = (Matches,)
    reduction = "fraction(verdict)"
    tiers: ClassVar = {
        "demo": {"parses": 2, "steps": 5, "episodes": 2},
        "mini": {"parses": 3, "steps": 30},
    }

    parses: int = 12
    steps: int = 100
    way: Literal["one", "two"] = "one"
    episodes: int = 20

    def __post_init__(self) -> None:
        if self.parses < 1 or self.steps < 0 or self.episodes < 1:
            raise UsageError(
                f"one_shot needs parses >= 1, steps >= 0 and episodes >= 1; got {self}"
            )

    @property
    def dialect(self) -> str:
        """How hard the model tries, and in which direction."""
        return f"way={self.way} parses={self.parses} steps={self.steps}"

    def __call__(self, model: Any, data: Dataset) -> Measurement:
        """The share of queries that are told right, with its binomial standard error.

        Arrays, of E episodes of W queries and W supports: verdict (E * W,) bool, episode after episode; score (E, W, W)
        nats, of each query under each support; label, predicted (E, W) int64, places among the supports; accuracy (E,).
        """
        image = data.split("test").image
        found = episodes(data, self.episodes, "one_shot")
        score = np.empty((*found.query.shape, found.support.shape[1]))  # (E, W, W)
        for episode in track(range(len(score)), "one-shot episodes"):
            support, query = (
                as_floats(image[index[episode]], model.device)
                for index in (found.support, found.query)
            )
            score[episode] = self._scores(model, support, query)
        predicted = score.argmax(-1)
        right = predicted == found.label
        arrays = {
            "verdict": right.reshape(-1),
            "score": score,
            "label": found.label,
            "predicted": predicted,
            "accuracy": right.mean(1),
        }
        share = reduced(self.reduction, arrays, "")
        return Measurement(share.value, share.stderr, share.n, arrays=arrays)

    def _scores(self, model: Any, support: Tensor, query: Tensor) -> NDArray[np.float64]:
        """(Q, S) nats. Raises FloatingPointError for scores that are not finite: a maximum of those says nothing."""
        name = type(model).__name__

        def match(shown: Tensor, asked: Tensor) -> NDArray[np.float64]:
            scores = model.match(shown, asked, self.parses, self.steps)
            refuse_other_shape(scores, (len(asked), len(shown)), f"{name}.match")
            found: NDArray[np.float64] = scores.detach().double().cpu().numpy()
            return found

        scores = match(support, query)
        if self.way == "two":
            alone = model.log_marginal(support, self.parses).double().cpu().numpy()  # (S,)
            scores = scores + match(query, support).T - alone
        if not np.isfinite(scores).all():
            raise FloatingPointError(f"{name}.match gives scores that are not finite")
        return scores
