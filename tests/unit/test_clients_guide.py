"""The clients' guide says what the code does."""

import inspect
import re
from pathlib import Path

import pytest

from serving.client import RecommendClient, RetryPolicy
from serving.kubernetes.gateway import API_KEY_HEADER, API_KEY_VARIABLE
from serving.settings import KubernetesConfig, ServingConfig, TransformerConfig
from serving.transformer.errors import HTTP_STATUS
from serving.transformer.request import INPUTS, MAX_ID_BYTES, OUTPUTS

ROOT = Path(__file__).resolve().parents[2]
GUIDE = (ROOT / "docs/guides/clients.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["recommend.py", "recommend.sh"])
def test_the_examples_are_shown_as_they_are(name: str) -> None:
    text = (ROOT / "examples" / name).read_text(encoding="utf-8")
    language = {"py": "python", "sh": "sh"}[name.partition(".")[2]]
    assert f"```{language}\n{text}```" in GUIDE


def rows(heading: str) -> list[list[str]]:
    """Cells of the table's rows whose head begins with `heading`."""
    (table,) = re.findall(rf"^\| {re.escape(heading)} \|.*\n\|[-| ]+\n((?:\|.*\n)+)", GUIDE, re.M)
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]


def test_inputs_and_outputs() -> None:
    inputs = {name.strip("`"): kind for name, kind, *_ in rows("input")}
    assert inputs == {name: " or ".join(kinds) for name, (kinds, _) in INPUTS.items()}
    outputs = {name.strip("`"): kind for name, kind, *_ in rows("output")}
    assert outputs == {name: kind for name, (kind, _) in OUTPUTS.items()}


def test_every_status_of_the_features() -> None:
    source = (ROOT / "serving/transformer/features.py").read_text(encoding="utf-8")
    statuses = set(re.findall(r'^    [A-Z_]+ = "(\w+)"$', source, re.MULTILINE))
    assert {name.strip("`") for name, *_ in rows("`feature_status`")} == statuses
    assert len(statuses) == 8


def test_every_code_of_an_error() -> None:
    told = {code: statuses.split(", ") for code, statuses, *_ in rows("gRPC | REST | when")}
    for code, status in HTTP_STATUS.items():
        # A fault of ours; a path, not a request; who cancels does not see the answer.
        if code not in ("INTERNAL", "UNIMPLEMENTED", "CANCELLED"):
            assert told.pop(code) == [str(status)]
    assert told.keys() == {"UNIMPLEMENTED"}


def test_limits_and_defaults() -> None:
    config, retries = ServingConfig(), RetryPolicy()
    assert f"at most {config.triton.max_batch_size}:" in GUIDE
    assert f"up to {MAX_ID_BYTES:,} bytes each" in GUIDE
    assert f"up to {TransformerConfig().max_ids:,} a row" in GUIDE
    assert f"(`serving.request_timeout_s`, {config.request_timeout_s:g} s)" in GUIDE
    assert f"up to {retries.attempts} attempts" in GUIDE
    waits = [retries.first_delay_s * 2**n for n in range(3)]
    assert "at random up to {:g}, {:g} and {:g} s".format(*waits) in GUIDE
    assert f"({retries.burst:g} at once, then one for {1 / retries.earned_per_answer:.0f}" in (
        GUIDE.replace("one for ten", "one for 10")
    )


def test_the_cluster_is_called_as_the_manifests_have_it() -> None:
    config = KubernetesConfig()
    assert f"kubectl get inferenceservice {config.inference_service} -n {config.namespace}" in GUIDE
    host = f"{config.inference_service}-{config.namespace}.example.com"
    assert f"--header 'Host: {host}'" in GUIDE
    assert GUIDE.count(f'"{host}"') == 2
    assert f"{API_KEY_HEADER}: ${API_KEY_VARIABLE}" in GUIDE
    platform = (ROOT / "manifests/platform/51-kserve/settings.yaml").read_text(encoding="utf-8")
    assert '"domainTemplate": "{{ .Name }}-{{ .Namespace }}.{{ .IngressDomain }}"' in platform
    keys = ROOT / "manifests/overlays/production/gateway/api-keys.yaml"
    assert f"headers: [{API_KEY_HEADER}]" in keys.read_text(encoding="utf-8")


def test_the_client_takes_what_the_guide_gives_it() -> None:
    (block,) = [
        each for each in re.findall(r"```python\n(.*?)```", GUIDE, re.S) if "authority=" in each
    ]
    arguments = set(re.findall(r"^    (\w+)=", block, re.MULTILINE))
    assert arguments == {"timeout_s", "authority", "headers"}
    assert arguments <= set(inspect.signature(RecommendClient).parameters)
