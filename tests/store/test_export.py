"A dataset leaves as files that other libraries read back, and goes to the Hub with nothing beside it."
import csv
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
from hub_stand_in import Hub
from huggingface_hub import DatasetCard
from hypothesis import given
from hypothesis import strategies as st
from synthlab.store.export import HUB_FILES, class_features, columns, dataset_card, write_csv, write_jsonl, write_parquet

ROOT = Path(__file__).parents[2]
RECIPE = {'n': 8, 'seed': 0, 'method': {'name': 'corrsynth', 'delta': 0.9}, 'teacher': {'name': 'toy'},
          'task': {'name': 'pets', 'labels': [{'name': 'wild'}, {'name': 'pets'}]}}
COUNTS = {'candidates': 10, 'accepted': {'wild': 4, 'pets': 4}, 'rejected': {'empty text': 2}, 'failed': {}}
HOSTILE = ['```\n---\nlicense: mit\n---\n<script>alert(1)</script> | {{ 7*7 }} [b]', '    # heading\r\n| a | b |', '\u2028naïve 猫 \u202e\U0001f980', 'cut \ud83d off', '{% raw %}']
TEXTS = st.text(st.characters(), max_size=20)
VALUES = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | TEXTS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3), max_leaves=6)
ROWS = st.lists(st.dictionaries(st.sampled_from(['id', 'text', 'label', 'kl', 'demos', 'sampling']), VALUES), max_size=6)


def whole(text): return text.encode('utf-16', 'surrogatepass').decode('utf-16', 'replace')


def plain(value):
    "What is left of a value in strict JSON and UTF-8."
    if isinstance(value, float) and not math.isfinite(value): return None
    if isinstance(value, str): return whole(value)
    if isinstance(value, dict): return {whole(k): plain(v) for k, v in value.items()}
    return [plain(v) for v in value] if isinstance(value, list) else value


# ---- files

