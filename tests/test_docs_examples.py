"""Every public name says, in its docstring, how it is used: the example runs, and says what to see beside it."""

from __future__ import annotations

import doctest
import inspect
import re
import warnings
from importlib import import_module
from typing import Any

import pytest

from tests.examples import names_in_examples
from tests.shown import difference
from trajkit.demo import paths

ROOMS = ("trajkit", "trajkit.detection", "trajkit.judging", "trajkit.stats", "trajkit.trajectory", "trajkit.plots")
REFERENCE = paths.ROOT / "docs" / "reference"


def public_names() -> dict[str, Any]:
    """Where it is first public → each function and class of ROOMS and of tables."""
    found: dict[int, tuple[str, Any]] = {}
    for room in (*ROOMS, "trajkit.tables"):
        module = import_module(room)
        for name in getattr(module, "__all__", None) or dir(module):
            thing = getattr(module, name)
            if inspect.isclass(thing) or inspect.isfunction(thing):
                found.setdefault(id(thing), (f"{room}.{name}", thing))
    return dict(found.values())


def documented() -> dict[str, Any]:
    """All that the reference shows, by name; those that public functions return, too."""
    found = {}
    for page in REFERENCE.glob("*.md"):
        for name in re.findall(r"auto(?:class|function):: (\S+)", page.read_text("utf-8")):
            module, _, last = name.rpartition(".")
            found[name] = getattr(import_module(module), last)
    return found


def examples_of(thing: Any) -> list[tuple[str, str]]:
    """(name, docstring) of a function, or of a class and its methods, where there are examples."""
    own = [("", thing)]
    if inspect.isclass(thing):
        members = {
            name: getattr(value, "__func__", getattr(value, "fget", value)) for name, value in vars(thing).items()
        }
        own += [(f".{name}", value) for name, value in members.items() if inspect.isfunction(value)]
    return [(name, text) for name, one in own if ">>> " in (text := inspect.getdoc(one) or "")]


class Rounded(doctest.OutputChecker):
    """Takes numbers that another machine rounds differently."""

    def check_output(self, want: str, got: str, optionflags: int) -> bool:
        return super().check_output(want, got, optionflags) or difference(got, want) == ""


@pytest.mark.parametrize("name", sorted(documented()))
def test_the_examples_run_and_print_what_they_show(name, tmp_path, monkeypatch):
    monkeypatch.chdir(paths.ROOT)
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE | doctest.IGNORE_EXCEPTION_DETAIL
    for member, text in examples_of(documented()[name]):
        (folder := tmp_path / f"of{member}").mkdir()
        names = names_in_examples() | {"folder": folder}
        test = doctest.DocTestParser().get_doctest(text, names, name + member, None, 0)
        runner, said = doctest.DocTestRunner(Rounded(), optionflags=flags), list[str]()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            runner.run(test, out=said.append)
        assert said == [], "".join(said)


@pytest.mark.parametrize("room", [*ROOMS, "trajkit.tables"])
def test_every_public_name_has_an_example_and_says_what_to_see_beside_it(room):
    here = {name: thing for name, thing in public_names().items() if name.rpartition(".")[0] == room}
    names = {name: inspect.getdoc(thing) or "" for name, thing in here.items()}
    assert names
    assert [name for name, text in names.items() if "\n>>> " not in text] == []
    assert [name for name, text in names.items() if not re.search(r"^See also: `.+\.$", text, re.M)] == []


def test_every_method_that_the_reference_shows_is_used_in_an_example():
    used = "\n".join(text for thing in documented().values() for _, text in examples_of(thing))
    unused = []
    for page in REFERENCE.glob("*.md"):
        for owner, members in re.findall(r"autoclass:: (trajkit\S+)\n +:members: (.*)", page.read_text("utf-8")):
            unused += [f"{owner}.{name}" for name in members.split(", ") if f".{name}" not in used]
    assert unused == []


def test_every_public_name_is_in_the_reference():
    assert set(public_names()) <= set(documented())


def test_the_names_that_examples_take_for_granted_are_told_to_readers():
    table = (REFERENCE / "index.md").read_text("utf-8")
    told = {name for row in re.findall(r"^\| (`.*?`) \|", table, re.M) for name in re.findall(r"`(\w+)`", row)}
    assert told == set(names_in_examples()) - {"np", "tk", "Image"} | {"folder"}


def test_an_example_that_shows_something_else_is_told():
    runner = doctest.DocTestRunner(Rounded(), verbose=False)
    test = doctest.DocTestParser().get_doctest(">>> round(1 / 3, 2)\n0.37\n", {}, "wrong", None, 0)
    assert runner.run(test, out=lambda text: None).failed == 1
