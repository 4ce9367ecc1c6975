"The package starts quickly, without torch, and its modules import only earlier ones."
import ast
import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from execnb.nbio import read_nb

ROOT = Path(__file__).parents[1]
HELP = """
import sys
from synthlab.cli import main
sys.argv = ['synthlab', '--help']
try: main()
except SystemExit as stop: assert not stop.code, stop.code
"""


def seconds(code):
    "Processor time that a fresh Python takes to run `code`, whatever else the machine is doing."
    start = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, '-c', code], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    end = resource.getrusage(resource.RUSAGE_CHILDREN)
    return end.ru_utime + end.ru_stime - start.ru_utime - start.ru_stime


@pytest.mark.parametrize('code', ['import synthlab', HELP], ids=['import', 'help'])
def test_starts_under_a_second(code):
    assert min(seconds(code) for _ in range(3)) < 1


@pytest.mark.parametrize('code', ['import synthlab', HELP], ids=['import', 'help'])
def test_starts_without_torch(code):
    seconds(code + "\nimport sys; assert 'torch' not in sys.modules, 'torch was imported'")


def module_numbers():
    "Place of the notebook that exports each module, such as 13 or 13b, by module name."
    numbers = {}
    for path in (ROOT/'nbs').glob('[0-9][0-9]*_*.ipynb'):
        source = '\n'.join(cell.source for cell in read_nb(path).cells if cell.cell_type == 'code')
        numbers |= {name: path.name.split('_')[0].replace('000', '/') for name in re.findall(r'(?m)^#\|\s*default_exp\s+(\S+)', source)}
    return numbers


def imported_names(node, package):
    "Dotted names that an import statement may load; `package` is the importing module's."
    if isinstance(node, ast.Import): return [alias.name for alias in node.names]
    base = '.'.join(package[:len(package) - node.level + 1]) if node.level else ''
    module = '.'.join(filter(None, [base, node.module]))
    return [module, *(f'{module}.{alias.name}' for alias in node.names)]


def imported_modules(name, known):
    "The modules of `known` that module `name` imports, anywhere in its code."
    tree = ast.parse((ROOT/'synthlab'/f"{name.replace('.', '/')}.py").read_text(encoding='utf-8'))
    package = ['synthlab', *name.split('.')[:-1]]
    statements = [node for node in ast.walk(tree) if isinstance(node, (ast.Import, ast.ImportFrom))]
    loaded = {dotted for node in statements for dotted in imported_names(node, package)}
    return {module for module in known if f'synthlab.{module}' in loaded}


def test_imports_point_to_earlier_notebooks():
    numbers = module_numbers()
    assert numbers, 'no numbered notebook exports a module'
    upward = [f'{name} imports {other}' for name in sorted(numbers)
              for other in sorted(imported_modules(name, numbers) - {name}) if numbers[other] >= numbers[name]]
    assert not upward, '\n'.join(upward)
