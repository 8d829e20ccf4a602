"""How long the host waits for the board."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Timing:
    """How long the host waits, in seconds."""

    first: float = 0.5  # for an answer, before any was measured
    shortest: float = 0.25  # least wait before a frame is sent again
    longest: float = 2.0  # most wait before a frame is sent again
    silence: float = 5.0  # without a word from the board before it is given up
    long_unheard: float = 60.0  # the same, for a long command whose BUSY may be lost
    computing: float = 1800.0  # from a long command's BUSY to its reply
    computing_check: float = 5.0  # from BUSY until the host asks again, before one reply was measured


DEFAULT_TIMING = Timing()


class Delay:
    """How long the answers to one kind of message take: mean and deviation as in RFC 6298, section 2.

    With several frames on their way it is the time since the previous answer, so that the wait need not grow
    with the window.
    """

    def __init__(self, timing: Timing) -> None:
        self._timing = timing
        self._mean: float | None = None
        self._deviation = 0.0
        self.wait = timing.first
        """Seconds to wait before a frame is sent again."""

    def add(self, seconds: float) -> None:
        """Learn from an answer to a frame that was sent once."""
        if self._mean is None:
            self._mean, self._deviation = seconds, seconds / 2
        else:
            self._deviation += (abs(seconds - self._mean) - self._deviation) / 4
            self._mean += (seconds - self._mean) / 8
        estimate = self._mean + 4 * self._deviation
        self.wait = min(max(estimate, self._timing.shortest), self._timing.longest)

    def back_off(self) -> None:
        """Learn that a frame was not answered in time: wait longer, until an answer says how long."""
        self.wait = min(2 * self.wait, self._timing.longest)
