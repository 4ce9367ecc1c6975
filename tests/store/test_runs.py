"A run keeps calls and rows, refuses what would lose work, and ends in a dataset that the field's tools read."
import json
import os
import sqlite3
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest
from synthlab.store.runs import (
    Run, RunError, open_run, read_counts, read_rows, read_status, recipe_difference, shortfall)

ROOT = Path(__file__).parents[2]
RECIPE = {'n': 8, 'seed': 0, 'method': {'name': 'corrsynth', 'delta': 0.9}, 'teacher': {'name': 'toy', 'revision': None},
          'task': {'name': 'pets', 'labels': [{'name': 'wild'}, {'name': 'pets'}]}}
HOSTILE = ['```\n---\nlicense: mit\n---\n<script>alert(1)</script> | {{ 7*7 }} [b]', '    # heading\r\n| a | b |', '\u2028naïve 猫 \u202e\U0001f980']


def row(number, member, **others):
    label = ('pets', 'wild')[member % 2]
    return {'id': f'{number}/{member}', 'text': f'{label} story {number}', 'label': label, 'label_target': label, 'group': number, 'member': member,
            'demos': [], 'attributes': None, 'sampling': {'top_p': 0.9, 'top_k': 0}, 'kl': 0.5, 'status': 'accepted', 'reason': ''} | others


def group(number): return [row(number, member) for member in range(2)]


def call(number): return {'completions': [r['text'] for r in group(number)], 'prompt_tokens': 10, 'completion_tokens': 4, 'error': ''}


def fill(out, numbers=range(4), **options):
    "A run with these groups, finished."
    with Run(out, RECIPE, **options) as run:
        for number in numbers: run.add(number, group(number))
        return run.finish()


def in_process(code, *arguments, before=(), **options):
    "Run code in a process of its own, with the names of this file; `before` are words of the command line that come first."
    start = f'import sys; sys.path[:0] = [{str(ROOT)!r}, {str(Path(__file__).parent)!r}]; from test_runs import *\n'
    return subprocess.run([*before, sys.executable, '-c', start + code, *map(str, arguments)], capture_output=True, text=True, **options)


def files(out): return {p.name: p.read_bytes() for p in Path(out).iterdir() if p.is_file() and p.name != 'run.db'}


# ---- the dataset

def test_the_dataset_is_what_was_accepted(tmp_path):
    with Run(tmp_path/'run', RECIPE) as run:
        run.add(1, [row(1, 0, text=HOSTILE[0]), row(1, 1, text=HOSTILE[1])])
        run.add(0, [row(0, 0, text=HOSTILE[2]), row(0, 1, status='rejected', reason='empty text', text='')])
        run.add(2, [row(2, 0, status='failed', reason='out of memory'), row(2, 1, status='rejected', reason='empty text')])
        counts = run.finish()
    assert counts == {'candidates': 6, 'accepted': {'wild': 1, 'pets': 2}, 'rejected': {'empty text': 2}, 'failed': {'out of memory': 1}}
    assert list(counts['accepted']) == ['wild', 'pets']
    rows = [json.loads(line) for line in (tmp_path/'run'/'dataset.jsonl').read_text(encoding='utf-8').split('\n')[:-1]]
    assert [r['text'] for r in rows] == [HOSTILE[2], HOSTILE[0], HOSTILE[1]]
    assert '猫' in (tmp_path/'run'/'dataset.jsonl').read_text(encoding='utf-8')
    assert rows == list(read_rows(tmp_path/'run')) and len(list(read_rows(tmp_path/'run', None))) == 6
    assert [r['reason'] for r in read_rows(tmp_path/'run', 'failed')] == ['out of memory'] and read_counts(tmp_path/'run') == counts


