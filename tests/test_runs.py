"A run survives crashes, refuses what would lose work, and ends in a dataset that the field's tools read."
import json
import os
import resource
import signal
import sqlite3
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from huggingface_hub import DatasetCard
from synthlab.runs import Run, RunError, dataset_card, plain_recipe, read_rows, recipe_difference

ROOT = Path(__file__).parents[1]
RECIPE = {'n': 8, 'seed': 0, 'method': {'name': 'corrsynth', 'delta': 0.9}, 'teacher': {'name': 'toy', 'revision': None},
          'task': {'name': 'pets', 'labels': [{'name': 'wild'}, {'name': 'pets'}]}}
HOSTILE = ['```\n---\nlicense: mit\n---\n<script>alert(1)</script> | {{ 7*7 }} [b]', '    # heading\r\n| a | b |', '\u2028naïve 猫 \u202e\U0001f980']


def row(number, member, **others):
    label = ('pets', 'wild')[member % 2]
    return {'id': f'{number}/{member}', 'text': f'{label} story {number}', 'label': label, 'label_target': label, 'group': number, 'member': member,
            'demos': [], 'attributes': None, 'sampling': {'top_p': 0.9, 'top_k': 0}, 'kl': 0.5, 'status': 'accepted', 'reason': ''} | others


def group(number): return [row(number, member) for member in range(2)]


def fill(out, numbers=range(4), **options):
    "A run with these groups, finished."
    with Run(out, RECIPE, **options) as run:
        for number in numbers: run.add(number, group(number))
        return run.finish()


def in_process(code, *arguments, **options):
    "Run code in a process of its own, with the names of this file."
    start = f'import sys; sys.path[:0] = [{str(ROOT)!r}, {str(ROOT/"tests")!r}]; from test_runs import *\n'
    return subprocess.run([sys.executable, '-c', start + code, *map(str, arguments)], capture_output=True, text=True, **options)


def files(out): return {p.name: p.read_bytes() for p in Path(out).iterdir() if p.is_file() and p.name != 'run.db'}


# ---- the dataset

def test_the_dataset_is_what_was_accepted(tmp_path):
    with Run(tmp_path/'run', RECIPE) as run:
        run.add(1, [row(1, 0, text=HOSTILE[0]), row(1, 1, text=HOSTILE[1])])
        run.add(0, [row(0, 0, text=HOSTILE[2]), row(0, 1, status='rejected', reason='empty text', text='')])
        run.add(2, [row(2, 0, status='failed', reason='out of memory'), row(2, 1, status='rejected', reason='empty text')])
        counts = run.finish()
    assert counts == {'candidates': 6, 'accepted': {'pets': 2, 'wild': 1}, 'rejected': {'empty text': 2}, 'failed': {'out of memory': 1}}
    rows = [json.loads(line) for line in (tmp_path/'run'/'dataset.jsonl').read_text(encoding='utf-8').split('\n')[:-1]]
    assert [r['text'] for r in rows] == [HOSTILE[2], HOSTILE[0], HOSTILE[1]]
    assert '猫' in (tmp_path/'run'/'dataset.jsonl').read_text(encoding='utf-8')
    assert rows == list(read_rows(tmp_path/'run')) and len(list(read_rows(tmp_path/'run', None))) == 6


def test_datasets_loads_the_folder_and_the_file(tmp_path):
    from datasets import load_dataset
    fill(tmp_path/'run')
    by_card = load_dataset(str(tmp_path/'run'), split='train', cache_dir=str(tmp_path/'cache'))
    by_file = load_dataset('parquet', data_files=str(tmp_path/'run'/'dataset.parquet'), split='train', cache_dir=str(tmp_path/'cache'))
    expected = [row(number, member) for number in range(4) for member in range(2)]
    assert by_card.to_list() == by_file.to_list() == expected


