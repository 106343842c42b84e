"""YAML -> Recipe. Every problem at once, in plain words, with the nearest known key."""

from __future__ import annotations

import difflib
import json
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from datk.config.schema import Recipe
from datk.errors import RecipeError

BUILTIN = Path(__file__).parent.parent / "recipes"


def builtin_recipes() -> dict[str, Path]:
    """Shipped recipes by name ("quickstart", "paper/student_s", ...), sorted."""
    found = [p for p in sorted(BUILTIN.rglob("*.yaml")) if p.parent.name != "launch"]
    return {p.relative_to(BUILTIN).with_suffix("").as_posix(): p for p in found}


def find_recipe(name: str) -> Path:
    """A path as given, else a shipped recipe by name or by its path in the checkout (recipes/quickstart.yaml).

    Raises RecipeError naming the shipped ones.
    """
    path = Path(name)
    if path.is_file():
        return path
    known = builtin_recipes()
    wanted = name.removeprefix("recipes/").removesuffix(".yaml").removesuffix(".yml")
    if wanted in known:
        return known[wanted]
    near = difflib.get_close_matches(wanted, known, n=1)
    hint = f"did you mean '{near[0]}'? " if near else ""
    raise RecipeError(f"{name}: no such recipe", hint=f"{hint}shipped: {', '.join(known)}")


def load_recipe(path: Path) -> Recipe:
    """Read, resolve `extends` (a file beside it, or a shipped recipe) and validate.

    Raises RecipeError with every problem.
    """
    return recipe_from_dict(_resolved(path, ()), where=str(path))


def _resolved(path: Path, seen: tuple[Path, ...]) -> dict[str, Any]:
    """A recipe's mapping laid over those it extends. seen: the files that extend it."""
    value = _read(path)
    base = value.pop("extends", None)
    if base is None:
        return value
    below = path.parent / str(base)
    parent = below if below.is_file() else find_recipe(str(base))
    if parent.resolve() in (chain := (*seen, path.resolve())):
        raise RecipeError(f"{path}: extends {base}, which extends it", hint="a recipe cannot extend itself")
    return _merged(_resolved(parent, chain), value)


def recipe_from_dict(value: dict[str, Any], *, where: str) -> Recipe:
    """Validate a plain mapping. `where` opens the error message."""
    try:
        return Recipe.model_validate_json(json.dumps(value))
    except ValidationError as error:
        lines = sorted({_line(item, Recipe) for item in error.errors()})
        count = f"{len(lines)} problem{'s' if len(lines) != 1 else ''}"
        raise RecipeError(
            f"{where}: {count}\n" + "\n".join(f"  {line}" for line in lines),
            hint="`datk recipes show quickstart` prints a recipe with every key explained",
        ) from error
    except TypeError as error:
        raise RecipeError(f"{where}: holds a value YAML made that JSON has no word for ({error})") from error


def _read(path: Path) -> dict[str, Any]:
    try:
        value = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: cannot be read ({error})") from error
    except yaml.YAMLError as error:
        raise RecipeError(f"{path}: not YAML: {error}") from error
    if not isinstance(value, dict):
        raise RecipeError(f"{path}: expected a mapping at the top, found {type(value).__name__}")
    return value


def _merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Mappings merge key by key; everything else is replaced."""
    out = dict(base)
    for key, value in over.items():
        old = out.get(key)
        out[key] = _merged(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return out


def _line(item: Any, model: type[BaseModel]) -> str:
    where = ""
    for part in item["loc"]:
        where += f"[{part}]" if isinstance(part, int) else f".{part}" if where else str(part)
    if item["type"] == "extra_forbidden":
        known = _keys_at(item["loc"][:-1], model)
        near = difflib.get_close_matches(str(item["loc"][-1]), known, n=1)
        return f"{where}: unknown key" + (f"; did you mean '{near[0]}'?" if near else f"; known: {', '.join(known)}")
    if item["type"] == "missing":
        return f"{where}: missing"
    message = item["msg"].removeprefix("Value error, ")
    shown = repr(item["input"])
    return f"{where}: {message}" + (f" (found {shown})" if len(shown) <= 60 and shown not in message else "")


def _keys_at(loc: tuple[Any, ...], model: type[BaseModel]) -> list[str]:
    """Known keys of the section an error points into."""
    for part in loc:
        if isinstance(part, int):
            continue
        fields = {f.alias or n: f for n, f in model.model_fields.items()}
        inner = _model_in(fields[part].annotation) if part in fields else None
        if inner is None:
            return []
        model = inner
    return [f.alias or n for n, f in model.model_fields.items()]


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for inner in getattr(annotation, "__args__", ()):
        if (found := _model_in(inner)) is not None:
            return found
    return None
