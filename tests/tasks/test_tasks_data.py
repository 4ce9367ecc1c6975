"Tasks and gold data: text survives unchanged, and every kind of bad input is refused with its place and value."
import copy
import csv
import json
import os
import pickle
import re
import subprocess
import sys
import tempfile
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, Features, Value
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted_teacher import ScriptedTeacher

from synthlab.tasks import gold as data
from synthlab.tasks.gold import DataError, demonstration_pool, draw_demonstrations, load_gold, read_table, written_rows
from synthlab.decode.loop import Sampling
from synthlab.run.recipe import Recipe
from synthlab.util import derive_seed, render, text_fault
from synthlab.tasks.task import (
    Attribute, Check, GoldSource, Label, Part, Targeted, Task, label_counts, load_task, messages,
    task_names)
from synthlab.teacher.causal import CausalTeacher

ROOT = Path(__file__).parents[2]
POND = Task(name='pond', instruction='Write about {{ verbalisation }}.', labels=[
    Label(name='frogs', aliases=['0'], demonstrations=['A green one.', 'A loud one.']),
    Label(name='herons', aliases=['1'], demonstrations=['It waits.', 'It stood on one leg.'])])
SCRIPTS = {
    'arabic': 'سلامٌ عليكم، كيف حالك؟', 'devanagari': 'नमस्ते, क्षेत्रीय हिन्दी', 'chinese': '新闻：今天天气很好。',
    'zwj': '👩🏽‍🔬 und 👨‍👩‍👧‍👦', 'combining': 'cafe\u0301 is not caf\u00e9', 'quotes': 'He said "no", and \'yes\'',
    'newlines': 'one\ntwo\r\nthree', 'spaces': '  kept\u3000as it is\t', 'separator': 'a\u2028b\x0bc\x85d',
    'braces': '{{ 7 * 7 }} {% raw %}', 'na': 'NA', 'null': 'null', 'nan': 'nan', 'float': '1.0', 'zeros': '007', 'true': 'True'}
texts = st.text(st.characters(exclude_categories=['Cs'], exclude_characters='\0'), max_size=60).filter(lambda text: not text_fault(text))
gold = pytest.mark.skipif(not os.environ.get('SYNTHLAB_GOLD'), reason='needs gold data: set SYNTHLAB_GOLD')
SHOWN = ('ag_news', 'amazon_category', 'humor', 'imdb', 'sst2', 'toi_headlines')            # with demonstrations, and texts kept for testing
TARGETED = {'axb': 2, 'axg': 2, 'boolq': 2, 'cb': 3, 'copa': 2, 'multirc': 2, 'record': 1, 'rte': 2, 'wic': 2, 'wsc': 2}      # without any, by number of labels


def write(path, rows):
    "Write rows in the format that the suffix says, each by a library of its own."
    suffix = path.suffix
    if suffix == '.parquet': Dataset.from_list(rows).to_parquet(path)
    elif suffix == '.jsonl': path.write_bytes(''.join(json.dumps(row, ensure_ascii=False) + '\n' for row in rows).encode())
    else:
        with path.open('w', encoding='utf-8', newline='') as file:
            writer = csv.DictWriter(file, rows[0], delimiter=',' if suffix == '.csv' else '\t')
            writer.writeheader()
            writer.writerows(rows)
    return path


# ---- text survives

@pytest.mark.parametrize('suffix', ['.csv', '.tsv', '.jsonl', '.parquet'])
def test_text_survives_in_every_format(tmp_path, suffix):
    rows = [{'id': f'0{i}', 'text': text, 'label': 'frogs'} for i, text in enumerate(SCRIPTS.values())]
    assert load_gold(write(tmp_path/f'rows{suffix}', rows), POND).to_list() == rows


@given(st.lists(texts, min_size=1, max_size=5), st.sampled_from(['.csv', '.tsv', '.jsonl', '.parquet']))
@settings(max_examples=60, deadline=None)
def test_any_text_survives(values, suffix):
    with tempfile.TemporaryDirectory() as folder:
        table = read_table(write(Path(folder)/f'rows{suffix}', [{'text': text, 'label': 'frogs'} for text in values]))
        assert table.columns['text'] == values


@pytest.mark.parametrize('text', SCRIPTS.values(), ids=SCRIPTS)
def test_text_survives_in_tasks_and_prompts(text):
    task = Task(name='t', instruction='{{ verbalisation }}', labels=[
        Label(name='x', verbalisation=text, demonstrations=[text], tests=['Not ' + text])])
    assert [written_rows(task, part)['text'] for part in ('train', 'test')] == [[text], ['Not ' + text]]
    assert render('{{ v }}', v=text) == text == task.write_instruction('x')
    shot = messages(task, 'x', task.labels[0].demonstrations)[1]['content']
    assert '\n' not in shot and shot.split() == ['Text:', *text.split()]


# ---- bad files: what is in the file, and what its owner is told

