"The decode loop against a brute-force version, on real weights, and its promises about seeds, batches and memory."
import brute_force
import numpy as np
import pytest
import torch
from synthlab import decoding
from synthlab.contrast import contrast_weights
from synthlab.decoding import DecodePlan, Group, Sampling, decode, nucleus
from synthlab.teachers import CausalTeacher
from transformers import AutoConfig, AutoModelForCausalLM

LABELS = ['a', 'a', 'b', 'b']
WORDS = {'equal': ['one day a boy', 'one day a girl', 'one day a dog', 'one day a cat'],
         'unequal': ['once', 'the big red dog ran to', 'a girl', 'he was sad and wanted his']}


def fewgen(prompts, **options): return DecodePlan(prompts, range(4), torch.eye(4), labels=LABELS, **options)


def corrsynth(prompts, mode='hybrid', **options):
    return DecodePlan(prompts, range(4), contrast_weights(LABELS, delta=.4, mode=mode), labels=LABELS, **options)


def cfg(prompts, **options):
    "Every row against the three others' prompts: followers in the order (row, other)."
    pairs = [(m, n) for m in range(4) for n in range(4) if m != n]
    weights, full = torch.zeros(16, 16), contrast_weights(LABELS, delta=.4, mode='all')
    for m in range(4): weights[m, m] = 1
    for i, (m, n) in enumerate(pairs): weights[m, 4 + i] = full[m, n]
    return DecodePlan([*prompts, *(prompts[n] for _, n in pairs)], [*range(4), *(m for m, _ in pairs)], weights,
                      labels=[*LABELS, *(LABELS[n] for _, n in pairs)], **options)


def compare(teacher, plan, sampling, atol=2e-3):
    "Same tokens, and the same distributions at every step, as the brute-force version."
    seen = []
    observe = lambda p, rows, logits, guided: seen.append((rows, logits.clone(), guided.clone()))
    [(_, completions)] = list(decode(teacher, [plan], sampling, observe=observe))
    prompts = teacher.encode(plan.prompts)
    drawn, trace = brute_force.decode(teacher, plan, sampling, Group(plan, prompts, sampling).uniforms)
    assert [c.token_ids for c in completions] == list(drawn.values())
    assert len(seen) == len(trace)
    for (rows, logits, guided), (z, expected) in zip(seen, trace):
        assert sorted(rows) == sorted(z)
        for row, scores in zip(rows, logits): close(scores, z[row], atol)
        for row, scores in zip([r for r in rows if r in expected], guided): close(scores, expected[row], atol, on_the_edge(z[row], plan.alpha))


def on_the_edge(z, alpha):
    "Tokens so near to the plausibility threshold that rounding decides about them."
    return torch.as_tensor(abs(z - z.max() - np.log(alpha)) < 1e-3) if alpha else False


def close(scores, expected, atol, leave_out=False):
    scores, expected = (torch.as_tensor(s).double().masked_fill(torch.as_tensor(leave_out), -torch.inf).log_softmax(-1) for s in (scores, expected))
    assert torch.equal(scores.isfinite(), expected.isfinite())
    finite = expected.isfinite()
    torch.testing.assert_close(scores[finite], expected[finite], atol=atol, rtol=0)


@pytest.mark.parametrize('prompts', WORDS)
@pytest.mark.parametrize('build', [fewgen, corrsynth, cfg])
def test_same_logits_and_tokens_as_brute_force(teacher, build, prompts):
    compare(teacher, build(WORDS[prompts], seed=3, limits=[2, 7, 4, 7]), Sampling(max_new_tokens=7))


@pytest.mark.parametrize('eos', ['renormalise', 'drop', 'freeze'])
@pytest.mark.parametrize('mode', ['cross', 'intra', 'hybrid', 'all'])
def test_rows_that_end_early(teacher, eos, mode):
    compare(teacher, corrsynth(WORDS['unequal'], mode, seed=5, eos=eos, limits=[1, 6, 3, 4], alpha=1e-3), Sampling(max_new_tokens=6))


