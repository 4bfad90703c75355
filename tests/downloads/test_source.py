"""One URL: what is sent, and where a redirect may lead."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable

import httpx2
import pytest

from apixo_async._downloads.source import Again, Reachable, Source, failure, read_url, shown
from apixo_async.errors import DownloadError

TIMEOUTS = {"connect": 1.0, "read": 2.0, "write": 3.0, "pool": 4.0}

Handler = Callable[[httpx2.Request], httpx2.Response]


class Server(httpx2.AsyncBaseTransport):
    """Answer by a function, and keep the requests and the answers."""

    def __init__(self, handler: Handler) -> None:
        self.handler = handler
        self.requests: list[httpx2.Request] = []
        self.answers: list[httpx2.Response] = []

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Answer one request."""
        self.requests.append(request)
        self.answers.append(self.handler(request))
        return self.answers[-1]


def source(server: Server, *, base: str = "https://api.apixo.ai") -> Source:
    """Return a source in front of a server, for a client of this base URL."""
    reachable = Reachable.beside(base, in_process=False)
    return Source(server, user_agent="ua/1", timeouts=TIMEOUTS, reachable=reachable)


def redirects(*hops: str, status: int = 302) -> Server:
    """Return a server which leads from hop to hop, and answers 200 at the last."""
    rest = list(hops)

    def answer(_: httpx2.Request) -> httpx2.Response:
        if not rest:
            return httpx2.Response(200, content=b"here")
        headers = {"location": rest.pop(0), "set-cookie": "a=b; Domain=example.com"}
        return httpx2.Response(status, headers=headers)

    return Server(answer)


async def landing(server: Server, first: str, *, base: str = "https://api.apixo.ai") -> str:
    """Return the URL that was asked last, when the source has followed its way from the first."""
    async with source(server, base=base).ask(first, {}) as response:
        assert response.status_code == 200
    return str(server.requests[-1].url)


async def test_a_request_says_no_more_than_it_must() -> None:
    """Neither key nor cookie nor referrer is sent, on the first hop or on any other."""
    server = redirects("/b", "https://other.example/c")
    async with source(server).ask("https://u:p@cdn.example/a?sig=1", {"Range": "bytes=5-"}):
        pass
    assert len(server.requests) == 3
    for request in server.requests:
        assert request.method == "GET"
        assert dict(request.headers) == {
            "host": request.url.host,
            "accept": "*/*",
            "accept-encoding": "identity",
            "user-agent": "ua/1",
            "range": "bytes=5-",
        }
        assert request.extensions["timeout"] == TIMEOUTS


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_five_redirects_are_followed(status: int) -> None:
    """Each kind of redirect is followed, up to five in a row, relative ones too."""
    server = redirects("/1", "2", "//b.example/3", "https://c.example/4", "?5", status=status)
    assert await landing(server, "https://a.example/0") == "https://c.example/4?5"


async def test_a_sixth_redirect_is_not_followed() -> None:
    """A chain of more than five redirects ends in an error, without its signed parts."""
    server = redirects(*(f"/{number}?sig=secret" for number in range(6)))
    with pytest.raises(DownloadError, match="more than 5 times") as caught:
        await landing(server, "https://a.example/0?sig=secret")
    assert "secret" not in str(caught.value)
    assert len(server.requests) == 6


async def test_every_answer_is_closed() -> None:
    """Redirects and the answer itself are closed, also when the caller fails."""
    server = redirects("/1")
    with pytest.raises(KeyError):
        async with source(server).ask("https://a.example/0", {}):
            raise KeyError
    assert [answer.is_closed for answer in server.answers] == [True, True]


