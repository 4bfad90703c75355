"""Mutants of a module: every small change that its tests should notice, one at a time."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

_SWAPS: Final[dict[type[ast.AST], tuple[type[ast.AST], ...]]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.And: (ast.Or,),
    ast.Or: (ast.And,),
    ast.Add: (ast.Sub,),
    ast.Sub: (ast.Add,),
    ast.Mult: (ast.Div,),
    ast.Div: (ast.Mult,),
    ast.Pow: (ast.Mult,),
    ast.Mod: (ast.Mult,),
    ast.FloorDiv: (ast.Mult,),
    ast.LShift: (ast.RShift,),
    ast.BitOr: (ast.BitAnd,),
    ast.BitAnd: (ast.BitOr,),
    ast.Break: (ast.Continue,),
    ast.Continue: (ast.Break,),
}
#: What a statement in SQL may be changed to.
_SQL: Final = (
    (r"\bAND\b", "OR"),
    (r"\bNOT EXISTS\b", "EXISTS"),
    (r"\bIS NULL\b", "IS NOT NULL"),
    (r"\bIS NOT NULL\b", "IS NULL"),
    (r" \+ ", " - "),
    (r" - ", " + "),
    (r"\b(\w+) = (?:NULL|:\w+)(?=,|\nWHERE)", r"\1 = \1"),
    (r"'\w+'", "'?'"),
)


class Mutant(NamedTuple):
    """One changed place of a module: where it is, what became of it, and how it is made."""

    line: int
    column: int
    words: str
    change: Callable[[ast.AST], ast.AST | None]
    number: int  # of the node, as `ast.walk` counts
    within: tuple[str, ...] = ()  # the classes and the function in whose body it is, if in one

    def tree(self, source: str) -> ast.Module:
        """Return the module with this change."""
        tree = ast.parse(source)
        target = next(node for at, node in enumerate(ast.walk(tree)) if at == self.number)
        return ast.fix_missing_locations(_Replace(target, self.change).visit(tree))


class _Replace(ast.NodeTransformer):
    def __init__(self, target: ast.AST, change: Callable[[ast.AST], ast.AST | None]) -> None:
        self.target, self.change = target, change

    def visit(self, node: ast.AST) -> ast.AST:
        if node is not self.target:
            return self.generic_visit(node)
        changed = self.change(node)
        return ast.copy_location(ast.Pass() if changed is None else changed, node)


def mutants(source: str) -> Iterator[Mutant]:
    """Yield every mutant of a module, in the order of its tree."""
    tree = ast.parse(source)
    skipped = {id(inner) for node in ast.walk(tree) for inner in _unseen(node)}
    places = dict(_places(tree))
    for number, node in enumerate(ast.walk(tree)):
        if id(node) in skipped:
            continue
        for words, change in _changes(node):
            place = node.target if isinstance(node, ast.comprehension) else node
            within = places.get(id(node), ())
            yield Mutant(place.lineno, place.col_offset, words, change, number, within)


def _places(tree: ast.AST, *within: str) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Yield what is in the body of a function, and the names that lead to that."""
    for child in ast.iter_child_nodes(tree):
        if isinstance(child, ast.ClassDef):
            yield from _places(child, *within, child.name)
        elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            for statement in child.body:
                for node in ast.walk(statement):
                    yield id(node), (*within, child.name)


