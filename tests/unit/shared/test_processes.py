"""Whose process a name belongs to is never guessed, and what is put together on this machine lies where nobody else can write."""

import os
import subprocess
import sys

import pytest

from shared import processes
from shared.errors import RequestError
from shared.processes import has_ended, make_private_folder, process_token, temporary_folder


def ended_mark() -> str:
    program = "from shared.processes import process_token; print(process_token())"
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.strip()


def test_a_process_that_has_ended_is_gone_and_this_one_is_not():
    assert has_ended(ended_mark())
    assert not has_ended(process_token())


def test_a_process_of_another_machine_with_the_same_host_name_is_not_taken_for_gone(monkeypatch, tmp_path):
    ended = ended_mark()
    (tmp_path / "boot_id").write_text("2d0b9a6c-7a0e-4a53-9a55-0d5c1f6f2b11\n")
    monkeypatch.setattr(processes, "BOOT_ID", tmp_path / "boot_id")
    monkeypatch.setattr(processes, "_SPACE", processes._space())
    assert processes._SPACE.startswith("2d0b9a6c")
    assert not has_ended(ended)


def test_a_process_whose_id_was_given_out_again_is_gone():
    space, pid_and_start, rest = process_token().rsplit(".", 2)
    pid, start = pid_and_start.split("-")
    assert pid == str(os.getpid())
    assert has_ended(f"{space}.{pid}-{int(start) - 1}.{rest}")


def test_the_name_of_an_earlier_version_is_judged_by_its_process_id():
    space = process_token().rsplit(".", 2)[0]
    assert not has_ended(f"{space}.{os.getpid()}.0123456789abcdef")


def test_a_name_made_after_a_fork_is_that_of_the_child():
    before = process_token()
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.write(writing, process_token().encode())
        os._exit(0)
    os.waitpid(child, 0)
    of_child = os.read(reading, 1000).decode()
    for end in (reading, writing):
        os.close(end)
    assert of_child.split(".")[-2] != before.split(".")[-2]
    assert has_ended(of_child)


def test_where_the_system_does_not_say_which_machine_it_is_nobody_is_taken_for_gone(monkeypatch, tmp_path):
    monkeypatch.setattr(processes, "BOOT_ID", tmp_path / "nothing")
    of_another = processes._space()
    monkeypatch.setattr(processes, "_SPACE", processes._space())
    assert not has_ended(f"{of_another}.{2**22 + 1}-1.0123456789abcdef")


# --- folders of our own


def test_a_folder_of_our_own_is_made_for_us_alone(tmp_path):
    folder = make_private_folder(tmp_path / "home" / "staging")
    assert folder.stat().st_mode & 0o777 == 0o700
    assert make_private_folder(folder) == folder


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o750, 0o705])
def test_a_folder_that_others_may_enter_is_refused(tmp_path, mode):
    (tmp_path / "staging").mkdir()
    (tmp_path / "staging").chmod(mode)
    with pytest.raises(RequestError, match="is open to other users") as caught, temporary_folder(tmp_path / "staging"):
        pass
    assert "SCORING_HOME" in caught.value.next_step


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_a_folder_that_somebody_else_made_first_is_refused(tmp_path):
    (tmp_path / "staging").mkdir(mode=0o700)
    os.chown(tmp_path / "staging", 4002, 4002)
    with pytest.raises(RequestError, match="is not a folder of this user"), temporary_folder(tmp_path / "staging"):
        pass
    assert list((tmp_path / "staging").iterdir()) == []


@pytest.mark.parametrize("kind", ["link", "file"])
def test_what_is_no_real_folder_is_refused(tmp_path, kind):
    (tmp_path / "real").mkdir(mode=0o700)
    place = tmp_path / "staging"
    place.symlink_to(tmp_path / "real") if kind == "link" else place.touch(mode=0o700)
    with pytest.raises(RequestError, match=r"is not a folder of this user|cannot be used"), temporary_folder(place):
        pass
    assert list((tmp_path / "real").iterdir()) == []
