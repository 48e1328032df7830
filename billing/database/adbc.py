"""ADBC: how connections for columns are opened.

Rules. The driver is imported here and nowhere else. Sessions are those of `billing.database.session`.

Does not know: statements.
"""

from typing import Any

from adbc_driver_postgresql import dbapi

from billing.database.session import session_dsn


def connect(dsn: str, *, name: str, idle_transaction_s: float) -> Any:
    """An ADBC connection of the DB-API kind, in a transaction that the caller commits.

    Raises:
        adbc_driver_manager.Error: no connection.
    """
    return dbapi.connect(session_dsn(dsn, name=name, idle_transaction_s=idle_transaction_s))
