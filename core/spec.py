"""Spec: a name and options; and how a name becomes a class.

`model("gnm", beta=2.0)`, `dataset("scenes", rule="mnist4")` and `metric("log_marginal", particles=100)` say
*what* without importing it, so that protocols are listed without torch. The name of a thing is the name
of its file (or of a folder, once one file is too long); a visitor's class is named `package.module:Class`, or
registered under the entry point groups `reprise.models`, `reprise.data` and `reprise.metrics`.
"""

from __future__ import annotations

import ast
import dataclasses
import hashlib
import importlib
import importlib.metadata
import importlib.util
import json
import math
import re
import typing
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType, NoneType, UnionType
from typing import Any, Literal, TypeAlias

from .errors import BrokenCodeError, ContractError, UsageError, told, unknown

Value: TypeAlias = str | int | float | bool | None
Kind = Literal["model", "dataset", "metric"]

FOLDERS: dict[Kind, tuple[str, ...]] = {
    "model": ("models", "baselines"),
    "dataset": ("data",),
    "metric": ("metrics",),
}
SHARES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
"""The shares of every training after which weights are kept, so that any metric can be measured along the way."""
_ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Spec:
    """A name and the options that differ from its defaults.

    trained: of a model, the share of its training that is behind it when it is measured; see `trained_for`.
    """

    kind: Kind
    name: str
    options: tuple[tuple[str, Value], ...] = ()
    trained: float = 1.0

    def with_options(self, **options: Value) -> Spec:
        """The same thing with `options` added; they win over those already there."""
        together = {**dict(self.options), **options}
        return dataclasses.replace(self, options=tuple(sorted(together.items())))

    def trained_for(self, share: float) -> Spec:
        """This model with the weights that it had after a share of its training, one of SHARES or 1."""
        if share not in (*SHARES, 1.0):
            raise UsageError(
                f"no weights are kept after {share:g} of a training; "
                f"they are after {', '.join(f'{s:g}' for s in SHARES)} and at its end"
            )
        return dataclasses.replace(self, trained=share)

    def __str__(self) -> str:
        """`gnm(beta=2.0)`, as it is written in a protocol."""
        options = ", ".join(f"{key}={value!r}" for key, value in self.options)
        named = f"{self.name}({options})" if options else self.name
        return named if self.trained == 1 else f"{named} after {self.trained:.0%} of its training"


def model(name: str, **options: Value) -> Spec:
    """A model and the options of its config that differ from its recipe."""
    return Spec("model", name).with_options(**options)


def dataset(name: str, **options: Value) -> Spec:
    """A dataset and its options."""
    return Spec("dataset", name).with_options(**options)


def metric(name: str, **options: Value) -> Spec:
    """A metric and its options."""
    return Spec("metric", name).with_options(**options)


def identifier(identity: Any, digits: int) -> str:
    """The hash by which runs and cells are named: hexadecimal digits of what makes one differ from another."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:digits]


def readable(model: Spec) -> str:
    """What the ids of a model's runs begin with."""
    return "".join(c if c.isalnum() else "_" for c in model.name.rpartition(":")[2]).lower()


LONGEST = 4_000  # characters of a spec that is read back


def read(kind: Kind, text: str) -> Spec:
    """The spec that `str` wrote, its options in its order. Raises ValueError for any other text."""
    form = r"([^\s()]+)(?:\((.*)\))?(?: after (\d+)% of its training)?"
    match = re.fullmatch(form, text, re.DOTALL) if len(text) <= LONGEST else None
    options: dict[str, Value] = {}
    try:
        if match is None:
            raise ValueError
        call = ast.parse(f"dict({match[2] or ''})", mode="eval").body
        if not isinstance(call, ast.Call) or call.args:
            raise ValueError
        for word in call.keywords:
            value = _constant(word.value)
            if word.arg is None or not isinstance(value, str | int | float | NoneType):
                raise ValueError
            options[word.arg] = value
        share = int(match[3]) / 100 if match[3] else 1.0
        found = Spec(kind, match[1], tuple(options.items()), share)
        if str(found) != text:
            raise ValueError
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        raise ValueError(f"{text[:80]!r} names no {kind} and its options") from None
    return found


def _constant(node: ast.expr) -> Any:
    """What a literal says; `inf` and `nan` are none, but are written so."""
    try:
        return ast.literal_eval(node)
    except ValueError:
        return float(ast.unparse(node))


@cache  # a plan asks thousands of times; what is installed meanwhile is seen by the next process
def names(kind: Kind) -> MappingProxyType[str, str]:
    """All names of a kind that exist, mapped to where they are: `module` or `module:Class`."""
    found = {}
    for folder in FOLDERS[kind]:
        files = {file.stem: file for file in (_ROOT / folder).glob("[!_]*.py")}
        files |= {file.parent.name: file for file in (_ROOT / folder).glob("[!_]*/__init__.py")}
        for name, file in sorted(files.items()):
            if "__all__ = [" in file.read_text():
                found[name] = f"{__package__.rpartition('.')[0]}.{folder}.{name}"
    group = {"model": "reprise.models", "dataset": "reprise.data", "metric": "reprise.metrics"}
    installed = importlib.metadata.entry_points(group=group[kind])
    return MappingProxyType(found | {entry.name: entry.value for entry in installed})


