"""billing.refusals: one parent for what is refused and one for what is away, whole on their way between processes."""

import doctest
import pickle
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages

from billing import refusals
from billing.refusals import Refusal, Unavailable

ROOT = Path(refusals.__file__).parents[1]


def exceptions_of(room):
    for module in walk_packages([str(ROOT / room)], f"{room}."):
        if module.name != "billing.cycle.dask":  # an optional dependency
            for found in vars(import_module(module.name)).values():
                if isinstance(found, type) and issubclass(found, Exception) and found.__module__ == module.name:
                    yield found


def test_the_example_of_the_module_holds():
    assert doctest.testmod(refusals).failed == 0


def test_a_refusal_keeps_its_code_and_values_between_processes():
    sent = pickle.loads(pickle.dumps(Refusal("no order O-7", code="order_unknown", order="O-7")))
    assert (str(sent), sent.code, sent.values) == ("no order O-7", "order_unknown", {"order": "O-7"})


def test_every_kind_of_refusal_has_a_code_of_its_own_words():
    kinds = {
        found for room in ("billing", "gateway", "web") for found in exceptions_of(room) if issubclass(found, Refusal)
    }
    assert len(kinds) > 12
    assert not [found.__name__ for found in kinds - {Refusal} if found.default_code == Refusal.default_code]
    assert not [found for found in kinds if issubclass(found, Unavailable)]
