"""Refuse modules over 500 lines and functions over 60: what is longer hides more than one thing."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

SOURCES = Path(__file__).resolve().parent.parent / "src"
SUFFIXES = (".py", ".js")
MODULE_LINES = 500
FUNCTION_LINES = 60
MIGRATIONS = "migrations/versions"  # a list of tables is long and hides nothing


def oversized(path: Path) -> Iterator[str]:
    """One line of complaint for each thing in the file that is too long."""
    text = path.read_text(encoding="utf-8")
    lines = text.count("\n")
    if lines > MODULE_LINES:
        yield f"{path}: module of {lines} lines, {MODULE_LINES} at most"
    if MIGRATIONS in path.as_posix() or path.suffix != ".py":
        return
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            # The body: a command's many declared options are no logic.
            length = (node.end_lineno or node.lineno) - node.body[0].lineno + 1
            if length > FUNCTION_LINES:
                yield f"{path}:{node.lineno}: {node.name} has {length} lines, {FUNCTION_LINES} at most"


def main() -> int:
    paths = (path for suffix in SUFFIXES for path in sorted(SOURCES.rglob(f"*{suffix}")))
    complaints = [line for path in paths for line in oversized(path)]
    sys.stdout.write("".join(f"{line}\n" for line in complaints))
    return 1 if complaints else 0


if __name__ == "__main__":
    raise SystemExit(main())