def test_columns_that_fill_late_keep_their_type(tmp_path):
    import pyarrow.parquet as pq
    with Run(tmp_path/'run', RECIPE) as run:
        run.add(0, [row(0, m) for m in range(1500)])
        run.add(1, [row(1, 0, demos=['pets/0'], attributes={'tone': 'dry'}, kl=None), row(1, 1, kl=3)])
        run.finish()
    table = pq.read_table(tmp_path/'run'/'dataset.parquet')
    assert table.num_rows == 1502
    assert table.column('demos')[0].as_py() == [] and table.column('demos')[1500].as_py() == ['pets/0']
    assert table.column('attributes')[1500].as_py() == {'tone': 'dry'}
    assert table.column('kl').to_pylist()[-2:] == [None, 3.0]


def test_nothing_accepted_is_a_dataset_too(tmp_path):
    with Run(tmp_path/'run', RECIPE) as run:
        run.add(0, [row(0, 0, status='rejected', reason='empty text')])
        run.finish()
    assert (tmp_path/'run'/'dataset.jsonl').read_bytes() == b''
    assert 'Asked for 8 rows and got 0. **The run fell short.**' in (tmp_path/'run'/'README.md').read_text()


def test_numbers_that_json_lacks_are_null(tmp_path):
    import numpy as np
    with Run(tmp_path/'run', RECIPE) as run:
        run.add(0, [row(0, 0, kl=float('nan')), row(0, 1, kl=np.float32(0.25), steps=np.int64(3))])
        run.finish()
    assert [r['kl'] for r in read_rows(tmp_path/'run')] == [None, 0.25]


# ---- the card

def test_card_is_metadata_and_counts(tmp_path):
    fill(tmp_path/'run')
    card = DatasetCard.load(tmp_path/'run'/'README.md')
    data = card.data.to_dict()
    assert data['task_categories'] == ['text-classification'] and data['size_categories'] == 'n<1K'
    assert {'synthetic', 'corrsynth'} <= set(data['tags'])
    assert data['configs'] == [{'config_name': 'default', 'data_files': [{'split': 'train', 'path': 'dataset.parquet'}]}]
    assert all(part in card.text for part in ('2411.08553', 'load_dataset', '| candidates written by the teacher | 8 |', '| pets | 4 |'))


@pytest.mark.parametrize('text', HOSTILE)
def test_card_shows_texts_and_never_reads_them(text):
    counts = {'candidates': 1, 'accepted': {text: 1}, 'rejected': {}, 'failed': {}}
    hostile = RECIPE | {'n': 1, 'task': {'name': text, 'description': text}, 'teacher': {'name': text}, 'gold': text}
    card = DatasetCard(str(dataset_card(plain_recipe(hostile), counts, {text: text})))
    assert card.data.license == 'unknown'
    harmless = [line for line in card.text.splitlines() if not line.startswith('    ')]
    assert not any(mark in line.replace(rf'\{mark}', '') for line in harmless for mark in ('`' * 3, '<script', '{{'))


# ---- resuming

KILLED = """
with Run(sys.argv[1], RECIPE) as run:
    for number in range(4):
        if number in run.groups(): continue
        if number == 2: os.kill(os.getpid(), signal.SIGKILL)
        run.add(number, group(number))
    run.finish()
"""
KILLED_WHILE_WRITING = """
import synthlab.runs as runs
def stop(*_): os.kill(os.getpid(), signal.SIGKILL)
setattr(runs, sys.argv[2], stop)
fill(sys.argv[1])
"""


def test_a_killed_run_goes_on(tmp_path):
    killed = in_process(KILLED, tmp_path/'run')
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert (tmp_path/'run'/'run.lock').exists()
    assert [r['id'] for r in read_rows(tmp_path/'run')] == ['0/0', '0/1', '1/0', '1/1']
    with Run(tmp_path/'run', RECIPE) as run: assert list(run.groups()) == [0, 1]
    fill(tmp_path/'run', [2, 3])
    fill(tmp_path/'whole')
    assert files(tmp_path/'run') == files(tmp_path/'whole')


@pytest.mark.parametrize('where', ['write_jsonl', 'dataset_card', '_agree_on_recipe', '_connect'])
def test_killed_while_beginning_or_ending(tmp_path, where):
    assert in_process(KILLED_WHILE_WRITING, tmp_path/'run', where).returncode == -signal.SIGKILL
    with Run(tmp_path/'run', RECIPE) as run:
        for number in set(range(4)) - set(run.groups()): run.add(number, group(number))
        run.finish()
    fill(tmp_path/'whole')
    assert files(tmp_path/'run') == files(tmp_path/'whole')