BAD_FILES = {
    'unknown label': ('f.csv', b'text,label\nHi,frogs\nHo,frog\nHa,frog\n', [
        'f.csv', 'line 3', "'frog'", '2 of 3 rows', "did you mean 'frogs'?", 'frogs (or 0), herons (or 1)']),
    'empty label': ('f.csv', b'text,label\nHi,\n', ['f.csv', 'line 2', "label '' is unknown"]),
    'missing label': ('f.jsonl', b'{"text": "Hi", "label": 0}\n{"text": "Ho"}\n', ['f.jsonl', 'line 2', 'label None is unknown']),
    'empty text': ('f.csv', b'text,label\nHi,frogs\n   ,frogs\n', ['f.csv', 'line 3', "text is empty: '   '"]),
    'invisible text': ('f.csv', 'text,label\n\u200b\ufeff\u3000,frogs\n'.encode(), ['f.csv', 'line 2', 'text is empty']),
    'null text': ('f.jsonl', b'{"text": null, "label": 0}\n', ['f.jsonl', 'line 1', 'text is empty']),
    'text is a number': ('f.jsonl', b'{"text": 1.50, "label": 0}\n', ['f.jsonl', 'line 1', 'text is 1.5, of type float, not a string']),
    'half a surrogate pair': ('f.jsonl', b'{"text": "\\ud83d", "label": 0}\n', ['f.jsonl', 'line 1', 'not valid Unicode', 'ud83d']),
    'NUL in JSON': ('f.jsonl', b'{"text": "a\\u0000b", "label": 0}\n', ['f.jsonl', 'line 1', 'NUL', 'a\\x00b']),
    'NUL in bytes': ('f.csv', b'text,label\nHi,frogs\na\0b,frogs\n', ['f.csv', 'line 3', 'NUL']),
    'no text column': ('f.csv', b'sentence,label\nHi,frogs\n', ['f.csv', "no column 'text'", "'sentence', 'label'", 'text=']),
    'no label column': ('f.tsv', b'text\tclass\nHi\tfrogs\n', ['f.tsv', "or 'label'", "'text', 'class'", 'label=']),
    'neither column': ('f.csv', b'text;label\nHi;frogs\n', ['f.csv', "no column 'text'", "or 'label'", "'text;label'"]),
    'column twice': ('f.csv', b'text,text,label\nHi,Ho,frogs\n', ['f.csv', 'line 1', "two columns are called 'text'"]),
    'duplicate ids': ('f.csv', b'id,text,label\n01,Hi,frogs\n1,Ho,frogs\n01,Ha,frogs\n', [
        'f.csv', 'line 4', "id '01' is a duplicate of line 2"]),
    'empty id': ('f.csv', b'id,text,label\n,Hi,frogs\n', ['f.csv', 'line 2', 'id is empty']),
    'Latin-1': ('f.csv', 'text,label\nHi,frogs\ncafé,frogs\n'.encode('latin-1'), ['f.csv', 'line 3', 'byte 0xe9', 'UTF-8']),
    'UTF-16': ('f.csv', 'text,label\nHi,frogs\n'.encode('utf-16'), ['f.csv', 'UTF-16', 'UTF-8']),
    'empty file': ('f.csv', b'', ['f.csv', 'empty']),
    'only a byte order mark': ('f.jsonl', b'\xef\xbb\xbf\n', ['f.jsonl', 'empty']),
    'empty Parquet file': ('f.parquet', b'', ['f.parquet', 'empty']),
    'header only': ('f.csv', b'text,label\n', ['f.csv', 'no rows', 'text,label']),
    'too many cells': ('f.csv', b'text,label\nHi, there,frogs\n', ['f.csv', 'line 2', 'cells found 3, expected 2', 'Hi, there']),
    'too few cells': ('f.tsv', b'text\tlabel\nHi frogs\n', ['f.tsv', 'line 2', 'cells found 1']),
    'open quote': ('f.csv', b'text,label\nHi,frogs\n"Ho,frogs\nHa,frogs\n', ['f.csv', 'line 3', 'quote']),
    'stray quote': ('f.tsv', b'text\tlabel\n"Hi" he said\tfrogs\n', ['f.tsv', 'line 2', 'quote']),
    'broken JSON': ('f.jsonl', b'{"text": "Hi", "label": 0}\n{"text": "Ho"\n', ['f.jsonl', 'line 2', 'not JSON', '"Ho"']),
    'JSON list': ('f.jsonl', b'["Hi", 0]\n', ['f.jsonl', 'line 1', 'not an object']),
    'not Parquet': ('f.parquet', b'text,label\nHi,frogs\n', ['f.parquet', 'not readable as Parquet']),
    'unknown format': ('f.xlsx', b'PK', ['f.xlsx', '.csv, .tsv, .jsonl, .parquet']),
}


@pytest.mark.parametrize('name, content, parts', BAD_FILES.values(), ids=BAD_FILES)
def test_bad_file_is_refused(tmp_path, name, content, parts):
    (tmp_path/name).write_bytes(content)
    with pytest.raises(DataError) as refusal: load_gold(tmp_path/name, POND)
    for part in parts: assert part in str(refusal.value)


