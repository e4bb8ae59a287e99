"""A run that its compression's budgets stop leaves what a person needs to see why."""

import re

import pytest
from slice_workplace import workplace

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    with workplace(tmp_path_factory.mktemp("place")) as place:
        yield place


def test_a_broken_compression_budget_leaves_its_page_and_shows_the_ledger(place):
    """Also of a run for which the cache has the compression: the page is an earlier run's then."""
    for cached in (False, True):
        done = place.kuberec("run", "slice.yaml", "--set", "compression.min_size_ratio=1000")
        assert done.returncode == 1
        assert ("compress-gate" in done.stdout, "Traceback" in done.stderr) == (True, False)
        said = " ".join(done.stderr.split())
        assert re.search(r"FAIL quantise: times smaller \(no step reached it\) .*>= 1000", said)
        folder = place.runs()[-1]
        assert bool(list(folder.glob("steps/*/compress"))) != cached
        assert f"{folder.name}/compression.html" in said
        ledger = done.stdout.split("compression: the ranker as it would serve")[1]
        assert re.search(r"^ full .*^ distil .*^ quantise ", ledger, re.MULTILINE | re.DOTALL)
        assert bool(re.search(r"^  compress .*distil: NDCG@10 0", done.stdout, re.M)) != cached
        page = (folder / "compression.html").read_text(encoding="utf-8")
        assert page.count("<svg") == 1
        assert "quantise: times smaller (no step reached it)" in page
        assert not (folder / "report.html").exists()
