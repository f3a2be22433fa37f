"""Files and folders are written whole or not at all, by one process at a time, and nothing half done is left."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from trajkit import files
from trajkit.errors import InputError, WriteError
from trajkit.files import check_file, hold, remove_left_over, replacing
from trajkit.folders import restore_folder


def write(path: Path, content: bytes) -> None:
    with replacing(path) as stream:
        stream.write(content)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def killed_while_writing(tmp_path: Path, code: str) -> None:
    """Run `code` in a process that is killed when it calls `die`."""
    code = (
        "import os, signal, sys\nfrom pathlib import Path\nfrom trajkit.files import *\nfrom trajkit.folders import *\n"
        "def die(*_): os.kill(os.getpid(), signal.SIGKILL)\nfolder = Path(sys.argv[1])\n" + code
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)])
    assert done.returncode == -9


def test_names_of_temporary_files_cannot_be_guessed_and_are_never_those_of_a_file_that_is_there(tmp_path, monkeypatch):
    seen = []
    real = os.replace
    monkeypatch.setattr(files.os, "replace", lambda a, b: seen.append(a) or real(a, b))
    for content in (b"one", b"two"):
        write(tmp_path / "a", content)
    assert len({path.name for path in seen}) == 2
    assert all(len(path.suffixes[-2]) > 16 for path in seen)
    monkeypatch.setattr(files.secrets, "token_hex", lambda n: "0" * 16)
    (tmp_path / "mine").write_text("mine")
    (tmp_path / f".a.{'0' * 16}.tmp").symlink_to(tmp_path / "mine")
    monkeypatch.setattr(files, "remove_left_over", lambda *_: None)
    with pytest.raises(InputError, match="File exists"):
        write(tmp_path / "a", b"three")
    assert (tmp_path / "mine").read_text() == "mine"


def test_what_a_kill_left_half_written_is_removed_by_the_next_write(tmp_path):
    killed_while_writing(tmp_path, "with replacing(folder / 'a') as stream: stream.write(b'half'); die()")
    assert len(names(tmp_path)) == 1
    write(tmp_path / "a", b"whole")
    assert names(tmp_path) == ["a"]


def test_a_file_that_another_process_is_writing_is_left_alone(tmp_path):
    with replacing(tmp_path / "a") as stream:
        stream.write(b"first")
        write(tmp_path / "a", b"second")
        remove_left_over(tmp_path)
        assert len(names(tmp_path)) == 2
    assert (tmp_path / "a").read_bytes() == b"first"
    assert names(tmp_path) == ["a"]


def test_the_folder_is_brought_to_the_disk_after_the_rename(tmp_path, monkeypatch):
    order = []
    sync, replace = os.fsync, os.replace
    monkeypatch.setattr(files.os, "fsync", lambda fd: order.append(os.path.realpath(f"/proc/self/fd/{fd}")) or sync(fd))
    monkeypatch.setattr(files.os, "replace", lambda a, b: order.append("rename") or replace(a, b))
    write(tmp_path / "new" / "a", b"content")
    assert order[0] == str(tmp_path)  # that the folder is new
    assert order[-2:] == ["rename", str(tmp_path / "new")]


def test_a_link_is_followed_and_a_device_or_pipe_is_written_to_as_it_is(tmp_path):
    (tmp_path / "target").write_bytes(b"old")
    (tmp_path / "link").symlink_to(tmp_path / "target")
    write(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_bytes() == b"new"
    os.mkfifo(tmp_path / "pipe")
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append((tmp_path / "pipe").read_bytes()))
    reader.start()
    write(tmp_path / "pipe", b"through")
    reader.join(10)
    assert got == [b"through"]
    assert (tmp_path / "pipe").is_fifo()


@pytest.mark.parametrize("mode", [0o600, 0o664, 0o400])
def test_a_file_that_is_replaced_keeps_its_permissions(tmp_path, mode):
    write(tmp_path / "a", b"old")
    (tmp_path / "a").chmod(mode)
    with replacing(tmp_path / "a") as stream:
        (half,) = tmp_path.glob(".a.*")
        assert half.stat().st_mode & 0o777 == mode  # from the first byte on: it may be a secret
        stream.write(b"new")
    assert ((tmp_path / "a").stat().st_mode & 0o777, (tmp_path / "a").read_bytes()) == (mode, b"new")


def test_a_link_that_leads_round_in_a_circle_is_refused(tmp_path):
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    for does in (check_file, lambda path: write(path, b"new")):
        with pytest.raises(WriteError, match="symbolic links"):
            does(tmp_path / "a")


def test_whether_a_file_can_be_written_is_asked_before_and_leaves_nothing(tmp_path):
    for path in (tmp_path / "new", tmp_path / "no" / "such" / "folder" / "new", Path("/dev/stdout")):
        check_file(path)
    (tmp_path / "file").write_text("mine")
    for path, why in (
        (tmp_path, "it is a folder"),
        (tmp_path / "file" / "x", "Not a directory"),
        (Path("/proc/x"), "/proc/x could"),
        (tmp_path / ("x" * 300), "name too long"),
    ):
        with pytest.raises(WriteError, match=why):
            check_file(path)
    assert names(tmp_path) == ["file"]


def test_a_folder_is_held_by_one_at_a_time_until_it_is_let_go(tmp_path):
    lock = hold(tmp_path / "new")
    with pytest.raises(InputError, match="another process is writing to"):
        hold(tmp_path / "new")
    lock.close()
    hold(tmp_path / "new").close()


def test_files_of_others_are_neither_removed_nor_brought_back(tmp_path):
    """Names alike ours but for the sixteen hexadecimal digits."""
    (tmp_path / ".my.notes.tmp").write_text("mine")
    (tmp_path / ".cache.2024.tmp").mkdir()
    (tmp_path / ".made.backup.old").mkdir()
    half = tmp_path / f".a.txt.{'0' * 16}.tmp"
    half.write_text("half")
    remove_left_over(tmp_path)
    restore_folder(tmp_path / "made")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".cache.2024.tmp", ".made.backup.old", ".my.notes.tmp"]