def test_faults_are_reported_together_and_capped(tmp_path):
    rows = [{'id': str(i % 5), 'text': ' ' if i % 2 else 'Hi', 'label': f'label {i}'} for i in range(100)]
    with pytest.raises(DataError) as refusal: load_gold(write(tmp_path/'f.parquet', rows), POND)
    message = str(refusal.value)
    for part in ["row 1: label 'label 0' is unknown", 'and 90 other', 'row 2: text is empty', 'and 45 more',
                 "row 6: id '0' is a duplicate of row 1", 'and 90 more']: assert part in message
    assert len(message.splitlines()) < 30


def test_null_is_not_a_label_called_none(tmp_path):
    task = Task(name='t', instruction='{{ label }}', labels=[Label(name='None')])
    path = write(tmp_path/'f.jsonl', [{'text': 'Hi', 'label': 'None'}, {'text': 'Ho', 'label': None}])
    with pytest.raises(DataError, match='line 2: label None is unknown'): load_gold(path, task)


def test_lines_count_breaks_inside_cells(tmp_path):
    (tmp_path/'f.csv').write_bytes(b'text,label\r\n"one\r\ntwo",frogs\r\n\r\nHi,newts\r\n')
    with pytest.raises(DataError, match="line 5: label 'newts'"): load_gold(tmp_path/'f.csv', POND)


# ---- bad calls

def no_herons():
    return POND.model_copy(update={'labels': (POND.labels[0], Label(name='herons'))})


def with_tests(**tests):
    "The pond with these tests, checked anew."
    return Task(**POND.model_dump() | {'labels': [label.model_dump() | {'tests': tests.get(label.name, [])} for label in POND.labels]})


def frogs_only():
    return Dataset.from_dict({'id': ['a'], 'text': ['Hi'], 'label': ['frogs']})


def draw(shots, label='frogs'):
    return draw_demonstrations(demonstration_pool(POND), label, shots, np.random.default_rng(0))


BAD_CALLS = {
    'label without demonstrations': (lambda: demonstration_pool(no_herons()), ["'pond'", "no demonstrations for 'herons'", 'task file']),
    'label without gold rows': (lambda: demonstration_pool(POND, frogs_only()), ["no demonstrations for 'herons'", 'gold rows']),
    'no demonstrations to keep': (lambda: demonstration_pool(POND, per_label=0), ['per_label', 'got 0']),
    'more shots than examples': (lambda: draw(3), ['3 demonstrations', "'frogs'", 'has 2']),
    'negative shots': (lambda: draw(-1), ['-1']),
    'shots of no label': (lambda: draw(1, 'newts'), ["'newts'", 'has 0']),
    'no such file': (lambda: load_gold('nowhere/rows.csv', POND), ['nowhere/rows.csv', 'no such file']),
    'part that nobody writes': (lambda: written_rows(POND, 'tset'), ["'train' or 'test'", "got 'tset'", "did you mean 'test'?"]),
    'task without tests': (lambda: written_rows(POND), ["'pond'", "no tests for 'frogs', 'herons'", 'tests = [']),
    'label without tests': (lambda: written_rows(with_tests(frogs=['A tiny one.'])), ["no tests for 'herons'", 'task file']),
    'rows of a label without demonstrations': (
        lambda: written_rows(no_herons(), 'train'), ["no demonstrations for 'herons'", 'demonstrations = [']),
    'nothing named': (lambda: load_gold(), ['no gold data was named']),
    'task without gold data': (lambda: load_gold(task=POND), ["'pond'", 'no gold data']),
}


@pytest.mark.parametrize('call, parts', BAD_CALLS.values(), ids=BAD_CALLS)
def test_bad_call_is_refused(call, parts):
    with pytest.raises(DataError) as refusal: call()
    for part in parts: assert part in str(refusal.value)


# ---- where gold data is

def test_parts_of_a_folder(tmp_path, monkeypatch):
    (tmp_path/'ponds').mkdir()
    for part in ['train', 'test']: write(tmp_path/'ponds'/f'{part}.csv', [{'text': part, 'label': 1}])
    for spec in [tmp_path/'ponds', 'ponds']:
        assert load_gold(spec, POND, 'train').to_list() == [{'id': 'train-2', 'text': 'train', 'label': 'herons'}]
        monkeypatch.setenv('SYNTHLAB_GOLD', str(tmp_path))
    with pytest.raises(DataError, match="no part 'tests'; the parts are test, train; did you mean 'test'"):
        load_gold('ponds', POND, 'tests')
    write(tmp_path/'ponds'/'test.jsonl', [{'text': 'again', 'label': 1}])
    with pytest.raises(DataError, match='test.csv, test.jsonl'): load_gold('ponds', POND)


def test_columns_by_name_and_by_task(tmp_path):
    path = write(tmp_path/'f.csv', [{'review': 'Hi', 'stars': '0', 'label_text': 'herons'}])
    assert load_gold(path, POND, text='review', label='stars')['label'][0] == 'frogs'
    named = POND.model_copy(update={'gold': POND.gold.model_copy(update={'name': str(path), 'text': 'review'})})
    assert load_gold(task=named)['label'][0] == 'herons'


