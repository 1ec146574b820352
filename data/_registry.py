"""The files that datasets are made of: where to fetch them, how large they are and what their SHA-256 is.

`reprise data fetch NAME` and `reprise data verify NAME` are `fetch` and `verify`; a dataset opens a file only
through `checked`, so nobody trains on half a download. Everything lies below `core.workspace.data_root()`.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..core import progress
from ..core.errors import DataError, unknown
from ..core.files import write_text
from ..core.workspace import data_root
from . import _archives


@dataclass(frozen=True)
class File:
    """One file: its path below the data root, its SHA-256, its size in bytes, and its mirrors in the order to try.

    A file without mirrors is never fetched; it is accepted where somebody has put it.
    sha256 "" and size None: nobody publishes them. Such a file is trusted when it is fetched, in one piece and as long
    as the mirror says it is; its SHA-256 is then kept beside it (`<name>.sha256`), and `verify` compares with that.
    part: what of the data set the file holds, where that is not all of it; only who asks for a part reads it.
    """

    path: str
    sha256: str
    size: int | None
    urls: tuple[str, ...] = ()
    part: str = ""


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
# Kuzushiji-MNIST: CC BY-SA 4.0 (ROIS-CODH). Sizes and SHA-256 of all that follows, unless said otherwise: those that
# TensorFlow Datasets records (url_checksums/*.txt).
_KMNIST_MIRRORS = ("http://codh.rois.ac.jp/kmnist/dataset/kmnist/", "https://codh.rois.ac.jp/kmnist/dataset/kmnist/")
_KMNIST_IDX = (
    ("train-images-idx3-ubyte.gz", "51467d22d8cc72929e2a028a0428f2086b092bb31cfb79c69cc0a90ce135fde4", 18_165_135),
    ("train-labels-idx1-ubyte.gz", "e38f9ebcd0f3ebcdec7fc8eabdcdaef93bb0df8ea12bee65224341c8183d8e17", 29_497),
    ("t10k-images-idx3-ubyte.gz", "edd7a857845ad6bb1d0ba43fe7e794d164fe2dce499a1694695a792adfac43c5", 3_041_136),
    ("t10k-labels-idx1-ubyte.gz", "20bb9a0ef54c7db3efc55a92eef5582c109615df22683c380526788f98e42a1c", 5_120),
)
_KMNIST_NPZ = File(
    "kmnist.npz", "c7c190ac486e0ff4fa7ed5e5b36b17f2b3b8b86235252c0f067932c18b5c3cab", 5_263_860,
    part="the first 7,011 training images, and the test images complete",
)
# EMNIST: a work of the US government (NIST Special Database 19).
_EMNIST_ZIP = File(
    "emnist/gzip.zip", "fb9bb67e33772a9cc0b895e4ecf36d2cf35be8b709693c3564cea2a019fcda8e", 561_753_746,
    ("https://biometrics.nist.gov/cs_links/EMNIST/gzip.zip", "https://www.itl.nist.gov/iaui/vip/cs_links/EMNIST/gzip.zip"),
)
_EMNIST_NPZ = File(
    "emnist_letters_test_first10000.npz", "36d384b3911fc2398b094e8622d4ce9952957100f4ec660daf6a78ee2a46ed94", 2_395_425,
    part="the first 10,000 test images of the split letters",
)
# Omniglot: MIT (Brenden Lake).
_OMNIGLOT = "https://github.com/brendenlake/omniglot/raw/master/python/"
_OMNIGLOT_ZIP = (
    ("images_background.zip", "ad41ab679c8b5d90b271ef46be6987cc81211774a695c29dcc5367b2b26ee640", 9_464_212),
    ("images_evaluation.zip", "1f61a8f3366785b057fc117d9228e78a16e3d976c8953b2a10fcc74cf0609cee", 6_462_886),
)
_OMNIGLOT_NPZ = (
    File("omniglot_background.npz", "54dce8e7b482f8a7156e9eec579e070750ce760ab59187a0cedf98c8e4986a55", 3_059_842),
    File("omniglot_evaluation.npz", "5e2f8a143fab99ecb2c5ae6cbefbb4d4bdf463c133bdec99428e71487cad81f7", 2_264_382),
)
# Neither digest nor size of this archive is published; what is in it is checked when it is read (_omniglot.CONTENT).
_RUNS_ZIP = File("omniglot/all_runs.zip", "", None, (_OMNIGLOT + "one-shot-classification/all_runs.zip",))
_RUNS_NPZ = File("omniglot_oneshot.npz", "6ff635500dcf3de0e453eb841cf3feb43e6fbe182e4bb90ff3f91b21c54d5e71", 140_147)
# Quick, Draw!: CC BY 4.0 (Google). The categories are in the order of the list that the paper's loader took.
_QUICKDRAW = "https://storage.googleapis.com/quickdraw_dataset/full/numpy_bitmap/"
_QUICKDRAW_NPY = (
    ("eye", "e804058c35d2707dd17a79c91d9832806c1ca4b90439261baf119ff6c436bee5", 98_696_272),
    ("bicycle", "1211e79d1799e56734e2c2ce55d6af2405ae0a4e329fa46a6496670e90ac79d8", 99_197_248),
    ("tree", "174eb2ffd87834defa8a503509e0dee330a3b10c81537d35f2af3736b94e7279", 113_461_344),
    ("eyeglasses", "f8f36e5921edee13d5bfa3b832cdb53cfa5b085bcd7972a921313d069e4c84a2", 176_997_488),
    ("book", "15ab7904b874251073ce3557e0d3f83c8b9d0e9e1d0320eb41323652a923a0c1", 93_581_456),
    ("airplane", "88c5a8801901e6841ee249115a2a1f8b72e79c0eb7b0fb507044122ad3e78843", 118_872_512),
    ("cell phone", "b03373366222b23061f0b945076dd059e610e39bcac84f082c5a4c6988e55e5d", 94_966_000),
    ("smiley face", "28e6826d38a948e95b0776ef586bcf0258b400bff95301a1c9ebf66441c62ab0", 97_518_704),
    ("apple", "a70df0030c146cfe4aa9a17aa2a320d5f64ac166fdc3d2cfb439b8322fd8bb0d", 113_462_128),
    ("car", "5de0399e09a5419552b77de480cb23b488dbfe3c4d09cee9ca8c2141102272e1", 143_287_056),
)
_QUICKDRAW_NPZ = File(
    "quickdraw28.npz", "1cc3a6ef99c08815ab242cc561fb6fb3cbbf326e483365605f9590994cd722f0", 17_275_604,
    part="seven of the ten categories, 1,000 to 3,999 drawings of each",
)
# fmt: on

QUICKDRAW = tuple(name for name, _, _ in _QUICKDRAW_NPY)

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
    "kmnist": (
        tuple(
            File(f"kmnist/{name}", sha256, size, tuple(mirror + name for mirror in _KMNIST_MIRRORS))
            for name, sha256, size in _KMNIST_IDX
        ),
        (_KMNIST_NPZ,),
    ),
    "emnist": ((_EMNIST_ZIP,), (_EMNIST_NPZ,)),
    "omniglot": (
        tuple(
            File(f"omniglot/{name}", sha256, size, (_OMNIGLOT + name,))
            for name, sha256, size in _OMNIGLOT_ZIP
        ),
        _OMNIGLOT_NPZ,
    ),
    "one_shot": ((_RUNS_ZIP,), (_RUNS_NPZ,)),
    "quickdraw": (
        tuple(
            File(
                f"quickdraw/{name}.npy",
                sha256,
                size,
                (_QUICKDRAW + urllib.parse.quote(name) + ".npy",),
            )
            for name, sha256, size in _QUICKDRAW_NPY
        ),
        (_QUICKDRAW_NPZ,),
    ),
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


def present(name: str, *, part: bool = False) -> tuple[File, ...]:
    """The files of the first layout that is there, whole or not. Raises DataError where none is.

    A layout counts as there when all of its files exist: a fetch that was cut between two files hides no other layout.
    part: a layout that holds only a part of the data set will do.
    """
    partial = ""
    for files in layouts(name):
        if all((data_root() / file.path).is_file() for file in files):
            held = "; ".join(file.part for file in files if file.part)
            if part or not held:
                return files
            partial = f" ({files[0].path} is, but holds only a part: {held})"
    if os.environ.get("REPRISE_DATA") and not data_root().is_dir():
        partial = " (there is no such folder)"
    raise DataError(
        f"{name} is not in {data_root()}{partial}; fetch it with `reprise data fetch {name}`, "
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


def fetchable() -> list[str]:
    """The names of `datasets` that have an address, the smallest first: what `reprise data fetch all` goes through."""
    known = {name: files for name, (files, *_) in FILES.items() if all(file.urls for file in files)}
    return sorted(known, key=lambda name: (sum(file.size or 0 for file in known[name]), name))


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
    expected = _expected(path, file)
    if not path.is_file():
        wanted = f", expected SHA-256 {expected}" if expected else ""
        return Check(path, False, f"missing{wanted}")
    try:
        found, size = sha256(path), path.stat().st_size
    except OSError as error:
        return Check(path, False, f"cannot be read ({error.strerror})")
    if not expected:
        return Check(path, True, f"SHA-256 {found}; none is published, so it is checked when read")
    if found == expected:
        seen = "" if file.sha256 else ", as when it was fetched; none is published"
        held = f" (a part: {file.part})" if file.part else ""
        return Check(path, True, f"SHA-256 {found}{seen}{held}")
    if file.size is None:
        return Check(path, False, f"changed: SHA-256 {found}, when it was fetched {expected}")
    kind = "truncated" if size < file.size else "not the expected file"
    return Check(
        path,
        False,
        f"{kind}: {size} of {file.size} bytes, SHA-256 {found}, expected {expected}",
    )


def _beside(path: Path) -> Path:
    """Where the SHA-256 of a file is kept that was trusted when it was first fetched."""
    return path.with_name(f"{path.name}.sha256")


def _expected(path: Path, file: File) -> str:
    """The SHA-256 that a file must have: the registered one, or the one of the first fetch; "" where there is none."""
    if file.sha256:
        return file.sha256
    with contextlib.suppress(OSError, ValueError):
        return _beside(path).read_text(encoding="ascii").partition(" ")[0]
    return ""


def _fetch_file(name: str, file: File) -> Path:
    import requests
    import urllib3

    path = data_root() / file.path
    if (expected := _expected(path, file)) and path.is_file() and sha256(path) == expected:
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
    wanted = f" (expected SHA-256 {file.sha256})" if file.sha256 else ""
    raise DataError(
        f"no mirror gave {path}{wanted}: {'; '.join(failures)}; "
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

    if not file.sha256:
        part.unlink(missing_ok=True)  # half of one file and half of another could not be told
    have, size = part.stat().st_size if part.exists() else 0, file.size
    if size is None or have < size:
        # Without "identity" a server may label the .gz as an encoding, and it would arrive unpacked.
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
        with requests.get(url, headers=headers, stream=True, timeout=(10, 60)) as response:
            response.raise_for_status()
            resumed = response.headers.get("Content-Range", "").startswith(f"bytes {have}-")
            if not (response.status_code == 206 and resumed):
                have = 0  # the server sends the whole file
            size = _length(response.headers) if size is None else size
            with part.open("ab" if have else "wb") as target:
                for chunk in response.raw.stream(1 << 16, decode_content=False):
                    have += target.write(chunk)
                    progress.report(f"fetch {Path(file.path).name}", have, size)
                    if have > size:
                        break
                target.flush()
                os.fsync(target.fileno())
    if have < size:
        raise _Unusable(f"the connection ended after {have} of {size} bytes")
    found = sha256(part)
    if found != (file.sha256 or found):
        part.unlink()
        raise _Unusable(f"sent another file, SHA-256 {found}")
    if not file.sha256:
        write_text(_beside(path), f"{found}  {path.name}\n")
    os.replace(part, path)


def _length(headers: Mapping[str, str]) -> int:
    """How many bytes a mirror says that it will send."""
    length = headers.get("Content-Length", "")
    if not length.isdigit():
        raise _Unusable("does not say how long the file is, and nobody else does")
    return int(length)
