"""Checks of plain values against a class or a model of `schema`: names, types and ranges; one sentence per problem."""

import inspect
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.errors import PydanticUndefinedAnnotation, PydanticUserError
from pydantic.json_schema import GenerateJsonSchema

from bcd.config.errors import as_typed, nearest, nearest_few
from bcd.config.schema import RANGES

HYDRA_KEYS = ("_target_", "_partial_")
_STRICT = ConfigDict(strict=True, arbitrary_types_allowed=True, allow_inf_nan=False)
# Of a JSON schema's types, and of its format for paths.
_PLAIN = {
    **{"boolean": "true or false", "integer": "a whole number", "number": "a number", "string": "text", "path": "a path"},
    **{"object": "a mapping", "array": "a list", "null": "null"},
}
_COUNTS = {"minItems": "least", "minLength": "least", "maxItems": "most", "maxLength": "most"}
_FEW = 12  # so many valid names are listed in full


@dataclass(frozen=True, eq=False)
class Argument:
    """What a class, or a model, takes under one name; its default is `inspect.Parameter.empty` where it must be given."""

    hint: Any
    default: Any

    @cached_property
    def adapter(self) -> TypeAdapter[Any] | None:
        """Pydantic's validator; None for a type that it has none for, which then goes unchecked."""
        try:
            return TypeAdapter(_with_lists(self.hint), config=_STRICT)
        except (PydanticUserError, PydanticUndefinedAnnotation, TypeError):
            return None

    def problem(self, key: str, value: Any, run: bool = False) -> str | None:
        """Return what is wrong with a value, in a sentence; None where it may be given.

        With `run`, files and folders must be there.
        """
        if self.adapter is None or (type(value) is type(self.default) and value == self.default):
            return None
        try:
            self.adapter.validate_python(value, context={"run": run})
        except ValidationError as error:
            return _sentence(key, value, self.adapter.json_schema(schema_generator=_Schema), error)
        except TypeError:  # a protocol, which cannot be asked at run time
            return None
        return None


@dataclass(frozen=True)
class Signature:
    """What a class, or a model, takes, by name, and whether it takes others besides."""

    arguments: Mapping[str, Argument]
    takes_any: bool