def test_hub_dataset(monkeypatch):
    features = Features({'sentence': Value('string'), 'label': ClassLabel(names=['frogs', 'herons'])})
    asked = []
    def load_dataset(*name, split):
        asked.append((*name, split))
        return Dataset.from_dict({'sentence': ['Hi', 'Ho'], 'label': [1, -1 if split == 'test' else 0]}, features=features)
    monkeypatch.setattr(data, 'load_dataset', load_dataset)
    rows = load_gold('someone/ponds:small', POND, 'train', text='sentence')
    assert (rows['label'][:], asked) == (['herons', 'frogs'], [('someone/ponds', 'small', 'train')])
    with pytest.raises(DataError, match='someone/ponds/test: no column'): load_gold('someone/ponds', POND)
    with pytest.raises(DataError, match='row 2: label None is unknown'): load_gold('someone/ponds', POND, text='sentence')


def test_hub_error_is_passed_on(monkeypatch):
    def load_dataset(*name, split): raise ConnectionError('no network')
    monkeypatch.setattr(data, 'load_dataset', load_dataset)
    monkeypatch.delenv('SYNTHLAB_GOLD', raising=False)
    with pytest.raises(DataError, match='someone/ponds: no such file or folder, SYNTHLAB_GOLD is not set, .*no network'):
        load_gold('someone/ponds')


@gold
@pytest.mark.parametrize('name', SHOWN)
def test_gold_data_of_built_in_tasks(name):
    task = load_task(name)
    rows = load_gold(task=task)
    assert rows.column_names == ['id', 'text', 'label'] and set(rows['label']) <= set(task.label_names)
    assert len(rows) > 1000


# ---- tasks

@pytest.mark.parametrize('name', task_names())
def test_built_in_task_round_trips(name, tmp_path):
    task = load_task(name)
    (tmp_path/'task.toml').write_text(task.to_toml(), encoding='utf-8')
    assert load_task(tmp_path/'task.toml') == task == Task.from_toml(str(tmp_path/'task.toml'))
    demonstrations = [text for label in task.labels for text in label.demonstrations]
    assert len(set(demonstrations)) == len(demonstrations) == (0 if name in TARGETED else 5*len(task.labels))


def test_built_in_tasks_bring_examples_or_say_how_rows_are_written_without():
    assert set(task_names()) == {*SHOWN, *TARGETED} and not {*SHOWN} & {*TARGETED}
    for name, labels in TARGETED.items():
        task = load_task(name)
        assert task.targen and len(task.fields) > 1 and len(task.labels) == labels and all(label.description for label in task.labels)
        assert [len(label.demonstrations) + len(label.tests) for label in task.labels] == [0]*labels
        assert demonstration_pool(task) == {label: [] for label in task.label_names}
        for part in ('train', 'test'):
            with pytest.raises(DataError, match=f"task '{name}': no .* for '{task.label_names[0]}'"): written_rows(task, part)


@given(st.lists(texts, min_size=1, max_size=4))
@settings(max_examples=60, deadline=None)
def test_any_task_round_trips(values):
    label = Label(name='x', aliases=['y'], demonstrations=values)
    task = Task(name='my ' + re.sub(r'[\x00-\x1f\x7f-\x9f]', '', values[0]), instruction='{{ verbalisation }}', cue=values[-1], labels=[label])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)/'task.toml'
        path.write_bytes(task.to_toml().encode())
        assert load_task(path) == task


@given(st.lists(texts, max_size=4))
@settings(max_examples=60, deadline=None)
def test_any_tests_round_trip(values):
    tests = [f'{i}: {value}' for i, value in enumerate(values)]
    task = Task(name='t', instruction='{{ label }}', labels=[Label(name='x', demonstrations=['shown'], tests=tests)])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)/'task.toml'
        path.write_bytes(task.to_toml().encode())
        assert load_task(path) == task


