"""Settings of a Kafka client that cannot be: said before anything is asked of a broker."""

from pathlib import Path

import pytest

from feature_repo.live.sources.kafka_topic import KafkaTopic, read_properties
from recommender.errors import KuberecError

BROKERS = "127.0.0.1:1"  # which nobody is at


def test_settings_of_a_client_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(KuberecError, match=r"group\.id cannot be set there"):
        KafkaTopic("t", BROKERS, properties={"group.id": "x"})
    with pytest.raises(KuberecError, match=r'property: "sasl\.pasword"'):
        KafkaTopic("t", BROKERS, properties={"sasl.pasword": "x"})
    path = tmp_path / "client.properties"
    path.write_text("# ours\nsecurity.protocol = SASL_SSL\n\nsasl.password=a=b\n")
    assert read_properties(path) == {"security.protocol": "SASL_SSL", "sasl.password": "a=b"}
    path.write_text("secret")
    with pytest.raises(KuberecError, match="line 1: not of the form name=value") as caught:
        read_properties(path)
    assert "secret" not in str(caught.value)
