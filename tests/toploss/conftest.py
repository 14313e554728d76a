"""What the tests of the ground floor may ask for."""

import pytest

from tests.toploss import given
from toploss import classes


@pytest.fixture
def cat(home):
    """One sample among two classes."""
    classes.add(home, "dog", actor="ann")
    return given.sample(home, 1, "cat").id
