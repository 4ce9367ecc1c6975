"What a run took it gives back: a cache dies with its decoding, or is kept for the next one and freed on demand, and a process that makes many runs does not grow."
import gc
import os
import subprocess
import sys
import weakref
from itertools import islice
from pathlib import Path

import pytest
import torch
from synthlab.decode import cache as keeping
from synthlab.decode import loop as decoding
from synthlab.decode.cache import RowCache, free_idle
from synthlab.decode.contrast import contrast_weights
from synthlab.decode.loop import DecodePlan, Sampling, decode
from synthlab.run.produce import produce, make_config
from synthlab.run.recipe import Recipe
from synthlab.tasks.task import load_task
from synthlab.teacher.causal import CausalTeacher

LABELS = list('abcd')
RUNS = '''
import re, sys
from pathlib import Path
from synthlab.decode.loop import Sampling
from synthlab.run.recipe import Recipe
from synthlab.teacher.causal import CausalTeacher
teacher = CausalTeacher('pocket')
for seed in range(int(sys.argv[2])):
    Recipe.corrsynth(shots=1).generate('ag_news', n=64, out=Path(sys.argv[1])/f'{seed}', teacher=teacher, seed=seed, sampling=Sampling(max_new_tokens=12 + 4*(seed % 3)))
    print(re.search(r'VmRSS:\\s+(\\d+)', Path('/proc/self/status').read_text())[1])
'''


@pytest.fixture(scope='module')
def teacher(): return CausalTeacher('pocket')


@pytest.fixture
def caches(monkeypatch):
    "The caches that are made, as weak references, and whether they hold rows; the garbage collector is off meanwhile."
    made = []
    class Watched(RowCache):
        def __init__(self, *args):
            super().__init__(*args)
            made.append(weakref.ref(self))
    free_idle()
    monkeypatch.setattr(keeping, 'RowCache', Watched)
    gc.disable()
    yield lambda: [bool(cache().places.lengths) for cache in made if cache() is not None and cache().layers]
    gc.enable()
    free_idle()


def plans(n):
    return [DecodePlan(['A film:', 'The weather in the north:', 'Sport:', 'On'], range(4), contrast_weights(LABELS, delta=.4), .01, LABELS, seed) for seed in range(n)]


def test_one_empty_cache_waits_for_the_next_decoding(teacher, caches):
    "However many there were, and where someone keeps the iterator."
    ended = [decode(teacher, plans(4), Sampling(max_new_tokens=8), max_rows=8) for _ in range(3)]
    for run in ended: assert list(run)
    assert caches() == [False]
    free_idle()
    assert caches() == []


def test_no_cache_outlives_a_decoding_that_is_broken_off(teacher, caches):
    run = decode(teacher, plans(4), Sampling(max_new_tokens=8), max_rows=8)
    assert list(islice(run, 1)) and len(caches()) == 1
    del run
    assert not caches()


def test_no_cache_outlives_a_failed_decoding(teacher, caches, monkeypatch):
    def failing(): yield plans(1)[0]; yield None; raise ValueError('no more plans')
    with pytest.raises(ValueError, match='no more plans'): list(decode(teacher, failing(), Sampling(max_new_tokens=8)))
    assert not caches()


def test_an_iterator_that_failed_is_over(teacher):
    def failing(): raise ValueError('no plans'); yield
    run = decode(teacher, failing())
    with pytest.raises(ValueError, match='no plans'): next(run)
    with pytest.raises(StopIteration): next(run)


def test_no_cache_outlives_a_run(teacher, caches, tmp_path):
    Recipe.corrsynth(shots=1).generate('ag_news', n=8, out=tmp_path/'run', teacher=teacher, sampling=Sampling(max_new_tokens=12))
    assert not caches()


def test_memory_that_runs_out_frees_what_is_kept(teacher, caches, monkeypatch):
    list(decode(teacher, plans(1), Sampling(max_new_tokens=8), max_rows=4))
    assert caches() == [False]
    step = decoding.step
    def small(teacher, tokens, cache):
        if len(tokens) > 4: raise torch.OutOfMemoryError('no room')
        return step(teacher, tokens, cache)
    monkeypatch.setattr(decoding, 'step', small)
    run = decode(teacher, plans(2), Sampling(max_new_tokens=8), max_rows=8)
    next(run)
    assert caches() == [True] or not any(caches()[:-1])


def test_no_cache_outlives_a_run_that_is_watched_to_an_early_end(teacher, caches, tmp_path):
    "As the bake-off does it, which ends a run when its tokens are spent."
    request = make_config(Recipe.fewgen(shots=1), load_task('ag_news'), teacher, 16, sampling=Sampling(max_new_tokens=12))
    produce(request, tmp_path/'run', teacher, watch=lambda groups, total, before: islice(groups, 1))
    assert not caches()


def test_layers_share_one_block(teacher):
    "Of rows and of prompts; so it is given back as a whole, and the heap does not grow."
    [prompt] = decoding.read_prompts(teacher, teacher.encode(['The weather:']))
    cache = RowCache(2)
    cache.reserve(prompt, 8)
    for tensors in ([*prompt.keys, *prompt.values], [part for layer in cache.layers for part in (layer.keys, layer.values)]):
        assert len(tensors) == 12 and len({part.untyped_storage().data_ptr() for part in tensors}) == 1


def test_tensors_of_another_shape_get_memory_of_their_own():
    shelf, g = decoding.Shelf(3), torch.Generator().manual_seed(0)
    given = [torch.rand(*shape, generator=g).transpose(1, 2) for shape in ((2, 5, 3, 4), (2, 5, 1, 4), (2, 5, 3, 4), (2, 5, 3, 4))]
    kept = [shelf.keep(states) for states in given]
    assert all(torch.equal(a, b) and a.is_contiguous() for a, b in zip(kept, given))
    assert len({states.untyped_storage().data_ptr() for states in kept}) == 3


@pytest.mark.long
@pytest.mark.skipif(not Path('/proc/self/status').exists(), reason='resident memory is read from /proc')
@pytest.mark.parametrize('runs', [6, 10])
def test_a_process_that_makes_many_runs_does_not_grow(tmp_path, runs):
    env = os.environ | {'OMP_NUM_THREADS': '1', 'PYTHONPATH': os.pathsep.join([str(Path(decoding.__file__).parents[2]), os.environ.get('PYTHONPATH', '')])}
    done = subprocess.run([sys.executable, '-c', RUNS, str(tmp_path), str(runs)], env=env, capture_output=True, text=True)
    assert not done.returncode, done.stderr[-2000:]
    kib = [int(line) for line in done.stdout.split()]
    assert len(kib) == runs and kib[-1] <= 1.1*kib[1], kib
