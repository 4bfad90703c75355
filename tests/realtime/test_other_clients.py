"""Programs of other people, in the words of their HTTP libraries, against the served simulator.

Each gets what the documentation promises, or a 4xx that says what is wrong.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import http.client
import json
import shutil
import socket
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest

from apixo_async.testing import Fault, Simulator, serve_thread

from ..support import naive_loops
from ..support.naive_loops import (
    BODY,
    BOTH,
    INPUT,
    JSON,
    KEY,
    MODEL,
    NODE,
    TEXT,
    environment,
    has_fetch,
    httpx,
    requests,
    run,
    talk,
)

with_requests = pytest.mark.skipif(requests is None, reason="requests is not installed")
with_httpx = pytest.mark.skipif(httpx is None, reason="httpx is not installed")
with_node = pytest.mark.skipif(not has_fetch(), reason="Node 18 or later is not installed")
with_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")

SUBMIT = f"/api/v1/generateTask/{MODEL}"
POLL = f"/api/v1/statusTask/{MODEL}"
BALANCE = "/api/v1/apikeys/current-balance"
SAMPLE = "task_12345678"  # the documentation's own, which can be polled without a submit

CALLBACK = {"request_type": "callback", "input": INPUT}
HOOK = "https://your-server.com/webhooks/apixo"

BETWEEN_POLLS = 3.0  # seconds
LASTS = 30.0  # seconds of each task
POLLS = 11  # of a loop that polls at once, and then every 3 s

Answer = tuple[int, Any]


@dataclass(frozen=True)
class Service:
    """A served simulator, and the base URL that callers are given."""

    simulator: Simulator
    url: str
    made: int  # tasks, before the test

    @property
    def base(self) -> str:
        """The base URL as the documentation has it."""
        return f"{self.url}/api/v1"

    @property
    def port(self) -> int:
        """The port of the URL."""
        return urllib.parse.urlsplit(self.url).port or 0

    def check(self, gets: str, status: int, envelope: Any) -> None:
        """Check an answer, and that only an accepted submit made a task.

        Args:
            gets: The HTTP status, and a part of the message; for 200, of what data holds.
            status: The HTTP status that came.
            envelope: The decoded body.
        """
        expected, _, part = gets.partition(" ")
        assert list(envelope) == ["code", "message", "data"]
        assert status == envelope["code"] == int(expected), envelope
        assert part in (json.dumps(envelope["data"]) if status == 200 else envelope["message"])
        assert status == 200 or envelope["data"] is None
        assert "test-key" not in envelope["message"]
        assert self.simulator.created - self.made == (gets == "200 taskId")


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[Simulator, str]]:
    """Serve a simulator whose clock each poll moves on, so that programs need not sleep."""
    simulator = Simulator(
        durations=LASTS,
        clock=lambda: BETWEEN_POLLS * simulator.count("poll"),
        longest_side=16,
    )
    with serve_thread(simulator) as url:
        yield simulator, url


@pytest.fixture
def service(served: tuple[Simulator, str]) -> Service:
    """Return it as this test finds it."""
    simulator, url = served
    return Service(simulator, url, simulator.created)


@pytest.fixture(autouse=True)
def bounded(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let no blocking socket wait for ever, and no proxy of this machine come between."""
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(30.0)
    yield
    socket.setdefaulttimeout(before)


def table(*rows: tuple[str, Any, str]) -> pytest.MarkDecorator:
    """Parametrize a test by name, what callers do, and what they get."""
    parameters = [pytest.param(how, gets, id=name) for name, how, gets in rows]
    return pytest.mark.parametrize(("how", "gets"), parameters)


