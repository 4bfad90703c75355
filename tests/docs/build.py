"""Write the API reference: a page for each public module, made from docstrings by pdoc.

`python -W error tests/docs/build.py FOLDER`, as in `nox -s docs`: what pdoc warns of, such as a
name that does not resolve, ends it.
"""

from __future__ import annotations

import contextlib
import importlib
import pkgutil
import sys
import typing
from collections.abc import Iterator
from inspect import Signature
from pathlib import Path
from types import ModuleType

import pdoc.render
from pydantic import BaseModel

import apixo_async


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


def build(folder: Path) -> None:
    """Write the pages, an index and what the search needs."""
    modules = list(public_modules())
    for module in modules:
        resolve(module)
    public = {cls for module in modules for cls in classes_of(module)}
    for cls in public:
        flatten(cls, public)
        if issubclass(cls, BaseModel):
            simplify(cls)
    footer = f"apixo_async {apixo_async.__version__}"
    pdoc.render.configure(docformat="google", footer_text=footer, show_source=False)
    names = [module.__name__ for module in modules]
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.chdir(folder):  # away from a checkout, which could be meant as well
        pdoc.pdoc(*names, r"!.*\._", output_directory=Path())


if __name__ == "__main__":
    build(Path(sys.argv[1]))
