"The rows of a run show themselves, whatever a model wrote into them, survive what datasets does, and divide without copies."
import json
import re
import warnings
import zlib
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset, concatenate_datasets, load_dataset
from hypothesis import given, settings
from hypothesis import strategies as st
from synthlab import LabelledDataset
from synthlab.cli.main import main
from synthlab.measure.parts import bundles, validation_rows
from synthlab.run.produce import export_run
from synthlab.store.runs import Run, RunError, read_rows
from synthlab.tasks.gold import named_classes, read_table
from synthlab.tasks.task import load_task

NEWS = load_task('ag_news')
HOSTILE = '</td></table><img src=x onerror="alert(1)"><script>alert(2)</script>{{ 7*7 }} [a](javascript:b) \ud83d \u202e'
WORDS = 'oak elm ash fir yew fig bay box may rue ivy nut bud pea oat rye hay hop pip sap'.split()


def texts_of(label): return [f'{label} {word} {word[::-1]} {i} goes on' for i, word in enumerate(WORDS)]


def fill(out, rows=8, text=None, n=None, task=NEWS, finish=True):
    "A run of groups with one row of each label."
    names, recipe = task.label_names, {'n': n or rows*len(task.labels), 'seed': 0, 'method': {'name': 'fewgen'}, 'teacher': {'name': 'toy'}, 'task': task.model_dump(mode='json')}
    with Run(out, json.loads(json.dumps(recipe))) as run:
        run.add_many({g: [{'id': f'{g}-{m}', 'text': text or texts_of(name)[g % 20], 'label': name, 'group': g, 'member': m, 'status': 'accepted', 'reason': ''} for m, name in enumerate(names)] for g in range(rows)})
        if finish: run.finish()
    return out


class Letters:
    "Vectors of letter runs, for what need not know meanings."
    name, dimension = 'letters', 256

    def encode(self, texts, progress=None):
        found = np.full((len(texts), 256), 1e-6, np.float32)
        for i, text in enumerate(texts):
            for j in range(len(text)): found[i, zlib.crc32(text[j:j + 3].encode()) % 256] += 1
        return found/np.linalg.norm(found, axis=1, keepdims=True)


class Marks(HTMLParser):
    "Tags and attributes of a page."
    def __init__(self, page):
        super().__init__()
        self.tags, self.attributes = Counter(), set()
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags[tag] += 1
        self.attributes |= {name for name, _ in attributes}


# ---- how they look

def test_texts_and_names_of_a_run_are_data(tmp_path):
    task = NEWS.model_copy(update={'name': '<b>task</b>', 'labels': [label.model_copy(update={'name': f'<i>{label.name}</i>'}) for label in NEWS.labels]})
    rows = LabelledDataset.of_run(fill(tmp_path/'run', text=HOSTILE, task=task))
    page = rows._repr_html_()
    marks = Marks(page)
    assert set(marks.tags) == {'div', 'p', 'b', 'bdi', 'br', 'code', 'table', 'thead', 'tbody', 'tr', 'th', 'td', 'details', 'summary'} and marks.tags['table'] == 2 and marks.tags['b'] == 1
    assert marks.attributes == {'style', 'scope'} and '{{ 7*7 }}' in page and page.encode()
    assert 'World' in repr(rows) and '<script' not in repr(rows)


def test_pages_are_small_whatever_the_run(tmp_path):
    task = NEWS.model_copy(update={'labels': [NEWS.labels[0].model_copy(update={'name': f'label {k}'}) for k in range(60)]})
    page = LabelledDataset.of_run(fill(tmp_path/'run', rows=3, text='word '*500, task=task))._repr_html_()
    assert len(page) < 20_000 and '48 more labels' in page and max(map(len, re.findall('(?:word ?)+', page))) <= 300


