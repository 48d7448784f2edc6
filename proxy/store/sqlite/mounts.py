"""Detect whether a file is on a disk of this host, in memory or on a network. Pure, except `mount_of`.

SQLite's processes find pages of the log by an index in shared memory (mmap of FILE-shm), guarded by locks
of the kernel. Two hosts share no memory, and network file systems support locks partly or not at all: a
store there seems to work and loses tokens one day (sqlite.org/wal.html, "all processes ... on the same
host"; sqlite.org/howtocorrupt.html section 2.1).
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final, Literal, NamedTuple

MOUNTINFO: Final = Path("/proc/self/mountinfo")  # proc_pid_mountinfo(5); Linux only

_NETWORK: Final = re.compile(
    r"""nfs4? | cifs | smb3 | smbfs | ncpfs | afs | coda | ceph | lustre | gpfs | beegfs | panfs | pvfs2
    | wekafs | (fuse\.)?glusterfs | fuse\.( sshfs | ceph | ceph-fuse | cephfs | smbnetfs | curlftpfs
    | davfs | rclone | s3fs | s3ql | goofys | geesefs | mount-s3 | gcsfuse | blobfuse2? | juicefs
    | seaweedfs | mfs | lizardfs | moosefs )""",
    re.VERBOSE,
)
_SUSPICIOUS: Final = re.compile(
    r"""9p | virtiofs | vboxsf | prl_fs | fakeowner  # folders shared by a guest and its host
    | gfs2 | ocfs2                                # disks shared by several hosts
    | fuse | fuse\.(?! (fuse-overlayfs | mergerfs | gocryptfs | encfs | bindfs)$ ).*  # all but local ones""",
    re.VERBOSE,
)
_PASSING: Final[dict[str, str]] = {
    "tmpfs": "which is in memory and is empty after a restart",
    "ramfs": "which is in memory and is empty after a restart",
    "rootfs": "which is in memory and is empty after a restart",
    "overlay": "which is the writable layer of a container and is removed with it",
    "aufs": "which is the writable layer of a container and is removed with it",
    "fuse.fuse-overlayfs": "which is the writable layer of a container and is removed with it",
}
_ESCAPED: Final = re.compile(r"\\([0-7]{3})")  # space, tab, newline and backslash, in octal
_LINE: Final = re.compile(r"^\d+ \d+ (\d+):(\d+) \S+ (\S+) .*? - (\S+) ", re.MULTILINE)

Verdict = Literal["local", "suspicious", "network"]


class Mount(NamedTuple):
    """A file system's type and mount point."""

    kind: str
    point: str

    def __str__(self) -> str:
        return f"{self.kind} at {self.point}"


def judge(kind: str) -> Verdict:
    """Classify a type of file system. Unknown types count as local."""
    if _NETWORK.fullmatch(kind):
        return "network"
    return "suspicious" if _SUSPICIOUS.fullmatch(kind) else "local"


def loss(kind: str) -> str | None:
    """How the files of a file system of this type get lost; None if they last."""
    return _PASSING.get(kind)


def find(mountinfo: str, path: str, device: tuple[int, int]) -> Mount | None:
    """The mount that holds the absolute `path`, a file on `device` (major, minor, as in its status).

    Among the mounts of this device above the path the deepest counts; among those at the same mount point
    the last, which hides the others. On some file systems (btrfs) files have a device that no mount has:
    then only the path counts.
    """
    above = [(of, mount) for of, mount in _mounts(mountinfo) if _is_below(path, mount.point)]
    same = [(of, mount) for of, mount in above if of == device]
    found = sorted(same or above, key=lambda entry: len(entry[1].point))  # stable: the last stays last
    return found[-1][1] if found else None


def mount_of(path: Path) -> Mount | None:
    """The mount that holds `path`, which need not exist yet. None if it can't be determined."""
    try:
        real = path.resolve()
        while not real.exists():
            real = real.parent
        device = real.stat().st_dev
        text = MOUNTINFO.read_text(errors="surrogateescape")
    except (OSError, RuntimeError):  # RuntimeError: a cycle of links
        return None
    return find(text, str(real), (os.major(device), os.minor(device)))


def _mounts(mountinfo: str) -> list[tuple[tuple[int, int], Mount]]:
    return [
        ((int(major), int(minor)), Mount(kind, _ESCAPED.sub(lambda code: chr(int(code[1], 8)), point)))
        for major, minor, point, kind in _LINE.findall(mountinfo)
    ]


def _is_below(path: str, point: str) -> bool:
    return path == point or path.startswith(point.rstrip("/") + "/")
