"The package starts quickly, without torch, and its folders import only folders below them."
import ast
import graphlib
import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# From the top down; folders on one floor do not import one another. The modules beside them (util and its like) are the ground.
FLOORS = [
    ['cli'],
    ['bakeoff'],
    ['run'],
    ['measure', 'correct'],
    ['prompt', 'align'],
    ['teacher', 'store', 'select'],
    ['blocks'],
    ['tasks', 'decode', 'embeddings'],
]
GROUND = ['util']
HELP = """
import sys
from synthlab.cli.main import main
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
    assert any(seconds(code) < 1 for _ in range(3))


@pytest.mark.parametrize('code', ['import synthlab', HELP], ids=['import', 'help'])
def test_starts_without_torch(code):
    seconds(code + "\nimport sys; assert 'torch' not in sys.modules, 'torch was imported'")


def module_files(package):
    "The file of each module, by dotted name without the package's."
    paths = [path for path in package.rglob('[a-z]*.py') if 'resources' not in path.parts]
    return {'.'.join(path.relative_to(package).with_suffix('').parts): path for path in sorted(paths)}


def imported_names(node, package):
    "Dotted names that an import statement may load; `package` is the importing module's."
    if isinstance(node, ast.Import): return [alias.name for alias in node.names]
    base = '.'.join(package[:len(package) - node.level + 1]) if node.level else ''
    module = '.'.join(filter(None, [base, node.module]))
    return [module, *(f'{module}.{alias.name}' for alias in node.names)]


def import_graph(package=ROOT/'synthlab'):
    "The modules that each module imports, anywhere in its code."
    files, graph = module_files(package), {}
    for name, path in files.items():
        tree = ast.parse(path.read_text(encoding='utf-8'))
        inside = ['synthlab', *name.split('.')[:-1]]
        statements = [node for node in ast.walk(tree) if isinstance(node, (ast.Import, ast.ImportFrom))]
        loaded = {dotted for node in statements for dotted in imported_names(node, inside)}
        graph[name] = {other for other in files if f'synthlab.{other}' in loaded} - {name}
    return graph


def home(module):
    "The folder of a module; a module beside the folders is the ground, unless it has a floor of its own."
    first = module.split('.')[0]
    return first if '.' in module or any(first in floor for floor in FLOORS) else 'util'


def height(folder):
    "The floor of a folder, counted from the ground."
    floors = [*FLOORS, GROUND][::-1]
    found = [number for number, floor in enumerate(floors) if folder in floor]
    assert found, f'{folder} has no floor: give it one in FLOORS'
    return found[0]


def breaches(graph):
    "Imports that do not point down, one line for each."
    pairs = [(one, other) for one in sorted(graph) for other in sorted(graph[one]) if home(one) != home(other)]
    wrong = [(one, other) for one, other in pairs if height(home(one)) <= height(home(other))]
    return [f'{one} imports {other}, but {home(one)} is {"beside" if height(home(one)) == height(home(other)) else "below"} '
            f'{home(other)}: move what it needs further down, or pass it in' for one, other in wrong]


def circle(graph):
    "Modules of one folder that import one another, in order; empty when none do."
    inside = {one: {other for other in others if home(one) == home(other)} for one, others in graph.items()}
    try: list(graphlib.TopologicalSorter(inside).static_order())
    except graphlib.CycleError as error: return error.args[1][::-1]
    return []


def test_imports_point_down():
    found = breaches(import_graph())
    assert not found, '\n'.join(found)


def test_no_circle_of_imports():
    found = circle(import_graph())
    assert not found, ' imports '.join(found)


def numbered(): return [path for path in (ROOT/'nbs').rglob('[0-9][0-9]_*.ipynb') if path.parent.name not in ('guide', 'tutorials')]


def notebook_numbers():
    "The number of the notebook that exports each module; pages of the guide and lessons export none."
    numbers = {}
    for path in numbered():
        folder = path.relative_to(ROOT/'nbs').parent.as_posix().replace('/', '.').strip('.')
        number, name = path.stem.split('_', 1)
        numbers[f'{folder}.{name}'.strip('.')] = number
    return numbers


def test_every_module_has_a_notebook_of_its_name():
    assert set(notebook_numbers()) == set(module_files(ROOT/'synthlab'))
    for path in numbered():
        name = '.'.join([*path.relative_to(ROOT/'nbs').parts[:-1], path.stem.split('_', 1)[1]])
        assert re.search(rf'#\|\s*default_exp {re.escape(name)}\b', path.read_text(encoding='utf-8')), f'{path.name} does not export {name}'


def test_the_numbers_of_a_folder_are_the_order_of_its_imports():
    numbers, graph = notebook_numbers(), import_graph()
    wrong = [f'{numbers[one]}_{one} imports {numbers[other]}_{other}' for one in sorted(graph) for other in sorted(graph[one])
             if home(one) == home(other) and ('.' in one) == ('.' in other) and numbers[one] <= numbers[other]]
    assert not wrong, '\n'.join(wrong)


def test_breaches_are_found():
    graph = {'cli.main': {'run.rows', 'util'}, 'run.rows': {'cli.main', 'decode.loop'}, 'decode.loop': {'tasks.task'}, 'tasks.task': {'util'}, 'util': {'embeddings'}, 'embeddings': set()}
    assert [line.split(',')[0] for line in breaches(graph)] == ['decode.loop imports tasks.task', 'run.rows imports cli.main', 'util imports embeddings']
    assert circle({'run.a': {'run.b'}, 'run.b': {'run.a'}}) and not circle({'run.a': {'run.b'}, 'run.b': {'cli.a'}, 'cli.a': {'run.a'}})
