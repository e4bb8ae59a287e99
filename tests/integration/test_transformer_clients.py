"""What a transformer keeps of its clients' requests: numbers, and a sample."""

import json
import os
import signal
from pathlib import Path

import pytest
from tiny_transformer import (
    K_2,
    QUICK,
    REQUESTS,
    Parts,
    ask,
    get,
    numbers,
    parts_of,
    sample,
    transformer,
    users,
    wait_until,
)
from tiny_version import K
from wire import Wire, grpc_request, packed, rest_request
from wire_mistakes import REST

from serving.embedded.transformer import TransformerServer
from serving.transformer.errors import CODES, SERVICE_FAULTS

pytestmark = pytest.mark.timeout(120)


def test_what_clients_ask_is_counted_by_requests_and_rows(server: TransformerServer) -> None:
    before = numbers(server)
    for body in (rest_request(users("no", "body")), REQUESTS["all of it"], {"inputs": []}):
        ask(server.http_url, body)
    ask(server.http_url, rest_request(users("x" * 9_000_000)))
    with Wire(server.grpc_url) as wire:
        assert wire.grpc(grpc_request(("user_id", [1], "BYTES", [b"196"]))).code == "OK"
    # Of the newest row read there is nothing to tell before the first one.
    grown = {name: value - before.get(name, 0.0) for name, value in numbers(server).items()}
    assert {name: by for name, by in grown.items() if by and "_requests_total{" in name} == {
        'kuberec_requests_total{code="OK",protocol="rest"}': 2,
        'kuberec_requests_total{code="OK",protocol="grpc"}': 1,
        'kuberec_requests_total{code="INVALID_ARGUMENT",protocol="rest"}': 2,
    }
    assert grown['kuberec_request_seconds_count{protocol="rest"}'] == 4
    assert grown['kuberec_request_seconds_count{protocol="grpc"}'] == 1
    assert 0 < grown['kuberec_request_seconds_sum{protocol="grpc"}'] < 60
    assert grown["kuberec_short_answers_total"] == 0
    lookups = {name: by for name, by in grown.items() if by and "_feature_lookups_" in name}
    assert lookups == {
        'kuberec_feature_lookups_total{status="unknown"}': 2,
        'kuberec_feature_lookups_total{status="given"}': 1,
        'kuberec_feature_lookups_total{status="ok"}': 1,
    }


def test_short_answers_are_counted_by_rows(tmp_path: Path) -> None:
    assert K == 5
    with parts_of(tmp_path, items=4) as parts, transformer(parts) as server:
        for side_door, expected in ((False, 2), (True, 2)):  # the same again, uncounted
            url = server.side_url if side_door else server.http_url
            answer = ask(url, rest_request(users("no", "body")))
            assert answer.outputs["item_ids"].count("") == 2
            assert ask(url, rest_request(users("nobody"), K_2)).code == 200  # as many as asked for
            assert numbers(server)["kuberec_short_answers_total"] == expected


def test_every_series_is_there_before_it_first_happens(parts: Parts) -> None:
    with transformer(parts) as server:
        found = numbers(server)
    for protocol in ("rest", "grpc"):
        assert found[f'kuberec_request_seconds_count{{protocol="{protocol}"}}'] == 0
        for code in {*CODES, *SERVICE_FAULTS, "OK"}:
            assert found[f'kuberec_requests_total{{code="{code}",protocol="{protocol}"}}'] == 0
    for status in ("ok", "stale", "given", "unknown", "fallback_timeout", "fallback_error"):
        assert found[f'kuberec_feature_lookups_total{{status="{status}"}}'] == 0
    assert found['kuberec_features_beyond_limit_total{policy="flag",view="user_history"}'] == 0
    assert found["kuberec_short_answers_total"] == 0
    assert found['kuberec_feature_age_seconds_count{view="user_history"}'] == 0


def test_the_sample_is_what_clients_sent(parts: Parts) -> None:
    with transformer(parts) as server, Wire(server.grpc_url) as wire:
        assert sample(server) == []
        for name in ("batch", "history", "all of it"):
            ask(server.http_url, REQUESTS[name])
        message = grpc_request(("user_id", [1], "BYTES", None), raw=[packed("ü7".encode())])
        assert wire.grpc(message).code == "OK"
        for body, _ in REST.values():
            assert ask(server.http_url, body).code == 400
        os.kill(parts.triton.process.pid, signal.SIGSTOP)
        try:
            assert ask(server.http_url, rest_request(users("in vain"))).code == 503
        finally:
            os.kill(parts.triton.process.pid, signal.SIGCONT)
        alone = {"history": None, "exclude": [], "k": None}
        expected = [{"user_id": user, **alone} for user in ("196", "in vain", "nobody", "ü2", "ü7")]
        expected += [
            {"user_id": None, "history": ["item-5", "item-2"], "exclude": [], "k": None},
            {"user_id": "196", "history": ["item-7"], "exclude": ["a"], "k": 2},
        ]
        found = sample(server)
        assert sorted(found, key=json.dumps) == sorted(expected, key=json.dumps)
        assert len(sample(server, "?limit=3")) == 3
        assert all(row in expected for row in sample(server, "?limit=3"))
        assert len(sample(server, "?limit=100000")) == len(expected)
    log = (parts.folder / "transformer.log").read_text()
    assert "in vain" not in log


def test_the_sample_is_bounded(parts: Parts) -> None:
    with transformer(parts, QUICK.model_copy(update={"sampled_requests": 10})) as server:
        for first in range(0, 300, 30):
            names = map(str, range(first, first + 30))
            assert ask(server.http_url, rest_request(users(*names))).code == 200
        found = sample(server)
        assert len({row["user_id"] for row in found}) == 10
        assert [row["user_id"] for row in sample(server)] != [row["user_id"] for row in found]


def test_old_requests_are_forgotten(parts: Parts) -> None:
    with transformer(parts, QUICK.model_copy(update={"sampled_for_s": 1.0})) as server:
        ask(server.http_url, REQUESTS["batch"])
        assert sample(server)
        wait_until(lambda: not sample(server))


@pytest.mark.parametrize("limit", ["0", "-1", "x", "1.5", "", "%D9%A3", "1" * 30, "1%00", "nan"])
def test_a_malformed_limit_is_explained(server: TransformerServer, limit: str) -> None:
    status, answer = get(server.side_url, f"/requests?limit={limit}")
    assert status == 400
    assert answer["error"].startswith("limit: '")
    assert answer["error"].endswith("; allowed: a whole number from 1 to 999999999")
