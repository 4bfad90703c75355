"""Requests that nobody but an attacker sends, as Hypothesis draws them."""

from __future__ import annotations

import base64
import gzip
import hmac
import json
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from hypothesis import strategies as st

from apixo_async.webhooks._tokens import Intent, Signer, seal

from .requests import BODY, METHODS, SECRET, Watched

LATEST: Final = 2**32 - 1
LONGEST: Final = 65_536  # bytes of a body
ID: Final = "5a" * 16
SIGNER: Final = Signer(SECRET.encode())
#: The same in each run, so that the requests are.
TOKEN: Final = seal(Intent(ID, "gpt-image-1", LATEST), SIGNER)
#: A right token of an intent that nobody here awaits: its parts may not serve another.
NEIGHBOUR: Final = seal(Intent("a5" * 16, "gpt-image-2", LATEST), SIGNER)


class Known(Watched):
    """A watched receiver whose open subscription has the known token."""

    async def open_known(self) -> None:
        """Open it."""
        inbox = self.receiver.inbox()
        self.subscription = inbox.open("gpt-image-1", 3_600.0, self.polls.append, intent_id=ID)

    @property
    def untouched(self) -> bool:
        """Whether nothing was passed on, and the same subscription is open."""
        return not self.told and [*self.receiver._subscriptions] == [ID]


# --- tokens ----------------------------------------------------------------------------------


def raw_of(token: str) -> bytes:
    """Return what a token says and its signature."""
    return base64.urlsafe_b64decode(token + "==")


