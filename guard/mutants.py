"""Bugs that were made somewhere, once: each changes one place of the source and leaves a program that runs."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["MUTANTS", "Mutant"]


@dataclass(frozen=True)
class Mutant:
    """A bug. before: text that stands exactly once in `file` (below the package); after: what stands there instead."""

    name: str
    file: str
    before: str
    after: str


MUTANTS: tuple[Mutant, ...] = (
    # Data and what is measured on them.
    Mutant(
        "metrics read the training split", "metrics/_evaluation.py",
        'data.split("test")\n    return test', 'data.split("train")\n    return test',
    ),
    Mutant(
        "train and test scenes share their seed", "data/scenes.py",
        'stream("scenes", scenes.seed, name)', 'stream("scenes", scenes.seed)',
    ),
    Mutant(
        "test scenes are made of training digits", "data/scenes.py",
        "return _glyphs.glyphs(self.source, name, self.canvas)",
        'return _glyphs.glyphs(self.source, "train", self.canvas)',
    ),
    Mutant(
        "intersection over union counts one pixel too many", "core/detection.py",
        "both = (high - low).clip(0).prod(-1)", "both = (high - low + 1).clip(0).prod(-1)",
    ),
    Mutant(
        "two predictions may hit one object", "core/detection.py",
        "(overlap[prediction, best] > thresholds) & ~used[best]", "overlap[prediction, best] > thresholds",
    ),
    Mutant(
        "the judge's tolerance is ten times what it says", "metrics/structure_accuracy.py",
        "self.displacements(images) <= StructureAccuracy.tolerance",
        "self.displacements(images) <= 10 * StructureAccuracy.tolerance",
    ),
    Mutant(
        "the judge accepts digits in any order", "metrics/_judge_rules.py",
        "can_be[order, np.arange(c, c + 4)].all() for c in range(7)",
        "can_be[order][:, np.arange(c, c + 4)].any(0).all() for c in range(7)",
    ),
    Mutant(
        "the judge of MNIST-10 wants 0 where 9 stands", "metrics/_judge_rules.py",
        "within[list(low)] - within[list(high)]", "within[list(low)] - within[list(high[::-1])]",
    ),
    # Likelihoods.
    Mutant(
        "the likelihood lacks log K", "core/model.py",
        "self._weights(x, particles).logsumexp(0) - math.log(particles)",
        "self._weights(x, particles).logsumexp(0)",
    ),
    Mutant(
        "LL is the ELBO", "metrics/log_marginal.py",
        "Measurement.mean(log_mean(weights, 0), **arrays)", "Measurement.mean(weights.mean(0), **arrays)",
    ),
    Mutant(
        "logsumexp over images instead of particles", "metrics/log_marginal.py",
        "total: NDArray[np.float64] = logsumexp(log_weights, axis)",
        "total: NDArray[np.float64] = logsumexp(log_weights, 1 - axis)",
    ),
    Mutant(
        "a Gaussian's log-density lacks log std", "nn/distributions.py",
        ".square() - self.std.log() - HALF_LOG_2PI", ".square() - HALF_LOG_2PI",
    ),
    Mutant(
        "a mixture is not normalised", "baselines/genesis.py",
        "mixed = (log_mask - error.square()).logsumexp(1)", "mixed = (-error.square()).logsumexp(1)",
    ),
    Mutant(
        "prior and posterior swapped in the VAE's bound", "baselines/vae.py",
        "(p.log_prob(z) - q.log_prob(z)).sum(1)", "(q.log_prob(z) - p.log_prob(z)).sum(1)",
    ),
    Mutant(
        "prior and posterior swapped in GNM's bound", "models/gnm/__init__.py",
        "drawing.log_ratio() + p.log_prob(z) - q.log_prob(z)", "drawing.log_ratio() + q.log_prob(z) - p.log_prob(z)",
    ),
    # Objectives.
    Mutant(
        "KL of the prior from the posterior in StructDRAW", "nn/structdraw.py",
        "torch.stack([q.kl(p).flatten(1)", "torch.stack([p.kl(q).flatten(1)",
    ),
    Mutant(
        "GNM's z_what pays no KL", "models/gnm/__init__.py",
        '"kl_depth": q.depth.kl(p.depth), "kl_what": q.what.kl(p.what),', '"kl_depth": q.depth.kl(p.depth),',
    ),
    Mutant(
        "GNM's fixed priors are computed and left out", "models/gnm/__init__.py",
        "beta * kl_global + kl_structure + fixed", "beta * kl_global + kl_structure",
    ),
    Mutant(
        "beta is ignored", "models/gnm/__init__.py",
        "beta = linear(step, 0.0, c.beta, 0, c.beta_until)", "beta = linear(step, 0.0, 1.0, 0, c.beta_until)",
    ),
    Mutant(
        "schedules are one step late", "training/fit.py",
        "torch.full((), t / training.time_scale", "torch.full((), (t + 1) / training.time_scale",
    ),
    Mutant(
        "schedules ignore the squeezed time", "training/fit.py",
        "torch.full((), t / training.time_scale", "torch.full((), float(t)",
    ),
    # Training.
    Mutant(
        "gradients are not clipped", "training/engine.py",
        'float("inf") if clip_norm is None else clip_norm', 'float("inf")',
    ),
    Mutant(
        "a resumed run sees its batches in another order", "training/fit.py",
        'np.random.default_rng(run.stream("epoch", epoch))', 'np.random.default_rng(run.stream("epoch", epoch, start))',
    ),
    Mutant(
        "images are drawn with replacement", "training/fit.py",
        """.permutation(
                len(images)
            )""", """.integers(
                0, len(images), len(images)
            )""",
    ),
    Mutant(
        "a resumed run draws other noise", "training/fit.py",
        'torch.manual_seed(run.stream("step", t))', 'torch.manual_seed(run.stream("step", t - start))',
    ),
    Mutant(
        "models are measured in training mode", "launch/work.py",
        "return model.eval()", "return model.train()",
    ),
    # What is drawn and what is not.
    Mutant(
        "samples are not clamped", "core/model.py",
        "return self._images(self.decode(self.prior(n)), (n, *self._image_shape)).clamp(0, 1)",
        "return self._images(self.decode(self.prior(n)), (n, *self._image_shape))",
    ),
    Mutant(
        "boxes are drawn where their mean is asked for", "models/gnm/__init__.py",
        "extent, centre = self.box(q.where.mean)\n        middle",
        "extent, centre = self.box(q.where.sample())\n        middle",
    ),
    Mutant(
        "GNM's samples draw z_what instead of its mode", "models/gnm/__init__.py",
        "return Latents(z_global, p.pres.mode(), p.where.mean, p.depth.mean, p.what.mean, p_b.mean)",
        "return Latents(z_global, p.pres.mode(), p.where.mean, p.depth.mean, p.what.sample(), p_b.mean)",
    ),
    # Statistics.
    Mutant(
        "the spread over seeds divides by n", "core/verdict.py",
        "std=statistics.stdev(values) if len(values) > 1 else None",
        "std=statistics.pstdev(values) if len(values) > 1 else None",
    ),
    Mutant(
        "the standard error over images divides by n", "core/reductions.py",
        "values.std(ddof=1)", "values.std(ddof=0)",
    ),
    Mutant(
        "one seed may pass", "core/verdict.py",
        "if len(ok) < 2:\n        why", "if len(ok) < 1:\n        why",
    ),
    Mutant(
        "the normal quantile instead of Student's", "core/power.py",
        "return float(stdtrit(degrees, level))", "return float(stdtrit(1e9, level))",
    ),
    Mutant(
        "dialects are not compared", "core/verdict.py",
        "return next((word for word in theirs.split() if word not in said), \"\")", 'return ""',
    ),
    Mutant(
        "a mean over the seeds that happen to be there", "core/verdict.py",
        'return f"{ok} of {seeds} seeds measured" if ok < seeds else ""', 'return ""',
    ),
    Mutant(
        "an improvement is no movement", "render/check.py",
        "if abs(difference) > allowed:", "if difference < -allowed:",
    ),
)  # fmt: skip