MINIMAL = 'name = "t"\ninstruction = "{{ verbalisation }}"\n'
BAD_TASKS = {
    'unknown key': (MINIMAL + '[[labels]]\nname = "a"\nalias = ["0"]\n', ["unknown key 'labels[0].alias'", "did you mean 'aliases'?"]),
    'missing key': (
        'name = "t"\nfields = ["a", "b"]\n[[labels]]\nname = "a"\n', [
            "line 1: no key 'instruction'", 'several fields']),
    'no name and no labels': (
        'description = "t"\n', ["no key 'name', which every task needs", "no key 'labels', which every task needs"]),
    'key of two words': (
        MINIMAL + '"my key" = 3\n[[labels]]\nname = "a"\n', [
            "line 3: unknown key 'my key'", 'there are name, description']),
    'key of a label': (
        MINIMAL + 'aliases = ["0"]\n[[labels]]\nname = "a"\n', ["line 3: unknown key 'aliases' (a key of Label)"]),
    'one label as a table': (
        MINIMAL + '[labels]\nname = "a"\ndescription = "b"\n', [
            'line 3: labels must be a list, such as ["spam", "ham"]', "'name': 'a'"]),
    'labels in one string': (
        MINIMAL + 'labels = "a, b"\n', ['line 3: labels must be a list, such as ["spam", "ham"]', "'a, b'"]),
    'empty label name': ('name = "t"\nlabels = ["a", " "]\n', ["line 2: labels[1].name is empty: ' '"]),
    'names alike': ('name = "t"\nlabels = ["a", "A"]\n', ["'a' is a name of 2 labels: a, A"]),
    'label without a name': (MINIMAL + '[[labels]]\ndescription = "a"\n', ["no key 'labels[0].name'"]),
    'no labels': (MINIMAL + 'labels = []\n', ['at least one']),
    'two labels alike': (
        MINIMAL + '[[labels]]\nname = "caf\u00e9"\n[[labels]]\nname = "CAFE\u0301"\n', ['is a name of 2 labels']),
    'alias of two labels': (
        MINIMAL + '[[labels]]\nname = "a"\naliases = ["0"]\n[[labels]]\nname = "b"\naliases = ["0"]\n', ["'0' is a name of 2 labels: a, b"]),
    'empty demonstration': (
        MINIMAL + '[[labels]]\nname = "a"\ndemonstrations = ["b", " "]\n', ['labels[0].demonstrations[1] is empty']),
    'empty test': (
        MINIMAL + '[[labels]]\nname = "a"\ntests = ["b", "\u200b"]\n', ['labels[0].tests[1] is empty']),
    'test that is shown': (
        MINIMAL + '[[labels]]\nname = "a"\ndemonstrations = ["Hi  there."]\n[[labels]]\nname = "b"\ntests = ["hi there. "]\n', [
            "test 'hi there. ' of label 'b' is a demonstration of 'a' too", 'keep one']),
    'test that occurs twice': (
        MINIMAL + '[[labels]]\nname = "a"\ntests = ["caf\u00e9", "CAFE\u0301"]\n', ['occurs 2 times, under a;', 'keep one']),
    'test of two labels': (
        MINIMAL + '[[labels]]\nname = "a"\ntests = ["Hi"]\n[[labels]]\nname = "b"\ntests = ["Hi"]\n', [
            "test 'Hi' occurs 2 times, under a, b;"]),
    'not a list': (
        MINIMAL + '[[labels]]\nname = "a"\ndemonstrations = "b"\n', ['labels[0].demonstrations must be a list', "'b'"]),
    'no tokens': (MINIMAL + 'max_new_tokens = 0\n[[labels]]\nname = "a"\n', ['max_new_tokens must be at least 1, got 0']),
    'unknown name in a template': (
        'name = "t"\ninstruction = "{{ verbalization }}"\n[[labels]]\nname = "a"\n', ["'verbalization' is undefined", 'verbalisation']),
    'template that climbs': ('name = "t"\ninstruction = "{{ label.__class__ }}"\n[[labels]]\nname = "a"\n', ['unsafe']),
    'not TOML': ('name = t\n', ['not TOML', 'line 1']),
}


@pytest.mark.parametrize('content, parts', BAD_TASKS.values(), ids=BAD_TASKS)
def test_bad_task_is_refused(tmp_path, content, parts):
    path = tmp_path/'own.toml'
    path.write_text(content, encoding='utf-8')
    with pytest.raises(ValueError) as refusal: load_task(path)
    for part in ['own.toml', *parts]: assert part in str(refusal.value)


# ---- a task in two lines, and mistakes in Python

SPAM = Task(name='spam', labels=['spam', 'not_spam'])


def test_a_name_is_a_label():
    assert SPAM.label_names == ('spam', 'not_spam') and SPAM.find_label('NOT_SPAM') == 'not_spam'
    assert [label.verbalisation for label in SPAM.labels] == ['spam', 'not spam']
    told = ['A text that belongs under "spam".', 'A text that belongs under "not spam".']
    assert [label.description for label in SPAM.labels] == told
    assert SPAM.write_instruction('not_spam') == 'Write a short text with the label "not spam".'
    assert SPAM.ask_instruction() == 'Which label fits this text: spam, not_spam?' and SPAM.cue == 'Text:'
    assert Task(name='n', labels=[0, 1]).label_names == ('0', '1')
    for names in (('spam', 'not_spam'), iter(['spam', 'not_spam']), {'spam': '', 'not_spam': None}):
        assert Task(name='spam', labels=names) == SPAM


def test_labels_as_a_table():
    told = {'spam': 'Advertising.', 'ham': {'description': 'Other mail.', 'demonstrations': ['See you at six.']}}
    task = Task(name='mail', description='Kind of a mail', labels=told)
    assert task.label('ham').demonstrations == ('See you at six.',) and task.label('spam').description == 'Advertising.'
    asked = 'Write a short text with the label "spam" (Kind of a mail). That means: Advertising.'
    assert task.write_instruction('spam') == asked
    bare = Task(name='mail', labels=[Label(name='ham')])
    assert bare.write_instruction('ham') == 'Write a short text with the label "ham".'


def test_a_label_in_full_and_an_instruction_stay_as_they_are():
    assert Label(name='not_spam') == Label(name='not_spam', verbalisation='not_spam', description='')
    task = Task(name='t', instruction='About {{ verbalisation }}.', labels=['not_spam', Label(name='ham')])
    assert [task.write_instruction(name) for name in task.label_names] == ['About not spam.', 'About ham.']


