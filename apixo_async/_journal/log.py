"""Whether a write-ahead log is whole: SQLite silently ignores what follows a damaged frame.

The format is that of https://www.sqlite.org/fileformat2.html#the_write_ahead_log.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from itertools import repeat
from typing import BinaryIO, Final, Literal, TypeAlias

Condition: TypeAlias = Literal["whole", "empty", "damaged"]

_HEADER: Final = struct.Struct(">8I")
_FRAME_HEADER: Final = struct.Struct(">6I")
#: The lowest bit tells the byte order of the words that are summed up.
_MAGIC: Final = 0x377F0682
_PAGE_SIZES: Final = frozenset(512 << power for power in range(8))
_WORD: Final = 0xFFFFFFFF
#: Frames that are read, and summed up, at once.
_FRAMES: Final = 256


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
    """Yield the header of each frame, and the checksums that it has if all up to it are right."""
    # Sums are linear in what they begin with: each frame's own are made apart, many at once, and
    # then added to those of the frames before it.
    words = (0, 1, *range(_FRAME_HEADER.size // 4, size // 4))
    (a, b), (c, d) = (_sum_up(repeat(0, len(words)), *unit) for unit in ((1, 0), (0, 1)))
    while chunk := log.read(_FRAMES * size):
        chunk += bytes(-len(chunk) % size)  # A frame that was cut off is a wrong one.
        for at, (one, two) in enumerate(_own_sums(chunk, size // 4, words, order)):
            sums = (
                (a * sums[0] + c * sums[1] + one) & _WORD,
                (b * sums[0] + d * sums[1] + two) & _WORD,
            )
            yield _FRAME_HEADER.unpack_from(chunk, at * size), sums


def _own_sums(
    chunk: bytes, stride: int, words: Iterable[int], order: str
) -> Iterator[tuple[int, int]]:
    """Return the checksums of each frame as if it were the first.

    The frames lie side by side in one large number, with 64 bits for each: 10,000 frames of 4 KiB
    take 0.4 s, where one after the other takes 2.5 s.
    """
    data = memoryview(chunk).cast("I")
    count = len(data) // stride
    column = bytearray(8 * count)
    low_halves = memoryview(column).cast("I")[order == ">" :: 2]
    endian: Literal["big", "little"] = "big" if order == ">" else "little"
    mask = int.from_bytes(struct.pack(f"{order}Q", _WORD) * count, endian)
    one = two = 0
    for at in words:
        low_halves[:] = data[at::stride]
        one, two = two, (one + two + int.from_bytes(column, endian)) & mask
    lanes = struct.Struct(f"{order}{count}Q")
    return zip(
        *(lanes.unpack(sums.to_bytes(lanes.size, endian)) for sums in (one, two)), strict=True
    )


def _sum_up(words: Iterable[int], one: int = 0, two: int = 0) -> tuple[int, int]:
    for word in words:
        one, two = two, (one + two + word) & _WORD
    return one, two
