"""What can go wrong between host and device, and what the scheduler does about each."""

from __future__ import annotations

from datk.errors import DatkError


class InventoryError(DatkError):
    """devices.yaml does not say what it must; lists every problem at once."""


class DeviceError(DatkError):
    """Something went wrong on a device or on the way to it.

    retry: the same job may be tried again. counts: the try uses up one of the job's attempts. quarantine: the device
    is set aside, so that other jobs do not run into the same wall.
    """

    exit_code = 4
    retry = True
    counts = True
    quarantine = False


class ConnectionLost(DeviceError):
    """The way to the device broke: no route, refused, cut, or silent for too long."""


class HostKeyRefused(DeviceError):
    """The device's host key is unknown or another than known_hosts holds. Never retried: it may be an attack."""

    retry = False


class AccessRefused(DeviceError):
    """The device does not accept the user or key."""

    retry = False


class DeviceBusy(DeviceError):
    """Another host's job holds the device. Waiting costs no attempt."""

    counts = False


class DeviceFull(DeviceError):
    """No space left on the device."""

    retry = False
    quarantine = True


class WrongDevice(DeviceError):
    """The device is not what the inventory says: architecture, missing Python, missing runtime."""

    retry = False


class AgentCrashed(DeviceError):
    """The agent or the runtime it loaded died: signal, out of memory, uncaught error."""


class JobTimeout(DeviceError):
    """The job did not end within its limit; its processes on the device were ended."""


class CorruptResult(DeviceError):
    """What came back is not what the agent writes: wrong hash, shape, schema, size or kind of file."""


class JobFailed(DeviceError):
    """The runtime on the device refuses the artifact, in its own words. Trying again would not help."""

    retry = False