def test_a_short_task_is_a_whole_one(tmp_path):
    (tmp_path/'spam.toml').write_text('name = "spam"\nlabels = ["spam", "not_spam"]\n', encoding='utf-8')
    copies = [pickle.loads(pickle.dumps(SPAM)), copy.deepcopy(SPAM), Task(**SPAM.model_dump()),
              Task.model_validate(SPAM), Task.model_validate_json(SPAM.model_dump_json()), load_task(tmp_path/'spam.toml')]
    assert copies == [SPAM]*len(copies)
    assert len({SPAM, Task(**SPAM.model_dump())}) == 1
    (tmp_path/'whole.toml').write_text(SPAM.to_toml(), encoding='utf-8')
    assert load_task(tmp_path/'whole.toml') == SPAM


@pytest.mark.parametrize('recipe', [Recipe.simprompt(), Recipe.fewgen(shots=0), Recipe.targen(correct='none')],
                         ids=lambda recipe: recipe.name)
def test_a_short_task_goes_with_recipes_that_need_no_examples(tmp_path, recipe):
    rows = recipe.generate(SPAM, n=4, out=tmp_path/'run', teacher=ScriptedTeacher())
    assert Counter(rows['label']) == {'spam': 2, 'not_spam': 2} and all(rows['text'])


@pytest.mark.parametrize('recipe', [Recipe.fewgen(shots=0), Recipe.corrsynth(shots=0)], ids=lambda recipe: recipe.name)
def test_a_short_task_goes_with_a_local_teacher(tmp_path, recipe):
    teacher, sampling = CausalTeacher('pocket'), Sampling(max_new_tokens=12)
    rows = recipe.generate(SPAM, n=2, out=tmp_path/'run', teacher=teacher, sampling=sampling)
    assert sorted(rows['label']) == ['not_spam', 'spam']


def test_a_task_without_examples_says_what_few_shots_need(tmp_path):
    with pytest.raises(DataError) as refusal:
        Recipe.fewgen(shots=3).generate(SPAM, n=2, out=tmp_path/'run', teacher=ScriptedTeacher())
    for part in ("3 demonstrations of label 'spam', which has 0", 'write some into the task', 'gold=', 'shots=0'):
        assert part in str(refusal.value)


PYTHON = {
    'unknown key': (
        lambda: Task(name='t', labls=['a']),
        ["unknown key 'labls'; did you mean 'labels'?", "no key 'labels', which every task needs"]),
    'unknown key of a label': (lambda: Label(name='a', alias=['0']), ["unknown key 'alias'; did you mean 'aliases'?"]),
    'unknown key within': (
        lambda: Task(name='t', labels=[{'name': 'a', 'alias': ['0']}]),
        ["unknown key 'labels[0].alias'; did you mean 'aliases'?"]),
    'key of another class': (lambda: Label(name='a', instruction='x'), ["unknown key 'instruction' (a key of Task)"]),
    'key near one here and one elsewhere': (
        lambda: Task(name='t', label=['a']), ["unknown key 'label' (a key of GoldSource); did you mean 'labels'?"]),
    'key like no other': (
        lambda: Check(that='x', message='y', zzz=1), ["unknown key 'zzz'; there are that, message, labels"]),
    'missing key': (lambda: Label(), ["no key 'name', which every label needs"]),
    'nothing at all': (lambda: Targeted(), ["no key 'contexts'", "no key 'seeds'", "no key 'write'"]),
    'by position': (lambda: Label('a'), ["given by its name: write Label(name='a', ...)"]),
    'a set': (
        lambda: Task(name='t', labels={'b', 'a'}), ["a set, which has no order: give a list, such as ['a', 'b']"]),
    'one string': (
        lambda: Task(name='t', labels='a, b'), ['labels must be a list, such as ["spam", "ham"], got \'a, b\'']),
    'no label': (
        lambda: Task(name='t', labels=['a', None]), ['labels[1] must be a table of keys, or a name alone, got None']),
    'truth values': (lambda: Task(name='t', labels=[True, False]), ['labels[0] must be', 'got True']),
    'texts for a label': (
        lambda: Task(name='t', labels={'a': ['One.']}), ["labels[0].description must be a string, got ['One.']"]),
    'one text': (lambda: Label(name='a', demonstrations='One.'), ["demonstrations must be a list, got 'One.'"]),
    'empty text': (lambda: Label(name='a', tests=['One.', ' ']), ["tests[1] is empty: ' '"]),
    'no whole number': (
        lambda: Task(name='t', labels=['a'], max_new_tokens=1.5), ['max_new_tokens must be a whole number, got 1.5']),
    'a choice': (
        lambda: Targeted(contexts='a', seeds='b', seed={'x': 'y'}, write={'z': 'y'}, labels_per_seed='two'),
        ["labels_per_seed must be 'one' or 'all', got 'two'"]),
    'a part': (lambda: Part(meaning='x', longest=0), ['longest must be at least 1, got 0']),
    'a part of a table': (
        lambda: Targeted(contexts='a', seeds='b', seed={'my-part': {'meaning': 'x', 'lngest': 3}}, write={'z': 'y'}),
        ["unknown key 'seed.my-part.lngest'; did you mean 'longest'?"]),
    'an attribute': (lambda: Attribute(meaning='x', values='y'), ["values must be a list, got 'y'"]),
    'gold': (lambda: GoldSource(colum='x'), ["unknown key 'colum'; there are name, hub, text, label"]),
    'a template': (
        lambda: Task(name='t', labels=['a'], instruction='{{ lable }}'),
        ["instruction template '{{ lable }}': 'lable' is undefined; it may use verbalisation, label"]),
    'another type': (lambda: Task.model_validate(['a']), ["must be a table of keys, got ['a']"]),
    'no JSON': (lambda: Task.model_validate_json('{'), ['Invalid JSON']),
    'a new value': (lambda: setattr(SPAM, 'name', 'ham'), ['name is frozen', 'make another Task']),
    'a new attribute': (lambda: setattr(SPAM, 'nmae', 'ham'), ['nmae']),
    'no value': (lambda: delattr(SPAM, 'name'), ['name is frozen'])}


