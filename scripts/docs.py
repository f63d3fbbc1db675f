"""Generate the documentation's tables from the code, between ``<!-- generated: NAME -->`` and ``<!-- /generated -->``.

``scripts/docs`` writes them, ``scripts/docs --check`` fails where one is out of date. What a row says comes from the
code: a docstring, a ``Field``'s description, a help text, the catalogue of errors. In the Chinese pages the cells in
Chinese are written by hand: they are found again by the row's first cell, and a row without one is an error.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel

ROOT = Path(__file__).resolve().parent.parent
PAGES = ("README.md", "README.zh-CN.md", "docs/*.md", "docs/zh/*.md")
_BLOCK = re.compile(r"(?<=<!-- generated: )([\w:-]+)( -->\n)(.*?)(?=^<!-- /generated -->$)", re.MULTILINE | re.DOTALL)
COMMON_OPTIONS = {"--help", "--config", "--json", "--scorers"}

Row = list[str]


def main(arguments: list[str]) -> int:
    """Write or check all pages; the exit code is 1 where a checked one is out of date."""
    parser = argparse.ArgumentParser(prog="scripts/docs", description="Generates the tables of the documentation.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail where a table is out of date")
    check = parser.parse_args(arguments).check
    stale = [page for page in _pages() if _changed(page, check=check)]
    for page in stale:
        print(f"{page.relative_to(ROOT)} {'is out of date; run scripts/docs' if check else 'written'}")
    return 1 if check and stale else 0


def _pages() -> Iterator[Path]:
    for pattern in PAGES:
        yield from sorted(ROOT.glob(pattern))


def _changed(page: Path, *, check: bool) -> bool:
    text = page.read_text(encoding="utf-8")
    new = _BLOCK.sub(lambda found: found[1] + found[2] + "\n" + _table(found[1], found[3], page) + "\n", text)
    if new != text and not check:
        page.write_text(new, encoding="utf-8")
    return new != text


def _table(name: str, written: str, page: Path) -> str:
    kind, _, argument = name.partition(":")
    header, *rows = TABLES[kind](argument) if argument else TABLES[kind]()
    if "zh" in page.name or page.parent.name == "zh":
        header, rows = _in_chinese(written, rows, f"{page.relative_to(ROOT)}, table {name}")
    rows = [header, ["---"] * len(header), *([_linked(cell, page) for cell in row] for row in rows)]
    return (
        "".join("| " + " | ".join(row) + " |\n" for row in rows).replace("| --- ", "|---").replace("---|---", "---|---")
    )


def _linked(cell: str, page: Path) -> str:
    """Links where the code names a page of the documentation."""
    return re.sub(
        r"(?<![\w/])(?<!\]\()docs/([\w-]+\.md)(#[\w-]+)?",
        lambda found: f"[{found[1]}]({os.path.relpath(ROOT / found[0], page.parent)})",
        cell,
    )


# --- the tables -------------------------------------------------------------------------------------------------


def errors() -> list[Row]:
    """The catalogue of errors."""
    from autoscorer.core.errors import CATALOGUE

    rows = [["code", "stage", "HTTP", "fault", "meaning"]]
    for code, spec in CATALOGUE.items():
        meaning = spec.meaning + (f"; {spec.more}" if spec.more else "")
        rows.append([f"`{code.value}`", spec.stage.value, str(spec.http_status), spec.fault.value, meaning])
    return rows


def commands() -> list[Row]:
    """Every command and action, with the options that are its own."""
    rows = [["command", "what it does", "options"]]
    for typed, text, parser in parsers():
        arguments = [_argument(action) for action in parser._actions if not action.option_strings]
        options = ", ".join(f"`{_option(action)}`" for action in _options(parser)).replace("|", r"\|")
        rows.append([f"`{' '.join(['autoscorer', typed, *arguments])}`", text, options])
    return rows


def options() -> list[Row]:
    """What each option means, and which commands have it."""
    found: dict[tuple[str, str], list[str]] = {}
    for typed, _, parser in parsers():
        for action in _options(parser):
            meaning = (action.help or "") % {"default": action.default}
            found.setdefault((_option(action), meaning), []).append(typed)
    rows = [["option", "meaning", "of"]]
    for (option, meaning), having in sorted(found.items()):
        rows.append([f"`{option}`".replace("|", r"\|"), meaning, ", ".join(f"`{typed}`" for typed in having)])
    return rows


def parsers() -> Iterator[tuple[str, str, argparse.ArgumentParser]]:
    """Every command and action: what is typed, what its help says of it, its parser."""
    from autoscorer.cli.main import COMMANDS

    for command, text in COMMANDS.items():
        parser = argparse.ArgumentParser()
        importlib.import_module(f"autoscorer.cli.{command}").add_arguments(parser)
        actions = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
        if not actions:
            yield command, text, parser
        for action in actions:
            for below, (name, found) in zip(action._choices_actions, action.choices.items(), strict=True):
                yield f"{command} {name}", str(below.help), found


def _options(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    return [each for each in parser._actions if each.option_strings and not COMMON_OPTIONS & {*each.option_strings}]


def _argument(action: argparse.Action) -> str:
    name = str(action.metavar or action.dest)
    # A file may also be given by its option.
    return {"?": f"[{name}]", "+": f"{name}…"}.get(str(action.nargs), name)


def _option(action: argparse.Action) -> str:
    name = action.option_strings[0]
    if action.nargs == 0:
        return name
    if action.choices is not None:
        return f"{name} {'|'.join(action.choices)}"
    return f"{name} [{action.metavar}]" if action.nargs == "?" else f"{name} {action.metavar}"


def settings() -> list[Row]:
    """Every setting by its path, with its default."""
    from autoscorer.core.config import Settings

    return [["key", "default", "meaning"], *_fields_below(Settings, "")]


def benchmark() -> list[Row]:
    """Every key of benchmark.json by its path, with its default."""
    from autoscorer.schemas.benchmark import Benchmark

    return [["key", "default", "meaning"], *_fields_below(Benchmark, "")]


def _fields_below(model: type[BaseModel], prefix: str) -> Iterator[Row]:
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from _fields_below(kind, f"{prefix}{name}.")
            continue
        if not field.description:
            raise SystemExit(f"The setting {prefix}{name} has no description.")
        choices = _choices(kind)
        default = field.get_default(call_default_factory=True)
        if field.is_required():
            yield [f"`{prefix}{name}`", "required", _described(field.description, choices)]
            continue
        sizes = any("parse_bytes" in repr(item) for item in field.metadata)
        yield [f"`{prefix}{name}`", _default(default, size=sizes), _described(field.description, choices)]
        below = get_args(kind)[-1:] if get_origin(kind) is dict else get_args(kind)[:1]
        if below and isinstance(below[0], type) and issubclass(below[0], BaseModel):
            yield from _fields_below(below[0], f"{prefix}{name}.{'NAME.' if get_origin(kind) is dict else ''}")


def _choices(kind: Any) -> str:
    if get_origin(kind) is tuple:
        kind = get_args(kind)[0]
    if get_origin(kind) is not Literal:
        return ""
    return f" One of {', '.join(f'`{choice}`' for choice in get_args(kind))}"


def _default(value: Any, *, size: bool = False) -> str:
    if value is None or value == "":
        return "none" if value is None else "empty"
    if isinstance(value, bool):
        return str(value).lower()
    if size:
        unit = next((unit for unit in (3, 2, 1) if value % 1024**unit == 0), 0)
        return f"`{value // 1024**unit}{['', 'Ki', 'Mi', 'Gi'][unit]}`"
    if isinstance(value, (int, float)):
        return f"{value:g}" if isinstance(value, float) else str(value)
    return f"`{value}`" if isinstance(value, (str, Path)) else f"`{json.dumps(value)}`"


def _described(text: str, choices: str) -> str:
    return " ".join(text.split()).replace("|", r"\|") + choices if choices else _sentence(text)


def _sentence(text: str) -> str:
    """A description as a cell: without a full stop where it is one sentence."""
    text = " ".join(text.split()).replace("|", r"\|")
    return text.removesuffix(".") if ". " not in text else text


def routes() -> list[Row]:
    """Every route with its role, from the API's own document; and the pages, which do not stand in it."""
    from autoscorer.api.app import create_app
    from autoscorer.api.routes.pages import router
    from autoscorer.core.config import Settings

    with tempfile.TemporaryDirectory() as home:
        os.environ["AUTOSCORER_HOME"] = home
        app = create_app(Settings())
    rows = [["method", "path", "role", "what it does"]]
    for path, operations in app.openapi()["paths"].items():
        for method, operation in operations.items():
            # A route that needs the role admin says so in the document, which the tests of the API hold it to.
            admin = "*admin*" in operation["description"]
            team = "*team*" in operation["description"]
            role = "–" if operation.get("security") == [] else "admin" if admin else "team" if team else "submit"
            text = operation["description"].replace("*admin*", "").replace("*team*", "")
            asked = [each["name"] for each in operation.get("parameters", ()) if each["in"] == "query"]
            query = f" Query: {', '.join(f'`{name}`' for name in asked)}" if asked else ""
            rows.append(
                [method.upper(), f"`{path}`", role, (" ".join(text.split()) if query else _sentence(text)) + query]
            )
    rows.append(["GET", f"`{app.openapi_url}`", "–", "The OpenAPI document"])
    for page in router.routes:
        text = " ".join((page.endpoint.__doc__ or "").split())  # type: ignore[attr-defined]
        rows.append(["GET", f"`{page.path}`", "–", _sentence(text)])  # type: ignore[attr-defined]
    return rows


