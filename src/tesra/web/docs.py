"""The API's reference as one plain page: made from the OpenAPI document, no script, no CDN."""

import base64
import hashlib
import json
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

_METHODS = ("get", "post", "put", "patch", "delete", "head", "options")
_STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
code, pre { font: 14px/1.5 ui-monospace, monospace; }
pre { overflow-x: auto; padding: .75rem; border: 1px solid #8884; border-radius: .4rem; }
details { border: 1px solid #8884; border-radius: .4rem; margin: .5rem 0; padding: .5rem .75rem; }
summary { cursor: pointer; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: .25rem .5rem; border-bottom: 1px solid #8884; }
.get { color: #06c; } .post { color: #080; } .put, .patch { color: #a60; } .delete { color: #c00; }
"""
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()

CONTENT_SECURITY_POLICY = f"default-src 'none'; script-src 'none'; style-src 'sha256-{_STYLE_HASH}'; frame-ancestors 'none'; base-uri 'none'"


def render(document: Mapping[str, Any], *, openapi_url: str) -> str:
    """The page as HTML; every text of the document is escaped."""
    info = document["info"]
    body = "".join(
        f"<h2>{escape(tag)}</h2>{''.join(operations)}"
        for tag, operations in _by_tag(document).items()
    )
    schemas = "".join(
        f'<details id="{escape(name)}"><summary><code>{escape(name)}</code></summary>'
        f"{_prose(schema.get('description', ''))}{_json(schema)}</details>"
        for name, schema in sorted(document.get("components", {}).get("schemas", {}).items())
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>{escape(info['title'])} API</title><style>{_STYLE}</style></head><body>"
        f"<h1>{escape(info['title'])} API {escape(info['version'])}</h1>"
        f"{_prose(info.get('description', ''))}"
        f'<p>For programs: <a href="{escape(openapi_url)}">{escape(openapi_url)}</a></p>'
        f"{body}<h2>Schemas</h2>{schemas}</body></html>"
    )


def _by_tag(document: Mapping[str, Any]) -> dict[str, list[str]]:
    tags: dict[str, list[str]] = {}
    for path, item in document["paths"].items():
        for method in _METHODS:
            if method in item:
                tag = item[method].get("tags", ["other"])[0]
                tags.setdefault(tag, []).append(_operation(method, path, item[method]))
    return tags


def _operation(method: str, path: str, operation: Mapping[str, Any]) -> str:
    return (
        f'<details><summary><b class="{method}">{method.upper()}</b> <code>{escape(path)}</code>'
        f" {escape(operation.get('summary', ''))}</summary>"
        f"{_prose(operation.get('description', ''))}"
        f"{_parameters(operation.get('parameters', []))}"
        f"{_request(operation.get('requestBody', {}))}"
        f"{_responses(operation.get('responses', {}))}</details>"
    )


def _parameters(parameters: list[Mapping[str, Any]]) -> str:
    if not parameters:
        return ""
    rows = "".join(
        f"<tr><td><code>{escape(one['name'])}</code></td><td>{escape(one['in'])}"
        f"{', required' if one.get('required') else ''}</td>"
        f"<td>{_type(one.get('schema', {}))} {escape(one.get('description', ''))}</td></tr>"
        for one in parameters
    )
    return f"<table><tr><th>Parameter</th><th>In</th><th>Type</th></tr>{rows}</table>"


def _request(request: Mapping[str, Any]) -> str:
    return "".join(
        f"<p>Body: {escape(media)} {_type(content.get('schema', {}))}</p>"
        for media, content in request.get("content", {}).items()
    )


def _responses(responses: Mapping[str, Any]) -> str:
    rows = "".join(
        f"<tr><td>{escape(status)}</td><td>{escape(answer.get('description', ''))}</td><td>"
        + ", ".join(_type(content.get("schema", {})) for content in _contents(answer))
        + "</td></tr>"
        for status, answer in responses.items()
    )
    return f"<table><tr><th>Answer</th><th></th><th>Type</th></tr>{rows}</table>"


def _contents(answer: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield from answer.get("content", {}).values()


def _type(schema: Mapping[str, Any]) -> str:
    if "$ref" in schema:
        name = escape(schema["$ref"].rsplit("/", 1)[-1])
        return f'<a href="#{name}"><code>{name}</code></a>'
    for key in ("anyOf", "oneOf"):
        if key in schema:
            return " or ".join(_type(one) for one in schema[key])
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {}))}"
    return f"<code>{escape(str(schema.get('type', 'any')))}</code>"


def _prose(text: str) -> str:
    return "".join(f"<p>{escape(paragraph)}</p>" for paragraph in text.split("\n\n") if paragraph)


def _json(value: Any) -> str:
    return f"<pre>{escape(json.dumps(value, indent=2, ensure_ascii=False))}</pre>"
