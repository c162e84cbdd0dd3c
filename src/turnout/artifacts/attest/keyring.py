"""The keys of a person or an instance: a folder with one file a key, the private half encrypted under a passphrase.

The private half is PKCS#8, encrypted by the cryptography library. What that makes of a passphrase by itself is quick to
guess, so it gets the passphrase stretched by scrypt. Files are 0600 in a folder that is 0700; a file appears as a whole.
"""

from __future__ import annotations

import hashlib
import secrets
import stat
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from pydantic import BaseModel, ConfigDict, Field
from securesystemslib.signer import CryptoSigner  # type: ignore[attr-defined]  # it has no __all__

from turnout.artifacts.attest.keys import ALGORITHM, SigningKey, TrustedKey, check_key_name, public_key
from turnout.artifacts.attest.strict import parse_strict, to_canonical
from turnout.artifacts.attest.times import format_time, parse_time
from turnout.artifacts.faults import disk_errors
from turnout.domain.errors import Conflict, DamagedContent, InvalidRequest, NotFound, SetupFailed
from turnout.durable import replace_file

SHORTEST_PASSPHRASE = 8  # characters
LONGEST_LIFETIME = 10 * 365 * 86_400.0  # seconds
_LARGEST_FILE = 64 << 10
_PREFIX = 16  # digits of the key id in a file's name


@dataclass(frozen=True, slots=True)
class KeptKey:
    """A key of the ring. A retired one signs no more; what it signed is good until it expires."""

    public: TrustedKey
    retired_at: float | None
    path: Path

    def can_sign(self, now: float) -> bool:
        """Whether it may sign at this time."""
        return self.retired_at is None and now < self.public.expires_at


def create_key(folder: Path, name: str, passphrase: str, *, now: float, lifetime: float) -> KeptKey:
    """Make a key of `lifetime` seconds and keep it in the folder, which is created when it is not there.

    Raises `Conflict` when the name has a key that can sign, `InvalidRequest` (name, passphrase, lifetime), `StorageFull`,
    `SetupFailed` when the folder cannot be used.
    """
    check_key_name(name)
    holder = next((kept for kept in list_keys(folder) if kept.public.name == name and kept.can_sign(now)), None)
    if holder:
        raise Conflict(
            f"{name} has the key {holder.public.label} already",
            hint=f"`turnout keys rotate --name {name}` makes a new one in its place",
        )
    return _make_key(folder, name, passphrase, now, lifetime)


def list_keys(folder: Path) -> tuple[KeptKey, ...]:
    """All keys of the ring, oldest first; none when the folder is not there. Raises `DamagedContent` naming a bad file."""
    with disk_errors(folder):
        paths = sorted(folder.glob("[!.]*.json")) if folder.is_dir() else []
    kept = (_kept(_read_file(path), path) for path in paths)
    return tuple(sorted(kept, key=lambda key: (key.public.created_at, key.public.keyid)))


def rotate_key(folder: Path, name: str, passphrase: str, *, now: float, lifetime: float) -> KeptKey:
    """Make a new key for a name, under a passphrase of its own, and retire those that it had.

    The new key is there before an old one retires: a crash between leaves both, and rotating again mends that.
    Raises `NotFound` when the name has no key, and what `create_key` raises.
    """
    old = [kept for kept in list_keys(folder) if kept.public.name == name]
    if not old:
        hint = f"make one with `turnout keys init --name {name[:80]}`"
        raise NotFound(f"there is no key of {name[:80]} in {folder}", hint=hint)
    made = _make_key(folder, name, passphrase, now, lifetime)
    for kept in old:
        if kept.retired_at is None:
            retired = _read_file(kept.path).model_copy(update={"retired_at": format_time(now)})
            _write_file(kept.path, retired)
    return made


def load_signing_key(folder: Path, name: str, passphrase: str, *, now: float) -> SigningKey:
    """Unlock the newest key of a name, or the key whose id begins so (eight digits or more).

    Raises `NotFound`, `Conflict` when the key is retired or expired or several are meant, `InvalidRequest` for a wrong
    passphrase, `SetupFailed` when others can read the file, `DamagedContent` for a file that is none.
    """
    kept = _find_key(folder, name)
    if kept.retired_at is not None:
        raise Conflict(
            f"the key {kept.public.label} was retired on {format_time(kept.retired_at)} and signs no more",
            hint="use the key that came in its place",
        )
    if not kept.can_sign(now):
        raise Conflict(
            f"the key {kept.public.label} expired on {format_time(kept.public.expires_at)}", hint="rotate it"
        )
    with disk_errors(kept.path):
        mode = stat.S_IMODE(kept.path.stat().st_mode)
    if mode & 0o077:
        raise SetupFailed(f"the key file {kept.path} can be used by others (mode {mode:04o})", hint="set it to 0600")
    return SigningKey(kept.public, _unlock(_read_file(kept.path), kept, passphrase))