def test_datasets_loads_the_folder_and_the_file(tmp_path):
    from datasets import load_dataset
    fill(tmp_path/'run')
    by_card = load_dataset(str(tmp_path/'run'), split='train', cache_dir=str(tmp_path/'cache'))
    by_file = load_dataset('parquet', data_files=str(tmp_path/'run'/'dataset.parquet'), split='train', cache_dir=str(tmp_path/'cache'))
    expected = [row(number, member) for number in range(4) for member in range(2)]
    for rows in (by_card, by_file):
        names = rows.features['label']
        assert names.names == [label['name'] for label in RECIPE['task']['labels']]
        assert [found | {'label': names.int2str(found['label'])} for found in rows.to_list()] == expected


def test_nothing_accepted_is_a_dataset_too(tmp_path):
    with Run(tmp_path/'run', RECIPE) as run:
        run.add(0, [row(0, 0, status='rejected', reason='empty text')])
        run.add(1, [])
        run.finish()
    assert (tmp_path/'run'/'dataset.jsonl').read_bytes() == b''
    assert 'Asked for 8 rows and got 0. **The run fell short.**' in (tmp_path/'run'/'README.md').read_text()


def test_values_that_json_and_utf8_lack(tmp_path):
    import numpy as np
    with Run(tmp_path/'run', RECIPE) as run:
        run.add(0, [row(0, 0, kl=float('nan'), text='cut \ud83d off', label='pe\udc00ts'), row(0, 1, kl=np.float32(0.25), steps=np.int64(3), status='failed', reason='said \ud83d')])
        run.finish()
    first, second = read_rows(tmp_path/'run', None)
    assert (first['kl'], first['text'], second['kl'], second['steps']) == (None, 'cut \ufffd off', 0.25, 3)
    assert read_counts(tmp_path/'run')['failed'] == {'said \ufffd': 1} and read_counts(tmp_path/'run')['accepted'] == {'pe\ufffdts': 1}


def test_what_was_used_is_kept(tmp_path):
    @dataclass
    class Usage:
        calls: int = 2
        cost: float = 0.5
    with Run(tmp_path/'run', RECIPE) as run:
        run.calls.update({'a': call(0), 'b': call(1)})
        run.finish(Usage())
    assert '| calls | 2 |' in (tmp_path/'run'/'README.md').read_text() and '| cost in US dollars | 0.50 |' in (tmp_path/'run'/'README.md').read_text()
    status = read_status(tmp_path/'run')
    assert status['usage'] == {'calls': 2, 'cost': 0.5}
    assert status['calls'] == {'calls': 2, 'failed': 0, 'prompt_tokens': 20, 'completion_tokens': 8, 'unknown_tokens': 0}


# ---- reading

def test_groups_are_a_mapping_that_holds_nothing(tmp_path):
    with Run(tmp_path/'run', RECIPE) as run:
        numbers = [1203, *range(0, 1200, 2)]
        run.add_many({number: group(number) for number in numbers[:-1]})
        run.add(numbers[-1], [])
        assert list(run.groups) == sorted(numbers) and len(run.groups) == len(numbers)
        assert run.groups[2] == group(2) and run.groups[1198] == [] and 1 not in run.groups and run.groups.get(1) is None
        with pytest.raises(KeyError): run.groups[1]
        assert dict(run.groups) == {number: group(number) for number in numbers[:-1]} | {1198: []}


def test_rows_can_be_read_while_more_are_added(tmp_path):
    with Run(tmp_path/'run', RECIPE) as run:
        run.add_many({number: group(number) for number in range(300)})
        seen = []
        for found in run.rows():
            seen.append(found['id'])
            if len(seen) == 100: run.add(300, group(300))
        assert seen == [f'{number}/{member}' for number in range(301) for member in range(2)]


def test_a_row_is_found_by_its_id(tmp_path):
    fill(tmp_path/'run')
    with open_run(tmp_path/'run') as run:
        assert run.row('2/1') == row(2, 1)
        with pytest.raises(ValueError, match="no row with the id '9/9'"): run.row('9/9')
        assert run.samples() == {'wild': 'wild story 0', 'pets': 'pets story 0'} and list(run.samples()) == ['wild', 'pets']