@given(ROWS)
def test_jsonl_reads_back(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp('jsonl')/'rows.jsonl'
    write_jsonl(iter(rows), path)
    assert [json.loads(line) for line in path.read_text(encoding='utf-8').split('\n')[:-1]] == [plain(row) for row in rows]


@given(ROWS)
def test_no_rows_are_too_odd_for_a_file(tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp('odd')
    write_parquet(lambda: rows, folder/'rows.parquet')
    write_csv(lambda: rows, folder/'rows.csv')
    table = pq.read_table(folder/'rows.parquet')
    assert table.num_rows == len(rows) and table.column_names == list(columns(rows))
    with open(folder/'rows.csv', encoding='utf-8', newline='') as file: assert len(list(csv.reader(file))) == 1 + len(rows)


@given(st.lists(st.fixed_dictionaries({'id': st.integers(-2**63, 2**63 - 1), 'text': TEXTS, 'kl': st.floats(allow_nan=False), 'ok': st.booleans(), 'demos': st.lists(TEXTS, max_size=2),
                                       'sampling': st.fixed_dictionaries({'top_p': st.floats(0, 1), 'tags': st.lists(st.integers(0, 9))})}), min_size=1, max_size=8))
def test_values_that_go_together_keep_their_type(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp('typed')/'rows.parquet'
    write_parquet(lambda: rows, path)
    def mended(row): return row | {'text': whole(row['text']), 'demos': [whole(demo) for demo in row['demos']], 'label': None}
    assert pq.read_table(path).to_pylist() == [mended(row) for row in rows]


def test_columns_that_fill_late_and_rows_in_groups(tmp_path):
    rows = [{'id': str(i), 'demos': []} for i in range(12_000)] + [{'id': 'late', 'demos': ['pets/0'], 'attributes': {'tone': 'dry'}, 'kl': 3}, {'kl': 0.5}]
    write_parquet(lambda: rows, tmp_path/'rows.parquet')
    file = pq.ParquetFile(tmp_path/'rows.parquet')
    table = file.read()
    assert file.num_row_groups == 3 and table.num_rows == 12_002
    assert table.column('demos')[0].as_py() == [] and table.column('demos')[12_000].as_py() == ['pets/0']
    assert table.column('attributes')[12_000].as_py() == {'tone': 'dry'} and table.column('kl').to_pylist()[-2:] == [3.0, 0.5]


def test_pandas_and_datasets_read_the_files(tmp_path):
    from datasets import load_dataset
    rows = [{'id': str(i), 'text': f'Line one,\nline "two" {i}\rthree', 'label': 'pets', 'n': i, 'demos': [str(i)]} for i in range(5)]
    for write, name in ((write_csv, 'rows.csv'), (write_parquet, 'rows.parquet')): write(lambda: rows, tmp_path/name)
    write_jsonl(rows, tmp_path/'rows.jsonl')
    assert pd.read_csv(tmp_path/'rows.csv', dtype={'id': str}).assign(demos=lambda f: f.demos.map(json.loads)).to_dict('records') == rows
    for kind in ('json', 'parquet'):
        file = str(tmp_path/f"rows.{'jsonl' if kind == 'json' else kind}")
        assert load_dataset(kind, data_files=file, split='train', cache_dir=str(tmp_path/'cache')).to_list() == rows


@pytest.mark.parametrize('text', ['=HYPERLINK("http://x")', '+1', '-2+3', '@SUM(A1)', '\t=1', '\r=1', '\n=1', '＝1', "-- a dialogue's line"])
def test_no_cell_of_a_spreadsheet_acts(tmp_path, text):
    rows = [{'id': 'a', 'text': text, 'label': text, 'kl': -0.5, text: 1}]
    for formulas in (False, True): write_csv(lambda: rows, tmp_path/f'{formulas}.csv', formulas)
    def cells(name):
        with open(tmp_path/name, encoding='utf-8', newline='') as file: return list(csv.reader(file))
    assert cells('True.csv') == [['id', 'text', 'label', 'kl', text], ['a', text, text, '-0.5', '1']]
    assert cells('False.csv') == [['id', 'text', 'label', 'kl', f"'{text}"], ['a', f"'{text}", f"'{text}", '-0.5', '1']]


def test_a_writer_that_fails_leaves_what_was_there(tmp_path):
    def rows():
        yield {'id': 'a'}
        raise ZeroDivisionError
    for write, name in ((write_csv, 'rows.csv'), (write_parquet, 'rows.parquet'), (lambda rows, path: write_jsonl(rows(), path), 'rows.jsonl')):
        (tmp_path/name).write_text('before')
        with pytest.raises(ZeroDivisionError): write(rows, tmp_path/name)
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == dict.fromkeys(['rows.csv', 'rows.parquet', 'rows.jsonl'], 'before')


def test_labels_are_numbers_with_names_where_all_are_known(tmp_path):
    rows = [{'id': str(i), 'text': f'A cat, {i}.', 'label': 'pets' if i % 3 else 'wild', 'demos': ['a'], 'sampling': {'top_p': .9}} for i in range(12_000)]
    write_parquet(lambda: rows, tmp_path/'rows.parquet', ['wild', 'pets', 'none'])
    file, features = pq.ParquetFile(tmp_path/'rows.parquet'), class_features(tmp_path/'rows.parquet')
    assert file.num_row_groups == 3 and features['label'].names == ['wild', 'pets', 'none'] and [features['label'].names[k] for k in file.read()['label'].to_pylist()] == [row['label'] for row in rows]
    assert features['demos'].feature.dtype == 'string' and pd.read_parquet(tmp_path/'rows.parquet').label[:3].tolist() == [0, 1, 1]
    for odd in ({'label': 'other'}, {'label': None}, {}):                      # none of the names: the column keeps its words
        write_parquet(lambda: [*rows[:2], odd], tmp_path/'odd.parquet', ['wild', 'pets'])
        assert pq.read_table(tmp_path/'odd.parquet')['label'].to_pylist() == ['wild', 'pets', odd.get('label')] and not hasattr(class_features(tmp_path/'odd.parquet')['label'], 'names')


# ---- the card

def test_card_is_metadata_and_counts():
    card = dataset_card(RECIPE | {'teacher': {'name': 'toy', 'licence': 'apache-2.0'}}, COUNTS, {'pets': 'A cat.'},
                        {'calls': 5, 'failed': 1, 'prompt_tokens': 90, 'completion_tokens': 8, 'cost': None})
    data = card.data.to_dict()
    assert data['task_categories'] == ['text-classification'] and data['size_categories'] == 'n<1K' and data['license'] == 'unknown'
    assert {'synthetic', 'corrsynth'} <= set(data['tags'])
    assert data['configs'] == [{'config_name': 'default', 'data_files': [{'split': 'train', 'path': 'dataset.parquet'}]}]
    for part in ('2411.08553', 'load_dataset', '| candidates written by the teacher | 10 |', '| pets | 4 | 4 |', '| calls | 5 |', 'cost in US dollars | unknown', 'Licence of the teacher: apache-2.0'):
        assert part in card.text


@pytest.mark.parametrize('method, papers', [('cfg', ['2306.17806', '2411.08553']), ('synalign', ['2502.08661']), ('targen', ['2310.17876']), ('new', [])])
def test_card_cites_the_papers_of_its_method(method, papers):
    text = dataset_card(RECIPE | {'method': {'name': method}}, COUNTS).text
    assert [paper for paper in ('2306.17806', '2310.17876', '2411.08553', '2502.08661') if paper in text] == sorted(papers)
    assert 'unknown; the recipe does not name it' in text and ('## Citation' in text) == bool(papers)


def test_card_says_what_pocket_was_trained_on():
    "The licence of pocket's data is known, and told; a server's model that is called pocket is another, and what a recipe tells counts."
    def line(**teacher):
        text = dataset_card(RECIPE | {'teacher': {'name': 'pocket'} | teacher}, COUNTS).text
        return next(line for line in text.splitlines() if line.startswith('- Licence of the teacher'))
    assert 'unknown' not in line() and 'research or non-commercial use only' in line() and 'AG News' in line() and 'states no licence' in line()
    assert 'unknown; the recipe does not name it' in line(base_url='http://localhost/v1') and 'mit' in line(licence='mit') and 'research' not in line(licence='mit')


@pytest.mark.parametrize('text', HOSTILE)
def test_card_shows_texts_and_never_reads_them(text):
    counts = {'candidates': 1, 'accepted': {text: 1}, 'rejected': {text: 0}, 'failed': {}}
    shown = whole(text)
    hostile = RECIPE | {'n': 1, 'task': {'name': shown, 'description': shown, 'labels': [{'name': shown}]}, 'teacher': {'name': shown, 'licence': shown}, 'gold': shown}
    card = DatasetCard(str(dataset_card(hostile, counts, {text: text})))
    assert card.data.license == 'unknown'
    harmless = [line for line in card.text.splitlines() if not line.startswith('    ')]
    assert not any(mark in line.replace(rf'\{mark}', '') for line in harmless for mark in ('`' * 3, '<script', '{{', '{%'))
    assert '49' not in card.text


# ---- the Hub

TOKEN = 'hf_planted_token_that_must_not_leak'
PUSH = """
import sys
from synthlab.store.export import ExportError, push_to_hub
folder, endpoint, private = sys.argv[1:]
try: print('written', push_to_hub(folder, 'me/pets', private == 'private', endpoint))
except ExportError as error: print('refused', error)
"""


@pytest.fixture
def dataset(tmp_path):
    folder = tmp_path/'run'
    folder.mkdir()
    rows = [{'id': str(i), 'text': f'A cat, {i}.', 'label': 'pets'} for i in range(500)]
    write_parquet(lambda: rows, folder/'dataset.parquet')
    write_jsonl(rows, folder/'dataset.jsonl')
    (folder/'README.md').write_text(str(dataset_card(RECIPE, COUNTS)), encoding='utf-8')
    (folder/'recipe.toml').write_text('n = 8\n')
    (folder/'run.db').write_bytes(b'every raw answer')
    (folder/'notes.txt').write_text('mine')
    return folder


def push(folder, endpoint, private='private', token=TOKEN):
    "The upload in a process of its own, with the key in its environment and all it says."
    home = folder.parent/'home'
    home.mkdir(exist_ok=True)
    environment = {k: v for k, v in os.environ.items() if not k.startswith(('HF_', 'HUGGING'))} | {'HF_HUB_DISABLE_XET': '1', 'HOME': str(home), 'HF_HOME': str(home/'hf'), 'PYTHONPATH': str(ROOT)}
    if token: environment['HF_TOKEN'] = token
    done = subprocess.run([sys.executable, '-c', PUSH, str(folder), endpoint, private], env=environment, capture_output=True, text=True)
    assert TOKEN not in done.stdout + done.stderr, 'the key was said aloud'
    assert not any(TOKEN.encode() in p.read_bytes() for p in folder.parent.rglob('*') if p.is_file()), 'the key was written to a file'
    return done.stdout.strip() or done.stderr


def test_the_hub_gets_three_files_and_nothing_else(dataset):
    with Hub(TOKEN) as hub:
        said = push(dataset, hub.url)
        repo = hub.repos['me/pets']
        assert said == f'written {hub.url}/datasets/me/pets/commit/{repo.commits[0]}' and len(repo.commits) == 1
        assert repo.private and repo.files == {name: (dataset/name).read_bytes() for name in HUB_FILES}
        assert all(TOKEN.encode() not in request.body and TOKEN not in request.path for request in hub.requests)
        sent = b''.join(request.body for request in hub.requests)
        assert b'every raw answer' not in sent and b'mine' not in sent


def test_two_parts_go_to_the_hub_in_place_of_the_whole(dataset):
    (dataset/'train.parquet').write_bytes((dataset/'dataset.parquet').read_bytes())
    with Hub(TOKEN) as hub:
        push(dataset, hub.url)                                                 # one part alone is a file beside the whole
        assert set(hub.repos['me/pets'].files) == set(HUB_FILES)
    (dataset/'dataset.parquet').rename(dataset/'validation.parquet')
    with Hub(TOKEN) as hub:
        assert push(dataset, hub.url).startswith('written')
        assert hub.repos['me/pets'].files == {name: (dataset/name).read_bytes() for name in ('train.parquet', 'validation.parquet', 'README.md', 'recipe.toml')}


def test_a_second_upload_replaces_the_first(dataset):
    with Hub(TOKEN) as hub:
        push(dataset, hub.url)
        (dataset/'recipe.toml').write_text('n = 9\n')
        assert push(dataset, hub.url).startswith('written')
        assert hub.repos['me/pets'].files['recipe.toml'] == b'n = 9\n' and len(hub.repos['me/pets'].commits) == 2


def test_what_is_to_be_private_is_not_written_where_all_can_read(dataset):
    with Hub(TOKEN) as hub:
        hub.add('me/pets', private=False)
        assert 'is there already and public' in push(dataset, hub.url) and not hub.repos['me/pets'].files
        assert push(dataset, hub.url, 'public').startswith('written')


def test_a_storage_that_stumbles_is_asked_again(dataset):
    with Hub(TOKEN, broken_uploads=1) as hub:
        assert push(dataset, hub.url).startswith('written')
        assert hub.repos['me/pets'].files['dataset.parquet'] == (dataset/'dataset.parquet').read_bytes()


@pytest.mark.parametrize('answers, token, said', [
    ({}, '', 'HF_TOKEN is not set'), ({}, 'hf_wrong', 'me/pets could not be written: .*401'),
    ({'/api/repos/create': (403, {'error': f'{TOKEN} may not write here'})}, TOKEN, 'me/pets could not be written: .*403'),
    ({'/api/datasets/me/pets/commit': (500, {'error': f'sorry, {TOKEN}'})}, TOKEN, 'me/pets could not be written: .*500'),
    ({'/api/datasets/me/pets/preupload': (200, {'nonsense': 1})}, TOKEN, 'me/pets could not be written')])
def test_a_hub_that_refuses_is_told_without_the_key(dataset, answers, token, said):
    import re
    with Hub(TOKEN, answers) as hub: assert re.match(f'refused .*{said}', push(dataset, hub.url, token=token), re.S)


def test_nobody_there_and_nothing_to_send(dataset):
    assert 'refused me/pets could not be written' in push(dataset, 'http://127.0.0.1:9')
    (dataset/'dataset.parquet').unlink()
    assert 'has no dataset.parquet: finish the run first' in push(dataset, 'http://127.0.0.1:9')
