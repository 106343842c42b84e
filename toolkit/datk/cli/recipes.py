"""datk recipes"""

from __future__ import annotations

from typing import Annotated

import typer

app = typer.Typer(help="Recipes: list, show, validate.", no_args_is_help=True)
Json = Annotated[bool, typer.Option("--json", help="Machine-readable result on stdout.")]


OUT_OF_SCOPE = {"Table 8": "semantic segmentation"}
"""What the paper shows and datk has no recipe for, by intent."""


@app.command("list", help="Shipped recipes and what each is for.")
def list_(
    paper: Annotated[
        bool, typer.Option("--paper", help="Those that repeat Depth Anything V2, with the table or figure of each.")
    ] = False,
    json: Json = False,
) -> None:
    """See help."""
    from datk.cli.console import print_json, print_table, say
    from datk.config.load import builtin_recipes, load_recipe

    found = [(name, load_recipe(path)) for name, path in builtin_recipes().items()]
    if paper:
        found = [(name, recipe) for name, recipe in found if recipe.paper]
        if json:
            listed = [{"name": n, "paper": r.paper, "description": r.description} for n, r in found]
            print_json({"recipes": listed, "out_of_scope": OUT_OF_SCOPE})
            return
        print_table("the paper's", ["name", "repeats", "what"], [[n, r.paper, r.description] for n, r in found])
        for table, what in OUT_OF_SCOPE.items():
            say(f"out of scope: {table} ({what})")
        return
    found = [(name, recipe) for name, recipe in found if not recipe.paper]
    if json:
        print_json(
            [{"name": n, "description": r.description, "targets": [t.name for t in r.targets]} for n, r in found]
        )
        return
    rows = [[name, " ".join(t.name for t in r.targets), r.description] for name, r in found]
    print_table("recipes", ["name", "targets", "what for"], rows)
    say("the paper's own: datk recipes list --paper")


@app.command("show", help="Print a recipe as it stands, comments included.")
def show(name: Annotated[str, typer.Argument(help="Name or file.")]) -> None:
    """See help."""
    from datk.config.load import find_recipe

    typer.echo(find_recipe(name).read_text(encoding="utf-8"), nl=False)


@app.command("validate", help="Check a recipe, its targets and their options; every problem at once.")
def validate(name: Annotated[str, typer.Argument(help="Name or file.")], json: Json = False) -> None:
    """See help."""
    from datk import targets
    from datk.cli.console import print_json, say
    from datk.config.load import find_recipe, load_recipe
    from datk.pipeline.route import target_options

    path = find_recipe(name)
    recipe = load_recipe(path)
    for section in recipe.targets:
        target = targets.get(section.name)
        for precision in section.precisions or target.default_precisions:
            target.check_precision(precision)
        target_options(target, section.options)
    if json:
        print_json({"recipe": str(path), "valid": True})
    else:
        say(f"{path}: valid")
