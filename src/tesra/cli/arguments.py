"""What a user writes on the command line, understood. Pure, save for looking which files exist."""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from tesra.kit.errors import Invalid
from tesra.kit.values import Value, typed

_GIT = re.compile(r"(https?|ssh|git|file)://|[\w.+]+@[\w.\-]+:")
_ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tbz2", ".txz")


class ArgumentInvalid(Invalid):
    """An argument is not understood."""


class SecretMissing(Invalid):
    """A secret has no value."""


def pairs(texts: Iterable[str], flag: str) -> dict[str, str]:
    """``K=V`` each, and each name once: to take one of two values would be a guess."""
    found: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise ArgumentInvalid(
                f"{flag} '{text}' is not NAME=VALUE.".lstrip(),
                way_out=f"Write it like {flag} name=value.".replace("  ", " "),
            )
        if name in found:
            raise ArgumentInvalid(
                f"{flag} {name} is given twice, as '{found[name]}' and as '{value}'.".lstrip(),
                way_out="Leave one of them out; `tesra sweep` tries several values.",
            )
        found[name] = value
    return found


def params(texts: Iterable[str], flag: str = "--param") -> dict[str, Value]:
    """Parameters with the type that their value looks like."""
    return {name: typed(value) for name, value in pairs(texts, flag).items()}


def ranges(bounds: Iterable[str], choices: Iterable[str]) -> dict[str, dict[str, Any]]:
    """``lr=1e-5..0.1`` and ``opt=sgd,adam``, as ``RunRequest.ranges`` has them."""
    found: dict[str, dict[str, Any]] = {}
    for name, text in pairs(bounds, "--range").items():
        low, dots, high = text.partition("..")
        ends = [typed(end) if end else None for end in (low.strip(), high.strip())]
        numbers = [end for end in ends if isinstance(end, (int, float))]
        if not dots or not numbers or len(numbers) < sum(end is not None for end in ends):
            raise ArgumentInvalid(
                f"--range '{name}={text}' is not NAME=LOW..HIGH.",
                way_out=f"Write it like --range {name}=1e-5..0.1; either end may be left out.",
            )
        found[name] = {"low": ends[0], "high": ends[1]}
    for name, text in pairs(choices, "--choices").items():
        found[name] = {"choices": [typed(choice.strip()) for choice in text.split(",")]}
    return found


def data(texts: Iterable[str]) -> list[dict[str, str]]:
    """``xingpan:/datasets/mnist`` or ``NAME=xingpan:/datasets/mnist``, as ``RunRequest.data``."""
    found = []
    for text in texts:
        name, equals, path = text.partition("=")
        named = equals and not name.startswith("xingpan:")
        found.append({"name": name, "path": path} if named else {"path": text})
    return found


def secrets(
    names: Iterable[str], environ: Mapping[str, str], ask: Callable[[str], str] | None
) -> dict[str, str]:
    """Values from the caller's environment; ``ask`` is used for those that are not there."""
    found = {}
    for name in names:
        if "=" in name:
            raise ArgumentInvalid(
                "--secret takes a name only, so that no secret stands on the command line.",
                way_out=f"Set {name.partition('=')[0]} in your environment and leave out the value.",
            )
        if name in environ:
            found[name] = environ[name]
        elif ask is not None:
            found[name] = ask(name)
        else:
            raise SecretMissing(
                f"The secret {name} is not set in your environment.",
                way_out=f"Set it (`export {name}=...`), or run this on a terminal to be asked.",
            )
    return found


def entry(text: str) -> str | list[str]:
    """A file, module or function as it is; a JSON list of strings as an argument list."""
    if not text.lstrip().startswith("["):
        return text
    try:
        words = json.loads(text)
    except ValueError:
        words = None
    if not isinstance(words, list) or not words or not all(isinstance(word, str) for word in words):
        raise ArgumentInvalid(
            f"--entry {text} is not a JSON list of strings.",
            way_out="""Write it like --entry '["python", "train.py"]'.""",
        )
    return words


def priority(text: str) -> int:
    """``low``, ``normal``, ``high``, or a number from -100 to 100."""
    named = {"low": -50, "normal": 0, "high": 50}
    if text in named:
        return named[text]
    number = typed(text)
    if type(number) is not int or not -100 <= number <= 100:
        raise ArgumentInvalid(
            f"'{text}' is not a priority.", way_out="Write low, normal, high, or -100 to 100."
        )
    return number


_SPAN = re.compile(r"([0-9]+(?:\.[0-9]+)?)(s|min|m|h|d)?")
_SECONDS = {None: 1, "s": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400}


def seconds(text: str) -> int:
    """``90``, ``90s``, ``30min``, ``1.5h``, ``2d``, also joined (``1h30m``): whole seconds."""
    parts = list(_SPAN.finditer(text))
    whole = "".join(part.group() for part in parts) == text
    total = round(sum(float(part[1]) * _SECONDS[part[2]] for part in parts)) if parts else 0
    if not whole or total < 1 or any(part[2] is None for part in parts[:-1]):
        raise ArgumentInvalid(
            f"'{text}' is not a time.", way_out="Write it like 90s, 30min, 2h or 1h30m."
        )
    return total


def is_source(text: str) -> bool:
    """Whether ``run`` and ``import`` mean a place to import from, rather than a project's name."""
    if _GIT.match(text) or text in {".", ".."} or "/" in text or "\\" in text:
        return True
    path = Path(text)
    return path.is_dir() or (path.is_file() and text.lower().endswith(_ARCHIVES))
