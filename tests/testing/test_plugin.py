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
