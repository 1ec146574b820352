"""The judge's reader: a small classifier of one drawn object, ten digits and "not a digit".

It is trained from the data set's own training glyphs, once, and kept in the user's cache. Everything about it was fixed
before it saw a generated image: it must not be tuned on the images that it judges.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import io
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from ..core.errors import DataError
from ..core.files import write_bytes
from ..core.locks import made_once
from ..core.progress import track
from ..core.randomness import seeded, stream
from ..core.workspace import cache_folder

VERSION = 3  # raise it when the same glyphs begin to give another reader
CANVAS = 128  # the canvas that all lengths in pixels are given for; other canvases scale them
WINDOW = 28  # side of the square that is read, in pixels of a 128-pixel canvas
CLASSES = 10
NOT_A_DIGIT = 10

# Networks that read alone and are averaged: what one takes for another digit, the others may not. Four where there are
# glyphs enough to train them apart (MNIST); one for scikit-learn's 1,500, which takes half a minute.
MEMBERS, MANY_GLYPHS = 4, 10_000
# Of each member, fewest and most: one for every nine glyphs; MNIST's 55,000 are seen eighteen times.
STEPS = 300, 6000
BATCH = 192
JUNK = 32  # of each batch, four of each kind, twelve drawn: one in six is no digit


# Turned by, slanted by, in radians: handwriting is read alike from a little aside.
VIEWS = ((0.0, 0.0), (0.1, 0.0), (-0.1, 0.0), (0.0, 0.12), (0.0, -0.12))


class Glyphs(NamedTuple):
    """Drawings of single digits. image: (N, H, W) uint8, each centred by its tight box. label: (N,) in 0..9."""

    image: NDArray[np.uint8]
    label: NDArray[np.int64]

    @property
    def digest(self) -> str:
        """First 12 hexadecimal digits of the SHA-256 of shapes, pixels and labels."""
        sha = hashlib.sha256(f"{self.image.shape}".encode())
        sha.update(np.ascontiguousarray(self.image).tobytes())
        sha.update(np.ascontiguousarray(self.label, dtype="<i8").tobytes())
        return sha.hexdigest()[:12]


def _network() -> nn.Sequential:
    """(N, 1, 28, 28) in [0, 1] -> (N, 11) logits."""

    def convolution(channels: int, width: int, kernel: int = 3, stride: int = 1) -> list[nn.Module]:
        layer = nn.Conv2d(channels, width, kernel, stride, kernel // 2, bias=False)
        return [layer, nn.BatchNorm2d(width), nn.ReLU()]

    return nn.Sequential(
        *convolution(1, 32, 5, 2),  # (N, 32, 14, 14)
        *convolution(32, 64),
        nn.MaxPool2d(2),  # (N, 64, 7, 7)
        *convolution(64, 96),
        *convolution(96, 96),
        nn.Flatten(),
        nn.Linear(96 * 49, 128),
        nn.ReLU(),
        nn.Linear(128, CLASSES + 1),
    )


class Reader(nn.Module):
    """A committee of networks."""

    def __init__(self, members: int) -> None:
        super().__init__()
        self.members = nn.ModuleList(_network() for _ in range(members))

    def forward(self, window: Tensor) -> Tensor:
        """Probabilities of the eleven classes, the mean of the members': (N, 1, 28, 28) in [0, 1] -> (N, 11)."""
        return torch.stack([member(window).softmax(1) for member in self.members]).mean(0)

    @property
    def digest(self) -> str:
        """First 12 hexadecimal digits of the SHA-256 of the weights."""
        sha = hashlib.sha256()
        for name, value in self.state_dict().items():
            sha.update(name.encode())
            sha.update(value.numpy().astype("<f4").tobytes())
        return sha.hexdigest()[:12]

    @torch.no_grad()
    def read(self, windows: NDArray[np.float32], views: int) -> NDArray[np.float32]:
        """Class probabilities (N, 11) of square windows (N, S, S) in [0, 1], whatever their side.

        Averaged over the first `views` of VIEWS: a glance is enough to compare many cuts, a verdict takes all.
        """
        result = [np.zeros((0, CLASSES + 1), np.float32)]
        with one_thread():
            for start in range(0, len(windows), 1024):
                x = resized(torch.from_numpy(windows[start : start + 1024])[:, None])
                seen = [self(_tilted(x, *view)) for view in VIEWS[:views]]
                result.append(torch.stack(seen).mean(0).numpy())
        return np.concatenate(result)


