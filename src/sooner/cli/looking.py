"""The commands that look things up: parts, papers, workloads, and what a recipe does."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter


def parts(name: str | None = None, /) -> None:
    """List the parts by station with the verdicts on their claims, or show the card of one, as `sooner explain` does.

    Parameters
    ----------
    name
        A part, such as muon. Without it, all are listed.
    """
    from sooner.cli.listing import describe_part, list_parts

    if name is None:
        list_parts()
    else:
        describe_part(name)


def papers(*query: str, json: Annotated[bool, Parameter(negative=())] = False) -> None:
    """List the source papers and what sooner makes of them, or search them, by need too.

    Parameters
    ----------
    query
        Words of titles, stations, parts or statuses, or a need: "less memory", "slow network", "diverges", "no GPU".
    json
        Print the rows as JSON.
    """
    from sooner.cli.papers import show_papers

    show_papers(" ".join(query), as_json=json)


def workloads(name: str | None = None, /) -> None:
    """List the bundled workloads, or describe one and check that it runs here.

    Parameters
    ----------
    name
        A workload such as charlm, or a task file of yours: it is checked as a race would check it.
    """
    from sooner.cli.listing import describe_workload, list_workloads

    if name is None:
        list_workloads()
    else:
        describe_workload(name)


def explain(recipe: str, /) -> None:
    """Explain a part (its card) or a recipe: the parts in the order in which they run, what each owns, needs and tunes.

    A card says what the part does, its update rule, knobs and cost, when to use it and when not, what it conflicts
    with, and what its paper's claim came to here.

    Parameters
    ----------
    recipe
        A part, such as muon, or a recipe, such as "muon(lr=0.02) + linear".
    """
    from sooner import part

    if recipe.strip() in part.names():
        from sooner.cli.listing import describe_part

        describe_part(recipe.strip())
    else:
        from sooner.recipe import explain as explain_recipe

        print(explain_recipe(recipe))
