"""``kopeck user``."""


def test_a_person_is_added_listed_and_given_another_password(kopeck) -> None:
    said = kopeck("user", "add", "Anna", "--role", "operator", stdin="correct horse battery\n")
    assert said.out == "user anna is added as operator\n"
    assert "anna\toperator\tactive\t-" in kopeck("user", "list").out
    assert "has a new password" in kopeck("user", "passwd", "anna", stdin="another horse battery\n").out
    generated = kopeck("user", "passwd", "anna", "--generate").out.splitlines()[1]
    assert len(generated) > 15
    assert "at least" in kopeck("user", "passwd", "anna", stdin="short\n").err
    assert "There is no user nobody" in kopeck("user", "passwd", "nobody", stdin="another horse battery\n").err
    assert kopeck("user", "add", "anna", stdin="correct horse battery\n").status == 2
