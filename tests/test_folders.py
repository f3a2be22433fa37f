"""Files that belong together are written together or not at all, wherever that is, and to no folder of others."""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults import Faults
from tests.test_files import killed_while_writing, names, write
from trajkit import folders
from trajkit.errors import InputError, WriteError
from trajkit.folders import check_folder, check_own, replacing_folder, restore_folder


def fail_half_way(folder: Path) -> None:
    with replacing_folder(folder) as new:
        write(new / "a", b"two")
        write(new / "a" / "no folder", b"two")


@pytest.mark.parametrize("can_exchange", [True, False])
def test_a_folder_is_replaced_at_once_and_keeps_what_is_not_replaced(tmp_path, monkeypatch, can_exchange):
    if not can_exchange:
        monkeypatch.setattr(folders, "_exchange", lambda one, other: False)
    folder = tmp_path / "folder"
    with replacing_folder(folder) as new:
        write(new / "a", b"one")
        write(new / "sub" / "b", b"one")
        assert not folder.exists()
    with pytest.raises(InputError):
        fail_half_way(folder)
    assert (folder / "a").read_bytes() == b"one"
    with replacing_folder(folder) as new:
        write(new / "a", b"two")
        assert (folder / "a").read_bytes() == b"one"
    assert ((folder / "a").read_bytes(), (folder / "sub" / "b").read_bytes()) == (b"two", b"one")
    assert names(tmp_path) == ["folder"]


def test_a_folder_half_written_by_a_killed_process_is_removed_by_the_next(tmp_path):
    killed_while_writing(tmp_path, "with replacing_folder(folder / 'f') as new: (new / 'a').write_text('half'); die()")
    assert len(names(tmp_path)) == 1
    with replacing_folder(tmp_path / "f") as new:
        write(new / "a", b"whole")
    assert names(tmp_path) == ["f"]


def test_a_kill_between_two_renames_where_names_cannot_be_exchanged_is_undone(tmp_path):
    killed_while_writing(
        tmp_path,
        "import trajkit.folders as f; f._exchange = lambda a, b: False\n"
        "with replacing_folder(folder / 'f') as new: (new / 'a').write_text('old')\n"
        "real = os.rename\nos.rename = lambda a, b: die() if str(b) == str(folder / 'f') else real(a, b)\n"
        "with replacing_folder(folder / 'f') as new: (new / 'b').write_text('new')",
    )
    assert not (tmp_path / "f").exists()
    restore_folder(tmp_path / "f")
    assert (tmp_path / "f" / "a").read_text() == "old"


def test_the_folder_one_stands_in_is_not_exchanged(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="is the folder you are in"), replacing_folder(Path()):
        pass


def test_a_folder_of_somebody_else_is_not_written_to(tmp_path):
    check_own(tmp_path / "new", ".mark")
    check_own(tmp_path, ".mark")
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="holds other files"):
        check_own(tmp_path, ".mark")
    (tmp_path / ".mark").write_text("")
    check_own(tmp_path, ".mark")


@pytest.fixture(params=[errno.EBUSY, errno.EXDEV, errno.EACCES, errno.EPERM, errno.EROFS])
def fixed(request, monkeypatch) -> None:
    """No folder can get another name: as for a mount point, one of another layer, or one in somebody else's folder."""

    def refuse(one: object, other: object) -> bool:
        raise OSError(request.param, os.strerror(request.param))

    monkeypatch.setattr(folders, "_exchange", refuse)


def replace_with(folder: Path, content: bytes, *gone: str) -> None:
    with replacing_folder(folder) as new:
        for name in gone:
            (new / name).unlink()
        for name in ("a", "sub/b"):
            write(new / name, content)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.usefixtures("fixed")
def test_a_folder_that_cannot_be_exchanged_gets_its_files_one_by_one(tmp_path):
    folder = tmp_path / "folder"
    replace_with(folder, b"one")
    for name in ("mine", "stale"):
        (folder / name).write_text(name)
    (folder / "link").symlink_to("nowhere")
    before = folder.stat().st_ino
    replace_with(folder, b"two", "stale")
    assert folder.stat().st_ino == before
    assert contents(folder) == {"a": b"two", "sub/b": b"two", "mine": b"mine"}
    assert os.readlink(folder / "link") == "nowhere"
    with pytest.raises(WriteError):
        fail_half_way(folder)
    assert contents(folder) == {"a": b"two", "sub/b": b"two", "mine": b"mine"}
    assert (names(tmp_path), names(folder)) == (["folder"], ["a", "link", "mine", "sub"])


