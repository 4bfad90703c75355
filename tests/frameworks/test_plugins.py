"""The fixtures under each runner of async tests, in test runs of their own."""

from __future__ import annotations

import pytest

BOUND = 300  # seconds after which a run that hangs fails
ENABLED = 'pytest_plugins = ["apixo_async.testing.plugin"]\n'

ANYIO = """
import pytest

@pytest.fixture
def anyio_backend(apixo_virtual_time):
    return apixo_virtual_time
"""

ASYNCIO = """
from apixo_async.testing import VirtualTimeLoop

def pytest_asyncio_loop_factories(config, item):
    return {"virtual": VirtualTimeLoop}
"""

FAST = """
import pytest
from apixo_async.testing import Simulator

@pytest.fixture
def apixo_simulator():
    return Simulator(speed=1000)
"""

TESTS = """
import asyncio
import pytest
from apixo_async import GptImage1

run_by_plugin = MARK

@run_by_plugin
async def test_the_main_job(apixo_client, apixo_simulator):
    began = asyncio.get_running_loop().time()
    result = await apixo_client.generate(GptImage1(prompt="p", aspect_ratio="1:1", num_images=1))
    assert len(result.urls) == apixo_simulator.created == 1
    assert asyncio.get_running_loop().time() - began > 20 / apixo_simulator.options.speed

@run_by_plugin
async def test_each_test_has_a_service_and_a_client_of_its_own(apixo_client, apixo_simulator):
    assert apixo_simulator.created == apixo_client.statistics().submits == 0

def test_a_test_without_a_loop_has_the_service(apixo_simulator, apixo_store):
    assert apixo_simulator.created == 0
"""

RUNNERS = {
    "anyio": (ANYIO, "pytest.mark.anyio", ()),
    "asyncio strict": (ASYNCIO, "pytest.mark.asyncio", ()),
    "asyncio auto": (ASYNCIO, "lambda test: test", ("-o", "asyncio_mode=auto")),
    "asyncio with wide loops": (
        ASYNCIO,
        "pytest.mark.asyncio(loop_scope='module')",
        ("-o", "asyncio_default_fixture_loop_scope=module"),
    ),
}
each_runner = pytest.mark.parametrize("runner", RUNNERS)


def run(pytester: pytest.Pytester, conftest: str, test: str, *args: str) -> pytest.RunResult:
    """Run tests in a process of their own, where every plugin is as users have it."""
    pytester.makeconftest(ENABLED + conftest)
    pytester.makepyfile(test_inner=test)
    if "no:asyncio" not in args:
        # Unset it is a warning.
        args = ("-o", "asyncio_default_fixture_loop_scope=function", *args)
    return pytester.runpytest_subprocess(
        "-W", "error", "-p", "no:cacheprovider", *args, timeout=BOUND
    )


@each_runner
def test_fixtures_in_virtual_time(pytester: pytest.Pytester, runner: str) -> None:
    """Simulator, client and store work, and waiting costs nothing, with two lines of settings."""
    conftest, mark, args = RUNNERS[runner]
    run(pytester, conftest, TESTS.replace("MARK", mark), *args).assert_outcomes(passed=3)


@each_runner
def test_fixtures_in_real_time_on_purpose(pytester: pytest.Pytester, runner: str) -> None:
    """Those who give a fast simulator run in real time, without a warning."""
    _, mark, args = RUNNERS[runner]
    run(pytester, FAST, TESTS.replace("MARK", mark), *args).assert_outcomes(passed=3)


@pytest.mark.parametrize("runner", ["anyio", "asyncio strict", "asyncio auto"])
def test_real_time_by_accident(pytester: pytest.Pytester, runner: str) -> None:
    """A client of a simulator that is not fast, on a loop that really waits, is a warning."""
    _, mark, args = RUNNERS[runner]
    ran = run(pytester, "", TESTS.replace("MARK", mark), *args)
    ran.assert_outcomes(errors=2, passed=1)
    ran.stdout.fnmatch_lines(["*RealTimeWarning: this test runs in real time*apixo docs testing*"])


def test_virtual_time_of_the_other_plugin(pytester: pytest.Pytester) -> None:
    """To ask for anyio's virtual time where pytest-asyncio runs the test is a warning."""
    test = """
    import pytest

    @pytest.mark.asyncio
    async def test(apixo_virtual_time):
        pass
    """
    ran = run(pytester, "", test)
    ran.assert_outcomes(errors=1)
    ran.stdout.fnmatch_lines(["*RealTimeWarning: apixo_virtual_time is for*anyio_backend*"])


def test_a_client_without_a_runner(pytester: pytest.Pytester) -> None:
    """Where nothing runs async tests, the error says what the fixture needs."""
    ran = run(pytester, "", "def test(apixo_client):\n    pass", "-p", "no:asyncio")
    ran.assert_outcomes(errors=1)
    ran.stdout.fnmatch_lines(["*apixo_client: neither anyio's plugin runs this test*"])


UNITTEST = """
import asyncio
import sys
import unittest
from apixo_async import AsyncClient, GptImage2
from apixo_async.testing import Simulator, VirtualTimeLoop

class ImageTest(unittest.IsolatedAsyncioTestCase):
    loop_factory = VirtualTimeLoop

    async def asyncSetUp(self):
        self.service = Simulator(speed=1 if sys.version_info >= (3, 13) else 1000)
        transport, polling = self.service.transport(), self.service.polling
        client = AsyncClient("test-key", transport=transport, polling=polling)
        self.client = await self.enterAsyncContext(client)

    async def test_the_main_job(self):
        result = await self.client.generate(GptImage2(prompt="a lighthouse"))
        self.assertEqual(len(result.urls), self.service.created)

    async def test_time(self):
        virtual = isinstance(asyncio.get_running_loop(), VirtualTimeLoop)
        self.assertEqual(virtual, sys.version_info >= (3, 13))
"""


def test_unittest(pytester: pytest.Pytester) -> None:
    """An `IsolatedAsyncioTestCase` enters a client, in virtual time from Python 3.13 on."""
    run(pytester, "", UNITTEST).assert_outcomes(passed=2)
