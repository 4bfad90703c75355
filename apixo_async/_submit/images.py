"""The images of submits that the service fetches from here: shared before the POST, then kept."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Final, cast

from apixo_async._canonical import LOCAL, SHARED
from apixo_async._local_images import LocalImage
from apixo_async._types import TaskInput
from apixo_async.errors import ConfigurationError

if TYPE_CHECKING:
    from apixo_async.webhooks._shared_files import SharedFiles

_SHARED: Final = re.compile(SHARED)
_LOCAL: Final = re.compile(rf'(?<!\\)"({LOCAL}[0-9a-f]{{64}})"')


class ImagesInUse:
    """The shared files that one submit names, from before its POST until its task is over.

    Args:
        files: Where they are shared.
        model: What is bought.
        local: Images that are shared for this submit only.
        names: Files that the caller has shared.

    Attributes:
        urls: The URLs of the local images, by what stands for each in the input's payload.
    """

    def __init__(
        self, files: SharedFiles, model: str, local: Sequence[LocalImage], names: Sequence[str]
    ) -> None:
        self.urls: dict[str, str] = {}
        self._files = files
        self._model = model
        self._local = local
        self._names = names
        self._held: list[str] = []
        self._begun: list[str] = []

    async def begin(self) -> None:
        """Share the files, and keep them until `end`; in a thread.

        Raises:
            ConfigurationError: One has changed or is gone.
            StoreError: The directory of shared files cannot hold one.
        """
        sharing = asyncio.get_running_loop().run_in_executor(None, self._begin)
        try:
            await asyncio.shield(sharing)
        except asyncio.CancelledError:
            sharing.add_done_callback(lambda _: self.end(again=True))
            raise

    def _begin(self) -> None:
        try:
            for image in dict.fromkeys(self._local):
                name = self._files.hold(image)
                self._held.append(name)
                self.urls[str(image)] = self._files.url(name)
            for name in self._names:
                if not self._files.begin(name):
                    raise ValueError(
                        f"the shared file {name[:40]}… has expired, or was forgotten when its task "
                        "was over: share it again for each task, or with a lifetime"
                    )
                self._begun.append(name)
        except BaseException as exc:
            self.end(again=True)
            if isinstance(exc, ConfigurationError) or not isinstance(exc, ValueError):
                raise
            raise _refusal(self._model, str(exc)) from None

    def end(self, *, again: bool) -> None:
        """Forget the files, unless others need them; raises nothing, and twice is as once.

        Args:
            again: Whether the same input may be submitted again: what the caller has shared stays.
        """
        # A cancelled caller may be here while the thread of `begin` adds to the lists, or is here.
        with suppress(IndexError):
            while True:
                self._files.end(self._held.pop())
        with suppress(IndexError):
            while True:
                self._files.end(self._begun.pop(), keep=again)


class ReferenceImages:
    """Find what submits have of images that are served from here.

    Args:
        files: Where files are shared; None where no receiver serves any.
    """

    def __init__(self, files: SharedFiles | None = None) -> None:
        self._files = files

    def of(self, task_input: TaskInput) -> ImagesInUse | None:
        """Return the images of an input that have to be kept, or None where there are none.

        Raises:
            ConfigurationError: There are some, and they cannot be had.
        """
        images: object = getattr(task_input, "image_urls", None)
        if images == ():  # Most inputs: no need to look through them.
            return None
        text = json.dumps(task_input.payload())
        if "apixo-file" not in text:
            return None
        given = cast("tuple[object, ...]", images) if isinstance(images, tuple) else ()
        local = [image for image in given if isinstance(image, LocalImage)]
        if {found[1] for found in _LOCAL.finditer(text)} - {str(image) for image in local}:
            raise _refusal(
                task_input.model,
                "of a local image, only the digest was kept: make the input again, with its Path "
                "or bytes, and where this is to resubmit an error, set `error.input` to it",
            )
        if self._files is None:
            if not local:
                return None  # Others serve them.
            raise _refusal(
                task_input.model,
                "image_urls: local images need a receiver that serves them, as in "
                "AsyncClient(webhooks=WebhookReceiver(…)); or put them into a bucket, and give "
                "their URLs",
            )
        names = dict.fromkeys(found[0] for found in _SHARED.finditer(text))
        return ImagesInUse(self._files, task_input.model, local, [*names])


def _refusal(model: str, why: str) -> ConfigurationError:
    return ConfigurationError(f"{model}: {why}; nothing was bought", model=model)