def test_status_tells_how_it_stands(tmp_path):
    with Run(tmp_path/'run', RECIPE, derivation='v1') as run:
        run.calls['a'] = call(0)
        run.calls['b'] = {'error': 'timed out'}
        run.add(0, [row(0, 0), row(0, 1, status='rejected', reason='empty text')])
        status = read_status(tmp_path/'run')
        assert status['holder'].startswith(f'process {os.getpid()} on ') and not status['finished']
    expected = {'path': str(tmp_path/'run'), 'evidence': None, 'aligned': None, 'extraction': None, 'steps': None, 'corrected': None, 'reviewed': None, 'sources': None, 'notices': None, 'trouble': '', 'method': 'corrsynth', 'task': 'pets', 'teacher': 'toy', 'asked': 8, 'labels': {'wild': 4, 'pets': 4}, 'surplus': 'reject', 'candidates': 2, 'accepted': {'pets': 1},
                'rejected': {'empty text': 1}, 'failed': {}, 'shortfall': {'wild': 4, 'pets': 3}, 'groups': 1,
                'calls': {'calls': 1, 'failed': 1, 'prompt_tokens': 10, 'completion_tokens': 4, 'unknown_tokens': 0}, 'lost': {'calls': 0, 'prompt_tokens': 0, 'completion_tokens': 0}, 'usage': None, 'waiting': '', 'batches': [], 'finished': False, 'holder': '', 'derivation': 'v1'}
    assert read_status(tmp_path/'run') == expected
    json.dumps(expected)


def test_status_needs_no_torch(tmp_path):
    fill(tmp_path/'run')
    done = in_process("print(read_status(sys.argv[1])['candidates'], [m for m in ('torch', 'transformers', 'datasets', 'pyarrow', 'huggingface_hub') if m in sys.modules])", tmp_path/'run')
    assert done.stdout == '8 []\n', done.stderr


def test_shortfall_is_by_label():
    recipe = {'n': 10, 'proportions': {'a': 0.8, 'b': 0.2, 'c': 0}, 'task': {'name': 't', 'labels': [{'name': name} for name in 'abc']}}
    assert shortfall(recipe, {'accepted': {'a': 8, 'b': 1}}) == {'b': 1} and shortfall({'n': 10, 'task': {'name': 't'}}, {'accepted': {}}) == {}


@pytest.mark.parametrize('statement', ['DELETE FROM rows WHERE number = 2', 'UPDATE groups SET size = 3 WHERE number = 1', "UPDATE rows SET status = 'lost'", "DELETE FROM groups WHERE number = 0"])
def test_counts_that_do_not_add_up_close_no_book(tmp_path, statement):
    with pytest.raises(RunError, match='8 candidates|9 candidates|6 candidates'), Run(tmp_path/'run', RECIPE) as run:
        for number in range(4): run.add(number, group(number))
        with run._db: run._db.execute(statement)
        run.finish()
    assert not (tmp_path/'run'/'dataset.parquet').exists()
    with sqlite3.connect(tmp_path/'run'/'run.db') as db: assert not db.execute("SELECT * FROM facts WHERE name = 'finished'").fetchall()


def test_a_million_different_errors_are_not_a_million_lines(tmp_path):
    with Run(tmp_path/'run', RECIPE) as run:
        run.add(0, [row(0, member, status='failed', reason=f'error e{member:04} after {member} s') for member in range(1000)])
        counts = run.finish()
    assert len(counts['failed']) == 201 and counts['failed']['other reasons'] == 800 and sum(counts['failed'].values()) == 1000


# ---- going on

def test_a_failure_keeps_what_was_stored(tmp_path):
    with pytest.raises(ZeroDivisionError), Run(tmp_path/'run', RECIPE) as run:
        run.add(0, group(0))
        1/0
    with Run(tmp_path/'run', RECIPE) as run:
        assert run.groups == {0: group(0)} and not run.finished
        with pytest.raises(ValueError, match='group 0 is in the run already'): run.add(0, group(0))
        with pytest.raises(ValueError, match='unknown status lost'): run.add(1, [row(1, 0, status='lost')])
        with pytest.raises(ValueError, match='numbered from 0, got -1'): run.add(-1, [])
        with pytest.raises(ValueError, match='group 0 is in the run already'): run.add_many({1: group(1), 0: group(0)})
        with pytest.raises(ValueError, match='JSON cannot hold this'): run.add_many({1: group(1), 2: [row(2, 0, kl=object())]})
        assert list(run.groups) == [0] and len(list(run.rows(None))) == 2


