"""The .po files have the texts of the code, all of them told; whatever is wrong with one is a finding."""

from pathlib import Path

import pytest

from billing.language.extract import problems, texts_of, updated

CODE = """
from billing.language import N_, NP_
STATES = {"posted": N_("Posted")}
UNIT = NP_("unit", "year")

def tell(page, payments, number):
    # Translators: of a partner
    page._("%(sum)s from %(name)s", sum=1, name=2)
    page._(STATES["posted"])
    payments.ngettext("%(num)s payment", "%(num)s payments", number)
"""
RUSSIAN = {
    'msgid "Posted"\nmsgstr ""': 'msgid "Posted"\nmsgstr "Зачислен"',
    'msgid "year"\nmsgstr ""': 'msgid "year"\nmsgstr "год"',
    'msgid "%(sum)s from %(name)s"\nmsgstr ""': 'msgid "%(sum)s from %(name)s"\nmsgstr "%(name)s: %(sum)s"',
    'msgstr[0] ""': 'msgstr[0] "платёж"',
    'msgstr[1] ""': 'msgstr[1] "%(num)s платежа"',
    'msgstr[2] ""': 'msgstr[2] "%(num)s платежей"',
}


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A root with one module, and its ru.po with every text translated."""
    monkeypatch.setattr("billing.language.extract.LEAST_TEXTS", 1)
    (tmp_path / "web").mkdir()
    (tmp_path / "web" / "page.py").write_text(CODE, "utf-8")
    text = updated('msgid ""\nmsgstr ""\n', "ru", texts_of(tmp_path))
    for empty, told in RUSSIAN.items():
        assert empty in text
        text = text.replace(empty, told)
    (tmp_path / "ru.po").write_text(text, "utf-8")
    assert list(problems(tmp_path, tmp_path)) == []
    return tmp_path


def findings(tree: Path, old: str = "", new: str = "", file: str = "ru.po") -> str:
    """What is wrong after a change of a file."""
    path = tree / file
    text = path.read_text("utf-8")
    assert old in text
    path.write_text(text.replace(old, new), "utf-8")
    return "\n".join(problems(tree, tree))


def test_the_files_of_the_package_have_every_text_of_the_code_told() -> None:
    assert list(problems()) == []


def test_marks_contexts_plurals_and_comments_for_translators_are_found(tree: Path) -> None:
    found = {(message.context, message.id): message.auto_comments for message in texts_of(tree) if message.id}
    assert found == {
        (None, "Posted"): [],
        ("unit", "year"): [],
        (None, "%(sum)s from %(name)s"): ["Translators: of a partner"],
        (None, ("%(num)s payment", "%(num)s payments")): [],
    }


@pytest.mark.parametrize(
    ("old", "new", "finding"),
    [
        ('msgstr "Зачислен"', 'msgstr ""', "'Posted': has no translation"),
        ('msgstr[1] "%(num)s платежа"', 'msgstr[1] ""', "has no translation"),
        ('msgid "Posted"', 'msgid "Held"', "does not have the texts of the code"),
        ('msgctxt "unit"\n', "", "does not have the texts of the code"),
        ('#: web/page.py\nmsgid "Posted"', '#: web/page.py\n#, fuzzy\nmsgid "Posted"', "not finished (fuzzy)"),
        ('msgstr "%(name)s: %(sum)s"', 'msgstr "%(nom)s: %(sum)s"', "names other values"),
        ('msgstr "%(name)s: %(sum)s"', 'msgstr "%(name)s"', "names other values"),
        ('msgstr "%(name)s: %(sum)s"', 'msgstr "%(name)s: %(sum)s, 5 %"', "names other values"),
        ('msgstr "%(name)s: %(sum)s"', 'msgstr "<b>%(name)s: %(sum)s"', "has other tags"),
        ('msgstr "Зачислен"', 'msgstr "Зачислен "', "has other spaces at its ends"),
        ('msgstr[2] "%(num)s платежей"\n', "", "'%(num)s payment': has no translation"),
        ("nplurals=3", "nplurals=4", "has 4 plural forms, the language 3"),
        ('msgid "year"', "msgid year", "ru.po:"),
        ("#: web/page.py\n", "", "does not have the texts of the code"),
    ],
)
def test_what_is_wrong_with_a_file_is_told(tree: Path, old: str, new: str, finding: str) -> None:
    assert finding in findings(tree, old, new)


@pytest.mark.parametrize(
    ("old", "new", "finding"),
    [
        ('N_("Posted")', 'N_("Posted today")', "does not have the texts of the code"),
        ('N_("Posted")', 'N_("5 % of it")', "web/page.py: '5 % of it': a value is named %(name)s"),
        ('N_("Posted")', 'N_("5 %s of it")', "web/page.py: '5 %s of it': a value is named %(name)s"),
    ],
)
def test_what_is_wrong_with_a_text_of_the_code_is_told(tree: Path, old: str, new: str, finding: str) -> None:
    assert finding in findings(tree, old, new, "web/page.py")


def test_an_update_keeps_what_is_told_drops_what_is_gone_and_asks_for_what_is_new(tree: Path) -> None:
    (tree / "web" / "page.py").write_text(CODE.replace('"Posted"', '"Held"'), "utf-8")
    new = updated((tree / "ru.po").read_text("utf-8"), "ru", texts_of(tree))
    assert "Posted" not in new
    assert "Зачислен" not in new
    assert 'msgid "Held"\nmsgstr ""' in new
    assert 'msgstr "%(name)s: %(sum)s"' in new
    assert updated(new, "ru", texts_of(tree)) == new


def test_a_command_that_finds_no_text_looks_at_the_wrong_place(tmp_path: Path) -> None:
    assert "looks at the wrong place" in "\n".join(problems(tmp_path, tmp_path))


def test_an_update_takes_both_sides_of_a_conflict(tree: Path) -> None:
    path = tree / "ru.po"
    text = path.read_text("utf-8")
    ours = '<<<<<<< HEAD\nmsgid "Posted"\nmsgstr "Зачислен"\n=======\n'
    theirs = 'msgid "Posted"\nmsgstr "Проведён"\n\n#: web/page.py\nmsgid "Held"\nmsgstr "Удержан"\n>>>>>>> next\n'
    path.write_text(text.replace('msgid "Posted"\nmsgstr "Зачислен"\n', ours + theirs), "utf-8")
    assert "does not have the texts of the code" in "\n".join(problems(tree, tree))
    (tree / "web" / "page.py").write_text(CODE + 'HELD = N_("Held")\n', "utf-8")
    new = updated(path.read_text("utf-8"), "ru", texts_of(tree))
    assert 'msgid "Posted"\nmsgstr "Зачислен"' in new
    assert 'msgid "Held"\nmsgstr "Удержан"' in new
    assert "<<<<" not in new
    path.write_text(new, "utf-8")
    assert list(problems(tree, tree)) == []
