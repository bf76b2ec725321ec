"""The few calls of the CUDA driver that an engine needs, by ctypes: memory, a stream, and a captured graph.

The driver's library comes with every NVIDIA GPU, so no further package is needed. Names and signatures are those of
cuda.h (CUDA Driver API, version 12).
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from inference.backends.interface import BackendError

_LIBRARY: Final = "libcuda.so.1"
_NAME_LENGTH: Final = 128
_NON_BLOCKING: Final = 1  # CU_STREAM_NON_BLOCKING
_RELAXED: Final = 2  # CU_STREAM_CAPTURE_MODE_RELAXED: other threads may allocate meanwhile


@cache
def _driver() -> Any:
    """Load and initialise the driver, and take the first device's primary context."""
    try:
        library = ctypes.CDLL(_LIBRARY)
    except OSError as error:
        raise BackendError("there is no NVIDIA driver here") from error
    _check(library, library.cuInit(0), "cuInit")
    return library


@cache
def _context() -> ctypes.c_void_p:
    driver, device, context = _driver(), ctypes.c_int(), ctypes.c_void_p()
    _check(driver, driver.cuDeviceGet(ctypes.byref(device), 0), "cuDeviceGet")
    _check(driver, driver.cuDevicePrimaryCtxRetain(ctypes.byref(context), device), "cuDevicePrimaryCtxRetain")
    return context


@cache
def device_name() -> str | None:
    """Name of the first GPU, or None where there is none."""
    try:
        driver, device = _driver(), ctypes.c_int()
        _check(driver, driver.cuDeviceGet(ctypes.byref(device), 0), "cuDeviceGet")
        name = ctypes.create_string_buffer(_NAME_LENGTH)
        _check(driver, driver.cuDeviceGetName(name, _NAME_LENGTH, device), "cuDeviceGetName")
    except BackendError:
        return None
    return name.value.decode(errors="replace")


def make_current() -> None:
    """Make the device's primary context this thread's; several engines of one process share it."""
    _call("cuCtxSetCurrent", _context())


class Stream:
    """An own stream, so that nothing waits for what others do."""

    def __init__(self) -> None:
        self.handle = ctypes.c_void_p()
        _call("cuStreamCreate", ctypes.byref(self.handle), ctypes.c_uint(_NON_BLOCKING))

    def synchronize(self) -> None:
        """Wait until everything on it is done."""
        _call("cuStreamSynchronize", self.handle)

    @contextmanager
    def capturing(self) -> Iterator[list[Callable[[], None]]]:
        """Record what is put on the stream; at the end the list holds the one call that launches it all."""
        launch: list[Callable[[], None]] = []
        graph, instance = ctypes.c_void_p(), ctypes.c_void_p()
        _call("cuStreamBeginCapture_v2", self.handle, ctypes.c_int(_RELAXED))
        try:
            yield launch
        finally:
            _call("cuStreamEndCapture", self.handle, ctypes.byref(graph))
        _call("cuGraphInstantiateWithFlags", ctypes.byref(instance), graph, ctypes.c_ulonglong(0))
        _call("cuGraphDestroy", graph)
        launch.append(lambda: _call("cuGraphLaunch", instance, self.handle))


class Buffer:
    """Memory on the device, with its twin in pinned memory of the host."""

    def __init__(self, shape: tuple[int, ...], dtype: Any) -> None:
        size = max(1, int(np.prod(shape))) * np.dtype(dtype).itemsize
        self._size = size
        self._device, self._pinned = ctypes.c_void_p(), ctypes.c_void_p()
        _call("cuMemAlloc_v2", ctypes.byref(self._device), ctypes.c_size_t(size))
        _call("cuMemAllocHost_v2", ctypes.byref(self._pinned), ctypes.c_size_t(size))
        memory = (ctypes.c_byte * size).from_address(self._pinned.value or 0)
        self.host: NDArray[Any] = np.frombuffer(memory, dtype)[: int(np.prod(shape))].reshape(shape)

    @property
    def address(self) -> int:
        """Address on the device."""
        return self._device.value or 0

    def upload(self, stream: Stream) -> None:
        """Copy host to device, in the order of the stream."""
        _call("cuMemcpyHtoDAsync_v2", self._device, self._pinned, ctypes.c_size_t(self._size), stream.handle)

    def download(self, stream: Stream) -> None:
        """Copy device to host, in the order of the stream."""
        _call("cuMemcpyDtoHAsync_v2", self._pinned, self._device, ctypes.c_size_t(self._size), stream.handle)

    def free(self) -> None:
        """Give both back; nothing may still use them."""
        _call("cuMemFree_v2", self._device)
        _call("cuMemFreeHost", self._pinned)


def _call(name: str, *arguments: Any) -> None:
    driver = _driver()
    _check(driver, getattr(driver, name)(*arguments), name)


def _check(driver: Any, status: int, name: str) -> None:
    if status == 0:
        return
    text = ctypes.c_char_p()
    driver.cuGetErrorName(ctypes.c_int(status), ctypes.byref(text))
    raise BackendError(f"{name} failed: {(text.value or b'status %d' % status).decode()}")
