"""One tree of exceptions, and who is to blame."""

import pytest

from fieldtune import errors
from fieldtune.errors import BoardError, DoesNotFitError, FieldtuneError, LinkError, UserError

EXCEPTIONS = [kind for kind in vars(errors).values() if isinstance(kind, type)]


@pytest.mark.parametrize("kind", EXCEPTIONS, ids=lambda kind: kind.__name__)
def test_every_exception_is_ours_and_blames_the_user_or_us(kind: type[FieldtuneError]) -> None:
    assert issubclass(kind, FieldtuneError)
    assert kind.exit_code == (2 if issubclass(kind, UserError) else 1)
    assert kind.__doc__


def test_what_is_caught_together_is_related() -> None:
    assert issubclass(DoesNotFitError, BoardError)
    assert issubclass(errors.DeviceResetError, LinkError)
