"""devices.yaml: which devices there are, how to reach them, and what they may be asked. Holds no secret itself."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from datk.errors import EnvironmentLacks, UsageError
from datk.farm.errors import InventoryError

FILE_NAME = "devices.yaml"
BUILTIN_LOCAL = "local"
RUNTIMES = ("litert", "onnxruntime", "tensorrt", "coreml")

Runtime = Literal["litert", "onnxruntime", "tensorrt", "coreml"]
Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")]
"""Also a folder's name and part of a command: no space, slash or shell character."""
NoNul = Annotated[str, StringConstraints(min_length=1, pattern=r"^[^\x00\n\r]+$")]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Secret(_Section):
    """Where a secret is read from when it is needed: an environment variable or a file. Never the secret itself."""

    env: str | None = None
    file: str | None = None

    @model_validator(mode="after")
    def _one(self) -> Secret:
        if (self.env is None) == (self.file is None):
            raise ValueError("give either env: NAME or file: PATH")
        return self

    def read(self) -> str:
        """The secret's text. Raises EnvironmentLacks naming where it should be, never what it is."""
        if self.env is not None:
            if (value := os.environ.get(self.env)) is None:
                raise EnvironmentLacks(f"the environment variable {self.env} is not set")
            return value
        assert self.file is not None
        try:
            return Path(self.file).expanduser().read_text(encoding="utf-8").rstrip("\n")
        except OSError as error:
            raise EnvironmentLacks(f"{self.file}: cannot be read ({error.strerror})") from error


class Ssh(_Section):
    """OpenSSH access. The host key must be in known_hosts; an unknown one is refused."""

    host: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9.:_-]*$")]
    port: int = Field(default=22, ge=1, le=65535)
    user: Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9._-]*$")]
    key: NoNul | None = None
    """Private key's path. Default: the running ssh-agent and ~/.ssh."""
    passphrase: Secret | None = None
    known_hosts: NoNul = "~/.ssh/known_hosts"
    connect_timeout_s: float = Field(default=15, gt=0, le=300)


class Adb(_Section):
    """Android Debug Bridge access."""

    serial: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9.:_-]*$")]
    adb: NoNul = "adb"
    benchmark: NoNul = "/data/local/tmp/benchmark_model"
    """LiteRT's benchmark binary on the device; where it is there, its own times stand beside the agent's."""


class Simulation(_Section):
    """How a simulated device behaves. Its figures are never reported as measured."""

    job_s: float = Field(default=0.0, ge=0)
    fail: tuple[str, ...] = ()
    """Names of faults, one a try, before it works: connection, crash, corrupt, hang, busy."""


class Limits(_Section):
    """What an artifact may cost here, and how long the host waits. None = no gate."""

    timeout_s: float = Field(default=900, gt=0)
    attempts: int = Field(default=3, ge=1, le=20)
    max_size_bytes: int | None = Field(default=None, gt=0)
    max_load_ms: float | None = Field(default=None, gt=0)
    max_fallback_ops: int | None = Field(default=None, ge=0)
    """Operators the runtime may leave to its plain CPU kernels."""
    max_peak_bytes: int | None = Field(default=None, gt=0)
    max_slowdown: float = Field(default=1.05, gt=0)
    """Controlled devices: how much slower than the baseline an artifact may be before a significant test rejects it."""


_ACCESS = {"ssh": "ssh", "macos": "ssh", "emulated-arm64": "ssh", "adb": "adb"}
"""Kind -> the section it needs."""


