"""Owners of restored files."""

from __future__ import annotations

import grp
import os
import pwd

import pytest

from etcdguard.errors import Refused
from etcdguard.restore.files import account


def test_a_user_has_its_own_group_unless_told() -> None:
    me = pwd.getpwuid(os.geteuid())
    other = grp.getgrall()[-1]
    assert account(me.pw_name, None) == (me.pw_uid, me.pw_gid)
    assert account(me.pw_name, other.gr_name) == (me.pw_uid, other.gr_gid)


def test_who_is_not_there_is_refused() -> None:
    with pytest.raises(Refused, match="no user 'nobody-here'"):
        account("nobody-here", None)
    with pytest.raises(Refused, match="or group 'no-group-here'"):
        account(pwd.getpwuid(os.geteuid()).pw_name, "no-group-here")
