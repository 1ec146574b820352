"""The Arrow judge's parser: which objects an image shows, where, and where the arrow points.

A small convolutional network says for every cell of four by four pixels whether something stands there (a heat map with
a peak on every object, as in Zhou et al., "Objects as points", 2019), what it is, of which colour and material, where
its foot is, and, if it is an arrow, which way it points in the image. "None of these shapes" is a class of its own: a
smear is found and not recognised, rather than overlooked or guessed at.

It learns from the renders of the Arrow room whose truth is known, lawful and not (_judge_arrow_scenes), and from
objects that are none (_judge_arrow_junk), once, and is kept in the user's cache.
"""

from __future__ import annotations

import copy
import hashlib
import io
import math
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from ..core.errors import DataError
from ..core.locks import made_once
from ..core.progress import track
from ..core.randomness import seeded, stream
from ..core.workspace import cache_folder
from . import _judge_arrow_scenes
from ._judge_arrow_junk import spoiled
from ._judge_arrow_scenes import CANVAS, COLOURS, MATERIALS, SHAPES, Picture, Room, Thing
from ._judge_reader import one_thread

VERSION = 2  # raise it when the same scenes begin to give another parser
NO_SHAPE = len(SHAPES)  # the class of what is none of SHAPES
OVERLOOKED = -1  # too little is seen of it to say: neither something nor nothing
STRIDE = 4
MOST = 8  # objects per training image


class Schooling(NamedTuple):
    """How much a parser learns from. lawful, unlawful: scenes. spoiled: images with objects that are none."""

    lawful: int
    unlawful: int
    spoiled: int
    steps: int


# Half an hour on two cores at 128 pixels; a minute at 64, where it need only serve to try things out.
SCHOOLING = {
    128: Schooling(1500, 600, 1600, 1200),
    64: Schooling(320, 160, 320, 500),
    32: Schooling(320, 160, 320, 500),
}
BATCH = 32
SHARES = (0.35, 0.25, 0.4)  # of a batch: lawful, unlawful, spoiled


class Parsed(NamedTuple):
    """The objects of one image. centre, foot: (O, 2) x and y in pixels of a 128-pixel canvas.

    sure: (O,) how sure it is that there is something. shape: (O, 5) probabilities of SHAPES and of none of them.
    colour: (O, 8). metal: (O,) probability. heading: (O, 2), unit vectors in the image, x to the right and y down; of
    meaning for arrows.
    """

    centre: NDArray[np.float64]
    foot: NDArray[np.float64]
    sure: NDArray[np.float64]
    shape: NDArray[np.float64]
    colour: NDArray[np.float64]
    metal: NDArray[np.float64]
    heading: NDArray[np.float64]


PARTS = (1, 2, 1, 2, 1, NO_SHAPE + 1, len(COLOURS))
"""Channels: something, offset from the cell's middle, depth of the foot, heading, metal, shape, colour."""


class _Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *_convolution(width, width), *_convolution(width, width, last=True)
        )

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.layers(x))