def test_rows_that_end_by_themselves(teacher):
    "A frequent token ends the text, so rows leave when they like."
    stops, teacher.stop_ids = teacher.stop_ids, teacher.next_logits(teacher.encode(WORDS['unequal'])).topk(12).indices.unique()
    try: compare(teacher, corrsynth(WORDS['unequal'], seed=1), Sampling(max_new_tokens=12))
    finally: teacher.stop_ids = stops


@pytest.mark.parametrize('sampling', [dict(temperature=0), dict(top_k=5), dict(top_p=.6), dict(temperature=.7, top_p=.9, top_k=20)], ids=str)
def test_sampling_as_brute_force(teacher, sampling):
    compare(teacher, corrsynth(WORDS['equal'], seed=2, alpha=1e-2), Sampling(max_new_tokens=6, **sampling))


def plans(build, n): return [build(WORDS['unequal'], seed=s, name=s, limits=[3 + s % 4, 9, 5, 1 + s % 7]) for s in range(n)]


def texts(teacher, plans, max_rows, sampling=Sampling(max_new_tokens=9)):
    return {plan.name: [c.token_ids for c in completions] for plan, completions in decode(teacher, plans, sampling, max_rows)}


@pytest.mark.parametrize('build', [fewgen, corrsynth, cfg])
def test_a_group_does_not_depend_on_its_neighbours(teacher, build):
    alone = {}
    for plan in plans(build, 6): alone |= texts(teacher, [plan], 16)
    assert texts(teacher, plans(build, 6), 16) == alone
    assert texts(teacher, plans(build, 6), 40) == alone
    assert texts(teacher, plans(build, 6)[::-1], 64) == alone


def test_methods_share_a_batch(teacher):
    mixed = [*plans(fewgen, 2), *(p for p in plans(corrsynth, 2)), *plans(cfg, 2)]
    named = [DecodePlan(p.prompts, p.follow, p.weights, p.alpha, p.labels, p.seed, p.eos, i, p.limits) for i, p in enumerate(mixed)]
    together, apart = texts(teacher, named, 64), {}
    for plan in named: apart |= texts(teacher, [plan], 16)
    assert together == apart


def test_forward_rows_are_counted(teacher):
    steps, stops = 6, teacher.stop_ids
    teacher.stop_ids = torch.tensor([], dtype=torch.long)
    try:
        for build, rows in ((fewgen, 4), (corrsynth, 4), (cfg, 4 * (1 + 3))):
            run = decode(teacher, [build(WORDS['unequal'], seed=0)], Sampling(max_new_tokens=steps))
            list(run)
            assert (run.stats.prefill_rows, run.stats.steps, run.stats.forward_rows) == (rows, steps - 1, rows * (steps - 1))
    finally: teacher.stop_ids = stops


def test_plans_are_taken_as_there_is_room(teacher):
    taken = []
    def lazily():
        for plan in plans(fewgen, 8): taken.append(plan.name); yield plan
    run = decode(teacher, lazily(), Sampling(max_new_tokens=9), max_rows=8)
    next(run)
    assert len(taken) < 8                                        # the rest is not even asked for


def test_out_of_memory_halves_the_batch(teacher, monkeypatch):
    expected = texts(teacher, plans(corrsynth, 6), 64)
    step = decoding.step
    def small(teacher, tokens, cache):
        if len(tokens) > 9: raise torch.OutOfMemoryError('no room')
        return step(teacher, tokens, cache)
    monkeypatch.setattr(decoding, 'step', small)
    run = decode(teacher, plans(corrsynth, 6), Sampling(max_new_tokens=9), max_rows=24)
    assert {p.name: [c.token_ids for c in cs] for p, cs in run} == expected
    assert run.stats.max_rows <= 12
    monkeypatch.setattr(decoding, 'step', lambda *a: (_ for _ in ()).throw(torch.OutOfMemoryError('no room')))
    with pytest.raises(torch.OutOfMemoryError): list(decode(teacher, plans(corrsynth, 2), Sampling(max_new_tokens=9), max_rows=8))


