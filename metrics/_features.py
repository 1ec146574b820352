"""What FID compares images by: features of a classifier of the same data, or of Inception-v3.

"domain"            64 numbers, the last hidden layer of a small classifier that is trained on the classes of the data's
                    own training images, once, and kept in the user's cache; it was fixed before it saw a sample
"inception_softmax" the 1,000 class probabilities of torchvision's Inception-v3, as the DooD authors' script has it
"inception_pool3"   its 2,048 pooled features, as everybody else has it

Inception's weights are not ours to give: the user puts torchvision's file where `inception_weights` looks for it.
"""

from __future__ import annotations

import hashlib
import io
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from ..core.dataset import Dataset
from ..core.errors import DataError, UsageError
from ..core.locks import made_once
from ..core.progress import track
from ..core.randomness import seeded, stream
from ..core.workspace import cache_folder, data_root
from ._drawing import Floats
from ._evaluation import BATCH, as_floats, chunks, some
from ._judge_reader import one_thread

Name = Literal["domain", "inception_softmax", "inception_pool3"]

VERSION = 1  # raise it when the same training images begin to give another domain classifier
WIDTH = 64  # domain features: few enough for the covariance of 1,500 images
MOST_IMAGES = 60_000  # training images that the domain classifier sees
STEPS = 150, 1_500  # fewest and most; one for every eight images
TRAINING_BATCH, RATE = 128, 2e-3

WEIGHTS = "inception_v3_google-0cc3c7bd.pth"
"""torchvision's file, whose SHA-256 begins as its name ends (download.pytorch.org/models)."""
INCEPTION_SIDE = 128


@dataclass(frozen=True)
class Extractor:
    """of: uint8 images (B, C, H, W) -> features (B, D) float64. digest: of the weights."""

    of: Callable[[NDArray[np.uint8]], Floats]
    digest: str

    def __call__(self, images: NDArray[np.uint8], what: str) -> Floats:
        """(N, C, H, W) -> (N, D), batch by batch. what: the name of the work, for its progress."""
        parts = track(chunks(np.arange(len(images)), BATCH), what)
        return np.concatenate([self.of(images[part]) for part in parts])


def extractor(name: Name, data: Dataset, device: torch.device) -> Extractor:
    """The extractor of these features for these data. Raises UsageError or DataError where it cannot be had."""
    return domain(data) if name == "domain" else inception(name == "inception_softmax", device)


# Our own ------------------------------------------------------------------------------------------------------------


