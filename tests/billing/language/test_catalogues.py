"""Texts of every language: told in it, with values, contexts and plurals, and read only when they are wanted."""

import logging
import subprocess
import sys
from pathlib import Path

import pytest

from billing.language import N_, NP_, Language, Message, catalogues, choose_language, language_of, languages


def test_the_languages_are_english_and_those_that_have_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [(language.code, language.name) for language in languages()] == [("ru", "Русский"), ("en", "English")]
    (tmp_path / "kk.po").write_text("", "utf-8")
    assert catalogues.codes(tmp_path) == ("kk", "en")


def test_an_unknown_language_is_refused_by_name() -> None:
    with pytest.raises(LookupError, match="no language 'xx'"):
        language_of("xx")


def test_a_text_is_told_with_its_values() -> None:
    english = language_of("en")
    assert english.gettext("%(sum)s of %(total)s, 20 %%", sum=1, total=2) == "1 of 2, 20 %"
    with pytest.raises(KeyError):
        english.gettext("%(sum)s of %(total)s", sum=1)


def test_a_context_finds_its_own_translation() -> None:
    russian = language_of("ru")
    assert russian.pgettext("unit", "year") == "г."
    assert russian.gettext(NP_("unit", "year")) == "г."
    assert language_of("en").gettext(NP_("unit", "year")) == "year"
    message = NP_("unit", "year")
    assert isinstance(message, Message)
    assert (message, message.context, N_("year")) == ("year", "unit", "year")


def test_what_is_counted_has_its_form(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ru.po").write_text(
        """
msgid ""
msgstr ""
"Content-Type: text/plain; charset=utf-8\\n"
"Plural-Forms: nplurals=3; plural=(n%10==1 && n%100!=11 ? 0 : n%10>=2 && n%10<=4 && (n%100<10 || n%100>=20) ? 1 "
": 2);\\n"

msgid "%(num)s payment of %(name)s"
msgid_plural "%(num)s payments of %(name)s"
msgstr[0] "%(num)s платёж от %(name)s"
msgstr[1] "%(num)s платежа от %(name)s"
msgstr[2] "%(num)s платежей от %(name)s"

msgctxt "partner"
msgid "%(num)s conflict"
msgid_plural "%(num)s conflicts"
msgstr[0] "%(num)s конфликт"
msgstr[1] "%(num)s конфликта"
msgstr[2] "%(num)s конфликтов"
""",
        "utf-8",
    )
    told = catalogues.translations("ru", tmp_path)
    monkeypatch.setattr(catalogues, "translations", lambda code: told)
    russian = Language("ru")
    shown = [
        russian.ngettext("%(num)s payment of %(name)s", "%(num)s payments of %(name)s", number, name="OSMP")
        for number in (1, 3, 11, 25, 101, 1005)
    ]
    assert shown == [
        "1 платёж от OSMP",
        "3 платежа от OSMP",
        "11 платежей от OSMP",
        "25 платежей от OSMP",
        "101 платёж от OSMP",
        "1\u00a0005 платежей от OSMP",
    ]
    assert russian.npgettext("partner", "%(num)s conflict", "%(num)s conflicts", 22) == "22 конфликта"
    english = Language("en")
    monkeypatch.undo()
    assert english.npgettext("partner", "%(num)s conflict", "%(num)s conflicts", 1) == "1 conflict"


def test_a_text_without_a_translation_is_told_in_english_and_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    russian = language_of("ru")
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert russian.gettext("A text that no page has") == "A text that no page has"
            assert (
                russian.ngettext("a thing that no page has", "things that no page has", 2) == "things that no page has"
            )
    assert [record.message for record in caplog.records] == ["text_not_translated"] * 2


@pytest.mark.parametrize(
    ("chosen", "cookie", "accepted", "language"),
    [
        ("en", "ru", "ru", "en"),
        (None, "en", "ru", "en"),
        ("xx", "yy", "en-GB;q=0.9", "en"),
        (None, None, "fr, en;q=0.8, ru;q=0.9", "ru"),
        (None, None, "en-US", "en"),
        (None, None, "EN", "en"),
        (None, None, "fr", "ru"),
        (None, None, "", "ru"),
        (None, None, "english", "ru"),
        (None, None, "en;q=0", "ru"),
        (None, None, "en;q=abc", "ru"),
        (None, None, "en;q=2", "ru"),
        (None, None, ";;;,,,=", "ru"),
        (None, None, "," * 5000, "ru"),
        (None, None, "en;q=1.000", "en"),
        (None, None, "de, en;q=0.3, ru;q=0.7", "ru"),
    ],
)
def test_the_setting_goes_before_the_cookie_and_the_cookie_before_the_browser(
    chosen: str | None, cookie: str | None, accepted: str, language: str
) -> None:
    assert choose_language(chosen, cookie, accepted) == language


def test_a_command_that_speaks_english_reads_no_catalogue_and_no_babel() -> None:
    program = (
        "import sys; from billing.language import language_of;"
        "assert language_of('en').gettext('%(n)s rows', n=2) == '2 rows';"
        "sys.exit(any(name.partition('.')[0] == 'babel' for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
