"""The templates of what the platform says of a cause: all that ``said(...)`` marks, and all errors.

A template is the text with each field in braces, named by the last name of its expression;
``{step:d}`` holds digits only. What is marked must stand there to be read; ``Unreadable`` says
where it does not.
"""

import ast
from collections.abc import Iterator, Mapping
from functools import cache

MARK, CAST = "said", "Said"
WORDS_OF_ERRORS = ("detail", "way_out")
Constants = Mapping[str, ast.expr]


class Unreadable(ValueError):
    """Words whose template can't be read out of the source."""


def marked(tree: ast.AST, where: str) -> Iterator[str]:
    """What this module marks with ``said(...)``; raises ``Unreadable``."""
    known = _marks(tree)
    last_names = {name.split(".")[-1] for name in known}
    for node in walked(tree) if known else ():
        if not isinstance(node, ast.Call) or name_of(node.func) not in last_names:
            continue
        if ast.unparse(node.func) not in known:
            continue
        if ast.unparse(node.func).endswith(MARK):
            yield from choices(node.args[0], f"{where}:{node.lineno}")
        elif _has_words(node.args[0]):
            raise Unreadable(f"{where}:{node.lineno}: words are marked with said(), not Said()")


def of_errors(
    tree: ast.AST, kinds: set[str], where: str, constants: Constants
) -> Iterator[tuple[str, bool]]:
    """What single cases of these kinds of error say, and whether it is a way out.

    Words of another error, which are passed on, those that a call makes and those of a table are
    marked where they are made; any others that don't stand there raise ``Unreadable``.
    """
    for node in walked(tree):
        if not isinstance(node, ast.Call) or name_of(node.func) not in kinds:
            continue
        named = {word.arg: word.value for word in node.keywords}
        given = [("detail", words) for words in node.args[:1]]
        given += [(name, named[name]) for name in WORDS_OF_ERRORS if name in named]
        for name, words in given:
            if not _said_elsewhere(words) and not _is_none(words):
                for found in choices(words, f"{where}:{node.lineno}", constants):
                    yield found, name == "way_out"


@cache
def walked(tree: ast.AST) -> tuple[ast.AST, ...]:
    """All nodes of a tree; each is walked once."""
    return tuple(ast.walk(tree))


def constants_of(tree: ast.Module) -> dict[str, ast.expr]:
    """The texts that a module gives names."""
    found: dict[str, ast.expr] = {}
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            found[node.targets[0].id] = node.value
    return found


def name_of(named: ast.expr) -> str:
    return named.attr if isinstance(named, ast.Attribute) else getattr(named, "id", "")


def template(words: ast.expr, where: str) -> str:
    """Of a text or an f-string; raises ``Unreadable`` for anything else."""
    if isinstance(words, ast.Constant) and isinstance(words.value, str):
        return words.value
    if not isinstance(words, ast.JoinedStr):
        raise Unreadable(f"{where}: a text or an f-string must stand in said()")
    names: dict[str, str] = {}
    parts: list[str] = []
    for part in words.values:
        if isinstance(part, ast.Constant):
            parts.append(str(part.value))
        elif isinstance(part, ast.FormattedValue):
            if parts and parts[-1].endswith("}"):
                raise Unreadable(f"{where}: nothing stands between two fields")
            kind = ":d" if part.format_spec and ast.unparse(part.format_spec) == "f'd'" else ""
            parts.append(f"{{{_field(part.value, names)}{kind}}}")
    return "".join(parts)


def _marks(tree: ast.AST) -> set[str]:
    """How this module calls the mark and the cast: others may have a ``said`` of their own."""
    imports = [node for node in walked(tree) if isinstance(node, ast.ImportFrom)]
    known = {
        name.asname or name.name
        for node in imports
        for name in node.names
        if node.module == "tesra.kit.saying" and name.name in {MARK, CAST}
    }
    if any(
        node.module == "tesra.kit" and n.name == "saying" for node in imports for n in node.names
    ):
        known |= {f"saying.{MARK}", f"saying.{CAST}"}
    return known


def choices(words: ast.expr, where: str, constants: Constants | None = None) -> Iterator[str]:
    """The templates of words that stand there, each of them if they are a choice."""
    if isinstance(words, ast.Name) and constants and words.id in constants:
        yield from choices(constants[words.id], where, constants)
    elif isinstance(words, ast.IfExp):
        for one in (words.body, words.orelse):
            if not _is_none(one):
                yield from choices(one, where, constants)
    elif not (isinstance(words, ast.Call) and name_of(words.func) == MARK):
        yield template(words, where)


def _said_elsewhere(words: ast.expr) -> bool:
    if isinstance(words, ast.Subscript):
        return not isinstance(words.slice, ast.Slice)
    return isinstance(words, ast.Call | ast.Attribute)


def _is_none(words: ast.expr) -> bool:
    return isinstance(words, ast.Constant) and words.value is None


def _has_words(words: ast.expr) -> bool:
    """Several words of a text that stand there: ``Said(f"{one}\\n{other}")`` only puts together."""
    parts = [words, *(words.values if isinstance(words, ast.JoinedStr) else ())]
    texts = [part.value for part in parts if isinstance(part, ast.Constant)]
    return any(
        isinstance(text, str) and any(c.isalpha() for c in text) and " " in text for text in texts
    )


def _field(value: ast.expr, names: dict[str, str]) -> str:
    """Its name; another one of the same name gets a number behind it."""
    source = ast.unparse(value)
    plain = _last_name(value).lstrip("_").lower()
    name, count = plain, 1
    while names.setdefault(name, source) != source:
        count += 1
        name = f"{plain}{count}"
    return name


def _last_name(value: ast.expr) -> str:
    match value:
        case ast.Name():
            return value.id
        case ast.Attribute():
            return value.attr
        case ast.Call(args=[first, *_]):
            return _last_name(first)
        case ast.Call():
            return _last_name(value.func)
        case ast.Subscript() | ast.Await() | ast.Starred():
            return _last_name(value.value)
        case ast.BinOp():
            return _last_name(value.left)
    return "words"
