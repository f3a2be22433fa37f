"""Files and folders are written whole or not at all, by one process at a time, and nothing half done is left."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from trajkit import files
from trajkit.errors import InputError
from trajkit.files import check_own, hold, remove_left_over, replacing, replacing_folder, restore_folder


def write(path: Path, content: bytes) -> None:
    with replacing(path) as stream:
        stream.write(content)


def fail_half_way(folder: Path) -> None:
    with replacing_folder(folder) as new:
        write(new / "a", b"two")
        write(new / "a" / "no folder", b"two")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def killed_while_writing(tmp_path: Path, code: str) -> None:
    """Run `code` in a process that is killed when it calls `die`."""
    code = (
        "import os, signal, sys\nfrom pathlib import Path\nfrom trajkit.files import *\n"
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


@pytest.mark.parametrize("can_exchange", [True, False])
def test_a_folder_is_replaced_at_once_and_keeps_what_is_not_replaced(tmp_path, monkeypatch, can_exchange):
    if not can_exchange:
        monkeypatch.setattr(files, "_exchange", lambda one, other: False)
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
        "import trajkit.files as f; f._exchange = lambda a, b: False\n"
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
