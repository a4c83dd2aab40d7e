"""The page at /docs: the OpenAPI document as plain HTML, with no script, font or style from elsewhere."""

from collections.abc import Mapping
from typing import Any

from bcd.reports.markup import Html, element, joined, table
from bcd.reports.sheet import sheet


def reference_page(document: Mapping[str, Any]) -> str:
    """Return the page of an OpenAPI document."""
    info = document["info"]
    parts: list[Html] = [element("h1", f"{info['title']} {info['version']}")]
    parts += [element("p", paragraph) for paragraph in info.get("description", "").split("\n\n") if paragraph]
    parts.append(element("p", "For programs: ", element("a", "/openapi.json", href="openapi.json")))
    for path, methods in document["paths"].items():
        parts += [_operation(path, method, operation) for method, operation in methods.items()]
    parts.append(element("h2", "What is in an answer"))
    schemas = document.get("components", {}).get("schemas", {})
    parts += [_schema(name, schema) for name, schema in schemas.items() if "properties" in schema]
    return sheet(f"{info['title']}: how to ask", parts)


def _operation(path: str, method: str, operation: Mapping[str, Any]) -> Html:
    parts = [element("h2", f"{method.upper()} {path}"), element("p", operation.get("summary", ""))]
    parts += [_paragraph(text) for text in operation.get("description", "").split("\n\n") if text]
    if operation.get("parameters"):
        rows = [[one["name"], _kind(one["schema"]), one.get("description", "")] for one in operation["parameters"]]
        parts.append(table(["option", "values", "what it does"], rows, "In the address, behind ?", text=(1, 2)))
    answers = [[status, answer.get("description", "")] for status, answer in operation["responses"].items()]
    parts.append(table(["status", "when"], answers, "Answers", text=(1,)))
    return joined(parts)


def _paragraph(text: str) -> Html:
    return element("pre", text.strip()) if text.startswith("    ") else element("p", text)


def _schema(name: str, schema: Mapping[str, Any]) -> Html:
    rows = [[key, _kind(value), value.get("description", "")] for key, value in schema["properties"].items()]
    return joined(
        [element("h3", name, id=name), element("p", schema.get("description", "")), table(["value", "kind", ""], rows, text=(1, 2))]
    )


def _kind(schema: Mapping[str, Any]) -> str:
    """Return in words what values a schema allows."""
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    if "enum" in schema:
        default = f" ({schema['default']} unless you say otherwise)" if schema.get("default") is not None else ""
        return ", ".join(map(str, schema["enum"])) + default
    if "anyOf" in schema:
        return " or ".join(_kind(one) for one in schema["anyOf"])
    kind = {"boolean": "true or false", "string": "text", "integer": "whole number", "null": "nothing"}.get(
        schema.get("type", ""), schema.get("type", "anything")
    )
    return f"list of {_kind(schema['items'])}" if kind == "array" and "items" in schema else str(kind)
