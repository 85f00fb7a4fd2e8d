"""Imports only go down; ground truth, files and optional packages stay in their places."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "pdip"

LEVELS = (
    ("errors", "typing", "threads", "version", "keeper", "ranks", "strict_json", "units"),
    ("scan", "ray", "solvers"),
    ("dip", "linearised", "cuda_selftest"),
    ("evidence", "posterior", "calibration", "baselines"),
    ("report",),
    ("check_design", "stages", "settings", "device", "interruption", "region", "result",
     "run_identity", "tensor_file", "folder", "folder_lock", "run_directory", "checkpoints",
     "passes", "plan", "pipeline", "withholding", "in_sample", "withheld", "calibration_check",
     "stack_run", "predictive", "selection_result", "kept", "selection"),
    ("config", "candidates", "export", "arguments", "terminal", "run_report", "run_files",
     "commands", "cli", "__main__", "experiment", "experiment_command"),
)  # fmt: skip
LEVEL = {room: level for level, rooms in enumerate(LEVELS) for room in rooms}

OPTIONAL = {
    "odl": "ray/engine_odl.py",
    "diffct": "ray/engine_diffct.py",
    "tomosipo": "ray/engine_tomosipo.py",
    "ts_algorithms": "ray/engine_tomosipo.py",
    "algotom": "scan/artefacts.py",
    "h5py": ("scan/hdf5.py", "scan/hdf5_trial_process.py", "report/export_hdf5.py"),
    "hdf5plugin": ("scan/hdf5.py", "scan/hdf5_trial_process.py"),
    "pydicom": "scan/dicom.py",
    "shtab": "commands/completion.py",
    "ipympl": "report/viewer.py",
    "ipywidgets": "report/viewer.py",
}
WRITES = {"write_text", "write_bytes", "savefig", "print_png", "save", "savez",
          "savez_compressed", "save_file", "imsave", "mkdir", "makedirs"}  # fmt: skip
WRITERS = {
    "folder.py",
    "run_directory.py",
    "run_report.py",
    "stages.py",
    "cli.py",
    "experiment.py",
    "ranks.py",
}  # ranks: into memory


def modules() -> list[Path]:
    return [path for path in sorted(ROOT.rglob("*.py")) if path != ROOT / "__init__.py"]


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def room(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imported(path: Path) -> set[str]:
    """Full names of all modules that a file imports, relative imports resolved."""
    package = ["pdip", *path.relative_to(ROOT).parts[:-1]]
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*start, *([node.module] if node.module else [])])
            names |= {f"{base}.{alias.name}" for alias in node.names}
    return names


def rooms_used(path: Path) -> set[str]:
    names = (name.split(".") for name in imported(path))
    return {parts[1] for parts in names if parts[0] == "pdip" and len(parts) > 1}


def rises(path: Path, uses: set[str]) -> set[str]:
    """The rooms among ``uses`` that lie above the file's own."""
    return {used for used in uses if LEVEL[used] > LEVEL[room(path)]}


@pytest.mark.parametrize("path", modules(), ids=relative)
def test_imports_only_go_down(path):
    assert room(path) in LEVEL, f"{relative(path)} has no level: draw it into LEVELS"
    assert not rises(path, rooms_used(path))


def test_an_import_that_goes_up_is_seen():
    assert rises(ROOT / "scan" / "scan.py", {"errors", "pipeline"}) == {"pipeline"}
    assert "evidence" in rooms_used(ROOT / "settings.py")


def test_rooms_do_not_import_each_other_in_a_circle():
    uses = {name: set() for name in LEVEL}
    for path in modules():
        uses[room(path)] |= rooms_used(path) - {room(path)}
    finished = set()
    while len(finished) < len(uses):
        free = {name for name in uses if name not in finished and uses[name] <= finished}
        assert free, f"a circle among {sorted(set(uses) - finished)}"
        finished |= free


def test_calibration_knows_tensors_only():
    for path in (ROOT / "calibration").glob("*.py"):
        assert rooms_used(path) <= {"calibration", "errors", "strict_json", "typing"}


def test_ground_truth_enters_neither_the_stages_nor_the_pipeline():
    for path in modules():
        if room(path) in {"scan", "calibration", "report", "run_report", "run_files", "commands",
                          "cli", "experiment"}:  # fmt: skip
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            names = {getattr(node, field, None) for field in ("id", "attr", "arg", "name")}
            assert not any("truth" in n for n in names if isinstance(n, str)), relative(path)


def test_optional_packages_are_imported_in_their_own_file():
    for path in modules():
        for name in imported(path):
            places = OPTIONAL.get(name.split(".")[0], relative(path))
            assert relative(path) in (places if isinstance(places, tuple) else (places,))


@pytest.mark.slow
def test_stages_write_no_files():
    for path in modules():
        if path.name in WRITERS and path.parent == ROOT:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                in_memory = (path.name, node.func.attr) == ("viewer.py", "print_png")
                assert in_memory or node.func.attr not in WRITES, f"{relative(path)}:{node.lineno}"


def test_no_file_has_a_name_without_meaning():
    for path in modules():
        assert not {"utils", "util", "helpers", "common", "misc", "manager"} & set(
            path.with_suffix("").relative_to(ROOT).parts
        )


def test_public_names_exist_once():
    import pdip

    assert len(set(pdip.__all__)) == len(pdip.__all__)
    assert all(hasattr(pdip, name) for name in pdip.__all__)


def test_baselines_are_there_once_pdip_is_imported():
    assert "pdip.baselines" in imported(ROOT / "__init__.py")
