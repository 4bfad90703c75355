"""A class of inputs is built at its first use, whatever that is and in however many threads."""

from __future__ import annotations

import pickle
import subprocess
import sys

import pytest
from pydantic import BaseModel

from apixo_async.inputs import DOCUMENTED, GptImage1, from_dict

GIVEN = GptImage1(prompt="a cozy cafe", aspect_ratio="3:2", num_images=2)

#: What may be the first use: statements after which `given` is the input.
FIRST_USES = {
    "unpickled": f"given = pickle.loads({pickle.dumps(GIVEN)!r})",
    "copied": f"given = copy.deepcopy(pickle.loads({pickle.dumps(GIVEN)!r}))",
    "read": f"given = apixo_async.from_dict('gpt-image-1', {GIVEN.payload()})",
    "parsed": f"given = GptImage1.model_validate_json({GIVEN.model_dump_json()!r})",
    "described": f"GptImage1.model_json_schema(); given = GptImage1(**{GIVEN.payload()})",
    "part of a model": (
        f"given = pydantic.create_model('Order', one=GptImage1)(one={GIVEN.payload()}).one"
    ),
    "part of an adapter": (
        f"(given,) = pydantic.TypeAdapter(list[GptImage1]).validate_python([{GIVEN.payload()}])"
    ),
}

IN_THREADS = f"""
def use():
    barrier.wait()
    made.append(GptImage1(**{GIVEN.payload()}))
sys.setswitchinterval(1e-6)
barrier, made = threading.Barrier(8), []
threads = [threading.Thread(target=use) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
(given,) = set(made)
assert len(made) == 8
"""


def in_a_fresh_interpreter(statements: str) -> str:
    program = (
        "import copy, pickle, sys, threading, apixo_async, pydantic\n"
        "from apixo_async import GptImage1\n"
        f"{statements}\nprint(repr(given), given.payload())"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.strip()


@pytest.mark.parametrize("statements", FIRST_USES.values(), ids=FIRST_USES)
def test_the_first_use_is_like_any_other(statements: str) -> None:
    """Nobody needs to know that a class is built at its first use."""
    assert in_a_fresh_interpreter(statements) == f"{GIVEN!r} {GIVEN.payload()}"


def test_the_first_use_may_be_in_several_threads() -> None:
    """Threads that use a class for the first time at the same time all get whole inputs."""
    assert in_a_fresh_interpreter(IN_THREADS) == f"{GIVEN!r} {GIVEN.payload()}"


def test_a_class_of_ones_own_is_built_as_well() -> None:
    """A caller's subclass, and a model that has inputs as parts, are checked like the classes."""

    class Cafe(GptImage1):
        table: int

    class Order(BaseModel):
        wanted: Cafe

    one = Order.model_validate({"wanted": {**GIVEN.payload(), "table": 3}}).wanted
    assert (one.table, one.model, one.price) == (3, "gpt-image-1", GIVEN.price)
    with pytest.raises(ValueError, match="num_images"):
        Cafe.model_validate({**GIVEN.payload(), "table": 3, "num_images": 3})


def test_importing_builds_no_class() -> None:
    """The import of the package leaves the classes to whoever uses them."""
    built = "[cls.__pydantic_complete__ for cls in apixo_async.inputs.DOCUMENTED.values()]"
    program = f"import apixo_async; print(any({built}))"
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    assert ran.stdout.strip() == "False"
    assert from_dict("gpt-image-1", GIVEN.payload()) == GIVEN
    assert DOCUMENTED["gpt-image-1"].__pydantic_complete__