@pytest.mark.parametrize("act", ["kill", "error"])
def test_a_fault_while_files_get_in_place_one_by_one_leaves_the_old_content_or_the_new(tmp_path, monkeypatch, act):
    def refuse(one: object, other: object) -> bool:
        raise OSError(errno.EBUSY, "busy")

    def stop() -> None:
        if act == "kill":
            os._exit(9)
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(folders, "_exchange", refuse)
    monkeypatch.setattr(os, "fsync", lambda handle: None)
    found, n, code = set(), 0, 1
    while code:
        n += 1
        folder = tmp_path / str(n)
        replace_with(folder, b"one")
        child = os.fork()
        if not child:
            faults = Faults(n, stop)
            try:
                with pytest.MonkeyPatch.context() as patch, contextlib.suppress(WriteError):
                    faults.install(patch)
                    replace_with(folder, b"two")
                os._exit(9 if faults.count >= n else 0)
            finally:
                os._exit(70)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert code in (0, 9)
        restore_folder(folder)
        read = {name: data for name, data in contents(folder).items() if not name.startswith(".")}
        assert read in ({"a": b"one", "sub/b": b"one"}, {"a": b"two", "sub/b": b"two"})
        found.add(read["a"])
        replace_with(folder, b"three")
        assert contents(folder) == {"a": b"three", "sub/b": b"three"}
        assert not list(tmp_path.glob(".*"))
    assert found == {b"one", b"two"}
    assert n > 12


@pytest.mark.skipif(os.name != "posix" or os.getuid() != 0, reason="only root can mount and be somebody else")
@pytest.mark.parametrize("way", ["mounted", "read-only parent", "link to a mounted one"])
def test_folders_that_really_cannot_be_exchanged(tmp_path, way):
    """A mount of its own, and a parent that may not be written to, by an account that is not root."""
    code = (
        "import os, sys\nfrom pathlib import Path\nfrom trajkit.files import replacing\n"
        "from trajkit.folders import *\nfolder, uid = Path(sys.argv[1]), int(sys.argv[2])\nos.setuid(uid)\n"
        "check_folder(folder)\n"
        "for content in (b'one', b'two'):\n"
        "    with replacing_folder(folder) as new:\n"
        "        with replacing(new / 'a') as stream: stream.write(content)\n"
        "print(sorted(os.listdir(folder)), (folder / 'a').read_bytes())"
    )
    folder = tmp_path / "folder"
    folder.mkdir()
    named, uid, prepare = folder, 0, "true"
    if way == "read-only parent":
        for above in (tmp_path, *tmp_path.parents):
            if "pytest" in str(above):
                above.chmod(0o755)
        folder.chmod(0o777)
        uid = 65534
    else:
        prepare = f"mount -t tmpfs -o size=1m none {folder}"
    if way.startswith("link"):
        named = tmp_path / "link"
        named.symlink_to(folder)
    line = ["unshare", "-m", "sh", "-c", f'{prepare} && exec "$@"', "sh", sys.executable, "-c", code, named, str(uid)]
    if subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode:
        pytest.skip("no mounts may be made here")
    done = subprocess.run(line, capture_output=True, text=True)
    assert done.stdout == "['a'] b'two'\n", done.stderr


def test_whether_a_folder_can_be_written_is_asked_before_and_leaves_nothing(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "there").symlink_to("there")  # a file of the folder's own name
    for folder in (tmp_path / "new", tmp_path / "no" / "such" / "folder", tmp_path / "there"):
        check_folder(folder)
    (tmp_path / "file").write_text("mine")
    (tmp_path / "loop").symlink_to("loop")
    for name, why in (
        ("file", "is a file"),
        ("file/x", "Not a directory"),
        ("loop", "symbolic links"),
        ("x" * 300, "too long"),
    ):
        with pytest.raises(InputError, match=why):
            check_folder(tmp_path / name)
    with pytest.raises(WriteError, match="check the path and its permissions"):
        check_folder(Path("/proc/folder"))
    assert names(tmp_path) == ["file", "loop", "there"]
    assert names(tmp_path / "there") == ["there"]


def test_a_folder_is_judged_by_what_it_is_and_not_by_its_name(tmp_path):
    for name in ("results.md", "a.csv", "v1.html"):
        check_own(tmp_path / name, ".mark")
        (tmp_path / name).mkdir()
        check_own(tmp_path / name, ".mark")


def test_what_a_kill_left_in_a_new_folder_is_nobody_elses(tmp_path):
    (tmp_path / f".{tmp_path.name}.{'0' * 16}.tmp").mkdir()
    check_own(tmp_path, ".mark")
