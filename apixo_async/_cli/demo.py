"""`apixo demo`: a simulated run over a built-in list of prompts, failures included."""

from __future__ import annotations

import asyncio
import tempfile
import webbrowser
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from itertools import cycle, islice
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any, Final

import typer
from rich.text import Text

from apixo_async import Input, Limits, Outcome, events
from apixo_async._cli import options, session
from apixo_async._cli.console import Screen, seconds
from apixo_async._cli.inputs import make_input
from apixo_async._cli.report.write import PAGE
from apixo_async._cli.run.buying import Runner, RunResult
from apixo_async._cli.run.history import code_of
from apixo_async._cli.run.live_view import Notices
from apixo_async._cli.run.options import RunOptions, Simulation
from apixo_async._cli.run.summary import Summary
from apixo_async._cli.simulate import check_installed
from apixo_async._text import dollars, one_line

#: Limits of the demo's account, small enough that one sees them fill up.
LIMITS: Final = Limits(concurrent_tasks=12, requests_per_minute=1_000)
_BALANCE: Final = Decimal(1000)

_NEXT: Final = (
    ("apixo models", "what each model takes and costs"),
    ("apixo simulate", "the same service on a port, with a page on which to watch it"),
    ("APIXO_API_KEY=… apixo generate gpt-image-2 'a fox'", "the real thing: $0.02"),
)


@dataclass(frozen=True, slots=True)
class DemoPrompt:
    """One row of the demo."""

    model: str
    prompt: str
    fields: Mapping[str, object] = field(default_factory=dict[str, object])
    #: The failCode and failMsg with which the simulator ends its task, or None.
    fails: tuple[str, str] | None = None

    @property
    def input(self) -> Input:
        """The input to submit."""
        return make_input(self.model, {"prompt": self.prompt, **self.fields}).input


_ONE, _TWO, _FLUX = "gpt-image-1", "gpt-image-2", "flux-kontext"
_VIOLATION = ("CONTENT_VIOLATION", "Content does not meet safety guidelines")
_BAD_IMAGE = ("INVALID_IMAGE_URL", "A reference image URL could not be fetched or decoded")

PROMPTS: Final = (
    DemoPrompt(_TWO, "A lighthouse in a storm, oil on canvas", {"resolution": "4k"}),
    DemoPrompt(_ONE, "A cyberpunk cafe at night, neon in the puddles", {"aspect_ratio": "3:2"}),
    DemoPrompt(_FLUX, "Paper-cut mountains under a paper moon", {"aspect_ratio": "16:9"}),
    DemoPrompt(_TWO, "Isometric map of a tiny harbour town", {"aspect_ratio": "4:3"}),
    DemoPrompt(_ONE, "Four studies of a sleeping fox, charcoal", {"num_images": 4}),
    DemoPrompt(_FLUX, "A copper teapot on blue linen, morning light", {"output_format": "png"}),
    DemoPrompt(_TWO, "A violent scene that no page of this demo shows", fails=_VIOLATION),
    DemoPrompt(_ONE, "Botanical plate of an imaginary fern", {"aspect_ratio": "2:3"}),
    DemoPrompt(_FLUX, "Retro poster: trains to the sea", {"aspect_ratio": "9:16", "mode": "max"}),
    DemoPrompt(_TWO, "A library inside a hollow tree", {"resolution": "2k", "aspect_ratio": "3:4"}),
    DemoPrompt(_ONE, "A brass astronaut playing chess with a crab"),
    DemoPrompt(_FLUX, "Minimal logo of a heron, one line"),
    DemoPrompt(_TWO, "Rain on a tram window, bokeh of the old town", {"aspect_ratio": "16:9"}),
    DemoPrompt(_ONE, "Two variants of a winter postcard", {"num_images": 2, "aspect_ratio": "3:2"}),
    DemoPrompt(_FLUX, "A desert observatory at blue hour", {"aspect_ratio": "21:9"}),
    DemoPrompt(
        _TWO,
        "The same portrait, as a mosaic",
        {"image_urls": ["https://images.example.com/gone.png"]},
        fails=_BAD_IMAGE,
    ),
    DemoPrompt(_ONE, "A market of floating lanterns", {"aspect_ratio": "2:3"}),
    DemoPrompt(_FLUX, "Macro photograph of dew on a spider's web", {"mode": "max"}),
    DemoPrompt(_TWO, "Blueprint of a steam-powered bicycle", {"aspect_ratio": "4:3"}),
    DemoPrompt(_ONE, "A whale made of constellations", {"aspect_ratio": "3:2"}),
    DemoPrompt(_FLUX, "Children's book cover: the bear who baked", {"aspect_ratio": "3:4"}),
    DemoPrompt(_TWO, "An art deco ballroom under the sea", {"resolution": "2k"}),
    DemoPrompt(_ONE, "A portrait that the filter refuses", fails=_VIOLATION),
    DemoPrompt(_FLUX, "Terraced rice fields, drone view at dawn", {"aspect_ratio": "16:9"}),
)


