"""Atlassian's published OpenAPI documents, as checks for our requests and for the sandbox's answers.

The documents are reference material beside the repository (`../shared/atlassian/specs`), not part of it. Where they are
absent every contract test skips with the reason `NOT_RUN`, so the report counts them instead of passing in silence.

Format checks are off: `userId` is wrongly documented as `format: uuid`, and organisation ids are not always UUIDs.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from openapi_schema_validator import OAS30ReadValidator, OAS30WriteValidator
from referencing import Registry
from referencing.jsonschema import DRAFT4

SPECS_DIR = Path(__file__).resolve().parents[2].parent / "shared" / "atlassian" / "specs"
NOT_RUN = "contract: not run (the published documents are not at ../shared/atlassian/specs)"

ORGANIZATION = "admin-organization"
USER_MANAGEMENT = "admin-user-management"
JIRA = "jira-platform-v3"
JSM = "jsm"
_FILES = {
    ORGANIZATION: "admin-organization.json",
    USER_MANAGEMENT: "admin-user-management.json",
    JIRA: "jira-platform-v3.trimmed.json",
    JSM: "jsm.trimmed.json",
}
_METHODS = ("get", "put", "post", "delete", "patch", "head", "options")


class ContractError(AssertionError):
    """A request or an answer that the published document does not allow; the text lists each violation."""


def available() -> bool:
    """Whether all four documents can be read here."""
    return all((SPECS_DIR / file).is_file() for file in _FILES.values())


needs_documents = pytest.mark.skipif(not available(), reason=NOT_RUN)
"""Put `pytestmark = needs_documents` at the top of a contract test module."""


@functools.cache
def load(name: str) -> dict[str, Any]:
    """One document as parsed JSON. `name`: admin-organization, admin-user-management, jira-platform-v3 or jsm."""
    document: dict[str, Any] = json.loads((SPECS_DIR / _FILES[name]).read_text(encoding="utf-8"))
    return document


def operations(spec_name: str) -> list[tuple[str, str]]:
    """All (METHOD, path template) pairs of a document, in its order."""
    return [
        (method.upper(), path)
        for path, item in load(spec_name)["paths"].items()
        for method in item
        if method in _METHODS
    ]


def find_operation(spec_name: str, method: str, path: str) -> tuple[str, dict[str, Any], dict[str, str]]:
    """The (template, operation, path parameters) that serve `path`; raises ContractError when there is none.

    `path` may be a template or a concrete path, with or without the prefix of the server (`/admin`, `/ex/jira/{id}`).
    """
    path = path.partition("?")[0]
    if path.startswith("/admin/"):
        path = path.removeprefix("/admin")
    if path.startswith("/ex/jira/"):
        path = "/" + path.split("/", 4)[4]
    segments = path.strip("/").split("/")
    best: tuple[int, str, dict[str, Any], dict[str, str]] | None = None
    for template, item in load(spec_name)["paths"].items():
        if method.lower() not in item:
            continue
        names = template.strip("/").split("/")
        if len(names) != len(segments):
            continue
        values: dict[str, str] = {}
        literal = 0
        for name, segment in zip(names, segments, strict=True):
            if name.startswith("{"):
                values[name[1:-1]] = segment
            elif name == segment:
                literal += 1
            else:
                break
        else:
            if best is None or literal > best[0]:
                best = (literal, template, {"parameters": item.get("parameters", []), **item[method.lower()]}, values)
    if best is None:
        raise ContractError(f"{spec_name}: no operation {method.upper()} {path}")
    return best[1], best[2], best[3]


def validate_response(
    spec_name: str, method: str, path: str, status: int, body: Any = None, *, unknown_fields: bool = True
) -> None:
    """Check one answer; raise ContractError when its status or body is not documented.

    `body` is parsed JSON, None for an empty body. `unknown_fields=True` also refuses properties that the schema does
    not name, since a client reading them would read something Atlassian never sends. Errors whose body is undocumented
    (most v2 writes) may carry any body; successes whose body is undocumented must be empty.
    """
    template, operation, _ = find_operation(spec_name, method, path)
    where = f"{method.upper()} {template} -> {status}"
    response = operation["responses"].get(str(status)) or operation["responses"].get("default")
    if response is None:
        raise ContractError(f"{where}: status not documented; documented: {sorted(operation['responses'])}")
    schema = _json_schema(_resolve(spec_name, response).get("content", {}))
    if schema is None:
        if status < 400 and body is not None:
            raise ContractError(f"{where}: a body where none is documented: {body!r:.200}")
        return
    if not schema:
        return
    problems = list(_violations(OAS30ReadValidator, spec_name, schema, body))
    if unknown_fields:
        problems += _unknown(spec_name, schema, body, "$")
    if problems:
        raise ContractError(f"{where}\n  " + "\n  ".join(problems))


def validate_request(
    spec_name: str,
    method: str,
    path: str,
    query: Mapping[str, Any] | list[tuple[str, Any]] | None = None,
    body: Any = None,
    headers: Mapping[str, str] | None = None,
) -> None:
    """Check one request: path, query and body; raise ContractError for what the document does not allow.

    Unknown query parameters and unknown body properties are violations too. Query values may be lists (repeated
    parameter) and are compared as their schema's type. `{}` is allowed where no body is documented, because the gateway
    answers 415 to suspend and restore without one. `headers` checks only that required documented headers are present.
    """
    template, operation, path_values = find_operation(spec_name, method, path)
    problems: list[str] = []
    given: dict[str, list[Any]] = {}
    pairs = query.items() if isinstance(query, Mapping) else (query or [])
    for name, value in pairs:
        given.setdefault(name, []).extend(value if isinstance(value, list | tuple) else [value])
    parameters = [_resolve(spec_name, parameter) for parameter in operation.get("parameters", [])]
    known_query = {p["name"]: p for p in parameters if p["in"] == "query"}
    for name, values in given.items():
        parameter = known_query.get(name) or known_query.get(f"{name}[]")
        if parameter is None:
            problems.append(f"query {name}: not documented")
            continue
        problems += _parameter_violations(spec_name, f"query {name}", parameter, values)
    for parameter in parameters:
        name = parameter["name"]
        if not parameter.get("required"):
            continue
        if parameter["in"] == "query" and name not in given:
            problems.append(f"query {name}: required")
        if parameter["in"] == "path" and not path_values.get(name):
            problems.append(f"path {name}: required")
        if parameter["in"] == "header" and headers is not None and name.lower() not in {h.lower() for h in headers}:
            problems.append(f"header {name}: required")
    problems += _body_violations(spec_name, operation, body)
    if problems:
        raise ContractError(f"{method.upper()} {template}\n  " + "\n  ".join(problems))


def _body_violations(spec_name: str, operation: dict[str, Any], body: Any) -> list[str]:
    if "requestBody" not in operation:
        return [] if body is None or body == {} else ["body: none is documented"]
    documented = _resolve(spec_name, operation["requestBody"])
    if body is None:
        return ["body: required"] if documented.get("required") else []
    schema = _json_schema(documented.get("content", {}))
    if not schema:
        return []
    return [*_violations(OAS30WriteValidator, spec_name, schema, body), *_unknown(spec_name, schema, body, "body")]


def _parameter_violations(spec_name: str, label: str, parameter: dict[str, Any], values: list[Any]) -> list[str]:
    schema = _resolve(spec_name, parameter.get("schema", {}))
    if schema.get("type") == "array":
        item = _resolve(spec_name, schema.get("items", {}))
        parts = [p for v in values for p in (v.split(",") if _joined(parameter, v) else [v])]
        value: Any = [_typed(item, part) for part in parts]
    elif len(values) != 1:
        return [f"{label}: given {len(values)} times, takes one value"]
    else:
        value = _typed(schema, values[0])
    return [f"{label}: {problem}" for problem in _violations(OAS30WriteValidator, spec_name, schema, value)]


def _joined(parameter: dict[str, Any], part: Any) -> bool:
    return isinstance(part, str) and parameter.get("explode") is False


def _typed(schema: dict[str, Any], value: Any) -> Any:
    """A query value as the type of its schema; unchanged when it cannot be read so (the validator then says it)."""
    kind = schema.get("type")
    text = str(value)
    if kind == "integer" and text.lstrip("-").isdigit():
        return int(text)
    if kind == "boolean" and text.lower() in ("true", "false"):
        return text.lower() == "true"
    if kind == "number":
        try:
            return float(text)
        except ValueError:
            return value
    return value


def _json_schema(content: dict[str, Any]) -> dict[str, Any] | None:
    """The schema of the JSON body: None when no body is documented, {} when anything goes."""
    if not content:
        return None
    media = content.get("application/json") or content.get("*/*")
    if media is None:
        return {}
    schema: dict[str, Any] = media.get("schema", {})
    return schema


@functools.cache
def _registry(spec_name: str) -> Registry[Any]:
    resource = DRAFT4.create_resource(_absolute(spec_name, load(spec_name)))
    registry: Registry[Any] = Registry().with_resource(f"urn:{spec_name}", resource)
    return registry


def _absolute(spec_name: str, node: Any) -> Any:
    """The schema as it validates on its own: references made absolute, and three habits of these documents evened out.

    `nullable` beside an `enum` means that null is allowed too (the text of managementSource says so), which a validator
    denies unless the list itself holds null. Discriminators go: user management's name a boolean, which no validator
    can follow, and oneOf says the same. A pattern that ends in a line break (left over from YAML) loses it.
    """
    if isinstance(node, list):
        return [_absolute(spec_name, item) for item in node]
    if not isinstance(node, dict):
        return node
    changed = {
        key: f"urn:{spec_name}{value}" if key == "$ref" and isinstance(value, str) else _absolute(spec_name, value)
        for key, value in node.items()
        if key != "discriminator" or not isinstance(value, dict) or "propertyName" not in value
    }
    if changed.get("nullable") is True and isinstance(changed.get("enum"), list):
        changed["enum"] = [*changed["enum"], None]
    if isinstance(changed.get("pattern"), str):
        changed["pattern"] = changed["pattern"].strip()
    return changed


def _violations(validator: Any, spec_name: str, schema: dict[str, Any], body: Any) -> Iterator[str]:
    checker = validator(_absolute(spec_name, schema), registry=_registry(spec_name), format_checker=None)
    for error in checker.iter_errors(body):
        if validator is OAS30WriteValidator and _asks_for_read_only(spec_name, error):
            continue
        deepest = min(error.context, key=lambda e: -len(e.path), default=error) if error.context else error
        at = "$" + "".join(f"[{p!r}]" for p in deepest.absolute_path)
        yield f"{at}: {deepest.message:.300}"


def _asks_for_read_only(spec_name: str, error: Any) -> bool:
    """Whether only a required property is missing that the client may not send anyway (readOnly binds answers)."""
    if error.validator != "required" or not isinstance(error.schema, dict):
        return False
    for name, schema in error.schema.get("properties", {}).items():
        if f"{name!r} is a required property" == error.message:
            reference = schema.get("$ref", "").partition("#")[2]
            return bool((_resolve(spec_name, {"$ref": f"#{reference}"}) if reference else schema).get("readOnly"))
    return False


def _resolve(spec_name: str, node: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in node:
        target: Any = load(spec_name)
        for part in node["$ref"].removeprefix("#/").split("/"):
            target = target[part.replace("~1", "/").replace("~0", "~")]
        node = target
    return node


def _unknown(spec_name: str, schema: dict[str, Any], value: Any, at: str) -> list[str]:
    """Properties of `value` that no branch of `schema` names. A schema that names none at all allows any."""
    found: list[str] = []
    if isinstance(value, list):
        for resolved in _branches(spec_name, schema):
            if "items" in resolved:
                for index, item in enumerate(value):
                    found += _unknown(spec_name, resolved["items"], item, f"{at}[{index}]")
        return found
    if not isinstance(value, dict):
        return found
    properties: dict[str, list[dict[str, Any]]] = {}
    for resolved in _branches(spec_name, schema):
        if resolved.get("additionalProperties") not in (None, False):
            return found
        for name, sub in resolved.get("properties", {}).items():
            properties.setdefault(name, []).append(sub)
    if not properties:
        return found
    for name, item in value.items():
        if name not in properties:
            found.append(f"{at}.{name}: not in the schema")
        else:
            found += _unknown(spec_name, {"anyOf": properties[name]}, item, f"{at}.{name}")
    return found


def _branches(spec_name: str, schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The schema and, through allOf, anyOf and oneOf, all that contribute properties to it."""
    resolved = _resolve(spec_name, schema)
    yield resolved
    for key in ("allOf", "anyOf", "oneOf"):
        for branch in resolved.get(key, []):
            yield from _branches(spec_name, branch)
