"""docs/clusters.md: its engines are short and race, and its options are there."""

import re
from concurrent.futures import Executor, Future
from pathlib import Path

import sooner
from sooner.cli.running import race

TEXT = (Path(__file__).parents[2] / "docs" / "clusters.md").read_text(encoding="utf-8")
CODE = re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL)


class Now(Executor):
    """Runs what it is given at once, in this thread."""

    def submit(self, function, *words):
        future = Future()
        try:
            future.set_result(function(*words))
        except Exception as error:
            future.set_exception(error)
        return future


def test_the_engines_of_the_page_find_what_processes_find(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "page"}
    for block in CODE:
        exec(block, names)
    assert capsys.readouterr().out == "True\n"
    third = sooner.race(
        names["task"], "sgd(lr=0.05); sgd(lr=0.2)", pool=names["Futures"](Now()), out="third", **names["small"]
    )
    assert third.contenders == names["here"].contenders


def test_an_engine_has_fifteen_lines():
    engine = CODE[0].split("\n\n\n")[1]
    assert len(engine.splitlines()) <= 15


def test_the_options_and_extras_are_there():
    options = set(re.findall(r"--(?:no-)?([a-z][a-z-]+)", TEXT))
    parameters = {name.replace("_", "-") for name in race.__code__.co_varnames}
    assert options <= parameters
    project = (Path(sooner.__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8")
    assert all(f"\n{extra} = [" in project for extra in re.findall(r"sooner\[(\w+)\]", TEXT))
