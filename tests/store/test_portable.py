"""What Windows lacks is nowhere needed: modules of POSIX, folders that can be opened, files that vanish while they are open, a terminal that knows every character.

None of this ran on Windows; its ways are imitated here, on the system that the tests run on."""
import ast
import fcntl
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from synthlab.store.runs import Run, read_rows, read_status
from synthlab.util import whole_file
from test_runs import RECIPE, fill, group, in_process

ROOT = Path(__file__).parents[2]
POSIX_ONLY = ('fcntl', 'pwd', 'grp', 'resource', 'termios')
WITHOUT_POSIX = f"""
import importlib, json, pkgutil, sys
sys.modules.update(dict.fromkeys({POSIX_ONLY[:3]}))               # importing one of them fails
import psutil, huggingface_hub.utils._terminal                    # they ask which system this is, and need the others where it is not Windows
sys.modules.update(dict.fromkeys({POSIX_ONLY}))
sys.path[:0] = [{str(ROOT)!r}, {str(ROOT/'tests'/'tools')!r}]
import synthlab
modules = [name for _, name, _ in pkgutil.walk_packages(synthlab.__path__, 'synthlab.')]
for name in modules: importlib.import_module(name)
"""
GENERATE = WITHOUT_POSIX + """
from scripted_teacher import ScriptedTeacher
from synthlab.run.produce import make_config, produce
from synthlab.run.recipe import Recipe
from synthlab.store.runs import read_status
from synthlab.tasks.task import load_task
teacher = ScriptedTeacher()
holders = []
def watch(groups, *_):
    for group in groups:
        holders.append(read_status(sys.argv[1])['holder'])
        yield group
done = produce(make_config(Recipe.fewgen(shots=1), load_task('sst2'), teacher, 6), sys.argv[1], teacher, watch=watch)
print(json.dumps([len(modules), done.counts['accepted'], holders, read_status(sys.argv[1])['holder']]))
"""


