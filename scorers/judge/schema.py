"""JSON schemas of answers: exactly the keywords that metrics use, checked here as strictly as a server may.

An answer is bounded in every direction. Without bounds small models run on until they are cut.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import msgspec

__all__ = ["Schema", "compiled", "parsed"]

# Per type: what must stand in a schema, and what may.
_KEYWORDS: dict[str, tuple[frozenset[str], frozenset[str]]] = {
    "object": (frozenset({"properties", "required", "additionalProperties"}), frozenset()),
    "string": (frozenset(), frozenset({"maxLength", "enum"})),
    "boolean": (frozenset(), frozenset()),
    "array": (frozenset({"items", "maxItems"}), frozenset({"minItems"})),
}
_ALWAYS = frozenset({"type", "description"})
_TYPES: dict[str, type[Any]] = {"object": dict, "string": str, "boolean": bool, "array": list}
_NAMES = {"object": "an object", "string": "text", "boolean": "true or false", "array": "a list"}
_MOST_COMPILED = 1024
_MOST_STARTS = 50
_compiled: dict[bytes, Schema] = {}


class Schema:
    """The schema of an answer.

    Args:
        document: An object with ``properties``, all of them ``required``, and ``additionalProperties: false``. Below
            it objects, lists (``items``, ``minItems``, ``maxItems``), text (``maxLength`` or ``enum``), booleans.

    Attributes:
        document: As it was given.
        without_lengths: The same without ``maxLength``, which some servers refuse.
        text: As JSON, for prompts.

    Raises:
        ValueError: It holds another keyword, or lacks a bound. That is a fault of the metric.
    """

    def __init__(self, document: Mapping[str, Any]) -> None:
        _check(document, "$")
        if document["type"] != "object":
            raise ValueError("$: an answer is an object")
        self.document: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(document))
        self.without_lengths: dict[str, Any] = _without_lengths(self.document)
        self.text = json.dumps(self.document, ensure_ascii=False)

    def problem(self, value: Any) -> str | None:
        """What is wrong with an answer, for its author to mend; None where it follows the schema."""
        return _problem(self.document, value, "the answer")


def compiled(document: Mapping[str, Any]) -> Schema:
    """The schema of a document, made once for all equal ones.

    Raises:
        ValueError: As of ``Schema``.
    """
    key = msgspec.json.encode(document)
    schema = _compiled.get(key)
    if schema is None:
        schema = Schema(document)
        if len(_compiled) >= _MOST_COMPILED:
            _compiled.clear()
        _compiled[key] = schema
    return schema


def parsed(text: str, *, loose: bool) -> Any:
    """The JSON value of an answer, without NaN and without keys that appear twice.

    Args:
        text: What the model wrote. What it thought before that, in ``<think>``, is left out.
        loose: Whether one object may stand in a fence, or with text around it.

    Raises:
        ValueError: It is no such value; the text says why.
    """
    text = text.strip()
    if text.startswith("<think>"):
        text = text.rpartition("</think>")[2].strip()
    try:
        return _decoded(text)
    except ValueError:
        if not loose:
            raise
    return _only_object(text)


def _decoded(text: str) -> Any:
    try:
        return _DECODER.decode(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"it is not one JSON value: {error.msg} at character {error.pos}") from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _only_object(text: str) -> Any:
    found: list[Any] = []
    start = text.find("{")
    for _ in range(_MOST_STARTS):
        if start < 0:
            break
        try:
            value, end = _DECODER.raw_decode(text, start)
            found.append(value)
        except json.JSONDecodeError:
            end = start + 1
        except RecursionError:
            raise ValueError("it is nested too deeply") from None
        start = text.find("{", end)
    if len(found) != 1:
        raise ValueError("it holds no JSON object" if not found else "it holds more than one JSON object")
    return found[0]


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a key appears twice in one object")
    return value


def _refused(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON value")


_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_refused)


def _check(schema: Any, path: str) -> None:
    if not isinstance(schema, Mapping) or schema.get("type") not in list(_KEYWORDS):
        raise ValueError(f"{path}: a type of {', '.join(_KEYWORDS)} is needed")
    kind = schema["type"]
    must, may = _KEYWORDS[kind]
    for word in must - schema.keys():
        raise ValueError(f"{path}: {word} is missing")
    for word in schema.keys() - must - may - _ALWAYS:
        raise ValueError(f"{path}: {word} is no keyword that is known here")
    if kind == "object":
        properties = schema["properties"]
        if schema["additionalProperties"] is not False or list(schema["required"]) != list(properties):
            raise ValueError(f"{path}: all properties are required, in their order, and no others allowed")
        for name, below in properties.items():
            _check(below, f"{path}.{name}")
    elif kind == "array":
        if not 0 <= schema.get("minItems", 0) <= schema["maxItems"]:
            raise ValueError(f"{path}: expected 0 <= minItems <= maxItems")
        _check(schema["items"], f"{path}[]")
    elif kind == "string":
        if ("enum" in schema) == ("maxLength" in schema):
            raise ValueError(f"{path}: text has either maxLength or enum")
        if "enum" in schema and not (schema["enum"] and all(isinstance(each, str) for each in schema["enum"])):
            raise ValueError(f"{path}: enum is a list of texts")


def _without_lengths(schema: Any) -> Any:
    if isinstance(schema, dict):
        kept = {key: _without_lengths(value) for key, value in schema.items()}
        if schema.get("type") == "string":
            kept.pop("maxLength", None)
        return kept
    return schema


def _problem(schema: dict[str, Any], value: Any, path: str) -> str | None:
    kind = schema["type"]
    if not isinstance(value, _TYPES[kind]):
        return f"{path} must be {_NAMES[kind]}"
    if kind == "object":
        properties = schema["properties"]
        missing = [name for name in properties if name not in value]
        if missing:
            return f"{path} lacks {', '.join(missing[:5])}"
        if len(value) > len(properties):
            return f"{path} may hold nothing but {', '.join(properties)}"
        return next(filter(None, (_problem(properties[name], value[name], f"{path}.{name}") for name in value)), None)
    if kind == "array":
        least, most = schema.get("minItems", 0), schema["maxItems"]
        if not least <= len(value) <= most:
            return f"{path} must hold {least} to {most} items, not {len(value)}"
        items = schema["items"]
        return next(filter(None, (_problem(items, each, f"{path}[{i}]") for i, each in enumerate(value))), None)
    if kind == "string":
        if "enum" in schema:
            return None if value in schema["enum"] else f"{path} must be one of {', '.join(schema['enum'])}"
        if len(value) > schema["maxLength"]:
            return f"{path} must have at most {schema['maxLength']} characters, not {len(value)}"
        if not _encodable(value):
            return f"{path} holds half of a surrogate pair"
    return None


def _encodable(text: str) -> bool:
    return text.isascii() or not any("\ud800" <= char <= "\udfff" for char in text)
