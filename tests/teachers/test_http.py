"""HTTP as a back end sees it: what a server can do on the wire, and what becomes of the request."""

from __future__ import annotations

import asyncio
import gzip
import io
import os
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import aclosing, contextmanager, suppress
from pathlib import Path
from typing import IO

import pytest
from asking import asked, examples
from servers import ChatServer

from understudy.errors import SettingsError
from understudy.teachers import Ledger, open_teacher
from understudy.teachers.backends.http import Answer, Http, Stalled, TimedOut, Unanswered, Unreachable

HEAD = b"HTTP/1.1 200 OK\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"


@contextmanager
def serving(*parts: bytes, closes: bool = True, pause_s: float = 0.0) -> Iterator[tuple[str, list[bytes]]]:
    """A server that sends the same bytes to whoever comes, ends or holds the connection, and keeps what it was sent."""
    told: list[bytes] = []
    held: list[socket.socket] = []

    def serve() -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            told.append(connection.recv(65536))
            for part in parts:
                connection.sendall(part)
                time.sleep(pause_s)
            held.append(connection)
            if closes:
                connection.close()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=serve, daemon=True).start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}", told
        listening.shutdown(socket.SHUT_RDWR)
    for connection in held:
        connection.close()


def post(url: str, timeout_s: float = 5.0, stall_timeout_s: float | None = None) -> Answer:
    async def send() -> Answer:
        http = Http(
            {"Authorization": "Bearer k"},
            proxy=None,
            timeout_s=timeout_s,
            connect_timeout_s=5,
            stall_timeout_s=stall_timeout_s,
        )
        try:
            return await http.post(url, b'{"a": 1}')
        finally:
            await http.aclose()

    return asyncio.run(send())


def test_what_is_sent_and_what_comes_back():
    with serving(HEAD + b"X-Left: 3\r\nContent-Length: 2\r\n\r\n{}") as (url, told):
        answer = post(f"{url}/v1/chat?key=k")
    assert (answer.status, answer.headers.get("x-left"), answer.body) == (200, "3", b"{}")
    head, _, body = told[0].partition(b"\r\n\r\n")
    assert head.startswith(b"POST /v1/chat?key=k HTTP/1.1\r\n")
    assert b"authorization: bearer k" in head.lower()
    assert b"content-type: application/json" in head.lower()
    assert body == b'{"a": 1}'


def test_bodies_in_chunks_and_packed_are_whole():
    with serving(CHUNKED + b"2\r\n{}\r\n3\r\nabc\r\n0\r\n\r\n") as (url, _):
        assert post(url).body == b"{}abc"
    with serving(CHUNKED[:-2] + b"Content-Length: 9\r\n\r\n2 \r\n{}\r\n0\r\n\r\n") as (url, _):
        assert post(url).body == b"{}", "chunks count"
    packed = gzip.compress(b"hello" * 1000) + gzip.compress(b"again")
    with serving(HEAD + b"Content-Encoding: GZIP\r\nContent-Length: %d\r\n\r\n" % len(packed), packed) as (url, _):
        assert post(url).body == b"hello" * 1000 + b"again"
    late = b"HTTP/1.1 429 Wait\r\nRetry-After: 3\r\nContent-Encoding: gzip\r\nContent-Length: 0\r\n\r\n"
    with serving(late) as (url, _):
        assert post(url)[::2] == (429, b"")


def test_an_answer_that_comes_before_all_was_sent_ends_the_connection():
    """What is left of a file must not be read as the next request, nor the next request as a part of it."""
    told: list[bytes] = []

    def serve() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listening.accept()
                told.append(connection.recv(65536))
                connection.sendall(b"HTTP/1.1 413 Too large\r\nContent-Length: 0\r\n\r\n")
                held.append(connection)  # and reads no more

    async def ask(url: str) -> list[int]:
        http = Http({}, proxy=None, timeout_s=20, connect_timeout_s=5)
        async with aclosing(http):
            size = 2**24
            first = await http.upload(url, io.BytesIO(b"x" * size), size, purpose="batch", more_s=0)
            return [first.status, (await http.post(url, b"{}")).status]

    held: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=serve, daemon=True).start()
        assert asyncio.run(ask(f"http://127.0.0.1:{listening.getsockname()[1]}")) == [413, 413]
        listening.shutdown(socket.SHUT_RDWR)
    assert len(told) == 2
    assert told[1].endswith(b"\r\n\r\n{}")


