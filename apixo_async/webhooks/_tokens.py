"""The token in a callback's URL: the submit that it belongs to, signed, for a limited time.

The service signs no callbacks. A URL that only the holder of the secret can make, and that only the
service is given, stands in for a signature.
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

#: A longer text is no token. The name of a model has room for about 300 characters.
LONGEST_TOKEN: Final = 512

#: Bytes of an intent's id.
ID_BYTES: Final = 16

#: Seconds after a task's end in which callbacks may still come. By the documents there are four
#: deliveries of at most 30 s each, with pauses of 30 s, 2 min and 10 min between them.
REDELIVERY: Final = 4 * 30.0 + 30.0 + 120.0 + 600.0

#: By whether the submit is kept in a journal.
_VERSIONS: Final = {False: 1, True: 2}
_HEAD: Final = struct.Struct(f">BI{ID_BYTES}s")  # version, expiry, id; then the model's name
_MAC_BYTES: Final = 32
_LATEST: Final = 2**32 - 1
_ID: Final = re.compile(f"[0-9a-f]{{{2 * ID_BYTES}}}")
_ALPHABET: Final = re.compile(r"[A-Za-z0-9_-]+")
_PURPOSE: Final = b"apixo_async callback token"


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


class Signer:
    """Sign with a secret that shows itself nowhere: not in a repr, an attribute or a copy."""

    __slots__ = ("__sign",)

    def __init__(self, secret: bytes) -> None:
        # A key for this purpose only: nothing that the secret signs elsewhere is a token.
        key = hmac.digest(secret, _PURPOSE, "sha256")
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


def _sealed(payload: bytes, signer: Signer) -> bytes:
    return base64.urlsafe_b64encode(payload + signer.sign(payload)).rstrip(b"=")
