"Recorded passes: the texts of the loop that calls the model step by step. On a CPU each replay computes the pass again."
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from accelerate import dispatch_model
from synthlab.decode import loop as decoding
from synthlab.decode.cache import ReadPrompt, RowCache
from synthlab.decode.contrast import contrast_weights
from synthlab.decode.loop import DecodePlan, Sampling, decode
from synthlab.decode.model import compile_parts, weights_hash
from synthlab.teacher.causal import CausalTeacher
from transformers import LlamaConfig, LlamaForCausalLM

LABELS = list('abcd')
PROMPTS = ['A film:', 'The weather in the north:', 'Sport:', 'On']
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason='no GPU')


class Again:
    "Stands in for a graph: does the work again."
    def __init__(self, work, pool): self.replay = work
    def pool(self): return None


@pytest.fixture(scope='module')
def teacher():
    teacher = CausalTeacher('pocket', dtype='float32')
    teacher.stop_ids = teacher.stop_ids[:0]
    return teacher


@pytest.fixture
def replays(teacher, monkeypatch):
    "The shapes that were replayed; without a GPU, by stand-ins."
    seen = []
    if teacher.device.type == 'cpu':
        monkeypatch.setattr(decoding, 'never_waits', lambda work: work() or True)
        monkeypatch.setattr(decoding, 'record', Again)
    monkeypatch.setattr(decoding, 'recordable', lambda teacher: True)
    real = decoding.record
    def record(work, pool): seen.append(work.args); return real(work, pool)
    monkeypatch.setattr(decoding, 'record', record)
    return seen


def plans(n, longest=40):
    lengths = np.random.default_rng(0).geometric(1/12, (n, 4)).clip(max=longest)
    return [DecodePlan(PROMPTS, range(4), contrast_weights(LABELS, delta=.5), .01, LABELS, seed, name=seed, limits=limits.tolist())
            for seed, limits in enumerate(lengths)]


def texts(teacher, plans, max_rows=8): return {p.name: [c.token_ids for c in cs] for p, cs in decode(teacher, plans, Sampling(), max_rows)}


def test_texts_are_those_of_single_steps(teacher, replays, monkeypatch):
    recorded = texts(teacher, plans(9))
    assert len(replays) > 3 and len(set(replays)) == len(replays)                    # each shape once
    monkeypatch.setattr(decoding, 'recordable', lambda teacher: False)
    assert recorded == texts(teacher, plans(9))