def demo(
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="Where the pictures and index.html go.")
    ] = Path("apixo-demo"),
    speed: Annotated[
        float, typer.Option(min=0.1, max=1000, help="How many times faster than real tasks run.")
    ] = 20.0,
    tasks: Annotated[int, typer.Option(min=1, max=1000, help="How many tasks.")] = 24,
    seed: Annotated[int, typer.Option(help="Replays ids and durations.")] = 0,
    open_: Annotated[
        bool, typer.Option("--open/--no-open", help="Open the contact sheet in a browser.")
    ] = False,
    as_json: options.AsJson = False,
) -> None:
    """See the main job done: 24 tasks, some of which fail, in under 20 s.

    Needs no key and no network: a simulator of the service runs inside, on a port of this
    machine, and nothing is bought.
    """
    check_installed()
    screen = Screen(as_json=as_json)
    prompts = [*islice(cycle(PROMPTS), tasks)]
    with session.terminated_as_interrupted(), tempfile.TemporaryDirectory() as folder:
        simulation = Simulation(
            speed=speed,
            balance=_BALANCE,
            seed=seed,
            fails=[prompt.fails for prompt in prompts],
            journal=Path(folder) / "demo.db",  # Each demo begins anew.
        )
        run_options = RunOptions("", out, limits=LIMITS, simulate=True, simulation=simulation)
        run_options.make_folder()
        notices = DemoNotices(screen)
        title = f"apixo demo: {tasks} tasks, {speed:g} times as fast as real ones"
        runner = Runner(run_options, title, notices.inputs(prompts), tasks, screen, notices=notices)
        result = session.run(runner.buy(_BALANCE))
        summary = Summary(
            run_options,
            result,
            "apixo demo",
            note="Made by `apixo demo` on the embedded simulator: no model drew these pictures.",
            more=notices.facts(result),
        )
        code, document = summary.write_report(screen)
    if screen.as_json:
        screen.document(notices.document(prompts, result, out / PAGE))
    else:
        screen.note("")
        summary.print(document, screen)
        screen.note("")
        screen.note("Try next:", style="bold")
        for command, what in _NEXT:
            screen.note(f"  {command:<52} {what}")
    if open_ and document:
        webbrowser.open((out / PAGE).resolve().as_uri())
    # A task that fails is a part of the demo; what was interrupted, or not written, is not.
    if result.is_interrupted or not document:
        raise typer.Exit(code)


