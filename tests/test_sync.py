"The package is what the notebooks export, the notebooks are clean, and outputs and README are in step with the code."
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from execnb.nbio import read_nb
from render_readme import README, render
from run_notebooks import code_cells, code_hash, machine_paths, notebooks

ROOT = Path(__file__).parents[1]


@pytest.fixture
def copy(tmp_path):
    "What nbdev needs of the repository: notebooks, settings, and every `__init__.py`."
    shutil.copytree(ROOT/'nbs', tmp_path/'nbs', ignore=shutil.ignore_patterns('.*', '__pycache__'))
    shutil.copy2(ROOT/'settings.ini', tmp_path)
    for path in (ROOT/'synthlab').rglob('__init__.py'):
        target = tmp_path/path.relative_to(ROOT)
        target.parent.mkdir(exist_ok=True)
        shutil.copy2(path, target)
    return tmp_path


def nbdev(command, cwd):
    environment = {k: v for k, v in os.environ.items() if k != 'IN_TEST'}      # under IN_TEST, nbdev_export does nothing
    subprocess.run([Path(sys.executable).parent/command], cwd=cwd, check=True, env=environment)


def differing(one, other, pattern):
    "Files that are not the same in both folders, or only in one."
    def texts(root):
        paths = [p for p in root.rglob(pattern) if '.ipynb_checkpoints' not in p.parts]
        return {str(p.relative_to(root)): p.read_bytes() for p in paths}
    one, other = texts(one), texts(other)
    return sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))


def names(paths): return [str(p.relative_to(ROOT)) for p in paths]


def test_package_is_what_the_notebooks_export(copy):
    nbdev('nbdev_export', copy)
    found = differing(copy/'synthlab', ROOT/'synthlab', '*.py')
    assert not found, f'run `make export`, and delete a module that no notebook exports: {found}'


def test_notebooks_are_clean(copy):
    nbdev('nbdev_clean', copy)
    found = differing(copy/'nbs', ROOT/'nbs', '*.ipynb')
    assert not found, f'run `make export`: {found}'


def test_outputs_are_in_step_with_code():
    def out_of_step(nb):
        shown = any(cell.outputs for cell in code_cells(nb))
        return shown and nb.metadata.get('synthlab', {}).get('executed') != code_hash(nb)
    found = names(p for p in notebooks() if out_of_step(read_nb(p)))
    assert not found, f'run `make notebooks`: {found}'


def test_outputs_show_no_machine_path():
    found = names(p for p in notebooks() if machine_paths(read_nb(p)))
    assert not found, f'run `make notebooks`, which names the cells: {found}'


def test_readme_is_rendered_from_index():
    assert README.read_text(encoding='utf-8') == render(), 'run `make readme`'
