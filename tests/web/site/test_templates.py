"""Templates: escaping, words by language, and names that are not there."""

import re
import shutil
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from jinja2 import UndefinedError

from billing.language import codes
from web.site.templates import FOLDER, MACROS, Templates, attributes, path_part

ZONE = ZoneInfo("Europe/Moscow")


def rendered(folder: Path, source: str, language: str = "en", **values: object) -> str:
    shutil.copy(FOLDER / MACROS, folder)
    (folder / "page.html").write_text(source)
    return Templates(ZONE, folder).render("page.html", language, values)


@pytest.mark.parametrize("language", codes())
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


MONTHS = """
{% set columns = {
  "name": column("Month", place="title"),
  "sum": column("Sum", "money", "figure", sorted="descending", sort="/x"),
} %}
{% call ui.table(columns, "Months") %}<tr role="row"><td {{ columns.name.cell }}>May</td></tr>{% endcall %}
"""


def test_a_table_names_itself_its_headings_and_its_order(tmp_path):
    said = rendered(tmp_path, MONTHS)
    assert 'aria-label="Months"' in said
    assert re.search(
        '<th scope="col" role="columnheader" class="money" aria-sort="descending"><a class="sort" href="/x">', said
    )
    assert '<td role="cell" class="text at-title">May</td>' in said


def test_a_field_is_tied_to_its_error_and_its_hint(tmp_path):
    said = rendered(
        tmp_path, '{{ ui.field("login", "Login", "<x>", hint="H", error="E", required=true, data_step=2) }}'
    )
    assert '<label for="login">Login</label>' in said
    assert (
        'value="&lt;x&gt;" required aria-invalid="true" aria-describedby="login-error login-hint" data-step="2"' in said
    )
    assert '<p class="error" id="login-error">E</p>' in said


def test_a_form_carries_the_token_of_its_session(tmp_path):
    said = rendered(tmp_path, '{% call ui.form("/pay") %}{{ ui.buttons("Pay") }}{% endcall %}', csrf="secret")
    assert '<form class="card" method="post" action="/pay" data-once>' in said
    assert '<input type="hidden" name="csrf" value="secret">' in said


def test_a_link_of_paging_works_without_a_script_and_swaps_with_one(tmp_path):
    said = rendered(tmp_path, '{{ ui.paging(next="/x?after=1&q=2") }}')
    assert 'href="/x?after=1&amp;q=2" hx-get="/x?after=1&amp;q=2" hx-target="#list"' in said
    assert rendered(tmp_path, "{{ ui.paging() }}").strip() == ""


def test_attributes_are_escaped_and_empty_ones_left_out():
    assert (
        attributes({"title": '"x"', "autofocus": True, "list": None, "rows": 0})
        == ' title="&#34;x&#34;" autofocus rows="0"'
    )