# --- the naive loop --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "loop",
    [
        pytest.param(naive_loops.loop_of_requests, marks=with_requests),
        pytest.param(naive_loops.loop_of_httpx, marks=with_httpx),
        naive_loops.loop_of_aiohttp,
        pytest.param(naive_loops.loop_of_fetch, marks=with_node),
        naive_loops.loop_of_urllib,
        naive_loops.loop_of_http_client,
        naive_loops.loop_of_socket,
        pytest.param(naive_loops.loop_of_curl, marks=with_curl),
    ],
)
def test_a_naive_loop_gets_its_picture(
    service: Service, loop: Callable[[str], tuple[list[str], bytes]]
) -> None:
    """Submit, a poll every 3 s, and the file: one task, and not one request more."""
    before = service.simulator.count()
    states, content = loop(service.base)
    assert [*dict.fromkeys(states)] == ["pending", "processing", "success"]
    assert content.startswith(b"\x89PNG")
    assert len(states) == POLLS
    assert service.simulator.created - service.made == 1
    assert service.simulator.count() - before == 1 + POLLS + 1


async def test_a_client_for_each_task_gets_all_of_them(service: Service) -> None:
    """Twenty sessions at once, each with connections of its own, get twenty pictures."""
    each = (naive_loops.task_of_aiohttp(service.base) for _ in range(20))
    pictures = [content for _, content in await asyncio.gather(*each)]
    assert all(content.startswith(b"\x89PNG") for content in pictures)
    assert service.simulator.created - service.made == 20


# --- requests --------------------------------------------------------------------------------

Request = tuple[str, str, dict[str, Any]]


def submit(path: str = SUBMIT, **options: Any) -> Request:
    """Return a POST with these options of the library."""
    return "POST", path, options


def poll(path: str = POLL, **options: Any) -> Request:
    """Return a GET with these options of the library."""
    return "GET", path, options


def authorized(value: str) -> Request:
    """Return a request for the balance with this header."""
    return poll(BALANCE, headers={"Authorization": value})


NOT_READ = "is not a documented field"
ENCODED_TWICE = {"input": json.dumps(INPUT)}
COUNT_AS_TEXT = {"input": INPUT | {"num_images": "1"}}
TO_HTTP = CALLBACK | {"callback_url": "http://your-server.com/hook"}
IN_INPUT = CALLBACK | {"input": {"prompt": "p", "callback_url": HOOK}}


@with_requests
@table(
    ("JSON", submit(json=BODY), "200 taskId"),
    ("params", poll(params={"taskId": SAMPLE}), "200 state"),
    ("text without type", submit(data=TEXT), "400 application/json, and none came"),
    ("form", submit(data=BODY), "400 x-www-form-urlencoded; a form is not read"),
    ("multipart", submit(files={"input": "{}"}), "400 not multipart/form-data; a form is not read"),
    ("body twice", submit(json=TEXT), "400 must be a JSON object; it is a string: was it encoded"),
    ("input twice", submit(json=ENCODED_TWICE), "400 must be an object, not a string"),
    ("input alone", submit(json=INPUT), "400 must be an object; mode belongs in it"),
    ("repr", submit(data=str(BODY), headers=BOTH), "400 property name enclosed in double quotes"),
    ("count as text", submit(json=COUNT_AS_TEXT), "400 input.num_images: Input should be 1, 2"),
    ("no URL", submit(json=CALLBACK), "400 callback_url is required when request_type is callback"),
    ("webhook", submit(json=CALLBACK | {"webhook": HOOK}), f"400 URL (webhook {NOT_READ})"),
    ("webhook_url", submit(json=CALLBACK | {"webhook_url": HOOK}), f"400 (webhook_url {NOT_READ})"),
    # The documentation is silent on fields beside `input`. Callers find that no callback comes.
    ("webhook and polls", submit(json=BODY | {"webhook": HOOK}), "200 taskId"),
    ("taskId None", poll(params={"taskId": None}), "400 taskId is required in the query"),
    ("task_id", poll(params={"task_id": SAMPLE}), "400 task_id is another name"),
    ("poll with body", poll(json={"taskId": SAMPLE}), "400 the body of a poll is not read"),
    ("POST as poll", submit(POLL, json={"taskId": SAMPLE}), "405 takes GET, not POST, as /api/v1/"),
    ("unset key", authorized(f"Bearer {None}"), "401 a placeholder came in place of the key"),
)
def test_requests(service: Service, how: Request, gets: str) -> None:
    """What callers write with requests is accepted as documented, or refused with the reason."""
    method, path, options = how
    sent = {"headers": KEY, "timeout": 30} | options
    answer = requests.request(method, service.url + path, **sent)
    service.check(gets, answer.status_code, answer.json())