def resized(x: Tensor) -> Tensor:
    """Windows of a smaller or larger canvas at the side that the reader reads: (N, 1, 28, 28)."""
    if x.shape[-1] == WINDOW:
        return x
    return F.interpolate(x, (WINDOW, WINDOW), mode="bilinear", align_corners=False, antialias=True)


def _tilted(x: Tensor, turn: float, slant: float) -> Tensor:
    """Windows (N, 1, 28, 28) turned and slanted about their middle."""
    if turn == slant == 0:
        return x
    cos, sin = math.cos(turn), math.sin(turn)
    theta = torch.tensor([[cos, slant - sin, 0], [sin, cos, 0]]).expand(len(x), 2, 3)
    grid = F.affine_grid(theta, list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, align_corners=False)


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """One thread inside, so that sums are taken in the same order however many cores there are."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def reader_for(glyphs: Glyphs, canvas: int) -> Reader:
    """The reader of these glyphs on a canvas of this side: from the cache, or trained now and kept there.

    A member of a committee is kept as soon as it is trained, so that a kill costs the one under way. Raises DataError
    if a cached file is not the one that was written.
    """
    path = cache_folder() / "judge" / f"reader-v{VERSION}-{canvas}-{glyphs.digest}.npz"
    members = _committee(glyphs)
    if not path.exists():
        alone = [path.with_suffix(f".{number + 1}-of-{members}") for number in range(members)]
        made_once(path, lambda: _packed(train(glyphs, canvas, alone if members > 1 else ())))
        for kept in alone:
            kept.unlink(missing_ok=True)
    return _unpacked(path, members)


def _packed(reader: Reader) -> bytes:
    buffer = io.BytesIO()
    arrays = {name: value.numpy() for name, value in reader.state_dict().items()}
    np.savez(buffer, digest=np.array(reader.digest), **arrays)
    return buffer.getvalue()


def _unpacked(path: Path, members: int) -> Reader:
    reader = Reader(members)
    mend = "delete it, and the judge is trained again"
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as stored:
            expected = str(stored["digest"])
            reader.load_state_dict(
                {k: torch.from_numpy(stored[k]) for k in stored.files if k != "digest"}
            )
    except Exception as error:  # numpy, zipfile and torch each have their own for a damaged file
        raise DataError(f"{path} is not a whole judge ({type(error).__name__}); {mend}") from error
    if reader.digest != expected:
        raise DataError(
            f"{path}: the weights' digest is {reader.digest}, expected {expected}; {mend}"
        )
    return reader.eval()


# --- training ---------------------------------------------------------------------------------------------------------


def train(glyphs: Glyphs, canvas: int, alone: Sequence[Path] = ()) -> Reader:
    """Train a reader; the same glyphs give the same weights on the same machine.

    alone: a file for each member, where it is kept once it is trained, and taken from if it is there.
    """
    images = _in_windows(glyphs, canvas)
    by_class = [torch.from_numpy(np.flatnonzero(glyphs.label == c)) for c in range(CLASSES)]
    if empty := [c for c, members in enumerate(by_class) if len(members) == 0]:
        raise DataError(
            f"the judge needs glyphs of every digit; there are none of {empty}; check the data set's files"
        )
    steps = min(max(len(images) // 9, STEPS[0]), STEPS[1])
    # Its weights are replaced below, and the samples that are judged next must not depend on these draws.
    with seeded(0):
        reader = Reader(_committee(glyphs))
        single = Reader(1)
    kept = {number: file for number, file in enumerate(alone) if file.exists()}
    ticks = track(range(steps * (len(reader.members) - len(kept))), "training the judge")
    for number in range(len(reader.members)):
        if number in kept:
            with seeded(0):
                reader.members[number] = _unpacked(kept[number], 1).members[0]
            continue
        seed = stream("judge", VERSION, glyphs.digest, canvas, number)
        # metrics are called without gradients, in inference mode
        with seeded(seed), one_thread(), torch.inference_mode(False), torch.enable_grad():
            reader.members[number] = _member(images, by_class, steps, ticks)
        if alone:
            single.members[0] = reader.members[number]
            write_bytes(alone[number], _packed(single))
    next(ticks, None)  # the bar is full
    return reader.eval()


def _committee(glyphs: Glyphs) -> int:
    """How many members the reader of these glyphs has."""
    return MEMBERS if len(glyphs.image) >= MANY_GLYPHS else 1


def _member(
    images: Tensor, by_class: list[Tensor], steps: int, ticks: Iterator[object]
) -> nn.Module:
    """One trained network. images: (N, 1, 28, 28) uint8. by_class: which of them are of each class.

    Each class is drawn equally often. A sixth of every batch is not a digit.
    """
    network = _network()
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # a third faster
    strokes = _scribbles(2 * steps)
    average = copy.deepcopy(network.state_dict())
    optimiser = torch.optim.AdamW(network.parameters(), lr=3e-3, weight_decay=0.02, fused=True)
    for step in range(steps):
        next(ticks)
        for group in optimiser.param_groups:
            warm, done = min(1.0, (step + 1) / 60), step / steps
            group["lr"] = 3e-3 * warm * 0.5 * (1 + math.cos(math.pi * done))
        label = torch.randint(CLASSES, (BATCH,))
        index = torch.stack([by_class[c][torch.randint(len(by_class[c]), ())] for c in label.tolist()])  # fmt: skip
        x = _bent(images[index].float() / 255)  # (B, 1, 28, 28)
        junk = _not_digits(x[-JUNK:], label[-JUNK:], x[:-JUNK], label[:-JUNK], strokes)
        x = _printed(torch.cat([x[:-JUNK], junk]))
        label[-JUNK:] = NOT_A_DIGIT
        loss = F.cross_entropy(network(x.contiguous(memory_format=torch.channels_last)), label)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        # the average of the late weights reads better than the last ones
        for name, now in network.state_dict().items():
            if now.is_floating_point():
                average[name].lerp_(now, 1 if step < steps // 2 else 0.01)
    network.load_state_dict(average)
    return network


def _in_windows(glyphs: Glyphs, canvas: int) -> Tensor:
    """Glyphs centred in windows and brought to the reader's side: (N, 1, 28, 28) uint8."""
    side = window_side(canvas)
    n, height, width = glyphs.image.shape
    if max(height, width) > side:
        raise DataError(
            f"glyphs of {height} x {width} px do not fit the judge's window of {side} px "
            f"on a canvas of {canvas} px"
        )
    top, left = (side - height) // 2, (side - width) // 2
    x = np.zeros((n, 1, side, side), np.uint8)
    x[:, 0, top : top + height, left : left + width] = glyphs.image
    if side == WINDOW:
        return torch.from_numpy(x)
    return resized(torch.from_numpy(x).float()).clamp(0, 255).round().to(torch.uint8)


