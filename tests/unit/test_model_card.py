"""The model card: every figure is the one that was measured, whatever of it is there."""

import html
import re
from pathlib import Path

import card_files as files
import pytest
import yaml
from huggingface_hub import ModelCard
from pydantic import ValidationError

from reporting.card.build import build_card
from reporting.card.data import period_of
from reporting.card.markdown import card_markdown
from reporting.page import render
from reporting.settings import CardConfig

SAID = CardConfig(
    owner="Team <Films>",
    contact="films@example.org",
    licence="Apache-2.0",
    limits=["Films before 1990 only"],
    out_of_scope=["Children's pages"],
    citation="Films 2026 [x](http://evil)",
)


def card(evaluation=None, config=SAID, serving=None):
    return build_card(
        config,
        snapshot=files.snapshot(),
        period=("1997-09-20", "1998-04-22"),
        features=files.features(),
        vectors=files.vectors(),
        model=files.model(),
        training=files.training(),
        evaluation=evaluation or files.evaluation(),
        manifest=files.manifest(),
        serving=serving or {},
    )


def rows(text: str, first: str) -> list[list[str]]:
    """The cells of the table rows that begin with `first`."""
    lines = [line for line in text.splitlines() if line.startswith(f"| {first} |")]
    return [re.split(r"(?<!\\) \| ", line[2:-2]) for line in lines]


def test_tools_of_hugging_face_read_the_card():
    data = ModelCard(card_markdown(card())).data
    assert data.license == "apache-2.0"
    assert data.library_name == "kuberec"
    assert data.model_name == "0123456789ab"
    found = {result.metric_type: result.metric_value for result in data.eval_results}
    test = files.evaluation()["test"]["model"]
    assert found["ndcg_at_10"] == test["ndcg@10"]
    assert found["popularity_bias"] == test["popularity_bias"]
    assert {result.dataset_name for result in data.eval_results} == {"Films | <i>small</i>"}


@pytest.mark.parametrize(
    ("licence", "keys"),
    [
        (None, {"license": "unknown"}),
        ("MIT", {"license": "mit"}),
        ("Ours, see LICENSE", {"license": "other", "license_name": "Ours, see LICENSE"}),
    ],
)
def test_the_licence_is_one_that_the_hub_knows_or_other(licence, keys):
    head = card_markdown(card(config=CardConfig(licence=licence))).split("---\n")[1]
    assert keys.items() <= yaml.safe_load(head).items()


def test_figures_and_intervals_are_those_of_the_evaluation():
    text = card_markdown(card())
    (model,) = rows(text, r"**model**")
    assert model[1:3] == ["0.1234 (0.1101 to 0.1367)", "0.2221 (0.2001 to 0.2441)"]
    (unmasked,) = rows(text, "model, history not masked")
    assert unmasked[1] == "0.1011"
    (champion,) = rows(text, "champion, version 3")
    assert champion[1:4] == ["0.1200", "0.2100", "–"]
    assert "+0.0034 (-0.0021 to +0.0089)" in text
    quality, costs = rows(text, "INT8")
    assert quality[1:4] == ["0.1229 (0.1129 to 0.1329)", "99.6%", "-0.0005 (-0.0015 to +0.0005)"]
    assert costs[1:3] == ["9,000", "22,500 (4.0×)"]
    assert "| Parameters | 9,871 |" in text
    assert "| Git commit | abc1234 |" in text
    assert "| missing user_id: 60; value >= 3: 40 |" in text


def test_slices_stand_worst_first_and_the_lost_one_before_all():
    slices = card()["evaluation"]["slices"]
    assert [each["ndcg@10"] for each in slices] == [0.0611, 0.0402, 0.1104, 0.1312, 0.1955]
    notes = [each["note"] for each in slices]
    assert notes[0] == "worse than the champion, below the best baseline"
    assert notes[1] == "below the best baseline, few users"
    assert notes[4] == "better than the champion"