def test_what_follows_an_answer_belongs_to_nobody():
    one, two = HEAD + b"Content-Length: 3\r\n\r\none", HEAD + b"Content-Length: 3\r\n\r\ntwo"

    async def ask(url: str) -> tuple[bytes, list[bytes]]:
        http = Http({}, proxy=None, timeout_s=5, connect_timeout_s=5)
        async with aclosing(http):
            await http.fetch(url, into := io.BytesIO())
            return into.getvalue(), [(await http.post(url, b"{}")).body for _ in range(2)]

    with serving(one + two, closes=False) as (url, told):
        assert asyncio.run(ask(url)) == (b"one", [b"one", b"one"])
    assert len(told) == 3, "each on a connection of its own"


def test_what_comes_before_an_answer_is_none_and_what_has_no_length_ends_with_the_connection():
    early = b"HTTP/1.1 103 Early Hints\r\nX-Early: 1\r\n\r\n"
    with serving(early, HEAD + b"X-Late: 1\r\n\r\n", b'{"a":', b" 1}") as (url, _):
        answer = post(url)
    assert (answer.status, dict(answer.headers), answer.body) == (200, {"x-late": "1"}, b'{"a": 1}')
    with serving(early, closes=False) as (url, _), pytest.raises(TimedOut) as caught:
        post(url, timeout_s=0.3, stall_timeout_s=0.1)
    assert not isinstance(caught.value, Stalled), "it may still be thinking"


def test_a_connection_is_used_again_and_a_request_is_never_sent_twice():
    connections: list[int] = []
    requests: list[bytes] = []

    def serve() -> None:
        with suppress(OSError):
            while True:
                connection, (_, port) = listening.accept()
                connections.append(port)
                for number in range(3):
                    requests.append(connection.recv(65536))
                    if number < 2:
                        connection.sendall(HEAD + b"Content-Length: 2\r\n\r\n{}")
                connection.close()  # in place of a third answer

    async def ask() -> list[str]:
        http = Http({}, proxy=None, timeout_s=5, connect_timeout_s=5)
        came = []
        async with aclosing(http):
            for number in range(5):
                try:
                    came.append((await http.post(url, b"%d" % number)).body.decode())
                except Unanswered as error:
                    came.append(type(error).__name__)
        return came

    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=serve, daemon=True).start()
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        assert asyncio.run(ask()) == ["{}", "{}", "Unanswered", "{}", "{}"]
        listening.shutdown(socket.SHUT_RDWR)
    assert len(connections) == 2
    assert [request[-1:] for request in requests[:5]] == [b"0", b"1", b"2", b"3", b"4"]


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"no HTTP\r\n\r\n",
        HEAD[:9],
        HEAD + b"Content-Length: 9\r\n\r\n{}",
        CHUNKED + b"2\r\n{",
        HEAD + b"Content-Encoding: gzip\r\n\r\n" + gzip.compress(b"{}")[:-4],
        HEAD + b"Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}",
        HEAD + b"Transfer-Encoding: Chunked\r\n\r\n2\r\n{}\r\n",
        b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
        HEAD + b"X-Long: 1\r\n" * 2**17,
    ],
    ids=[
        "nothing",
        "nonsense",
        "half a head",
        "half a body",
        "half a chunk",
        "half a package",
        "no package",
        "a chunk without an end",
        "another protocol",
        "a head without an end",
    ],
)
def test_a_broken_answer_is_no_answer_and_may_have_cost(sent: bytes):
    with serving(sent) as (url, _), pytest.raises(Unanswered) as caught:
        post(url)
    assert type(caught.value) is Unanswered
    assert str(caught.value)


def test_nobody_there_costs_nothing():
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(Unreachable, match=r"[Rr]efused"):
        post(f"http://127.0.0.1:{port}/v1?key=hidden")
    with pytest.raises(Unreachable) as caught:
        post("http://nobody.invalid/v1?key=hidden")
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize("begun", [HEAD + b"Content-Length: 9\r\n\r\n{}", CHUNKED + b"2\r\n{}\r\n"])
def test_an_answer_may_be_late_and_may_not_stall(begun: bytes):
    with serving(begun, closes=False) as (url, _):
        with pytest.raises(Stalled):
            post(url, stall_timeout_s=0.1)
        with pytest.raises(TimedOut) as caught:
            post(url, timeout_s=0.2, stall_timeout_s=5)
        assert not isinstance(caught.value, Stalled)
    with serving(closes=False) as (url, _), pytest.raises(TimedOut) as caught:
        post(url, timeout_s=0.2, stall_timeout_s=0.1)
    assert not isinstance(caught.value, Stalled), "nothing had come that could stall"


def test_a_body_that_comes_byte_by_byte_does_not_stall():
    slow = [bytes([byte]) for byte in b'{"a": 123}']
    with serving(HEAD + b"Content-Length: 10\r\n\r\n", *slow, pause_s=0.05) as (url, _):
        assert post(url, stall_timeout_s=0.3).body == b'{"a": 123}'


