"""What a gateway process sees to before it serves."""

import resource

import pytest

from kopeck.serve.gateway import OTHER_DESCRIPTORS, _allow_descriptors
from kopeck.serve.process import ProcessError


@pytest.fixture
def limits():
    """The limit of open files as it was, whatever a test does to it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield soft, hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_the_limit_of_open_files_follows_the_connections(limits):
    _, hard = limits
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    _allow_descriptors(300)
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 300 + OTHER_DESCRIPTORS
    _allow_descriptors(10)
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 300 + OTHER_DESCRIPTORS


def test_more_connections_than_the_system_allows_are_refused_in_words(limits):
    _, hard = limits
    if hard == resource.RLIM_INFINITY:
        _allow_descriptors(10**6)
        return
    with pytest.raises(ProcessError, match="connections_max"):
        _allow_descriptors(hard + 1)