def test_a_loss_that_may_be_chance_among_many_slices_is_not_called_one():
    evaluation = files.evaluation()
    evaluation["slices"][2]["simultaneous_interval"] = [-0.06, 0.002]
    assert not any("worse" in each["note"] for each in card(evaluation)["evaluation"]["slices"])
    for each in evaluation["slices"]:
        del each["simultaneous_interval"]
    assert card(evaluation)["evaluation"]["slices"][0]["slice"] == "long tail"


def test_limits_follow_from_what_was_measured():
    limits = card()["limits"]
    assert limits[0] == "Films before 1990 only"
    said = "\n".join(limits)
    assert "Worse than the champion, beyond the noise: item popularity: long tail (0.0611)." in said
    assert (
        "fewer than 100 users, whose figures say little: activity: 200 events and more (61)" in said
    )
    assert "39% of the items are in nobody's first ten places" in said
    assert "off by 0.032 on average" in said
    assert "7 of 40 items were not trained on (5-core)" in said
    assert "latest 50" in said
    assert "NDCG@10 0.1229 (0.1234 before)" in said
    assert "Compression costs these slices quality, beyond the noise: item popularity: long" in said


def test_the_slices_of_what_serves_are_beside_the_full_model():
    text = card_markdown(card())
    ((_, users, full, served, less, _, mark),) = rows(text, "item popularity: long tail")
    assert (users, full, served, mark) == ("314", "0.1000", "0.0895", "**loses**")
    assert less == "-0.0105 (-0.0125 to -0.0085)"
    assert rows(text, "item popularity: head")[0][-1] == ""


def test_a_baseline_that_is_better_is_a_limit():
    evaluation = files.evaluation()
    evaluation["test"]["item-knn"]["ndcg@10"] = 0.2
    assert any("the baseline item-knn is better" in each for each in card(evaluation)["limits"])


def test_what_becomes_of_old_features_is_said():
    old = {"max_age_s": 3600, "policy": "fallback"}
    serving = {"transformer": {"freshness": {"user_history": old}}}
    said = [each for each in card(serving=serving)["limits"] if "older than" in each]
    assert said == [
        "A stored history older than 3600 s is not used: the user gets popular items (policy "
        "fallback)."
    ]


@pytest.mark.parametrize("missing", sorted(files.evaluation().keys() - {"test"}))
def test_each_part_of_the_evaluation_may_be_missing(missing):
    evaluation = files.evaluation()
    del evaluation[missing]
    text = card_markdown(card(evaluation))
    assert "0.1234" in text
    assert "None" not in text


def test_a_report_of_an_earlier_release_gives_a_card_that_says_what_is_not_known():
    text = card_markdown(card(files.old_evaluation(), config=CardConfig()))
    assert "weak spots are not known" in text
    assert "there was no champion" in text
    assert "### Slices" not in text
    assert text.count("not stated (section card of the run's YAML)") == 3


def test_texts_stay_texts():
    text = card_markdown(card()).split("---\n", 2)[2]
    assert "<b>" not in text
    assert "<i>" not in text
    assert "[x](" not in text.replace("\\[x\\](", "")
    assert r"Children's \| &lt;b>Sci-Fi&lt;/b>" in text
    assert r"Thanks to \*everyone\*" in text
    tables = [line for line in text.splitlines() if line.startswith("|")]
    widths = [len(re.findall(r"(?<!\\)\|", line)) for line in tables]
    assert min(widths) > 2
    assert "/secret/place" not in text  # what shapes the model, and no places


def test_the_config_of_the_card_refuses_what_it_does_not_know():
    with pytest.raises(ValidationError, match="owner"):
        CardConfig(owner="  ")
    with pytest.raises(ValidationError, match=r"languages\.0"):
        CardConfig(languages=["English"])
    with pytest.raises(ValidationError, match="intended_usage"):
        CardConfig.model_validate({"intended_usage": []})


