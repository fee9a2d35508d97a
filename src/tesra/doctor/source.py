"""One Python file, read: its imports, calls, texts and names. Never fails; what can't be read says so.

Names are resolved through the file's imports: after ``import torch.distributed as dist`` a call of
``dist.barrier()`` is known as ``torch.distributed.barrier``. A method of something unknown begins
with a dot (``.save``), a name that the file itself defines with ``@``.
"""

import ast
import builtins
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

_BUILTINS = frozenset(dir(builtins))
_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_NOT_THERE = frozenset({"ImportError", "ModuleNotFoundError", "Exception", "BaseException"})
_WORK = (ast.For, ast.While, ast.With, ast.AsyncFor)


@dataclass(frozen=True, slots=True)
class Import:
    """``module`` as it is written, after ``level`` dots; ``names`` of a ``from``; ``optional``: tried, or under an if."""

    module: str
    line: int
    level: int = 0
    names: tuple[str, ...] = ()
    optional: bool = False


@dataclass(frozen=True, slots=True)
class Call:
    """A call under its resolved name; ``started``: it happens when the file is started."""

    name: str
    node: ast.Call
    started: bool

    @property
    def line(self) -> int:
        return self.node.lineno

    @property
    def last(self) -> str:
        """``save`` of ``torch.save`` and of ``.save``."""
        return self.name.rpartition(".")[2]

    def argument(self, position: int | None, *keywords: str) -> ast.expr | None:
        """By keyword, else by position; None when it is not given."""
        for keyword in self.node.keywords:
            if keyword.arg in keywords:
                return keyword.value
        if position is None or position >= len(self.node.args):
            return None
        found = self.node.args[position]
        return None if isinstance(found, ast.Starred) else found


@dataclass(frozen=True, slots=True)
class Text:
    """A string that is no docstring."""

    value: str
    line: int


@dataclass(slots=True)
class Source:
    """What stands in a file. ``bindings``: names with their value, None where that is not one only."""

    path: str
    error: str = ""
    error_line: int = 0
    imports: list[Import] = field(default_factory=list)
    aliases: dict[str, str] = field(default_factory=dict)
    calls: list[Call] = field(default_factory=list)
    texts: list[Text] = field(default_factory=list)
    used: list[tuple[str, int]] = field(default_factory=list)
    bindings: dict[str, ast.expr | None] = field(default_factory=dict)
    defined: set[str] = field(default_factory=set)
    variables_set: list[tuple[str, ast.expr, int]] = field(default_factory=list)
    variables_read: list[tuple[str, int]] = field(default_factory=list)
    main_guard: int = 0
    works_when_started: bool = False

    def name_of(self, node: ast.expr) -> str:
        """The resolved name of what an expression names; empty when it names nothing."""
        parts: list[str] = []
        while isinstance(node, ast.Attribute):
            parts.append(node.attr)
            node = node.value
        tail = "".join(f".{part}" for part in reversed(parts))
        if not isinstance(node, ast.Name):
            return tail
        name = node.id
        if name in self.aliases:
            return self.aliases[name] + tail
        if name in self.defined:
            return f"@{name}{tail}"
        if name in _BUILTINS and name not in self.bindings:
            return name + tail
        return tail or f"@{name}"


@dataclass(frozen=True, slots=True)
class _Context:
    started: bool = True
    optional: bool = False
    owner: str = ""  # the class whose body this is


def read_source(path: str, content: bytes) -> Source:
    """Parse a file; a file that is not Python has an ``error`` and nothing else."""
    source = Source(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the project's escapes, for nobody to see
            tree = ast.parse(content)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        source.error = getattr(error, "msg", None) or str(error) or type(error).__name__
        source.error_line = getattr(error, "lineno", None) or 0
        return source
    found = list(_walk(tree))
    for node, context in found:
        _note_names(source, node, context)
    for node, context in found:
        _note_uses(source, node, context)
    source.works_when_started = any(_is_work(source, node) for node in tree.body)
    return source


def _walk(tree: ast.Module) -> Iterator[tuple[ast.AST, _Context]]:
    """Every node in the order of the file, save docstrings and what is for type checkers only."""
    stack: list[tuple[ast.AST, _Context]] = [(tree, _Context())]
    while stack:
        node, context = stack.pop()
        yield node, context
        below = [(child, _context_of(node, child, context)) for child in ast.iter_child_nodes(node)]
        stack += [pair for pair in reversed(below) if not _ignored(node, pair[0])]


def _context_of(node: ast.AST, child: ast.AST, context: _Context) -> _Context:
    if isinstance(node, ast.ClassDef):
        return replace(context, owner=node.name if child in node.body else context.owner)
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
        runs_now = not isinstance(node, ast.Lambda) and child in node.decorator_list
        return context if runs_now else replace(context, started=False, owner="")
    tried = isinstance(node, ast.Try) and any(map(_catches_missing, node.handlers))
    maybe = isinstance(node, ast.If) and child is not node.test and not _is_main_guard(node)
    return replace(context, optional=True) if tried or maybe else context


def _ignored(node: ast.AST, child: ast.AST) -> bool:
    if isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant):
        return True
    if not isinstance(node, ast.If) or child not in node.body:
        return False
    test = node.test
    name = test.attr if isinstance(test, ast.Attribute) else getattr(test, "id", "")
    return name == "TYPE_CHECKING"


