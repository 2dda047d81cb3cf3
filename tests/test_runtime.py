"""The process returns large blocks of memory, which glibc would keep."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

_CHILD = """
import ctypes, sys
from stacpull.runtime import tune_memory
if sys.argv[1] == "ours":
    tune_memory()
libc = ctypes.CDLL(None)
class Info(ctypes.Structure):  # mallinfo2(3)
    _fields_ = [(name, ctypes.c_size_t) for name in
                "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()]
libc.mallinfo2.restype = Info
largest = bytearray(24 << 20)
del largest
page = bytearray(16 << 20)
print(libc.mallinfo2().hblkhd >> 20)
"""


@pytest.mark.parametrize(
    ("whose", "mapped"),
    [
        pytest.param("ours", range(16, 20), id="a large block is one of its own"),
        pytest.param("glibc's", range(4), id="by itself glibc takes it from the heap"),
    ],
)
def test_freed_large_blocks_are_returned_to_the_system(whose, mapped):
    if getattr(ctypes.CDLL(None), "mallinfo2", None) is None:
        pytest.skip("this is no glibc of 2.33 or later")
    ran = subprocess.run([sys.executable, "-c", _CHILD, whose], capture_output=True, text=True, check=True)
    assert int(ran.stdout) in mapped
