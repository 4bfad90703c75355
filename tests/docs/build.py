"""Write the API reference and the guides: a page for each public module and guide, by pdoc.

`python -W error tests/docs/build.py FOLDER`, as in `nox -s docs`: what pdoc warns of, such as a
name that does not resolve, ends it.
"""

from __future__ import annotations

import contextlib
import importlib
import pkgutil
import re
import sys
import typing
from collections.abc import Iterator
from inspect import Signature
from pathlib import Path
from types import ModuleType

import pdoc
import pdoc.docstrings
import pdoc.extract
import pdoc.render
from pydantic import BaseModel

import apixo_async
from apixo_async._cli.docs import guides

HERE = Path(__file__).parent
#: Images lie beside the benchmarks, where the guides of the checkout find them.
GUIDES = HERE.parents[1] / "apixo_async/guides"


def public_modules() -> Iterator[ModuleType]:
    """Yield the modules from which callers import, but none without a public name."""
    found = pkgutil.iter_modules(apixo_async.__path__, "apixo_async.")
    for name in ("apixo_async", *(one.name for one in found), "apixo_async.testing.plugin"):
        if "._" not in name:
            module = importlib.import_module(name)
            if any(not one.startswith("_") for one in vars(module)):
                yield module


def resolve(module: ModuleType) -> None:
    """Put lazily exported names into the module, as pdoc asks for no others."""
    for name in getattr(module, "__all__", ()):
        setattr(module, name, getattr(module, name))


def classes_of(module: ModuleType) -> Iterator[type]:
    """Yield the classes that have an entry on a module's page."""
    listed = getattr(module, "__all__", None)
    for name, value in vars(module).items():
        if isinstance(value, type) and value.__module__.startswith("apixo_async"):
            is_own = value.__module__ == module.__name__ and not name.startswith("_")
            if is_own if listed is None else name in listed:
                yield value


def flatten(cls: type, public: set[type]) -> None:
    """Show what a class has from the package's private bases as its own; pdoc shows none of it."""
    private = {
        base
        for base in cls.__mro__
        if base.__module__.startswith("apixo_async") and base not in public
    }
    for base in cls.__mro__:
        for name, member in vars(base).items() if base in private else ():
            if not name.startswith("_") and name not in vars(cls):
                setattr(cls, name, member)
    if not private.isdisjoint(cls.__bases__):
        cls.__orig_bases__ = tuple(base for base in cls.__bases__ if base not in private)


def simplify(model: type[BaseModel]) -> None:
    """Show the types and defaults of fields without validators and addresses in memory."""
    hints = typing.get_type_hints(model)  # without what `Annotated` adds
    model.__annotations__ = {name: hints[name] for name in model.__annotations__}
    for field in model.__pydantic_fields__.values():
        if field.is_required():
            field.default = Signature.empty


def page_of(text: str) -> str:
    """Return a guide without the marks of its tests, its images in it, and links to others."""
    text = re.sub(r"^<!-- run: .* -->\n", "", text, flags=re.MULTILINE)
    text = text.replace("```console\n", "```bash\n")  # whose commands are highlighted
    text = re.sub(r"`apixo docs ([\w-]+)`", r"[\g<0>](\1.html)", text)
    return pdoc.docstrings.embed_images(text, GUIDES / "any.md")


def guide_pages() -> dict[str, pdoc.doc.Module]:
    """Make a module of each guide, whose docstring it is: so pdoc lays it out and searches it."""
    pages: dict[str, pdoc.doc.Module] = {}
    for name, text in guides().items():
        page = ModuleType(f"apixo_async.guides.{name}", page_of(text))
        vars(page)["__docformat__"] = "markdown"
        pages[page.__name__] = pdoc.doc.Module(page)
    return pages


def heading(page: pdoc.doc.Module) -> str:
    """Return the title of a guide up to its colon."""
    return page.docstring.partition("\n")[0].removeprefix("# ").partition(":")[0]


def build(folder: Path) -> None:
    """Write the pages, an index and what the search needs."""
    found = list(public_modules())
    for module in found:
        resolve(module)
    public = {cls for module in found for cls in classes_of(module)}
    for cls in public:
        flatten(cls, public)
        if issubclass(cls, BaseModel):
            simplify(cls)
    footer = f"apixo_async {apixo_async.__version__}"
    pdoc.render.configure(
        docformat="google",
        footer_text=footer,
        show_source=False,
        template_directory=HERE / "templates",
    )
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.chdir(folder):  # away from a checkout, which could be meant as well
        names = pdoc.extract.walk_specs([*(one.__name__ for one in found), r"!.*\._"])
        modules = {name: pdoc.doc.Module.from_name(name) for name in names}
    pages = guide_pages()
    pdoc.render.env.globals["guides"] = {name: heading(page) for name, page in pages.items()}
    pdoc.render.env.globals["modules"] = {name: name for name in sorted(modules)}
    pages = modules | pages
    for name, page in pages.items():
        write(folder / f"{name.replace('.', '/')}.html", pdoc.render.html_module(page, pages))
    write(folder / "index.html", pdoc.render.html_index(pages))
    write(folder / "search.js", pdoc.render.search_index(pages))


def write(path: Path, text: str) -> None:
    """Write a page, and the folder that it lies in."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")


if __name__ == "__main__":
    build(Path(sys.argv[1]))