def test_a_finished_run_is_opened_shown_and_kept(tmp_path):
    counts = fill(tmp_path/'run')
    before = files(tmp_path/'run')
    with Run(tmp_path/'run', RECIPE) as run:
        assert run.finished and run.counts() == counts and list(run.groups) == [0, 1, 2, 3]
        assert run.facts['finished'] == {'counts': counts, 'shortfall': {}, 'usage': None} and run.facts['n'] == 8
        with pytest.raises(RunError, match='is finished, and takes no more groups'): run.add(4, group(4))
    assert files(tmp_path/'run') == before
    (tmp_path/'run'/'dataset.jsonl').unlink()
    with Run(tmp_path/'run', RECIPE) as run: assert run.finish() == counts
    assert files(tmp_path/'run') == before


@pytest.mark.parametrize('finished', [False, True])
def test_other_code_makes_the_rows_again_of_the_same_calls(tmp_path, finished):
    with Run(tmp_path/'run', RECIPE, derivation='v1') as run:
        run.calls.update({str(number): call(number) for number in range(3)})
        run.add_many({number: group(number) for number in range(3)})
        if finished: run.finish()
    (tmp_path/'run'/'notes.txt').write_text('mine')
    for derivation in ('v1', ''):
        with Run(tmp_path/'run', RECIPE, derivation=derivation) as run: assert len(run.groups) == 3 and run.finished is finished
    with Run(tmp_path/'run', RECIPE, derivation='v2') as run:
        assert (len(run.calls), len(run.groups), run.finished, run.counts()['candidates']) == (3, 0, False, 0)
        assert {p.name for p in (tmp_path/'run').iterdir()} >= {'notes.txt', 'recipe.toml'} and not (tmp_path/'run'/'dataset.parquet').exists()
        run.add(0, group(0))
        run.finish()
    assert read_status(tmp_path/'run')['derivation'] == 'v2' and len(list(read_rows(tmp_path/'run'))) == 2


def test_a_fork_begins_with_the_calls_of_another_run(tmp_path):
    with Run(tmp_path/'old', RECIPE) as old:
        old.calls.update({str(number): call(number) for number in range(2500)})
        old.add(0, group(0))
        with Run(tmp_path/'new', RECIPE | {'n': 9}, fork=tmp_path/'old') as new:              # the other may still be at work
            assert dict(new.calls) == dict(old.calls) and list(new.calls) == list(old.calls) and not new.groups
            new.calls['more'] = {}
        old.calls['later'] = {}
    with Run(tmp_path/'new', RECIPE | {'n': 9}, fork=tmp_path/'old') as new: assert len(new.calls) == 2501 and 'later' not in new.calls
    fill(tmp_path/'begun', [0])
    with pytest.raises(RunError, match='has begun already, so nothing can be forked into it'), Run(tmp_path/'begun', RECIPE, fork=tmp_path/'old'): pass
    with pytest.raises(RunError, match='holds no run'), Run(tmp_path/'third', RECIPE, fork=tmp_path/'nothing'): pass
    assert not (tmp_path/'third').exists()


# ---- refusals