class Device(_Section):
    """One device."""

    name: Name
    kind: Name
    labels: tuple[Name, ...] = ()
    runtimes: tuple[Runtime, ...] = ()
    """Which runtimes to use there. Empty: whatever the agent finds."""
    arch: Literal["aarch64", "armv7l", "x86_64", "arm64"] | None = None
    """What `uname -m` must say; another answer ends the job."""
    controlled: bool = False
    """Clocks locked, nothing else running, cooled: only then does latency gate."""
    power_mode: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9 ._-]{1,40}$")] | None = None
    """What nvpmodel or its like must say; recorded, and compared with what the device tells."""
    threads: int = Field(default=2, ge=1, le=64)
    python: tuple[NoNul, ...] = ("python3",)
    """The interpreter's command line on the device."""
    root: NoNul | None = None
    """Folder on the device the farm may write in. Default: datk-farm in the login folder, or the kind's own."""
    runner: tuple[Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")], ...] = ("self-hosted",)
    """Labels of the CI runner from which it is reached."""
    environment: Name | None = None
    """CI environment whose approval and secrets its job needs."""
    untrusted_changes: bool = False
    """Whether changes from outside contributors may run here. Never for a device of one's own."""
    disabled: str | None = None
    """Reason, with a link: the device is listed and not used."""
    limits: Limits = Limits()
    ssh: Ssh | None = None
    adb: Adb | None = None
    simulated: Simulation | None = None

    @model_validator(mode="after")
    def _reachable(self) -> Device:
        needed = _ACCESS.get(self.kind)
        if needed is not None and getattr(self, needed) is None:
            raise ValueError(f"kind {self.kind} needs a section '{needed}'")
        for section in ("ssh", "adb"):
            if getattr(self, section) is not None and section != needed and self.kind in (*_ACCESS, "local"):
                raise ValueError(f"kind {self.kind} has no section '{section}'")
        if self.untrusted_changes and self.self_hosted:
            raise ValueError("changes from outside never run on a self-hosted runner: drop untrusted_changes")
        if self.kind in ("simulated", "emulated-arm64") and self.controlled:
            raise ValueError(f"a device of kind {self.kind} is never controlled: its latency is no device's")
        return self

    @property
    def self_hosted(self) -> bool:
        """Whether its CI job runs on a machine of one's own."""
        return "self-hosted" in self.runner

    def answers_to(self, label: str) -> bool:
        """Whether a --devices word means this device: its name, a label, its kind, or "all"."""
        return label in (self.name, self.kind, "all", *self.labels)


class Inventory(_Section):
    """The whole file."""

    schema_version: Literal[1] = 1
    devices: tuple[Device, ...]

    @model_validator(mode="after")
    def _distinct(self) -> Inventory:
        names = [d.name for d in self.devices]
        if twice := sorted({n for n in names if names.count(n) > 1}):
            raise ValueError(f"two devices are named {', '.join(twice)}")
        return self

    def named(self, name: str) -> Device:
        """The device of that very name. Raises UsageError with the nearest and all names."""
        for device in self.devices:
            if device.name == name:
                return device
        known = [d.name for d in self.devices]
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean '{near[0]}'? " if near else ""
        raise UsageError(f"no device is named '{name}'", hint=f"{hint}known: {', '.join(known)}; --inventory FILE")

    def select(self, labels: Sequence[str]) -> tuple[Device, ...]:
        """Devices that answer to any of the words, in file order, disabled ones too.

        Raises UsageError for a word that none answers to.
        """
        for label in labels:
            if not any(d.answers_to(label) for d in self.devices):
                known = sorted({w for d in self.devices for w in (d.name, *d.labels)})
                near = difflib.get_close_matches(label, known, n=1)
                hint = f"did you mean '{near[0]}'? " if near else ""
                raise UsageError(f"no device answers to '{label}'", hint=f"{hint}known: {', '.join(known)}")
        return tuple(d for d in self.devices if any(d.answers_to(label) for label in labels))


def load_inventory(path: Path | None = None) -> Inventory:
    """Read and check a devices.yaml; without one, this machine alone as device "local".

    path: None = ./devices.yaml where there is one. Raises InventoryError with every problem and its place.
    """
    if path is None and not Path(FILE_NAME).is_file():
        return Inventory(devices=(Device(name=BUILTIN_LOCAL, kind="local"),))
    where = path or Path(FILE_NAME)
    try:
        value = yaml.safe_load(where.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InventoryError(f"{where}: cannot be read ({error})", hint="docs/farm.md shows one") from error
    except yaml.YAMLError as error:
        raise InventoryError(f"{where}: not YAML: {error}") from error
    if not isinstance(value, dict):
        raise InventoryError(f"{where}: expected a mapping with `devices:`, found {type(value).__name__}")
    _refuse_secrets(value, where)
    try:
        inventory = Inventory.model_validate(value)
    except ValidationError as error:
        lines = sorted({_line(item, value) for item in error.errors()})
        count = f"{len(lines)} problem{'s' if len(lines) != 1 else ''}"
        raise InventoryError(
            f"{where}: {count}\n" + "\n".join(f"  {line}" for line in lines), hint="docs/farm.md explains every key"
        ) from error
    _known_kinds(inventory, where)
    return inventory


_SECRET_KEYS = re.compile(r"^(password|passwd|pass|secret|token|api_?key|private_?key)$", re.IGNORECASE)
_PRIVATE_KEY = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----")


def _refuse_secrets(value: Any, where: Path, at: str = "") -> None:
    """Raise InventoryError when the file holds what looks like a secret; the message never repeats it."""
    hint = "name where it is kept instead, for example passphrase: {env: ORIN_PASSPHRASE}"
    if isinstance(value, dict):
        for key, item in value.items():
            place = f"{at}.{key}" if at else str(key)
            if _SECRET_KEYS.match(str(key)) or (str(key) == "passphrase" and isinstance(item, str)):
                raise InventoryError(f"{where}: {place}: no secrets in this file", hint=hint)
            _refuse_secrets(item, where, place)
    elif isinstance(value, list):
        for number, item in enumerate(value):
            _refuse_secrets(item, where, f"{at}[{number}]")
    elif isinstance(value, str) and _PRIVATE_KEY.search(value):
        raise InventoryError(f"{where}: {at}: holds a private key itself", hint=hint)


def _known_kinds(inventory: Inventory, where: Path) -> None:
    from datk.farm.adapters import available

    kinds = available()
    lines = []
    for number, device in enumerate(inventory.devices):
        if device.kind not in kinds:
            near = difflib.get_close_matches(device.kind, kinds, n=1)
            tail = f"did you mean '{near[0]}'? known: " if near else "known: "
            lines.append(f"  devices[{number}].kind: no kind '{device.kind}'; {tail}{', '.join(kinds)}")
    if lines:
        raise InventoryError(f"{where}: {len(lines)} problem{'s' if len(lines) > 1 else ''}\n" + "\n".join(lines))


def _line(item: Any, value: dict[str, Any]) -> str:
    """One validation error as `devices[1] (orin).ssh.port: ...`, with the nearest known key."""
    place = ""
    node: Any = value
    model: Any = Inventory
    for part in item["loc"]:
        place += f"[{part}]" if isinstance(part, int) else f".{part}" if place else str(part)
        node = node[part] if _has(node, part) else None
        if isinstance(part, int) and isinstance(node, dict) and isinstance(node.get("name"), str):
            place += f" ({node['name'][:63]!r})"
    if item["type"] == "extra_forbidden":
        for part in item["loc"][:-1]:
            model = model if isinstance(part, int) else _section_at(model, part)
        near = difflib.get_close_matches(str(item["loc"][-1]), model.model_fields, n=1)
        tail = f"; did you mean '{near[0]}'?" if near else f"; known: {', '.join(model.model_fields)}"
        return f"{place}: unknown key{tail}"
    if item["type"] == "missing":
        return f"{place}: missing"
    return f"{place}: {item['msg'].removeprefix('Value error, ')}"


def _has(node: Any, part: Any) -> bool:
    return (isinstance(node, dict) and part in node) or (
        isinstance(node, list) and isinstance(part, int) and part < len(node)
    )


def _section_at(model: Any, part: str) -> Any:
    field = model.model_fields.get(part)
    found = [field.annotation, *getattr(field.annotation, "__args__", ())] if field else []
    return next((m for m in found if isinstance(m, type) and issubclass(m, BaseModel)), model)