def scorers() -> list[Row]:
    """The built-in scorers."""
    from autoscorer.scorers.registry import ScorerRegistry

    rows = [["id", "score", "better", "what it gives"]]
    for entry in ScorerRegistry(entry_points=False).list():
        kind = entry.scorer_class
        rows.append(
            [
                f"`{entry.id}`",
                f"`{kind.metric}`",
                "higher" if kind.higher_is_better else "lower",
                _sentence(entry.description),
            ]
        )
    return rows


def params(argument: str) -> list[Row]:
    """The params of one built-in scorer that are its own, or those of all scorers, or of those of tables."""
    from autoscorer.scorers.base import ScorerParams
    from autoscorer.scorers.base_csv import CSVParams
    from autoscorer.scorers.registry import ScorerRegistry

    bases: dict[str, tuple[type[BaseModel], type[BaseModel]]] = {
        "every": (ScorerParams, BaseModel),
        "tables": (CSVParams, ScorerParams),
    }
    if argument in bases:
        model, base = bases[argument]
    else:
        (model,) = [e.scorer_class.Params for e in ScorerRegistry(entry_points=False).list() if e.id == argument]
        base = CSVParams if issubclass(model, CSVParams) else ScorerParams
    rows = [["param", "default", "meaning"]]
    for name, field in model.model_fields.items():
        if name not in base.model_fields:
            rows.append(
                [f"`{name}`", _default(field.default), _described(field.description or "", _choices(field.annotation))]
            )
    return rows