@with_requests
@pytest.mark.parametrize(
    ("base", "wrong"),
    [
        ("", "does not begin with /api/v1/"),
        ("/", "has an empty part ('//') and does not begin with /api/v1/"),
        ("/api/v1/", "has an empty part ('//')"),
        ("/v1", "does not begin with /api/v1/"),
        ("/api/v1/api/v1", "has /api/v1 twice"),
    ],
)
def test_a_path_behind_another_base_url_is_a_404_with_the_right_one(
    service: Service, base: str, wrong: str
) -> None:
    """A base URL that is just put before the documented paths has to be the documented one."""
    documented = "the documented path is /api/v1/generateTask/{model}"
    url = f"{service.url}{base}/generateTask/{MODEL}"
    answer = requests.post(url, headers=KEY, json=BODY, timeout=30)
    told = f"404 Not found: {documented}; this one {wrong}"
    service.check(told, answer.status_code, answer.json())


# --- httpx -----------------------------------------------------------------------------------

CHARSET = {"Content-Type": "application/json; charset=utf-8"}
WRONG_CASE = {"Content-Type": "Application/JSON"}
PACKED = JSON | {"Content-Encoding": "gzip"}


@with_httpx
@table(
    ("JSON", submit(json=BODY), "200 taskId"),
    ("params", poll(params={"taskId": SAMPLE}), "200 state"),
    ("by hand", poll(f"{POLL}?taskId=task%5F12345678"), "200 state"),
    ("charset", submit(content=TEXT, headers=CHARSET), "200 taskId"),
    ("wrong case", submit(content=TEXT, headers=WRONG_CASE), "200 taskId"),
    ("no type", submit(content=TEXT), "400 application/json, and none came"),
    ("form", submit(data=BODY), "400 a form is not read"),
    ("mark", submit(content=TEXT.encode("utf-8-sig"), headers=JSON), "400 a byte order mark"),
    ("UTF-16", submit(content=TEXT.encode("utf-16"), headers=JSON), "400 byte 0 is not UTF-8"),
    ("packed", submit(content=gzip.compress(b"{}"), headers=PACKED), "400 gzip is not documented"),
    ("empty", submit(headers=JSON), "400 request body is required, a JSON object with input"),
    ("slash at the end", submit(f"{SUBMIT}/", json=BODY), "404 this one ends with '/'"),
    ("no model", poll("/api/v1/statusTask", params={"taskId": SAMPLE}), "404 names no model"),
    ("taskId None", poll(params={"taskId": None}), "400 it came empty: the answer to the submit"),
    ("unknown task", poll(params={"taskId": "task_0"}), "404 no submit was answered with this"),
    ("lower case", authorized("bearer test-key"), "200"),
    ("Bearer twice", authorized("Bearer Bearer test-key"), "401 Bearer came twice"),
    ("no Bearer", authorized("test-key"), "401 header does not begin with 'Bearer '"),
)
def test_httpx(service: Service, how: Request, gets: str) -> None:
    """What callers write with httpx is accepted as documented, or refused with the reason."""
    method, path, options = how
    with httpx.Client(base_url=service.base, headers=KEY, timeout=30) as client:
        answer = client.request(method, path.removeprefix("/api/v1"), **options)
    service.check(gets, answer.status_code, answer.json())


# --- aiohttp ---------------------------------------------------------------------------------

WITH_OWNER = "/api/v1/generateTask/openai/gpt-image-1"