def window_side(canvas: int) -> int:
    """Side of the window in pixels of the canvas, even."""
    return 2 * round(WINDOW * canvas / CANVAS / 2)


def _bent(x: Tensor) -> Tensor:
    """Each image turned, stretched, slanted, shifted and slightly warped: (B, 1, 28, 28)."""
    b = len(x)
    turn, slant = torch.randn(b) * 0.1, torch.randn(b) * 0.1
    sx, sy = 1 + (torch.rand(2, b) - 0.5) * 0.24
    cos, sin = turn.cos(), turn.sin()
    rows = [cos / sx, (slant - sin) / sx, torch.zeros(b), sin / sy, cos / sy, torch.zeros(b)]
    theta = torch.stack(rows, 1).view(b, 2, 3)
    theta[:, :, 2] = (torch.rand(b, 2) - 0.5) * (3 / (WINDOW / 2))  # +- 1.5 px
    grid = F.affine_grid(theta, [b, 1, WINDOW, WINDOW], align_corners=False)
    warp = torch.randn(b, 2, 5, 5) * 0.03  # about 0.4 px
    warp = F.interpolate(warp, (WINDOW, WINDOW), mode="bicubic", align_corners=True)
    return F.grid_sample(x, grid + warp.permute(0, 2, 3, 1), align_corners=False)