def test_a_failure_keeps_what_was_stored(tmp_path):
    with pytest.raises(ZeroDivisionError), Run(tmp_path/'run', RECIPE) as run:
        run.add(0, group(0))
        1/0
    with Run(tmp_path/'run', RECIPE) as run:
        assert run.groups() == {0: group(0)} and not run.finished
        with pytest.raises(ValueError, match='group 0 is in the run already'): run.add(0, group(0))
        with pytest.raises(ValueError, match='unknown status lost'): run.add(1, [row(1, 0, status='lost')])
        assert list(run.groups()) == [0]


# ---- refusals

def test_a_finished_run_is_refused_and_kept(tmp_path):
    fill(tmp_path/'run')
    before = files(tmp_path/'run')
    with pytest.raises(RunError, match='is finished.*another folder.*--overwrite'): fill(tmp_path/'run')
    assert files(tmp_path/'run') == before


@pytest.mark.parametrize('change, shown', [
    ({'n': 9}, 'n: 8 there, 9 now'), ({'method': {'name': 'fewgen'}}, "method.delta: 0.9 there, None now"),
    ({'gold': 'mine.csv'}, "gold: None there, 'mine.csv' now"), ({'task': {'name': 'pets', 'labels': [{'name': 'wild'}]}}, "task.labels.1.name: 'pets' there"),
])
@pytest.mark.parametrize('numbers', [[0], None], ids=['unfinished', 'finished'])
def test_another_recipe_is_refused_with_the_difference(tmp_path, change, shown, numbers):
    if numbers is None: fill(tmp_path/'run')
    else:
        with Run(tmp_path/'run', RECIPE) as run: run.add(0, group(0))
    with pytest.raises(RunError) as error, Run(tmp_path/'run', RECIPE | change): pass
    assert shown in str(error.value) and '--overwrite' in str(error.value)


def test_another_machine_is_no_other_recipe(tmp_path):
    with Run(tmp_path/'run', RECIPE | {'machine': {'device': 'cuda'}}): pass
    with Run(tmp_path/'run', RECIPE | {'machine': {'device': 'cpu'}}): pass
    assert tomllib.loads((tmp_path/'run'/'recipe.toml').read_text())['machine'] == {'device': 'cuda'}


@pytest.mark.parametrize('names', [['thesis.tex'], ['run.db'], ['README.md', 'dataset.parquet'], ['recipe.toml', 'notes.txt'], ['.hidden']])
@pytest.mark.parametrize('overwrite', [False, True])
def test_a_folder_that_is_no_run_is_never_touched(tmp_path, names, overwrite):
    for name in names: (tmp_path/name).write_text('mine')
    with pytest.raises(RunError, match='which is no run'), Run(tmp_path, RECIPE, overwrite): pass
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == dict.fromkeys(names, 'mine')


def test_a_recipe_of_ones_own_is_never_touched(tmp_path):
    (tmp_path/'recipe.toml').write_text('n = 1\n')
    for overwrite in (False, True):
        with pytest.raises(RunError, match='n: 1 there, 8 now'), Run(tmp_path, RECIPE, overwrite): pass
    (tmp_path/'recipe.toml').write_text('no toml')
    with pytest.raises(RunError, match='recipe.toml cannot be read'), Run(tmp_path, RECIPE): pass
    assert (tmp_path/'recipe.toml').read_text() == 'no toml'


def test_overwrite_starts_again_and_keeps_the_rest(tmp_path):
    fill(tmp_path/'run')
    (tmp_path/'run'/'notes.txt').write_text('mine')
    fill(tmp_path/'run', [0], overwrite=True)
    assert len(list(read_rows(tmp_path/'run'))) == 2
    assert (tmp_path/'run'/'notes.txt').read_text() == 'mine'


def test_a_file_is_no_folder(tmp_path):
    (tmp_path/'run').write_text('mine')
    for out in (tmp_path/'run', tmp_path/'run'/'deeper'):
        with pytest.raises(RunError, match='is a file|Not a directory'), Run(out, RECIPE): pass
    with pytest.raises(RunError, match='holds no run'): list(read_rows(tmp_path))