def exists(spec: Spec) -> bool:
    """Whether the class can be looked up; nothing is imported."""
    return ":" in spec.name or spec.name in names(spec.kind)


def load(spec: Spec) -> type[Any]:
    """The class that a spec names.

    Raises UsageError for a name that does not exist, BrokenCodeError for a module that raises when it is imported, and
    ContractError for one that exports no class.
    """
    known = names(spec.kind)
    if ":" in spec.name or ("." in spec.name and spec.name not in known):
        where = spec.name
        if (
            not all(part.isidentifier() for part in re.split("[.:]", where))
            or where.count(":") != 1
        ):
            raise UsageError(
                f"{spec.kind} {where!r} cannot be read; expected MODULE:CLASS such as my_lab.slate:SLATE"
            )
    else:
        if spec.name not in known:
            raise unknown(spec.kind, spec.name, known)
        where = known[spec.name]
    module_name, _, attribute = where.partition(":")
    try:
        module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:
        absent = error.name if isinstance(error, ModuleNotFoundError) else None
        if absent and f"{module_name}.".startswith(f"{absent}."):
            raise UsageError(
                f"cannot import {module_name!r} for {spec.kind} {spec.name!r}; "
                "is it installed, or its folder on PYTHONPATH?"
            ) from error
        raise BrokenCodeError(
            f"{module_name} cannot be imported for {spec.kind} {spec.name!r}: {told(error)}"
        ) from error
    if not attribute:
        exported = list(getattr(module, "__all__", []))
        if len(exported) != 1:
            raise ContractError(
                f"{module_name} must export one class in __all__; it exports {exported}"
            )
        attribute = exported[0]
    if not hasattr(module, attribute):
        raise UsageError(f"{module_name} has no {attribute!r}; expected a class of that name")
    found = getattr(module, attribute)
    if not isinstance(found, type):
        raise ContractError(f"{where} is {type(found).__name__}; expected a class")
    return found


def build(spec: Spec, **fixed: Any) -> Any:
    """Make the dataset or metric that a spec names; options are checked against its fields."""
    cls = load(spec)
    return cls(**checked(cls, dict(spec.options), f"{spec.kind}"), **fixed)


@cache
def _hints(cls: type[Any]) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def checked(cls: type[Any], options: dict[str, Value], prefix: str) -> dict[str, Any]:
    """`options` with every key a field of the dataclass `cls` and every value of that field's type.

    Text is converted (`"3e-4"` for a float field), so values may come from the command line.
    Raises UsageError naming `prefix.key`, what was found and what was expected.
    """
    hints = _hints(cls)  # type: ignore[arg-type]  # classes are hashable
    fields = [field.name for field in dataclasses.fields(cls) if field.init]
    result: dict[str, Any] = {}
    for key, value in options.items():
        if key not in fields:
            raise unknown("option", f"{prefix}.{key}", [f"{prefix}.{name}" for name in fields])
        result[key] = convert(value, hints[key], f"{prefix}.{key}")
    return result


def convert(value: Value, hint: Any, name: str) -> Value:
    """`value` as the type `hint`; raises UsageError if that cannot be done without loss."""
    origin = typing.get_origin(hint)
    if origin is Literal:
        choices = typing.get_args(hint)
        for choice in choices:
            if value == choice or (isinstance(value, str) and value == str(choice)):
                return typing.cast(Value, choice)
        raise UsageError(
            f"{name}={value!r} is not one of {', '.join(repr(choice) for choice in choices)}"
        )
    if origin in (typing.Union, UnionType):
        if value is None or (value == "none" and NoneType in typing.get_args(hint)):
            return None
        (inner,) = [part for part in typing.get_args(hint) if part is not NoneType]
        return convert(value, inner, name)
    try:
        if hint is bool:
            if isinstance(value, bool):
                return value
            return {"true": True, "false": False}[str(value).lower()]
        if hint is int and not isinstance(value, bool):
            number = float(value) if isinstance(value, str) else value
            if isinstance(number, int) or (isinstance(number, float) and number.is_integer()):
                return int(number)
        if hint is float and not isinstance(value, bool) and value is not None:
            if not math.isfinite(
                float(value)
            ):  # no number of a run's settings, which are kept as JSON
                raise UsageError(f"{name}={value!r} is not finite; expected a number")
            return float(value)
        if hint is str and isinstance(value, str):
            return value
    except (ValueError, KeyError):
        pass
    expected = getattr(hint, "__name__", str(hint))
    raise UsageError(f"{name}={value!r} has the wrong type; expected {expected}")
