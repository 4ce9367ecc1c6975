"The rows' past in whole lines: the same scores and texts as with gaps, the same contents as a list for each row, and memory that comes back."
import gc
import random
import subprocess
import sys
import weakref

import pytest
import torch
from synthlab.decode import cache as caches
from synthlab.decode import loop as decoding
from synthlab.decode.cache import COLUMNS, ReadPrompt, RowCache, attend_to_lines, attention_to_lines, whole_lines
from synthlab.decode.contrast import contrast_weights
from synthlab.decode.loop import DecodePlan, Sampling, decode, read_prompts, step
from synthlab.decode.model import CausalModel, context_length
from transformers import (DogeConfig, DogeForCausalLM, GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM,
                          PreTrainedConfig)

SIZES = dict(hidden_size=48, num_hidden_layers=2, num_attention_heads=6, max_position_embeddings=512)


def models(vocab_size):
    "One head for each key, three heads for each key, a window that the context fits into, and another family."
    wide = dict(SIZES, vocab_size=vocab_size, intermediate_size=64)
    return {'each': lambda: LlamaForCausalLM(LlamaConfig(**wide)), 'shared': lambda: LlamaForCausalLM(LlamaConfig(**wide, num_key_value_heads=2)),
            'window': lambda: MistralForCausalLM(MistralConfig(**wide, num_key_value_heads=2, sliding_window=256)),
            'gpt2': lambda: GPT2LMHeadModel(GPT2Config(vocab_size=vocab_size, n_embd=48, n_layer=2, n_head=6, n_positions=512))}


@pytest.fixture(scope='module')
def pocket(): return CausalModel('pocket', dtype='float32', device='cpu')


@pytest.fixture(scope='module', params=['pocket', 'each', 'shared', 'window', 'gpt2'])
def teacher(request, pocket):
    if request.param == 'pocket': return pocket
    torch.manual_seed(0)
    return CausalModel(models(len(pocket.tokenizer))[request.param]().eval(), pocket.tokenizer)


def prompts(n, longest, seed=0):
    rng = random.Random(seed)
    return [[rng.randrange(5, 2000) for _ in range(rng.randrange(1, longest))] for _ in range(n)]


def plans(n=6):
    weights, labels = contrast_weights(list('abcd'), delta=.5), list('abcd')
    return [DecodePlan(prompts(4, 30, seed), range(4), weights, .001, labels, seed, name=seed, limits=[5, 40, 12, 70]) for seed in range(n)]


def texts(teacher, max_rows=12): return {p.name: [c.token_ids for c in cs] for p, cs in decode(teacher, plans(), Sampling(70, top_p=.9), max_rows)}


def test_every_step_scores_as_a_model_without_a_cache(teacher):
    "Rows come and go, lines grow and shrink; scores against whole texts, read anew."
    assert whole_lines(teacher.model)
    cache, rows, widths, rng = RowCache(6, whole=True), [], set(), random.Random(1)
    def add(new):
        read = read_prompts(teacher, new)
        cache.reserve(read[0], 160)
        cache.append(read)
        rows.extend([list(p) for p in new])
    add(prompts(3, 20))
    for n in range(90):
        if n == 30: add(prompts(2, 90, seed=2))
        if n == 60: add([[7]*150])
        if n in (45, 70, 75, 80):
            longest = max(range(len(rows)), key=lambda b: len(rows[b]))
            cache.remove(longest)
            rows[longest] = rows[-1]
            rows.pop()
        tokens = [rng.randrange(5, 2000) for _ in rows]
        for row, token in zip(rows, tokens): row.append(token)
        scores = step(teacher, tokens, cache)
        widths.add(cache.width)
        if n % 10 == 5 or n in (30, 60): torch.testing.assert_close(scores, teacher.next_logits(rows), atol=2e-3, rtol=1e-3)
    assert len(widths) > 2 and all(w % COLUMNS == 0 for w in widths) and cache.places.lengths == [len(row) for row in rows]


def test_the_texts_are_those_of_lines_with_gaps(teacher, monkeypatch):
    whole = texts(teacher)
    monkeypatch.setattr(decoding, 'whole_lines', lambda model: False)
    assert texts(teacher) == whole


def test_lines_hold_what_was_written():
    "Random prompts, growth and removals, against a list of numbers for each row."
    rng, cache, expected = random.Random(0), RowCache(5, whole=True), []
    def read(length):
        part = torch.rand(2, length, 3)
        return ReadPrompt([part], [-part], torch.zeros(4)), part
    for _ in range(300):
        if len(expected) < 5 and (not expected or rng.random() < .3):
            prompt, part = read(rng.randrange(1, 100))
            cache.reserve(prompt, max(len(part[0]), 60) + 8)
            cache.append([prompt])
            expected.append(part)
        elif rng.random() < .3:
            b = rng.randrange(len(expected))
            cache.remove(b)
            expected[b] = expected[-1]
            expected.pop()
        cache.fit(cache.places.used)
        for layer in cache.layers:
            for b, part in enumerate(expected):
                assert torch.equal(layer.keys[b, :, :part.shape[1]], part) and torch.equal(layer.values[b, :, :part.shape[1]], -part)
                assert not layer.keys[b, :, part.shape[1]:].any() and not layer.values[b, :, part.shape[1]:].any()
        assert cache.places.used <= cache.width and all(layer.keys[:len(expected)].is_contiguous() for layer in cache.layers)


def test_who_keeps_the_kernel_of_pytorch(pocket):
    def small(**change): return LlamaForCausalLM._from_config(LlamaConfig(**dict(SIZES, vocab_size=50, intermediate_size=64)), **change)
    assert whole_lines(small()) and not whole_lines(small(dtype=torch.bfloat16)) and not whole_lines(small(attn_implementation='eager'))
    half = CausalModel('pocket', dtype='bfloat16', device='cpu')
    assert not whole_lines(half.model) and len(texts(half)) == 6


