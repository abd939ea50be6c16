"""The log of `scoring up` can be read afterwards, by its owner alone, and never grows without end."""

import stat

from producers.stack.launch import log_file
from producers.stack.launch.log_file import LogFile


def test_lines_are_kept_in_order_in_a_file_that_only_its_owner_reads(tmp_path):
    log = LogFile(tmp_path / "logs" / "up.log")
    for number in range(3):
        log.write(f"line {number} \x1b[31mred é \udcff")
    log.close()
    assert [line.split(" \x1b")[0] for line in log.path.read_text().splitlines()] == ["line 0", "line 1", "line 2"]
    assert stat.S_IMODE(log.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(log.path.parent.stat().st_mode) == 0o700


def test_a_full_file_makes_room_and_only_so_many_older_ones_stay(tmp_path, monkeypatch):
    monkeypatch.setattr(log_file, "LOG_BYTES", 1000)
    log = LogFile(tmp_path / "up.log")
    for number in range(500):
        log.write(f"{number:050d}")
    log.close()
    files = sorted(tmp_path.iterdir())
    assert [file.name for file in files] == ["up.log", "up.log.1", "up.log.2", "up.log.3", "up.log.4"]
    assert all(file.stat().st_size <= 1000 and stat.S_IMODE(file.stat().st_mode) == 0o600 for file in files)
    assert files[0].read_text().splitlines()[-1] == f"{499:050d}"


def test_a_line_that_cannot_be_written_stops_nothing(tmp_path, capfd):
    (tmp_path / "up.log").mkdir()
    log = LogFile(tmp_path / "up.log")
    log.write("lost")
    log.close()
    assert capfd.readouterr() == ("", "")
