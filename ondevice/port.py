"""A serial port, or anything else that pyserial has a URL for, as a stream of bytes."""

import errno
import select
import time

import serial

from fieldtune.errors import LinkError

_READ_BYTES = 65536
_STUCK_WRITE_S = 10.0
_UNSELECTABLE_READ_S = 0.05


class Port:
    """An open port. `url` is a device such as /dev/ttyACM0, or another of pyserial's URLs."""

    def __init__(self, url: str, baud: int) -> None:
        """Open the port, for this process alone, with DTR and RTS low so that boards are not reset by it.

        Raises:
            LinkError: it cannot be opened; the sentence says how to mend that.
        """
        self.url = url
        try:
            # Timeout 0: read() returns what is there. Waiting is done by select, because setting a timeout
            # for every read would configure the terminal anew each time.
            self._serial = serial.serial_for_url(
                url, do_not_open=True, baudrate=baud, timeout=0, write_timeout=_STUCK_WRITE_S, exclusive=True
            )
            self._serial.dtr = False
            self._serial.rts = False
            self._serial.open()
        except (serial.SerialException, OSError, ValueError) as error:
            raise LinkError(_why_closed(url, error)) from error
        self._selectable = _has_descriptor(self._serial)
        if not self._selectable:
            self._serial.timeout = _UNSELECTABLE_READ_S

    def read(self, timeout: float) -> bytes:
        """Bytes that have arrived; waits for the first one at most `timeout` seconds.

        Raises:
            LinkError: the connection is gone.
        """
        try:
            if self._selectable:
                ready, _, _ = select.select([self._serial], [], [], max(timeout, 0.0))
                return bytes(self._serial.read(_READ_BYTES)) if ready else b""
            return self._read_unselectable(timeout)
        except (serial.SerialException, OSError) as error:
            raise self._broken(error) from error

    def _read_unselectable(self, timeout: float) -> bytes:
        end = time.monotonic() + timeout
        while not (first := self._serial.read(1)) and time.monotonic() < end:
            pass
        return bytes(first + self._serial.read(self._serial.in_waiting)) if first else b""

    def write(self, data: bytes) -> None:
        """Send all of `data`.

        Raises:
            LinkError: the connection is gone, or takes no bytes for ten seconds.
        """
        try:
            self._serial.write(data)
        except serial.SerialTimeoutException as error:
            raise LinkError(
                f"the board at {self.url} takes no bytes; reset it, and check that it runs our firmware"
            ) from error
        except (serial.SerialException, OSError) as error:
            raise self._broken(error) from error

    def close(self) -> None:
        """Close the port; closing it twice does no harm."""
        self._serial.close()

    def _broken(self, error: Exception) -> LinkError:
        return LinkError(
            f"the connection to {self.url} broke ({error}); "
            "check cable and power, then continue with --resume"
        )


def _has_descriptor(port: serial.Serial) -> bool:
    try:
        return port.fileno() >= 0
    except OSError:
        return False


def _why_closed(url: str, error: Exception) -> str:
    code = getattr(error, "errno", None)
    if code in (errno.EACCES, errno.EPERM):
        return f"no permission to open {url}; run: sudo usermod -aG dialout $USER, then log in again"
    if code in (errno.EBUSY, errno.EAGAIN):
        return f"{url} is in use by another program; find it with: fuser -v {url}"
    if code in (errno.ENOENT, errno.ENODEV, errno.ENXIO):
        return f"there is no port {url}; plug the board in and look for its port with: ls /dev/serial/by-id"
    return f"cannot open {url} ({error}); name the board's port with --port"