def test_numbers_that_a_pipeline_made_floats_are_whole_again():
    shown = card()["reproduce"]["sections"]["model"]
    assert repr(shown) == "{'dim': 16, 'dropout': 0.1}"


def test_the_period_is_that_of_the_events(tmp_path):
    files.write_events(tmp_path, ["1998-04-22T23:59:59", "1997-09-20T00:00:01"])
    assert period_of(tmp_path) == ("1997-09-20", "1998-04-22")
    files.write_events(tmp_path, ["1998-04-22T23:59:59"], statistics=False)
    assert period_of(tmp_path) == ("1998-04-22", "1998-04-22")
    files.write_events(tmp_path, [])
    assert period_of(tmp_path) is None


def page_of(found: dict) -> str:
    """report.html of a run with this card; what is not the card's is as small as may be."""
    measured = found["evaluation"]
    training = files.training()
    return render(
        {
            "card": found,
            "version": found["version"],
            "created": found["created"],
            "data": {
                "name": found["data"]["name"],
                "fingerprint": found["data"]["fingerprint"],
                "acknowledgement": "",
                "tables": [],
                "notes": "",
            },
            "headline": {
                "ndcg@10": 0.1234,
                "hr@10": 0.2,
                "baseline_ndcg@10": 0.1,
                "times_smaller": 4.0,
                "quality_kept": 0.99,
            },
            "validation": {"passed": 1, "total": 1, "warnings": [], "drift": [], "compared": ""},
            "samples": [],
            "serving": {"url": "http://127.0.0.1:1", "previous": None},
            "evaluation": {"protocol": "leave-one-out", "rankers": measured["rankers"]},
            "training": {"epochs": training["curves"], "best_epoch": 2, "seconds": 9.0, "seed": 7},
            "compression": {"rows": found["ledger"], "measured": "in turns"},
            "gates": [],
            "rollout": {"headline": "", "steps": []},
            "parity": [],
        }
    )


@pytest.fixture(scope="module")
def full_page():
    return page_of(card())


def test_the_page_shows_what_the_card_says(full_page):
    found, page = card(), html.unescape(full_page)
    for text in (*found["limits"], *found["intended_use"], *found["ethics"], *SAID.out_of_scope):
        assert text in page
    for value in (name for _, name in found["details"]):
        assert f"<td>{value}</td>" in page
    for text in ("0.1101 to 0.1367", "+0.0034 (-0.0021 to +0.0089)", "-0.0481 to -0.0101"):
        assert text in page
    assert "<summary>full" not in page
    for row in found["ledger"][1:]:
        assert f"<summary>{row['step']}: " in page
    assert page.count("<svg") == 6  # training, metrics, slices, popularity, calibration, ledger


def test_the_page_takes_texts_as_texts(full_page):
    assert "Team &lt;Films&gt;" in full_page
    assert "Children&#39;s | &lt;b&gt;Sci-Fi&lt;/b&gt;" in full_page
    assert "<b>Sci-Fi" not in full_page  # nor in the plot
    assert "<i>small" not in full_page
    assert not re.search(r'(src|href)="(https?:)?//', full_page)


def test_the_page_of_an_earlier_release_s_evaluation_has_no_empty_sections():
    page = page_of(card(files.old_evaluation()))
    for section in ("slices", "behaviour"):
        assert f'id="{section}"' not in page
    assert "None" not in page
    assert page.count("<svg") == 4


def test_the_guides_example_is_a_config():
    guide = Path(__file__).resolve().parents[2] / "docs" / "model-card.md"
    (block,) = re.findall(r"```yaml\n(.*?)```", guide.read_text(encoding="utf-8"), re.DOTALL)
    said = CardConfig.model_validate(yaml.safe_load(block)["card"])
    assert said.model_dump().keys() == yaml.safe_load(block)["card"].keys()