def test_every_module_and_a_generation_need_no_module_of_posix(tmp_path):
    done = subprocess.run([sys.executable, '-W', 'ignore', '-c', GENERATE, str(tmp_path/'run')], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    number, accepted, holders, after = json.loads(done.stdout.splitlines()[-1])
    assert number > 50 and sum(accepted.values()) == 6 == len(list(read_rows(tmp_path/'run')))
    assert holders and all(holder.startswith('process ') for holder in holders) and not after
    assert not [p.name for p in (tmp_path/'run').iterdir() if p.name.startswith('run.') and p.name != 'run.db']


@pytest.fixture
def windows_files(monkeypatch):
    "Folders cannot be opened, and only what was opened for writing can be synced."
    opened, sync = os.open, os.fsync
    def refuse_folder(path, *rest, **named):
        if os.path.isdir(path): raise PermissionError(13, 'Permission denied', str(path))
        return opened(path, *rest, **named)
    def sync_written(handle):
        if fcntl.fcntl(handle, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY: raise OSError(9, 'Bad file descriptor')
        sync(handle)
    monkeypatch.setattr(os, 'open', refuse_folder)
    monkeypatch.setattr(os, 'fsync', sync_written)


def test_files_are_synced_as_windows_wants_it(tmp_path, windows_files):
    with whole_file(tmp_path/'poem.txt') as part: part.write_text('whole', encoding='utf-8')
    assert [(p.name, p.read_text(encoding='utf-8')) for p in tmp_path.iterdir()] == [('poem.txt', 'whole')]
    assert fill(tmp_path/'run')['candidates'] == 8 and len(list(read_rows(tmp_path/'run'))) == 8


def test_a_lock_that_cannot_be_removed_or_read_is_in_nobodys_way(tmp_path, monkeypatch):
    "On Windows nobody reads the locked file, and it cannot be removed while it is open."
    unlink, read = Path.unlink, Path.read_text
    def keep_open(self, missing_ok=False):
        if self.name == 'run.lock': raise PermissionError(13, 'The process cannot access the file', str(self))
        unlink(self, missing_ok)
    def unreadable(self, *rest, **named):
        if self.name == 'run.lock': raise PermissionError(13, 'Permission denied', str(self))
        return read(self, *rest, **named)
    monkeypatch.setattr(Path, 'unlink', keep_open)
    monkeypatch.setattr(Path, 'read_text', unreadable)
    for number in range(2):
        with Run(tmp_path/'run', RECIPE) as run:
            run.add(number, group(number))
            assert read_status(tmp_path/'run')['holder'].startswith(f'process {os.getpid()} on ')
            other = in_process('fill(sys.argv[1])', tmp_path/'run')
            assert other.returncode == 1 and f'is in use by process {os.getpid()} on ' in other.stderr
        assert read_status(tmp_path/'run')['holder'] == ''
    assert (tmp_path/'run'/'run.lock').exists() and not (tmp_path/'run'/'run.writer').exists()


def test_two_who_look_at_once_see_nobody(tmp_path):
    "The lock file of a killed process stays; those who ask who is there do not take each other for the writer."
    fill(tmp_path/'run')
    for name in ('run.lock', 'run.writer'): (tmp_path/'run'/name).write_text('process 1 on gone' if name == 'run.writer' else '', encoding='utf-8')
    code = "print({read_status(sys.argv[1])['holder'] for _ in range(300)})"
    start = f'import sys; sys.path[:0] = [{str(ROOT)!r}]; from synthlab.store.runs import read_status\n'
    asking = [subprocess.Popen([sys.executable, '-c', start + code, str(tmp_path/'run')], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [process.communicate()[0] for process in asking] == ["{''}\n"]*2


def texts_opened(tree):
    "The calls in a module that read or write a text and name no encoding, which then depends on the system."
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, 'id', '')
        given = [ast.unparse(argument) for argument in (*call.args, *(word.value for word in call.keywords))]
        binary = any(mode.strip("'").replace('b', '') in ('r', 'w', 'a', 'x', 'r+') and 'b' in mode for mode in given)
        ours = name == 'open' and not isinstance(getattr(call.func, 'value', None), ast.Name) or name in ('read_text', 'write_text')
        kernel = any(root in ast.unparse(call.func) for root in ("'/proc/", "'/sys/"))                 # ASCII, and only there
        if ours and not binary and not kernel and "'utf-8'" not in given and not any(word.arg == 'encoding' for word in call.keywords): yield ast.unparse(call)


def test_every_text_names_its_encoding():
    found = {path.name: calls for path in (ROOT/'synthlab').rglob('*.py') if (calls := list(texts_opened(ast.parse(path.read_text(encoding='utf-8')))))}
    assert not found
    assert list(texts_opened(ast.parse("open('a'); p.read_text(); p.open('rb'); (folder/'x').open('w')"))) == ["open('a')", 'p.read_text()', "(folder / 'x').open('w')"]


def test_a_file_or_pipe_gets_every_character(tmp_path):
    "Windows gives a file or a pipe a code page of a few hundred characters, and our tasks are UTF-8."
    (tmp_path/'cats.toml').write_text((ROOT/'synthlab'/'resources'/'tasks'/'sst2.toml').read_text(encoding='utf-8').replace('description = "', 'description = "猫 \u2248 ', 1), encoding='utf-8')
    code = 'import sys; from synthlab.cli.main import main; sys.exit(main(sys.argv[1:]))'
    environment = os.environ | {'PYTHONIOENCODING': 'cp1252:strict', 'PYTHONUTF8': '0', 'PYTHONPATH': str(ROOT)}
    done = subprocess.run([sys.executable, '-c', code, 'tasks', 'show', str(tmp_path/'cats.toml')], env=environment, capture_output=True)
    assert '猫 \u2248' in done.stdout.decode('utf-8'), done.stderr.decode('utf-8', 'replace')
