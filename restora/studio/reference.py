"""The description of the REST interface as a page: made here from the OpenAPI document, because the usual pages load theirs from
the internet."""

from __future__ import annotations

import json
from html import escape
from typing import Any


def page(document: dict[str, Any]) -> str:
    """HTML of an OpenAPI document; plain, without scripts."""
    groups: dict[str, list[str]] = {}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            groups.setdefault(operation.get("tags", ["other"])[0], []).append(_operation(path, method, operation))
    info = document["info"]
    parts = [f"<h2>{escape(name.capitalize())}</h2>{''.join(items)}" for name, items in groups.items()]
    schemas = document.get("components", {}).get("schemas", {})
    types = "".join(_schema(name, schema) for name, schema in sorted(schemas.items()))
    title = f"{escape(info['title'])} {escape(info['version'])}: REST interface"
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f'<meta name="color-scheme" content="light dark"><title>{title}</title></head><body><main><h1>{title}</h1>'
        f'<p>{escape(info.get("description", ""))}</p><p><a href="/api/openapi.json">The same as OpenAPI</a> '
        f'<a href="/">The studio</a></p>{"".join(parts)}<h2>Types</h2>{types}</main></body></html>'
    )


def _operation(path: str, method: str, operation: dict[str, Any]) -> str:
    rows = "".join(
        _row(p["name"], f"({p['in']}) {escape(_type(p.get('schema', {})))}", p.get("description", ""))
        for p in operation.get("parameters", [])
    )
    body = ""
    for kind, content in operation.get("requestBody", {}).get("content", {}).items():
        body += f"<p>Takes {escape(kind)}: {_linked(content.get('schema', {}))}</p>"
    gives = ""
    for kind, content in operation.get("responses", {}).get("200", {}).get("content", {}).items():
        gives += f"<p>Gives {escape(kind)}: {_linked(content.get('schema', {}))}</p>"
    return (
        f"<section><h3><code>{method.upper()} {escape(path)}</code></h3><p>{escape(operation.get('description', ''))}</p>"
        f"{f'<ul>{rows}</ul>' if rows else ''}{body}{gives}</section>"
    )


def _schema(name: str, schema: dict[str, Any]) -> str:
    fields = "".join(_row(n, _linked(v), v.get("description", "")) for n, v in schema.get("properties", {}).items())
    text = escape(schema.get("description", ""))
    return f'<section id="{escape(name)}"><h3>{escape(name)}</h3><p>{text}</p><ul>{fields}</ul></section>'


def _row(name: str, type_: str, text: str) -> str:
    return f"<li><code>{escape(name)}</code>: {type_} {escape(text)}</li>"


def _linked(schema: dict[str, Any]) -> str:
    text = _type(schema)
    name = text.replace(" list of ", "").removeprefix("list of ")
    if "$ref" in json.dumps(schema) and name.isalnum():
        return f'{escape(text[: -len(name)])}<a href="#{escape(name)}">{escape(name)}</a>'
    return escape(text)


def _type(schema: dict[str, Any]) -> str:
    """A type in words."""
    if "$ref" in schema:
        return schema["$ref"].rsplit("/", 1)[-1]
    if parts := schema.get("anyOf") or schema.get("oneOf"):
        return " or ".join(dict.fromkeys(_type(p) for p in parts))
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {}))}"
    if "enum" in schema:
        return ", ".join(map(str, schema["enum"]))
    return str(schema.get("type", "anything"))
