"""``kopeck settings``."""


def test_secrets_are_not_shown_among_the_settings(kopeck, database) -> None:
    said = kopeck("settings")
    assert "database.dsn\t(set, not shown)\t" in said.out
    assert database.dsn not in said.out
