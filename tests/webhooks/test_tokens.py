"""Tokens hold for their own intent, secret and time only, and show no secret."""

from __future__ import annotations

import base64
import copy
import gc
import hmac
import pickle
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apixo_async.webhooks._tokens import (
    FILES,
    LONGEST_TOKEN,
    FileToken,
    Intent,
    Signer,
    expiry,
    seal,
    seal_file,
    unseal,
    unseal_file,
)

SECRET = b"canary-secret-0123456789"
SIGNER, OTHER = Signer(SECRET), Signer(b"another-secret-0123456789")
INTENT = Intent("00112233445566778899aabbccddeeff", "gpt-image-1", 2_000)
TOKEN = seal(INTENT, SIGNER)

ids = st.binary(min_size=16, max_size=16).map(bytes.hex)
models = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,299}", fullmatch=True)
intents = st.builds(Intent, ids, models, st.integers(0, 2**32 - 1), st.booleans())


@given(intents)
def test_a_token_holds(intent: Intent) -> None:
    """What was sealed is read back, with the second at which it expires."""
    token = seal(intent, SIGNER)
    assert set(token) <= set(string.ascii_letters + string.digits + "-_")
    assert unseal(token, [SIGNER]) == intent


def test_a_token_is_compact() -> None:
    """A token of the documents' models takes about a hundred characters of a URL."""
    assert len(TOKEN) == 86


def test_the_secret_decides() -> None:
    """A token of another secret is foreign; any of several secrets lets its own tokens in."""
    assert unseal(TOKEN, [OTHER]) is None
    assert unseal(TOKEN, []) is None
    assert unseal(TOKEN, [OTHER, SIGNER]) == INTENT
    assert unseal(TOKEN, [SIGNER, OTHER]) == INTENT


def test_every_character_counts() -> None:
    """No other character may stand anywhere, those with unused bits at the end included."""
    alphabet = string.ascii_letters + string.digits + "-_+/=. \n\u00e9"
    for place, kept in enumerate(TOKEN):
        for other in set(alphabet) - {kept}:
            assert unseal(TOKEN[:place] + other + TOKEN[place + 1 :], [SIGNER]) is None


@pytest.mark.parametrize("token", ["", "A", "AAAAA", TOKEN[:-1], TOKEN + "A", TOKEN + "=", "a b"])
def test_no_token(token: str) -> None:
    """What is too short, too long or no base64 is no token."""
    assert unseal(token, [SIGNER]) is None


@given(st.text() | st.text(string.ascii_letters + string.digits + "-_", max_size=600))
def test_any_text(text: str) -> None:
    """No text at all makes an error, or an intent."""
    assert unseal(text, [SIGNER]) is None


def signed(payload: bytes) -> str:
    """Return a token of any payload, rightly signed."""
    return base64.urlsafe_b64encode(payload + SIGNER.sign(payload)).rstrip(b"=").decode()


def test_another_version() -> None:
    """A token of another version is none, even with this secret."""
    payload = base64.urlsafe_b64decode(TOKEN + "==")[:-32]
    assert signed(payload) == TOKEN
    assert unseal(signed(b"\x03" + payload[1:]), [SIGNER]) is None


def test_a_token_that_is_too_long() -> None:
    """What is longer than any token is not read, however rightly signed."""
    payload = base64.urlsafe_b64decode(TOKEN + "==")[:-32]
    fits, too_long = signed(payload + b"x" * 300), signed(payload + b"x" * 400)
    assert len(fits) <= LONGEST_TOKEN < len(too_long)
    assert unseal(fits, [SIGNER]) is not None
    assert unseal(too_long, [SIGNER]) is None


def test_no_model() -> None:
    """A payload that ends before its model is none."""
    payload = base64.urlsafe_b64decode(TOKEN + "==")[:-32]
    assert unseal(signed(payload[:21]), [SIGNER]) is None