def test_the_attention_is_put_back(pocket):
    config = pocket.model.config.get_text_config()
    with pytest.raises(KeyError):
        with attention_to_lines(pocket.model):
            assert config._attn_implementation != 'sdpa' and whole_lines(pocket.model)
            raise KeyError
    assert config._attn_implementation == 'sdpa'
    # two threads, of which the one that came first goes first
    one, two = attention_to_lines(pocket.model), attention_to_lines(pocket.model)
    one.__enter__(), two.__enter__(), one.__exit__(None, None, None), two.__exit__(None, None, None)
    assert config._attn_implementation == 'sdpa'


@pytest.mark.parametrize('change', [dict(mask=torch.zeros(3, 1, 1, 7)), dict(mask=torch.rand(3, 4, 1, 7) > .3), dict(mask=None), dict(queries=2)],
                         ids=['float mask', 'mask for each head', 'no mask', 'two queries'])
def test_other_attention_is_left_to_pytorch(change):
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 4, change.get('queries', 1), 8), torch.randn(3, 4, 7, 8), torch.randn(3, 4, 7, 8)
    mask = change.get('mask', torch.ones(3, 1, change.get('queries', 1), 7, dtype=torch.bool))
    if mask is not None and mask.dtype == torch.bool: mask[..., 0] = True
    found, _ = attend_to_lines(torch.nn.Module(), q, k, v, mask, scaling=.3)
    expected = torch.nn.functional.scaled_dot_product_attention(q, k, v, mask, scale=.3)
    torch.testing.assert_close(found, expected.transpose(1, 2), atol=1e-6, rtol=1e-5)
    with pytest.raises(ValueError, match='softcap'): attend_to_lines(torch.nn.Module(), q, k, v, mask, scaling=.3, softcap=20.)


def test_a_model_with_a_float_mask_for_each_head(pocket):
    "Its layers make such a mask of ours."
    torch.manual_seed(0)
    config = DogeConfig(vocab_size=len(pocket.tokenizer), intermediate_size=64, num_key_value_heads=2, keep_window_size=512, **SIZES)
    doge = CausalModel(DogeForCausalLM(config).eval(), pocket.tokenizer)
    rows = prompts(3, 20)
    cache, read = RowCache(3, whole_lines(doge.model)), read_prompts(doge, rows)
    cache.reserve(read[0], 40)
    cache.append(read)
    torch.testing.assert_close(step(doge, [7, 8, 9], cache), doge.next_logits([row + [n] for row, n in zip(rows, (7, 8, 9))]), atol=2e-3, rtol=1e-3)


def test_attention_in_chunks_bounds_the_context(pocket):
    assert context_length(PreTrainedConfig(max_position_embeddings=4096, attention_chunk_size=512)) == 512


def test_a_kept_cache_is_as_good_as_a_new_one(pocket):
    "After longer texts, after a call in inference mode, after numbers that are none, and for another kind of number."
    torch.manual_seed(0)
    model = models(len(pocket.tokenizer))['shared']().eval()
    def scores(teacher):
        seen = []
        for _ in decode(teacher, plans(2), Sampling(20), 8, observe=lambda plan, rows, logits, guided: seen.append(logits.clone())): pass
        return seen
    def same(found, wanted): return len(found) == len(wanted) and all(map(torch.equal, found, wanted))
    teacher = CausalModel(model, pocket.tokenizer)
    new = scores(teacher)
    list(decode(teacher, [DecodePlan(prompts(4, 200, 1), range(4), torch.eye(4), limits=[90]*4)], Sampling(90), 8))
    assert same(scores(teacher), new)
    with torch.inference_mode(): list(decode(teacher, plans(1), Sampling(20), 8))
    assert same(scores(teacher), new)
    with torch.no_grad(): model.model.layers[0].self_attn.v_proj.weight.mul_(torch.nan)
    with pytest.raises((RuntimeError, ValueError, IndexError)): list(decode(teacher, plans(2), Sampling(20), 8)); raise ValueError
    torch.manual_seed(0)
    model.load_state_dict(models(len(pocket.tokenizer))['shared']().state_dict())
    assert same(scores(teacher), new)
    model.double()
    assert len(scores(teacher)) == len(new)


def test_a_cache_is_used_again_and_freed_with_its_teacher():
    torch.manual_seed(0)
    tokenizer = CausalModel('pocket', device='cpu').tokenizer
    teacher = CausalModel(models(len(tokenizer))['each']().eval(), tokenizer)
    first = texts(teacher)
    kept = caches._idle[teacher]
    place = kept.layers[0].keys.data_ptr()
    assert texts(teacher) == first and caches._idle[teacher] is kept and kept.layers[0].keys.data_ptr() == place and not kept.places.lengths
    # two loops at a time: each has a cache of its own
    one, two = (decode(teacher, plans(), Sampling(70, top_p=.9), 12) for _ in range(2))
    assert one.batch.cache is kept and two.batch.cache is not kept
    both = {p.name: [c.token_ids for c in cs] for pair in zip(one, two) for p, cs in pair}
    assert both == first
    gone = weakref.ref(kept)
    del kept, one, two, teacher
    gc.collect()
    assert gone() is None


def test_who_only_asks_a_server_does_not_load_the_models_of_transformers():
    code = "import sys, synthlab.run.engine; sys.exit('transformers.modeling_utils' in sys.modules)"
    subprocess.run([sys.executable, '-c', code], check=True)
