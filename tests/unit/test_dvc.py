"""dvc.yaml says what the stages really depend on."""

import ast
from pathlib import Path
from typing import Any

import grimp
import pytest
from dvc.schema import COMPILED_MULTI_STAGE_SCHEMA
from ruamel.yaml import YAML

from slimline.params.file import BLOCKS
from slimline.paths import STAGES

ROOT = Path(__file__).parents[2]
BY_FILE = ("data", "params", "runtime", "stages", "tracking")
"""Packages whose files, and packages within, are listed one by one: a stage uses some of them, and not its neighbours'."""


def pipeline(path: str) -> dict[str, Any]:
    return YAML(typ="safe").load((ROOT / path).read_text())["stages"]


def imported(script: Path, graph: grimp.ImportGraph) -> set[str]:
    """What a stage script imports of slimline, directly or not, as paths from the repository."""
    froms = [node.module for node in ast.walk(ast.parse(script.read_text())) if isinstance(node, ast.ImportFrom)]
    named = {module for module in froms if module and module.startswith("slimline.")}
    modules = {upstream for module in named for upstream in graph.find_upstream_modules(module)} | named
    paths = set()
    for module in modules - {"slimline"}:
        _, package, *rest = module.split(".")
        folder = ROOT / "src/slimline" / package
        if folder.is_dir() and package not in BY_FILE:
            paths.add(f"src/slimline/{package}")
        elif rest and (folder / rest[0]).is_dir():
            paths.add(f"src/slimline/{package}/{rest[0]}")
        elif rest or not folder.is_dir():
            paths.add("src/slimline/" + "/".join([package, *rest]) + ".py")
        elif len(ast.parse((folder / "__init__.py").read_text()).body) > 1:  # more than a docstring
            paths.add(f"src/slimline/{package}/__init__.py")
    return paths


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    return grimp.build_graph("slimline")


@pytest.mark.parametrize("path", ["dvc.yaml", "experiments/dvc.yaml"])
def test_dvc_takes_the_file(path: str) -> None:
    COMPILED_MULTI_STAGE_SCHEMA(YAML(typ="safe").load((ROOT / path).read_text()))


def test_the_chain_has_its_stages_in_order() -> None:
    assert tuple(pipeline("dvc.yaml")) == STAGES


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_lists_exactly_the_code_that_it_imports(stage: str, graph: grimp.ImportGraph) -> None:
    listed = {dep for dep in pipeline("dvc.yaml")[stage]["deps"] if dep.startswith(("src/", "pipelines/"))}
    assert listed == imported(ROOT / "pipelines" / f"{stage}.py", graph) | {f"pipelines/{stage}.py"}


def test_the_teacher_depends_on_no_code_of_later_stages() -> None:
    deps = " ".join(pipeline("dvc.yaml")["train_teacher"]["deps"])
    assert not any(name in deps for name in ("distillation", "pruning", "quantization", "evaluation", "report"))


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_lists_the_block_that_its_script_names_and_the_seed(stage: str) -> None:
    call = next(node for node in ast.walk(ast.parse((ROOT / "pipelines" / f"{stage}.py").read_text())) if isinstance(node, ast.Call) and node.args)
    name, block = (ast.literal_eval(argument) for argument in call.args[:2])
    assert name == stage
    assert block in BLOCKS
    # Of its block the student's control heeds all but the loss, so that another one does not train it anew.
    parts = [f"{block}.{part}" for part in ("model", "fit", "transfer", "repeats")] if stage == "train_alone" else [block]
    assert pipeline("dvc.yaml")[stage]["params"] == ["seed", *parts]


def experiments_with(file: str) -> list[str]:
    """Those that DVC runs: others have a script of their own."""
    return sorted(one.parent.name for one in (ROOT / "experiments").glob(f"*/{file}") if not (one.parent / "measure.py").exists())


@pytest.mark.parametrize("stage", STAGES)
def test_experiments_run_the_same_stages(stage: str) -> None:
    original, copy = pipeline("dvc.yaml")[stage], pipeline("experiments/dvc.yaml")[stage]
    assert copy.pop("matrix")["exp"] == experiments_with("params.yaml")
    assert (copy.pop("wdir"), copy.pop("vars")) == ("${item.exp}", ["params.yaml"])
    copy["deps"] = [dep.removeprefix("../../") for dep in copy["deps"]]
    copy["cmd"] = copy["cmd"].replace("../../pipelines", "pipelines")
    assert copy == original


@pytest.mark.parametrize("stage", STAGES)
def test_a_script_stays_short(stage: str) -> None:
    assert len((ROOT / "pipelines" / f"{stage}.py").read_text().splitlines()) < 40


def test_the_summary_is_the_one_metric() -> None:
    stages = {**pipeline("dvc.yaml")}
    assert [metric for stage in stages.values() for metric in stage.get("metrics", [])] == [{"metrics/summary.json": {"cache": False}}]


def test_a_sweep_lists_the_code_that_it_imports_and_what_its_trials_start_from(graph: grimp.ImportGraph) -> None:
    sweep = pipeline("experiments/dvc.yaml")["sweep"]
    assert sweep["matrix"]["exp"] == experiments_with("sweep.yaml")
    code = {dep.removeprefix("../../") for dep in sweep["deps"] if "/src/" in dep or "/pipelines/" in dep}
    assert code == imported(ROOT / "pipelines" / "sweep.py", graph) | {"pipelines/sweep.py"}
    assert {dep for dep in sweep["deps"] if "/models/" in dep or "/data/" in dep} - {f"../../{one}" for one in code} == {
        "../../data/prepared",
        "../../models/student",
        "../../models/teacher",
    }
    assert sweep["params"] == [{"../../params.yaml": ["seed", "prune", "quantize"]}]
