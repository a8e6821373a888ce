"""The repository's own rules: layers, package list, file length, names and folder READMEs."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LAYERS = ("backends", "compiler", "passes", "runtime", "tools")
FOLDERS = (*LAYERS, "tilewright", "tests")
MAX_LINES = 400
MAX_README_LINES = 60
MAX_ARCHITECTURE_LINES = 320

# What a layer may import, as module prefixes below `tilewright.`. Its own layer is always allowed.
ALLOWED: dict[str, tuple[str, ...]] = {
    "runtime": (),
    "compiler": ("runtime.manifest",),
    "passes": ("compiler",),
    "backends": ("compiler", "runtime"),
    "tilewright": LAYERS,  # the public face, all of it lazy; tools may import anything of ours
}
# The driver, in two modules, is what joins the layers.
DRIVER = ("compiler/driver.py", "compiler/driver_stages.py")
# All that a target machine has; `cuda` (cuda-core) only where a CUDA artifact is loaded.
RUNTIME_IMPORTS = {"numpy", "cuda", *sys.stdlib_module_names}

DISTRIBUTIONS = {"google": "protobuf", "mlir": "torch-mlir", "sklearn": "scikit-learn"}
# Measured beside ours where someone has installed them; never required.
PEERS = {"openvino", "torch"}


def sources(*folders: str) -> Iterator[Path]:
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            if "__pycache__" not in path.parts:
                yield path


def imports(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield (line, dotted name) for every import; `from a.b import c` gives `a.b.c`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            yield from ((node.lineno, f"{module}.{alias.name}") for alias in node.names)


def layer_violations(path: str, source: str) -> list[str]:
    """Name each import of `source` (at repository path `path`) that its layer may not have."""
    layer = path.split("/")[0]
    found = []
    for line, name in imports(ast.parse(source)):
        top, _, inner = name.partition(".")
        if name.startswith(".") or top in (*LAYERS, "tests"):
            found.append(f"{path}:{line}: {name}: write tilewright.<folder>")
        elif top == "tilewright":
            if layer == "tools":
                continue
            allowed = (layer, "__version__", *(LAYERS if path in DRIVER else ALLOWED[layer]))
            if not any(inner == prefix or inner.startswith(f"{prefix}.") for prefix in allowed):
                found.append(f"{path}:{line}: {layer} may not import {name}")
            elif (
                inner.startswith("compiler.driver") and path not in DRIVER and layer != "tilewright"
            ):
                found.append(f"{path}:{line}: nothing below tools imports the driver")
        elif layer == "runtime" and top not in RUNTIME_IMPORTS:
            found.append(f"{path}:{line}: runtime may import only numpy and the standard library")
    return found


def test_layers_hold() -> None:
    found = [
        violation
        for path in sources(*LAYERS, "tilewright")
        for violation in layer_violations(path.relative_to(ROOT).as_posix(), path.read_text())
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("path", "source", "complaint"),
    [
        ("runtime/a.py", "from tilewright.compiler import ir", "runtime may not import"),
        ("runtime/a.py", "import scipy", "only numpy and the standard library"),
        ("compiler/a.py", "import tilewright.runtime.loader", "compiler may not import"),
        ("compiler/a.py", "from tilewright.runtime.manifest import Manifest", None),
        ("compiler/a.py", "from tilewright.passes import pipelines", "compiler may not import"),
        ("compiler/driver.py", "from tilewright.passes import pipelines", None),
        ("passes/a.py", "from tilewright.backends.target import Target", "passes may not import"),
        ("backends/a.py", "import passes", "write tilewright.<folder>"),
        ("backends/a.py", "from . import target", "write tilewright.<folder>"),
        ("backends/a.py", "from tilewright.compiler.driver import run", "imports the driver"),
        ("tools/a.py", "from tilewright.compiler.driver import run", None),
        ("passes/a.py", "def f():\n    import tilewright.runtime.loader", "passes may not import"),
    ],
)
def test_the_layer_rule_itself(path: str, source: str, complaint: str | None) -> None:
    found = layer_violations(path, source)
    if complaint is None:
        assert not found
    else:
        assert len(found) == 1
        assert complaint in found[0]


def test_imports_have_no_cycles() -> None:
    """Only imports made when a module loads count; a lazy import inside a function is a choice."""
    modules = {module_name(path): path for path in sources(*LAYERS)}
    graph = {name: set(load_time_imports(path, modules)) - {name} for name, path in modules.items()}
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, " -> ".join((*trail[trail.index(name) :], name))
        if name not in done:
            for target in sorted(graph[name]):
                visit(target, (*trail, name))
            done.add(name)

    for name in sorted(graph):
        visit(name, ())


def module_name(path: Path) -> str:
    parts = ("tilewright", *path.relative_to(ROOT).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def load_time_imports(path: Path, modules: dict[str, Path]) -> Iterator[str]:
    tree = ast.parse(path.read_text())
    for node in tree.body:
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            for _, name in imports(ast.Module([node], [])):
                # `from a.b import c`: c is a module, or a name inside the module a.b.
                target = name if name in modules else name.rpartition(".")[0]
                if target in modules:
                    yield target


def test_package_list_matches_disk() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    on_disk = {"tilewright"}
    for path in sources(*LAYERS):
        on_disk.add(".".join(("tilewright", *path.parent.relative_to(ROOT).parts)))
    listed = settings["packages"]
    missing = [f'  "{name}",' for name in sorted(on_disk - set(listed))]
    assert not missing, "add to packages in pyproject.toml:\n" + "\n".join(missing)
    assert not set(listed) - on_disk, f"not on disk: {sorted(set(listed) - on_disk)}"
    assert listed == sorted(listed), "keep the package list sorted"


def test_third_party_imports_are_declared() -> None:
    """Each folder imports only what pip installs for it; see DISTRIBUTIONS for odd names."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    base = distribution_names(project["dependencies"])
    extras = {
        name: distribution_names(rows) for name, rows in project["optional-dependencies"].items()
    }
    compiler = base | extras["compiler"]
    # Tools that train the demo or fit polynomials say in their docstring which extra they need.
    everything = compiler.union(*extras.values())
    declared = dict.fromkeys(("compiler", "passes", "backends"), compiler)
    declared |= {"tools": everything | PEERS, "tests": everything | PEERS}
    local = {path.stem for path in (ROOT / "tests").iterdir()} | {"tilewright"}
    missing = set()
    for folder, allowed in declared.items():
        for path in sources(folder):
            for _, name in imports(ast.parse(path.read_text())):
                top = name.partition(".")[0]
                distribution = DISTRIBUTIONS.get(top, top.replace("_", "-"))
                if top not in sys.stdlib_module_names | local and distribution not in allowed:
                    missing.add(f"{path.relative_to(ROOT)}: {top}")
    assert not missing, "not in pyproject.toml:\n" + "\n".join(sorted(missing))