@table(
    ("JSON", submit(json=BODY), "200 taskId"),
    ("params", poll(params={"taskId": SAMPLE}), "200 state"),
    ("by hand", poll(f"{POLL}?taskId=task%5F12345678&t=1"), "200 state"),
    ("text", submit(data=TEXT), "400 must be application/json, not text/plain"),
    ("bytes", submit(data=TEXT.encode()), "400 must be application/json, not application/octet"),
    ("form", submit(data={"prompt": "p"}), "400 a form is not read"),
    ("closing", submit(json=BODY, headers={"Connection": "close"}), "200 taskId"),
    ("expecting", submit(json=BODY, expect100=True), "200 taskId"),
    ("packed", submit(json=BODY, compress="gzip"), "400 gzip is not documented"),
    ("no https", submit(json=TO_HTTP), "400 callback_url must be a public HTTPS URL"),
    ("URL in input", submit(json=IN_INPUT), "400 a public HTTPS URL beside input, not in it"),
    ("unknown model", submit("/api/v1/generateTask/happyHorse", json=BODY), "200 taskId"),
    ("owner of the model", submit(WITH_OWNER, json=BODY), "404 more than one part where the model"),
    ("no model's task", poll(f"/api/v1/statusTask/sora-2?taskId={SAMPLE}"), "404 Task not found"),
    ("other scheme", authorized("Token test-key"), "401 the Authorization header is Token"),
)
async def test_aiohttp(service: Service, how: Request, gets: str) -> None:
    """What callers write with aiohttp is accepted as documented, or refused with the reason."""
    method, path, options = how
    async with (
        aiohttp.ClientSession(headers=KEY) as session,
        session.request(method, service.url + path, **options) as answer,
    ):
        service.check(gets, answer.status, await answer.json())


# --- fetch -----------------------------------------------------------------------------------

ANSWER = """
const BODY = process.env.BODY, KEY = { Authorization: `Bearer ${process.env.KEY}` };
const BOTH = { ...KEY, "Content-Type": "application/json" };
const BASE = process.env.BASE, SUBMIT = `${BASE}/generateTask/gpt-image-1`;
const POLL = `${BASE}/statusTask/gpt-image-1`, made = { data: { taskId: "task_0" } };
const answer = await fetch(%s);
console.log(JSON.stringify([answer.status, await answer.json()]));
"""


def posted(body: str, headers: str = "KEY", url: str = "SUBMIT") -> str:
    """Return the arguments of a POST."""
    return f'{url}, {{ method: "POST", headers: {headers}, body: {body} }}'


SLASH = "`${BASE}//generateTask/gpt-image-1`"
NEW_URL = 'new URL("/generateTask/gpt-image-1", BASE)'
UNSET = "{ Authorization: `Bearer ${process.env.UNSET}` }"


@with_node
@table(
    ("JSON", posted("BODY", "BOTH"), "200 taskId"),
    ("no type", posted("BODY"), "400 must be application/json, not text/plain"),
    ("object", posted("{}", "BOTH"), "400 not valid JSON: Expecting value in line 1, column 2"),
    ("form", posted("new URLSearchParams({ prompt: 'p' })"), "400 a form is not read"),
    ("multipart", posted("new FormData()"), "400 not multipart/form-data; a form is not read"),
    ("no method", "SUBMIT, { headers: KEY }", "405 this path takes POST, not GET"),
    ("two slashes", posted("BODY", "BOTH", SLASH), "404 this one has an empty part ('//')"),
    ("new URL", posted("BODY", "BOTH", NEW_URL), "404 this one does not begin with /api/v1/"),
    ("unset key", posted("BODY", UNSET), "401 a placeholder came in place of the key"),
    ("no key", posted("BODY", "{}"), "401 no Authorization header came"),
    ("undefined", "`${POLL}?taskId=${made.taskId}`, { headers: KEY }", "404 taskId is undefined"),
    ("encoded", "POLL + encodeURIComponent('?taskId=1')", "404 has its '?' percent-encoded"),
)
def test_fetch(service: Service, how: str, gets: str) -> None:
    """What callers write with fetch is accepted as documented, or refused with the reason."""
    service.check(gets, *fetch(how, service.base))


def fetch(arguments: str, base: str) -> Answer:
    """Run fetch; return status and content."""
    status, envelope = json.loads(run(*NODE, ANSWER % arguments, **environment(base)))
    return status, envelope


# --- urllib ----------------------------------------------------------------------------------

QUERY = urllib.parse.urlencode({"taskId": SAMPLE})
QUOTED = POLL + urllib.parse.quote(f"?{QUERY}")
JOINED = urllib.parse.urljoin("/api/v1", f"generateTask/{MODEL}")


