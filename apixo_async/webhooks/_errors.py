"""The error of a callback that nobody should act on."""

from __future__ import annotations

from typing import Final

from apixo_async._core.errors import ApixoError

_WORDS: Final = {
    404: "the token of the callback is wrong, stale or signed with another secret",
    400: "the body of the callback names no task",
}


class CallbackError(ApixoError, ValueError):
    """A callback that nobody should act on: its token or its body is wrong.

    Attributes:
        status: The HTTP status to answer it with: 404 or 400.
    """

    def __init__(self, status: int) -> None:
        super().__init__(_WORDS[status])
        self.status = status
