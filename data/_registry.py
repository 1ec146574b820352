"""The files that datasets are made of: where to fetch them, how large they are and what their SHA-256 is.

`reprise data fetch NAME` and `reprise data verify NAME` are `fetch` and `verify`; a dataset opens a file only
through `checked`, so nobody trains on half a download. Everything lies below `core.workspace.data_root()`.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from ..core import progress
from ..core.errors import DataError, unknown
from ..core.workspace import data_root
from . import _archives


@dataclass(frozen=True)
class File:
    """One file: its path below the data root, its SHA-256, its size in bytes, and its mirrors in the order to try.

    A file without mirrors is never fetched; it is accepted where somebody has put it.
    """

    path: str
    sha256: str
    size: int
    urls: tuple[str, ...] = ()


_MNIST_MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
# fmt: off
_MNIST_IDX = (
    ("train-images-idx3-ubyte.gz", "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609", 9_912_422),
    ("train-labels-idx1-ubyte.gz", "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c", 28_881),
    ("t10k-images-idx3-ubyte.gz", "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6", 1_648_877),
    ("t10k-labels-idx1-ubyte.gz", "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6", 4_542),
)
_MNIST_NPZ = File("mnist.npz", "39b9b1ffaa0ba4d8995a616551f0966941fe02a3fe79ba4a9db7373db16d53ad", 11_490_559)
# Stroke medians of Make Me a Hanzi, Arphic Public License (in the package: ARPHICPL.TXT).
_HANZI_TGZ = File(
    "hanzi/hanzi-writer-data-2.0.1.tgz", "72baf3d82b114e60d6e40ea05f24d2262a05cd39d544e2f322ba2fceb7beff15", 13_484_680,
    ("https://registry.npmjs.org/hanzi-writer-data/-/hanzi-writer-data-2.0.1.tgz",),
)
_HANZI_NPZ = File(
    "hanzi_makemeahanzi.npz", "0a4dc70a63c3c1085a05ef2732f600c613b5d2f98c247a248b4b37e058256d3c", 10_026_435
)
# fmt: on

# Each dataset has one or more layouts, each complete in itself; the first is the one that is fetched.
FILES: dict[str, tuple[tuple[File, ...], ...]] = {
    "mnist": (
        tuple(
            File(f"mnist/{name}", sha256, size, tuple(mirror + name for mirror in _MNIST_MIRRORS))
            for name, sha256, size in _MNIST_IDX
        ),
        (_MNIST_NPZ,),
    ),
    "hanzi": ((_HANZI_TGZ,), (_HANZI_NPZ,)),
}

# Archives that a user may have, unpacked by `reprise data unpack NAME FILE`: the folder, and its bytes at most.
ARCHIVES = {"arrow_room": ("point-out-the-wrong-guy-split", 64 * 10**9)}

# What has no address, and what a user who has it does.
BY_HAND = {
    "casia": "CASIA-HWDB1.1 needs a licence of the Institute of Automation of the Chinese Academy of Sciences and "
    "cannot be fetched; put its .gnt files below casia/HWDB1.1 in {root} (or let REPRISE_DATA name the folder that "
    "holds casia), or use the composed characters, dataset hanzi (`reprise data fetch hanzi`)",
}


@dataclass(frozen=True)
class Check:
    """What `verify` found of one file; `str(check)` is a line to print."""

    path: Path
    ok: bool
    finding: str

    def __str__(self) -> str:
        return f"{'ok     ' if self.ok else 'WRONG  '} {self.path}: {self.finding}"


def datasets() -> list[str]:
    """The names that `fetch` and `verify` know."""
    return sorted(FILES)


def layouts(name: str) -> tuple[tuple[File, ...], ...]:
    """The layouts of one dataset. Raises UsageError for a name that does not exist, DataError for what is by hand."""
    if name in BY_HAND:
        raise by_hand(name)
    if name not in FILES:
        raise unknown("data", name, FILES)
    return FILES[name]


def by_hand(name: str) -> DataError:
    """The error that says how to come by files that cannot be fetched."""
    return DataError(BY_HAND[name].format(root=data_root()))


def present(name: str) -> tuple[File, ...]:
    """The files of the first layout that is there, whole or not. Raises DataError where none is.

    A layout counts as there when all of its files exist: a fetch that was cut between two files hides no other layout.
    """
    for files in layouts(name):
        if all((data_root() / file.path).is_file() for file in files):
            return files
    raise DataError(
        f"{name} is not in {data_root()}; fetch it with `reprise data fetch {name}`, "
        "or let REPRISE_DATA name the folder that holds it"
    )


def checked(name: str, file: File) -> Path:
    """The path of a file whose digest is right; DataError names the file, both digests and the mending command."""
    path = data_root() / file.path
    check = _check(path, file)
    if not check.ok:
        raise DataError(f"{path}: {check.finding}; mend it with `reprise data fetch {name}`")
    return path


def verify(name: str) -> list[Check]:
    """Check every file of `name` that exists; where there is none, say which are missing."""
    checks = []
    for files in layouts(name):
        paths = {file: data_root() / file.path for file in files}
        if any(path.exists() for path in paths.values()):
            checks += [_check(path, file) for file, path in progress.track(paths.items(), name)]
    if not checks:
        checks = [_check(data_root() / file.path, file) for file in layouts(name)[0]]
    return checks


def fetch(name: str) -> list[Path]:
    """Fetch what is missing or wrong of the first layout of `name`, and return its paths.

    What is there with the right digest is not fetched again; a download that was cut goes on where it stopped;
    a mirror that fails gives way to the next. A file takes its name only once its digest is right.
    Raises DataError when no mirror gave a file.
    """
    return [_fetch_file(name, file) for file in layouts(name)[0]]


def unpack(name: str, archive: Path) -> Path:
    """Unpack an archive that cannot be fetched to where its dataset looks for it; the folder.

    Raises UsageError for a name that has none, DataError where a folder is there already or the archive is refused.
    """
    if name not in ARCHIVES:
        raise unknown("archive", name, ARCHIVES)
    called, size = ARCHIVES[name]
    folder = data_root() / called
    if folder.exists():
        raise DataError(f"{folder} is there already; remove it to unpack it again")
    if not archive.is_file():
        raise DataError(f"{archive} is no file; expected the archive of {name}")
    _archives.unpack(archive, folder, size)
    return folder


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _check(path: Path, file: File) -> Check:
    if not path.is_file():
        return Check(path, False, f"missing, expected SHA-256 {file.sha256}")
    try:
        found, size = sha256(path), path.stat().st_size
    except OSError as error:
        return Check(path, False, f"cannot be read ({error.strerror})")
    if found == file.sha256:
        return Check(path, True, f"SHA-256 {found}")
    kind = "truncated" if size < file.size else "not the expected file"
    return Check(
        path,
        False,
        f"{kind}: {size} of {file.size} bytes, SHA-256 {found}, expected {file.sha256}",
    )


def _fetch_file(name: str, file: File) -> Path:
    import requests
    import urllib3

    path = data_root() / file.path
    if path.is_file() and sha256(path) == file.sha256:
        return path
    part = path.with_name(f".{path.name}.part")
    failures: list[str] = []
    for url in file.urls:
        # A second try where it can differ: after a cut (it goes on from there), and after a part that an
        # earlier call left behind turned out to be another file's (it begins again).
        for _ in range(2):
            resumable = part.exists()
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                _download(url, path, file, part)
                return path
            except (requests.RequestException, urllib3.exceptions.HTTPError, _Unusable) as error:
                failures.append(f"{url}: {_reason(error)}")
            except OSError as error:
                raise DataError(
                    f"cannot write {path}: {error.strerror}; let REPRISE_DATA name a folder that can be written"
                ) from error
            if not resumable and not part.exists():
                break
    raise DataError(
        f"no mirror gave {path} (expected SHA-256 {file.sha256}): {'; '.join(failures)}; "
        f"call `reprise data fetch {name}` again, it goes on where it stopped"
    )


class _Unusable(Exception):
    """A mirror answered, but not with the file."""


def _reason(error: Exception) -> str:
    text = str(error)
    return text if len(text) <= 160 else f"{type(error).__name__}, {text[:160]}…"


def _download(url: str, path: Path, file: File, part: Path) -> None:
    """Append to `part` what is missing of `file`, check it, and give it the name `path`."""
    import requests

    have = part.stat().st_size if part.exists() else 0
    if have < file.size:
        # Without "identity" a server may label the .gz as an encoding, and it would arrive unpacked.
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
        with requests.get(url, headers=headers, stream=True, timeout=(10, 60)) as response:
            response.raise_for_status()
            resumed = response.headers.get("Content-Range", "").startswith(f"bytes {have}-")
            if not (response.status_code == 206 and resumed):
                have = 0  # the server sends the whole file
            with part.open("ab" if have else "wb") as target:
                for chunk in response.raw.stream(1 << 16, decode_content=False):
                    have += target.write(chunk)
                    progress.report(f"fetch {Path(file.path).name}", have, file.size)
                    if have > file.size:
                        break
                target.flush()
                os.fsync(target.fileno())
    if have < file.size:
        raise _Unusable(f"the connection ended after {have} of {file.size} bytes")
    found = sha256(part)
    if found != file.sha256:
        part.unlink()
        raise _Unusable(f"sent another file, SHA-256 {found}")
    os.replace(part, path)
