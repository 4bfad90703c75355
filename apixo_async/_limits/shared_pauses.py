"""What 429s hold back in all processes of an account, and which of them sends the probe.

The process that meets a 429 pauses at once, and the others at their next exchange. One of them,
the first as a rule, sends the probe when the pause is over; its answer ends the pause for all.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Annotated, Final

from pydantic import Field

from apixo_async._limits.breaker import LimitScope, PauseGrant, PauseReport

#: Seconds after the end of a pause in which its prober has to say that the probe was answered;
#: then another process may send one.
PROBED: Final = 5.0


@dataclass(slots=True)
class SharedPause:
    """A pause of all processes.

    Attributes:
        number: Which one of the account's.
        probe_at: When the next probe may go, on the clock of the store.
        prober: The process that sends it.
        is_wanted: Whether that one has anything to send.
    """

    number: Annotated[int, Field(ge=1)]
    probe_at: Annotated[float, Field(ge=-1e12, le=1e12)]
    prober: str
    is_wanted: bool = True


def exchange_pauses(
    pauses: dict[LimitScope, SharedPause],
    reports: Mapping[LimitScope, PauseReport],
    member: str,
    living: Collection[str],
    now: float,
    number: int,
) -> dict[LimitScope, PauseGrant]:
    """Take in what a process reports of its breakers; return the pauses there are. `pauses` change.

    Args:
        pauses: What is known of the account.
        reports: What the process tells.
        member: Its name.
        living: The processes that live.
        now: The time of the store.
        number: Above that of every pause so far.
    """
    for scope, report in reports.items():
        pause = pauses.get(scope)
        if pause is None:
            if report.probe_in is not None and not report.number:
                pauses[scope] = SharedPause(number, now + report.probe_in, member)
                number += 1
            continue
        is_own = pause.prober == member
        if report.probe_in is not None:
            pause.probe_at = max(pause.probe_at, now + report.probe_in)
        elif is_own and report.number == pause.number:
            del pauses[scope]  # Its probe was answered.
            continue
        if is_own:
            pause.is_wanted = report.is_wanted
        elif pause.prober not in living or (
            report.is_wanted and (not pause.is_wanted or now > pause.probe_at + PROBED)
        ):
            pause.prober, pause.is_wanted = member, report.is_wanted
            pause.probe_at = max(pause.probe_at, now)
    return {
        scope: PauseGrant(pause.number, pause.probe_at - now, pause.prober == member)
        for scope, pause in pauses.items()
    }
