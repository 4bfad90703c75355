"""Plugin: its fixtures, in a test run of its own."""

from __future__ import annotations

import pytest

CONFTEST = """
import pytest
pytest_plugins = ["apixo_async.testing.plugin"]

@pytest.fixture
def anyio_backend(apixo_virtual_time):
    return apixo_virtual_time
"""

TESTS = """
import asyncio
import pytest
from apixo_async import GptImage1

pytestmark = pytest.mark.anyio

async def test_the_main_job(apixo_client, apixo_simulator):
    began = asyncio.get_running_loop().time()
    task = await apixo_client.submit(GptImage1(prompt="p", aspect_ratio="1:1", num_images=1))
    result = await task
    assert len(result.urls) == 1
    assert apixo_simulator.created == 1
    assert asyncio.get_running_loop().time() - began > 20

async def test_each_test_has_a_service_of_its_own(apixo_simulator):
    assert apixo_simulator.created == 0
    await asyncio.sleep(100)
"""


def test_the_fixtures_work_in_a_users_tests(pytester: pytest.Pytester) -> None:
    """Client, simulator and virtual time come from the one line that enables the plugin."""
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(TESTS)
    result = pytester.runpytest_inprocess("-W", "error", "-p", "no:cacheprovider")
    result.assert_outcomes(passed=2)


def test_real_time_by_accident_is_a_warning(pytester: pytest.Pytester) -> None:
    """A client of a simulator that is not fast, on a loop that really waits, is warned of."""
    pytester.makeconftest(CONFTEST.partition("@pytest.fixture")[0])
    pytester.makepyfile(
        """
        import pytest

        @pytest.fixture
        def anyio_backend():
            return "asyncio"

        @pytest.mark.anyio
        async def test(apixo_client):
            pass
        """
    )
    result = pytester.runpytest_inprocess("-W", "default", "-p", "no:cacheprovider")
    result.assert_outcomes(passed=1, warnings=1)
    result.stdout.fnmatch_lines(["*RealTimeWarning: this test runs in real time*"])


def test_what_cannot_work_says_why(pytester: pytest.Pytester) -> None:
    """A test that no plugin runs gets no client, and is warned of virtual time without effect."""
    pytester.makeconftest(CONFTEST.partition("@pytest.fixture")[0])
    pytester.makepyfile(
        """
        def test_client(apixo_client):
            pass

        def test_time(apixo_virtual_time):
            pass
        """
    )
    result = pytester.runpytest_inprocess("-W", "default", "-p", "no:cacheprovider")
    result.assert_outcomes(errors=1, passed=1, warnings=1)
    result.stdout.fnmatch_lines(["*apixo_client: neither anyio's plugin runs this test*"])
