"""A Ray cluster on this machine; tests that need it skip, visibly, where Ray is not installed (`make test-ray`)."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

HERE = str(Path(__file__).parent)


METADATA = "'169.254.169.254'", "'metadata.google.internal'"
"""Ray asks the cloud that it may run in which one it is, and cannot be told not to; what it learns is sent nowhere."""


@pytest.fixture(autouse=True)
def no_network() -> Iterator[None]:
    """As for all tests, but for that."""
    tried = Path(os.environ["ISOMIX_TESTS_ATTEMPTS"])
    before = tried.stat().st_size
    yield
    lines = tried.read_text(encoding="utf-8")[before:].splitlines()
    found = [line for line in lines if not any(host in line for host in METADATA)]
    if found:
        pytest.fail(f"the network was tried: {found}", pytrace=False)


@pytest.fixture(scope="session")
def helpers() -> Any:
    """The module ``cluster_helpers``, importable here and in every process that the tests start."""
    sys.path.insert(0, HERE)
    os.environ["PYTHONPATH"] = os.pathsep.join((HERE, os.environ["PYTHONPATH"]))
    return importlib.import_module("cluster_helpers")


@pytest.fixture(scope="session")
def ray(helpers: Any) -> Any:
    """The package, with its processes on the loopback device only."""
    if importlib.util.find_spec("ray") is None:
        pytest.skip("ray is not installed here: make test-ray")
    from isomix._extras import require
    from isomix.cluster.ray_engine import LOOPBACK

    os.environ.setdefault(*LOOPBACK)
    return require("ray", "ray", "A test")


@pytest.fixture(scope="session")
def cluster(ray: Any) -> Iterator[Any]:
    """A cluster of one machine with two processors; tests add others."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 2, "object_store_memory": 200 * 2**20, "include_dashboard": False},
    )
    yield cluster
    ray.shutdown()
    cluster.shutdown()
