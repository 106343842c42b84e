"""devices.yaml: what it may say, and in which words it is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from datk.errors import EnvironmentLacks, UsageError
from datk.farm import adapters
from datk.farm.errors import InventoryError
from datk.farm.inventory import Secret, load_inventory

ORIN = {
    "name": "orin",
    "kind": "ssh",
    "labels": ["orin-nano", "jetson"],
    "runtimes": ["tensorrt"],
    "arch": "aarch64",
    "controlled": True,
    "power_mode": "15W",
    "ssh": {"host": "orin.lab", "user": "farm", "key": "~/.ssh/farm", "passphrase": {"env": "ORIN_PASS"}},
}
SIM = {"name": "sim-1", "kind": "simulated", "labels": ["pixel"]}


def written(tmp_path: Path, value: object) -> Path:
    path = tmp_path / "devices.yaml"
    path.write_text(value if isinstance(value, str) else yaml.safe_dump(value))
    return path


def test_without_a_file_this_machine_is_the_only_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert [d.name for d in load_inventory().devices] == ["local"]


def test_devices_answer_to_name_label_kind_and_all(tmp_path: Path) -> None:
    inventory = load_inventory(written(tmp_path, {"devices": [ORIN, SIM]}))
    for words, names in (
        (["orin"], ["orin"]),
        (["jetson"], ["orin"]),
        (["simulated"], ["sim-1"]),
        (["all"], ["orin", "sim-1"]),
        (["pixel", "orin"], ["orin", "sim-1"]),
    ):
        assert [d.name for d in inventory.select(words)] == names
    with pytest.raises(UsageError, match="pixl") as caught:
        inventory.select(["pixl"])
    assert "did you mean 'pixel'" in str(caught.value.hint)


def test_every_problem_is_named_with_its_device_at_once(tmp_path: Path) -> None:
    broken = [
        {**ORIN, "labls": ["x"], "ssh": {"host": "a", "user": "b", "prot": 22}},
        {"name": "sim two", "kind": "simulated"},
        {"name": "phone", "kind": "adb"},
        {**SIM, "controlled": True},
    ]
    with pytest.raises(InventoryError) as caught:
        load_inventory(written(tmp_path, {"devices": broken}))
    message = caught.value.message
    assert "devices[0] ('orin').labls: unknown key; did you mean 'labels'?" in message
    assert "devices[0] ('orin').ssh.prot: unknown key; did you mean 'port'?" in message
    assert "devices[1] ('sim two').name" in message
    assert "kind adb needs a section 'adb'" in message
    assert "never controlled" in message


def test_an_unknown_kind_names_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(InventoryError, match="no kind 'simulatd'; did you mean 'simulated'"):
        load_inventory(written(tmp_path, {"devices": [{"name": "a", "kind": "simulatd"}]}))
    assert {"local", "simulated"} <= set(adapters.available())


@pytest.mark.parametrize("twice", [[SIM, SIM]])
def test_two_devices_of_one_name_are_refused(tmp_path: Path, twice: list[object]) -> None:
    with pytest.raises(InventoryError, match="two devices are named sim-1"):
        load_inventory(written(tmp_path, {"devices": twice}))


@pytest.mark.parametrize(
    "ssh",
    [
        {"password": "hunter2"},
        {"passphrase": "hunter2"},
        {"key": "-----BEGIN OPENSSH PRIVATE KEY-----\nhunter2"},
    ],
)
def test_a_secret_in_the_file_is_refused_and_not_repeated(tmp_path: Path, ssh: dict[str, str]) -> None:
    device = {**ORIN, "ssh": {"host": "a", "user": "b", **ssh}}
    with pytest.raises(InventoryError) as caught:
        load_inventory(written(tmp_path, {"devices": [device]}))
    assert "hunter2" not in caught.value.message + str(caught.value.hint)


def test_secrets_come_from_the_environment_or_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORIN_PASS", "from env")
    (tmp_path / "secret").write_text("from file\n")
    assert Secret(env="ORIN_PASS").read() == "from env"
    assert Secret(file=str(tmp_path / "secret")).read() == "from file"
    monkeypatch.delenv("ORIN_PASS")
    with pytest.raises(EnvironmentLacks, match="ORIN_PASS"):
        Secret(env="ORIN_PASS").read()


@pytest.mark.parametrize("name", ["../etc", "a;reboot", "a b", "-rf", "A", "", "x" * 80, "a\nb", "$(id)"])
def test_a_device_name_is_never_more_than_a_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(InventoryError):
        load_inventory(written(tmp_path, {"devices": [{**SIM, "name": name}]}))


@pytest.mark.parametrize("text", ["[1, 2", "- a\n- b\n", "devices: 3\n", "\x00"])
def test_what_is_no_inventory_is_refused_in_words(tmp_path: Path, text: str) -> None:
    with pytest.raises(InventoryError, match=r"devices\.yaml"):
        load_inventory(written(tmp_path, text))
