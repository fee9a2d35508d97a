"""What an expression is worth before anything runs: constants, paths joined, f-strings, defaults.

A part that only the run knows becomes ``*`` within a text; an expression of which nothing is
known is ``UNKNOWN``. Folding executes nothing, and ends at a depth.
"""

import ast
import posixpath
import re
from collections.abc import Callable, Mapping
from typing import Final

from tesra.doctor.report import Scalar
from tesra.doctor.source import Source

HOLE: Final = "*"


class Unknown:
    """Not known before the run."""


UNKNOWN: Final = Unknown()
Value = Scalar | Unknown
Lookup = Callable[[str], Value]

_DEPTH_LIMIT = 25
_NUMBER_LIMIT = 10**15
_TEXT_LIMIT = 4096
_PERCENT = re.compile(r"%(?:\([^)]*\))?[-+ #0-9.]*[sdifeEgGxr]")
_BRACES = re.compile(r"\{[^{}]*\}")
_ARGUMENTS = frozenset({"args", "opt", "opts", "options", "arguments", "flags", "FLAGS", "hparams"})
_SAME = frozenset(
    {
        "str", "os.fspath", "os.path.abspath", "os.path.realpath", "os.path.normpath",
        "os.path.expanduser", "os.path.expandvars",
    }
)  # fmt: skip
_SET_BY_TESRA = frozenset({"TESRA_CHECKPOINT_DIR", "TESRA_RESUME_FROM"})  # defaults don't hold
_PATHS = frozenset({"pathlib.Path", "pathlib.PurePath", "pathlib.PosixPath", "os.path.join"})
_SAME_METHODS = frozenset({"resolve", "absolute", "as_posix", "expanduser", "strip", "rstrip"})