@pytest.mark.parametrize('call, parts', PYTHON.values(), ids=PYTHON)
def test_a_mistake_in_python_is_told_plainly(call, parts):
    with pytest.raises(ValueError) as refusal: call()
    told = str(refusal.value)
    for part in parts: assert part in told, told
    assert type(refusal.value) is ValueError and refusal.value.__suppress_context__ or refusal.value.__context__ is None
    for raw in ('pydantic', 'validation error', 'input_value', 'Input should'): assert raw not in told, told


def test_unknown_task_lists_the_names():
    with pytest.raises(ValueError, match="no task 'agnews'; did you mean 'ag_news'.*" + ', '.join(task_names())): load_task('agnews')


def test_tasks_load_from_a_zip(tmp_path):
    with zipfile.ZipFile(tmp_path/'package.zip', 'w') as package:
        for path in [*(ROOT/'synthlab').rglob('*.py'), *(ROOT/'synthlab'/'resources'/'tasks').iterdir()]:
            package.write(path, path.relative_to(ROOT))
    code = "from synthlab.tasks import task as tasks; print(tasks.__file__, *map(tasks.load_task, tasks.task_names()))"
    shown = subprocess.run([sys.executable, '-c', code], env=os.environ | {'PYTHONPATH': str(tmp_path/'package.zip')}, cwd=tmp_path,
                           capture_output=True, text=True, encoding='utf-8', check=True).stdout
    assert shown.startswith(str(tmp_path/'package.zip')) and shown.count('GoldSource(') == len(task_names())


# ---- counts and seeds

names = st.lists(st.text(min_size=1, max_size=3), min_size=1, max_size=12, unique=True)
weights = st.floats(0, 1e6, allow_nan=False) | st.integers(0, 1000)


@given(names, st.integers(0, 10_000))
@settings(deadline=None)
def test_balanced_counts(labels, n):
    counts = label_counts(labels, n)
    assert list(counts) == labels and sum(counts.values()) == n
    assert max(counts.values()) - min(counts.values()) <= 1
    assert list(counts.values()) == sorted(counts.values(), reverse=True)


@given(names, st.integers(0, 10_000), st.data())
@settings(deadline=None)
def test_proportional_counts(labels, n, draws):
    shares = draws.draw(st.fixed_dictionaries({label: weights for label in labels}).filter(lambda d: any(d.values())))
    counts, total = label_counts(labels, n, shares), sum(shares.values())
    assert sum(counts.values()) == n and counts == label_counts(labels, n, dict(reversed(shares.items())))
    for label in labels:
        assert abs(counts[label] - n*shares[label]/total) < 1 + 1e-6
        assert shares[label] or not counts[label]


@pytest.mark.parametrize('n, proportions, part', [
    (-1, None, 'got -1'), (3, {'a': 1}, "'b' is missing"), (3, {'a': 1, 'b': 1, 'c': 1}, "'c' is none of them"),
    (3, {'a': 1, 'b': -1}, 'got -1'), (3, {'a': 0, 'b': 0}, 'must not all be 0'), (3, {'a': 1, 'b': float('inf')}, 'got inf')])
def test_bad_counts_are_refused(n, proportions, part):
    with pytest.raises(ValueError, match=part): label_counts(['a', 'b'], n, proportions)


keys = st.lists(st.integers() | st.text(), max_size=4)


@given(st.integers(), keys, keys)
@settings(deadline=None)
def test_seeds_are_names(seed, one, other):
    assert 0 <= derive_seed(seed, *one) < 2**63 and derive_seed(seed, *one) == derive_seed(seed, *one)
    assert (derive_seed(seed, *one) == derive_seed(seed, *other)) == (one == other)


