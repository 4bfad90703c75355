"""Saving the files of a result."""

from typing import Final

#: Bytes that each file may have. Here, as a client names it long before it saves anything: the
#: modules of this package are imported when its engine is wired.
DEFAULT_MAX_BYTES: Final = 512 * 1_048_576
