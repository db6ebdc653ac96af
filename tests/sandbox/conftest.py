"""One sandbox per module, back in its generated state before each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from apps.sandbox.server import Sandbox
from tests.sandbox.client import Client


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(people=300, seed=1) as running:
        yield running


@pytest.fixture
def client(sandbox: Sandbox) -> Client:
    sandbox.control.post("reset")
    return Client(sandbox)
