"""Who may import whom, what loads without torch, and names that must not exist."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import thumbs

SOURCE = Path(thumbs.__file__).parent

EVERYWHERE = {"errors", "files", "progress", "stopping", "visible", "yaml_text"}
ASSEMBLED = {
    *("config", "loss_table", "core", "feedback", "data", "models", "scoring", "runs"),
    *("train", "evaluate", "demo", "report", "collect"),
}
# A layer may import the modules below each name; "data" allows data.rows, "runs.rundir" only that.
MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "files": set(),
    "progress": set(),
    "stopping": set(),
    "visible": set(),
    "yaml_text": set(),
    "loss_table": set(),
    "config_errors": set(),
    "config_model": set(),
    "config_loss": {"config_model", "loss_table"},
    "config_train": {"config_model"},
    "config": {"config_errors", "config_loss", "config_model", "config_train"},
    "core": set(),
    "feedback": {"config"},
    "data": {"feedback", "config"},
    "models": {"config"},
    "runs": {"config"},
    "scoring": {"core", "data", "models", "config"},
    "train": {"scoring", "core", "data", "runs", "loss_table", "config"},
    "evaluate": {"scoring", "core", "data", "models", "feedback", "runs", "config"},
    "demo": {"models", "feedback", "data", "config"},
    "report": {"runs.rundir"},
    "collect": {"feedback"},
    "prepare": ASSEMBLED,
    "budget": ASSEMBLED | {"prepare"},
    "summary": ASSEMBLED,
    "execute": ASSEMBLED | {"prepare", "summary"},
    "dry_run": ASSEMBLED | {"prepare", "budget"},
    "model_check": ASSEMBLED | {"prepare", "budget"},
    "model_or_run": ASSEMBLED | {"prepare"},
    "compare": ASSEMBLED | {"budget", "model_or_run"},
    "audit_run": ASSEMBLED | {"prepare", "budget", "model_or_run"},
    "pipeline": ASSEMBLED
    | {"prepare", "budget", "dry_run", "model_check", "model_or_run", "execute"}
    | {"compare", "audit_run"},
    "printing": {"feedback.check_tables"},
    # Verbs that need no torch go past the pipeline, whose imports load it.
    "refusals": set(),
    "cli_compare": {"pipeline", "printing", "compare", "evaluate.answers", "evaluate.chat_server"},
    "cli": {
        *("pipeline", "printing", "refusals", "config", "loss_table", "feedback", "report.page"),
        "cli_compare",
    },
    "__main__": {"cli"},
}
NO_TORCH = [
    *("thumbs.config", "thumbs.loss_table", "thumbs.errors", "thumbs.files", "thumbs.progress"),
    *("thumbs.yaml_text", "thumbs.printing"),
    *("thumbs.stopping", "thumbs.runs.rundir", "thumbs.report.page"),
]


def modules() -> list[str]:
    """Names below thumbs, without it: data.rows, config, ..."""
    paths = [path.relative_to(SOURCE).with_suffix("") for path in SOURCE.rglob("*.py")]
    return sorted(".".join(path.parts) for path in paths if path.name != "__init__")


def imports(module: str, *, top_level: bool = False) -> set[str]:
    """Modules below thumbs that `module` imports; imports inside functions count unless told."""
    tree = ast.parse((SOURCE / module.replace(".", "/")).with_suffix(".py").read_text("utf-8"))
    nodes = ast.iter_child_nodes(tree) if top_level else ast.walk(tree)
    return {name for node in nodes for name in _imported(node)}


def _imported(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
        assert node.level == 0, "imports are absolute"
        below = [f"{node.module}.{alias.name}" for alias in node.names]
        names = [name if _is_module(name) else str(node.module) for name in below]
    else:
        return
    yield from (name.removeprefix("thumbs.") for name in names if name.startswith("thumbs."))


def _is_module(name: str) -> bool:
    return SOURCE.parent.joinpath(*name.split(".")).with_suffix(".py").is_file()


def layer(module: str) -> str:
    return module.split(".")[0]


def is_below(module: str, name: str) -> bool:
    return module == name or module.startswith(name + ".")


@pytest.mark.parametrize("module", modules())
def test_a_module_imports_only_what_its_layer_may(module: str) -> None:
    allowed = EVERYWHERE | {layer(module)} | MAY_IMPORT[layer(module)]
    wrong = {name for name in imports(module) if not any(is_below(name, a) for a in allowed)}
    assert not wrong


@pytest.mark.parametrize("module", [m for m in modules() if m.startswith("feedback.sources.")])
def test_a_source_of_feedback_knows_only_feedback(module: str) -> None:
    wrong = {n for n in imports(module) if not any(is_below(n, a) for a in ("feedback", "errors"))}
    assert not wrong


@pytest.mark.parametrize(
    "module", [m for m in modules() if m in ("cli", "cli_compare", "__main__")]
)
def test_the_command_line_imports_what_a_verb_needs_inside_the_verb(module: str) -> None:
    assert imports(module, top_level=True) <= {
        *("cli", "cli_compare", "config", "errors", "loss_table", "printing", "refusals"),
        "stopping",
    }


def test_no_module_imports_itself_by_way_of_others() -> None:
    graph = {module: imports(module) for module in modules()}
    finished: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " -> ".join((*path, module))
        if module not in finished:
            for imported in sorted(graph.get(module, set())):
                visit(imported, (*path, module))
            finished.add(module)

    for module in graph:
        visit(module, ())


@pytest.mark.parametrize("name", ["utils", "helpers", "common", "base"])
def test_there_is_no_module_without_a_subject(name: str) -> None:
    assert name not in {module.rsplit(".", 1)[-1] for module in modules()}


def test_package_files_are_empty_but_the_top_one() -> None:
    inner = [path for path in SOURCE.glob("*/**/__init__.py") if path.read_text("utf-8").strip()]
    assert inner == []


def test_what_reads_feedback_and_runs_loads_no_torch() -> None:
    feedback = [f"thumbs.{module}" for module in modules() if module.startswith("feedback.")]
    command_line = ["thumbs.cli", "thumbs.cli_compare"]
    code = "import sys, importlib\n"
    code += f"for name in {[*NO_TORCH, *feedback, *command_line]}: importlib.import_module(name)\n"
    code += "print(sorted({'torch', 'transformers', 'peft'} & set(sys.modules)))\n"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_training_loads_no_package_that_it_does_not_need() -> None:
    # Each takes 0.3 s or more to import. Others come with torch, transformers and peft.
    heavy = ["datasets", "lm_eval", "pandas", "scipy.stats", "sklearn"]
    heavy += ["sqlalchemy", "tensorboard", "torchvision", "wandb"]
    code = f"import sys, thumbs.pipeline; print(sorted(set({heavy}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