@table(
    ("JSON", submit(data=TEXT.encode(), headers=BOTH), "200 taskId"),
    ("no type", submit(data=TEXT.encode()), "400 not application/x-www-form-urlencoded"),
    ("urlencode", poll(f"{POLL}?{QUERY}"), "200 state"),
    ("quote", poll(QUOTED), "404 this one has its '?' percent-encoded"),
    ("data with GET", poll(data=b"{}"), "400 the body of a poll is not read"),
    ("key in the query", poll(f"{BALANCE}?api_key=1", headers={}), "401 a key in the query is not"),
    ("other header", poll(BALANCE, headers={"X-API-Key": "1"}), "401 header x-api-key is not read"),
    ("urljoin", submit(JOINED, data=b"{}"), "404 this one does not begin with /api/v1/"),
    ("other service", submit("/v1/images", data=b"{}"), "404 the documented paths are /api/v1/gen"),
)
def test_urllib(service: Service, how: Request, gets: str) -> None:
    """What callers write with urllib is accepted as documented, or refused with the reason."""
    method, path, options = how
    sent = {"headers": KEY, "method": method} | options
    request = urllib.request.Request(service.url + path, **sent)
    service.check(gets, *opened(request))


def opened(request: urllib.request.Request) -> Answer:
    """Open with urllib; return status and content."""
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


# --- http.client -----------------------------------------------------------------------------

LATIN = json.dumps(BODY, ensure_ascii=False)  # http.client encodes text as ISO 8859-1
QUOTED_KEY = {"Authorization": 'Bearer "test-key"'}
PIECES = [TEXT[:9].encode(), TEXT[9:].encode()]


@table(
    ("text", ("POST", SUBMIT, TEXT, BOTH), "200 taskId"),
    ("chunks", ("POST", SUBMIT, PIECES, BOTH), "200 taskId"),
    ("no type", ("POST", SUBMIT, TEXT, KEY), "400 application/json, and none came"),
    ("Latin", ("POST", SUBMIT, LATIN, BOTH), "400 is not UTF-8"),
    ("GET as submit", ("GET", SUBMIT, None, KEY), "405 this path takes POST, not GET"),
    ("PUT", ("PUT", SUBMIT, TEXT, BOTH), "405 this path takes POST, not PUT"),
    ("OPTIONS", ("OPTIONS", POLL, None, KEY), "405 this path takes GET, not OPTIONS"),
    ("DELETE", ("DELETE", BALANCE, None, KEY), "405 this path takes GET, not DELETE"),
    ("no slash", ("GET", POLL[1:], None, KEY), "404 does not begin with /api/v1/"),
    ("no path", ("POST", "", TEXT, BOTH), "404 the documented paths are /api/v1/generateTask"),
    ("no key", ("POST", SUBMIT, TEXT, JSON), "401 no Authorization header came"),
    ("quotes", ("GET", BALANCE, None, QUOTED_KEY), "401 there are quotes around the key"),
)
def test_http_client(service: Service, how: tuple[Any, ...], gets: str) -> None:
    """What callers write with http.client is accepted as documented, or refused with the reason."""
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", service.port)) as connection:
        connection.request(*how)
        answer = connection.getresponse()
        service.check(gets, answer.status, json.load(answer))


@pytest.mark.parametrize("path", [SUBMIT, POLL, BALANCE])
def test_a_head_has_no_body_but_names_the_method(service: Service, path: str) -> None:
    """HEAD is no call of the service: 405 with Allow. Of a file it is what GET is."""
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", service.port)) as connection:
        connection.request("HEAD", path, headers=KEY)
        answer = connection.getresponse()
        assert (answer.status, answer.read()) == (405, b"")
        assert answer.headers["Allow"] == ("POST" if path == SUBMIT else "GET")
        connection.request("HEAD", f"/results/{SAMPLE}/0.png")
        assert connection.getresponse().status == 200


# --- a socket --------------------------------------------------------------------------------

AT = "Host: localhost\r\n"
AUTHORIZED = "Authorization: Bearer test-key\r\n"
CLOSE = f"{AUTHORIZED}Connection: close\r\n"
TYPED = f"Content-Type: application/json\r\nContent-Length: {len(TEXT)}\r\n"
CHUNKED = (
    f"{AT}{CLOSE}Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    f"1\r\n{TEXT[0]}\r\n{len(TEXT) - 1:x}\r\n{TEXT[1:]}\r\n0\r\n"
)
NO_COLON = "Authorization Bearer test-key"
OTHER_HOST = "Host: api.apixo.ai\r\n"


