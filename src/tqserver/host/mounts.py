"""File systems on which others change files: their changes make no events here (inotify(7), NOTES).

An event is made by the kernel that does the change. On a share - NFS, SMB, the host's directories in WSL, Docker
Desktop, Vagrant or VirtualBox - that may be the kernel of another machine.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

SHARED_TYPES = frozenset(
    {"9p", "afs", "ceph", "cifs", "fuse", "lustre", "ncpfs", "nfs", "nfs4", "prl_fs", "smb3", "smbfs"}
    | {"vboxsf", "virtiofs", "vmhgfs"}
)
_OWN_TYPES = frozenset({"fuse.fuse-overlayfs"})  # the root of a rootless container: nobody else writes there
_MOUNTS = Path("/proc/self/mountinfo")


def shared_devices(table: str | None = None) -> Mapping[int, str]:
    """Return the device numbers (``st_dev``) of mounted shares, with the type of each.

    ``table`` is the text of /proc/self/mountinfo (proc_pid_mountinfo(5)); without it, that file is read.
    """
    if table is None:
        try:
            table = _MOUNTS.read_text(errors="surrogateescape")
        except OSError:
            return {}  # no /proc: nothing can be known
    found = {}
    for line in table.splitlines():
        mount, _, source = line.partition(" - ")
        major, _, minor = mount.split(" ")[2].partition(":")
        kind = source.split(" ")[0]
        if kind.partition(".")[0] in SHARED_TYPES and kind not in _OWN_TYPES:  # fuse.sshfs, fuse.grpcfuse
            found[os.makedev(int(major), int(minor))] = kind
    return found


def shares_among(devices: Iterable[int], shared: Mapping[int, str]) -> list[str]:
    """Return the types of the shares among these devices, in order."""
    return sorted({shared[device] for device in devices if device in shared})
