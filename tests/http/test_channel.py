from __future__ import annotations

import asyncio
import traceback
from collections.abc import Awaitable, Callable

import httpx2
import pytest

from apixo_async import ConfigurationError, Timeouts
from apixo_async._config import Secret
from apixo_async._http.channel import (
    Channel,
    Unanswered,
    build_transport,
    check_transport,
    is_phase_aware,
)
from apixo_async._http.exchange import LONGEST_ANSWER, SENDING, Incoming, Outgoing, SendExchange

DATE = "Wed, 21 Oct 2026 07:28:00 GMT"
BASE = "https://api.apixo.ai/api/v1"
Handler = Callable[[httpx2.Request], Awaitable[httpx2.Response]]


class Scripted(httpx2.AsyncBaseTransport):
    """A transport that does what the test says."""

    def __init__(self, handler: Handler) -> None:
        self.handler = handler
        self.requests: list[httpx2.Request] = []

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        self.requests.append(request)
        return await self.handler(request)


class Aware(Scripted):
    phase_aware = True


class Own(httpx2.AsyncBaseTransport):
    """A transport with a way of its own."""

    phase_aware = True

    def __init__(self, error: Exception | None, status: int | None = None) -> None:
        self.error = error
        self.status = 429 if error is None else status
        self.seen: list[Outgoing] = []

    def exchange_with(self, base_url: str, timeouts: Timeouts) -> SendExchange:
        assert (base_url, timeouts.exchange) == (BASE, 20.0)
        return self.exchange

    async def exchange(self, request: Outgoing, answer: Incoming) -> None:
        self.seen.append(request)
        request.phase.begin_sending()
        if self.status is not None:
            answer.status, answer.retry_after, answer.date = self.status, "7", DATE
            answer.take(b"a")
            answer.take(b"b")
        if self.error is not None:
            raise self.error


class Body(httpx2.AsyncByteStream):
    """A body of chunks, some of which are errors."""

    def __init__(self, *chunks: bytes | Exception) -> None:
        self.chunks = chunks
        self.closed = False

    async def __aiter__(self):  # type: ignore[no-untyped-def]  # an async generator of bytes
        for chunk in self.chunks:
            if isinstance(chunk, Exception):
                raise chunk
            yield chunk

    async def aclose(self) -> None:
        self.closed = True


def channel(transport: httpx2.AsyncBaseTransport) -> Channel:
    """Return a channel over a transport."""
    return Channel(
        transport,
        base_url=BASE,
        key=Secret("canary"),
        timeouts=Timeouts(exchange=20.0),
        user_agent="apixo-async/1",
    )