def distribution_names(requirements: list[str]) -> set[str]:
    return {re.split(r"[^\w.-]", row)[0].replace("_", "-") for row in requirements}


def test_every_source_folder_is_a_package() -> None:
    bare = {p.parent for p in sources(*LAYERS) if not (p.parent / "__init__.py").exists()}
    assert not bare, f"no __init__.py: {sorted(p.relative_to(ROOT).as_posix() for p in bare)}"


def test_tests_are_not_packages() -> None:
    found = [p for p in sources("tests") if p.name == "__init__.py"]
    assert not found, f"tests run with importlib mode and need no __init__.py: {found}"


def test_type_checkers_see_every_layer() -> None:
    shown = {p.name: p.resolve() for p in (ROOT / ".typing" / "tilewright").iterdir()}
    for layer in LAYERS:
        assert shown.get(layer) == ROOT / layer, f".typing/tilewright/{layer} must link to {layer}"


def test_files_are_short() -> None:
    long = [
        f"{path.relative_to(ROOT)}: {lines} lines"
        for path in sources(*FOLDERS)
        if (lines := len(path.read_text().splitlines())) > MAX_LINES
    ]
    assert not long, f"over {MAX_LINES} lines, split by concept:\n" + "\n".join(long)


def test_modules_are_named_for_what_they_hold() -> None:
    vague = {"utils", "util", "helpers", "helper", "misc", "common"}
    found = [str(p.relative_to(ROOT)) for p in sources(*FOLDERS) if p.stem in vague]
    assert not found, f"name these files for their main thing: {found}"


@pytest.mark.parametrize("folder", FOLDERS)
def test_folder_has_a_short_readme(folder: str) -> None:
    readme = ROOT / folder / "README.md"
    assert readme.exists(), f"{folder}/README.md: what lives here, what it may import, how to add"
    assert len(readme.read_text().splitlines()) <= MAX_README_LINES


def test_architecture_is_short_and_points_to_what_is_there() -> None:
    """Details belong into the README of their package."""
    text = (ROOT / "ARCHITECTURE.md").read_text()
    assert len(text.splitlines()) <= MAX_ARCHITECTURE_LINES
    links = re.findall(r"\]\(([^)]+)\)", text)
    assert len(links) > 5
    assert not [link for link in links if not (ROOT / link).exists()]
