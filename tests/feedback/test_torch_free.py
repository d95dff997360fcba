"""The command line answers at once: nothing in feedback/ imports a heavy package."""

import subprocess
import sys

MODULES = ("importing", "inspect", "split", "balance")


def test_feedback_loads_without_torch_and_transformers() -> None:
    imports = ", ".join(f"thumbs.feedback.{name}" for name in MODULES)
    heavy = '{"torch", "transformers", "peft"} & set(sys.modules)'
    program = f"import sys, {imports}; print(sorted({heavy}))"
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert result.stdout == "[]\n"
