"""A target's own options as typed on the command line (`--option gpu=true`), checked by that target's Options model."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

from datk import targets
from datk.errors import UsageError
from datk.targets.base import Target


def typed_options(pairs: Sequence[str], names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """What was typed, by target, as a recipe's `targets[].options` would say it.

    pairs: KEY=VALUE, which goes to every target named that has the option, or TARGET.KEY=VALUE for one of several.
    Raises UsageError naming the targets' options for another key, a value of another type, or one given twice.
    """
    found: dict[str, dict[str, str]] = {name: {} for name in names}
    having = [targets.get(name) for name in names]
    for pair in pairs:
        key, given, value = pair.partition("=")
        if not given or not key:
            raise UsageError(f"--option {pair}: is not KEY=VALUE", hint=_known(having))
        among, key = _addressed(key.strip(), having)
        takers = [t for t in among if key in _fields(t)]
        if not takers:
            near = difflib.get_close_matches(key, [k for t in among for k in _fields(t)], n=1)
            guess = f", did you mean '{near[0]}'?" if near else ""
            raise UsageError(
                f"--option {pair}: {' and '.join(t.name for t in among)} have no option '{key}'{guess}"
                if len(among) > 1
                else f"--option {pair}: target '{among[0].name}' has no option '{key}'{guess}",
                hint=_known(having),
            )
        for target in takers:
            if key in found[target.name]:
                raise UsageError(f"--option {key} is given twice for target '{target.name}'", hint="give it once")
            found[target.name][key] = value.strip()
    return {target.name: _checked(target, found[target.name]) for target in having}


def _addressed(key: str, having: Sequence[Target]) -> tuple[Sequence[Target], str]:
    """TARGET.KEY is for that target alone."""
    name, dot, rest = key.partition(".")
    own = [t for t in having if t.name == name]
    if not dot:
        return having, key
    if not own:
        raise UsageError(f"--option {key}: target '{name}' is not exported here", hint=_known(having))
    return own, rest


def _checked(target: Target, values: dict[str, str]) -> dict[str, Any]:
    """Typed by the target's model: `gpu=true` becomes True, as in a recipe."""
    if not values:
        return {}
    try:
        model = _model(target).model_validate_strings(values)
    except ValidationError as error:
        first = error.errors()[0]
        key, why = str(first["loc"][0]), first["msg"].removeprefix("Value error, ")
        raise UsageError(
            f"--option {key}={values.get(key, '')}: target '{target.name}': {why}", hint=_known([target])
        ) from error
    return model.model_dump(mode="json", include=set(values))


def _model(target: Target) -> type[BaseModel]:
    assert target.options is not None
    model: Any = target.load(target.options)
    assert isinstance(model, type) and issubclass(model, BaseModel), f"{target.name}: Options is no pydantic model"
    return model


def _fields(target: Target) -> dict[str, str]:
    """Option -> type and default, in words."""
    if target.options is None:
        return {}
    told: dict[str, str] = {}
    schema = _model(target).model_json_schema()["properties"]
    for key, value in schema.items():
        kind = " | ".join(str(v) for v in value["enum"]) if "enum" in value else value.get("type", "value")
        told[key] = f"{key} ({kind}, default {_typed(value.get('default'))})"
    return told


def _typed(default: Any) -> str:
    """As it is typed on the line."""
    return str(default).lower() if isinstance(default, bool) else str(default)


def _known(having: Sequence[Target]) -> str:
    """Every option of the targets named, for a hint."""
    return "; ".join(f"options of {t.name}: {', '.join(_fields(t).values()) or 'none'}" for t in having)