def _catches_missing(handler: ast.ExceptHandler) -> bool:
    if handler.type is None:
        return True
    named = {node.id for node in ast.walk(handler.type) if isinstance(node, ast.Name)}
    return bool(named & _NOT_THERE)


def _note_names(source: Source, node: ast.AST, context: _Context) -> None:
    match node:
        case ast.Import():
            for alias in node.names:
                root = alias.name.partition(".")[0]
                source.aliases[alias.asname or root] = alias.name if alias.asname else root
                source.imports.append(Import(alias.name, node.lineno, optional=context.optional))
        case ast.ImportFrom():
            names = tuple(alias.name for alias in node.names)
            module = node.module or ""
            source.imports.append(Import(module, node.lineno, node.level, names, context.optional))
            for alias in node.names:
                shown = "." * node.level + module
                dot = "" if shown.endswith(".") else "."
                source.aliases[alias.asname or alias.name] = f"{shown}{dot}{alias.name}"
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            source.defined.add(node.name)
        case ast.If() if _is_main_guard(node):
            source.main_guard = node.lineno
        case _:
            _note_bindings(source, node, context)


def _note_bindings(source: Source, node: ast.AST, context: _Context) -> None:
    match node:
        case ast.Assign() if len(node.targets) == 1:
            _bind(source, node.targets[0], node.value, context)
        case ast.AnnAssign() if node.value is not None:
            _bind(source, node.target, node.value, context)
        case ast.NamedExpr():
            _bind(source, node.target, node.value, context)
        case ast.Assign() | ast.AugAssign() | ast.For() | ast.AsyncFor() | ast.comprehension():
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            for target in targets:
                _bind(source, target, None, context)
        case ast.withitem() if node.optional_vars is not None:
            _bind(source, node.optional_vars, None, context)
        case ast.arguments():
            _bind_arguments(source, node)


def _bind(source: Source, target: ast.expr, value: ast.expr | None, context: _Context) -> None:
    if isinstance(target, ast.Name):
        _bind_name(source, f"{context.owner}.{target.id}" if context.owner else target.id, value)
    elif isinstance(target, ast.Tuple | ast.List):
        pairs: list[ast.expr | None] = [None] * len(target.elts)
        if isinstance(value, ast.Tuple | ast.List) and len(value.elts) == len(target.elts):
            pairs = list(value.elts)
        elif isinstance(value, ast.Call):  # args, rest = parser.parse_known_args()
            pairs[:1] = [value]
        for one, bound in zip(target.elts, pairs, strict=False):
            _bind(source, one, bound, context)


def _bind_arguments(source: Source, found: ast.arguments) -> None:
    """An argument is worth its default, as far as anybody can say without the calls."""
    places = [*found.posonlyargs, *found.args]
    without = [None] * (len(places) - len(found.defaults))
    pairs = [*zip(places, [*without, *found.defaults], strict=True)]
    pairs += zip(found.kwonlyargs, found.kw_defaults, strict=True)
    pairs += [(one, None) for one in (found.vararg, found.kwarg) if one is not None]
    for argument, default in pairs:
        _bind_name(source, argument.arg, default)


def _bind_name(source: Source, name: str, value: ast.expr | None) -> None:
    source.bindings[name] = None if name in source.bindings else value


def _note_uses(source: Source, node: ast.AST, context: _Context) -> None:
    match node:
        case ast.Subscript(slice=ast.Constant(value=str() as variable)):
            if source.name_of(node.value) == "os.environ" and isinstance(node.ctx, ast.Load):
                source.variables_read.append((variable, node.lineno))
        case ast.Assign(
            targets=[ast.Subscript(slice=ast.Constant(value=str() as variable)) as target]
        ):
            if source.name_of(target.value) == "os.environ":
                source.variables_set.append((variable, node.value, node.lineno))
        case ast.Call():
            call = Call(source.name_of(node.func), node, context.started)
            source.calls.append(call)
            _note_variable(source, call)
        case ast.Constant(value=str() as text):
            source.texts.append(Text(text, node.lineno))
        case ast.Attribute() | ast.Name():
            name = source.name_of(node)
            if name[:1] not in {".", "@", ""} and "." in name:
                source.used.append((name, node.lineno))


def _note_variable(source: Source, call: Call) -> None:
    match call.node.args:
        case [ast.Constant(value=str() as variable), *rest]:
            if call.name in {"os.environ.get", "os.getenv", "os.environ.setdefault"}:
                source.variables_read.append((variable, call.line))
            if call.name in {"os.environ.setdefault", "os.putenv"} and rest:
                source.variables_set.append((variable, rest[0], call.line))


def _is_main_guard(node: ast.If) -> bool:
    test = node.test
    if not isinstance(test, ast.Compare) or len(test.comparators) != 1:
        return False
    sides = (test.left, test.comparators[0])
    named = any(isinstance(side, ast.Name) and side.id == "__name__" for side in sides)
    return named and any(
        isinstance(side, ast.Constant) and side.value == "__main__" for side in sides
    )


def _is_work(source: Source, node: ast.stmt) -> bool:
    """Whether a statement of the top does something, beyond declaring: a call by itself, a loop."""
    if isinstance(node, _WORK):
        return True
    if not isinstance(node, ast.Expr) or not isinstance(node.value, ast.Call):
        return False
    name = source.name_of(node.value.func)
    return not name.startswith(("sys.path.", "os.environ.", "warnings.", "logging."))
