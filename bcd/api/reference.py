"""The page at /docs: the OpenAPI document as plain HTML, with no script, font or style from elsewhere."""

from collections.abc import Mapping
from typing import Any

from bcd.reports.rendering import Table, html_page


def reference_page(document: Mapping[str, Any]) -> str:
    """Return the page of an OpenAPI document."""
    info = document["info"]
    schemas = document.get("components", {}).get("schemas", {})
    return html_page(
        "reference.html",
        title=f"{info['title']}: how to ask",
        heading=f"{info['title']} {info['version']}",
        description=info.get("description", ""),
        operations=[
            _operation(path, method, operation)
            for path, methods in document["paths"].items()
            for method, operation in methods.items()
        ],
        schemas=[_schema(name, schema) for name, schema in schemas.items() if "properties" in schema],
    )


def _operation(path: str, method: str, operation: Mapping[str, Any]) -> dict[str, Any]:
    options = [[one["name"], _kind(one["schema"]), one.get("description", "")] for one in operation.get("parameters", [])]
    answers = [[status, answer.get("description", "")] for status, answer in operation["responses"].items()]
    return {
        "title": f"{method.upper()} {path}",
        "text": f"{operation.get('summary', '')}\n\n{operation.get('description', '')}",
        "tables": [
            Table(["option", "values", "what it does"], options, "In the query string", text=(1, 2)),
            Table(["status", "when"], answers, "Answers", text=(1,)),
        ],
    }


def _schema(name: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    rows = [[key, _kind(value), value.get("description", "")] for key, value in schema["properties"].items()]
    table = Table(["value", "kind", "description"], rows, text=(1, 2))
    return {"name": name, "text": schema.get("description", ""), "table": table}


def _kind(schema: Mapping[str, Any]) -> str:
    """Return in words what values a schema allows."""
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    if "enum" in schema:
        default = f" (default: {schema['default']})" if schema.get("default") is not None else ""
        return ", ".join(map(str, schema["enum"])) + default
    if "anyOf" in schema:
        return " or ".join(_kind(one) for one in schema["anyOf"])
    kind = {"boolean": "true or false", "string": "text", "integer": "whole number", "null": "nothing"}.get(
        schema.get("type", ""), schema.get("type", "anything")
    )
    return f"list of {_kind(schema['items'])}" if kind == "array" and "items" in schema else str(kind)