def test_telemetry(teacher):
    plan = corrsynth(WORDS['unequal'], seed=4, limits=[2, 8, 8, 8], alpha=.01)
    [(_, rows)] = list(decode(teacher, [plan], Sampling(max_new_tokens=8)))
    assert all(0 <= c.mask_share <= 1 and c.kl > 0 for c in rows)
    if all(c.steps == n for c, n in zip(rows, (2, 8, 8, 8))):
        assert rows[0].live_contrast == 3 and rows[1].live_contrast == pytest.approx((2*3 + 6*2) / 8)
    [(_, plain)] = list(decode(teacher, [fewgen(WORDS['unequal'], seed=4)], Sampling(max_new_tokens=8)))
    assert [(c.mask_share, c.kl, c.live_contrast) for c in plain] == [(0, 0, 0)] * 4


@pytest.mark.parametrize('change, message', [
    (dict(max_rows=3), 'max_rows=3'), (dict(sampling=Sampling(max_new_tokens=100_000)), "context holds")])
def test_groups_that_never_fit_are_refused(teacher, change, message):
    with pytest.raises(ValueError, match=message):
        list(decode(teacher, plans(fewgen, 1)[:1] if 'max_rows' in change else [fewgen(WORDS['equal'])], **change))


def test_columns_beyond_the_tokenizer_are_never_drawn(teacher):
    "A teacher with a padded head: noise in the extra columns is never drawn, not even when contrast blows it up."
    head, size = teacher.model.get_output_embeddings(), teacher.vocab_size
    teacher.vocab_size = size // 2
    try:
        [(_, rows)] = list(decode(teacher, [corrsynth(WORDS['equal'], 'all', seed=0)], Sampling(max_new_tokens=12)))
        assert max(max(c.token_ids) for c in rows) < size // 2
    finally: teacher.vocab_size = size


@pytest.mark.parametrize('kind', ['llama', 'gpt2', 'qwen3'])
def test_other_architectures(kind, tmp_path):
    "Rotary and learned positions, grouped heads: prefill and steps equal uncached scores."
    torch.manual_seed(0)
    sizes = dict(gpt2=dict(n_embd=32, n_layer=2, n_head=4), llama=dict(hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2),
                 qwen3=dict(hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, head_dim=8))[kind]
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, vocab_size=12_288, bos_token_id=2, eos_token_id=3, **sizes))
    model.save_pretrained(tmp_path); CausalTeacher('pocket').tokenizer.save_pretrained(tmp_path)
    compare(CausalTeacher(tmp_path), corrsynth(WORDS['unequal'], seed=3, limits=[2, 7, 4, 7]), Sampling(max_new_tokens=7))


def test_nucleus_widens_until_the_share_is_reached():
    z = torch.randn(8, 3000, generator=torch.Generator().manual_seed(1)) * .1
    probs, ids = nucleus(z, .95, 0, width=4)
    assert (probs.sum(-1) >= .95).all() and (probs > 0).sum(-1).min() > 1000


def test_remembered_prompts_change_nothing(teacher):
    "Six groups with the same prompts, read once or twice in all, draw what each draws alone."
    same = [DecodePlan(WORDS['unequal'], range(4), contrast_weights(LABELS, delta=.4), .01, LABELS, seed, name=seed) for seed in range(6)]
    run = decode(teacher, same, Sampling(max_new_tokens=8), max_rows=8)
    together = {plan.name: [c.token_ids for c in completions] for plan, completions in run}
    assert {len(prompt) for prompt in run.batch.memory.known} == set(map(len, teacher.encode(WORDS['unequal'])))
    for plan in same:
        [(_, alone)] = decode(teacher, [plan], Sampling(max_new_tokens=8))
        assert together[plan.name] == [c.token_ids for c in alone]