@pytest.mark.parametrize('change, shown', [
    ({'n': 9}, 'n: 8 there, 9 now'), ({'method': {'name': 'fewgen'}}, "method.delta: 0.9 there, None now"),
    ({'gold': 'mine.csv'}, "gold: None there, 'mine.csv' now"), ({'task': {'name': 'pets', 'labels': [{'name': 'wild'}]}}, "task.labels.1.name: 'pets' there"),
])
@pytest.mark.parametrize('numbers', [[0], None], ids=['unfinished', 'finished'])
def test_another_recipe_is_refused_with_the_difference(tmp_path, change, shown, numbers):
    if numbers is None: fill(tmp_path/'run')
    else:
        with Run(tmp_path/'run', RECIPE) as run: run.add(0, group(0))
    before = files(tmp_path/'run')
    with pytest.raises(RunError) as error, Run(tmp_path/'run', RECIPE | change): pass
    assert shown in str(error.value) and '--overwrite' in str(error.value) and '--fork' in str(error.value)
    assert files(tmp_path/'run') == before and len(list(read_rows(tmp_path/'run'))) == (8 if numbers is None else 2)


def test_another_machine_is_no_other_recipe(tmp_path):
    with Run(tmp_path/'run', RECIPE | {'machine': {'device': 'cuda'}}): pass
    with Run(tmp_path/'run', RECIPE | {'machine': {'device': 'cpu'}}): pass
    assert tomllib.loads((tmp_path/'run'/'recipe.toml').read_text())['machine'] == {'device': 'cpu'}      # where it went on


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
    for read in (lambda out: list(read_rows(out)), read_counts, read_status):
        with pytest.raises(RunError, match='holds no run'): read(tmp_path)


def test_a_second_process_is_refused(tmp_path):
    with Run(tmp_path/'run', RECIPE) as run:
        other = in_process('fill(sys.argv[1])', tmp_path/'run')
        assert other.returncode == 1 and f'is in use by process {os.getpid()} on ' in other.stderr and ' since 20' in other.stderr
        run.add(0, group(0))
        seen = in_process('print(len(list(read_rows(sys.argv[1]))), read_status(sys.argv[1])["holder"].split()[1])', tmp_path/'run')
        assert seen.stdout == f'2 {os.getpid()}\n', seen.stderr
    fill(tmp_path/'run', [1])


@pytest.mark.parametrize('form, said', [(99, 'a newer synthlab .* update synthlab'), (1, 'an older synthlab .* another folder')])
def test_another_form_is_left_alone(tmp_path, form, said):
    with Run(tmp_path/'run', RECIPE): pass
    with sqlite3.connect(tmp_path/'run'/'run.db') as db: db.execute(f'PRAGMA user_version = {form}')
    db.close()
    before = (tmp_path/'run'/'run.db').read_bytes()
    for recipe in (RECIPE, RECIPE | {'n': 9}):
        with pytest.raises(RunError, match=said), Run(tmp_path/'run', recipe): pass
    with pytest.raises(RunError, match=said): read_status(tmp_path/'run')
    assert (tmp_path/'run'/'run.db').read_bytes() == before


def test_recipes_compare_by_leaves():
    assert recipe_difference({'a': {'b': (1, 2)}}, {'a': {'b': [1, 3]}, 'c': None}) == {'a.b.1': (2, 3)}
    assert recipe_difference({'a': {}}, {'a': []}) == {}


def test_what_was_cleaned_away_is_counted_from_its_index(tmp_path):
    with Run(tmp_path/'run', RECIPE) as run:
        run.add(0, [row(0, 0, cleaned='fence, chat'), row(0, 1, cleaned='chat')])
        run.add(1, group(1))
    asked = []
    with open_run(tmp_path/'run') as run:
        run._db.set_trace_callback(asked.append)
        assert run.counts()['cleaned'] == {'chat': 2, 'fence': 1}
        run._db.set_trace_callback(None)
        plans = [str(run._db.execute(f'EXPLAIN QUERY PLAN {sql}').fetchall()) for sql in asked if 'cleaned' in sql]
        assert plans and all('rows_cleaned' in plan for plan in plans)


def test_what_was_cleaned_away_is_counted_without_the_index_of_newer_runs(tmp_path):
    with Run(tmp_path/'run', RECIPE) as run: run.add(0, [row(0, 0, cleaned='chat'), row(0, 1)])
    with sqlite3.connect(tmp_path/'run'/'run.db') as db: db.execute('DROP INDEX rows_cleaned')
    assert read_counts(tmp_path/'run')['cleaned'] == {'chat': 1}
