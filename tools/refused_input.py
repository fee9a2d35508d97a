"""What pydantic says of input that it refuses, as templates: its own list of its errors.

Only the kinds that the platform's forms and requests can meet; the others have no place on a page.
"""

from collections.abc import Iterator

from pydantic_core._pydantic_core import list_all_errors

KINDS = frozenset(
    [
        "missing",
        "extra_forbidden",
        "greater_than",
        "greater_than_equal",
        "less_than",
        "less_than_equal",
        "finite_number",
        "string_type",
        "string_too_short",
        "string_too_long",
        "string_pattern_mismatch",
        "string_unicode",
        "enum",
        "literal_error",
        "int_type",
        "int_parsing",
        "int_from_float",
        "int_parsing_size",
        "float_type",
        "float_parsing",
        "bool_type",
        "bool_parsing",
        "list_type",
        "dict_type",
        "set_type",
        "too_short",
        "too_long",
        "bytes_type",
        "model_type",
        "model_attributes_type",
        "datetime_type",
        "datetime_parsing",
        "datetime_from_date_parsing",
        "timezone_aware",
        "decimal_type",
        "decimal_parsing",
        "decimal_max_digits",
        "decimal_max_places",
        "union_tag_invalid",
        "union_tag_not_found",
        "json_invalid",
        "url_type",
        "url_parsing",
        "none_required",
    ]
)


def refusals() -> Iterator[str]:
    """Each in the singular and the plural where it counts; ``{field}`` is filled in by pydantic."""
    for error in list_all_errors():
        if error["type"] in KINDS:
            words = error["message_template_python"]
            for plural in ("", "s") if "{expected_plural}" in words else ("",):
                yield words.replace("{expected_plural}", plural)