def test_compiled_parts_write_the_same_texts(teacher, replays):
    "Recorded passes of a compiled model; the compiler's own code needs a GPU."
    config = LlamaConfig(vocab_size=len(teacher.tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2)
    torch.manual_seed(0)
    llama = CausalTeacher(LlamaForCausalLM(config), teacher.tokenizer, compiled=True)
    llama.stop_ids = teacher.stop_ids
    expected, revision = texts(llama, plans(4)), weights_hash(llama.model, llama.tokenizer)
    if llama.device.type == 'cpu': llama.compiled = bool(compile_parts(llama.model, 'aot_eager'))
    replays.clear()
    assert texts(llama, plans(4)) == expected and replays and llama.compiled and weights_hash(llama.model, llama.tokenizer) == revision


def test_a_model_on_several_devices_is_not_recorded():
    def model(*devices): return SimpleNamespace(device=torch.device('cuda'), model=SimpleNamespace(config=SimpleNamespace(_attn_implementation='sdpa'), hf_device_map=dict(enumerate(devices))))
    assert decoding.recordable(model(0)) and decoding.recordable(model(0, 0)) and not decoding.recordable(model(0, 1))


@torch.inference_mode()
def test_a_cache_lies_where_the_layers_are():
    "The second layer on a device that computes nothing."
    cache = RowCache(3)
    def read(tokens): return ReadPrompt(*([torch.ones(2, tokens, 4, device=device) for device in ('cpu', 'meta')] for _ in 'kv'), torch.zeros(5))
    cache.reserve(read(5), 9)
    cache.append([read(5), read(3)])
    cache.places.columns = torch.tensor([5, 3])
    for layer, device in zip(cache.layers, ('cpu', 'meta')):
        one = torch.full((2, 2, 1, 4), 7., device=device)
        keys, values = layer.update(one, one)
        assert keys.device.type == values.device.type == device and keys.shape == (2, 2, 6, 4)
    assert cache.layers[0].keys[0, 0, :7, 0].tolist() == [1, 1, 1, 1, 1, 7, 0] and cache.layers[0].keys[1, 0, :5, 0].tolist() == [1, 1, 1, 7, 0]
    cache.remove(0)
    cache.reserve(read(3), 100)
    assert cache.layers[1].keys.device.type == 'meta' and cache.layers[0].keys.shape == (3, 2, 128, 4) and cache.places.lengths == [3]


def test_a_model_by_a_device_map_writes_the_same_texts(teacher):
    mapped = CausalTeacher('pocket', dtype='float32', device_map='cpu')
    # On one device the map changes nothing, so the hooks of several are put in by hand.
    hooked = dispatch_model(CausalTeacher('pocket', dtype='float32', device='cpu').model, {name: 'cpu' for name, _ in teacher.model.named_children()}, force_hooks=True)
    assert all(hasattr(part, '_hf_hook') for part in hooked.children())
    for other in (mapped, CausalTeacher(hooked, teacher.tokenizer)):
        other.stop_ids = teacher.stop_ids.cpu()
        assert texts(other, plans(3)) == texts(teacher, plans(3))
    assert mapped.identity == teacher.identity
    with pytest.raises(ValueError, match='device_map=.auto. is for a model that is given by its name'): CausalTeacher(teacher.model, teacher.tokenizer, device_map='auto')


def test_a_wider_cache_is_recorded_anew(teacher, replays, monkeypatch):
    two = [DecodePlan(PROMPTS, range(4), torch.eye(4), seed=n, name=n, limits=[n]*4) for n in (12, 90)]
    recorded = texts(teacher, two, 4)
    assert sorted(replays) == [(4, 64), (4, 64), (4, 128)]
    monkeypatch.setattr(decoding, 'recordable', lambda teacher: False)
    assert recorded == texts(teacher, two, 4)


def test_a_model_that_waits_for_the_gpu_is_stepped(teacher, replays, monkeypatch):
    expected = texts(teacher, plans(4))
    replays.clear()
    if teacher.device.type == 'cpu': monkeypatch.setattr(decoding, 'never_waits', lambda work: False)
    hook = teacher.model.get_input_embeddings().register_forward_hook(lambda module, args, out: out.sum().item() and None)
    try: assert texts(teacher, plans(4)) == expected and not replays
    finally: hook.remove()


def test_other_devices_and_other_attention_are_not_recorded():
    def model(device, attention): return SimpleNamespace(device=torch.device(device), model=SimpleNamespace(config=SimpleNamespace(_attn_implementation=attention)))
    kinds = [('cuda', 'sdpa'), ('cuda', 'eager'), ('cpu', 'sdpa'), ('mps', 'sdpa')]
    assert [decoding.recordable(model(*kind)) for kind in kinds] == [True, False, False, False]


def test_a_cpu_is_not_recorded():
    teacher = CausalTeacher('pocket', device='cpu')
    assert not decoding.recordable(teacher) and decoding.Batch(teacher, 4).recorded is None


@needs_gpu
def test_what_waits_is_told_and_the_mode_put_back():
    x = torch.ones(3, device='cuda')
    assert decoding.never_waits(lambda: x + 1) and not decoding.never_waits(lambda: x.sum().item())
    assert torch.cuda.get_sync_debug_mode() == 0
    with pytest.raises(ZeroDivisionError): decoding.never_waits(lambda: 1/0)


@needs_gpu
def test_a_recording_outlives_the_garbage_of_others(teacher):
    "An old graph in a circle of references, collected while a new one is being made, would break it."
    x = torch.ones(3, device='cuda')
    for _ in range(300):
        x += 1
        circle = [decoding.record(partial(x.add_, 1), None)]
        circle.append(circle)
        decoding.record(lambda: [[] for _ in range(3000)] and x.add_(1), None).replay()
