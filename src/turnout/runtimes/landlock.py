"""Keeps an agent out of the instance's state folder, whoever runs the server: by Landlock, a Linux access control.

Landlock only knows what is allowed. So everything beside the hidden folders, and beside each folder that they lie in, is
allowed entry by entry; of what is inside, only what is named. The shim loads this file by its path: standard library only.
Numbers and semantics: https://docs.kernel.org/userspace-api/landlock.html
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import struct
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446  # the same on every architecture that CPython is built for
VERSION_FLAG, PATH_BENEATH = 1, 1
SET_NO_NEW_PRIVS, DROP_CAPABILITY = 38, 24  # of linux/prctl.h
# Root's ways around the rules: modules, raw I/O, administration, and looking into any process (its environment too).
DROPPED = (16, 17, 21, 38)  # CAP_SYS_MODULE, CAP_SYS_RAWIO, CAP_SYS_ADMIN, CAP_PERFMON

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
TRUNCATE, IOCTL_DEV, RESOLVE_UNIX = 1 << 14, 1 << 15, 1 << 16
READ = EXECUTE | READ_FILE | READ_DIR
EVERYTHING = (1 << 17) - 1
OF_FILES = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV | RESOLVE_UNIX  # the rest is of folders alone
RIGHTS_SINCE = ((9, 17), (5, 16), (3, 15), (2, 14), (1, 13))  # version of Landlock, how many rights it knows
CONNECT_TCP, NETWORK_SINCE, NET_PORT = 1 << 1, 4, 2
SCOPES, SCOPES_SINCE = 0b11, 6  # abstract sockets and signals stay among the agent's own processes

Rule = tuple[Path, int]


def confine_or_say(confinement: dict[str, Any]) -> None:
    """Confine this process by {hidden, readable, writable, connect}. Where that fails, its errors say so and it goes on."""
    connect = confinement.get("connect")
    try:
        confine_by(confinement)
    except OSError as error:
        _say(f"it runs unconfined and can reach all of {', '.join(confinement['hidden'])}: {error.strerror}")
    if connect is not None and find_version() < NETWORK_SINCE:
        _say("it can connect to anything: this kernel's Landlock knows no network")


def confine_by(confinement: dict[str, Any]) -> None:
    """Confine this process by {hidden, readable, writable, connect}. Raises `OSError` where it cannot."""
    hidden, readable, writable = (
        [Path(path) for path in confinement[name]] for name in ("hidden", "readable", "writable")
    )
    confine(hidden, readable, writable, confinement.get("connect"))


def confine(
    hidden: Iterable[Path], readable: Iterable[Path], writable: Iterable[Path], connect: Iterable[int] | None = None
) -> None:
    """Restrict this thread, and all that comes from it, for good. See `build_rules`. Raises `OSError` where it cannot.

    `connect`: the TCP ports that it may connect to, on any host; None: all. Landlock knows neither hosts nor UDP.

    New privileges cannot be gained any more either: programs like sudo run, but as the same user. What comes from root
    lacks some capabilities from its next exec on.
    """
    version = find_version()
    if version == 0:
        raise OSError(errno.EOPNOTSUPP, "the kernel has no Landlock, or it is switched off")
    handled = handled_rights(version)
    scopes = SCOPES if version >= SCOPES_SINCE else 0
    network = CONNECT_TCP if connect is not None and version >= NETWORK_SINCE else 0
    attributes = struct.pack("=QQQ", handled, network, scopes)  # rights on files, on the network, scopes
    ruleset = _syscall(CREATE_RULESET, attributes, len(attributes), 0)
    try:
        for path, rights in build_rules([path.resolve() for path in hidden], readable, writable, _list):
            _allow(ruleset, path, rights & handled)
        for port in connect or () if network else ():
            _syscall(ADD_RULE, ruleset, NET_PORT, struct.pack("=QQ", CONNECT_TCP, port), 0)
        prctl = ctypes.CDLL(None).prctl
        if prctl(SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
            raise OSError(errno.EPERM, "new privileges could not be given up")
        for capability in DROPPED:
            prctl(DROP_CAPABILITY, capability, 0, 0, 0)  # refused to whoever is not root, who has none to drop
        _syscall(RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)


def find_version() -> int:
    """The version of Landlock (ABI) of the running kernel; 0 where there is none."""
    if sys.platform != "linux":
        return 0
    try:
        return _syscall(CREATE_RULESET, None, 0, VERSION_FLAG)
    except OSError:
        return 0


def build_rules(
    hidden: Iterable[Path],
    readable: Iterable[Path],
    writable: Iterable[Path],
    list_folder: Callable[[Path], Iterable[str]],
) -> list[Rule]:
    """Every path that is allowed with all below it, and its rights. `hidden`: absolute, free of symbolic links.

    The folders that a hidden one lies in get no rule, as theirs would hold for it too: nothing new can be made directly
    in them, and they cannot be listed.
    """
    closed = set(hidden)
    closed -= {path for path in closed if closed & set(path.parents)}  # what lies in another is hidden with it
    passed = {parent for path in closed for parent in path.parents}
    beside = [
        (folder / name, EVERYTHING)
        for folder in sorted(passed)
        for name in list_folder(folder)
        if folder / name not in closed | passed
    ]
    return [*beside, *((path, READ) for path in readable), *((path, EVERYTHING) for path in writable)]


def handled_rights(version: int) -> int:
    """The rights that a version of Landlock knows; the others it would refuse."""
    return next(((1 << count) - 1 for since, count in RIGHTS_SINCE if version >= since), 0)


def _say(what: str) -> None:
    os.write(2, f"[turnout] {what}\n".encode())


def _list(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)  # noqa: PTH208 - names are all that is needed
    except OSError:
        return []


def _allow(ruleset: int, path: Path, rights: int) -> None:
    """Add a rule. A symbolic link gets none: what it points at has its own, or is meant to be out of reach."""
    try:
        descriptor = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:  # gone since it was listed, or out of this user's reach anyway
        return
    try:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISLNK(mode):
            return
        rights = rights if stat.S_ISDIR(mode) else rights & OF_FILES
        _syscall(ADD_RULE, ruleset, PATH_BENEATH, struct.pack("=Qi", rights, descriptor), 0)
    finally:
        os.close(descriptor)


def _syscall(number: int, *arguments: int | bytes | None) -> int:
    """Call the kernel. Raises `OSError`."""
    converted = [ctypes.c_long(value) if isinstance(value, int) else ctypes.c_char_p(value) for value in arguments]
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    result: int = libc.syscall(ctypes.c_long(number), *converted)
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result
