"""DooD: drawing out of distribution (Liang, Tenenbaum, Le & Siddharth, "Drawing out of Distribution with
Neuro-Symbolic Generative Models", NeurIPS 2022).

The generative model. Stroke by stroke, looking at the canvas c_t of the strokes before:

    h^l = GRU([l_{t-1}, φ(c_t)])    h^s = GRU([s_{t-1}, φ(c_t)])
    o_t ~ Bernoulli(φ(c_t))    l_t ~ mixture(h^l)    s_t ~ 5 mixtures(h^s, l_t, φ(glimpse of c_t at l_t))
    stroke_t = tanh(ink(s_t, σ_t) at l_t / r_t)    c_{t+1} = tanh(Σ_{i<=t} stroke_i / a)    x ~ Laplace(c_{T+1}, b)

s_t: five control points of a Bézier curve. l_t: shift, scale and angle of its frame. o_t: is there a stroke t?

The inference network. Execution guidance: it looks at what is not drawn yet, Δ_t = x - c_t, and shares both GRUs:

    q(o_t | Δ_t)    q(l_t | h^l, Δ_t)    q(s_t | h^s, glimpse of Δ_t at l_t)

The objective. nn/drawing.py: the ELBO, with NVIL through o_t.

Paper and code differ (protocols/_dood.py has the list). `fidelity="code"` is what made the published numbers: q also
sees x, the share of ink that is left, and a glimpse of x; the pen (σ_t, r_t, a) is predicted from x without a prior, so
that it tells the likelihood about x; Gaussians and mixture components tie x to y; samples from the prior are tempered.
`fidelity="paper"` has none of this, and the pen is learnt. `affine_on`: the stroke's picture is put into its frame
("image", behind the published tables), or its control points are ("points", as the paper says).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..core.dataset import DatasetInfo
from ..core.model import Completes, Recipe, evaluation_option
from ..nn.active import Active
from ..nn.blocks import tanh_mlp
from ..nn.distributions import Bernoulli, Gaussian, Mixture, Tilted
from ..nn.drawing import (
    DARK,
    DEMO,
    HIDDEN,
    MINI,
    Draw,
    DrawingConfig,
    Features,
    PartByPart,
    Parts,
    Reading,
    published,
    squash,
    stop,
)
from ..nn.pose import frame, inverse_map, look, move, place, warp
from ..nn.splines import ink

__all__ = ["DooD"]

POINTS = 5
LAYOUT = 9  # of a Gaussian over (shift x, shift y, scale, angle): 4 means, 4 diagonals, 1 corner
STROKE = 5  # of one over a control point: 2, 2, 1


@dataclass(frozen=True)
class DooDConfig(DrawingConfig):
    """See DrawingConfig. Values of the authors' code.

    guided: False is DooD-EG, without canvas and residual. prior: "independent" is DooD-SP. renderer: "mlp" is DooD-δR.
    rendering: the pen inferred from each image, or, so that it tells nothing of the image, its median over the last
    training batch.
    """

    affine_on: Literal["image", "points"] = "image"
    fidelity: Literal["code", "paper"] = "code"
    guided: bool = True
    prior: Literal["sequential", "independent"] = "sequential"
    renderer: Literal["spline", "mlp"] = "spline"
    mixtures: int = 40  # of layouts, and of each control point
    stop_bias: float = 2.0  # of q(o) at the start
    # The pen at the start, a, σ and r, where pictures are placed; where points are moved it is always this one.
    global_slope_bias: float = -1.0
    local_bias_sigma: float = -2.0
    local_bias_slope: float = 2.0
    pen_noise: bool = evaluation_option(False, scores=False)  # in new exemplars
    rendering: Literal["inferred", "median"] = evaluation_option("inferred")


class State(NamedTuple):
    """Where a drawing stands: hidden states (B, 256), last latents (B, 4) and (B, 10), whether it goes on (B,)."""

    layout: Tensor
    stroke: Tensor
    where: Tensor
    what: Tensor
    alive: Tensor


class DooD(PartByPart, Completes):
    """See the module. 21,138,668 parameters for 50 x 50 pixels; 11,485,964 unguided."""

    config: DooDConfig
    pen_median: Tensor
    where_mean: Tensor
    where_std: Tensor
    point_mean: Tensor
    point_std: Tensor
    tiers: ClassVar = {"demo": DEMO, "mini": MINI}

    def __init__(self, config: DooDConfig, data: DatasetInfo) -> None:
        wide, what = config.features, 2 * POINTS
        of_canvas = wide if config.guided else 0
        super().__init__(config, data, wide + 1 + 4 + what + of_canvas, (3, HIDDEN))
        self.residual = Features(self.side, wide) if config.guided else None
        self.layout_rnn = nn.GRUCell(4 + of_canvas, HIDDEN)
        self.stroke_rnn = nn.GRUCell(what + of_canvas, HIDDEN)

        coded = config.fidelity == "code"
        target = wide if coded or not config.guided else 0  # what q sees of x itself
        left = wide if config.guided else 0  # of the residual
        share = 1 if coded and config.guided else 0  # of ink that is left
        context, look_context = HIDDEN + target + left + share, HIDDEN + target + left
        self.q_stop = tanh_mlp((left + share) or wide, 1)
        self.q_layout = tanh_mlp(context, LAYOUT)
        self.q_stroke = tanh_mlp(look_context, POINTS * STROKE)
        if coded:
            self.global_slope = tanh_mlp(context, 1)
            self.local_pen = tanh_mlp(look_context + 4, 2)
        else:
            self.pen_logit = nn.Parameter(torch.zeros(3))
        if config.prior == "sequential":
            self.p_stop = tanh_mlp(wide, 1)
            self.p_layout = tanh_mlp(HIDDEN, config.mixtures * (1 + LAYOUT))
            of_glimpse = wide if config.guided else 0
            self.p_stroke = tanh_mlp(
                HIDDEN + 4 + of_glimpse, POINTS * config.mixtures * (1 + STROKE)
            )
        else:
            independent = {"where_mean": [0, 0, 0.8, 0], "where_std": [0.2, 0.2, 0.2, 0.4]}
            independent |= {"point_mean": [0.5, 0.5], "point_std": [0.2, 0.2]}
            for name, values in independent.items():
                self.register_buffer(name, torch.tensor(values), persistent=False)
        if config.renderer == "mlp":
            self.painter = tanh_mlp(what, self.side**2)
        self.register_buffer("pen_median", torch.tensor([0.02, 0.5, 0.5]))
        with torch.no_grad():
            self._start()

    @classmethod
    def recipe(cls, data: DatasetInfo) -> Recipe:
        """The authors' settings; on Omniglot and synthetic strokes q(o) starts elsewhere, on Omniglot the pen, too."""
        name = data.name.partition("-")[0]
        if name == "omniglot":
            config = DooDConfig(
                stop_bias=10.0, global_slope_bias=4.0, local_bias_sigma=-4.0, local_bias_slope=4.0
            )
        else:
            config = DooDConfig(stop_bias=10.0 if name == "strokes" else 2.0)
        return Recipe(config, published(data))

    def _start(self) -> None:
        """What the last layers give before training: all but q(s)'s are constant."""
        config = self.config
        _constant(self.q_stop, torch.tensor([config.stop_bias]))
        _constant(self.q_layout, torch.tensor([0.0, 0, 6, 0, -4, -4, -4, -4, 0]))
        own = config if config.affine_on == "image" else DooDConfig()
        pen = torch.tensor([own.local_bias_sigma, own.local_bias_slope, own.global_slope_bias])
        if config.fidelity == "code":
            _constant(self.local_pen, pen[:2])
            _constant(self.global_slope, pen[2:])
        else:
            self.pen_logit.copy_(pen)
        if config.prior != "sequential":
            return
        k = config.mixtures
        _constant(self.p_stop, torch.tensor([1.0]))
        layouts = torch.tensor([-4.0, 0, 0, 4, 0, -4, -4, -4, -4, 0]).repeat(k, 1)
        layouts[0, 0] = 4
        layouts[1:, 1:5] += 0.001 * torch.randn(k - 1, 4)
        _constant(self.p_layout, layouts.flatten())
        strokes = torch.tensor([-4.0, 0, 0, -1.386, -1.386, 0]).repeat(POINTS, k, 1)
        strokes[..., 1:3] += 0.001 * torch.randn(POINTS, k, 2)
        if config.fidelity == "code":
            strokes[0, :POINTS, 0] = 4  # meant for the first component of every point
        else:
            strokes[:, 0, 0] = 4
        _constant(self.p_stroke, strokes.flatten())

    # Distributions.

    def layout(self, raw: Tensor) -> Tilted:
        """Of (shift x, shift y, scale, angle): (..., 9) -> (..., 4). Means are bounded, draws are not."""
        mean, diagonal, corner = raw.float().split([4, 4, 1], -1)
        shift, scale, angle = mean.split([2, 1, 1], -1)
        mean = torch.cat(
            [squash(shift, -0.8, 0.8), squash(scale, 0.25, 1), squash(angle, -math.pi / 4, math.pi / 4)], -1
        )  # fmt: skip
        return Tilted(mean, squash(diagonal, 1e-9, 1), self._corner(corner))

    def control_point(self, raw: Tensor) -> Tilted:
        """Of one control point: (..., 5) -> (..., 2)."""
        mean, diagonal, corner = raw.float().split([2, 2, 1], -1)
        return Tilted(
            squash(mean, -0.2, 1.2), squash(diagonal, 1e-9, 1 + 1e-9), self._corner(corner)
        )

    def _corner(self, raw: Tensor) -> Tensor:
        corner = squash(raw[..., 0], -1, 1)
        return corner if self.config.fidelity == "code" else torch.zeros_like(corner)

    def prior_stop(self, seen: Tensor) -> Bernoulli:
        """p(o_t) from the canvas's features: (..., F) -> (...)."""
        if self.config.prior == "independent":
            return Bernoulli(torch.zeros(seen.shape[:-1], device=seen.device))
        return Bernoulli(self.p_stop(seen).float()[..., 0])

    def prior_layout(self, hidden: Tensor) -> Mixture:
        """p(l_t) from h^l: (..., 256) -> (..., 4)."""
        if self.config.prior == "independent":
            return _single(Gaussian(self.where_mean, self.where_std), hidden.shape[:-1])
        raw = self.p_layout(hidden).unflatten(-1, (self.config.mixtures, 1 + LAYOUT))
        return Mixture(raw[..., 0].float(), self.layout(raw[..., 1:]))

    def prior_stroke(self, hidden: Tensor, where: Tensor, glimpse: Tensor | None) -> Mixture:
        """p(s_t) from h^s, l_t and φ(glimpse of the canvas): (..., 5, 2)."""
        if self.config.prior == "independent":
            shape = (*hidden.shape[:-1], POINTS)
            return _single(Gaussian(self.point_mean, self.point_std), shape)
        seen = [hidden, where] if glimpse is None else [hidden, where, glimpse]
        raw = self.p_stroke(torch.cat(seen, -1))
        raw = raw.unflatten(-1, (POINTS, self.config.mixtures, 1 + STROKE))
        return Mixture(raw[..., 0].float(), self.control_point(raw[..., 1:]))

    # From strokes to an image.

    def stroke(self, present: Tensor, where: Tensor, what: Tensor, pen: Tensor) -> Tensor:
        """The picture of one stroke: (N,), (N, 4), (N, 10), (N, >= 2) -> (N, 1, S, S)."""
        return self._dried(present, self._wet(where, what, pen[:, 0]), pen[:, 1])

    def _wet(self, where: Tensor, what: Tensor, sigma: Tensor) -> Tensor:
        if self.config.renderer == "mlp":
            raw = F.softplus(self.painter(what).float() - 2).view(-1, 1, self.side, self.side)
            return place(raw, where)
        points = what.unflatten(-1, (POINTS, 2))
        if self.config.affine_on == "points":
            return ink(move(points, frame(where)), sigma, self.side)[:, None]
        return place(ink(points, sigma, self.side)[:, None], where)

    def _dried(self, present: Tensor, raw: Tensor, slope: Tensor) -> Tensor:
        """As bright as 1 before tanh(· / slope), whatever the number of points that fell on a pixel."""
        raw = present[:, None, None, None] * raw
        brightest = raw.detach().amax((1, 2, 3), keepdim=True)
        brightest = torch.where(brightest >= DARK, brightest, 1.0)
        return (raw / (brightest * slope[:, None, None, None])).tanh()

    def canvas(self, z: Parts) -> Tensor:
        """All strokes on one canvas: (B, 1, S, S)."""
        strokes = self.stroke(*(part.flatten(0, 1) for part in z))
        together = strokes.unflatten(0, z.present.shape).sum(1)
        image: Tensor = (together / self._global_slope(z.pen)).tanh()
        return image

    def _global_slope(self, pen: Tensor) -> Tensor:
        """a: that of the first step (of the last one when unguided), (B, 1, 1, 1)."""
        return pen[:, 0 if self.config.guided else -1, 2, None, None, None]

    # The inference network.

    def read(self, x: Tensor, draw: Draw = "sample", particles: int = 1) -> Reading:
        """See PartByPart."""
        reading, _ = self.follow(x, draw, particles)
        return reading

    def follow(self, x: Tensor, draw: Draw, particles: int = 1) -> tuple[Reading, list[State]]:
        """All steps on K copies of each image, and where the drawing stood after each."""
        config, steps, n = self.config, self.steps, len(x) * particles
        target_of = self.targets(x, particles)
        copies = x.repeat(particles, 1, 1, 1)
        state, canvas, together = self._empty(n), torch.zeros_like(copies), torch.zeros_like(copies)
        inked = copies.sum((1, 2, 3))
        states, taken, seen, features = [], [], [], []
        strokes, slope = [], torch.ones(n, 1, 1, 1, device=x.device)
        canvases, logits, q_where, q_what = [], [], [], []
        for t in range(steps):
            before, canvas = state.alive, canvas.detach()
            goes_on = self._active(before, t)
            target = target_of(goes_on)
            drawn = self._canvas_features(canvas, t, goes_on)
            context, stop_context, left = self._context(copies, canvas, target, inked, goes_on)
            seen.append(torch.cat([target, before[:, None], state.where, state.what, *drawn], -1))
            features.append(drawn[0] if drawn else target)
            logit = goes_on(self.q_stop, stop_context).float()[:, 0]
            present = before * stop(logit, draw)

            draws = self._active(present, t)
            layout_sees = torch.cat([state.where, *drawn], -1)
            layout_hidden = draws(self.layout_rnn, layout_sees, state.layout)
            stroke_sees = torch.cat([state.what, *drawn], -1)
            stroke_hidden = draws(self.stroke_rnn, stroke_sees, state.stroke)
            q_l_sees = torch.cat([layout_hidden, *context], -1)
            q_l = self.layout(draws(self.q_layout, q_l_sees))
            where = q_l.mean if draw == "mode" else q_l.sample()

            q_s_sees = torch.cat([stroke_hidden, *self._glimpses(copies, left, where, draws)], -1)
            raw = draws(self.q_stroke, q_s_sees).unflatten(-1, (POINTS, STROKE))
            q_s = self.control_point(raw)
            what = (q_s.mean if draw == "mode" else q_s.sample()).flatten(1)
            pen = draws(self._pen, q_l_sees, q_s_sees, where, otherwise=self.usual_pen())

            state = State(layout_hidden, stroke_hidden, where, what, present)
            canvases.append(canvas)
            stroke = draws(self.stroke, present, where, what, pen)
            if config.guided:
                together = together + stroke
                slope = pen[:, 2, None, None, None] if t == 0 else slope
                canvas = (together / slope).tanh()
            strokes.append(stroke)
            states.append(state)
            logits.append(logit)
            taken.append(pen)
            q_where.append(q_l.log_prob(where))
            q_what.append(q_s.log_prob(what.unflatten(-1, (POINTS, 2))).sum(-1))

        z = _parts(states, torch.stack(taken, 1))
        if config.guided:
            after = [c.detach() for c in canvases[1:]] + [canvas]
        else:
            slope = self._global_slope(z.pen)
            sums = torch.stack(strokes).cumsum(0)
            after = [(s / slope).tanh() for s in sums]
            after = [c.detach() for c in after[:-1]] + after[-1:]
        before = torch.cat([torch.ones(n, 1, device=x.device), z.present[:, :-1]], 1)
        logit = torch.stack(logits, 1)
        log_q = {
            "stop": Bernoulli(logit).log_prob(z.present),
            "where": torch.stack(q_where, 1),
            "what": torch.stack(q_what, 1),
        }
        layout, stroke = _along(states, "layout"), _along(states, "stroke")
        canvas_features = torch.stack(features, 1)
        seen_canvases = torch.stack(canvases, 1)
        log_p = self._log_prior(z, before, canvas_features, layout, stroke, seen_canvases)
        reading = Reading(z, before, log_p, log_q, torch.stack(after, 1), torch.stack(seen, 1))
        return reading, states

    def _log_prior(
        self,
        z: Parts,
        before: Tensor,
        drawn: Tensor,
        layout: Tensor,
        stroke: Tensor,
        canvases: Tensor,
    ) -> dict[str, Tensor]:
        """log p of what was drawn at every step, all steps at once: (B, T) each."""
        shape, batch = z.present.shape, len(drawn)
        drawn, layout, stroke, canvases, where, what = (
            part.flatten(0, 1) for part in (drawn, layout, stroke, canvases, z.where, z.what)
        )
        present = z.present.flatten()
        goes_on, draws = Active(before.flatten()), Active(present)
        found = {
            "stop": goes_on(lambda seen, o: self.prior_stop(seen).log_prob(o), drawn, present),
            "where": draws(lambda hidden, l: self.prior_layout(hidden).log_prob(l), layout, where),
            "what": draws(self._log_prior_stroke, stroke, where, what, canvases, at_most=batch),
        }
        return {name: value.view(shape) for name, value in found.items()}

    def _log_prior_stroke(
        self, hidden: Tensor, where: Tensor, what: Tensor, canvas: Tensor
    ) -> Tensor:
        """log p(s_t | h^s, l_t, φ(glimpse of c_t at l_t)): (N,)."""
        of_glimpse = None
        if self.config.guided and self.config.prior == "sequential":
            of_glimpse = self.image(look(canvas, where))
        points = what.unflatten(-1, (POINTS, 2))
        return self.prior_stroke(hidden, where, of_glimpse).log_prob(points).sum(-1)

    def _active(self, alive: Tensor, t: int) -> Active:
        """Drawings for which a step is computed.

        All at the first step, whose pens the median is of; and always when unguided: the pen of the last step counts.
        """
        return Active(alive) if t and self.config.guided else Active.all(alive)

    def _empty(self, n: int) -> State:
        """Before the first step: all zero, and a stroke to come."""
        layout, stroke, where, what = (
            torch.zeros(n, size, device=self.device) for size in (HIDDEN, HIDDEN, 4, 2 * POINTS)
        )
        return State(layout, stroke, where, what, torch.ones(n, device=self.device))

    def _canvas_features(self, canvas: Tensor, t: int, active: Active) -> list[Tensor]:
        """[φ(c_t)], [] when unguided. The first canvas is empty for all."""
        if not self.config.guided:
            return []
        if t > 0:
            return [active(self.image, canvas)]
        if not self.training:
            return [self.image(canvas[:1]).expand(len(canvas), -1)]
        return [self.image.head(self.image.maps(canvas[:1]).expand(len(canvas), -1))]

    def _context(
        self, x: Tensor, canvas: Tensor, target: Tensor, inked: Tensor, active: Active
    ) -> tuple[list[Tensor], Tensor, Tensor | None]:
        """What q(l) sees besides h^l, what q(o) sees, and the residual (None when unguided)."""
        if self.residual is None:
            return [target], target.detach(), None
        left = x - canvas
        features = active(self.residual, left)
        if self.config.fidelity == "paper":
            return [features], features, left
        share = (left.sum((1, 2, 3)) / inked).nan_to_num(0, 0, 0)[:, None]
        return [target, features, share], torch.cat([features, share], -1), left

    def _glimpses(
        self, x: Tensor, left: Tensor | None, where: Tensor, active: Active
    ) -> list[Tensor]:
        """Features of what the frame shows of the image, and of what is left of it."""
        if left is None or self.residual is None:
            return [active(lambda x, where: self.image(look(x, where)), x, where)]
        residual = self.residual
        if self.config.fidelity == "paper":
            return [active(lambda left, where: residual(look(left, where)), left, where)]

        def both(x: Tensor, left: Tensor, where: Tensor) -> Tensor:
            of_image, of_left = look(torch.cat([x, left], 1), where).split(1, 1)
            return torch.cat([self.image(of_image), residual(of_left)], -1)

        return [active(both, x, left, where)]

    def _pen(self, context: Tensor, glimpses: Tensor, where: Tensor) -> Tensor:
        """(σ_t, r_t, a_t): (B, 3). As the paper says, the same for all images; as coded, told by the image."""
        learnt = self.config.fidelity == "paper"
        if learnt or (self.config.rendering == "median" and not self.training):
            return self.usual_pen().expand(len(where), 3)
        local = self.local_pen(torch.cat([glimpses, where], -1)).float()
        return self._bounded(local, self.global_slope(context).float())

    def usual_pen(self) -> Tensor:
        """What strokes are drawn with where there is no image that could tell: (3,)."""
        if self.config.fidelity == "code":
            return self.pen_median
        return self._bounded(self.pen_logit[:2], self.pen_logit[2:])

    def _bounded(self, local: Tensor, slope: Tensor) -> Tensor:
        thin = 0.01 if self.config.affine_on == "image" else 0.005
        sigma, own = local.split(1, -1)
        return torch.cat([squash(sigma, thin, 0.04), squash(own, 0.1, 0.9), squash(slope, 0.1, 1.5)], -1)  # fmt: skip

    @torch.no_grad()
    def remember(self, reading: Reading) -> None:
        """The median pen of the batch's first strokes: what samples and pens that tell nothing are drawn with."""
        self.pen_median.copy_(reading.parts.pen[:, 0].detach().median(0).values)

    def weigh(
        self, costs: dict[str, Tensor], likelihood: Tensor
    ) -> tuple[dict[str, Tensor], Tensor]:
        """As coded β divides the likelihood in the signal; as the paper says it weighs the KL of o_t everywhere."""
        if self.config.fidelity == "code":
            return super().weigh(costs, likelihood)
        return costs | {"stop": self.config.beta * costs["stop"]}, likelihood

    def objective(self, elbo: Tensor, costs: dict[str, Tensor]) -> Tensor:
        """See `weigh`."""
        if self.config.fidelity == "code":
            return elbo
        return elbo - (self.config.beta - 1) * costs["stop"].sum(1)

    # Samples, and drawings that somebody has begun.

    def prior(self, n: int) -> Parts:
        """Strokes one after another from an empty canvas, with the median pen; as coded, tempered (`_tempered`)."""
        z, _ = self._unroll(
            self._empty(n), self._blank(n), self.usual_pen().expand(n, 3), self.steps
        )
        return z

    def _blank(self, n: int) -> Tensor:
        return torch.zeros(n, 1, self.side, self.side, device=self.device)

    def _unroll(
        self, state: State, together: Tensor, pen: Tensor, steps: int, wet: bool = False
    ) -> tuple[Parts, Tensor]:
        """`steps` more strokes from the prior, and the canvas then. wet: the first look is at the ink, before tanh."""
        slope, taken = pen[:, 2, None, None, None], []
        for t in range(steps):
            canvas = together if wet and t == 0 else (together / slope).tanh()
            drawn = [self.image(canvas)] if self.config.guided else []
            # unguided, p(o) was trained on the target; there is none, so it sees an empty one
            seen = drawn[0] if drawn else self.image(torch.zeros_like(canvas))
            layout = self.layout_rnn(torch.cat([state.where, *drawn], -1), state.layout)
            stroke = self.stroke_rnn(torch.cat([state.what, *drawn], -1), state.stroke)
            present = state.alive * self.prior_stop(seen).sample()
            where = self._tempered(self.prior_layout(layout), "layout").sample()
            of_glimpse = self.image(look(canvas, where)) if self.config.guided else None
            p_s = self._tempered(self.prior_stroke(stroke, where, of_glimpse), "stroke")
            what = p_s.sample().flatten(1)
            together = together + self.stroke(present, where, what, pen)
            state = State(layout, stroke, where, what, present)
            taken.append(state)
        z = _parts(taken, pen[:, None].expand(-1, steps, -1))
        return z, (together / slope).tanh()

    def _tempered(self, p: Mixture, of: Literal["layout", "stroke"]) -> Mixture:
        """Covariances of shifts and control points times 0.01, of scale and angle times 0.7, as coded."""
        if self.config.fidelity == "paper" or self.config.prior == "independent":
            return p
        wide = math.sqrt(0.7)
        share = [0.1, 0.1, wide, wide] if of == "layout" else [0.1, 0.1]
        factor = p.parts.diagonal.new_tensor(share)
        return Mixture(
            p.logits, Tilted(p.parts.mean, factor * p.parts.diagonal, 0.1 * p.parts.corner)
        )

    def begin(self, n: int) -> Tensor:
        """One step from the prior; it may be that nothing is drawn in it."""
        pen = self.usual_pen().expand(n, 3)
        _, canvas = self._unroll(self._empty(n), self._blank(n), pen, 1)
        return canvas.clamp(0, 1)

    def complete(self, x: Tensor, draws: int) -> Tensor:
        """Read what is there, then go on from the state after its last stroke (section 3.2, Figure 8)."""
        reading, states = self.follow(x, "sample")
        z = reading.parts
        last = (z.present.sum(1).long() - 1)[:, None]
        blank = self._empty(len(x))
        none = last[:, 0] < 0

        def after(name: str) -> Tensor:
            every = _along(states, name)
            wide = last.clamp(min=0)[..., None].expand(-1, 1, every.shape[-1])
            return torch.where(none[:, None], getattr(blank, name), every.gather(1, wide)[:, 0])

        state = State(after("layout"), after("stroke"), after("where"), after("what"), blank.alive)
        own = torch.where(z.present[..., None] > 0, z.pen, torch.nan).nanmedian(1).values
        pen = torch.where(none[:, None], self.usual_pen(), own)
        pen = torch.cat([pen[:, :2], self._global_slope(z.pen).flatten(1)], 1)
        canvas = reading.canvas[:, -1].clamp(0, 1 - 1e-6)
        together = pen[:, 2, None, None, None] * canvas.atanh()
        each = State(*(t.repeat_interleave(draws, 0) for t in state))
        together, pen = together.repeat_interleave(draws, 0), pen.repeat_interleave(draws, 0)
        wet = self.config.fidelity == "code"
        _, images = self._unroll(each, together, pen, self.config.parts, wet)
        return images.clamp(0, 1).view(len(x), draws, *images.shape[1:])

    # Other exemplars.

    @property
    def degrees(self) -> bool:
        """As coded."""
        return self.config.fidelity == "code"

    def tried(self) -> int:
        """Best of 20."""
        return 20

    def perturb(self, z: Parts) -> Parts:
        """Noise on the inner control points, most on the middle one, in the frame of the stroke, as coded."""
        spread = z.what.new_tensor([0, 0.003, 0.1, 0.003, 0]).repeat_interleave(2)
        what = z.what + spread * torch.randn_like(z.what)
        pen = z.pen
        if self.config.pen_noise:
            noise = pen.new_tensor([0.001, 0.01, 0.01]) * torch.randn_like(pen)
            pen = (pen + noise).clamp(min=1e-3)
        return Parts(z.present, z.where, what, pen)

    def editable(self, z: Parts) -> Tensor:
        """Control points on the canvas; for a neural renderer the code itself."""
        if self.config.renderer == "mlp":
            return z.what
        return move(z.what.unflatten(-1, (POINTS, 2)), frame(z.where)).flatten(2)

    def redraw(self, z: Parts, edited: Tensor, matrix: Tensor) -> Tensor:
        """Control points under the map, then drawn; what a neural renderer painted is warped."""
        if self.config.renderer == "mlp":
            return warp(self.canvas(z._replace(what=edited)), inverse_map(matrix))
        points = move(edited.unflatten(-1, (POINTS, 2)), matrix[:, None])
        raw = ink(points, z.pen[..., 0], self.side).flatten(0, 1)[:, None]
        strokes = self._dried(z.present.flatten(), raw, z.pen[..., 1].flatten())
        together = strokes.unflatten(0, z.present.shape).sum(1)
        image: Tensor = (together / self._global_slope(z.pen)).tanh()
        return image


def _parts(states: list[State], pen: Tensor) -> Parts:
    """What each step put down, one after another."""
    present, where, what = (_along(states, name) for name in ("alive", "where", "what"))
    return Parts(present, where, what, pen)


def _along(states: list[State], name: str) -> Tensor:
    """A field of the states, one step after another: (B, T, …)."""
    return torch.stack([getattr(state, name) for state in states], 1)


def _constant(head: nn.Sequential, bias: Tensor) -> None:
    """Make a head give `bias` whatever it sees, until it learns."""
    last = head[-1]
    assert isinstance(last, nn.Linear)
    last.weight.zero_()
    last.bias.copy_(bias)


def _single(p: Gaussian, shape: tuple[int, ...] | torch.Size) -> Mixture:
    """One Gaussian as a mixture of one."""
    mean, diagonal = (part.expand(*shape, 1, -1) for part in p)
    corner = mean.new_zeros(*shape, 1)
    return Mixture(corner, Tilted(mean, diagonal, corner))
