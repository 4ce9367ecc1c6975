"An export says what to do where it cannot be written, and takes little memory however many rows there are."
import json
import subprocess
import sys
from pathlib import Path

import pytest
from synthlab.cli.main import main
from synthlab.run.produce import export_run
from synthlab.store.runs import Run
from synthlab.tasks.task import load_task

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT/'tests'/'store'))
from test_durability import namespace                                          # noqa: E402

TASK = load_task('sst2')
RECIPE = {'n': 8, 'seed': 0, 'method': {'name': 'fewgen'}, 'teacher': {'name': 'toy'}, 'task': TASK.model_dump(mode='json')}


def fill(out, rows=8):
    with Run(out, json.loads(json.dumps(RECIPE)) | {'n': rows}) as run:
        for start in range(0, rows, 2000):
            run.add_many({n: [{'id': f'{n}', 'text': f'A short review of film {n}, which is good.', 'label': TASK.label_names[n % 2], 'group': n, 'member': 0, 'status': 'accepted',
                               'reason': ''}] for n in range(start, min(rows, start + 2000))})
        if rows < 100: run.finish()
    return out


def command(*words, before=()):
    return subprocess.run([*before, sys.executable, '-m', 'synthlab.cli.main', *map(str, words)], capture_output=True, text=True, cwd=ROOT)


def test_a_read_only_folder_is_named_with_what_to_do(tmp_path):
    fill(tmp_path/'run')
    readonly = namespace(f'mount --bind {tmp_path} {tmp_path}', f'mount -o remount,ro,bind {tmp_path}')
    exported, evaluated = command('export', tmp_path/'run', before=readonly), command('evaluate', tmp_path/'run', '--student', 'none', before=readonly)
    assert exported.returncode == evaluated.returncode == 2
    assert 'run/export cannot be written (Read-only file system): give a folder that can' in exported.stderr and '--to' in exported.stderr
    assert 'run cannot be written (no permission in' in evaluated.stderr and '--out' in evaluated.stderr


def test_a_full_disk_is_named_with_what_to_do(tmp_path):
    fill(tmp_path/'run')
    disk = tmp_path/'disk'
    disk.mkdir()
    full = namespace(f'mount -t tmpfs -o size=8k none {disk}', f'dd if=/dev/zero of={disk}/ballast bs=4k count=1 2>/dev/null')
    done = command('export', tmp_path/'run', '--to', disk/'export', '--format', 'jsonl', before=full)
    assert done.returncode == 2 and 'cannot be written (No space left on device): give a folder that can, on a disk with room (--to' in done.stderr


PEAK = """
import sys
from pathlib import Path
from synthlab.run.produce import export_run
def peak(): return next(int(line.split()[1])/1e3 for line in Path('/proc/self/status').read_text().splitlines() if line.startswith('VmHWM'))
before = peak()
export_run(sys.argv[1], sys.argv[2])
print(peak(), peak() - before)
"""


@pytest.mark.long
@pytest.mark.skipif(not Path('/proc/self/status').exists(), reason='the system does not tell how much memory a process took')
@pytest.mark.parametrize('form', ['text-to-text', pytest.param('parquet', marks=pytest.mark.long)])
def test_an_export_streams(tmp_path, form):
    out = fill(tmp_path/'run', 20_000)
    done = subprocess.run([sys.executable, '-c', PEAK, str(out), form], capture_output=True, text=True, cwd=ROOT, check=True)
    peak, more = map(float, done.stdout.split())
    assert peak < 600 and more < {'text-to-text': 25, 'parquet': 100}[form], (peak, more)


def test_text_to_text_is_what_it_was(tmp_path):
    from synthlab.tasks.superglue import text_to_text
    from synthlab.store.runs import read_rows
    out = fill(tmp_path/'run')
    path = export_run(out, 'text-to-text')[0]
    assert [json.loads(line) for line in path.read_text().splitlines()] == text_to_text(read_rows(out), TASK, instruction=True).to_list()
    assert main(['export', str(out), '--format', 'text-to-text', '--to', str(tmp_path/'there')]) == 0 and (tmp_path/'there'/'text-to-text.jsonl').exists()