def test_a_name_that_is_too_long() -> None:
    """A model whose token nobody would read is refused when it is sealed."""
    with pytest.raises(ValueError, match="400 characters"):
        seal(Intent(INTENT.id, "m" * 400, 1), SIGNER)
    longest = Intent(INTENT.id, "m" * 331, 1)
    token = seal(longest, SIGNER)
    assert len(token) == LONGEST_TOKEN
    assert unseal(token, [SIGNER]) == longest
    assert longest.kept is False


@pytest.mark.parametrize("intent_id", ["", "00", "zz" * 16, "AA" * 16, "00" * 17])
def test_an_id_that_is_none(intent_id: str) -> None:
    """An id of another length or alphabet is refused: it would be read back as another."""
    with pytest.raises(ValueError, match="32 hexadecimal"):
        seal(Intent(intent_id, "m", 1), SIGNER)


@pytest.mark.parametrize(
    ("now", "lifetime", "expected"), [(10.0, 5.0, 15), (10.2, 5.0, 16), (0.0, 1e300, 2**32 - 1)]
)
def test_expiry(now: float, lifetime: float, expected: int) -> None:
    """A token holds for at least its lifetime, in whole seconds that fit."""
    assert expiry(now, lifetime) == expected


def test_a_signer_shows_nothing() -> None:
    """A secret is in no repr, attribute, pickle or copy of what signs with it."""
    signer = Signer(SECRET)
    assert repr(signer) == "Signer(***)"
    assert not hasattr(signer, "__dict__")
    for attempt in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="secret"):
            attempt(signer)
    # The key itself is not the secret: not even the closure holds that.
    assert SECRET not in [cell.cell_contents for cell in _cells(signer)]


def _cells(signer: Signer) -> list[object]:
    (sign,) = [one for one in gc.get_referents(signer) if callable(one) and one is not Signer]
    return [*sign.__closure__]


def test_the_purpose_counts() -> None:
    """What else is signed with the secret is not what a token is signed with."""
    assert SIGNER.sign(b"text") != hmac.digest(SECRET, b"text", "sha256")


# --- shared files ----------------------------------------------------------------------------

FILE_SIGNER, OTHER_FILES = Signer(SECRET, FILES), Signer(b"another-secret-0123456789", FILES)
FILE = FileToken("ab" * 32, "0011223344556677", "png", 2_000)
NAME = seal_file(FILE, FILE_SIGNER)

files = st.builds(
    FileToken,
    st.binary(min_size=32, max_size=32).map(bytes.hex),
    st.binary(min_size=8, max_size=8).map(bytes.hex),
    st.sampled_from(["png", "jpg", "webp", "bin"]),
    st.integers(0, 2**32 - 1),
)


@given(files)
def test_the_name_of_a_file_holds(file: FileToken) -> None:
    """What was sealed is read back, and whose it is among several."""
    name = seal_file(file, FILE_SIGNER)
    assert name.startswith(f"apixo-file-{file.sha256}-")
    assert unseal_file(name, [OTHER_FILES, FILE_SIGNER]) == (file, 1)
    assert unseal_file(name, [OTHER_FILES]) is None
    assert unseal_file(name, []) is None


def test_every_character_of_a_name_counts() -> None:
    """No other character may stand anywhere: digest, token and type are all signed."""
    alphabet = string.ascii_letters + string.digits + "-_+/=. \n\0\u00e9"
    for place, kept in enumerate(NAME):
        for other in alphabet:
            if other != kept:
                forged = NAME[:place] + other + NAME[place + 1 :]
                assert unseal_file(forged, [FILE_SIGNER]) is None, forged
        assert unseal_file(NAME[:place], [FILE_SIGNER]) is None


@pytest.mark.parametrize(
    "forged", ["", NAME * 2, "/" + NAME, NAME + "\n", NAME + "\0", "a" * 10**6]
)
def test_what_is_no_name(forged: str) -> None:
    """Anything but the one spelling is no name."""
    assert unseal_file(forged, [FILE_SIGNER]) is None


def test_callbacks_and_files_have_keys_of_their_own() -> None:
    """A signer of callbacks makes no names of files, and the reverse."""
    assert unseal_file(seal_file(FILE, SIGNER), [FILE_SIGNER]) is None
    assert unseal(seal(INTENT, FILE_SIGNER), [SIGNER]) is None
