"""Programs that submit a task, poll until it is over, and get its picture: one in each library.

They are written as callers write them who know the documentation and no client library. Between
polls they do not sleep: the clock of the service that they are run against goes on by itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import importlib
import importlib.util
import json
import os
import shutil
import socket
import subprocess
import urllib.parse
import urllib.request
from typing import Any

import aiohttp

MODEL = "gpt-image-1"
INPUT = {"mode": MODEL, "prompt": "a castle \u00e9", "aspect_ratio": "3:2", "num_images": 1}
BODY = {"request_type": "async", "input": INPUT}
TEXT = json.dumps(BODY)
KEY = {"Authorization": "Bearer test-key"}
JSON = {"Content-Type": "application/json"}
BOTH = KEY | JSON
NODE = ("node", "--input-type=module", "-e")


def library(name: str) -> Any:
    """Return a library, or None where it is not installed."""
    return importlib.import_module(name) if importlib.util.find_spec(name) else None


requests, httpx = library("requests"), library("httpx")


def has_fetch() -> bool:
    """Return True if there is a Node that has fetch, as it has from 18 on."""
    if shutil.which("node") is None:
        return False
    asked = (*NODE, "process.exit(typeof fetch === 'function' ? 0 : 1)")
    return subprocess.run(asked, timeout=60, check=False).returncode == 0


def run(*command: str, **variables: str) -> str:
    """Run a program to its end; return what it prints."""
    ran = subprocess.run(
        command,
        env=os.environ | variables,
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def loop_of_requests(base: str) -> tuple[list[str], bytes]:
    """Submit and poll with requests."""
    made = requests.post(f"{base}/generateTask/{MODEL}", headers=KEY, json=BODY, timeout=30)
    made.raise_for_status()
    task_id = made.json()["data"]["taskId"]
    states: list[str] = []
    while states[-1:] not in (["success"], ["failed"]):
        seen = requests.get(
            f"{base}/statusTask/{MODEL}", headers=KEY, params={"taskId": task_id}, timeout=30
        ).json()
        states.append(seen["data"]["state"])
    url = json.loads(seen["data"]["resultJson"])["resultUrls"][0]
    return states, requests.get(url, timeout=30).content


def loop_of_httpx(base: str) -> tuple[list[str], bytes]:
    """Submit and poll with a client of httpx that has the base URL, with a slash behind it."""
    states: list[str] = []
    with httpx.Client(base_url=base + "/", headers=KEY, timeout=30) as client:
        task_id = client.post(f"/generateTask/{MODEL}", json=BODY).json()["data"]["taskId"]
        while states[-1:] != ["success"]:
            seen = client.get(f"/statusTask/{MODEL}", params={"taskId": task_id}).json()["data"]
            states.append(seen["state"])
        return states, client.get(json.loads(seen["resultJson"])["resultUrls"][0]).content


async def task_of_aiohttp(base: str) -> tuple[list[str], bytes]:
    """Submit and poll with a session of aiohttp for each task."""
    states: list[str] = []
    async with aiohttp.ClientSession(headers=KEY) as session:
        async with session.post(f"{base}/generateTask/{MODEL}", json=BODY) as answer:
            task_id = (await answer.json())["data"]["taskId"]
        while states[-1:] != ["success"]:
            query = f"taskId={task_id}"
            async with session.get(f"{base}/statusTask/{MODEL}?{query}") as answer:
                seen = (await answer.json())["data"]
            states.append(seen["state"])
        async with session.get(json.loads(seen["resultJson"])["resultUrls"][0]) as answer:
            return states, await answer.read()


def loop_of_aiohttp(base: str) -> tuple[list[str], bytes]:
    """Run one such task."""
    return asyncio.run(task_of_aiohttp(base))


FETCH_LOOP = """
const base = process.env.BASE, headers = { Authorization: `Bearer ${process.env.KEY}` };
const made = await fetch(`${base}/generateTask/gpt-image-1`, {
  method: "POST",
  headers: { ...headers, "Content-Type": "application/json" },
  body: process.env.BODY,
}).then((answer) => answer.json());
const states = [];
let seen;
do {
  const query = new URLSearchParams({ taskId: made.data.taskId });
  seen = await fetch(`${base}/statusTask/gpt-image-1?${query}`, { headers })
    .then((answer) => answer.json());
  states.push(seen.data.state);
} while (!["success", "failed"].includes(seen.data.state));
const file = await fetch(JSON.parse(seen.data.resultJson).resultUrls[0]);
const bytes = Buffer.from(await file.arrayBuffer());
console.log(JSON.stringify([states, bytes.toString("hex")]));
"""


def loop_of_fetch(base: str) -> tuple[list[str], bytes]:
    """Submit and poll with Node's fetch."""
    printed = run(*NODE, FETCH_LOOP, **environment(base))
    states, content = json.loads(printed)
    return states, bytes.fromhex(content)


