"""Numbered statements, each with a check: a function of what was seen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Final, Literal, TypeAlias

from apixo_async.testing.contract.evidence import Evidence, SeenAnswer, Unknown
from apixo_async.testing.contract.probe import Plan
from apixo_async.testing.open_points import DEFAULTS

Agreement: TypeAlias = Literal["agree", "differ", "unknown"]


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found.

    Attributes:
        verdict: Whether the service does as the statement has it.
        evidence: What was seen, or why nothing was.
    """

    verdict: Agreement
    evidence: str


StatementCheck: TypeAlias = Callable[[Evidence, Plan], Finding]


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement of the contract.

    Attributes:
        number: Stays the same in all versions of the contract.
        text: The statement.
        source: Which documents have it; "open" where none has, and clients assume it.
        place: The line of the catalogue, of the inputs or of the simulator that has it, and is
            wrong where the service differs.
        check: Decides by the evidence.
    """

    number: int
    text: str
    source: str
    place: str
    check: StatementCheck

    def examine(self, evidence: Evidence, plan: Plan) -> Finding:
        """Check the statement; the evidence is one line that holds nothing of the account."""
        try:
            found = self.check(evidence, plan)
        except Unknown as reason:
            found = Finding("unknown", str(reason))
        except (ArithmeticError, ValueError, TypeError, LookupError, RecursionError) as exc:
            found = Finding("unknown", f"an answer cannot be read ({type(exc).__name__})")
        words = found.evidence
        if found.verdict == "differ":
            words = f"{words}; contradicts {self.place}"
        return Finding(found.verdict, evidence.clean(words))


#: By number. The modules of the checks fill it.
STATEMENTS: Final[dict[int, Statement]] = {}


def stated(
    number: int, text: str, source: str, place: str
) -> Callable[[StatementCheck], StatementCheck]:
    """Make a check that of a statement, which documents have."""

    def add(check: StatementCheck) -> StatementCheck:
        assert number not in STATEMENTS
        STATEMENTS[number] = Statement(number, text, source, place, check)
        return check

    return add


def assumed(number: int, text: str, place: str) -> Callable[[StatementCheck], StatementCheck]:
    """Make a check that of a statement, which no document has."""
    return stated(number, text, "open", place)


# --- what checks share --------------------------------------------------------------------------


def found(agrees: bool, evidence: str) -> Finding:
    """Return a finding that agrees or differs."""
    return Finding("agree" if agrees else "differ", evidence)


def observed(switch: str, value: object, evidence: str) -> Finding:
    """Compare what was seen with a switch of the simulator, as it is unless given."""
    if value == getattr(DEFAULTS, switch):
        return Finding("agree", evidence)
    return Finding("differ", f"{evidence}: as with OpenPoints({switch}={value!r})")


def kind(value: object) -> str:
    """Return what a value of JSON is, without the value."""
    if value is None:
        return "null or missing"
    names: tuple[tuple[type | tuple[type, ...], str], ...] = (
        (bool, "a bool"),
        ((int, Decimal), "a number"),
        (str, "a text"),
        (dict, "an object"),
    )
    return next((name for kinds, name in names if isinstance(value, kinds)), "a list")


def is_object(value: object) -> bool:
    """Return True for an object of JSON."""
    return isinstance(value, dict)


def value_of(answer: SeenAnswer, name: str) -> object:
    """Return a field of a status.

    Raises:
        Unknown: There is none.
    """
    if answer.status_object.get(name) is None:
        raise Unknown(f"there is no {name}: {answer.says()}")
    return answer.status_object[name]
