"""The scorer file of an imported benchmark holds what strangers wrote as literals, whatever it is."""

from __future__ import annotations

import ast
from typing import Any

from autoscorer.tasks.importers.scorer_file import scorer_source
from autoscorer.tasks.programs import Column
from hypothesis import given, settings
from hypothesis import strategies as st

texts = st.text(max_size=12) | st.sampled_from(['"""', "'", "\\", "\n", "{0}", "')\nimport os", "\u2028", "{title}"])
columns = st.builds(
    Column,
    key=texts,
    higher_is_better=st.booleans(),
    hidden=st.booleans(),
    computation=st.none() | st.just("avg"),
    of=st.tuples(texts),
)


def literal(node: ast.expr) -> Any:
    """The value of an expression that is nothing but literals, or a Column of them."""
    if isinstance(node, ast.Tuple):
        return tuple(literal(each) for each in node.elts)
    if isinstance(node, ast.Call):
        assert isinstance(node.func, ast.Name) and node.func.id == "Column" and not node.args
        return Column(**{str(each.arg): literal(each.value) for each in node.keywords})
    return ast.literal_eval(node)


@settings(deadline=None)
@given(texts, st.lists(texts, max_size=3), st.lists(columns, min_size=1, max_size=3))
def test_whatever_a_bundle_says_is_a_literal(title: str, command: list[str], given_columns: list[Column]) -> None:
    main = given_columns[0]
    source = scorer_source(
        scorer_id="codabench_x",
        platform="codabench",
        title=title,
        command=command,
        columns=given_columns,
        main=main,
        program_sha256="0" * 64,
    )
    (made,) = (node for node in ast.parse(source).body if isinstance(node, ast.ClassDef))
    document, *statements = made.body
    assert isinstance(document, ast.Expr) and isinstance(document.value, ast.Constant)
    found = {}
    for statement in statements:
        assert isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name)
        found[statement.targets[0].id] = literal(statement.value)
    assert found["command"] == tuple(command)
    expected = [each if each.computation else Column(**{**vars(each), "of": ()}) for each in given_columns]
    assert list(found["columns"]) == expected
    assert (found["metric"], found["higher_is_better"]) == (main.key, main.higher_is_better)