def test_a_second_process_is_refused(tmp_path):
    with Run(tmp_path/'run', RECIPE) as run:
        other = in_process('fill(sys.argv[1])', tmp_path/'run')
        assert other.returncode == 1 and f'is in use by process {os.getpid()}' in other.stderr
        run.add(0, group(0))
        seen = in_process('print(len(list(read_rows(sys.argv[1]))))', tmp_path/'run')
        assert seen.stdout == '2\n', seen.stderr
    fill(tmp_path/'run', [1])


# ---- disks

def limited(code, tmp_path, size):
    "Run code in a process whose files may not grow beyond `size` bytes: what a full disk looks like."
    def limit(): resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    return in_process(code, tmp_path/'run', preexec_fn=limit)


FILL_UP = """
try:
    with Run(sys.argv[1], RECIPE) as run:
        for number in range(10_000): run.add(number, group(number))
except RunError as error: print(error)
"""


def test_a_full_disk_leaves_an_intact_run(tmp_path):
    done = limited(FILL_UP, tmp_path, 100_000)
    assert done.returncode == 0 and 'cannot be read or written' in done.stdout and 'is kept' in done.stdout, done.stderr
    with Run(tmp_path/'run', RECIPE) as run:
        numbers = list(run.groups())
        assert numbers == list(range(len(numbers))) and len(numbers) > 5
        run.add(len(numbers), group(len(numbers)))
        run.finish()


def test_a_disk_that_fills_at_the_end_leaves_no_half_dataset(tmp_path):
    with Run(tmp_path/'run', RECIPE) as run:
        for number in range(100): run.add(number, group(number))
    done = limited("with Run(sys.argv[1], RECIPE) as run: run.finish()", tmp_path, 20_000)
    assert 'cannot be read or written' in done.stderr
    assert not {'dataset.jsonl', 'dataset.jsonl.part', 'README.md'} & {p.name for p in (tmp_path/'run').iterdir()}
    with Run(tmp_path/'run', RECIPE) as run: assert run.finish()['candidates'] == 200


READ_ONLY = """
if not os.getuid(): os.setuid(65534)
for out in sys.argv[1:]:
    try:
        with Run(out, RECIPE): print('taken')
    except RunError as error: print(error)
    print(len(list(read_rows(out))) if os.path.exists(out) else 'none')
"""


def test_a_read_only_folder_is_refused_and_readable(tmp_path):
    for parent in (tmp_path, *list(tmp_path.parents)[:2]): parent.chmod(0o755)
    fill(tmp_path/'run')
    (tmp_path/'run').chmod(0o555)
    tmp_path.chmod(0o555)
    done = in_process(READ_ONLY, tmp_path/'run', tmp_path/'new')
    tmp_path.chmod(0o755)
    (tmp_path/'run').chmod(0o755)
    lines = done.stdout.splitlines()
    assert len(lines) == 4, done.stderr
    assert 'cannot be read or written' in lines[0] and 'Permission denied' in lines[0] and lines[1] == '8'
    assert 'cannot be read or written' in lines[2] and lines[3] == 'none'


def test_a_damaged_database_is_named(tmp_path):
    fill(tmp_path/'run')
    (tmp_path/'run'/'run.db').write_bytes(b'no database at all' * 100)
    with pytest.raises(RunError, match='run.db is damaged'): fill(tmp_path/'run')
    with pytest.raises(RunError, match='run.db is damaged'): list(read_rows(tmp_path/'run'))
    fill(tmp_path/'run', overwrite=True)


def test_a_newer_form_is_left_alone(tmp_path):
    with Run(tmp_path/'run', RECIPE): pass
    with sqlite3.connect(tmp_path/'run'/'run.db') as db: db.execute('PRAGMA user_version = 99')
    db.close()
    with pytest.raises(RunError, match='newer synthlab'), Run(tmp_path/'run', RECIPE): pass


def test_recipes_compare_by_leaves():
    assert recipe_difference({'a': {'b': (1, 2)}}, {'a': {'b': [1, 3]}, 'c': None}) == {'a.b.1': (2, 3)}
    assert recipe_difference({'a': {}}, {'a': []}) == {}