class Folder:
    """Folds the expressions of one file. ``defaults``: those of the script's own options."""

    def __init__(
        self, source: Source, defaults: Mapping[str, Scalar], lookup: Lookup | None = None
    ) -> None:
        self._source = source
        self._defaults = defaults
        self._lookup = lookup

    def fold(self, node: ast.expr | None, depth: int = 0) -> Value:
        """The value, as far as it is known; paths are texts with slashes."""
        if node is None or depth > _DEPTH_LIMIT:
            return UNKNOWN
        below = depth + 1
        match node:
            case ast.Constant(value=value):
                return value if isinstance(value, str | int | float | None) else UNKNOWN
            case ast.Name():
                return self._name(node.id, below)
            case ast.JoinedStr():
                return _short("".join(self._part(part, below) for part in node.values))
            case ast.BinOp():
                return self._operation(node, below)
            case ast.UnaryOp(op=ast.USub()):
                number = self.fold(node.operand, below)
                return -number if isinstance(number, int | float) else UNKNOWN
            case ast.BoolOp(op=ast.Or()):
                values = [self.fold(part, below) for part in node.values]
                return next((v for v in values if not isinstance(v, Unknown) and v), UNKNOWN)
            case ast.Attribute() | ast.Subscript():
                return self._part_of(node, below)
            case ast.Call():
                return self._call(node, below)
        return UNKNOWN

    def text(self, node: ast.expr | None, depth: int = 0) -> str | None:
        """The value if it is a text."""
        value = self.fold(node, depth)
        return value if isinstance(value, str) else None

    def binding(self, name: str) -> Value:
        """What the file binds a name to at any place, if that is one value only."""
        return self.fold(self._source.bindings.get(name))

    def _name(self, name: str, depth: int) -> Value:
        if name == "__file__":
            return self._source.path
        if name in self._source.aliases:
            return self._lookup(self._source.aliases[name]) if self._lookup else UNKNOWN
        return self.fold(self._source.bindings.get(name), depth)

    def _part(self, part: ast.expr, depth: int) -> str:
        """A piece of a text, or a hole in it."""
        inner = part.value if isinstance(part, ast.FormattedValue) else part
        value = self.fold(inner, depth)
        return HOLE if isinstance(value, Unknown) else str(value)

    def _operation(self, node: ast.BinOp, depth: int) -> Value:
        left, right = self.fold(node.left, depth), self.fold(node.right, depth)
        if isinstance(left, int | float) and isinstance(right, int | float):
            return _reckon(node.op, left, right)
        match node.op:
            case ast.Mod() if isinstance(left, str):
                return _PERCENT.sub(HOLE, left)
            case ast.Div() if isinstance(left, str):
                return join(left, right if isinstance(right, str) else HOLE)
            case ast.Div() if isinstance(right, str):
                return join(HOLE, right)
            case ast.Add() if isinstance(left, str) or isinstance(right, str):
                return _short("".join(v if isinstance(v, str) else HOLE for v in (left, right)))
        return UNKNOWN

    def _part_of(self, node: ast.Attribute | ast.Subscript, depth: int) -> Value:
        if isinstance(node, ast.Subscript):
            return self._item(node, depth)
        name = self._source.name_of(node)
        if name.startswith("@"):
            return self.fold(self._source.bindings.get(name[1:]), depth)
        if self._is_arguments(node.value):
            return self._defaults.get(node.attr, UNKNOWN)
        if not name.startswith(".") and self._lookup is not None:
            return self._lookup(name)
        owner = self.text(node.value, depth)
        if owner is None:
            return UNKNOWN
        match node.attr:
            case "parent":
                return posixpath.dirname(owner) or "."
            case "name":
                return posixpath.basename(owner)
            case "stem":
                return posixpath.splitext(posixpath.basename(owner))[0]
        return UNKNOWN

    def _item(self, node: ast.Subscript, depth: int) -> Value:
        key = self.fold(node.slice, depth)
        held = node.value
        if isinstance(held, ast.Attribute) and held.attr == "parents" and isinstance(key, int):
            path = self.text(held.value, depth)
            return UNKNOWN if path is None else _ancestor(path, key + 1)
        if isinstance(held, ast.Name):
            bound = self._source.bindings.get(held.id)
            if isinstance(bound, ast.Dict):
                for name, value in zip(bound.keys, bound.values, strict=True):
                    if isinstance(name, ast.Constant) and name.value == key:
                        return self.fold(value, depth)
        return UNKNOWN

    def _is_arguments(self, node: ast.expr) -> bool:
        """Whether this is what an argument parser answered, by its making or by its usual name."""
        if isinstance(node, ast.Attribute):  # self.args
            return node.attr in _ARGUMENTS
        if not isinstance(node, ast.Name):
            return False
        made = self._source.bindings.get(node.id)
        if isinstance(made, ast.Call):
            return self._source.name_of(made.func).endswith(("parse_args", "parse_known_args"))
        return node.id in _ARGUMENTS

    def _call(self, node: ast.Call, depth: int) -> Value:
        name = self._source.name_of(node.func)
        first = node.args[0] if node.args else None
        if name in _PATHS:
            return join(*(self._part(part, depth) for part in node.args))
        if name in _SAME:
            return self.fold(first, depth)
        if name in {"os.environ.get", "os.getenv"}:
            if self.text(first, depth) in _SET_BY_TESRA:
                return UNKNOWN
            return self.fold(node.args[1] if len(node.args) > 1 else None, depth)
        if name in {"os.getcwd", "pathlib.Path.cwd"}:
            return "."
        if name == "pathlib.Path.home":
            return "~"
        if name == "os.path.dirname":
            path = self.text(first, depth)
            return UNKNOWN if path is None else posixpath.dirname(path) or "."
        return self._method(node, depth) if isinstance(node.func, ast.Attribute) else UNKNOWN

    def _method(self, node: ast.Call, depth: int) -> Value:
        assert isinstance(node.func, ast.Attribute)
        owner = self.text(node.func.value, depth)
        if owner is None:
            return UNKNOWN
        parts = [self._part(part, depth) for part in node.args]
        match node.func.attr:
            case "joinpath":
                return join(owner, *parts)
            case "format":
                return _BRACES.sub(HOLE, owner)
            case "with_suffix" if parts:
                return posixpath.splitext(owner)[0] + parts[0]
            case "with_name" if parts:
                return join(posixpath.dirname(owner), parts[0])
            case attribute if attribute in _SAME_METHODS:
                return owner
        return UNKNOWN


def join(*parts: str) -> str:
    """Paths joined with slashes; a later absolute one counts alone."""
    joined = posixpath.join(*parts) if parts else ""
    return _short(posixpath.normpath(joined) if joined and HOLE not in joined else joined)


def _ancestor(path: str, generations: int) -> Value:
    if not 0 < generations < _DEPTH_LIMIT:
        return UNKNOWN
    for _ in range(generations):
        path = posixpath.dirname(path)
    return path or "."


def _short(text: str) -> str:
    return text[:_TEXT_LIMIT]


def _reckon(operator: ast.operator, left: float, right: float) -> Value:
    if max(abs(left), abs(right)) > _NUMBER_LIMIT:
        return UNKNOWN
    match operator:
        case ast.Add():
            return left + right
        case ast.Sub():
            return left - right
        case ast.Mult():
            return left * right
        case ast.Div() if right:
            return left / right
        case ast.FloorDiv() if right:
            return left // right
    return UNKNOWN
