"""Checkpoints: a small text that commits to everything in a store, to be kept outside it.

Anyone who can write the file can also recompute every hash in it. Only evidence kept elsewhere protects against that:
given a checkpoint, `verify` proves that everything the store held at that time is still there, unchanged.
"""

from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self, TypeAlias

import msgspec
from msgspec import Meta, Struct, structs

from engine.encoding.free_form import INTEGER_MAX
from engine.errors import InvalidValue, SignatureInvalid, SigningUnavailable

FORMAT: Final = 1

_Count: TypeAlias = Annotated[int, Meta(ge=0, le=INTEGER_MAX)]
_Digest: TypeAlias = Annotated[str, Meta(pattern=r"\A[0-9a-f]{64}\Z")]


class Signature(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An Ed25519 signature (RFC 8032) over the text of the unsigned checkpoint; key and value in hexadecimal."""

    public_key: str
    value: str
    algorithm: Literal["ed25519"] = "ed25519"


class Checkpoint(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A commitment to a store's contents.

    `position` is that of the last event, `runs` the number of leaves of the tree (`engine.proof.merkle`), `deletions`
    the number of them whose run had been deleted, `root` the tree's root (64 hexadecimal digits), and `created_at` an
    aware time in UTC.
    """

    store_id: str
    position: _Count
    runs: _Count
    deletions: _Count
    root: _Digest
    created_at: Annotated[datetime, Meta(tz=True)]
    format: int = FORMAT
    signature: Signature | None = None

    def to_json(self) -> str:
        """Return the checkpoint as one line of JSON."""
        return msgspec.json.encode(self).decode()

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Return the checkpoint that `to_json` wrote.

        Raises:
            InvalidValue: the text is not a checkpoint, or one of another format.
        """
        try:
            checkpoint = msgspec.json.decode(text, type=cls)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise InvalidValue("checkpoint", text, f"is not a checkpoint: {error}") from error
        if checkpoint.format != FORMAT:
            raise InvalidValue("checkpoint format", checkpoint.format, f"is not supported; this version reads {FORMAT}")
        return checkpoint


def sign(checkpoint: Checkpoint, private_key: Path) -> Checkpoint:
    """Return the checkpoint signed with an Ed25519 key.

    Args:
        private_key: a PEM file without a password, as `openssl genpkey -algorithm ed25519` writes it.

    Raises:
        SigningUnavailable: the extra `signing` is not installed.
        InvalidValue: the file does not hold such a key.
        OSError: it cannot be read.
    """
    _, serialization, ed25519 = _cryptography()
    key = _key(private_key, "private key", ed25519.Ed25519PrivateKey)
    public = key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    value = key.sign(_signed(checkpoint))
    return structs.replace(checkpoint, signature=Signature(public_key=public.hex(), value=value.hex()))


def check_signature(checkpoint: Checkpoint, public_key: Path | None = None) -> None:
    """Raise unless a checkpoint's signature is valid.

    Args:
        public_key: a PEM file with the expected key. None checks against the key named in the checkpoint, which only
            detects accidental changes.

    Raises:
        SigningUnavailable: the extra `signing` is not installed.
        SignatureInvalid
        InvalidValue: the file does not hold such a key.
        OSError: it cannot be read.
    """
    exceptions, _, ed25519 = _cryptography()
    expected = None if public_key is None else _key(public_key, "public key", ed25519.Ed25519PublicKey)
    signature = checkpoint.signature
    if signature is None:
        raise SignatureInvalid("it is not signed")
    try:
        named = ed25519.Ed25519PublicKey.from_public_bytes(bytes.fromhex(signature.public_key))
        (expected or named).verify(bytes.fromhex(signature.value), _signed(checkpoint))
    except (exceptions.InvalidSignature, ValueError) as error:
        raise SignatureInvalid("its signature does not match the key and the text") from error


def _key(path: Path, what: Literal["private key", "public key"], key_type: type) -> Any:
    exceptions, serialization, _ = _cryptography()
    pem = path.read_bytes()
    try:
        if what == "private key":
            key = serialization.load_pem_private_key(pem, password=None)
        else:
            key = serialization.load_pem_public_key(pem)
    except (ValueError, TypeError, exceptions.UnsupportedAlgorithm) as error:
        raise InvalidValue(what, str(path), f"is not a {what}: {error}") from error
    if not isinstance(key, key_type):
        raise InvalidValue(what, str(path), "is not an Ed25519 key")
    return key


def _signed(checkpoint: Checkpoint) -> bytes:
    return structs.replace(checkpoint, signature=None).to_json().encode()


def _cryptography() -> tuple[Any, Any, Any]:
    try:
        # An optional extra, needed only for signed checkpoints.
        from cryptography import exceptions  # noqa: PLC0415
        from cryptography.hazmat.primitives import serialization  # noqa: PLC0415
        from cryptography.hazmat.primitives.asymmetric import ed25519  # noqa: PLC0415
    except ImportError as error:
        raise SigningUnavailable from error
    return exceptions, serialization, ed25519
