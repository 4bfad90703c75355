"""The tokens in URLs of callbacks and shared files: what each is about, signed, for a limited time.

The service signs no callbacks, and asks for files without a key. A URL that only the holder of the
secret can make, and that only the service is given, stands in for a signature.
"""

from __future__ import annotations

import base64
import hmac
import math
import re
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, NoReturn

from apixo_async._canonical import SHARED

#: A longer text is no token. The name of a model has room for about 300 characters.
LONGEST_TOKEN: Final = 512

#: Bytes of an intent's id.
ID_BYTES: Final = 16

#: By whether the submit is kept in a journal.
_VERSIONS: Final = {False: 1, True: 2}
_HEAD: Final = struct.Struct(f">BI{ID_BYTES}s")  # version, expiry, id; then the model's name
_MAC_BYTES: Final = 32
_LATEST: Final = 2**32 - 1
_ID: Final = re.compile(f"[0-9a-f]{{{2 * ID_BYTES}}}")
_ALPHABET: Final = re.compile(r"[A-Za-z0-9_-]+")

#: What signers sign: each has a key of its own.
CALLBACKS: Final = b"apixo_async callback token"
FILES: Final = b"apixo_async shared file"

_FILE_HEAD: Final = struct.Struct(">BI8s")  # version, expiry, id
_FILE_VERSION: Final = 1
_FILE_NAME: Final = re.compile(SHARED)


@dataclass(frozen=True, slots=True)
class Intent:
    """One submit, as its callback's URL names it.

    Attributes:
        id: 32 hexadecimal digits.
        model: The model's name.
        expires: Until when the token holds, in whole seconds since the Unix epoch.
        kept: Whether a journal keeps the submit beyond the end of the process: its callback is
            then sent again until the journal has noted it.
    """

    id: str
    model: str
    expires: int
    kept: bool = False


@dataclass(frozen=True, slots=True)
class FileToken:
    """One shared file, as its URL names it.

    Attributes:
        sha256: The digest of its content in hexadecimal.
        id: 16 hexadecimal digits, random.
        extension: By its bytes, such as "png".
        expires: Until when the URL holds, in whole seconds since the Unix epoch.
    """

    sha256: str
    id: str
    extension: str
    expires: int


class Signer:
    """Sign with a secret that shows itself nowhere: not in a repr, an attribute or a copy."""

    __slots__ = ("__sign",)

    def __init__(self, secret: bytes, purpose: bytes = CALLBACKS) -> None:
        # A key for this purpose only: nothing that the secret signs elsewhere is a token.
        key = hmac.digest(secret, purpose, "sha256")
        # In a closure: crash reporters and debuggers show the attributes of objects.
        self.__sign: Callable[[bytes], bytes] = lambda text: hmac.digest(key, text, "sha256")

    def sign(self, text: bytes) -> bytes:
        """Return the HMAC-SHA256 of a text."""
        return self.__sign(text)

    def __repr__(self) -> str:
        return "Signer(***)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a webhook's secret is neither pickled nor copied: build another receiver")


def expiry(now: float, lifetime: float) -> int:
    """Return the whole second at which a token of that lifetime expires."""
    return min(math.ceil(now + lifetime), _LATEST)


def seal(intent: Intent, signer: Signer) -> str:
    """Return the token of an intent: URL-safe, and with one spelling only.

    Raises:
        ValueError: The id has another form, or the model's name is too long.
    """
    if not _ID.fullmatch(intent.id):
        raise ValueError(f"intent: {intent.id!r:.100} given; an id is 32 hexadecimal digits")
    head = _HEAD.pack(_VERSIONS[intent.kept], intent.expires, bytes.fromhex(intent.id))
    token = _sealed(head + intent.model.encode(), signer).decode()
    if len(token) > LONGEST_TOKEN:
        raise ValueError(f"model: a name of {len(intent.model)} characters does not fit in a URL")
    return token


def unseal(token: str, signers: Sequence[Signer]) -> Intent | None:
    """Return the intent of a token, stale or not, or None for a forged, foreign or mutated one.

    Args:
        token: The last part of the URL's path.
        signers: Those whose tokens are valid. All of them are tried, whichever matches, so that the
            time of an answer says nothing about them.
    """
    if len(token) > LONGEST_TOKEN or not _ALPHABET.fullmatch(token):
        return None
    try:
        text = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
    except ValueError:
        return None
    if len(text) <= _HEAD.size + _MAC_BYTES:
        return None
    payload, given = text[:-_MAC_BYTES], token.encode()
    # The whole text is compared: base64 has several spellings of the same bytes.
    matches = [hmac.compare_digest(_sealed(payload, signer), given) for signer in signers]
    if not any(matches):
        return None
    version, expires, intent_id = _HEAD.unpack_from(payload)
    if version not in _VERSIONS.values():
        return None
    model, kept = payload[_HEAD.size :].decode(), version == _VERSIONS[True]
    return Intent(intent_id.hex(), model, expires, kept)


def seal_file(file: FileToken, signer: Signer) -> str:
    """Return the last part of the URL of a shared file."""
    head = _FILE_HEAD.pack(_FILE_VERSION, file.expires, bytes.fromhex(file.id))
    token = base64.urlsafe_b64encode(head + signer.sign(_file_text(head, file))).decode()
    return f"apixo-file-{file.sha256}-{token}.{file.extension}"


def unseal_file(name: str, signers: Sequence[Signer]) -> tuple[FileToken, int] | None:
    """Return the file of a name, stale or not, and whose it is; None for a forged one.

    Args:
        name: The last part of the URL's path.
        signers: Those whose names are valid; the second value counts them from 0.
    """
    found = _FILE_NAME.fullmatch(name)
    if found is None:
        return None
    sealed = base64.urlsafe_b64decode(found[2])
    head, given = sealed[: _FILE_HEAD.size], sealed[_FILE_HEAD.size :]
    version, expires, file_id = _FILE_HEAD.unpack(head)
    file = FileToken(found[1], file_id.hex(), found[3], expires)
    text = _file_text(head, file)
    # All of them, as in `unseal`. 60 characters are 45 bytes: no two spellings are the same bytes.
    matches = [hmac.compare_digest(signer.sign(text), given) for signer in signers]
    return (file, matches.index(True)) if version == _FILE_VERSION and any(matches) else None


def _file_text(head: bytes, file: FileToken) -> bytes:
    return head + bytes.fromhex(file.sha256) + file.extension.encode()


def _sealed(payload: bytes, signer: Signer) -> bytes:
    return base64.urlsafe_b64encode(payload + signer.sign(payload)).rstrip(b"=")