def _convolution(
    channels: int, width: int, kernel: int = 3, stride: int = 1, last: bool = False
) -> list[nn.Module]:
    layer = nn.Conv2d(channels, width, kernel, stride, kernel // 2, bias=False)
    return [layer, nn.BatchNorm2d(width)] + ([] if last else [nn.ReLU()])


class Parser(nn.Module):
    """(N, 3, S, S) in [0, 1] -> (N, 20, S/4, S/4), the channels of PARTS before their sigmoids and softmaxes."""

    def __init__(self) -> None:
        super().__init__()
        self.fine = nn.Sequential(
            *_convolution(3, 24, 5, 2), *_convolution(24, 48, 3, 2), _Block(48)
        )
        self.middle = nn.Sequential(*_convolution(48, 96, 3, 2), _Block(96), _Block(96))
        self.coarse = nn.Sequential(*_convolution(96, 128, 3, 2), _Block(128))
        self.to_middle = nn.Conv2d(128, 96, 1)
        self.at_middle = nn.Sequential(*_convolution(96, 96))
        self.to_fine = nn.Conv2d(96, 48, 1)
        self.at_fine = nn.Sequential(*_convolution(48, 64))
        self.head = nn.Sequential(nn.Conv2d(64, 96, 1), nn.ReLU(), nn.Conv2d(96, sum(PARTS), 1))
        last = self.head[-1]
        assert isinstance(last, nn.Conv2d)
        assert last.bias is not None
        nn.init.constant_(last.bias[:1], -4.0)  # most cells hold nothing

    def forward(self, x: Tensor) -> Tensor:
        x = x.contiguous(memory_format=torch.channels_last)
        fine = self.fine(x - 0.5)
        middle = self.middle(fine)
        coarse = self.coarse(middle)
        middle = self.at_middle(middle + _doubled(self.to_middle(coarse)))
        fine = self.at_fine(fine + _doubled(self.to_fine(middle)))
        maps: Tensor = self.head(fine)
        return maps

    @property
    def digest(self) -> str:
        """First 12 hexadecimal digits of the SHA-256 of the weights."""
        sha = hashlib.sha256()
        for name, value in self.state_dict().items():
            sha.update(name.encode())
            sha.update(value.numpy().astype("<f4").tobytes())
        return sha.hexdigest()[:12]

    @torch.no_grad()
    def parse(self, images: NDArray[np.uint8], least: float) -> list[Parsed]:
        """What is in each of the images (N, 3, H, W): everything that it is at least `least` sure of."""
        found: list[Parsed] = []
        with one_thread():
            for start in range(0, len(images), 64):
                x = sized(torch.from_numpy(np.asarray(images[start : start + 64])).float() / 255)
                # an image and its mirror image
                maps = [_read(self(x)), _mirrored(_read(self(x.flip(-1))))]
                found += [_peaks(one, least) for one in torch.stack(maps).mean(0)]
        return found


def _doubled(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="nearest")


def sized(x: Tensor) -> Tensor:
    """Images (N, 3, S, S) at a side that the network can read: 64 at least."""
    if x.shape[-1] >= 64:
        return x
    return F.interpolate(x, (64, 64), mode="bilinear", align_corners=False)


def _read(maps: Tensor) -> Tensor:
    """(N, 20, h, w) with probabilities in place of logits."""
    something, offset, drop, heading, metal, shape, colour = maps.float().split(PARTS, 1)
    parts = [something.sigmoid(), offset, drop, heading, metal.sigmoid()]
    return torch.cat([*parts, shape.softmax(1), colour.softmax(1)], 1)


def _mirrored(maps: Tensor) -> Tensor:
    maps = maps.flip(-1)
    maps[:, [1, 4]] *= -1  # the offset's x, the heading's x
    return maps


def _peaks(maps: Tensor, least: float) -> Parsed:
    """The objects of one image: maps (20, h, w) as `_read` gives them."""
    something = maps[0]
    near = F.max_pool2d(something[None], 3, 1, 1)[0]
    rows, columns = ((something == near) & (something >= least)).nonzero(as_tuple=True)
    order = something[rows, columns].argsort(descending=True, stable=True)
    rows, columns = rows[order], columns[order]
    value = maps[:, rows, columns].T.double()  # (O, 20)
    cell = CANVAS / maps.shape[-1]  # in pixels of a 128-pixel canvas
    sure, offset, drop, heading, metal, shape, colour = value.split(PARTS, 1)
    centre = (torch.stack([columns, rows], 1) + 0.5 + offset) * cell
    foot = centre + torch.cat([torch.zeros_like(drop), drop * DROP], 1)
    heading = heading / heading.norm(dim=1, keepdim=True).clamp(min=1e-6)
    # One object may have two peaks beside each other: the higher one counts.
    apart = torch.cdist(centre, centre) < APART
    kept = [k for k in range(len(centre)) if not bool(apart[k, :k].any())]
    parts = (centre, foot, sure[:, 0], shape, colour, metal[:, 0], heading)
    return Parsed(*(part[kept].numpy() for part in parts))


APART = 7.0  # pixels of a 128-pixel canvas: no two objects' middles are nearer
DROP = 8.0  # the unit of the depth of an object's foot below its middle, in pixels of a 128-pixel canvas


# --- kept -------------------------------------------------------------------------------------------------------------


def parser_for(room: Room) -> Parser:
    """The parser of the Arrow room on this canvas: from the cache, or trained now and kept there.

    Raises DataError if the cached file is not the one that was written, or where scenes cannot be drawn.
    """
    versions = f"v{VERSION}.{_judge_arrow_scenes.VERSION}.{room.version}"
    path = cache_folder() / "judge" / f"arrow-parser-{versions}-{room.canvas}.npz"
    made_once(path, lambda: _packed(train(room, SCHOOLING[room.canvas])))
    return _unpacked(path)


def _packed(parser: Parser) -> bytes:
    buffer = io.BytesIO()
    arrays = {name: value.numpy() for name, value in parser.state_dict().items()}
    np.savez(buffer, digest=np.array(parser.digest), **arrays)
    return buffer.getvalue()


def _unpacked(path: Path) -> Parser:
    parser = Parser()
    mend = "delete it, and the judge is trained again"
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as stored:
            expected = str(stored["digest"])
            parser.load_state_dict(
                {k: torch.from_numpy(stored[k]) for k in stored.files if k != "digest"}
            )
    except Exception as error:  # numpy, zipfile and torch each have their own for a damaged file
        raise DataError(f"{path} is not a whole judge ({type(error).__name__}); {mend}") from error
    if parser.digest != expected:
        raise DataError(
            f"{path}: the weights' digest is {parser.digest}, expected {expected}; {mend}"
        )
    return parser.eval()


# --- training ---------------------------------------------------------------------------------------------------------


class Lessons(NamedTuple):
    """Images and what they show. image: (N, 3, S, S) uint8. Of each object (N, MOST, ...), lengths in units of the
    image's side: centre (2), foot (2), heading (2); shape, its place in SHAPES, NO_SHAPE or OVERLOOKED, -2 for no
    object; colour and metal, -1 where there is no telling."""

    image: Tensor
    centre: Tensor
    foot: Tensor
    heading: Tensor
    shape: Tensor
    colour: Tensor
    metal: Tensor


NOTHING = -2


def lessons(room: Room, pictures: list[Picture], junk: list[list[int]]) -> Lessons:
    """What there is to learn from pictures; junk: which places of each show none of SHAPES."""
    n = len(pictures)
    centre, foot, heading = (np.zeros((n, MOST, 2)) for _ in range(3))
    shape = np.full((n, MOST), NOTHING)
    colour, metal = np.full((n, MOST), -1), np.full((n, MOST), -1)
    for i, picture in enumerate(pictures):
        for k, thing in enumerate(picture.things[:MOST]):
            seen = int((picture.mask == k).sum()) * (CANVAS / room.canvas) ** 2
            centre[i, k], foot[i, k], heading[i, k] = _geometry(room, thing)
            if k in junk[i]:
                shape[i, k] = NO_SHAPE
            elif seen >= ENOUGH[thing.shape == "arrow"]:
                shape[i, k] = SHAPES.index(thing.shape)
                colour[i, k] = COLOURS.index(thing.colour)
                metal[i, k] = MATERIALS.index(thing.material)
            elif seen > 0:
                shape[i, k] = OVERLOOKED
    return Lessons(
        torch.from_numpy(np.stack([picture.image for picture in pictures])),
        *(torch.from_numpy(each).float() for each in (centre, foot, heading)),
        *(torch.from_numpy(each).long() for each in (shape, colour, metal)),
    )


ENOUGH = (
    150,
    60,
)  # pixels of a 128-pixel canvas that must be seen of a solid, of an arrow, to know it


def _geometry(room: Room, thing: Thing) -> tuple[NDArray[np.float64], ...]:
    """Centre, foot and heading in the image (2,), in units of its side.

    An object's foot is its axis at half an arrow's height: there the ray along which the arrow points passes.
    """
    x, y, z = thing.position
    yaw = math.radians(thing.yaw)
    ahead = 0.3 * np.array([math.cos(yaw), math.sin(yaw), 0])
    middle = np.array([x, y, z])
    points = np.stack([middle, [x, y, FOOT], middle - ahead, middle + ahead])
    centre, foot, back, front = room.project(points) / room.canvas
    heading = (front - back) / np.linalg.norm(front - back)
    return centre, foot, heading


FOOT = 0.21  # half an arrow's height, in the room's units


def curriculum(room: Room, schooling: Schooling) -> list[Lessons]:
    """Lawful scenes, unlawful ones, and scenes with spoiled objects."""
    examples = room.annotated(schooling.lawful)
    index = np.arange(schooling.lawful)
    images = examples.split("train").image[index]
    # Whatever a lawful scene holds can be seen.
    lawful = [
        Picture(examples.scene("train", int(i)), image, _all_seen(room.canvas))
        for i, image in zip(index, images, strict=True)
    ]
    unlawful = _judge_arrow_scenes.bank(examples, schooling.unlawful)
    random = np.random.default_rng(stream("spoiled scenes", VERSION, room.canvas))
    worse = [
        spoiled(unlawful[i % len(unlawful)], unlawful, random)
        for i in track(range(schooling.spoiled), "spoiling objects for the judge")
    ]
    return [
        lessons(room, lawful, [[]] * len(lawful)),
        lessons(room, unlawful, [[]] * len(unlawful)),
        lessons(room, [picture for picture, _ in worse], [places for _, places in worse]),
    ]


def _all_seen(canvas: int) -> NDArray[np.int8]:
    """A mask in which each of four things has a quarter."""
    return (np.arange(canvas * canvas) * 4 // (canvas * canvas)).reshape(canvas, -1).astype(np.int8)


def train(room: Room, schooling: Schooling) -> Parser:
    """Train a parser; the same scenes give the same weights on the same machine."""
    courses = curriculum(room, schooling)
    seed = stream("arrow judge", VERSION, room.canvas, schooling)
    # metrics are called without gradients, in inference mode
    with seeded(seed), one_thread(), torch.inference_mode(False), torch.enable_grad():
        return _trained(courses, schooling.steps)


def _trained(courses: list[Lessons], steps: int) -> Parser:
    parser = Parser()
    parser.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = copy.deepcopy(parser.state_dict())
    optimiser = torch.optim.AdamW(parser.parameters(), lr=RATE, weight_decay=0.02, fused=True)
    counts = [round(share * BATCH) for share in SHARES]
    counts[0] += BATCH - sum(counts)
    parser.train()
    for step in track(range(steps), "training the judge"):
        for group in optimiser.param_groups:
            warm, done = min(1.0, (step + 1) / 60), step / steps
            group["lr"] = RATE * warm * 0.5 * (1 + math.cos(math.pi * done))
        batch = [_drawn(course, n) for course, n in zip(courses, counts, strict=True)]
        seen = disturbed(Lessons(*(torch.cat(parts) for parts in zip(*batch, strict=True))))
        with torch.autocast("cpu", torch.bfloat16, enabled=_HALF):
            maps = parser(seen.image)
        loss = objective(maps.float(), seen)
        if not bool(torch.isfinite(loss)):
            raise FloatingPointError(f"the judge's loss is not finite at step {step}")
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        # the average of the late weights reads better than the last ones
        for name, now in parser.state_dict().items():
            if now.is_floating_point():
                average[name].lerp_(now, 1 if step < steps // 2 else 0.01)
    parser.load_state_dict(average)
    return parser.eval()


RATE = 2.5e-3
# Half the time where the processor has bfloat16; weights and everything after the last layer stay float32.
_HALF = bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def _drawn(course: Lessons, n: int) -> Lessons:
    index = torch.randint(len(course.image), (n,))
    return Lessons(*(part[index] for part in course))


def objective(maps: Tensor, seen: Lessons) -> Tensor:
    """The training loss of maps (B, 20, h, w) on disturbed lessons."""
    h, w = maps.shape[-2:]
    something, offset, drop, heading, metal, shape, colour = maps.split(PARTS, 1)
    side = torch.tensor([w, h])
    centre = seen.centre * side  # in cells
    present = (seen.shape >= 0) & (seen.centre > 0.005).all(-1) & (seen.centre < 0.995).all(-1)
    # The heat map: a Gaussian hill on every object; nothing is learnt near what can hardly be seen.
    cells = torch.stack(
        torch.meshgrid(torch.arange(w) + 0.5, torch.arange(h) + 0.5, indexing="xy"), -1
    )  # (h, w, 2)
    own = centre.floor() + 0.5  # the middle of each object's cell
    away = ((cells[None, None] - own[:, :, None, None]) ** 2).sum(-1)  # (B, MOST, h, w)
    # in cells: a tenth of an object at any canvas
    hill = torch.exp(-away / (2 * (0.045 * w) ** 2))
    target = (hill * present[:, :, None, None]).amax(1)
    hazy = ((seen.shape == OVERLOOKED)[:, :, None, None] & (hill > 0.1)).any(1)
    logit = something[:, 0]
    p = logit.sigmoid()
    peak = target > 0.999
    gain = F.logsigmoid(logit) * (1 - p) ** 2
    loss_there = -(gain * peak).sum()
    loss_elsewhere = -(F.logsigmoid(-logit) * p**2 * (1 - target) ** 4 * ~(peak | hazy)).sum()
    count = present.sum().clamp(min=1)
    total = (loss_there + loss_elsewhere) / count
    # What is read at an object's own cell and the four beside it
    image, place = present.nonzero(as_tuple=True)
    around = torch.tensor([[0, 0], [1, 0], [-1, 0], [0, 1], [0, -1]])
    at = own[image, place].floor().long()[:, None] + around  # (K, 5, 2)
    at = torch.stack([at[..., 0].clamp(0, w - 1), at[..., 1].clamp(0, h - 1)], -1)
    weight = torch.tensor([1.0, 0.25, 0.25, 0.25, 0.25]) / 2 / count

    def read(part: Tensor) -> Tensor:
        """(B, C, h, w) at those cells: (K, 5, C)."""
        return part[image[:, None], :, at[..., 1], at[..., 0]]

    here = centre[image, place][:, None] - (at + 0.5)
    total = total + (F.smooth_l1_loss(read(offset), here, reduction="none").mean(-1) * weight).sum()
    depth = (seen.foot - seen.centre)[image, place, 1:] * CANVAS / DROP
    known = (seen.shape[image, place] < NO_SHAPE).float()[:, None]
    miss = F.smooth_l1_loss(read(drop)[..., 0], depth.expand(-1, 5), reduction="none")
    total = total + (miss * weight * known).sum()
    arrow = (seen.shape[image, place] == SHAPES.index("arrow")).float()[:, None]
    turn = (read(heading) - seen.heading[image, place][:, None]).abs().mean(-1)
    total = total + 2 * (turn * weight * arrow).sum()

    def wrong(part: Tensor, truth: Tensor) -> Tensor:
        truth = truth[image, place]
        logits = read(part).flatten(0, 1)
        each = F.cross_entropy(
            logits, truth.repeat_interleave(5), ignore_index=-1, reduction="none"
        )
        return (each.view(-1, 5) * weight).sum()

    metal2 = torch.cat([torch.zeros_like(metal), metal], 1)
    total = total + 2 * wrong(shape, seen.shape) + wrong(metal2, seen.metal)
    total = total + 0.3 * wrong(colour, seen.colour)
    return cast(Tensor, total)


# --- disturbed --------------------------------------------------------------------------------------------------------


def disturbed(lessons: Lessons) -> Lessons:
    """The lessons as another camera, another light or a model might show them; images become float (B, 3, S, S)."""
    x = sized(lessons.image.float() / 255)
    b, _, side, _ = x.shape
    # Where from: output coordinates to input coordinates, in [-1, 1].
    zoom = torch.empty(b).uniform_(0.87, 1.15)
    wide, turn = torch.empty(b).uniform_(0.95, 1.05), torch.empty(b).uniform_(-0.07, 0.07)
    flip = torch.randint(2, (b,)) * 2 - 1
    a = torch.stack(
        [
            torch.stack([turn.cos() * zoom * wide * flip, -turn.sin() * zoom], 1),
            torch.stack([turn.sin() * zoom * flip, turn.cos() * zoom / wide], 1),
        ],
        1,
    )  # (B, 2, 2)
    shift = torch.empty(b, 2, 1).uniform_(-0.13, 0.13)
    grid = F.affine_grid(torch.cat([a, shift], 2), list(x.shape), align_corners=False)
    warp = torch.zeros(b, 2, side, side)
    for knots in (9, 17):
        field = torch.randn(b, 2, knots, knots) * torch.empty(b, 1, 1, 1).uniform_(0, 0.017)
        warp += F.interpolate(field, (side, side), mode="bilinear", align_corners=True)
    x = F.grid_sample(x, grid + warp.permute(0, 2, 3, 1), padding_mode="border", align_corners=False)  # fmt: skip
    back = torch.linalg.inv(a)

    def moved(point: Tensor) -> Tensor:
        """(B, MOST, 2) in units of the image's side."""
        return cast(Tensor, ((2 * point - 1 - shift.mT) @ back.mT + 1) / 2)

    turned = F.normalize(lessons.heading @ back.mT, dim=-1)
    return lessons._replace(
        image=_shown(x), centre=moved(lessons.centre), foot=moved(lessons.foot), heading=turned
    )


def _shown(x: Tensor) -> Tensor:
    """Images (B, 3, S, S) in another light, out of focus, reduced and enlarged again, noisy."""
    b, _, side, _ = x.shape

    def each(low: float, high: float, *shape: int) -> Tensor:
        return torch.empty(b, *(shape or (1, 1, 1))).uniform_(low, high)

    grey = x.mean(1, keepdim=True)
    x = grey + (x - grey) * each(0.75, 1.15)
    x = x.clamp(1e-3, 1) ** each(0.75, 1.3)
    x = x * each(0.82, 1.15) * each(0.93, 1.07, 3, 1, 1) + each(-0.04, 0.04)
    ramp = torch.linspace(-1, 1, side)
    x = x * (1 + each(-0.1, 0.1) * ramp + each(-0.1, 0.1) * ramp[:, None])
    # Blur of another width for every image; a third stay sharp.
    sigma = each(0.3, 1.7, 1) * side / CANVAS
    reach = math.ceil(3 * 1.7 * side / CANVAS)
    kernel = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / sigma) ** 2)
    sharp = (torch.arange(-reach, reach + 1) == 0).float()
    kernel = torch.where(torch.rand(b, 1) < 0.35, sharp, kernel / kernel.sum(1, keepdim=True))
    kernel = kernel.repeat_interleave(3, 0)
    flat = F.pad(x.reshape(1, 3 * b, side, side), (reach,) * 4, mode="replicate")
    flat = F.conv2d(flat, kernel[:, None, None], groups=3 * b)
    x = F.conv2d(flat, kernel[:, None, :, None], groups=3 * b).view(b, 3, side, side)
    some = torch.rand(b) < 0.3
    less = int(side * float(torch.empty(()).uniform_(0.55, 0.9)))
    small = F.interpolate(x[some], (less, less), mode="bilinear", antialias=True)
    x[some] = F.interpolate(small, (side, side), mode="bilinear", align_corners=False)
    noise = torch.randn(b, 3, side, side)
    coarse = F.interpolate(torch.randn(b, 3, side // 4, side // 4), (side, side), mode="bilinear")
    x = x + noise * each(-0.03, 0.03).clamp(min=0) + coarse * each(-0.03, 0.03).clamp(min=0)
    return x.clamp(0, 1)