@pytest.mark.parametrize("odd", [b"X-Left: \xe9", b"X-Left : 3", b"X-Folded: a\r\n  b", b"X-Bell: \x07"])
def test_odd_headers_cost_no_answer(odd: bytes):
    with serving(HEAD + odd + b"\r\nX-Right: 1\r\nContent-Length: 2\r\n\r\n{}") as (url, _):
        answer = post(url)
    assert (answer.body, answer.headers.get("x-right")) == (b"{}", "1")
    assert answer.headers.get("x-left") in (None, "3")
    assert "X-Nothing" not in answer.headers


def test_a_file_goes_up_in_a_form():
    async def upload(url: str) -> Answer:
        http = Http({}, proxy=None, timeout_s=5, connect_timeout_s=5)
        answer = await http.upload(url, io.BytesIO(b"one\ntwo\n"), 8, more_s=1, purpose="batch")
        await http.aclose()
        return answer

    with serving(HEAD + b"Content-Length: 0\r\n\r\n") as (url, told):
        assert asyncio.run(upload(url)).status == 200
    assert b"multipart/form-data; boundary=" in told[0]


def test_a_proxy_of_the_environment_is_used_and_its_exceptions_are_not(ledger: Ledger, monkeypatch: pytest.MonkeyPatch):
    for name in ("HTTP_PROXY", "http_proxy", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    with ChatServer() as proxy, ChatServer() as direct:
        monkeypatch.setenv("http_proxy", proxy.base_url.removesuffix("/v1"))
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        settings = {"model": "tiny", "concurrency": 1}
        monkeypatch.setenv("OPENAI_API_KEY", "k")
        with open_teacher({**settings, "base_url": "http://teacher.example/v1"}, ledger) as teacher:
            assert len(asked(teacher, examples(2))[0]) == 2
        with open_teacher({**settings, "base_url": direct.base_url}, ledger) as teacher:
            assert len(asked(teacher, examples(3))[0]) == 3
        monkeypatch.setenv("http_proxy", "http://me:hunter/2@proxy:3128")
        with (
            open_teacher({**settings, "base_url": "http://teacher.example/v1"}, ledger) as teacher,
            pytest.raises(SettingsError, match="proxy of the environment") as caught,
        ):
            asked(teacher, examples(9))
        assert "hunter" not in str(caught.value)
    assert proxy.requests == 2
    assert proxy.headers[0]["Host"] == "teacher.example"
    assert direct.requests == 1, "the ledger has the others"


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_file_that_is_kept_elsewhere_is_fetched_without_the_key(host: str):
    async def fetch(url: str) -> tuple[int, bytes]:
        http = Http({"Authorization": "Bearer k"}, proxy=None, timeout_s=5, connect_timeout_s=5)
        into = io.BytesIO()
        async with aclosing(http):
            return (await http.fetch(url, into)).status, into.getvalue()

    with serving(CHUNKED + b"3\r\none\r\n0\r\n\r\n") as (store, asked_for):
        there = store.replace("127.0.0.1", host).encode()
        moved = b"HTTP/1.1 302 Found\r\nLocation: %s/file\r\nContent-Length: 0\r\n\r\n" % there
        with serving(moved) as (url, told):
            assert asyncio.run(fetch(f"{url}/content?key=hidden")) == (200, b"one")
    assert b"Bearer k" in told[0]
    assert asked_for[0].startswith(b"GET /file")
    assert b"Bearer k" not in asked_for[0]
    assert b"hidden" not in asked_for[0], "not as the referrer either"


def test_a_redirect_that_leads_nowhere_tells_nothing_secret():
    async def fetch(url: str) -> None:
        http = Http({}, proxy=None, timeout_s=5, connect_timeout_s=5)
        async with aclosing(http):
            await http.fetch(url, io.BytesIO())

    for place in (b"s3://x/y?signature=hidden", b"http://[x/y?signature=hidden", b"/again?signature=hidden"):
        moved = b"HTTP/1.1 302 Found\r\nLocation: %s\r\nContent-Length: 0\r\n\r\n" % place
        with serving(moved) as (url, _), pytest.raises(Unanswered) as caught:
            asyncio.run(fetch(url))
        assert "hidden" not in str(caught.value)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a full disk is /dev/full")
def test_a_file_is_whole_or_not_there():
    async def fetch(url: str, into: IO[bytes]) -> None:
        http = Http({}, proxy=None, timeout_s=5, connect_timeout_s=5)
        async with aclosing(http):
            await http.fetch(url, into)

    with serving(HEAD + b"\r\n", b"one\ntw") as (url, _), pytest.raises(Unanswered, match="where it ends"):
        asyncio.run(fetch(url, io.BytesIO()))
    with (
        serving(HEAD + b"Content-Length: 3\r\n\r\none") as (url, _),
        Path("/dev/full").open("wb", 0) as full,
        pytest.raises(OSError, match="space"),
    ):
        asyncio.run(fetch(url, full))


CA = """
openssl req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -days 2 -subj /CN=ours \
    -addext basicConstraints=critical,CA:TRUE
openssl req -newkey rsa:2048 -nodes -keyout key.pem -out request.pem -subj /CN=localhost
printf 'subjectAltName=DNS:localhost' > names
openssl x509 -req -in request.pem -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile names -out cert.pem
"""

ASK_ONCE = """
import asyncio, sys
from understudy.teachers.backends.http import Http

async def ask():
    http = Http({}, proxy=None, timeout_s=10, connect_timeout_s=10)
    print((await http.get(sys.argv[1])).body.decode())
    await http.aclose()

asyncio.run(ask())
"""


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with cert.pem and key.pem of localhost, and ca.pem, which vouches for them."""
    if shutil.which("openssl") is None:
        pytest.skip("certificates are made with openssl")
    folder = tmp_path_factory.mktemp("certificates")
    subprocess.run(["bash", "-ec", CA], cwd=folder, check=True, capture_output=True)
    return folder


@contextmanager
def serving_tls(certificates: Path) -> Iterator[int]:
    """A server that answers whatever it is asked with ``ok``; its port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates / "cert.pem", certificates / "key.pem")

    def serve() -> None:
        while True:
            try:
                connection, _ = secured.accept()
            except ssl.SSLError:
                continue  # who does not trust us
            except OSError:
                return
            connection.recv(65536)
            connection.sendall(HEAD + b"Connection: close\r\nContent-Length: 2\r\n\r\nok")
            connection.close()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        secured = context.wrap_socket(listening, server_side=True)
        threading.Thread(target=serve, daemon=True).start()
        yield secured.getsockname()[1]
        secured.shutdown(socket.SHUT_RDWR)


