"""One set-up for all tests: four simulated devices, no screen, checked annotations, settings that stay as they were."""

import os
import sys

os.environ["MPLBACKEND"] = "Agg"  # before matplotlib is imported, here and in child processes

import hypothesis
import jax
import pytest
from beartype import BeartypeConf, beartype
from jaxtyping import config, install_import_hook

jax.config.update("jax_num_cpu_devices", 4)  # before the backend starts; tests of devices use 1, 2 and 4 of them
# Annotations of every call, shapes and dtypes among them, are checked in this run. An int passes for a float.
checked = beartype(conf=BeartypeConf(is_pep484_tower=True))
install_import_hook("landscape", "conftest.checked")
# The examples are the same in every run, and the first one may take as long as a compilation.
hypothesis.settings.register_profile("fixed", derandomize=True, deadline=None)
hypothesis.settings.load_profile("fixed")


@pytest.fixture
def unchecked():
    """Calls as users make them, without checked annotations: for sentences about what an annotation already forbids."""
    config.update("jaxtyping_disable", True)
    yield
    config.update("jaxtyping_disable", False)


@pytest.fixture(autouse=True, scope="module")
def programs_are_dropped():
    """A compiled program holds memory maps, of which Linux gives a process 65530: a whole suite's do not fit in."""
    yield
    jax.clear_caches()


@pytest.fixture(autouse=True)
def settings_stay_as_they_were():
    """No call leaves JAX's x64 switch, or a figure, behind."""
    before = jax.config.jax_enable_x64
    yield
    assert jax.config.jax_enable_x64 == before
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")
