"""Saving the files of a result."""

from typing import Final

#: Bytes that each file may have. Here, as a client names it long before it saves anything: the
#: modules of this package are imported when its engine is wired.
DEFAULT_MAX_BYTES: Final = 512 * 1_048_576

#: The same of a file that is read into memory, and of all files of its result together.
READ_MAX_BYTES: Final = 64 * 1_048_576
READ_MAX_TOTAL: Final = 256 * 1_048_576
