"""What a class that is installed here says of itself, read from its source: nothing is imported, so no torch is needed.

Metrics and models import torch; who verifies a bundle may have none. What they declare is plain: a version, options
with defaults, what a tier changes, a line that makes the dialect. Whatever is less plain than that is not known here.
"""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import importlib.util
import operator
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from . import spec
from .spec import Kind

__all__ = ["UNKNOWN", "Declared", "declared"]

UNKNOWN = object()
"""The value of what is there and cannot be read."""
SILENT = {"abc", "typing", "torch"}  # modules whose classes declare nothing
_OPERATIONS: Mapping[type[ast.AST], Callable[..., Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.BitOr: operator.or_, ast.USub: operator.neg, ast.Not: operator.not_,
    ast.Eq: operator.eq, ast.NotEq: operator.ne, ast.Is: operator.is_, ast.IsNot: operator.is_not,
}  # fmt: skip


class Unreadable(Exception):
    """A source says it in a way that is not read here."""


UNREADABLE: tuple[type[Exception], ...] = (
    Unreadable, OSError, SyntaxError, LookupError, TypeError, ValueError, ArithmeticError, RecursionError,
)  # fmt: skip


@dataclass(frozen=True)
class Declared:
    """attributes: name -> value, of the class and what it derives from. options: the fields of a dataclass and their
    defaults, dataclasses.MISSING where there is none. evaluation: those of a config that change no weights, or of the
    configs that a model's recipe makes.
    """

    attributes: Mapping[str, Any]
    options: Mapping[str, Any]
    evaluation: Mapping[str, Any]
    _properties: Mapping[str, tuple[_Module, ast.FunctionDef]]

    def dialect(self, options: Mapping[str, Any]) -> str | None:
        """What a metric with these options says of itself before it runs; None where that cannot be read."""
        found = self._says("dialect", options)
        return None if found is None else str(found)

    def needs_training(self, options: Mapping[str, Any]) -> bool | None:
        """Whether a metric with these options does; None where that cannot be read."""
        found = self._says("needs_training", options)
        return None if found is None else bool(found)

    def _says(self, name: str, options: Mapping[str, Any]) -> object | None:
        """What a property comes to; None where that cannot be read."""
        if name not in self._properties:
            return None
        module, function = self._properties[name]
        given = {
            # as the class converts them
            key: float(value) if type(self.options.get(key)) is float else value
            for key, value in options.items()
        }
        names: dict[str, Any] = {"self": {**self.attributes, **self.options, **given}}
        try:
            for line in function.body:
                match line:
                    case ast.Expr(value=ast.Constant()):
                        pass
                    case ast.Assign(targets=[ast.Name(id=name)], value=value):
                        names[name] = _value(value, module, names)
                    case ast.Return(value=ast.expr() as value):
                        found: object = _value(value, module, names)
                        return found
                    case _:
                        raise Unreadable
        except UNREADABLE:
            pass
        return None


@cache
def declared(kind: Kind, name: str) -> Declared | None:
    """What the class that a spec names declares; None where it is not installed or cannot be read."""
    where = name if ":" in name else spec.names(kind).get(name, "")
    module_name, _, attribute = where.partition(":")
    try:
        module = _module(module_name)
        if not attribute:
            (attribute,) = _value(module.names["__all__"], module, {})
        return _declared(module, attribute)
    except UNREADABLE:
        return None


@dataclass(frozen=True)
class _Module:
    """A source file. names: what stands at its margin; imported: name -> (module, name there)."""

    names: Mapping[str, ast.AST]
    imported: Mapping[str, tuple[str, str]]


@cache
def _module(name: str) -> _Module:
    top, *rest = name.split(".")
    if not all(part.isidentifier() for part in (top, *rest)):
        raise Unreadable
    try:
        found = importlib.util.find_spec(top)  # a top level is found without being imported
    except ValueError:  # it is in sys.modules, and came from nowhere
        found = None
    # Of a folder without an __init__.py only the place is known.
    places = (found.submodule_search_locations or ()) if found else ()
    origin = (
        found.origin if found and found.origin else next((f"{p}/__init__.py" for p in places), "")
    )
    if not origin:
        raise Unreadable
    base = Path(origin).parent.joinpath(*rest)
    paths = (base / "__init__.py", base.with_name(f"{base.name}.py")) if rest else (Path(origin),)
    path = next((path for path in paths if path.is_file()), None)
    if path is None or path.suffix != ".py":
        raise Unreadable
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    names: dict[str, ast.AST] = {}
    imported: dict[str, tuple[str, str]] = {}
    for line in ast.parse(path.read_text(encoding="utf-8")).body:
        match line:
            case ast.ClassDef(name=own):
                names[own] = line
            case ast.Assign(targets=[ast.Name(id=own)], value=value):
                names[own] = value
            case ast.AnnAssign(target=ast.Name(id=own), value=ast.expr() as value):
                names[own] = value
            case ast.ImportFrom():
                relative = "." * line.level + (line.module or "")
                source = importlib.util.resolve_name(relative, package) if line.level else relative
                for alias in line.names:
                    imported[alias.asname or alias.name] = (source, alias.name)
    return _Module(names, imported)


def _found(module: _Module, name: str) -> tuple[_Module, ast.AST]:
    """What a name at the margin of a module stands for, and in which module."""
    if name in module.imported:
        source, original = module.imported[name]
        return _found(_module(source), original)
    if name not in module.names:
        raise Unreadable
    return module, module.names[name]


def _declared(module: _Module, name: str) -> Declared:
    where, node = _found(module, name)
    if not isinstance(node, ast.ClassDef):
        raise Unreadable
    attributes: dict[str, Any] = {}
    options: dict[str, Any] = {}
    evaluation: dict[str, Any] = {}
    properties: dict[str, tuple[_Module, ast.FunctionDef]] = {}
    for base in [_declared(where, name) for name in _bases(where, node)][::-1]:
        attributes |= base.attributes
        options |= base.options
        evaluation |= base.evaluation
        properties |= base._properties
    for line in node.body:
        match line:
            case ast.Assign(targets=[ast.Name(id=own)], value=value):
                attributes[own] = _known(value, where)
            case ast.AnnAssign(target=ast.Name(id=own), annotation=kind, value=default):
                if "ClassVar" in ast.unparse(kind):
                    if default is not None:
                        attributes[own] = _known(default, where)
                else:
                    options[own] = _known(default, where) if default else dataclasses.MISSING
                    if default and ast.unparse(default).startswith("evaluation_option("):
                        evaluation[own] = options[own]
            case ast.FunctionDef(name="dialect" | "needs_training" as own):
                properties[own] = where, line
            case ast.FunctionDef(name="recipe"):
                evaluation = _of_configs(where, line)
    return Declared(attributes, options, evaluation, properties)


def _of_configs(module: _Module, recipe: ast.FunctionDef) -> dict[str, Any]:
    """The evaluation options of every config that a recipe makes; UNKNOWN where it gives one a value of its own."""
    found: dict[str, Any] = {}
    for call in ast.walk(recipe):
        match call:
            case ast.Call(func=ast.Name(id=name), keywords=given):
                with contextlib.suppress(*UNREADABLE):
                    for key, default in _declared(module, name).evaluation.items():
                        same = found.get(key, default) == default
                        own = key in {one.arg for one in given}
                        found[key] = default if same and not own else UNKNOWN
    return found


def _bases(module: _Module, node: ast.ClassDef) -> Iterator[str]:
    for base in node.bases:
        match base.value if isinstance(base, ast.Subscript) else base:
            case ast.Name(id=name):
                if module.imported.get(name, ("",))[0].partition(".")[0] not in SILENT:
                    yield name
            case ast.Attribute(value=ast.Name(id="abc" | "nn")):
                pass
            case _:
                raise Unreadable


def _known(node: ast.expr, module: _Module) -> Any:
    try:
        return _value(node, module, {})
    except Unreadable:
        return UNKNOWN


def _value(node: ast.AST, module: _Module, names: Mapping[str, Any]) -> Any:
    """What an expression of constants, names of constants and fields of `self` comes to."""

    def of(part: ast.AST) -> Any:
        return _value(part, module, names)

    match node:
        case ast.Constant(value=value):
            return value
        case ast.Name(id=name):
            return names[name] if name in names else _constant(module, name)
        case ast.Attribute(value=ast.Name(id="self"), attr=name):
            value = names.get("self", {}).get(name, UNKNOWN)
            if value is not UNKNOWN and value is not dataclasses.MISSING:
                return value
        case ast.Call(func=ast.Name(id="evaluation_option"), args=[default, *_]):
            return of(default)
        case ast.JoinedStr(values=parts):
            return "".join(of(part) for part in parts)
        case ast.FormattedValue(value=part, conversion=-1, format_spec=how):
            return format(of(part), of(how) if how else "")
        case ast.Tuple(elts=parts) | ast.List(elts=parts):
            return tuple(of(part) for part in parts)
        case ast.Dict(keys=keys, values=values):
            pairs = [({of(k): of(v)} if k else of(v)) for k, v in zip(keys, values, strict=True)]
            return {k: v for pair in pairs for k, v in pair.items()}
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATIONS:
            return _OPERATIONS[type(op)](of(left), of(right))
        case ast.UnaryOp(op=op, operand=part) if type(op) in _OPERATIONS:
            return _OPERATIONS[type(op)](of(part))
        case ast.Compare(left=left, ops=[op], comparators=[right]) if type(op) in _OPERATIONS:
            return _OPERATIONS[type(op)](of(left), of(right))
        case ast.IfExp(test=test, body=body, orelse=other):
            return of(body) if of(test) else of(other)
    raise Unreadable


def _constant(module: _Module, name: str) -> Any:
    where, node = _found(module, name)
    return _value(node, where, {})
