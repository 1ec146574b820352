"""The command line with protocols made of the laboratory's classes, as `tiny`; reports are left out.

Tests run it as a process of its own, `python tests/laboratory_cli.py run tiny ...`, or in theirs (driving.py).
"""

from __future__ import annotations

import contextlib
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

from reprise import cli
from reprise.commands import run
from reprise.core import protocol as protocols
from reprise.core.protocol import Table, dataset, metric, model

MODULE = types.ModuleType(
    "reprise.protocols.tiny", "Tiny: do the machinery's promises hold?\n\nNo paper."
)
MODULE.__dict__["protocol"] = Table(
    paper="none",
    models={
        "Sketch": model("laboratory:Sketch"),
        "Sketch (wide)": model(
            "laboratory:Sketch", spread=2.0
        ),  # an evaluation option: the same run
        "Slow": model("laboratory:Sketch", slow=0.005),
        "Diverging": model("laboratory:Sketch", diverge_at=20),
        "Half": model("laboratory:Sketch").trained_for(0.5),
        "To come": model("to_come"),
    },
    datasets={"Blobs": dataset("laboratory:Blobs")},
    metrics={
        "Bound": metric("laboratory:Bound"),
        "Bound-4": metric("laboratory:Bound", particles=4),
        "Raises": metric("laboratory:Broken"),
        "NaN": metric("laboratory:Broken", how="nan"),
        "Pointless": metric("laboratory:Broken", how="nothing"),
        "Dies": metric("laboratory:Broken", how="die"),
        "Needy": metric("laboratory:Needy"),
    },
    pending=("to_come",),
)

COURSE = types.ModuleType("reprise.protocols.course", "Course: how did trainings go?\n\nNo paper.")
COURSE.__dict__["protocol"] = Table(
    paper="none",
    models={
        "Sketch": model("laboratory:Sketch"),
        "Half": model("laboratory:Sketch").trained_for(0.5),
    },
    datasets={"Blobs": dataset("laboratory:Blobs")},
    metrics={"Loss": metric("training_loss")},
)

ODD = types.ModuleType("reprise.protocols.odd", "Odd: what do metrics make?\n\nNo paper.")
ODD.__dict__["protocol"] = Table(
    paper="none",
    models={"Sketch": model("laboratory:Sketch")},
    datasets={"Blobs": dataset("laboratory:Blobs")},
    metrics={
        "Bound": metric("laboratory:Bound"),
        "Below": metric("laboratory:Broken", how="below"),
        "Wide": metric("laboratory:Broken", how="wide"),
    },
)

FAULTS = (
    "init raises", "init lingers", "loss raises", "log_weights raises", "decode raises", "loss exits", "loss is gone",
    "loss is killed", "loss hangs", "log_weights hangs deaf", "loss eats memory", "log_weights eats lists",
    "loss prints", "loss per image", "loss alone", "loss of integers", "loss with a number", "loss elsewhere",
    "loss nan", "log_weights swapped", "decode one image",
)  # fmt: skip
FAULTY = types.ModuleType("reprise.protocols.faulty", "Faulty: whose fault is it?\n\nNo paper.")
FAULTY.__dict__["protocol"] = Table(
    paper="none",
    models={"Sketch": model("laboratory:Sketch")}
    | {fault: model("laboratory:Faulty", fault=fault) for fault in FAULTS},
    datasets={"Blobs": dataset("laboratory:Blobs")},
    metrics={"Bound": metric("laboratory:Bound"), "Parameters": metric("parameters")},
)

PAIR = types.ModuleType("reprise.protocols.pair", "Pair: whose number is it?\n\nNo paper.")
PAIR.__dict__["protocol"] = Table(
    paper="none",
    models={
        "Sketch": model("laboratory:Sketch"),
        "Sketch-2": model("laboratory:Sketch", latents=2),
        "Half": model("laboratory:Sketch").trained_for(0.5),
    },
    datasets={"MNIST-4": dataset("scenes", rule="mnist4")},
    metrics={
        "LL": metric("log_marginal", particles=3, images=4),
        "LL-2": metric("log_marginal", particles=2, images=4),
        "D-Steps": metric("discriminator_steps", pool=16, held_out=8, batch=4, cap=20, repeats=1),
    },
)


PROTOCOLS = {
    "tiny": MODULE,
    "twin": MODULE,  # another name for the same cells
    "course": COURSE,
    "odd": ODD,
    "faulty": FAULTY,
    "pair": PAIR,
}


@contextlib.contextmanager
def installed() -> Iterator[None]:
    """The laboratory's protocols are found beside the real ones, and its classes as `laboratory:Sketch`."""
    here, known = str(Path(__file__).parent), [*protocols.names(), *PROTOCOLS]
    with (
        mock.patch.object(sys, "path", [here, *sys.path]),
        mock.patch.object(protocols, "names", return_value=known),
        mock.patch.object(run, "print_report"),
    ):
        modules = {f"reprise.protocols.{name}": module for name, module in PROTOCOLS.items()}
        sys.modules.update(modules)
        try:
            yield
        finally:
            for name in modules:
                del sys.modules[name]


if __name__ == "__main__":
    with installed():
        sys.exit(cli.main())
