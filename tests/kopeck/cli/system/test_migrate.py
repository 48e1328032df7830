"""``kopeck migrate``."""


def test_migrate_says_what_is_applied_and_may_run_again(kopeck) -> None:
    assert kopeck("migrate") == (0, "the database is up to date\n", "")
    assert "applied  0001-ledger\napplied  0002-payments\n" in kopeck("migrate", "--status").out


def test_migrating_without_the_owner_is_refused(kopeck, monkeypatch) -> None:
    monkeypatch.setenv("KOPECK_DATABASE__OWNER_DSN", "")
    said = kopeck("migrate")
    assert said.status == 2
    assert "database.owner_dsn is not set" in said.err
