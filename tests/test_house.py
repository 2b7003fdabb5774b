"""The order of the house: data flow one way, no circle, no private doors, and rooms of a size that one can take in."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# a stage imports itself and those before it; the ground floor stands beneath all
GROUND = (
    "errors", "_types", "_causes", "_covariates", "_files", "_images", "_notebook", "_numbers", "_photos", "_records",
    "_table", "_workbook",
)  # fmt: skip
STAGES = (
    "cohort", "faces", "signs", "gan", "inversion", "survival", "audit", "attribute", "study", "report", "app",
    "classify", "withdrawal", "simulate", "demo", "cli",
)  # fmt: skip
# statistics know no picture, no network and no file of a cohort
NARROW = {"survival": set(GROUND), "cuda_ops": set[str]()}
LATE = {("study", "report"): "Study.report() draws itself on request"}
MEASURED = ("_conv3x3", "_dispatch", "_build", "_ptxas")  # what the benchmarks of operations take apart
LONGEST_FUNCTION, MOST_PARAMETERS, LONGEST_FILE = 80, 10, 450


@cache
def modules() -> dict[str, Path]:
    """Every module of the two packages by its dotted name."""
    found = {}
    for package in ("stylegan_surv", "cuda_ops"):
        for path in (ROOT / package).rglob("*.py"):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def tree(module: str) -> ast.Module:
    return ast.parse(modules()[module].read_text(encoding="utf-8"))


def for_types_only(module: str) -> set[int]:
    """Nodes under ``if TYPE_CHECKING``."""
    blocks = [
        node
        for node in ast.walk(tree(module))
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
    ]
    return {id(part) for block in blocks for part in ast.walk(block)}


def imports(module: str, types: bool = False) -> Iterator[tuple[str, int]]:
    """Names that a module imports, at its head or within a function, with their line."""
    skipped = set() if types else for_types_only(module)
    for node in ast.walk(tree(module)):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}:{node.lineno} imports relatively; the house imports absolutely"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield full if full in modules() else str(node.module), node.lineno
        elif isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)


def stage(module: str) -> str:
    parts = module.split(".")
    return parts[0] if parts[0] == "cuda_ops" or len(parts) == 1 else parts[1]


def functions() -> Iterator[tuple[str, ast.FunctionDef]]:
    for module in modules():
        for node in ast.walk(tree(module)):
            if isinstance(node, ast.FunctionDef):
                yield f"{module}.{node.name}", node


def test_every_stage_is_known():
    found = {stage(m) for m in modules()} - {"stylegan_surv", "cuda_ops", "__main__", *GROUND}
    assert found <= set(STAGES), f"give {found - set(STAGES)} its place in the order of the stages"


def allowed(own: str, other: str) -> bool:
    """Whether stage `own` may import from stage `other`."""
    if other in (own, "stylegan_surv") or (own, other) in LATE:
        return True
    if own in NARROW:
        return other in NARROW[own]
    if own in GROUND:
        return other in GROUND
    return other in (*GROUND, "cuda_ops") or STAGES.index(other) < STAGES.index(own)


def ours() -> Iterator[tuple[str, str, int]]:
    """Every import of one of our modules by another: who, what, line; those for types only are left out."""
    for module in modules():
        for name, line in imports(module):
            if name.split(".")[0] in ("stylegan_surv", "cuda_ops"):
                yield module, name, line


def test_no_stage_imports_a_later_one():
    wrong = [
        f"{module}:{line} imports {name}"
        for module, name, line in ours()
        if stage(module) not in ("stylegan_surv", "__main__") and not allowed(stage(module), stage(name))
    ]
    assert wrong == []


def test_no_package_imports_anothers_private_file():
    wrong = []
    for module, name, line in ours():
        package = module if modules()[module].name == "__init__.py" else module.rpartition(".")[0]
        parts = name.split(".")
        for k, part in enumerate(parts):
            house = ".".join(parts[:k])
            if (
                part.startswith("_")
                and house != "stylegan_surv"
                and not f"{package}.".startswith(f"{house}.")
            ):
                wrong.append(f"{module}:{line} imports {name}")
    assert wrong == []


@pytest.mark.parametrize(("folder", "open_doors"), [("examples", ()), ("benchmarks", (*GROUND, *MEASURED))])
def test_scripts_use_no_private_file(folder, open_doors):
    for path in (ROOT / folder).glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = (
                [f"{node.module}.{a.name}" for a in node.names] if isinstance(node, ast.ImportFrom) else []
            )
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for name in names:
                private = [
                    p for p in name.split(".") if p.startswith("_") and p not in ("__future__", *open_doors)
                ]
                assert not private, f"{path.relative_to(ROOT)}:{node.lineno} {name}"


def test_there_is_no_circle():
    graph = {m: {n for n, _ in imports(m) if n in modules() and n != m} for m in modules()}
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " → ".join((*path[path.index(module) :], module))
        if module not in done:
            for other in sorted(graph[module]):
                visit(other, (*path, module))
            done.add(module)

    for module in graph:
        visit(module, ())


def test_functions_fit_a_screen():
    long = {n: f.end_lineno - f.lineno + 1 for n, f in functions() if f.end_lineno}
    assert {n: k for n, k in long.items() if k > LONGEST_FUNCTION} == {}


def test_functions_have_few_parameters():
    wide = {}
    for name, f in functions():
        a = f.args
        count = len(a.posonlyargs + a.args + a.kwonlyargs) + (a.vararg is not None) + (a.kwarg is not None)
        count -= bool(a.args) and a.args[0].arg in ("self", "cls")
        if count > MOST_PARAMETERS and ".cli." not in name:
            wide[name] = count
    assert wide == {}


def test_files_hold_one_idea():
    lines = {m: len(p.read_text(encoding="utf-8").splitlines()) for m, p in modules().items()}
    assert {m: k for m, k in lines.items() if k > LONGEST_FILE} == {}


def test_options_have_types():
    """No ``**options: Any``: what a function takes is written down."""
    loose = [
        n
        for n, f in functions()
        if f.args.kwarg and f.args.kwarg.annotation and ast.unparse(f.args.kwarg.annotation) == "Any"
        and ".cli." not in n
    ]  # fmt: skip
    assert loose == []


def test_the_package_imports_neither_torch_nor_pandas():
    code = "import sys, stylegan_surv; print([m for m in ('torch', 'pandas', 'numpy') if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert found.stdout.strip() == "[]"


def test_docstrings_give_types():
    """In numpydoc the type stands behind the name: ``x : array, shape (n, p)``."""
    bare = []
    for module in modules():
        for node in ast.walk(tree(module)):
            text = ast.get_docstring(node) if isinstance(node, ast.FunctionDef | ast.ClassDef) else None
            for section in re.finditer(
                r"(?:Parameters|Attributes)\n-+\n(.*?)(?=\n\n\w|\Z)", text or "", re.DOTALL
            ):
                bare += [
                    f"{module}.{node.name}: {line}"
                    for line in section[1].splitlines()
                    if line[:1].strip() and (" : " not in line or re.search(r" : .*\w \[\w", line))
                ]
    assert bare == []
