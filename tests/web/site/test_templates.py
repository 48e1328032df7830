"""Templates: escaping, words by language, and names that are not there."""

from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from jinja2 import UndefinedError

from web.site.templates import FOLDER, Templates, path_part
from web.site.texts import LANGUAGES

ZONE = ZoneInfo("Europe/Moscow")


def rendered(folder: Path, source: str, language: str = "en", **values: object) -> str:
    (folder / "page.html").write_text(source)
    return Templates(ZONE, folder).render("page.html", language, values)


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_template_compiles(language):
    names = [str(path.relative_to(FOLDER)) for path in FOLDER.rglob("*.html")]
    assert len(names) > 10
    environment = Templates(ZONE)._environments[language]
    for name in names:
        environment.get_template(name)


def test_markup_in_a_value_is_text(tmp_path):
    assert rendered(tmp_path, "<b>{{ name }}</b>", name="<i>&\"'") == "<b>&lt;i&gt;&amp;&#34;&#39;</b>"


def test_markup_in_a_value_of_a_sentence_is_text(tmp_path):
    said = rendered(tmp_path, '{{ _("Payer: %(name)s", name=name) }}', name="<b>")
    assert said == "Payer: &lt;b&gt;"


def test_what_was_not_given_is_an_error_and_no_empty_place(tmp_path):
    with pytest.raises(UndefinedError):
        rendered(tmp_path, "{{ nothing }}")


def test_counted_words_have_their_number(tmp_path):
    source = '{{ ngettext("%(num)s payment", "%(num)s payments", n) }}'
    assert [rendered(tmp_path, source, n=number) for number in (1, 2)] == ["1 payment", "2 payments"]


def test_a_number_in_a_counted_text_is_grouped_as_the_language_does(tmp_path):
    source = (
        "{% trans num=n, name=name %}{{ num }} payment of {{ name }}{% pluralize %}{{ num }} payments of {{ name }}"
    )
    assert rendered(tmp_path, source + "{% endtrans %}", n=1234, name="<b>") == "1,234 payments of &lt;b&gt;"
    counted = '{{ npgettext("list", "%(num)s row", "%(num)s rows", n) }}'
    assert rendered(tmp_path, counted, n=1234) == "1,234 rows"


def test_a_text_is_told_in_the_language_and_by_its_context(tmp_path):
    source = '{{ pgettext("unit", "year") }} {{ _("%(n)s %%", n=5) }}'
    assert rendered(tmp_path, '{{ pgettext("unit", "year") }}', "ru") == "г."
    assert rendered(tmp_path, source) == "year 5 %"


def test_a_slash_in_a_number_stays_in_its_part_of_the_path():
    assert path_part("A/2026 №7") == "A%2F2026%20%E2%84%967"
