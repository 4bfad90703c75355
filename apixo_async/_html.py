"""How results, tasks and outcomes look in a notebook. What the service sent is never markup."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape
from typing import Final

from apixo_async._result_files import kind_of_url, path_of

#: Where the URL has no suffix, by what the model makes.
_MADE: Final[Mapping[str, str]] = {"video": "video", "audio": "audio"}
_BOX: Final = "max-width: 256px; max-height: 256px; margin: 4px; vertical-align: top"


def page(title: str, urls: Iterable[str] = (), *, note: str = "", medium: str = "") -> str:
    """Return a line of text, and under it the files of a result.

    Args:
        title: What it is.
        urls: The files; what is no http URL is left out.
        note: What else there is to say of it.
        medium: What the model makes, such as "video": for URLs without a suffix that says it.
    """
    said = f"<div>{escape(title)}</div>"
    if note:
        said += f'<div style="opacity: 0.7">{escape(note)}</div>'
    return said + "".join(_file(url, medium) for url in urls if _is_link(url))


def _is_link(url: str) -> bool:
    return url.lower().startswith(("https://", "http://"))


def _file(url: str, medium: str) -> str:
    src = escape(url)
    path = path_of(url)
    # A URL that says nothing may be an image still, as most are.
    shown_as = kind_of_url(url) or ("file" if path.suffix else _MADE.get(medium, "image"))
    link = f'<a href="{src}" target="_blank" rel="noopener noreferrer">'
    match shown_as:
        case "video":
            return f'<video src="{src}" controls preload="metadata" style="{_BOX}"></video>'
        case "audio":
            return f'<audio src="{src}" controls preload="none" style="margin: 4px"></audio>'
        case "image":
            name = escape(path.name)
            return f'{link}<img src="{src}" alt="{name}" loading="lazy" style="{_BOX}"></a>'
        case _:
            return f"<div>{link}{escape(path.name)}</a></div>"