class DemoNotices(Notices):
    """The rows of the demo, one after the other, and a line for each that is over.

    Attributes:
        ages: Seconds from the submit of a task until its end was known, by its id.
        delays: Seconds from the end of each task, by the service's stamps, until it was known.
    """

    def __init__(self, screen: Screen) -> None:
        super().__init__(screen)
        self.outcomes: dict[str, Outcome] = {}
        self.ages: dict[str, float] = {}
        self.delays: list[float] = []
        self._settled_at: dict[str, datetime] = {}
        self._submitted = asyncio.Event()

    async def inputs(self, prompts: Sequence[DemoPrompt]) -> AsyncIterator[tuple[str, Input]]:
        """Yield the rows; the next one when one is bought, as the simulator fails them by turn."""
        for number, prompt in enumerate(prompts):
            self._submitted.clear()
            yield str(number), prompt.input
            await self._submitted.wait()

    def event(self, event: events.Event) -> None:
        """Note what became of a submit, and when a task was over."""
        if isinstance(event, events.TaskSubmitted | events.SubmitRefused | events.SubmitUncertain):
            self._submitted.set()
        elif isinstance(event, events.TaskSettled):
            self.ages[event.task_id] = event.age
            self._settled_at[event.task_id] = datetime.now(UTC)
        super().event(event)

    def outcome(self, where: str, outcome: Outcome) -> None:  # noqa: ARG002  # as its base class
        """Show what became of a row."""
        self.outcomes[outcome.key] = outcome
        if outcome.task is None:  # Whatever became of its submit, the next row may go.
            self._submitted.set()
        task_id = outcome.task.id if outcome.task else ""
        if outcome.result and outcome.result.completed_at and task_id in self._settled_at:
            late = self._settled_at[task_id] - outcome.result.completed_at
            self.delays.append(late.total_seconds())
        made, age = outcome.input, self.ages.get(task_id)
        assert made is not None  # The built-in rows are right.
        mark = ("failed ", "red") if outcome.error else ("done   ", "green")
        reason = f"{code_of(outcome.error)}  " if outcome.error else ""
        self.add(
            Text.assemble(
                mark,
                (f"{made.model:<12} ", "bold"),
                f"{'' if age is None else seconds(age):>6}  {dollars(_cost(outcome)):>6}  ",
                (reason, "red"),
                (one_line(str(made.payload()["prompt"])), "dim"),
                no_wrap=True,
                overflow="ellipsis",
            )
        )

    def facts(self, result: RunResult) -> Mapping[str, str]:
        """Return what the demo adds to the summary of a run."""
        facts = {"Polls": f"{result.polls}, {result.polls / result.rows:.1f} a task"}
        if self.delays:
            facts["Delay"] = (
                f"{fmean(self.delays):.2f} s from a task's end to its result, on average"
            )
        return facts

    def document(
        self, prompts: Sequence[DemoPrompt], result: RunResult, page: Path
    ) -> Mapping[str, object]:
        """Return the summary for programs."""
        tasks = [
            self._task(prompt, self.outcomes.get(str(number)), result, page.parent)
            for number, prompt in enumerate(prompts)
        ]
        succeeded = sum(task["state"] == "success" for task in tasks)
        before, after = result.balance_before or Decimal(0), result.balance_after or Decimal(0)
        return {
            "tasks": tasks,
            "succeeded": succeeded,
            "failed": len(tasks) - succeeded,
            "seconds": round((datetime.now(UTC) - result.began_at).total_seconds(), 3),
            "polls": result.polls,
            "mean_delay_of_news": fmean(self.delays) if self.delays else None,
            "spent": before - after,
            "contact_sheet": str(page),
        }

    def _task(
        self, prompt: DemoPrompt, outcome: Outcome | None, result: RunResult, folder: Path
    ) -> Mapping[str, Any]:
        # What had no turn failed for what ended the run.
        error = outcome.error if outcome else result.error
        task = outcome.task if outcome else None
        return {
            "model": prompt.model,
            "task_id": task and task.id,
            "prompt": prompt.prompt,
            "state": "success" if outcome and not error else "failed",
            "fail_code": code_of(error) if error else None,
            "seconds": self.ages.get(task.id) if task else None,
            "cost": _cost(outcome) if outcome else Decimal(0),
            "files": [str(folder / path.name) for path in outcome.paths] if outcome else [],
        }


def _cost(outcome: Outcome) -> Decimal:
    """Return USD by the documents' prices; a failed task was bought as well."""
    price = outcome.input.price if outcome.input and outcome.task else None
    return price or Decimal(0)