def test_seeds_are_the_same_in_every_process():
    code = "from synthlab.util import derive_seed; print(derive_seed(7, 'group', 3, 'é'))"
    def answer(hash_seed):
        environment = os.environ | {'PYTHONHASHSEED': hash_seed, 'PYTHONPATH': str(ROOT)}
        return int(subprocess.run([sys.executable, '-c', code], env=environment, capture_output=True, check=True).stdout)
    found = {answer('1'), answer('2')}
    assert found == {derive_seed(7, 'group', 3, 'é')} == {5419788905954630510}


def test_seeds_are_spread_evenly():
    leading = Counter(derive_seed(0, 'group', g) >> 59 for g in range(16_000))
    assert len(leading) == 16 and all(abs(count - 1000) < 5*31 for count in leading.values())


# ---- demonstrations

def test_draws_are_without_replacement_and_repeatable():
    pool = {'frogs': [{'id': str(i), 'text': 'x'} for i in range(9)]}
    drawn = [[row['id'] for row in draw_demonstrations(pool, 'frogs', 9, np.random.default_rng(seed))] for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2] and sorted(drawn[0]) == sorted(drawn[2]) == list('012345678')


def test_pool_keeps_some_of_each_label():
    rows = Dataset.from_dict({'id': [str(i) for i in range(40)], 'text': ['x']*40, 'label': ['frogs', 'herons']*20})
    pools = [demonstration_pool(POND, rows, per_label=5, seed=seed) for seed in (0, 0, 1)]
    assert pools[0] == pools[1] != pools[2]
    assert {label: len(kept) for label, kept in pools[0].items()} == {'frogs': 5, 'herons': 5}


# ---- texts written by hand

def word_runs(text, size=6):
    "The runs of so many words in a row."
    words = re.findall(r"[\w']+", text.casefold())
    return {tuple(words[i:i + size]) for i in range(len(words) - size + 1)}


@pytest.mark.parametrize('name, per_label', [
    ('ag_news', 25), ('imdb', 15), ('sst2', 15), ('humor', 15), ('toi_headlines', 8), ('amazon_category', 4)])
def test_built_in_tests_are_so_many_of_each_label(name, per_label):
    task = load_task(name)
    assert Counter(written_rows(task)['label']) == dict.fromkeys(task.label_names, per_label)
    assert Counter(written_rows(task, 'train')['label']) == dict.fromkeys(task.label_names, 5)


def test_word_runs():
    assert word_runs("It's a B, c: d e f") == {("it's", 'a', 'b', 'c', 'd', 'e'), ('a', 'b', 'c', 'd', 'e', 'f')}


def test_built_in_tests_share_no_six_words_with_another_text():
    first = {}
    for task in map(load_task, SHOWN):
        rows = [*written_rows(task, 'train'), *written_rows(task)]
        for row in rows:
            for run in word_runs(row['text']):
                other = first.setdefault(run, row['id'])
                assert other == row['id'] or '/test/' not in other + row['id'], (' '.join(run), other, row['id'])


@pytest.mark.parametrize('name', SHOWN)
def test_built_in_tests_do_not_name_their_label(name):
    for row in written_rows(load_task(name)):
        named = re.search(rf"\b{re.escape(row['label'].replace('_', ' '))}\b", row['text'], re.IGNORECASE)
        assert not named, row


def test_no_prompt_shows_a_test():
    for task in map(load_task, SHOWN):
        pool, tests = demonstration_pool(task), set(written_rows(task)['text'])
        for label, rows in pool.items():
            shown = str(messages(task, label, [row['text'] for row in rows]))
            assert not [text for text in tests if text in shown]


def test_written_rows_have_ids_of_their_own():
    task = with_tests(frogs=['A tiny one.', 'A warty one.'], herons=['It flew.'])
    assert written_rows(task).to_list() == [
        {'id': 'pond/frogs/test/0', 'text': 'A tiny one.', 'label': 'frogs'},
        {'id': 'pond/frogs/test/1', 'text': 'A warty one.', 'label': 'frogs'},
        {'id': 'pond/herons/test/0', 'text': 'It flew.', 'label': 'herons'}]
    pool = demonstration_pool(task)
    assert written_rows(task, 'train').to_list() == [{**row, 'label': label} for label, rows in pool.items() for row in rows]


def test_classes_of_a_file_are_read_by_name(tmp_path):
    "Hugging Face's libraries store the names in the schema of the file; without them numbers stay numbers."
    import pyarrow.parquet as pq
    rows = Dataset.from_dict({'text': ['A frog.', 'A heron.', 'Hidden.'], 'label': [0, 1, -1]}, features=Features({'text': Value('string'), 'label': ClassLabel(names=['frogs', 'herons'])}))
    rows.to_parquet(tmp_path/'named.parquet')
    assert read_table(tmp_path/'named.parquet').columns['label'] == ['frogs', 'herons', None]
    assert list(load_gold(write(tmp_path/'two.parquet', [{'text': 'A frog.', 'label': 'frogs'}]), POND)['label']) == ['frogs']
    pq.write_table(pq.read_table(tmp_path/'named.parquet').replace_schema_metadata(None), tmp_path/'bare.parquet')
    assert read_table(tmp_path/'bare.parquet').columns['label'] == [0, 1, -1]
