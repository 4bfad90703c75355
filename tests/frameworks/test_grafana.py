"""The dashboard of the guide, against what Prometheus is really given."""

from __future__ import annotations

import asyncio
import json
import re
from importlib.resources import files
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider

from apixo_async import AsyncClient, FluxKontext, WebhookReceiver
from apixo_async.otel import Instrument
from apixo_async.testing import Fault, MemoryStore, Simulator, VirtualTimeLoop

pytest.importorskip("opentelemetry.exporter.prometheus")
pytest.importorskip("promql_parser")

import promql_parser as promql
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

DASHBOARD = (files("apixo_async") / "guides/grafana.json").read_text("utf-8")

#: What the exporter names after the metric, by its kind.
PART = re.compile(r"_(bucket|count|sum)$")


@pytest.fixture(scope="module")
def emitted() -> dict[str, set[str]]:
    """Have a client do whatever is measured; return the labels of each series by its name."""
    registry = CollectorRegistry()
    meters = MeterProvider([PrometheusMetricReader(registry=registry)])
    instrument = Instrument(meter_provider=meters)
    simulator = Simulator(seed=1)
    receiver = WebhookReceiver("https://app.example.com/apixo", "a secret of sixteen bytes or more")
    simulator.deliver_to(receiver.asgi())
    simulator.faults.submit(
        None, Fault.lost_answer(), Fault.task_fails("NSFW"), Fault.status(400), Fault.status(429)
    )

    async def work() -> str:
        async with AsyncClient(
            "test-key",
            transport=simulator.transport(),
            store=MemoryStore(),
            webhooks=receiver,
            on_event=instrument,
        ) as client:
            instrument.observe(client)
            castle = FluxKontext(mode="pro", prompt="a castle")
            many = (client.generate(castle) for _ in range(8))
            await asyncio.gather(*many, return_exceptions=True)
            return generate_latest(registry).decode()

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        said = runner.run(work())
    labels: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(said):
        for sample in family.samples:
            labels.setdefault(sample.name, set()).update(sample.labels)
    meters.shutdown()
    return {name: known for name, known in labels.items() if name.startswith("apixo_")}


def expressions(dashboard: str) -> list[str]:
    """Return every query of the panels, with what Grafana puts in the place of its variables."""
    queries = [
        str(target["expr"])
        for panel in json.loads(dashboard)["panels"]
        for target in panel["targets"]
    ]
    assert queries
    return [text.replace("$__rate_interval", "5m").replace("$__range", "6h") for text in queries]


def selectors(tree: Any) -> list[Any]:
    """Return every selector of series in a query."""
    found: list[Any] = []

    def visit(expression: Any) -> None:
        if isinstance(expression, promql.VectorSelector):
            found.append(expression)

    promql.walk(tree, visit)
    assert found
    return found


def wrong(dashboard: str, emitted: dict[str, set[str]]) -> list[str]:
    """Return what queries use that no series has: names, labels, and queries that are none."""
    problems: list[str] = []
    for query in expressions(dashboard):
        try:
            tree = promql.parse(query)
        except ValueError as error:
            problems.append(f"{query}: {error}")
            continue
        grouped = {
            label
            for labels in re.findall(r"by \(([\w, ]+)\)", query)
            for label in labels.split(", ")
        }
        for selector in selectors(tree):
            if selector.name not in emitted:
                problems.append(f"{query}: there is no {selector.name}")
                continue
            asked = grouped | {matcher.name for matcher in selector.matchers.matchers}
            if missing := asked - emitted[selector.name]:
                problems.append(f"{query}: {selector.name} has no {missing}")
    return problems


def test_every_query_finds_something(emitted: dict[str, set[str]]) -> None:
    """Each name and each label is one that was emitted; the variables of the dashboard likewise."""
    assert wrong(DASHBOARD, emitted) == []
    [variable] = [
        each for each in json.loads(DASHBOARD)["templating"]["list"] if each["type"] == "query"
    ]
    known = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable["query"])
    assert known is not None
    assert known[2] in emitted[known[1]]


def test_every_metric_is_shown(emitted: dict[str, set[str]]) -> None:
    """What is emitted has a panel."""
    shown = {
        PART.sub("", selector.name)
        for query in expressions(DASHBOARD)
        for selector in selectors(promql.parse(query))
    }
    assert shown == {PART.sub("", name) for name in emitted}


@pytest.mark.parametrize(
    ("right", "other"),
    [
        ("apixo_task_duration_seconds_bucket", "apixo_task_duration_bucket"),
        ("apixo_cost_USD_total", "apixo_cost_total"),
        ("by (outcome)", "by (result)"),
        ('category!=\\"\\"', 'reason!=\\"\\"'),
        ("sum(apixo_slots_used)", "sum(apixo_slots_used"),
    ],
)
def test_what_is_wrong_is_found(emitted: dict[str, set[str]], right: str, other: str) -> None:
    """A name, a label, or a query that cannot be read."""
    assert right in DASHBOARD
    assert wrong(DASHBOARD.replace(right, other), emitted)