@table(
    ("closing", f"POST {SUBMIT} HTTP/1.1\r\n{AT}{CLOSE}{TYPED}\r\n{TEXT}", "200 taskId"),
    ("HTTP/1.0", f"POST {SUBMIT} HTTP/1.0\r\n{AUTHORIZED}{TYPED}\r\n{TEXT}", "200 taskId"),
    ("chunks", f"POST {SUBMIT} HTTP/1.1\r\n{CHUNKED}\r\n", "200 taskId"),
    ("no host", f"GET {BALANCE} HTTP/1.1\r\n{CLOSE}\r\n", "400 Missing mandatory Host: header"),
    ("a space", f"GET {POLL} 1 HTTP/1.1\r\n{AT}{CLOSE}\r\n", "400 illegal request line"),
    ("no colon", f"GET {POLL} HTTP/1.1\r\n{AT}{NO_COLON}\r\n\r\n", "400 illegal header line"),
    ("TLS", "\x16\x03\x01\x02\x00\r\n\r\n", "400 Invalid HTTP request: "),
    ("URL", f"GET http://a{POLL} HTTP/1.1\r\n{AT}{CLOSE}\r\n", "404 does not begin with /api/v1/"),
    ("no path", f"OPTIONS * HTTP/1.1\r\n{AT}{CLOSE}\r\n", "404 the documented paths are /api/v1/"),
    ("other host", f"GET {BALANCE} HTTP/1.1\r\n{OTHER_HOST}{CLOSE}\r\n", "421 this simulator"),
    ("two keys", f"GET {BALANCE} HTTP/1.1\r\n{AT}{CLOSE}{AUTHORIZED}\r\n", "401 Bearer came twice"),
)
def test_socket(service: Service, how: str, gets: str) -> None:
    """What callers write into a socket is accepted as documented, or refused with the reason."""
    ((status, content),) = talk(service.port, how.encode("latin-1"))
    service.check(gets, status, json.loads(content))


def test_pipelined_requests_are_answered_in_their_order(service: Service) -> None:
    """Three requests that are sent at once get three answers."""
    one = f"GET %s HTTP/1.1\r\n{AT}{AUTHORIZED}"
    paths = (f"{POLL}?taskId={SAMPLE}", "/nothing", BALANCE)
    sent = "\r\n".join(one % path for path in paths) + "Connection: close\r\n\r\n"
    answers = talk(service.port, sent.encode())
    assert [status for status, _ in answers] == [200, 404, 200]
    assert json.loads(answers[0][1])["data"]["taskId"] == SAMPLE


def test_a_body_that_waits_for_a_100_is_asked_for(service: Service) -> None:
    """Expect: 100-continue is answered before the body comes, and the submit after it."""
    head = f"POST {SUBMIT} HTTP/1.1\r\n{AT}{CLOSE}{TYPED}Expect: 100-continue\r\n\r\n"
    with (
        socket.create_connection(("127.0.0.1", service.port)) as connection,
        connection.makefile("rb") as answers,
    ):
        connection.sendall(head.encode())
        assert answers.readline().startswith(b"HTTP/1.1 100 ")
        assert answers.readline() == b"\r\n"
        connection.sendall(TEXT.encode())
        assert answers.readline().startswith(b"HTTP/1.1 200 ")


# --- curl ------------------------------------------------------------------------------------

TYPE = ("-H", "Content-Type: application/json")
AUTH = ("-H", "Authorization: Bearer test-key")
SENT = (SUBMIT, *AUTH, *TYPE, "-d", TEXT)
NO_MODEL = ("/api/v1/generateTask", *SENT[1:])
ENCODE = ("-G", "--data-urlencode", f"taskId={SAMPLE}")


