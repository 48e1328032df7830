"""``kopeck catalog load`` leaves its trace: the audit record, and a word on what no date holds back."""

from contextlib import closing
from pathlib import Path

import psycopg2

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "mobile.yaml"


def audited(database) -> list[tuple[object, ...]]:
    """Loads of catalogues on the audit record, in order."""
    with closing(psycopg2.connect(database.dsn)) as connection, connection.cursor() as cur:
        cur.execute(
            "SELECT action, object_kind, object_id, detail, actor LIKE 'system:cli%' FROM audit "
            "WHERE action LIKE 'catalogue%' ORDER BY id"
        )
        return list(cur.fetchall())


def test_a_load_is_on_the_audit_record_once_a_version(kopeck, database, tmp_path) -> None:
    for _ in range(2):
        assert kopeck("catalog", "load", str(EXAMPLE)).status == 0
    ((*what, detail, by_cli),) = audited(database)
    assert (what, by_cli) == (["catalogue_loaded", "catalogue", "mobile"], True)
    assert (detail["version"], detail["changes"], len(detail["sha256"])) == (1, 0, 64)


def test_a_load_that_is_refused_is_not_on_the_audit_record(kopeck, database, tmp_path) -> None:
    broken = tmp_path / "mobile.yaml"
    broken.write_text("catalogue: mobile\n", "utf-8")
    assert kopeck("catalog", "load", str(broken)).status == 2
    assert audited(database) == []
