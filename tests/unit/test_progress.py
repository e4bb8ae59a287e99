"""The live view reads the runner's output, its wording included, and keeps all of it in the log."""

import io

from rich.console import Console

from components.step import note
from pipelines.progress import RunView

OUTPUT = """\
12:00:00.000 - INFO - Executing task \x1b[96m'encode-items'\x1b[0m
    [kuberec] encode-items 128/1682 encoding
    [kuberec] encode-items 1682/1682 encoded
12:00:03.000 - INFO - Task \x1b[96m'encode-items'\x1b[0m finished with status \x1b[92mSUCCESS\x1b[0m
Task train cache hit (key=0123456789ab); skipping execution.
Task evaluate cache hit (key=0123456789ab); skipping execution.
12:00:04.000 - INFO - Executing task \x1b[96m'evaluate-gate'\x1b[0m
    [kuberec:error] gate 'evaluate' failed: 1 of 2 checks
    [kuberec:error]   FAIL ndcg@10 [x]
12:00:05 - INFO - Task \x1b[96m'evaluate-gate'\x1b[0m finished with status \x1b[91mFAILURE\x1b[0m
"""


def test_each_step_gets_one_line_and_the_error_is_kept(tmp_path):
    out = io.StringIO()
    console = Console(file=out, width=100)
    with RunView(console, tmp_path / "run.log") as view:
        for start in range(0, len(OUTPUT), 7):  # lines arrive in pieces
            view.write(OUTPUT[start : start + 7])
    lines = [line.split() for line in out.getvalue().splitlines()]
    assert [line[0] for line in lines] == ["encode-items", "train", "evaluate", "evaluate-gate"]
    assert lines[0][-1] == "encoded"
    assert "cache" in lines[1]
    assert lines[3][-1] == "failed"
    assert view.errors[:2] == ["gate 'evaluate' failed: 1 of 2 checks", "  FAIL ndcg@10 [x]"]
    assert "--no-cache" in view.errors[2]  # what was measured came from the cache
    assert (tmp_path / "run.log").read_text() == OUTPUT


def test_what_a_step_notes_is_a_line_of_its_own_as_it_comes(tmp_path, capsys):
    out = io.StringIO()
    with RunView(Console(file=out, width=100), tmp_path / "run.log") as view:
        view.write("12:00:00 - INFO - Executing task \x1b[96m'rollout'\x1b[0m\n")
        note("rollout", "5 %: promote: all [12] checks\n  passed")
        view.write(capsys.readouterr().out)
        assert out.getvalue().split("\n")[0].split() == [
            "rollout", "5", "%:", "promote:", "all", "[12]", "checks", "passed"
        ]  # fmt: skip
        view.write("12:00:09 - INFO - Task \x1b[96m'rollout'\x1b[0m finished with status SUCCESS\n")
    assert len(out.getvalue().splitlines()) == 2


def test_what_is_longer_than_a_line_goes_on_below_its_beginning(tmp_path):
    out = io.StringIO()
    words = [f"word{number}" for number in range(20)]
    with RunView(Console(file=out, width=80), tmp_path / "run.log") as view:
        view.write(f"[kuberec:note] compress {' '.join(words)}\n")
    first, *others = out.getvalue().splitlines()
    assert first.startswith(" " * 2 + "compress ")
    assert all(line.startswith(" " * first.index("word0") + "word") for line in others)
    assert " ".join([first, *others]).split()[1:] == words
    assert max(map(len, [first, *others])) <= 80
