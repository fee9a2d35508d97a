"""How parameters stand on a script's command line: ``--param-format``."""

import re
import shlex
from typing import Annotated

from pydantic import AfterValidator, Field

DEFAULT_FORMAT = "--{name} {value}"
CONFIG_FILE = "--config {file}"  # what the format `file` is short for
PLACEHOLDER = re.compile(r"\{(\w*)\}")
_WORDS = frozenset({"none", "file"})


def checked_format(text: str) -> str:
    """``none``, ``file``, words with both ``{name}`` and ``{value}``, or words with ``{file}``."""
    if text in _WORDS:
        return text
    names = set(PLACEHOLDER.findall(text))
    if names not in ({"name", "value"}, {"file"}):
        raise ValueError(
            "it takes {name} and {value}, such as '--{name}={value}', or {file}, or is none or file"
        )
    try:
        shlex.split(text)
    except ValueError as error:
        raise ValueError(f"its quotation marks do not match ({error})") from error
    return text


ParameterFormat = Annotated[str, Field(max_length=256), AfterValidator(checked_format)]