def environment(base: str) -> dict[str, str]:
    """Return the environment of another process's program."""
    return {"BASE": base, "KEY": "test-key", "BODY": TEXT}


def loop_of_urllib(base: str) -> tuple[list[str], bytes]:
    """Submit and poll with urllib, which closes each connection."""

    def call(path: str, data: bytes | None = None) -> Any:
        request = urllib.request.Request(base + path, data, BOTH)
        with urllib.request.urlopen(request) as answer:
            return json.load(answer)["data"]

    task_id = call(f"/generateTask/{MODEL}", TEXT.encode())["taskId"]
    states: list[str] = []
    while states[-1:] != ["success"]:
        seen = call(f"/statusTask/{MODEL}?" + urllib.parse.urlencode({"taskId": task_id}))
        states.append(seen["state"])
    with urllib.request.urlopen(json.loads(seen["resultJson"])["resultUrls"][0]) as file:
        return states, file.read()


def loop_of_http_client(base: str) -> tuple[list[str], bytes]:
    """Submit and poll with http.client on one connection that is kept."""
    parts = urllib.parse.urlsplit(base)
    with contextlib.closing(http.client.HTTPConnection(parts.netloc)) as connection:
        connection.request("POST", f"{parts.path}/generateTask/{MODEL}", TEXT, BOTH)
        task_id = json.load(connection.getresponse())["data"]["taskId"]
        states: list[str] = []
        while states[-1:] != ["success"]:
            path = f"{parts.path}/statusTask/{MODEL}?taskId={task_id}"
            connection.request("GET", path, headers=KEY)
            seen = json.load(connection.getresponse())["data"]
            states.append(seen["state"])
        url = json.loads(seen["resultJson"])["resultUrls"][0]
        connection.request("GET", urllib.parse.urlsplit(url).path)
        return states, connection.getresponse().read()


def loop_of_socket(base: str) -> tuple[list[str], bytes]:
    """Submit and poll in HTTP/1.0 without any header that it does not ask for."""
    parts = urllib.parse.urlsplit(base)

    def call(first_line: str, body: bytes = b"") -> bytes:
        head = f"{first_line} HTTP/1.0\r\nAuthorization: Bearer test-key\r\n"
        if body:
            head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        ((_, content),) = talk(parts.port or 0, head.encode() + b"\r\n" + body)
        return content

    made = call(f"POST {parts.path}/generateTask/{MODEL}", TEXT.encode())
    task_id = json.loads(made)["data"]["taskId"]
    states: list[str] = []
    while states[-1:] != ["success"]:
        seen = json.loads(call(f"GET {parts.path}/statusTask/{MODEL}?taskId={task_id}"))["data"]
        states.append(seen["state"])
    url = urllib.parse.urlsplit(json.loads(seen["resultJson"])["resultUrls"][0])
    assert url.netloc == parts.netloc
    return states, call(f"GET {url.path}")


def talk(port: int, sent: bytes) -> list[tuple[int, bytes]]:
    """Send bytes; return status and content of each answer until the server closes."""
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(sent)
        received = b"".join(iter(lambda: connection.recv(65_536), b""))
    answers: list[tuple[int, bytes]] = []
    while received:
        head, _, received = received.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").lower().split("\r\n")
        lengths = [line.partition(":")[2] for line in lines if line.startswith("content-length:")]
        length = int(lengths[0]) if lengths else 0
        answers.append((int(lines[0].split()[1]), received[:length]))
        received = received[length:]
    return answers


CURL_LOOP = r"""
set -eu
task_id=$(curl -sS "$BASE/generateTask/gpt-image-1" -H "Authorization: Bearer $KEY" \
  -H "Content-Type: application/json" -d "$BODY" | sed 's/.*"taskId":"\([^"]*\)".*/\1/')
while :; do
  seen=$(curl -sS "$BASE/statusTask/gpt-image-1?taskId=$task_id" -H "Authorization: Bearer $KEY")
  echo "$seen" | sed 's/.*"state":"\([^"]*\)".*/\1/'
  case $seen in *'"state":"success"'*) break;; esac
done
curl -sS "$(echo "$seen" | sed 's/.*resultUrls[^h]*\(http[^"\\]*\).*/\1/')" | od -An -v -tx1
"""


def loop_of_curl(base: str) -> tuple[list[str], bytes]:
    """Submit and poll in a shell script around curl."""
    words = run("sh", "-c", CURL_LOOP, **environment(base)).split()
    ends = words.index("success") + 1
    return words[:ends], bytes.fromhex("".join(words[ends:]))