def rag_metrics() -> list[Row]:
    """The metrics of RAG answers, with what each asks and needs."""
    from autoscorer.scorers.rag.catalogue import METRICS, default_weights
    from autoscorer.scorers.rag.sample import Sample

    weights = [default_weights(Sample(ground_truth=truth)) for truth in ("there", None)]
    rows = [["metric", "asks", "needs", "weight", "without ground truth", "what it says"]]
    for name, info in METRICS.items():
        asked = [word for word, is_asked in (("judge", info.judge), ("embeddings", info.embeddings)) if is_asked]
        told = [f"{of[name]:.2f}" if name in of else "" for of in weights]
        rows.append([f"`{name}`", " and ".join(asked) or "nobody", ", ".join(info.needs), *told, info.summary])
    return rows


# --- what is written by hand in Chinese -------------------------------------------------------------------------


def _in_chinese(written: str, rows: list[Row], where: str) -> tuple[Row, list[Row]]:
    """The header and rows as they are written, but for the cells that the code knows: code words and numbers."""
    known = {}
    header: Row = []
    for line in written.splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if cells and set("".join(cells)) - set("-: "):
            header = header or cells
            known[cells[0].partition("`")[2].partition("`")[0]] = cells
    merged = []
    for row in rows:
        hand = known.get(row[0].strip("`"))
        if hand is None or len(hand) != len(row):
            raise SystemExit(f"{where}: there is no row in Chinese for {row[0]}; write one.")
        merged.append(
            [theirs if re.search(r"[\u4e00-\u9fff]", theirs) else ours for ours, theirs in zip(row, hand, strict=True)]
        )
    return header, merged


TABLES: dict[str, Callable[..., list[Row]]] = {
    "errors": errors,
    "commands": commands,
    "options": options,
    "settings": settings,
    "benchmark": benchmark,
    "routes": routes,
    "scorers": scorers,
    "params": params,
    "rag-metrics": rag_metrics,
}

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
