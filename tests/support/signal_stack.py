"""Signals on the stack that the program itself runs on, as in `serve`."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_SS_DISABLE: Final = 2  # sigaltstack(2)


class _Stack(ctypes.Structure):
    _fields_ = (("ss_sp", ctypes.c_void_p), ("ss_flags", ctypes.c_int), ("ss_size", ctypes.c_size_t))


@contextmanager
def without_signal_stack() -> Iterator[None]:
    """Take away the stack for signals that pytest's faulthandler has set up, for this thread and a while.

    It holds one signal's frame. On a processor with AMX a frame takes 12 KB once the tiles have been used, so that
    two signals that are due at the same moment overflow it: the kernel ends the process ("overflowed sigaltstack").
    """
    libc, before = ctypes.CDLL(None, use_errno=True), _Stack()
    if libc.sigaltstack(ctypes.byref(_Stack(None, _SS_DISABLE, 0)), ctypes.byref(before)):
        raise OSError(ctypes.get_errno(), "sigaltstack")
    try:
        yield
    finally:
        libc.sigaltstack(ctypes.byref(before), None)
