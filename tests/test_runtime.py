"""The process returns large blocks of memory, which glibc would keep, keeps some slack, and has one heap."""

import ctypes
import subprocess
import sys

import pytest

_CHILD = """
import ctypes, sys, threading
from stacpull.runtime import tune_memory
if sys.argv[1] == "ours":
    tune_memory()
libc = ctypes.CDLL(None)
class Info(ctypes.Structure):  # mallinfo2(3)
    _fields_ = [(name, ctypes.c_size_t) for name in
                "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()]
libc.mallinfo2.restype = Info
def kept():
    return (libc.mallinfo2().arena - before) >> 20
before = libc.mallinfo2().arena
largest = bytearray(24 << 20)
del largest
page = bytearray(16 << 20)
del page
after_page = kept()
pieces = [bytearray(1 << 20) for _ in range(6)]
del pieces
print(after_page, kept())
libc.fdopen.restype = ctypes.c_void_p
out = ctypes.c_void_p(libc.fdopen(1, b"w"))
thread = threading.Thread(target=lambda: bytes(100_000))
thread.start()
thread.join()
sys.stdout.flush()
libc.malloc_info(0, out)
libc.fflush(out)
"""


@pytest.mark.parametrize(
    ("whose", "kept", "heaps"),
    [
        pytest.param("ours", False, 1, id="large blocks go, 6 MiB of slack stay, threads share a heap"),
        pytest.param("glibc's", True, 2, id="by itself glibc keeps the block, and each thread has a heap"),
    ],
)
def test_freed_large_blocks_are_returned_to_the_system(whose, kept, heaps):
    if getattr(ctypes.CDLL(None), "mallinfo2", None) is None:
        pytest.skip("this is not glibc 2.33 or later")
    ran = subprocess.run([sys.executable, "-c", _CHILD, whose], capture_output=True, text=True, check=True)
    large, small = map(int, ran.stdout.splitlines()[0].split())  # MiB that malloc keeps after each is freed
    assert (large > 8, small >= 4, ran.stdout.count("<heap nr=")) == (kept, True, heaps)
