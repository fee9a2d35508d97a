"""A request that is not valid, said in words before it is sent."""

from pydantic import ValidationError

from tesra.kit.errors import Invalid


class RequestInvalid(Invalid):
    """The request is not valid."""


def mistake(error: ValidationError) -> str:
    """The first thing that is wrong with a request, in words."""
    first = error.errors()[0]
    message = str(first["msg"]).removeprefix("Value error, ").rstrip(".")
    if not first["loc"]:
        return f"{message}."
    field = first["loc"][0]
    if first["type"] == "string_pattern_mismatch":
        return (
            f"{field}: '{first['input']}' can't be a name: take the letters a to z, digits and _."
        )
    return f"{field}: {message}."