def test_what_is_missing_is_light_and_the_report_is_linked(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = LabelledDataset.of_run(fill(Path('run'), rows=2, n=16))
    assert (rows.counts, rows.wanted) == (dict.fromkeys(NEWS.label_names, 2), dict.fromkeys(NEWS.label_names, 4))
    assert rows._repr_html_().count('█'*8 + '░'*8 + '<') == 4 and rows.report is None and 'href' not in rows._repr_html_()
    Path('run/report.html').write_text('a page')
    assert rows.report == Path('run/report.html') and 'href="run/report.html"' in rows._repr_html_()
    assert '8 of 16 rows of ag_news' in repr(rows) and 'World 2, Sports 2' in repr(rows)


# ---- what datasets does with them

def test_they_stay_a_dataset(tmp_path):
    rows = LabelledDataset.of_run(fill(tmp_path/'run'))
    assert isinstance(rows, Dataset) and (rows[0]['label'], len(rows)) == ('World', 32) and rows.to_list() == list(read_rows(tmp_path/'run'))
    assert rows.to_pandas().label.value_counts().to_dict() == dict.fromkeys(NEWS.label_names, 8)
    for made in (rows.map(lambda row: {'n': len(row['text'])}), rows.select([3, 1]), rows.shuffle(seed=0), rows.train_test_split(.5, seed=0)['test'], concatenate_datasets([rows, rows])): assert type(made) is Dataset
    sport = rows.filter(lambda row: row['label'] == 'Sports')
    assert sport.counts == {'World': 0, 'Sports': 8, 'Business': 0, 'Sci/Tech': 0} and '8 of 32 rows' in repr(sport)
    for other in (rows.rename_column('text', 'body'), rows.remove_columns('label'), rows.with_format('numpy')): assert repr(other).startswith('Dataset(') and other._repr_html_().startswith('<pre>')
    assert rows.cast_column('label', named(tmp_path))['label'][:2] == [0, 1]
    for changed in (sport, LabelledDataset(rows.data)):
        with pytest.raises(ValueError, match='not the rows of a run as it wrote them'): changed.evaluate()
    with pytest.raises(RunError, match='synthlab resume'): LabelledDataset.of_run(fill(tmp_path/'begun', finish=False))


def named(folder): return load_dataset('parquet', data_files=str(folder/'run'/'dataset.parquet'), split='train', cache_dir=str(folder/'cache')).features['label']


def test_they_measure_themselves(tmp_path):
    rows = LabelledDataset.of_run(fill(tmp_path/'run', rows=3))
    record = rows.evaluate(student=None, progress=False, embedder=Letters())
    assert record['counts']['accepted'] == rows.counts and rows.report == tmp_path/'run'/'report.html' and (tmp_path/'run'/'metrics.json').exists()


# ---- classes in the file

def test_a_file_has_numbers_with_names_in_the_order_of_the_task(tmp_path):
    fill(tmp_path/'run')
    classes = named(tmp_path)
    assert classes.names == ['World', 'Sports', 'Business', 'Sci/Tech'] and classes.int2str(1) == 'Sports'
    table = read_table(tmp_path/'run'/'dataset.parquet')
    assert table.columns['label'][:4] == classes.names                                             # our own readers know the names
    card = (tmp_path/'run'/'README.md').read_text()
    assert 'class_label' in card and 'int2str' in card and "'3': Sci/Tech" in card


def test_the_lines_of_the_card_load_the_rows(tmp_path, monkeypatch):
    "What the card says under Load it is run as it stands."
    for folder, share in (('whole', None), ('parts', .25)):
        export_run(fill(tmp_path/folder/'run'), 'parquet', tmp_path/folder/'sent', validation=share)
        monkeypatch.chdir(tmp_path/folder/'sent')
        monkeypatch.setenv('HF_DATASETS_CACHE', str(tmp_path/'cache'))
        lines = re.search(r'## Load it\n\n((?:    .*\n)+)', Path('README.md').read_text())[1]
        names = {}
        exec('\n'.join(line[4:] for line in lines.splitlines()).replace('"parquet", ', f'"parquet", cache_dir={str(tmp_path/"cache")!r}, ').replace('rows.features', 'name = rows.features'), names)
        assert names['name'] == names['rows'].features['label'].names[names['rows'][0]['label']] and names['rows'].num_rows == (32 if share is None else 24)


# ---- parts

@settings(max_examples=40)
@given(st.lists(st.tuples(st.sampled_from(WORDS[:6]), st.sampled_from('ab'), st.integers(0, 5)), min_size=4, max_size=40), st.sampled_from([.1, .3, .5]), st.integers(0, 3))
def test_no_copy_is_on_both_sides(rows, share, seed):
    words, labels, groups = zip(*rows)
    texts = [f'{word} {word[::-1]} {word*2} and more' for word in words]
    with warnings.catch_warnings(action='ignore'):
        try: taken = validation_rows(texts, labels, groups, share, seed)
        except ValueError: return
    assert not {texts[i] for i in np.flatnonzero(taken)} & {texts[i] for i in np.flatnonzero(~taken)}
    for label, count in Counter(labels).items(): assert sum(own and found == label for own, found in zip(taken, labels)) <= max(1, round(share*count))


def test_near_copies_are_one_bundle_by_chains():
    middle = ' '.join(f'word{i}' for i in range(30))
    chain = [f'{start} {middle} {end}' for start, end in (('at first', 'and last'), ('at first', 'or never'), ('in time', 'or never'))]
    assert bundles(chain + ['else where']).tolist() == [0, 0, 0, 3] and bundles([chain[0], chain[2]]).tolist() == [0, 1]
    assert bundles([chain[0], chain[2], chain[1]]).tolist() == [0, 0, 0]                           # the one that joins two comes last


def test_groups_stay_whole_where_that_can_be():
    texts, labels, groups = zip(*((text, label, i) for label in 'ab' for i, text in enumerate(texts_of(label))))
    taken = validation_rows(texts, labels, groups, .2)
    assert taken.sum() == 8 and len({group for group, own in zip(groups, taken) if own}) == 4
    alone = validation_rows(texts, labels, ['one group']*40, .2)
    assert Counter(label for label, own in zip(labels, alone) if own) == {'a': 4, 'b': 4}
    assert (taken == validation_rows(texts, labels, groups, .2)).all() and (taken != validation_rows(texts, labels, groups, .2, seed=1)).any()


def test_labels_that_cannot_give_enough_are_told():
    with pytest.warns(UserWarning, match='fewer rows than asked of 1 of 2 labels.*b 1'): validation_rows([*texts_of('a'), *['the same text again']*10], ['a']*20 + ['b']*10, validation=.1)
    with pytest.raises(ValueError, match='no validation rows can be drawn from 4 rows'): validation_rows(['x y z w']*4, ['a']*4)


@pytest.mark.parametrize('form, files', [('parquet', ['train.parquet', 'validation.parquet']), ('csv', ['train.csv', 'validation.csv']), ('jsonl', ['train.jsonl', 'validation.jsonl']), ('text-to-text', ['text-to-text-train.jsonl', 'text-to-text-validation.jsonl'])])
def test_an_export_in_parts(tmp_path, form, files):
    out = fill(tmp_path/'run', rows=20)
    written = export_run(out, form, tmp_path/'sent', validation=.2, seed=3)
    assert [path.name for path in written] == [*files, 'README.md', 'recipe.toml'] and {path.name for path in (tmp_path/'sent').iterdir()} == {*files, 'README.md', 'recipe.toml'}
    card = (tmp_path/'sent'/'README.md').read_text()
    assert '| World | 16 | 4 |' in card and f'path: {files[1]}' in card and 'split: validation' in card
    if form == 'text-to-text': return
    found = {part: [row['id'] for row in read_table(tmp_path/'sent'/file).rows] for part, file in zip(('train', 'validation'), files)}
    parts = LabelledDataset.of_run(out).parts(.2, seed=3)
    assert found == {part: rows['id'][:] for part, rows in parts.items()} and sorted(found['train'] + found['validation']) == sorted(row['id'] for row in read_rows(out))


def test_the_card_loads_both_parts(tmp_path):
    export_run(fill(tmp_path/'run'), 'parquet', tmp_path/'sent', validation=.25)
    parts = load_dataset(str(tmp_path/'sent'), cache_dir=str(tmp_path/'cache'))
    assert {part: rows.num_rows for part, rows in parts.items()} == {'train': 24, 'validation': 8} and parts['validation'].features['label'].names == list(NEWS.label_names)
    assert named_classes(parts['train'].data.table)['label'][0].as_py() in NEWS.label_names


def test_parts_on_the_command_line(tmp_path, capsys):
    out = str(fill(tmp_path/'run'))
    assert main(['export', out, '--validation', '.25', '--seed', '1', '--to', str(tmp_path/'sent')]) == 0 and 'validation.parquet' in capsys.readouterr().out
    for words, said in ((['--validation', '1.5'], 'validation must be a share of the rows'), (['--seed', '1'], '--seed goes with --validation')):
        assert main(['export', out, *words, '--to', str(tmp_path/'not')]) == 2 and said in ' '.join(capsys.readouterr().err.split())
    assert not (tmp_path/'not').exists()
