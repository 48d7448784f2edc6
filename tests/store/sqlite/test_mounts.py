"""Find a file's mount in /proc/self/mountinfo, with lines of real hosts."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy.store.sqlite import mounts
from proxy.store.sqlite.mounts import Mount, find, judge, mount_of

SERVER = """\
22 28 0:20 / /sys rw,nosuid,nodev,noexec,relatime shared:7 - sysfs sysfs rw
23 28 0:21 / /proc rw,nosuid,nodev,noexec,relatime shared:14 - proc proc rw
28 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw,errors=remount-ro
35 28 0:29 / /dev/shm rw,nosuid,nodev shared:4 - tmpfs tmpfs rw,inode64
60 28 0:45 / /home rw,relatime shared:31 - autofs systemd-1 rw,fd=52,pgrp=1,timeout=0,minproto=5,maxproto=5
61 60 0:46 / /home rw,relatime shared:32 - nfs4 filer:/export/home rw,vers=4.2,rsize=1048576,addr=10.0.0.2
62 28 0:47 / /srv/shared\\040data rw,relatime shared:33 - cifs //nas/data rw,vers=3.1.1,username=x
63 28 0:48 / /srv/keys rw,nosuid,nodev,relatime shared:34 - fuse.sshfs ann@host:/keys rw,user_id=1000
64 28 254:17 / /var/lib rw,relatime shared:35 - xfs /dev/vdb1 rw,attr2,inode64
65 64 254:1 /opt/state /var/lib/token-proxy rw,relatime shared:1 - ext4 /dev/vda1 rw
66 28 0:50 / /mnt/k8s rw,relatime shared:40 - ceph 10.1.1.1:6789:/volumes/x rw,name=admin,secret=<hidden>,acl
"""
CONTAINER = """\
743 665 0:79 / / rw,relatime master:314 - overlay overlay rw,lowerdir=/var/lib/docker/overlay2/l/A:/B
744 743 0:82 / /proc rw,nosuid,nodev,noexec,relatime - proc proc rw
757 743 0:46 /teams/a /data rw,relatime master:32 - nfs4 filer:/export/home rw,vers=4.2
758 743 254:1 /var/lib/docker/volumes/v/_data /state rw,relatime master:1 - ext4 /dev/vda1 rw
759 743 0:90 / /mnt/c rw,noatime - 9p C:\\134 rw,dirsync,aname=drvfs;path=C:\\,cache=5
"""
BTRFS = """\
25 1 0:22 /@ / rw,relatime shared:1 - btrfs /dev/nvme0n1p2 rw,ssd,subvolid=256,subvol=/@
41 25 0:22 /@home /home rw,relatime shared:20 - btrfs /dev/nvme0n1p2 rw,ssd,subvolid=257,subvol=/@home
"""
FOUND = {
    "the root": (SERVER, "/etc/x", (254, 1), "ext4 at /"),
    "a network's home, mounted over its automounter": (SERVER, "/home/ann/x", (0, 46), "nfs4 at /home"),
    "the automounter itself": (SERVER, "/home", (0, 45), "autofs at /home"),
    "a name that begins alike": (SERVER, "/homes/x", (254, 1), "ext4 at /"),
    "a name with a space": (SERVER, "/srv/shared data/x", (0, 47), "cifs at /srv/shared data"),
    "a folder bound into another disk": (
        SERVER,
        "/var/lib/token-proxy/tokens.db",
        (254, 1),
        "ext4 at /var/lib/token-proxy",
    ),
    "the disk around that": (SERVER, "/var/lib/x", (254, 17), "xfs at /var/lib"),
    "a mount point itself": (SERVER, "/srv/keys", (0, 48), "fuse.sshfs at /srv/keys"),
    "a container's own": (CONTAINER, "/var/x", (0, 79), "overlay at /"),
    "a volume of another host's": (CONTAINER, "/data/x", (0, 46), "nfs4 at /data"),
    "a volume of the host's": (CONTAINER, "/state/tokens.db", (254, 1), "ext4 at /state"),
    "a drive of Windows": (CONTAINER, "/mnt/c/x", (0, 90), "9p at /mnt/c"),
    "files whose device no mount has": (BTRFS, "/home/ann/x", (0, 35), "btrfs at /home"),
}
VERDICTS = {
    "local": "ext4 xfs btrfs tmpfs overlay zfs f2fs fuseblk apfs fuse.mergerfs unheard-of",
    "suspicious": "fuse fuse.somebody 9p virtiofs vboxsf fuse.grpcfuse gfs2 ocfs2",
    "network": "nfs nfs4 cifs smb3 afs ceph lustre fuse.sshfs fuse.glusterfs fuse.s3fs fuse.rclone",
}


@pytest.mark.parametrize("case", FOUND)
def test_the_mount_of_a_path(case: str) -> None:
    mountinfo, path, device, found = FOUND[case]
    assert str(find(mountinfo, path, device)) == found


@pytest.mark.parametrize("verdict", VERDICTS)
def test_the_verdict_on_a_type_of_file_system(verdict: str) -> None:
    assert {judge(kind) for kind in VERDICTS[verdict].split()} == {verdict}


@pytest.mark.parametrize("text", ["", "nonsense\n\n28 1 254:1 / /", "1 2 x:y / / rw - ext4 /dev/x rw"])
def test_unknown_text_gives_no_mount(text: str) -> None:
    assert find(text, "/x", (1, 1)) is None


def test_the_mount_of_a_file_that_does_not_exist_yet(tmp_path: Path) -> None:
    mount = mount_of(tmp_path / "not" / "there" / "yet")
    assert mount is None or tmp_path.is_relative_to(mount.point)


def test_without_mountinfo_there_is_no_mount(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mounts, "MOUNTINFO", tmp_path / "not there")
    assert mount_of(tmp_path) is None


def test_the_mount_of_a_link_is_that_of_its_target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "there")
    (tmp_path / "mountinfo").write_text(f"28 1 999:1 / {tmp_path}/there rw - nfs4 filer:/x rw\n")
    monkeypatch.setattr(mounts, "MOUNTINFO", tmp_path / "mountinfo")
    assert mount_of(tmp_path / "link" / "tokens.db") == Mount("nfs4", f"{tmp_path}/there")