@with_curl
@table(
    ("as documented", ("-X", "POST", *SENT), "200 taskId"),
    ("get", (POLL, *AUTH, *ENCODE), "200 state"),
    ("HTTP/1.0", ("--http1.0", *SENT), "200 taskId"),
    ("upgrade", (*SENT, "-H", "Connection: Upgrade", "-H", "Upgrade: h2c"), "200 taskId"),
    ("chunked", (*SENT, "-H", "Transfer-Encoding: chunked"), "200 taskId"),
    ("expecting", (*SENT, "-H", "Expect: 100-continue"), "200 taskId"),
    ("no type", (SUBMIT, *AUTH, "-d", TEXT), "400 not application/x-www-form-urlencoded"),
    ("multipart", (SUBMIT, *AUTH, "-F", "prompt=p"), "400 not multipart/form-data"),
    ("lost quotes", (SUBMIT, *AUTH, *TYPE, "-d", "{input: {}}"), "400 in line 1, column 2"),
    ("data of a poll", (POLL, *AUTH, "-d", "taskId=1"), "405 this path takes GET, not POST"),
    ("quoted taskId", ("-g", f'{POLL}?taskId="1"', *AUTH), "404 quotes or spaces around taskId"),
    ("user", (BALANCE, "-u", "test-key:"), "401 the Authorization header is Basic"),
    ("unset key", (BALANCE, "-H", "Authorization: Bearer "), "401 no key follows Bearer"),
    ("sample key", (BALANCE, "-H", "Authorization: Bearer YOUR_API_KEY"), "401 a placeholder came"),
    ("other key", (BALANCE, "-H", "Authorization: Bearer x"), "401 no account has this key"),
    ("no model", NO_MODEL, "404 this one names no model"),
)
def test_curl(service: Service, how: tuple[str, ...], gets: str) -> None:
    """What callers write with curl is accepted as documented, or refused with the reason."""
    service.check(gets, *curl(*(service.url + one if one[0] == "/" else one for one in how)))


def curl(*arguments: str) -> Answer:
    """Run curl; return status and content."""
    content, _, status = run("curl", "-sS", "-w", "\n%{http_code}", *arguments).rpartition("\n")
    return int(status), json.loads(content)


# --- redirects, and the models that there are ------------------------------------------------


def followed_by_requests(url: str) -> Answer:
    """Follow with requests, which does it by default."""
    answer = requests.post(url, headers=KEY, json=BODY, timeout=30)
    return answer.status_code, answer.json()


def followed_by_httpx(url: str) -> Answer:
    """Follow with httpx."""
    answer = httpx.post(url, headers=KEY, json=BODY, timeout=30, follow_redirects=True)
    return answer.status_code, answer.json()


def followed_by_fetch(url: str) -> Answer:
    """Follow with fetch, which does it by default."""
    return fetch(posted("BODY", "BOTH"), url.removesuffix(f"/generateTask/{MODEL}"))


def followed_by_curl(url: str) -> Answer:
    """Follow with curl."""
    return curl("-L", url, *SENT[1:])


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize(
    "follow",
    [
        pytest.param(followed_by_requests, marks=with_requests),
        pytest.param(followed_by_httpx, marks=with_httpx),
        pytest.param(followed_by_fetch, marks=with_node),
        pytest.param(followed_by_curl, marks=with_curl),
    ],
)
def test_a_redirected_submit_buys_once_or_is_405(
    service: Service, follow: Callable[[str], Answer], status: int
) -> None:
    """After 307 and 308 the POST comes again; after the others a GET, whose 405 says why."""
    url = service.url + SUBMIT
    service.simulator.faults.submit(Fault.raw(status, headers={"location": url}))
    gets = "200 taskId" if status >= 307 else "405 after a redirect many clients send a POST again"
    service.check(gets, *follow(url))


def test_an_unknown_model_gets_the_known_ones() -> None:
    """A simulator that was given names of models has no other ones."""
    simulator = Simulator(models=(MODEL, "sora-2"))
    with serve_thread(simulator) as url:
        request = urllib.request.Request(f"{url}/api/v1/generateTask/gpt-9", TEXT.encode(), BOTH)
        told = "404 Model not found: gpt-9; there are gpt-image-1, sora-2"
        Service(simulator, url, 0).check(told, *opened(request))
