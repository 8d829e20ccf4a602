"""The one exception tree.

Whatever goes wrong reaches the user as one sentence: what is wrong, where, what to do. The exit code says
whose mistake it is: 2 the user's (input, set-up, cable), 1 ours.
"""


class FieldtuneError(Exception):
    """Base of everything Fieldtune raises on purpose; by itself it means a defect of ours."""

    exit_code = 1


class UserError(FieldtuneError):
    """Something the user can mend: a file, an option, a missing tool."""

    exit_code = 2


class ModelError(UserError):
    """The model cannot be used as it is: unknown operator, dynamic shape, broken file."""


class DataError(UserError):
    """The frames cannot be used: missing file, wrong layout, no valid label."""


class BoardError(UserError):
    """The board, its description, its tools or its firmware build are not usable."""


class DoesNotFitError(BoardError):
    """The plan needs more than the board, ``--ram`` or ``--time`` gives; raised before any build."""


class OtherFirmwareError(BoardError):
    """The board runs Fieldtune's firmware, but that of another plan."""


class LinkError(UserError):
    """The board does not answer, or the port cannot be opened."""


class SilentError(LinkError):
    """The port is open, and nothing there speaks the protocol."""


class DeviceResetError(LinkError):
    """The board has started anew: whatever was in its RAM is gone."""