@contextmanager
def proxying(answer: bytes) -> Iterator[tuple[str, list[bytes]]]:
    """A proxy that answers so, and then passes on what comes to the port it was asked for, and back."""
    told: list[bytes] = []

    def passed(start: socket.socket, end: socket.socket) -> None:
        with suppress(OSError):
            while part := start.recv(65536):
                end.sendall(part)
        with suppress(OSError):
            end.shutdown(socket.SHUT_WR)

    def serve() -> None:
        with suppress(OSError):
            while True:
                asking, _ = listening.accept()
                told.append(asking.recv(65536))
                asking.sendall(answer)
                port = int(told[-1].split()[1].rpartition(b":")[2])
                there = socket.create_connection(("127.0.0.1", port))
                for ends in ((asking, there), (there, asking)):
                    threading.Thread(target=passed, args=ends, daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=serve, daemon=True).start()
        yield f"http://me:a%2Fb@127.0.0.1:{listening.getsockname()[1]}", told
        listening.shutdown(socket.SHUT_RDWR)


def test_a_proxy_passes_on_what_only_the_endpoint_can_read(certificates: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates / "ca.pem"))

    async def ask(proxy: str, port: int) -> list[bytes]:
        http = Http({"Authorization": "Bearer k"}, proxy=proxy, timeout_s=5, connect_timeout_s=5)
        async with aclosing(http):
            return [(await http.post(f"https://localhost:{port}/v1", b"{}")).body for _ in range(2)]

    with serving_tls(certificates) as port:
        with proxying(b"HTTP/1.1 200 Connection established\r\n\r\n") as (proxy, told):
            assert asyncio.run(ask(proxy, port)) == [b"ok", b"ok"]
        assert told[0].startswith(b"CONNECT localhost:%d HTTP/1.1\r\n" % port)
        assert b"Proxy-Authorization: Basic bWU6YS9i\r\n" in told[0]
        assert not any(b"Bearer" in head for head in told)
        refused = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"
        with proxying(refused) as (proxy, _), pytest.raises(Unreachable, match="403"):
            asyncio.run(ask(proxy, port))
    for other in ("socks5://127.0.0.1:1080", "https://127.0.0.1:3128"):
        with pytest.raises(ValueError):
            Http({}, proxy=other, timeout_s=5, connect_timeout_s=5)


@pytest.mark.slow
def test_a_process_ends_well_right_after_it_has_asked_over_tls(certificates: Path):
    with serving_tls(certificates) as port:
        command = [sys.executable, "-c", ASK_ONCE, f"https://localhost:{port}/"]
        trusting = {**os.environ, "SSL_CERT_FILE": str(certificates / "ca.pem")}
        for _ in range(8):  # what is not closed in time shows now and then
            done = subprocess.run(command, capture_output=True, text=True, env=trusting)
            assert (done.returncode, done.stdout, done.stderr) == (0, "ok\n", "")
        done = subprocess.run(command, capture_output=True, text=True)
        assert "certificate" in done.stderr, "and who does not trust it is told"