@cache
def signature(constructor: Callable[..., Any], target: str = "") -> Signature:
    """Return what a class or function takes, by its signature and type hints; what has no hint takes any value.

    Of a class that a config names by `target`, `schema.RANGES` states what its signature leaves open.
    """
    try:
        parameters = list(inspect.signature(constructor).parameters.values())
    except ValueError:  # one that is written in C
        return Signature({}, takes_any=True)
    is_model = inspect.isclass(constructor) and issubclass(constructor, BaseModel)
    try:
        owner = constructor.__init__ if inspect.isclass(constructor) and not is_model else constructor
        hints = get_type_hints(owner, include_extras=True)
    except Exception:  # hints may name anything that is not there at run time
        hints = {}
    hints = {p.name: p.annotation for p in parameters if not isinstance(p.annotation, str)} | hints
    hints |= RANGES.get(target, {})
    named = [p for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
    open_hints = (None, inspect.Parameter.empty)
    return Signature(
        {p.name: Argument(Any if (hint := hints.get(p.name)) in open_hints else hint, p.default) for p in named}, takes_any
    )


def range_problems(key: str, values: Mapping[str, Any], name_of: Callable[[str], str]) -> Iterator[str]:
    """Give what is wrong with values of an object whose ranges are stated by `schema.RANGES`: its class is not imported."""
    for name, hint in RANGES.get(values["_target_"], {}).items():
        if name in values and not holds_object(values[name]):
            problem = Argument(hint, inspect.Parameter.empty).problem(name_of(f"{key}.{name}"), values[name])
            yield from [problem] if problem is not None else []


def problems(
    key: str,
    values: Mapping[str, Any],
    taker: Callable[..., Any],
    *,
    title: str = "",
    given: Collection[str] = (),
    name_of: Callable[[str], str] = str,
    run: bool = False,
) -> Iterator[str]:
    """Give what is wrong with the arguments of a class, or with the keys of a model, and of the models inside it.

    Args:
        key: dotted, of the mapping; empty for a whole config.
        values: plain; objects in it are dicts with `_target_`, and are looked at by themselves.
        taker: the class or the model.
        title: how it is called in a sentence; a model needs none.
        given: names that are given besides, as objects.
        name_of: dotted key -> how it is called, for values that are pointed to.
        run: files and folders that are named must be there.
    """
    takes = signature(taker, values.get("_target_", ""))
    at = f"{key}." if key else ""
    for name, value in values.items():
        argument = takes.arguments.get(name)
        if name in HYDRA_KEYS:
            continue
        if argument is None:
            if not takes.takes_any:
                what = f"{title} has no argument" if title else "there is no key"
                yield f"{at}{name}: {what} {name!r}. {names_near(name, takes.arguments)}"
        elif isinstance(value, Mapping) and (inner := _model_for(value, argument.hint)) is not None:
            yield from problems(f"{at}{name}", value, inner, name_of=name_of, run=run)
        elif not holds_object(value) and (problem := argument.problem(name_of(f"{at}{name}"), value, run)) is not None:
            yield problem
    if not values.get("_partial_"):
        absent = [
            name for name, argument in takes.arguments.items() if argument.default is inspect.Parameter.empty and name not in values
        ]
        yield from (f"{at}{name} must be given{f': {title} needs it' if title else ''}." for name in absent if name not in given)


def names_near(name: str, valid: Collection[str]) -> str:
    """Return a sentence that leads from a misspelt name to a valid one."""
    return nearest(name, valid) if len(valid) <= _FEW else nearest_few(name, valid)


def holds_object(value: Any) -> bool:
    """Return whether a plain value is, or has among its entries, the description of an object."""
    if isinstance(value, Mapping):
        return "_target_" in value or any(holds_object(entry) for entry in value.values())
    return isinstance(value, list | tuple) and any(holds_object(entry) for entry in value)


class _Schema(GenerateJsonSchema):
    """Leaves out what JSON cannot express, such as the objects of a class."""

    def handle_invalid_for_json_schema(self, schema: Any, error_info: str) -> dict[str, Any]:
        return {}


def _sentence(key: str, value: Any, schema: Mapping[str, Any], error: ValidationError) -> str:
    errors = error.errors()
    own = next((entry for entry in errors if entry["type"] == "value_error"), None)
    if own is not None:
        return f"{key}={as_typed(value)}: {own['ctx']['error']}"
    wanted, way_out = _in_words(schema), ""
    choices = [str(choice) for choice in _choices(schema)]
    misspelt = next((entry["input"] for entry in errors if entry["type"] == "literal_error"), None)
    if isinstance(misspelt, str) and choices:
        way_out = f" {nearest_few(misspelt, choices)}"
    elif "a list" in wanted and not isinstance(value, list | Mapping):
        way_out = f" Write {key}=[{as_typed(value)}]."
    elif "text" in wanted and isinstance(value, int | float):
        way_out = f""" Write '{key}="{as_typed(value)}"'."""
    return f"{key}={as_typed(value)} must be {wanted}.{way_out}"


def _in_words(schema: Mapping[str, Any]) -> str:
    """Return what a JSON schema asks for: `a whole number from 1, or null`."""
    parts = schema.get("anyOf", [schema])
    plain = list(dict.fromkeys(word for part in parts if (word := _word(part))))
    choices = [as_typed(choice) for part in parts for choice in _listed(part)]
    if choices:
        plain.append(f"one of {', '.join(choices)}" if len(choices) > 1 else choices[0])
    if "a number" in plain and "a whole number" in plain:
        plain.remove("a whole number")
    plain.sort(key=lambda word: word == "null")
    return ", or ".join(plain) or "an object, described by its _target_"


def _word(part: Mapping[str, Any]) -> str:
    """Return one alternative in words; nothing for listed words, or an object."""
    if "anyOf" in part or _listed(part):
        return _in_words(part) if "anyOf" in part else ""
    word = _PLAIN.get(part.get("format") or part.get("type", ""), "")
    if "prefixItems" in part:
        return f"{word}, each entry {_in_words(part['prefixItems'][0])}"
    counts = [f" of at {end} {part[name]}" for name, end in _COUNTS.items() if name in part]
    each = f", each entry {_in_words(part['items'])}" if part.get("items") else ""
    return f"{word}{_range(part)}{' and'.join(counts)}{each}"


def _range(part: Mapping[str, Any]) -> str:
    lowest, above, highest, below = (part.get(f"{name}imum") for name in ("min", "exclusiveMin", "max", "exclusiveMax"))
    low = f" from {lowest:g}" if lowest is not None else f" above {above:g}" if above is not None else ""
    if highest is not None:
        return f"{low}{' to' if lowest is not None else ' up to'} {highest:g}"
    return f"{low}{' and' if low else ''} below {below:g}" if below is not None else low


def _listed(part: Mapping[str, Any]) -> list[Any]:
    return [part["const"]] if "const" in part else part.get("enum", [])


def _choices(schema: Mapping[str, Any]) -> list[Any]:
    """Return the words that a schema lists, inside lists too."""
    inner = [*schema.get("anyOf", ()), *schema.get("prefixItems", ()), schema.get("items") or {}]
    return [*_listed(schema), *(choice for part in inner if part for choice in _choices(part))]


def _model_for(value: Mapping[str, Any], hint: Any) -> type[BaseModel] | None:
    """Return the model that takes a mapping: the first one whose required keys it has, else the last one."""
    models = [part for part in get_args(hint) or (hint,) if inspect.isclass(part) and issubclass(part, BaseModel)]
    fitting = (m for m in models if all(name in value for name, field in m.model_fields.items() if field.is_required()))
    return next(fitting, models[-1] if models else None)


def _with_lists(hint: Any) -> Any:
    """Return a type that takes a list for a tuple: a YAML file has no tuples."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return Annotated[(_with_lists(inner[0]), *inner[1:])]
    if origin in (Union, UnionType):
        return Union[tuple(_with_lists(part) for part in inner)]  # noqa: UP007 - `|` joins two
    if origin is tuple:
        return Annotated[tuple[tuple(_with_lists(part) for part in inner)], Field(strict=False)]  # type: ignore[misc]
    if origin in (list, dict, Sequence, Mapping):
        return origin[tuple(_with_lists(part) for part in inner)]
    return hint
