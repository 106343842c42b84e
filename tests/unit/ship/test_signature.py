"""The optional signature: it holds, any damage to it shows, and a stranger's does not pass for the right one."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from datk.artifact.signature import FILE, check_signature, sign_export
from datk.artifact.sums import write_sums
from datk.artifact.verify import check_files
from datk.errors import DataError, UsageError


def key_pair(folder: Path, name: str) -> tuple[Path, Path]:
    """PEM files (private, public), written by the library as openssl writes them."""
    key = Ed25519PrivateKey.generate()
    private, public = folder / f"{name}.pem", folder / f"{name}.pub"
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return private, public


@pytest.fixture()
def folder(tmp_path: Path) -> Path:
    export = tmp_path / "export"
    export.mkdir()
    (export / "contract.json").write_text("{}")
    write_sums(export)
    return export


def statuses(folder: Path, key: Path | None = None) -> list[str]:
    return [c.status for c in check_signature(folder, key)]


def test_a_signature_holds_and_is_not_counted_among_the_files(folder: Path, tmp_path: Path) -> None:
    private, public = key_pair(tmp_path, "ours")
    assert statuses(folder) == []
    assert statuses(folder, public) == ["failed"]
    sign_export(folder, private)
    assert statuses(folder) == statuses(folder, public) == ["passed"]
    assert [c.status for c in check_files(folder)] == ["passed"]


def test_a_strangers_signature_is_told_from_the_right_one(folder: Path, tmp_path: Path) -> None:
    private, _ = key_pair(tmp_path, "stranger")
    _, public = key_pair(tmp_path, "ours")
    sign_export(folder, private)
    assert statuses(folder) == ["passed"] and statuses(folder, public) == ["failed"]


def test_files_listed_anew_are_not_the_signed_ones(folder: Path, tmp_path: Path) -> None:
    private, public = key_pair(tmp_path, "ours")
    sign_export(folder, private)
    (folder / "contract.json").write_text('{"other": 1}')
    write_sums(folder)
    assert [c.status for c in check_files(folder)] == ["passed"]
    assert statuses(folder) == statuses(folder, public) == ["failed"]


def test_every_flipped_bit_of_the_signature_shows(folder: Path, tmp_path: Path) -> None:
    private, _ = key_pair(tmp_path, "ours")
    sign_export(folder, private)
    whole = (folder / FILE).read_bytes()
    for position in range(len(whole)):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << position % 8
        (folder / FILE).write_bytes(damaged)
        assert statuses(folder) == ["failed"], position


def test_wrong_keys_are_refused_with_the_line_that_makes_one(folder: Path, tmp_path: Path) -> None:
    rsa = tmp_path / "rsa.pem"
    key = generate_private_key(65537, 1024)
    rsa.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    for path, words in ((rsa, "not an Ed25519 key"), (folder / "contract.json", "not an unencrypted private key")):
        with pytest.raises(DataError, match=words) as refusal:
            sign_export(folder, path)
        assert "openssl genpkey" in (refusal.value.hint or "")
    with pytest.raises(UsageError, match="not an export"):
        sign_export(tmp_path, rsa)