class Classifier(nn.Module):
    """Three convolutions and a hidden layer. shape: (C, H, W) of the images."""

    def __init__(self, shape: tuple[int, int, int], classes: int) -> None:
        super().__init__()
        channels, height, width = shape

        def halved(inputs: int, outputs: int, kernel: int) -> list[nn.Module]:
            convolution = nn.Conv2d(inputs, outputs, kernel, 2, kernel // 2, bias=False)
            return [convolution, nn.BatchNorm2d(outputs), nn.ReLU()]

        cells = math.ceil(height / 8) * math.ceil(width / 8)
        self.features = nn.Sequential(
            *halved(channels, 16, 5),
            *halved(16, 32, 3),
            *halved(32, 64, 3),
            nn.Flatten(),
            nn.Linear(64 * cells, WIDTH, bias=False),
            nn.BatchNorm1d(WIDTH, affine=False),  # each feature has variance 1 over training images
        )
        self.read = nn.Linear(WIDTH, classes)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) in [0, 1] -> (B, classes) logits."""
        logits: Tensor = self.read(F.relu(self.features(x)))
        return logits

    @property
    def digest(self) -> str:
        """First 12 hexadecimal digits of the SHA-256 of the weights."""
        sha = hashlib.sha256()
        for name, value in self.state_dict().items():
            sha.update(name.encode() + value.numpy().astype("<f4").tobytes())
        return sha.hexdigest()[:12]


def domain(data: Dataset) -> Extractor:
    """The features of the classifier of these data, trained now or taken from the cache. On the CPU, wherever the model
    is: the classifier is small, and its digest stays the same.
    """
    network = classifier_for(data)

    def features(images: NDArray[np.uint8]) -> Floats:
        with one_thread(), torch.no_grad():
            found: Floats = (
                network.features(as_floats(images, torch.device("cpu"))).double().numpy()
            )
        return found

    return Extractor(features, network.digest)


def classifier_for(data: Dataset) -> Classifier:
    """The classifier of the training images of these data. Raises UsageError where they have no classes."""
    train = data.split("train")
    if train.label is None:
        raise UsageError(
            f"features='domain' are those of a classifier, and {data.info.name} has no classes; "
            "choose features='inception_softmax' or 'inception_pool3'"
        )
    index = some(len(train), MOST_IMAGES)
    # Classes numbered from 0 without gaps: a part of a data set may lack some.
    names, label = np.unique(train.label[index], return_inverse=True)
    image = np.ascontiguousarray(train.image[index])
    sha = hashlib.sha256(f"{image.shape} {len(names)}".encode())
    sha.update(image.tobytes() + label.astype("<i8").tobytes())
    digest = sha.hexdigest()[:12]
    path = cache_folder() / "fid" / f"domain-v{VERSION}-{digest}.npz"
    shape = data.info.shape
    made_once(path, lambda: packed(trained(shape, len(names), image, label.reshape(-1), digest)))
    return unpacked(path, Classifier(shape, len(names)))


def trained(
    shape: tuple[int, int, int],
    classes: int,
    image: NDArray[np.uint8],
    label: NDArray[np.int64],
    digest: str,
) -> Classifier:
    """A classifier of these images; the same ones give the same weights on the same machine."""
    steps = min(max(len(image) // 8, STEPS[0]), STEPS[1])
    # metrics are called without gradients, in inference mode
    with (
        seeded(stream("fid features", VERSION, digest)),
        one_thread(),
        torch.inference_mode(False),
        torch.enable_grad(),
    ):
        network = Classifier(shape, classes)
        optimizer = torch.optim.Adam(network.parameters(), lr=RATE)
        for step in track(range(steps), "training the features of FID"):
            optimizer.param_groups[0]["lr"] = RATE * 0.5 * (1 + math.cos(math.pi * step / steps))
            index = torch.randint(len(image), (TRAINING_BATCH,)).numpy()
            x = as_floats(image[index], torch.device("cpu"))
            loss = F.cross_entropy(network(x), torch.from_numpy(label[index]))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return network.eval()


def packed(network: Classifier) -> bytes:
    """The weights and their digest, as an .npz."""
    buffer = io.BytesIO()
    arrays: dict[str, Any] = {name: value.numpy() for name, value in network.state_dict().items()}
    np.savez(buffer, allow_pickle=False, digest=np.array(network.digest), **arrays)
    return buffer.getvalue()


def unpacked(path: Path, network: Classifier) -> Classifier:
    """`network` with the weights of a file. Raises DataError if they are not those that were written."""
    mend = "delete it, and the features are learnt again"
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as stored:
            expected = str(stored["digest"])
            weights = {k: torch.from_numpy(stored[k]) for k in stored.files if k != "digest"}
        network.load_state_dict(weights)
    except Exception as error:  # numpy, zipfile and torch each have their own for a damaged file
        raise DataError(
            f"{path} is no whole classifier ({type(error).__name__}); {mend}"
        ) from error
    if network.digest != expected:
        raise DataError(
            f"{path}: the weights' digest is {network.digest}, expected {expected}; {mend}"
        )
    return network.eval()


# Inception-v3 -------------------------------------------------------------------------------------------------------


def inception(softmax: bool, device: torch.device) -> Extractor:
    """Class probabilities (B, 1000) or pooled features (B, 2048) of Inception-v3 at 128 x 128.

    Gray images are repeated in three channels and go in as they are, in [0, 1]: the model's own `transform_input` turns
    ImageNet's statistics into Inception's. Raises UsageError without torchvision, DataError without the weights.
    """
    path = inception_weights()
    try:
        from torchvision.models import inception_v3
    except (
        ImportError,
        RuntimeError,
    ) as error:  # RuntimeError: built for another torch, as are its wheels for CUDA
        raise UsageError(
            f"Inception-v3 is torchvision's, which cannot be imported ({error}); install the one for torch "
            f"{torch.__version__} (`pip install 'reprise[fid]'`), or choose features='domain'"
        ) from error
    network = inception_v3(weights=None, transform_input=True, init_weights=False)
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    if not softmax:
        network.fc = nn.Identity()
    network = network.to(device).eval()

    def features(images: NDArray[np.uint8]) -> Floats:
        x = as_floats(images, device)
        x = x.expand(-1, 3, -1, -1) if x.shape[1] == 1 else x
        side = (INCEPTION_SIDE, INCEPTION_SIDE)
        with torch.no_grad():
            y = network(F.interpolate(x, side, mode="bilinear", align_corners=False))
            y = y.softmax(1) if softmax else y
        found: Floats = y.double().cpu().numpy()
        return found

    return Extractor(features, WEIGHTS.rpartition("-")[2].removesuffix(".pth"))


def inception_weights() -> Path:
    """Torchvision's weights below the data root, or where torchvision itself keeps them. Raises DataError otherwise."""
    places = [data_root() / WEIGHTS, Path(torch.hub.get_dir()) / "checkpoints" / WEIGHTS]
    for path in places:
        if path.is_file():
            break
    else:
        raise DataError(
            f"Inception-v3's weights are not there: put torchvision's {WEIGHTS} "
            f"(https://download.pytorch.org/models/{WEIGHTS}, 104 MB) at {places[0]} or {places[1]}, "
            "or choose features='domain', which needs no file"
        )
    with path.open("rb") as content:
        found = hashlib.file_digest(content, "sha256").hexdigest()
    prefix = WEIGHTS.rpartition("-")[2].removesuffix(".pth")
    if not found.startswith(prefix):
        raise DataError(
            f"{path} has the SHA-256 {found}; that of {WEIGHTS} begins with {prefix}: fetch it again"
        )
    return path
