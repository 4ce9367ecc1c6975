"Vectors in blocks: what is written is read again, embedding goes on where it stopped, and Ray gives what one process gives."
import json
import sys

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from synthlab.align.blocks import BlockWeights, mmd2_blocks
from synthlab.blocks import (
    Block,
    as_block,
    count_rows,
    embed_blocks,
    find_blocks,
    look_at_parts,
    plan_parts,
    read_block,
    read_part,
    rows_at,
    same_space,
    sample_rows,
    write_block,
    write_rows,
)
from synthlab.embeddings import Embedder, text_key
from synthlab.select.blocks import select_blocks


class Counted:
    "An encoder that counts what it is asked, and fails when it meets a word."
    space = 'counted'

    def __init__(self, bad=None): self.bad, self.asked, self.forgot = bad, [], 0

    def encode(self, texts):
        if self.bad in texts: raise RuntimeError('the machine stopped')
        self.asked += texts
        rows = np.array([np.frombuffer(bytes.fromhex(text_key(text)), np.uint8) for text in texts], float) - 127.5
        return rows/np.linalg.norm(rows, axis=1, keepdims=True)

    def forget(self): self.forgot += 1


def units(n, dim=24, seed=0):
    X = np.random.default_rng(seed).normal(size=(n, dim))
    return (X/np.linalg.norm(X, axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize('n', [0, 1, 7])
@pytest.mark.parametrize('keys, labels', [(True, True), (True, False), (False, False)])
def test_blocks_are_read_as_they_were_written(tmp_path, n, keys, labels):
    X, names = units(n), [f'label {i % 2}' for i in range(n)]
    given = [bytes.fromhex(text_key(str(i))) for i in range(n)]
    write_block(tmp_path/'a.parquet', X, given if keys else None, names if labels else None, 'here')
    back = read_block(tmp_path/'a.parquet')
    assert back.vectors.dtype == np.float32 and back.vectors.shape == X.shape and np.array_equal(back.vectors, X.astype(np.float16).astype(np.float32))
    assert (back.keys, back.labels, back.space) == (given if keys else None, names if labels else None, 'here')
    assert count_rows(tmp_path/'a.parquet')[None] == n and [path.name for path in tmp_path.iterdir()] == ['a.parquet']


def test_distances_survive_half_precision():
    X = units(300, 384)
    near = X.astype(np.float16).astype(np.float32)
    exact, rounded = (np.linalg.norm(Y[:, None] - Y[None], axis=-1) for Y in (X, near))
    assert abs(exact - rounded).max() < 1e-3


@pytest.mark.parametrize('sizes', [[50], [10, 40], [1]*50, [0, 25, 0, 25]])
def test_a_sample_does_not_hang_on_the_cut(sizes):
    X = np.arange(50.)[:, None]
    labels, ends = [str(i % 3) for i in range(50)], np.cumsum(sizes)
    blocks = [(X[end - size:end], labels[end - size:end]) for size, end in zip(sizes, ends)]
    assert np.array_equal(sample_rows(blocks, 7), sample_rows([X], 7))
    assert np.array_equal(sample_rows(blocks, 5, '1'), sample_rows([X[1::3]], 5))


@pytest.mark.parametrize('form', ['parquet', 'jsonl'])
def test_embedding_goes_on_where_it_stopped(tmp_path, form):
    words = [f'word {i}' for i in range(40)]
    for k in range(4):
        rows = words[10*k:10*k + 10]
        if form == 'parquet': pq.write_table(pa.table({'text': rows, 'label': [k]*10}), tmp_path/f'{k}.parquet')
        else: (tmp_path/f'{k}.jsonl').write_text(''.join(json.dumps({'text': text, 'label': k}) + '\n' for text in rows))
    sources, failing, whole = sorted(tmp_path.glob(f'*.{form}')), Counted('word 25'), Counted()
    with pytest.raises(RuntimeError): embed_blocks(sources, tmp_path/'out', label='label', model=failing, rows=10)
    assert failing.asked == words[:20] and len(find_blocks(tmp_path/'out')) == 2
    made = embed_blocks(sources, tmp_path/'out', label='label', model=whole, rows=10)
    assert whole.asked == words[20:] and made == find_blocks(tmp_path/'out') and whole.forgot == 2
    back = [read_block(path) for path in made]
    assert [key.hex() for block in back for key in block.keys] == [text_key(word) for word in words] and back[3].labels == ['3']*10
    assert back[0].space == 'counted'


@pytest.mark.parametrize('rows', [1, 3, 7, 100])
def test_lines_are_cut_at_their_ends_and_found_again(tmp_path, rows):
    "A file of lines was one block, as large as the file."
    texts = [f'ä {i} ' + 'x'*(i % 5) for i in range(23)]
    (tmp_path/'a.jsonl').write_text('\n'.join(json.dumps({'text': text, 'n': i}, ensure_ascii=i % 2 > 0) + '\n'*(i % 4 == 0) for i, text in enumerate(texts)), encoding='utf-8')
    parts = plan_parts(tmp_path/'a.jsonl', tmp_path, rows)
    read = [read_part(part) for part in parts]
    assert [text for table in read for text in table['text'].to_pylist()] == texts and max(map(len, read)) <= rows
    places = np.array([(number, row) for number, table in enumerate(read) for row in range(len(table))])
    picked = np.random.default_rng(0).permutation(23)[:9]
    assert rows_at(parts, places[picked])['n'].to_pylist() == picked.tolist()


@pytest.mark.parametrize('rows', [1, 3, 7, 20])
def test_large_groups_of_rows_are_divided(tmp_path, rows):
    "A file with one group of rows, as pandas writes it, was one block."
    table = pa.table({'text': [f'{i} ä' for i in range(41)], 'n': range(41)})
    with pq.ParquetWriter(tmp_path/'a.parquet', table.schema) as writer:
        for start, size in ((0, 2), (2, 30), (32, 1), (33, 8)): writer.write_table(table.slice(start, size), row_group_size=100)
    read = [read_part(part, ['n']) for part in plan_parts(tmp_path/'a.parquet', tmp_path, rows)]
    assert [n for table in read for n in table['n'].to_pylist()] == list(range(41)) and max(map(len, read)) <= 3*rows


def test_rows_get_one_more_column(tmp_path):
    "Against pandas, with files whose columns are not the same."
    (tmp_path/'a.jsonl').write_text('{"text": "one", "n": 1}\n{"text": "two", "weight": 7}\n')
    pq.write_table(pa.table({'text': ['three'], 'n': [2.5]}), tmp_path/'b.parquet')
    parts = plan_parts([tmp_path/'a.jsonl', tmp_path/'b.parquet'], tmp_path, 1)
    write_rows(parts, tmp_path/'out.parquet', look_at_parts(parts).schema, 'weight', lambda part: np.array([len(part.source.stem)/2]))
    assert pd.read_parquet(tmp_path/'out.parquet').fillna(-1).to_dict('list') == {'text': ['one', 'two', 'three'], 'n': [1, -1, 2.5], 'weight': [.5]*3}


def test_blocks_of_other_texts_are_not_gone_on_with(tmp_path):
    "Half of the vectors were those of the old texts."
    path = tmp_path/'a.jsonl'
    path.write_text('{"text": "one", "body": "a"}\n{"text": "two", "body": "b"}\n')
    made = embed_blocks(path, tmp_path/'out', model=Counted(), rows=1)
    for other in ({'text': 'body', 'rows': 1}, {'rows': 2}):
        with pytest.raises(ValueError, match='blocks of something else'): embed_blocks(path, tmp_path/'out', model=Counted(), **other)
    assert embed_blocks(path, tmp_path/'out', model=Counted('one'), rows=1) == made
    path.write_text('{"text": "one more"}\n{"text": "two"}\n')
    with pytest.raises(ValueError, match='blocks of something else'): embed_blocks(path, tmp_path/'out', model=Counted(), rows=1)


@pytest.mark.parametrize('lines, told', [('{"text": "a"}\n{"text": null}', "nothing stands in the column 'text' of 1 rows"), ('{"text": 3}', 'holds no texts but int64'),
                                         ('{"body": "a"}', "no column 'text'"), ('{"text": "a"', 'no JSON lines'), ('\n', 'no rows')])
def test_what_embedding_would_stumble_over_is_found_before(tmp_path, lines, told):
    (tmp_path/'a.jsonl').write_text(lines)
    with pytest.raises(ValueError, match=told): look_at_parts(plan_parts(tmp_path/'a.jsonl', tmp_path))


def test_groups_of_rows_are_put_together_and_not_divided(tmp_path):
    pq.write_table(pa.table({'text': [str(i) for i in range(25)]}), tmp_path/'a.parquet', row_group_size=4)
    assert [part.groups for part in plan_parts(tmp_path/'a.parquet', tmp_path, 10)] == [(0, 1, 2), (3, 4, 5), (6,)]
    assert [part.groups for part in plan_parts([tmp_path/'a.parquet']*2, tmp_path, 10**6)] == [tuple(range(7))]*2


def test_an_embedder_forgets():
    embedder = Embedder()
    embedder._vectors = {'a': np.ones(3)}
    embedder.forget()
    assert repr(embedder) == "Embedder('all-MiniLM-L6-v2', 0 vectors kept)"


def test_bad_blocks_are_refused(tmp_path):
    with pytest.raises(ValueError, match='there are no blocks'): find_blocks([])
    with pytest.raises(ValueError, match='a block has no labels'): count_rows(units(3), by_label=True)
    with pytest.raises(ValueError, match='come from 2 encoders'): same_space([Block(units(2), space='a')], [Block(units(2), space='b'), Block(units(2))])
    with pytest.raises(ValueError, match='rows must be at least 1'): plan_parts([], tmp_path, 0)
    assert as_block([[1, 2]]).vectors.dtype == np.float32


@pytest.mark.long
def test_ray_gives_what_one_process_gives(tmp_path):
    "A cluster of two workers: the same files, picks and distances, and weights up to the order of sums."
    ray = pytest.importorskip('ray', reason='needs Ray: pip install "ray[data]>=2.50"')
    # The workers cannot import this file.
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    from synthlab.blocks import RayMap
    pq.write_table(pa.table({'text': [f'word {i % 150}' for i in range(240)]}), tmp_path/'texts.parquet', row_group_size=60)
    blocks = [units(80, seed=seed) for seed in (0, 1, 2)]
    with RayMap(2) as spread:
        for folder, way in (('one', map), ('two', spread)): embed_blocks(tmp_path/'texts.parquet', tmp_path/folder, model=Counted(), rows=60, spread=way)
        assert list(spread(len, blocks)) == [80]*3 and list(spread(len, [])) == []
        here, there = ((select_blocks(blocks, 9, spread=way).places, mmd2_blocks(blocks, blocks[:2], n_features=64, spread=way),
                        BlockWeights(64, tol=1e-4).fit(blocks, blocks[:2], spread=way)) for way in (map, spread))
    assert [path.read_bytes() for path in find_blocks(tmp_path/'one')] == [path.read_bytes() for path in find_blocks(tmp_path/'two')]
    assert np.array_equal(here[0], there[0]) and here[1] == there[1]
    assert np.allclose(here[2].weigh(blocks[0]), there[2].weigh(blocks[0]), atol=1e-6)
