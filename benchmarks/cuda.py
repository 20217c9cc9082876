"""A small CUDA program through the driver alone, so that nothing but NVIDIA's driver must be installed."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

NO_DEVICE = 100
_BLOCK = 256
# Adds 1 to each number, `rounds` times, one after the other.
_PTX = b"""
.version 6.0
.target sm_50
.address_size 64
.visible .entry count(.param .u64 numbers, .param .u32 n, .param .u32 rounds)
{
    .reg .pred %p<3>;
    .reg .b32 %r<8>;
    .reg .b64 %rd<5>;
    .reg .f32 %f<2>;
    ld.param.u64 %rd1, [numbers];
    ld.param.u32 %r1, [n];
    ld.param.u32 %r2, [rounds];
    mov.u32 %r3, %ctaid.x;
    mov.u32 %r4, %ntid.x;
    mov.u32 %r5, %tid.x;
    mad.lo.s32 %r6, %r3, %r4, %r5;
    setp.ge.u32 %p1, %r6, %r1;
    @%p1 bra DONE;
    cvta.to.global.u64 %rd2, %rd1;
    mul.wide.u32 %rd3, %r6, 4;
    add.s64 %rd4, %rd2, %rd3;
    ld.global.f32 %f1, [%rd4];
    mov.u32 %r7, 0;
AGAIN:
    add.f32 %f1, %f1, 0f3F800000;
    add.u32 %r7, %r7, 1;
    setp.lt.u32 %p2, %r7, %r2;
    @%p2 bra AGAIN;
    st.global.f32 [%rd4], %f1;
DONE:
    ret;
}
"""


class CudaError(RuntimeError):
    """What the driver answers when something did not work."""

    def __init__(self, call: str, code: int) -> None:
        super().__init__(call, code)
        self.code = code


class Cuda:
    """The driver, as this process sees it."""

    def __init__(self) -> None:
        self._driver = ctypes.CDLL("libcuda.so.1")
        self("cuInit", 0)

    def __call__(self, call: str, *arguments: Any) -> None:
        code = getattr(self._driver, call)(*arguments)
        if code:
            raise CudaError(call, code)

    def uuids(self) -> list[str]:
        """Names of the GPUs that can be seen, as NVML and ``CUDA_VISIBLE_DEVICES`` have them."""
        count = ctypes.c_int()
        self("cuDeviceGetCount", ctypes.byref(count))
        return [self._uuid(number) for number in range(count.value)]

    def count(self, n: int, rounds: int, device: int = 0) -> list[float]:
        """``n`` zeros to which a GPU has added 1 ``rounds`` times."""
        numbers = (ctypes.c_float * n)()
        with self._context(device), self._kernel() as kernel, self._memory(ctypes.sizeof(numbers)) as memory:
            self("cuMemcpyHtoD_v2", memory, numbers, ctypes.c_size_t(ctypes.sizeof(numbers)))
            values = memory, ctypes.c_uint(n), ctypes.c_uint(rounds)
            pointers = (ctypes.c_void_p * 3)(*[ctypes.addressof(value) for value in values])
            blocks = -(-n // _BLOCK)
            self("cuLaunchKernel", kernel, blocks, 1, 1, _BLOCK, 1, 1, 0, None, pointers, None)
            self("cuCtxSynchronize")
            self("cuMemcpyDtoH_v2", numbers, memory, ctypes.c_size_t(ctypes.sizeof(numbers)))
        return list(numbers)

    def _uuid(self, number: int) -> str:
        device, raw = ctypes.c_int(), (ctypes.c_ubyte * 16)()
        self("cuDeviceGet", ctypes.byref(device), number)
        self("cuDeviceGetUuid", raw, device)
        text = bytes(raw).hex()
        return f"GPU-{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"

    @contextmanager
    def _context(self, number: int) -> Iterator[None]:
        """The primary context, which the process keeps, as PyTorch's or CuPy's would."""
        device, context = ctypes.c_int(), ctypes.c_void_p()
        self("cuDeviceGet", ctypes.byref(device), number)
        self("cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
        self("cuCtxSetCurrent", context)
        yield

    @contextmanager
    def _kernel(self) -> Iterator[ctypes.c_void_p]:
        module, kernel = ctypes.c_void_p(), ctypes.c_void_p()
        self("cuModuleLoadData", ctypes.byref(module), _PTX)
        self("cuModuleGetFunction", ctypes.byref(kernel), module, b"count")
        yield kernel
        self("cuModuleUnload", module)

    @contextmanager
    def _memory(self, nbytes: int) -> Iterator[ctypes.c_uint64]:
        memory = ctypes.c_uint64()
        self("cuMemAlloc_v2", ctypes.byref(memory), ctypes.c_size_t(nbytes))
        yield memory
        self("cuMemFree_v2", memory)