def answering(status: int = 200, *chunks: bytes | Exception, **headers: str) -> Handler:
    """Return a handler that answers."""

    async def handler(_: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(status, headers=headers, stream=Body(*chunks))

    return handler


def raising(error: BaseException, *, sending: bool = False) -> Handler:
    """Return a handler that raises, before or after it says that it sends."""

    async def handler(request: httpx2.Request) -> httpx2.Response:
        if sending:
            request.extensions[SENDING]()
        raise error

    return handler


async def test_request_on_the_wire() -> None:
    """A POST carries the key, JSON and nothing of httpx2's own; a GET has no body."""
    transport = Scripted(answering(200, b"{}"))
    await channel(transport).post("/generateTask/m", b'{"a": 1}')
    await channel(transport).get("/statusTask/m?taskId=a%2Fb")
    post, get = transport.requests
    assert str(post.url) == f"{BASE}/generateTask/m"
    assert post.headers["authorization"] == "Bearer canary"
    assert post.headers["content-type"] == "application/json"
    assert post.headers["user-agent"] == "apixo-async/1"
    assert (post.content, post.headers["content-length"]) == (b'{"a": 1}', "8")
    assert get.url.raw_path == b"/api/v1/statusTask/m?taskId=a%2Fb"
    assert "content-type" not in get.headers
    assert get.extensions["timeout"]["read"] == 60.0


async def test_answer() -> None:
    """Status, body and `Retry-After` of an answer are read, and its stream is closed."""
    body = Body(b"ab", b"c")

    async def handler(_: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(429, headers={"Retry-After": "7"}, stream=body)

    answer = await channel(Scripted(handler)).get("/x")
    assert (answer.status, answer.body, answer.retry_after) == (429, b"abc", 7.0)
    assert body.closed


async def test_broken_body_keeps_what_came() -> None:
    """When the body breaks off, its status and beginning are the answer."""
    answer = await channel(Scripted(answering(200, b'{"co', httpx2.ReadError("reset")))).get("/x")
    assert (answer.status, answer.body) == (200, b'{"co')


async def test_endless_body_is_cut() -> None:
    """A body of a hundred times the longest answer is cut, not read into memory."""
    answer = await channel(Scripted(answering(200, *([b"x" * 65_536] * 1_000)))).get("/x")
    assert len(answer.body) == LONGEST_ANSWER


ERRORS = [
    httpx2.ConnectError("refused"),
    httpx2.ConnectTimeout("slow"),
    httpx2.ReadError("reset"),
    httpx2.RemoteProtocolError("garbage"),
    OSError(24, "too many open files"),
    RuntimeError("a foreign defect which prints Bearer canary"),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("sending", [False, True], ids=["before", "after"])
async def test_phase_decides_not_the_class(error: Exception, sending: bool) -> None:
    """Whatever is raised, only a transport that marks the first byte says "never sent"."""
    for cls, maybe_sent in ((Aware, sending), (Scripted, True)):
        with pytest.raises(Unanswered) as caught:
            await channel(cls(raising(error, sending=sending))).post("/x", b"{}")
        assert caught.value.maybe_sent is maybe_sent
        assert caught.value.timed_out is isinstance(error, httpx2.ConnectTimeout)


@pytest.mark.parametrize("kind", [Scripted, Aware])
async def test_what_is_prevented_is_not_sent(kind: type[Scripted]) -> None:
    """Whether a transport tells when it sends or not: before it does, the caller may prevent it."""
    reason = ConfigurationError("not now")

    def prevent() -> None:
        raise reason

    async def handler(request: httpx2.Request) -> httpx2.Response:
        if kind is Aware:
            request.extensions[SENDING]()
        return httpx2.Response(200)

    transport = kind(handler)
    for send in (
        lambda: channel(transport).post("/x", b"{}", prevent),
        lambda: channel(transport).get("/x", prevent),
    ):
        with pytest.raises(Unanswered) as caught:
            await send()
        assert caught.value.prevented is reason
        assert not caught.value.maybe_sent
    assert len(transport.requests) == (2 if kind is Aware else 0)


async def test_a_transport_that_says_that_it_tells_and_does_not() -> None:
    """Once it has sent something without telling, nothing that it does not tell is phase_aware."""
    ends: list[Exception | httpx2.Response] = [
        ERRORS[0],
        httpx2.Response(200, content=b"{}"),
        ERRORS[0],
    ]

    async def answer(_: httpx2.Request) -> httpx2.Response:
        end = ends.pop(0)
        if isinstance(end, Exception):
            raise end
        return end

    one, sent = channel(Aware(answer)), []
    for _ in range(3):
        try:
            await one.post("/x", b"{}")
        except Unanswered as failure:
            sent.append(failure.maybe_sent)
    assert sent == [False, True]


async def test_foreign_exception_stays_out() -> None:
    """Neither the words nor the context of a foreign exception leave the seam."""
    with pytest.raises(Unanswered) as caught:
        await channel(Aware(raising(ERRORS[-1]))).post("/x", b"{}")
    shown = "".join(
        traceback.TracebackException.from_exception(caught.value, capture_locals=True).format()
    )
    assert "canary" not in shown
    assert caught.value.__context__ is None


async def test_no_frame_of_an_error_holds_the_key() -> None:
    """The locals of the frames that an error passed hold no header, whatever way it took."""
    with pytest.raises(Unanswered) as caught:
        await channel(Own(ERRORS[0])).get("/x")
    shown = "".join(
        traceback.TracebackException.from_exception(caught.value, capture_locals=True).format()
    )
    assert "canary" not in shown
    assert "_answered" in shown


async def test_own_way_of_a_transport() -> None:
    """A transport with a way of its own is asked for nothing else; what it filled in is read."""
    transport = Own(None)
    answer = await channel(transport).post("/x", b"{}")
    assert (answer.status, answer.body, answer.retry_after) == (429, b"ab", 7.0)
    assert answer.date == 1_792_567_680.0
    assert await channel(transport).get("/y") == answer
    post, get = transport.seen
    assert (post.method, post.path, post.body) == ("POST", "/x", b"{}")
    assert (get.method, get.path, get.body) == ("GET", "/y", None)
    assert dict(post.headers) == {
        b"Accept": b"application/json",
        b"Accept-Encoding": b"identity",
        b"User-Agent": b"apixo-async/1",
        b"Authorization": b"Bearer canary",
        b"Content-Type": b"application/json",
    }
    assert b"Content-Type" not in dict(get.headers)


async def test_what_came_before_the_end_is_kept() -> None:
    """A way of its own that ends early leaves an answer once its status has come."""
    answer = await channel(Own(httpx2.ReadError("reset"), status=200)).post("/x", b"{}")
    assert (answer.status, answer.body) == (200, b"ab")


async def test_exchange_is_bounded() -> None:
    """A transport that ignores timeouts is ended by the bound of the exchange."""
    start = asyncio.get_running_loop().time()

    async def hang(_: httpx2.Request) -> httpx2.Response:
        await asyncio.get_running_loop().create_future()
        raise AssertionError

    with pytest.raises(Unanswered) as caught:
        await channel(Aware(hang)).post("/x", b"{}")
    assert caught.value.timed_out
    assert asyncio.get_running_loop().time() - start == pytest.approx(20.0)


def test_which_transports_tell() -> None:
    """httpx2's own transport tells, a subclass of it and a mock do not unless they say so."""

    class Sub(httpx2.AsyncHTTPTransport):
        pass

    assert is_phase_aware(httpx2.AsyncHTTPTransport())
    assert is_phase_aware(build_transport(BASE, proxy="", verify=True))
    assert is_phase_aware(Aware(answering()))
    assert not is_phase_aware(Sub())
    assert not is_phase_aware(httpx2.MockTransport(lambda _: httpx2.Response(200)))


def test_transports_of_other_libraries() -> None:
    """A transport of httpx 0.x gets words of its own, anything else its name."""
    transport = httpx2.MockTransport(lambda _: httpx2.Response(200))
    assert check_transport(transport) is transport
    old = type("AsyncHTTPTransport", (), {"__module__": "httpx._transports.default"})
    with pytest.raises(ConfigurationError, match=r"httpx 0\.x; this client runs on httpx2"):
        check_transport(old())
    with pytest.raises(ConfigurationError, match=r"it is an httpx2\.AsyncBaseTransport"):
        check_transport(httpx2.AsyncClient())


def test_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy comes from the argument, else from the environment; "" means none at all."""
    import httpcore2

    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)

    def pool(proxy: str | None, url: str = BASE) -> type:
        return type(build_transport(url, proxy=proxy, verify=True)._pool)

    assert pool(None) is httpcore2.AsyncConnectionPool
    assert pool("http://127.0.0.1:3128") is httpcore2.AsyncHTTPProxy
    monkeypatch.setenv("https_proxy", "127.0.0.1:3128")
    assert pool(None) is httpcore2.AsyncHTTPProxy
    assert pool("") is httpcore2.AsyncConnectionPool
    monkeypatch.setenv("no_proxy", "api.apixo.ai")
    assert pool(None) is httpcore2.AsyncConnectionPool
    with pytest.raises(ConfigurationError, match="proxy"):
        pool("gopher://127.0.0.1")


@pytest.mark.parametrize("base", ["http://127.0.0.1:8000", "http://localhost", "http://[::1]:9"])
def test_no_proxy_gets_what_goes_to_this_machine(
    base: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Plain http to loopback takes no proxy of the environment, and none of another machine."""
    import httpcore2

    monkeypatch.setenv("http_proxy", "http://10.0.0.1:3128")
    monkeypatch.setenv("all_proxy", "http://10.0.0.1:3128")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    built = build_transport(base, proxy=None, verify=True)
    assert type(built._pool) is httpcore2.AsyncConnectionPool
    with pytest.raises(ConfigurationError, match="the key in the clear"):
        build_transport(base, proxy="http://10.0.0.1:3128", verify=True)
    built = build_transport(base, proxy="http://127.0.0.1:3128", verify=True)
    assert type(built._pool) is httpcore2.AsyncHTTPProxy


@pytest.mark.parametrize(
    "proxy",
    [
        "gopher://user:hunter22@127.0.0.1",
        "http://user:hun/ter22@127.0.0.1",
        "user:hunter22@127.0.0.1",
        "http://user:hunter22@[::1",
        "http://user:hunter22@ex ample:port",
        "http://user:hunter22@\ud800.example",
        b"http://user:hunter22@127.0.0.1",
    ],
)
def test_the_password_of_a_proxy_is_not_shown(proxy: str) -> None:
    """A proxy that cannot be used is refused without its URL."""
    with pytest.raises(ConfigurationError, match=r"^proxy") as caught:
        build_transport(BASE, proxy=proxy, verify=True)
    assert "ter22" not in str(caught.value)
    assert caught.value.__context__ is None
