"""Users: whom ``user`` in the configuration names."""

from __future__ import annotations

import grp
import os
import pwd

from tqserver.model.errors import HostError
from tqserver.wire.messages import Identity


def is_root() -> bool:
    """Whether this process may become another user."""
    return os.geteuid() == 0


def identity_of(user: str) -> Identity | None:
    """Return whom ``name``, ``uid``, ``name:group`` or ``uid:gid`` is; None if it is what this process is already.

    Raises :class:`HostError`: there is no such user or group, or this process is not root.
    """
    if not user:
        return None
    name, _, group = user.partition(":")
    known = _user(name)
    if known is None and not (name.isdecimal() and group):
        remedy = f'name a group too, "{name}:GROUP", or a user that getent passwd lists'
        raise HostError(f"there is no user {name} on this machine", remedy=remedy if name.isdecimal() else _REMEDY)
    uid = known.pw_uid if known else int(name)
    gid = _group(group) if group else known.pw_gid if known else 0
    if uid == os.geteuid() and (not group or gid == os.getegid()):
        return None
    if not is_root():
        raise HostError(
            f"workers cannot run as {name}: only root may start processes of another user",
            remedy="run the server as root, or remove the setting",
        )
    groups = os.getgrouplist(known.pw_name, gid) if known else [gid]
    return Identity(known.pw_name if known else name, uid, gid, groups, known.pw_dir if known else "/")


_REMEDY = "getent passwd lists those that there are"


def _user(name: str) -> pwd.struct_passwd | None:
    try:
        return pwd.getpwuid(int(name)) if name.isdecimal() else pwd.getpwnam(name)
    except (KeyError, OverflowError):
        return None


def _group(name: str) -> int:
    if name.isdecimal():
        return int(name)
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        remedy = "getent group lists those that there are"
        raise HostError(f"there is no group {name} on this machine", remedy=remedy) from None


def environment_of(identity: Identity | None) -> dict[str, str]:
    """Return what a login would set for this user; nothing for the server's own."""
    if identity is None:
        return {}
    return {"HOME": identity.home, "USER": identity.name, "LOGNAME": identity.name}
