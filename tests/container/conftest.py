"""The images, built once (not at all where SLIMLINE_BUILT says that they are), and a workspace for each test."""

import os
import uuid
from collections.abc import Iterator

import pytest
from engine import IMAGE, SERVICES, Volume, build


@pytest.fixture(scope="session")
def image() -> str:
    if "SLIMLINE_BUILT" not in os.environ:
        build("pipeline", IMAGE)
    return IMAGE


@pytest.fixture(scope="session")
def services(image: str) -> str:
    if "SLIMLINE_BUILT" not in os.environ:
        build("services", SERVICES)
    return SERVICES


@pytest.fixture
def volume(image: str) -> Iterator[Volume]:
    with Volume(f"slimline-test-{uuid.uuid4().hex[:8]}", image).another("workspace") as made:
        yield made
