"""What a process says about ports, root and TLS when it starts."""

import pytest
from structlog.testing import capture_logs

from kopeck.exposure import exposed, is_loopback, warn_of_root
from kopeck.settings import Gateway, Metrics, Settings, Web

ALL = ("gateway", "web", "metrics")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_loopback_is_said_nothing_about(host) -> None:
    assert is_loopback(host)
    settings = Settings(gateway=Gateway(host=host), web=Web(host=host), metrics=Metrics(host=host))
    assert exposed(settings, ALL) == []


@pytest.mark.parametrize("host", ["", "0.0.0.0", "::", "192.0.2.1", "pay.example"])
def test_ports_that_others_reach_in_plain_http_are_named_one_by_one(host) -> None:
    settings = Settings(gateway=Gateway(host=host), web=Web(host=host), metrics=Metrics(host=host))
    said = exposed(settings, ALL)
    assert [sentence.split()[0] for sentence in said] == ["gateway.host", "web.host", "metrics.host"]
    assert exposed(settings, ("gateway",)) == said[:1]


def test_tls_or_a_proxy_that_does_it_is_enough_for_a_port_and_not_for_metrics() -> None:
    settings = Settings(
        gateway=Gateway(host="0.0.0.0", tls_cert="c", tls_key="k"),
        web=Web(host="0.0.0.0", trusted_proxies=("10.0.0.1/32",)),
        metrics=Metrics(host="0.0.0.0"),
    )
    assert [sentence.split()[0] for sentence in exposed(settings, ALL)] == ["metrics.host"]


def test_root_is_warned_and_nobody_else() -> None:
    with capture_logs() as said:
        warn_of_root(1_000)
        assert said == []
        warn_of_root(0)
    assert [(entry["event"], entry["log_level"]) for entry in said] == [("running_as_root", "warning")]