def _unseen(node: ast.AST) -> Iterator[ast.AST]:
    """Yield what no test can notice, or is not to pin: annotations, names for people, messages."""
    # Type aliases are annotations, too.
    if isinstance(node, ast.AnnAssign) and ast.unparse(node.annotation) == "TypeAlias":
        yield from ast.walk(node)
    parts: list[ast.AST | None] = []
    match node:
        case ast.arg() | ast.AnnAssign():
            parts = [node.annotation]
        case ast.FunctionDef() | ast.AsyncFunctionDef():
            parts = [node.returns, *node.decorator_list]
        case ast.ClassDef():
            parts = [*node.decorator_list]
        case ast.Subscript(value=ast.Name(id="Literal")):
            parts = [node]
        case ast.Call(func=ast.Name(id="cast")):
            parts = [node.args[0]]
        case ast.Assign(targets=[ast.Name(id="__slots__")]) | ast.JoinedStr():
            parts = [node]
        case ast.Assign(value=ast.Call(func=ast.Name(id="TypeVar"))):
            parts = [node]
        case ast.Expr(value=ast.Constant()) | ast.If(test=ast.Name(id="TYPE_CHECKING")):
            parts = [node]
    for part in parts:
        if part is not None:
            yield from ast.walk(part)


def _changes(node: ast.AST) -> Iterator[tuple[str, Callable[[ast.AST], ast.AST | None]]]:
    match node:
        case ast.Compare():
            for at, op in enumerate(node.ops):
                yield from _swaps(op, lambda one, new, at=at: one.ops.__setitem__(at, new))
        case ast.BoolOp() | ast.BinOp() | ast.AugAssign():
            yield from _swaps(node.op, lambda one, new: setattr(one, "op", new))
        case ast.UnaryOp(op=ast.Not() | ast.USub()):
            yield f"{ast.unparse(node)} -> without its sign", lambda one: one.operand
        case ast.Constant():
            for value in _values(node.value):
                words = f"{node.value!r:.80} -> {value!r:.200}"
                yield words, lambda _, value=value: ast.Constant(value)
        case ast.If() | ast.While() | ast.IfExp():
            yield from _negated(node.test, lambda one, new: setattr(one, "test", new))
        case ast.comprehension():
            for at, test in enumerate(node.ifs):
                yield from _negated(test, lambda one, new, at=at: one.ifs.__setitem__(at, new))
        case _:
            yield from _removals(node)


def _removals(node: ast.AST) -> Iterator[tuple[str, Callable[[ast.AST], ast.AST | None]]]:
    match node:
        case ast.Break() | ast.Continue():
            for new in _SWAPS[type(node)]:
                yield f"{type(node).__name__} -> {new.__name__}", lambda _, new=new: new()
        case ast.Expr() | ast.Raise() | ast.Delete():
            yield f"{ast.unparse(node):.60} -> pass", lambda _: None
        case ast.Return(value=ast.expr()) if ast.unparse(node.value) not in ("None", "False"):
            yield f"{ast.unparse(node):.60} -> return None", lambda _: ast.Return()


def _negated(
    test: ast.expr, put: Callable[[ast.AST, ast.expr], object]
) -> Iterator[tuple[str, Callable[[ast.AST], ast.AST]]]:
    if isinstance(test, ast.Compare | ast.UnaryOp):
        return  # It has changes of its own.

    def change(node: ast.AST) -> ast.AST:
        put(node, ast.UnaryOp(ast.Not(), test))
        return node

    yield f"{ast.unparse(test):.60} -> not that", change


def _swaps(
    op: ast.AST, put: Callable[[ast.AST, ast.AST], object]
) -> Iterator[tuple[str, Callable[[ast.AST], ast.AST]]]:
    for new in _SWAPS.get(type(op), ()):

        def change(node: ast.AST, new: type[ast.AST] = new) -> ast.AST:
            put(node, new())
            return node

        yield f"{type(op).__name__} -> {new.__name__}", change


def _values(value: object) -> Iterator[object]:
    if isinstance(value, bool):
        yield not value
    elif isinstance(value, int | float):
        yield value + 1
    elif isinstance(value, str) and re.search(r"\bWHERE\b", value):
        for pattern, new in _SQL:
            for found in re.finditer(pattern, value):
                yield value[: found.start()] + found.expand(new) + value[found.end() :]
    elif isinstance(value, str | bytes) and value and not re.search(r"\s", str(value)):
        yield value + value[:1]  # A word, or a pattern; sentences are for people.
