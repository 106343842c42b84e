"""An optional Ed25519 signature (RFC 8032) over SHA256SUMS, and with it over every file of an export.

SHA256SUMS.sig holds the public key beside the signature: a damaged signature is found without any key; that the right
person signed only with theirs.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datk.artifact.files import write_text
from datk.artifact.verify import SIGNATURES, SUMS, Check
from datk.errors import DataError, EnvironmentLacks, UsageError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

FILE = SIGNATURES[0]
MAKE_KEY = "openssl genpkey -algorithm ed25519 -out key.pem && openssl pkey -in key.pem -pubout -out public.pem"


def sign_export(folder: Path, key: Path) -> str:
    """Sign folder/SHA256SUMS with the private key in a PEM file; returns the public key's fingerprint.

    Raises UsageError when folder is no export, DataError for a key that is not an unencrypted Ed25519 one.
    """
    sums = folder / SUMS
    if not sums.is_file():
        raise UsageError(f"{folder}: no {SUMS}: not an export", hint="name a folder 50-export-... of a run")
    private = _private_key(key)
    public = private.public_key().public_bytes_raw()
    write_text(folder / FILE, _render(public, private.sign(sums.read_bytes())))
    return fingerprint(public)


def check_signature(folder: Path, trusted: Path | None) -> list[Check]:
    """The signature's check: none when there is none and none is asked for.

    trusted: PEM file of the public key that must have signed. Raises DataError when that file is not such a key.
    """
    wanted = None if trusted is None else _public_key(trusted).public_bytes_raw()
    if not (folder / FILE).is_file():
        return [] if wanted is None else [Check("signature", "failed", "not signed, a signature was asked for", FILE)]
    try:
        text = (folder / FILE).read_bytes().decode("utf-8")
        value = json.loads(text)
        public, signature = (base64.b64decode(value[name], validate=True) for name in ("public_key", "signature"))
        whole = text == _render(public, signature)
    except (ValueError, KeyError, TypeError, binascii.Error) as error:
        return [Check("signature", "failed", f"not a signature ({type(error).__name__})", FILE)]
    if not whole or not _holds(public, signature, (folder / SUMS).read_bytes()):
        return [Check("signature", "failed", f"does not belong to {SUMS}: changed since it was signed", FILE)]
    who = fingerprint(public)
    if wanted is None:
        return [Check("signature", "passed", f"by the key {who}; whose that is: --public-key FILE", FILE)]
    if public != wanted:
        return [Check("signature", "failed", f"by the key {who}, not by {fingerprint(wanted)}", FILE)]
    return [Check("signature", "passed", f"by the key {who}, the one asked for", FILE)]


def fingerprint(public: bytes) -> str:
    """First 16 hex digits of the sha256 of a raw public key."""
    return hashlib.sha256(public).hexdigest()[:16]


def _render(public: bytes, signature: bytes) -> str:
    value = {
        "algorithm": "ed25519",
        "signs": SUMS,
        "public_key": base64.b64encode(public).decode(),
        "signature": base64.b64encode(signature).decode(),
    }
    return json.dumps(value, indent=2) + "\n"


def _holds(public: bytes, signature: bytes, signed: bytes) -> bool:
    _require()
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, signed)
    except (InvalidSignature, ValueError):
        return False
    return True


def _private_key(path: Path) -> Ed25519PrivateKey:
    _require()
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key: Any = load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError, TypeError) as error:
        raise DataError(f"{path}: not an unencrypted private key ({error})", hint=f"make one: {MAKE_KEY}") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise DataError(f"{path}: not an Ed25519 key", hint=f"make one: {MAKE_KEY}")
    return key


def _public_key(path: Path) -> Ed25519PublicKey:
    _require()
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key: Any = load_pem_public_key(path.read_bytes())
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: not a public key ({error})", hint="openssl pkey -in key.pem -pubout") from error
    if not isinstance(key, Ed25519PublicKey):
        raise DataError(f"{path}: not an Ed25519 key", hint="openssl pkey -in key.pem -pubout")
    return key


def _require() -> None:
    from importlib.util import find_spec

    if find_spec("cryptography") is None:
        raise EnvironmentLacks("signatures need cryptography, not installed here", hint='pip install "datk[ship]"')
