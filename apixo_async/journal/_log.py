"""Whether a write-ahead log is whole: SQLite silently ignores what follows a damaged frame.

The format is that of https://www.sqlite.org/fileformat2.html#the_write_ahead_log.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from typing import BinaryIO, Final, Literal, TypeAlias

Condition: TypeAlias = Literal["whole", "empty", "damaged"]

_HEADER: Final = struct.Struct(">8I")
_FRAME_HEADER: Final = struct.Struct(">6I")
#: The lowest bit gives the byte order of the words that are summed up.
_MAGIC: Final = 0x377F0682
_PAGE_SIZES: Final = frozenset(512 << power for power in range(8))
_WORD: Final = 0xFFFFFFFF


def condition_of(log: BinaryIO) -> Condition:
    """Read a log, and return whether SQLite finds in it every transaction that was committed.

    A last transaction that cannot be read was torn by a crash. One that has others behind it was
    synced before they were begun (`synchronous=FULL`): then the log is "damaged". It is "empty"
    where no transaction can be read, unless the second frame is of the generation before: then a
    crash came just as SQLite began anew at the front, which it does once the file has everything.
    """
    header = log.read(_HEADER.size)
    if len(header) < _HEADER.size:
        return "empty"
    magic, _, size, _, salt_1, salt_2, *stored = _HEADER.unpack(header)
    order = ">" if magic & 1 else "<"
    sums = _sum_up(struct.unpack(f"{order}6I", header[:24]))
    if magic & ~1 != _MAGIC or size not in _PAGE_SIZES or [*sums] != stored:
        return "empty"
    condition: Condition = "empty"
    is_readable, is_lost = True, False
    frames = _frames(log, _FRAME_HEADER.size + size, order, sums)
    for number, (frame, expected) in enumerate(frames):
        _, pages_after_commit, frame_salt_1, frame_salt_2, *stored = frame
        if (frame_salt_1, frame_salt_2) != (salt_1, salt_2):
            is_readable = False
            # Each generation adds one to this salt.
            if number == 1 and frame_salt_1 == (salt_1 - 1) & _WORD:
                condition = "whole"
        elif is_lost:
            return "damaged"
        else:
            is_readable = is_readable and [*expected] == stored
            if pages_after_commit and is_readable:
                condition = "whole"
            is_lost = pages_after_commit > 0 and not is_readable
    return condition


def _frames(
    log: BinaryIO, size: int, order: str, sums: tuple[int, int]
) -> Iterator[tuple[tuple[int, ...], tuple[int, int]]]:
    """Yield the header of each frame, and the checksums that it has if all up to it are right.

    10,000 frames of 4 KiB take some 2.5 s; a log has at most about as many, and is read only
    after a kill.
    """
    begin, page = struct.Struct(f"{order}2I"), struct.Struct(f"{order}{size // 4 - 6}I")
    while frame := log.read(size):
        frame = frame.ljust(size, b"\0")  # A frame that was cut off is a wrong one.
        sums = _sum_up(begin.unpack_from(frame), *sums)
        sums = _sum_up(page.unpack_from(frame, _FRAME_HEADER.size), *sums)
        yield _FRAME_HEADER.unpack_from(frame), sums


def _sum_up(words: Iterable[int], one: int = 0, two: int = 0) -> tuple[int, int]:
    for word in words:
        one, two = two, (one + two + word) & _WORD
    return one, two
