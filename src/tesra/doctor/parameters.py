"""The options of the script's own command line: argparse, click, absl flags."""

import ast
import difflib
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

from tesra.doctor.folding import Folder, Unknown
from tesra.doctor.project import Code
from tesra.doctor.report import Evidence, Parameter, Scalar
from tesra.doctor.source import Call, Source
from tesra.kit.saying import Said

Kind = Literal["str", "int", "float", "bool"]

_KINDS: dict[str, Kind] = {
    "int": "int", "float": "float", "bool": "bool", "str": "str",
    "click.INT": "int", "click.FLOAT": "float", "click.BOOL": "bool", "click.IntRange": "int",
    "click.FloatRange": "float",
}  # fmt: skip
_FLAGS = {"store_true": False, "store_false": True}
_ABSL: dict[str, Kind] = {
    "DEFINE_string": "str", "DEFINE_integer": "int", "DEFINE_float": "float", "DEFINE_bool": "bool",
    "DEFINE_boolean": "bool", "DEFINE_enum": "str",
}  # fmt: skip
_OPEN = re.compile(
    r"\.parse_known_args|\.parse_known_intermixed_args|\.add_subparsers|\.set_defaults"
    r"|.*\.(HfArgumentParser|LightningCLI|LightningArgumentParser|add_argparse_args)"
    r"|(hydra|fire|typer|jsonargparse|simple_parsing|tyro|draccus|configargparse)\..*"
)
_NO_VALUE = frozenset({"version", "help"})
_LIMIT = 500


def find_parameters(code: Code) -> tuple[Parameter, ...]:
    """Each option once, in the order of the code; the first that declares a name holds."""
    found: dict[str, Parameter] = {}
    for source in code.sources:
        folder = Folder(source, {})
        for call in source.calls:
            for parameter in _declared(source, call, folder):
                if len(found) < _LIMIT:
                    found.setdefault(parameter.name, parameter)
    return tuple(found.values())


def takes_no_others(code: Code, parameters: Sequence[Parameter]) -> bool:
    """Whether the options that were found are all there are: nothing else reads the command line."""
    if not parameters or any(_OPEN.fullmatch(call.name) for _, call in code.calls()):
        return False
    return not any(name == "sys.argv" for source in code.sources for name, _ in source.used)


def unknown_parameters(names: Iterable[str], parameters: Sequence[Parameter]) -> Iterator[str]:
    """A line for each name that no option has, not even shortened as argparse allows."""
    known = [name for one in parameters if not one.positional for name in (one.name, *one.others)]
    for name in names:
        if name in known or sum(each.startswith(name) for each in known) == 1:
            continue
        close = difflib.get_close_matches(name, known, n=3, cutoff=0.6)
        hint = f"; did you mean {' or '.join(f'--{one}' for one in close)}?" if close else ""
        place = parameters[0].evidence.file
        yield f"parameter {name}: {place} declares no --{name}{hint or '.'}"


def defaults_of(parameters: Sequence[Parameter]) -> dict[str, Scalar]:
    """What ``args.name`` is worth when nobody says otherwise."""
    return {
        parameter.name.replace("-", "_"): parameter.default
        for parameter in parameters
        if parameter.default is not None
    }


def _declared(source: Source, call: Call, folder: Folder) -> Iterator[Parameter]:
    names = [name for part in call.node.args if (name := folder.text(part)) is not None]
    if not names:
        return
    if call.name.endswith(".add_argument"):
        action = folder.text(call.argument(None, "action")) or ""
        if action not in _NO_VALUE:
            yield _option(source, call, folder, names)
    elif call.name in {"click.option", "click.argument"}:
        yield _option(source, call, folder, names)
    elif call.name.startswith("absl.flags.") and call.last in _ABSL:
        default = _known(folder, call.argument(1, "default"))
        where = Evidence(source.path, call.line, Said(call.last))
        text = folder.text(call.argument(3 if call.last == "DEFINE_enum" else 2, "help")) or ""
        yield Parameter(names[0], _ABSL[call.last], default, where, help=text)


def _option(source: Source, call: Call, folder: Folder, names: Sequence[str]) -> Parameter:
    long = [name.split("/")[0] for name in names if name.startswith("--")]
    name = (long or names)[0].lstrip("-")
    destination = folder.text(call.argument(None, "dest"))
    positional = not names[0].startswith("-")
    action = folder.text(call.argument(None, "action")) or ""
    switch = action in _FLAGS or _known(folder, call.argument(None, "is_flag")) is True
    default = _known(folder, call.argument(None, "default"))
    if default is None and switch:
        default = _FLAGS.get(action, False)
    return Parameter(
        name if positional or long or destination is None else destination,
        "bool" if switch else _kind(source, call, default),
        default,
        Evidence(source.path, call.line, Said(call.last)),
        required=_is_required(call, folder, positional=positional),
        choices=_choices(call, folder),
        help=folder.text(call.argument(None, "help")) or "",
        flag=switch or "BooleanOptionalAction" in _name(source, call.argument(None, "action")),
        positional=positional,
        others=tuple(other.lstrip("-") for other in names[:9] if other.lstrip("-") != name),
    )


def _kind(source: Source, call: Call, default: Scalar) -> Kind:
    named = _KINDS.get(_name(source, call.argument(None, "type")))
    if named is not None:
        return named
    if "BooleanOptionalAction" in _name(source, call.argument(None, "action")):
        return "bool"
    if isinstance(default, bool):
        return "bool"
    if isinstance(default, int):
        return "int"
    return "float" if isinstance(default, float) else "str"


def _name(source: Source, node: ast.expr | None) -> str:
    """``int`` of ``type=int`` and of ``type=click.IntRange(1)``."""
    if isinstance(node, ast.Call):
        node = node.func
    return source.name_of(node) if node is not None else ""


def _is_required(call: Call, folder: Folder, *, positional: bool) -> bool:
    told = _known(folder, call.argument(None, "required"))
    if isinstance(told, bool):
        return told
    return positional and call.argument(None, "default", "nargs") is None


def _choices(call: Call, folder: Folder) -> tuple[Scalar, ...]:
    given = call.argument(None, "choices")
    if given is None and isinstance(kind := call.argument(None, "type"), ast.Call):
        given = kind.args[0] if kind.args else None  # click.Choice(["a", "b"])
    if not isinstance(given, ast.List | ast.Tuple | ast.Set):
        return ()
    values = [folder.fold(item) for item in given.elts]
    return tuple(value for value in values if not isinstance(value, Unknown))


def _known(folder: Folder, node: ast.expr | None) -> Scalar:
    value = folder.fold(node)
    return None if isinstance(value, Unknown) else value