def spelled(raw: bytes) -> str:
    """Return bytes as a token spells them."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


RAW: Final = raw_of(TOKEN)
PAYLOAD: Final = RAW[:-32]
PLACES: Final = st.integers(0, len(RAW) - 1)
LETTERS: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


def flipped(bit: int) -> str:
    """Return the token with one bit of its bytes changed."""
    raw = bytearray(RAW)
    raw[bit // 8] ^= 1 << bit % 8
    return spelled(bytes(raw))


def sealed(payload: bytes, signer: Signer = SIGNER) -> str:
    """Return any bytes, signed."""
    return spelled(payload + signer.sign(payload))


#: Other spellings of the same bytes, and of the same letters.
RESPELLED: Final = [
    *(TOKEN[:-1] + letter for letter in LETTERS if letter != TOKEN[-1]),
    *(TOKEN + more for more in ("=", "==", ".", "\n", "\0", " ", ";a=1", "%", "\u200b")),
    *(more + TOKEN for more in (" ", "=", "\ufeff", "Bearer ")),
    TOKEN.swapcase(),
    TOKEN[:40] + "\n" + TOKEN[40:],
    "".join(chr(ord(letter) + 0xFEE0) for letter in TOKEN),
    "".join(f"%{ord(letter):02X}" for letter in TOKEN),  # Encoded once more below.
    base64.b85encode(RAW).decode(),
    RAW.hex(),
    PAYLOAD.hex(),
    TOKEN * 2,
    TOKEN * 20,
]
#: Signed with the right secret, and still none: another version, stale, nothing in it.
SIGNED: Final = [
    *(sealed(bytes([version]) + PAYLOAD[1:]) for version in (0, 3, 127, 255)),
    *(seal(Intent("b6" * 16, "gpt-image-1", second), SIGNER) for second in (0, 1, 1_700_000_000)),
    *(sealed(PAYLOAD[:length]) for length in (0, 1, 20, 21)),
]
#: Signed otherwise.
UNSIGNED: Final = [
    spelled(PAYLOAD),
    *(spelled(PAYLOAD + mac) for mac in (bytes(32), b"\xff" * 32, RAW[-32:-16], RAW[:32])),
    *(spelled(PAYLOAD + hmac.digest(SECRET.encode(), PAYLOAD, name)) for name in ("sha256", "md5")),
]
FOREIGN: Final = st.builds(
    sealed,
    st.just(PAYLOAD) | st.binary(max_size=80),
    (st.binary(max_size=40) | st.sampled_from([SECRET.upper().encode(), SECRET[1:].encode()]))
    .filter(lambda key: key.rstrip(b"\0") != SECRET.encode())
    .map(Signer),
)
FORGED: Final = st.one_of(
    st.integers(0, 8 * len(RAW) - 1).map(flipped),
    PLACES.map(lambda end: spelled(RAW[:end])),
    PLACES.map(lambda start: spelled(RAW[start + 1 :])),
    st.builds(lambda at, more: spelled(RAW[:at] + more + RAW[at:]), PLACES, st.binary(min_size=1)),
    st.builds(lambda at: spelled(RAW[:at] + raw_of(NEIGHBOUR)[at:]), st.integers(6, len(RAW) - 1)),
    st.builds(lambda at: spelled(raw_of(NEIGHBOUR)[:at] + RAW[at:]), st.integers(6, len(RAW) - 1)),
    *map(st.sampled_from, (RESPELLED, SIGNED, UNSIGNED)),
    FOREIGN,
    st.text(LETTERS, max_size=600),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=60),
).filter(lambda token: token.rpartition("/")[2] not in (TOKEN, NEIGHBOUR))
#: What a path may hold that does not end with the token.
CLIMBED: Final = st.sampled_from(
    [
        *(f"{TOKEN}{end}" for end in ("/", "//", "/.", "/..", "/%2e%2e", "%2f", "%2F..", "%00")),
        *(f"{start}{TOKEN}/x" for start in ("../", "%2e%2e/", "./", "/", "x/../")),
        *("", "/", "..", "%2e", "%", "%zz", "%ff%fe", "..%5c" + TOKEN, f"%20{TOKEN}"),
    ]
)
WRONG: Final = FORGED.map(lambda token: quote(token, safe="")) | CLIMBED


# --- bodies ----------------------------------------------------------------------------------


def is_object(body: bytes) -> bool:
    """Say whether somebody could read a JSON object out of this."""
    try:
        return isinstance(json.loads(body.decode("utf-8-sig", "replace")), dict)
    except (ValueError, RecursionError):
        return False


DEPTHS: Final = st.integers(1, 9_000)
UNREADABLE: Final = st.one_of(
    st.binary(max_size=200).filter(lambda body: not is_object(body)),
    st.integers(0, len(BODY) - 1).map(lambda end: BODY[:end]),
    st.builds(lambda depth, part: part * depth, DEPTHS, st.sampled_from([b"[", b'{"a":'])),
    DEPTHS.map(lambda depth: b"[" * depth + b"]" * depth),
    st.integers(1, 20_000).map(lambda digits: b"9" * digits),
    st.sampled_from(["utf-16", "utf-32", "cp037"]).map(lambda name: BODY.decode().encode(name)),
    st.sampled_from([b"{}", b'{"Code":200}', b'{"data":{"taskId":null}}', b'{"data":"task_1"}']),
    st.sampled_from(
        [b"null", b"NaN", b"1e999", b"code=200", b"<!DOCTYPE x>", BODY * 2, BODY + b"x"]
    ),
    st.sampled_from([LONGEST - 1, LONGEST]).map(lambda size: b"x" * size),
    st.sampled_from([LONGEST + 1, LONGEST + 5_000]).map(BODY.ljust),
    st.just(gzip.compress(BODY, mtime=0)),
)

_ANY: Final = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=9)
    | st.just(10**400),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=6,
)
_DATA: Final = _ANY | st.fixed_dictionaries(
    {},
    optional={
        "taskId": st.sampled_from(["task_1", "task_2", " a b ", "\ud800", "../x", "x" * 300])
        | _ANY,
        "state": st.sampled_from(["success", "failed"]) | _ANY,
        "resultJson": st.just('{"resultUrls":["https://evil.example.com/x.png"]}') | _ANY,
        "failCode": _ANY,
    },
)
#: Readable, whatever it says; some say it twice.
ODD: Final = st.one_of(
    st.builds(lambda code, data: json.dumps({"code": code, "data": data}).encode(), _ANY, _DATA),
    st.builds(
        lambda first, last: b'{"code":1,"data":%s,"code":null,"data":%s}' % (first, last),
        _DATA.map(lambda data: json.dumps(data).encode()),
        _DATA.map(lambda data: json.dumps(data).encode()),
    ),
    st.sampled_from([BODY.ljust(LONGEST), b"\xef\xbb\xbf" + BODY, BODY[:-3] + b"\xff" + BODY[-3:]]),
)


# --- requests --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Attack:
    """A request that is no callback, as its token or its method is wrong."""

    method: str
    path: str
    body: bytes
    headers: tuple[tuple[str, str], ...]
    size: int  # of the parts in which its body comes

    @property
    def parts(self) -> list[bytes]:
        """The body in parts, few enough to be sent in no time."""
        size = max(self.size, len(self.body) // 20 + 1)
        return [self.body[at : at + size] for at in range(0, len(self.body), size)]


OTHERS: Final = [name for name in METHODS if name != "POST"] + ["TRACE", "PROPFIND", "BREW"]
HEADERS: Final = st.lists(
    st.sampled_from(
        [
            *(("Content-Type", kind) for kind in ("application/json", "text/plain", "\xe9;=")),
            *(("X-HTTP-Method-Override", "POST"), ("X-Forwarded-For", "127.0.0.1")),
            *(("Authorization", f"Bearer {TOKEN}"), ("Cookie", f"token={TOKEN}")),
            *(
                ("X-Original-URL", f"/apixo/{TOKEN}"),
                ("Forwarded", "for=_x;host=a"),
                ("X", "x" * 3_000),
            ),
        ]
    ),
    max_size=3,
    unique_by=lambda header: header[0],
).map(tuple)
SIZES: Final = st.integers(1, 3_000)
ANY_BODY: Final = UNREADABLE | ODD
ATTACKS: Final = st.one_of(
    st.builds(Attack, st.just("POST"), WRONG, ANY_BODY, HEADERS, SIZES),
    st.builds(Attack, st.sampled_from(OTHERS), WRONG | st.just(TOKEN), ANY_BODY, HEADERS, SIZES),
)


def request_of(attack: Attack, framing: str) -> list[bytes]:
    """Return the bytes of a request, in the parts in which they are sent."""
    lines = [f"{attack.method} /apixo/{attack.path} HTTP/1.1", "Host: app.example.com"]
    lines += [f"{name}: {value}" for name, value in attack.headers]
    length = f"Content-Length: {len(attack.body)}"
    chunks = [b"%x\r\n%s\r\n" % (len(part), part) for part in attack.parts]
    said, parts = {
        "length": (length, attack.parts),
        "chunked": ("Transfer-Encoding: chunked", [*chunks, b"0\r\n\r\n"]),
        "both": (f"{length}\r\nTransfer-Encoding: chunked", [*chunks, b"0\r\n\r\n"]),
        "too short": ("Content-Length: 1", attack.parts),
        "too long": (f"Content-Length: {len(attack.body) + 9}", attack.parts),
        "no number": ("Content-Length: +7", attack.parts),
        "none": ("Connection: close", attack.parts),
    }[framing]
    head = "\r\n".join([*lines, said, "", ""]).encode("latin-1")
    return [head, *parts]


FRAMINGS: Final = ["length", "chunked", "both", "too short", "too long", "no number", "none"]
#: What is sent as it says is answered; what lies may lose its connection instead.
HONEST: Final = ("length", "chunked")