async def test_an_answer_that_does_not_close_is_left_in_bounded_time() -> None:
    """A transport that hangs while it closes holds a download for five seconds only."""

    class Sticky(httpx2.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            yield b""

        async def aclose(self) -> None:
            await asyncio.Event().wait()

    server = Server(lambda _: httpx2.Response(200, stream=Sticky()))
    began = asyncio.get_running_loop().time()
    await landing(server, "https://a.example/0")
    assert asyncio.get_running_loop().time() == began + 5


@pytest.mark.parametrize(
    ("location", "words"),
    [
        ("http://b.example/", "plain http"),
        ("file:///etc/passwd", "http or https only"),
        ("data:image/png;base64,AA", "http or https only"),
        ("http://", "http or https only"),
        ("https://b.example:port/", "no URL"),
        (":https://[:a:b", "no URL"),
        ("", "nowhere"),
    ],
)
async def test_a_redirect_to_what_is_not_served_is_refused(location: str, words: str) -> None:
    """Redirects lead to http and https only, and never from https to http."""
    server = redirects(location)
    with pytest.raises(DownloadError, match=words):
        await landing(server, "https://a.example/0")
    assert len(server.requests) == 1


async def test_http_may_become_https() -> None:
    """A redirect to the encrypted form is followed."""
    assert await landing(redirects("https://a.example/"), "http://a.example/") == (
        "https://a.example/"
    )


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "10.0.0.8", "localhost"])
async def test_no_service_elsewhere_leads_to_a_private_address(host: str) -> None:
    """An address of the own machine or network is refused, at first and after a redirect."""
    server = redirects(f"https://{host}/latest")
    with pytest.raises(DownloadError, match="is not asked"):
        await landing(server, "https://cdn.example/a")
    assert len(server.requests) == 1
    with pytest.raises(DownloadError, match="is not asked"):
        await landing(server, f"http://{host}/admin")
    assert len(server.requests) == 1


async def test_a_service_on_loopback_may_lead_to_loopback() -> None:
    """A simulator on loopback has its results there."""
    then = "http://localhost:9000/b"
    first, base = "http://127.0.0.1:8000/", "http://127.0.0.1:8000"
    assert await landing(redirects(then), first, base=base) == then


async def test_link_local_addresses_are_never_asked() -> None:
    """Where clouds keep their credentials no result is looked for, not even at first."""
    server = redirects()
    with pytest.raises(DownloadError, match="is a link-local address"):
        await landing(server, "http://169.254.169.254/latest/meta-data")
    assert server.requests == []


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("ftp://cdn.example/a?sig=secret", "ftp: URL with host 'cdn.example'"),
        ("data:image/png;base64,secret", "data: URL"),
        ("/just/a/path?secret", "no: URL"),
        ("https:///a?secret", "host ''"),
        ("https://a.example:port/secret", "cannot be read"),
    ],
)
async def test_a_url_of_another_scheme_is_refused(url: str, words: str) -> None:
    """Only http and https URLs with a host are asked; what is wrong is named, not more."""
    server = redirects()
    with pytest.raises(DownloadError, match=re.escape(words)) as caught:
        await landing(server, url)
    assert "secret" not in str(caught.value)
    assert server.requests == []


def test_a_url_is_shown_without_its_secrets() -> None:
    """User, password, query and fragment stay out of messages."""
    assert shown(read_url("https://u:p@cdn.example:8443/a%20b?sig=1#x")) == (
        "https://cdn.example:8443/a%20b"
    )


@pytest.mark.parametrize(
    "exc",
    [
        httpx2.ConnectError("refused"),
        httpx2.ReadTimeout("slow"),
        httpx2.RemoteProtocolError("peer closed connection"),
        ConnectionResetError("reset"),
        TimeoutError(),
        EOFError("early"),
        Exception("of a stack that nobody knows"),
    ],
)
async def test_what_may_pass_is_tried_again(exc: Exception) -> None:
    """Failures of the network, and of stacks that are not known, are for another try."""

    def fail(_: httpx2.Request) -> httpx2.Response:
        raise exc

    with pytest.raises(Again) as caught:
        await landing(Server(fail), "https://a.example/")
    assert caught.value.__cause__ is exc
    assert type(exc).__name__ in str(caught.value)


@pytest.mark.parametrize(
    "exc",
    [
        httpx2.UnsupportedProtocol("gopher"),
        httpx2.LocalProtocolError("bad header"),
        RuntimeError("the transport is closed"),
        TypeError("a defect"),
    ],
)
async def test_what_no_repeat_can_mend_ends_at_once(exc: Exception) -> None:
    """Wrong requests and defects of a transport are errors at the first try."""

    def fail(_: httpx2.Request) -> httpx2.Response:
        raise exc

    with pytest.raises(DownloadError, match=type(exc).__name__) as caught:
        await landing(Server(fail), "https://a.example/")
    assert caught.value.__cause__ is exc


def test_a_foreign_message_is_shown_without_queries() -> None:
    """What another stack says of a URL does not spread its signature."""
    told = str(failure(OSError("cannot reach https://a.example/b?sig=secret now")))
    assert told == "OSError: cannot reach https://a.example/b?... now"
