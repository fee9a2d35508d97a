"""How parameters stand on a script's command line: ``--param-format``."""

import re
import shlex
from typing import Annotated

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from tesra.kit.saying import said
from tesra.wire.common import Wire

ParameterName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_.\-]{0,127}$")]
ParameterText = Annotated[str, Field(max_length=32_768)]
ParameterValue = ParameterText | int | float | bool
DEFAULT_FORMAT = "--{name} {value}"
CONFIG_FILE = "--config {file}"  # what the format `file` is short for
PLACEHOLDER = re.compile(r"\{(\w*)\}")
_WORDS = frozenset({"none", "file"})


_FORMS = said(
    "it takes {name} and {value}, such as '--{name}={value}', or {file}, or is none or file"
)


def checked_format(text: str) -> str:
    """``none``, ``file``, words with both ``{name}`` and ``{value}``, or words with ``{file}``."""
    if text in _WORDS:
        return text
    names = set(PLACEHOLDER.findall(text))
    if names not in ({"name", "value"}, {"file"}):
        raise ValueError(_FORMS)
    try:
        shlex.split(text)
    except ValueError as error:
        raise ValueError(said(f"its quotation marks do not match ({error})")) from error
    return text


ParameterFormat = Annotated[str, Field(max_length=256), AfterValidator(checked_format)]


class ParameterRange(Wire):
    """What a parameter may be changed to: within bounds (inclusive), or one of some choices."""

    low: float | None = None
    high: float | None = None
    choices: list[ParameterValue] | None = Field(default=None, min_length=1, max_length=200)

    @model_validator(mode="after")
    def _sensible(self) -> "ParameterRange":
        if self.choices is not None and (self.low is not None or self.high is not None):
            raise ValueError(said("a parameter has bounds or choices, not both"))
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ValueError(said(f"the lower bound {self.low:g} is above the upper {self.high:g}"))
        return self
