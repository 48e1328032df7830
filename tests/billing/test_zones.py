"""A zone that the program knows and the database does not is refused wherever one is given."""

import zoneinfo
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from billing.customers import CustomerError, FurtherAccount, NewCustomer, add_account, add_customer, edit_customer
from billing.order_rules import OrderError
from billing.orders import WantedOrder, add_order
from billing.zones import problem_with_zone
from ratingcore.bands import zone_of
from tests.billing.shop import act, open_shop
from tests.billing.test_order_import import customers, orders, told

UNKNOWN = "the database server does not know the time zone 'Moon/Base': its time zone data may be old"


@pytest.fixture
def shop(database: Any, tmp_path: Path) -> Iterator[Any]:
    """A shop on a host whose time zone data is newer than the server's."""
    [moscow] = [Path(folder) / "Europe/Moscow" for folder in zoneinfo.TZPATH if Path(folder, "Europe/Moscow").exists()]
    (tmp_path / "Moon").mkdir()
    (tmp_path / "Moon" / "Base").write_bytes(moscow.read_bytes())
    before = zoneinfo.TZPATH
    zoneinfo.reset_tzpath([tmp_path, *before])
    open_shop(database)
    yield database
    zoneinfo.reset_tzpath(before)


def test_a_zone_unknown_to_the_server_is_refused_at_every_edge(shop: Any) -> None:
    assert zone_of("Moon/Base").key == "Moon/Base"
    assert act(shop, lambda cur: problem_with_zone(cur, "Europe/Moscow")) is None
    wanted = WantedOrder("ann", number="A1", plan="basic", starts="2026-01-31", zone="Moon/Base")
    for work, error in (
        (lambda cur: add_customer(cur, NewCustomer("dan", zone="Moon/Base")), CustomerError),
        (lambda cur: edit_customer(cur, "ann", {"zone": "Moon/Base"}), CustomerError),
        (lambda cur: add_account(cur, "ann", FurtherAccount("ann-2", zone="Moon/Base")), CustomerError),
        (lambda cur: add_order(cur, wanted, "t"), OrderError),
    ):
        with pytest.raises(error, match=UNKNOWN):
            act(shop, work)
    assert told(customers(shop, "number,zone\ndan,Moon/Base\neva,Asia/Omsk\n")) == [(2, UNKNOWN)]
    line = "number,account,plan,starts,zone\nA1,ann,basic,2026-01-31,Moon/Base\nA2,ann,basic,2026-01-31,\n"
    assert told(orders(shop, line)) == [(2, f"zone: {UNKNOWN}")]
