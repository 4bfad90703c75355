"""The result files of tasks as an object store serves them: whole, in ranges, and not for ever."""

from __future__ import annotations

import re
from collections import OrderedDict

from apixo_async.testing.images import MEDIA_TYPES, draw, size_of
from apixo_async.testing.lifecycles import SimulatedTask
from apixo_async.testing.replies import Call, Reply

_CACHED = 512  # files, of some 20 kB each
_MISSING = (
    b'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>%s</Code>'
    b"<Message>The specified key does not exist.</Message></Error>"
)
#: One range: several are ignored, as are numbers longer than any file's.
_RANGE = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})", re.IGNORECASE)


class Results:
    """Draw, keep and serve the files of tasks.

    Args:
        longest: Pixels of the longer side.
        lifetime: Seconds from the end of a task until its files are gone.
        expired_status: The HTTP status of a file that is gone.
    """

    def __init__(self, longest: int, lifetime: float, expired_status: int) -> None:
        self._longest = longest
        self._lifetime = lifetime
        self._expired_status = expired_status
        self._files: OrderedDict[tuple[str, int], bytes] = OrderedDict()

    def reply(self, task: SimulatedTask | None, index: int, call: Call, now: float) -> Reply:
        """Return the answer to a request for one file of a task."""
        if task is None or task.state(now) != "success" or index >= task.images:
            return missing(404)
        if now >= task.ends + self._lifetime:
            return missing(self._expired_status)
        return _ranged(self.content(task, index), task, index, call)

    def content(self, task: SimulatedTask, index: int) -> bytes:
        """Return the bytes of a file, drawn at its first use."""
        key = (task.id, index)
        found = self._files.get(key)
        if found is None:
            found = self._files[key] = draw(
                f"{task.model}/{task.id}/{index}",
                task.prompt,
                size_of(_aspect_ratio(task), self._longest),
                task.file_type,
            )
        self._files.move_to_end(key)
        if len(self._files) > _CACHED:
            self._files.popitem(last=False)
        return found


def _aspect_ratio(task: SimulatedTask) -> object:
    names = ("aspect_ratio", "aspect", "ratio")  # the last two are other models' spellings
    return next((task.input[name] for name in names if name in task.input), None)


def missing(status: int) -> Reply:
    """Return what an object store answers for a file that is not there."""
    return Reply(status, _MISSING % b"NoSuchKey", {"content-type": "application/xml"})


def _ranged(content: bytes, task: SimulatedTask, index: int, call: Call) -> Reply:
    tag = f'"{task.id}-{index}"'
    headers = {
        "content-type": MEDIA_TYPES[task.file_type],
        "accept-ranges": "bytes",
        "etag": tag,
    }
    wanted = _wanted(call)
    if wanted is None or call.headers.get("if-range", tag) != tag:
        return Reply(200, content, headers)
    start, stop = _bounds(*wanted, len(content))
    if start >= stop:
        return Reply(416, b"", {**headers, "content-range": f"bytes */{len(content)}"})
    headers["content-range"] = f"bytes {start}-{stop - 1}/{len(content)}"
    return Reply(206, content[start:stop], headers)


def _wanted(call: Call) -> tuple[int | None, int | None] | None:
    """Return first and last byte as asked; None where RFC 9110 ignores the header."""
    match = _RANGE.fullmatch(call.headers.get("range", ""))
    if match is None or call.method != "GET":
        return None
    first, last = (int(number) if number else None for number in match.groups())
    if first is None:
        return None if last is None else (first, last)
    return None if last is not None and last < first else (first, last)


def _bounds(first: int | None, last: int | None, length: int) -> tuple[int, int]:
    if first is None:  # the last so many bytes
        return max(0, length - (last or 0)), length
    return first, length if last is None else min(last + 1, length)
