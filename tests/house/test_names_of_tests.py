"""A folder of tests runs alone and together with any other: what the files of all of them are called is called once."""

import re
import sys
from collections import Counter
from pathlib import Path

TESTS = Path(__file__).parents[1]
FILES = [path for path in TESTS.rglob("*.py") if path.name != "conftest.py"]


def test_no_two_modules_of_tests_have_the_same_name():
    """Their folders all come onto the path, so that the second of a name would never be imported."""
    names = Counter(path.stem for path in FILES)
    assert [name for name, count in names.items() if count > 1] == []


def test_no_module_of_tests_hides_one_of_the_standard_library():
    assert {path.stem for path in FILES} & sys.stdlib_module_names == set()


def test_nobody_imports_a_conftest_of_which_there_are_many():
    importing = re.compile(r"^\s*(?:from conftest import|import conftest)", re.MULTILINE)
    assert [path.name for path in TESTS.rglob("*.py") if importing.search(path.read_text(encoding="utf-8"))] == []


def test_no_folder_of_tests_is_a_package():
    assert list(TESTS.rglob("__init__.py")) == []


def test_a_module_of_tests_imports_those_of_its_own_folder_and_of_the_root_only():
    """Those of other folders are found only where tests of theirs run too, unless the module puts them on the path."""
    homes = {path.stem: path.parent for path in FILES}
    imports = re.compile(r"^\s*(?:from (\w+) import|import (\w+)$)", re.MULTILINE)
    elsewhere = []
    for path in TESTS.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        named = {one or other for one, other in imports.findall(text)} & homes.keys()
        strange = {name for name in named if homes[name] not in (path.parent, TESTS)}
        elsewhere += [f"{path.relative_to(TESTS)} imports {name}" for name in strange if "sys.path." not in text]
    assert elsewhere == []