def _printed(x: Tensor) -> Tensor:
    """Each image as a decoder might draw it: strokes thicker or thinner, a nick, blur, brighter or darker."""
    b = len(x)
    thicker, thinner = F.max_pool2d(x, 3, 1, 1), -F.max_pool2d(-x, 3, 1, 1)
    weight = (torch.rand(b, 1, 1, 1) * 1.6 - 0.8).clamp(-0.5, 0.8)
    weight = weight * (torch.rand(b, 1, 1, 1) < 0.6)
    x = x + weight.clamp(min=0) * (thicker - x) + (-weight).clamp(min=0) * (thinner - x)
    nick = torch.ones(b, 1, 14, 14)
    where = torch.randint(14 * 14, (b,))
    nick.view(b, -1)[torch.arange(b), where] = (torch.rand(b) < 0.8).float()
    x = x * F.interpolate(nick, (WINDOW, WINDOW))
    soft, softer = blurred(x, 0.8), blurred(x, 1.4)
    how = torch.rand(b, 1, 1, 1)
    x = torch.where(how < 0.5, x, torch.where(how < 0.85, soft, softer))
    return (x * (0.5 + 0.7 * torch.rand(b, 1, 1, 1))).clamp(0, 1)


def blurred(x: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of images (B, 1, H, W)."""
    reach = math.ceil(3 * sigma)
    kernel = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / sigma) ** 2)
    kernel = kernel / kernel.sum()
    x = F.conv2d(x, kernel.view(1, 1, 1, -1), padding=(0, reach))
    return F.conv2d(x, kernel.view(1, 1, -1, 1), padding=(reach, 0))


def _not_digits(
    x: Tensor, label: Tensor, others: Tensor, other_label: Tensor, strokes: Tensor
) -> Tensor:
    """Objects that are no digit, made of the digits x (J, 1, 28, 28), in eight equal parts.

    Fragments, neighbours that run together, two digits in one place, blobs, patchwork, and three times drawings.
    """
    n = len(x)
    # a partner of another class for each: a 4 upon a 4 is a 4
    other_class = other_label[None] != label[:, None]  # (J, B - J)
    other = others[torch.multinomial(other_class.float(), 1)[:, 0]]
    kind = torch.arange(n) * 8 // n
    out = x.clone()
    rows, columns = torch.meshgrid(torch.arange(WINDOW), torch.arange(WINDOW), indexing="ij")
    # fragments: what lies on one side of a line near the middle; half a 1 or a 7 is a 1 all the same
    for i in (kind == 0).nonzero().flatten().tolist():
        j = i
        while label[j] in (1, 7):
            j = int(torch.randint(n, ()))
        angle = float(torch.rand(())) * 2 * math.pi
        side = (columns - 13.5) * math.cos(angle) + (rows - 13.5) * math.sin(angle)
        out[i] = centred(x[j] * (side > float(torch.rand(())) * 3 - 1))
    # neighbours: the second digit 8 to 14 px beside the first, as much of both as the window shows
    beside = F.pad(other, (WINDOW // 2,) * 4)
    for i in (kind == 1).nonzero().flatten().tolist():
        there = WINDOW // 2 + int(torch.randint(8, 15, ())) * (1 if torch.rand(()) < 0.5 else -1)
        top, left = (there, WINDOW // 2) if torch.rand(()) < 0.5 else (WINDOW // 2, there)
        out[i] = torch.maximum(x[i], beside[i, :, top : top + WINDOW, left : left + WINDOW])
        out[i] = centred(out[i])
    # one upon the other, or the mean of both, as a model draws that cannot decide
    two = kind == 2
    share = 0.4 + 0.2 * torch.rand(n, 1, 1, 1)
    mean = 1.6 * (share * x + (1 - share) * other)
    mixed = torch.where(torch.rand(n, 1, 1, 1) < 0.5, torch.maximum(x, other), mean)
    out[two] = mixed[two]
    # blobs: the mean of six digits, or one digit blurred away
    mean = others[torch.randint(len(others), (n, 6))].mean(1)
    blob = torch.where(torch.rand(n, 1, 1, 1) < 0.5, blurred(mean, 0.8), blurred(x, 3.2))
    blob = 0.8 * blob / blob.amax((1, 2, 3), keepdim=True).clamp(min=0.05)
    out[kind == 3] = blob[kind == 3]
    drawn = kind >= 5
    out[drawn] = strokes[torch.randint(len(strokes), (int(drawn.sum()),))]
    # patchwork: any quarter of any digit in each corner, mirrored or not
    patchwork = torch.zeros_like(x)
    low, high = slice(3, 14), slice(14, 25)
    for rows_, columns_ in ((low, low), (low, high), (high, low), (high, high)):
        quarters = torch.stack([others[:, :, a, b] for a in (low, high) for b in (low, high)])
        quarters = torch.cat([quarters, quarters.flip(-1)])  # (8, B - J, 1, 11, 11)
        which, whose = torch.randint(8, (n,)), torch.randint(len(others), (n,))
        patchwork[:, :, rows_, columns_] = quarters[which, whose]
    out[kind == 4] = patchwork[kind == 4]
    return out


def centred(x: Tensor) -> Tensor:
    """One image (1, 28, 28) moved so that the box of its ink (> 0.25) lies in the middle."""
    rows, columns = (x[0] > 0.25).nonzero(as_tuple=True)
    if len(rows) == 0:
        return x
    dy = (WINDOW - 1 - int(rows.min()) - int(rows.max())) // 2
    dx = (WINDOW - 1 - int(columns.min()) - int(columns.max())) // 2
    return torch.roll(x, (dy, dx), (1, 2))


def _scribbles(n: int) -> Tensor:
    """Drawings in the size of a digit, (n, 1, 28, 28): one in four of smooth strokes, the others straight figures."""
    t = torch.linspace(0, 1, 40)[:, None]
    out = torch.zeros(n, WINDOW * WINDOW)
    for i in range(n):
        if i % 4 == 1:
            knots = torch.rand(int(torch.randint(2, 4, ())), 4, 2) * 22 + 3  # cubic Bezier curves
            a, b, c, d = knots[:, :, None].unbind(1)
            curve = (1 - t) ** 3 * a + 3 * (1 - t) ** 2 * t * b + 3 * (1 - t) * t**2 * c + t**3 * d
        else:
            start, end = _figure(int(torch.randint(4, ())))
            curve = (1 - t) * start[:, None] + t * end[:, None]  # (lines, 40, 2)
        cell = curve.reshape(-1, 2).round().long().clamp(0, WINDOW - 1)
        out[i, cell[:, 0] * WINDOW + cell[:, 1]] = 1
    x = (1.8 * blurred(out.view(n, 1, WINDOW, WINDOW), 0.9)).clamp(0, 1)
    return torch.stack([centred(image) for image in x])


def _figure(kind: int) -> tuple[Tensor, Tensor]:
    """Both ends of the lines (L, 2) of a figure that no digit has: a polygon, a star, a comb, or lines apart."""
    middle, reach = (WINDOW - 1) / 2, 5 + 5 * torch.rand(2)
    turned = torch.rand(()) * 2 * math.pi
    if kind == 0:
        corners = int(torch.randint(3, 6, ()))
        angle = turned + (torch.arange(corners) + 0.3 * torch.rand(corners)) * 2 * math.pi / corners
        start = middle + reach * torch.stack([angle.cos(), angle.sin()], 1)
        return start, start.roll(1, 0)
    if kind == 1:
        lines = int(torch.randint(2, 5, ()))
        angle = turned + (torch.arange(lines) + 0.3 * torch.rand(lines)) * math.pi / lines
        arm = reach * torch.stack([angle.cos(), angle.sin()], 1)
        return middle + arm, middle - arm
    if kind == 2:
        lines = int(torch.randint(2, 5, ()))
        apart = torch.linspace(-1, 1, lines) * reach[0]
        start = middle + torch.stack([apart, (-reach[1]).expand(lines)], 1)
        end = middle + torch.stack([apart, reach[1].expand(lines)], 1)
        if lines == 2 or torch.rand(()) < 0.5:  # with a line across; two alone may be an 11
            at = reach[1] * (2 * torch.rand(()) - 1)
            start = torch.cat([start, middle + torch.stack([-reach[0], at])[None]])
            end = torch.cat([end, middle + torch.stack([reach[0], at])[None]])
        if torch.rand(()) < 0.5:
            start, end = start.flip(1), end.flip(1)
        return start, end
    ends = torch.randint(5, (2, int(torch.randint(4, 6, ())), 2)) * 5.0 + 4
    return ends[0], ends[1]
