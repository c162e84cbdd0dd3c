"""Keeps a process from the sockets that Landlock does not rule: by seccomp, a filter of system calls.

What is left is TCP over IP, which Landlock rules by the port, and asking the kernel for its own addresses. No UDP (so no
names are resolved elsewhere), no sockets with a path or a name (such as that of Docker), nothing raw. `socketpair` stays.
Standard library only: it is loaded by its path.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
import sys

SET_SECCOMP, MODE_FILTER, SET_NO_NEW_PRIVS = 22, 2, 38  # of linux/prctl.h and linux/seccomp.h
ALLOW, REFUSE = 0x7FFF0000, 0x00050000  # the low 16 bits of the latter are the error
LOAD, EQUAL, AT_LEAST, ANY_BIT, AND, RETURN = 0x20, 0x15, 0x35, 0x45, 0x54, 0x06  # of linux/bpf_common.h
NUMBER, ARCHITECTURE, ARGUMENTS = 0, 4, 16  # offsets in struct seccomp_data
INET, INET6, NETLINK, STREAM, TCP = 2, 10, 16, 1, 6
IO_URING_SETUP = 425  # its rings make and use sockets without these calls; the same number everywhere
FOREIGN = 0x40000000  # numbers of another calling convention (x32) from here on
FASTOPEN = 0x20000000  # a flag that connects while it sends, past Landlock
# By machine: the number that the audit gives it, then the calls socket, sendto, sendmsg, sendmmsg.
MACHINES = {"x86_64": (0xC000003E, 41, 44, 46, 307), "aarch64": (0xC00000B7, 198, 206, 211, 269)}

Step = tuple[int, int, int, int]  # code, steps to pass over where it is so, and where not, operand


def can_seal() -> bool:
    """Whether this machine's system calls are known."""
    return sys.platform == "linux" and platform.machine() in MACHINES and sys.maxsize > 1 << 32


def seal() -> None:
    """Restrict this process, and all that comes from it, for good. Raises `OSError` where it cannot."""
    if not can_seal():
        raise OSError(errno.EOPNOTSUPP, f"no filter of system calls is known for {platform.machine()}")
    steps = build_filter(*MACHINES[platform.machine()])
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *step) for step in steps))
    program = ctypes.create_string_buffer(struct.pack("@HP", len(steps), ctypes.addressof(code)))
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    if prctl(SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 or prctl(SET_SECCOMP, MODE_FILTER, program, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def build_filter(architecture: int, socket: int, sendto: int, sendmsg: int, sendmmsg: int) -> list[Step]:
    """The filter for a machine. Each call's steps end with a return, so that the next may compare the number again."""
    return [
        (LOAD, 0, 0, ARCHITECTURE),
        (EQUAL, 1, 0, architecture),
        _refuse(errno.EPERM),
        (LOAD, 0, 0, NUMBER),
        (AT_LEAST, 0, 1, FOREIGN),
        _refuse(errno.ENOSYS),
        *_call(IO_URING_SETUP, [_refuse(errno.ENOSYS)]),
        *_call(socket, _SOCKET),
        *_call(sendto, _without_fastopen(3)),
        *_call(sendmsg, _without_fastopen(2)),
        *_call(sendmmsg, _without_fastopen(3)),
        (RETURN, 0, 0, ALLOW),
    ]


def _refuse(error: int) -> Step:
    return (RETURN, 0, 0, REFUSE | error)


def _argument(index: int) -> Step:
    """Its low 32 bits: families, kinds, protocols and flags are ints. Both machines have these first."""
    return (LOAD, 0, 0, ARGUMENTS + 8 * index)


def _call(number: int, steps: list[Step]) -> list[Step]:
    return [(EQUAL, 0, len(steps), number), *steps]


def _without_fastopen(index: int) -> list[Step]:
    return [_argument(index), (ANY_BIT, 0, 1, FASTOPEN), _refuse(errno.EACCES), (RETURN, 0, 0, ALLOW)]


_SOCKET: list[Step] = [
    _argument(0),
    (EQUAL, 2, 0, INET),
    (EQUAL, 1, 0, INET6),
    (EQUAL, 3, 6, NETLINK),
    _argument(1),
    (AND, 0, 0, 0xF),  # without SOCK_CLOEXEC and SOCK_NONBLOCK
    (EQUAL, 0, 3, STREAM),
    _argument(2),  # the protocol: 0 is the usual one
    (EQUAL, 2, 0, 0),
    (EQUAL, 1, 0, TCP),
    _refuse(errno.EACCES),
    (RETURN, 0, 0, ALLOW),
]