def _make_key(folder: Path, name: str, passphrase: str, now: float, lifetime: float) -> KeptKey:
    if len(passphrase) < SHORTEST_PASSPHRASE:
        raise InvalidRequest(f"a passphrase needs {SHORTEST_PASSPHRASE} characters or more")
    if not 1 <= lifetime <= LONGEST_LIFETIME:
        raise InvalidRequest("a key lives for a second at least and ten years at most")
    private = Ed25519PrivateKey.generate()
    public = private.public_key().public_bytes_raw().hex()
    keyid = public_key(public).keyid
    stretch = _Stretch(salt=secrets.token_hex(16))
    locked = private.private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(_stretched(passphrase, stretch))
    )
    file = _KeyFile(
        schema_version=1,
        keyid=keyid,
        name=name,
        algorithm=ALGORITHM,
        public=public,
        created_at=format_time(now),
        expires_at=format_time(now + lifetime),
        retired_at=None,
        stretch=stretch,
        private=locked.decode(),
    )
    path = folder / f"{keyid[:_PREFIX]}.json"
    _make_folder(folder)
    _write_file(path, file)
    return _kept(file, path)


def _find_key(folder: Path, name: str) -> KeptKey:
    kept = list_keys(folder)
    named = [key for key in kept if key.public.name == name]
    if named:
        return max(named, key=lambda key: (key.retired_at is None, key.public.created_at))
    by_id = [key for key in kept if len(name) >= 8 and key.public.keyid.startswith(name)]
    if len(by_id) > 1:
        raise Conflict(f"several keys in {folder} begin with {name}", hint="give more digits")
    if not by_id:
        raise NotFound(f"there is no key {name[:80]} in {folder}", hint="make one with `turnout keys init`")
    return by_id[0]


def _unlock(file: _KeyFile, kept: KeptKey, passphrase: str) -> CryptoSigner:
    try:
        private = load_pem_private_key(file.private.encode(), _stretched(passphrase, file.stretch))
    except (ValueError, TypeError):
        raise InvalidRequest(f"the passphrase does not open the key {kept.public.label}") from None
    try:
        return CryptoSigner(private, public_key(file.public))
    except ValueError:
        raise DamagedContent(f"the key file {kept.path} holds the private half of another key") from None


def _stretched(passphrase: str, stretch: _Stretch) -> bytes:
    """The same passphrase however the keyboard composes its letters, made expensive to guess."""
    text = unicodedata.normalize("NFC", passphrase).encode(errors="surrogatepass")
    memory = 128 * stretch.n * stretch.r
    salt = bytes.fromhex(stretch.salt)
    key = hashlib.scrypt(text, salt=salt, n=stretch.n, r=stretch.r, p=stretch.p, maxmem=2 * memory, dklen=32)
    return key.hex().encode()


# --- files -----------------------------------------------------------------------------------------------------------


class _Stretch(BaseModel):
    """The cost of one guess: 32 MiB of memory, three times over."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    salt: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
    n: Literal[16_384, 32_768, 65_536, 131_072] = 32_768
    r: Literal[8] = 8
    p: Annotated[int, Field(ge=1, le=16)] = 3


class _KeyFile(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    schema_version: Literal[1]
    keyid: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    name: str
    algorithm: Literal["ed25519"]
    public: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    created_at: str
    expires_at: str
    retired_at: str | None
    stretch: _Stretch
    private: str = Field(repr=False)


def _kept(file: _KeyFile, path: Path) -> KeptKey:
    try:
        public = TrustedKey(
            file.keyid, file.name, file.public, parse_time(file.created_at), parse_time(file.expires_at)
        )
        return KeptKey(public, parse_time(file.retired_at) if file.retired_at else None, path)
    except InvalidRequest as error:
        raise _damaged(path, error) from None


def _read_file(path: Path) -> _KeyFile:
    try:
        with disk_errors(path):
            content = path.read_bytes()
        return parse_strict(_KeyFile, content, "it", limit=_LARGEST_FILE)
    except InvalidRequest as error:
        raise _damaged(path, error) from None


def _damaged(path: Path, error: InvalidRequest) -> DamagedContent:
    return DamagedContent(
        f"the key file {path} is damaged: {error.message}", hint="restore it from a backup, or move it away"
    )


def _make_folder(folder: Path) -> None:
    with disk_errors(folder):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        mode = stat.S_IMODE(folder.stat().st_mode)
    if mode & 0o077:
        raise SetupFailed(f"the key folder {folder} is open to others (mode {mode:04o})", hint="set it to 0700")


def _write_file(path: Path, file: _KeyFile) -> None:
    with disk_errors(path.parent):
        replace_file(path, to_canonical(file.model_dump(mode="json"), "the key file"), 0o600)
