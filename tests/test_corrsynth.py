"The three methods on real weights: their limits and their equals, and runs that give the rows that were asked for."
import random
import warnings
from collections import Counter
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2_contingency, chisquare
from synthlab import corrsynth
from synthlab.contrast import contrast_weights
from synthlab.corrsynth import CFG, CorrSynth, FewGen, generate, plan_group
from synthlab.decoding import Completion, DecodePlan, DecodeStats, Sampling, decode
from synthlab.tasks import STATUSES, Label, Task, prompt_hash
from synthlab.teachers import CausalTeacher

LABELS = ['a', 'a', 'b', 'b']
PROMPTS = ['once upon a time', 'the dog', 'a sad girl went', 'one day']
PETS = Task(name='pets', instruction='Write about a {{ label }}.', cue='Story:', max_new_tokens=8, labels=tuple(
    Label(name=name, demonstrations=tuple(f'The {name} {did}.' for did in ('slept', 'ran', 'ate', 'sang'))) for name in ('cat', 'dog', 'hen')))


def drawn(teacher, plan, sampling=Sampling(max_new_tokens=8)):
    "Tokens of each text of a plan."
    [(_, completions)] = decode(teacher, [plan], sampling)
    return [completion.token_ids for completion in completions]


# ---- the methods against one another ----

@pytest.mark.parametrize('mode', ['cross', 'intra', 'hybrid', 'all'])
def test_cfg_and_corrsynth_start_alike_and_part(teacher, mode):
    "Property 9: the first guided distributions are the same, later ones are not."
    seen = {}
    def observe(plan, rows, logits, guided): seen.setdefault(plan.name, []).append(guided.log_softmax(-1).clone())
    for kind in (CFG, CorrSynth):
        plan = kind(delta=.5, alpha=.01, mode=mode, repeats=2).plan(PROMPTS, LABELS, seed=2, name=kind.name)
        list(decode(teacher, [plan], Sampling(max_new_tokens=3), observe=observe))
    torch.testing.assert_close(seen['cfg'][0], seen['corrsynth'][0], atol=2e-3, rtol=0)
    later = [(a.softmax(-1) - b.softmax(-1)).abs().max() for a, b in zip(seen['cfg'][1:], seen['corrsynth'][1:]) if a.shape == b.shape]
    assert max(later) > .01


@pytest.mark.parametrize('mode', ['cross', 'all'])
def test_no_contrast_is_fewgen(teacher, mode):
    "Property 2, token for token."
    for method in (CorrSynth(1., 1., 0., mode), CFG(1., 1., 0., mode)):
        for seed in range(3): assert drawn(teacher, method.plan(PROMPTS, LABELS, seed)) == drawn(teacher, FewGen().plan(PROMPTS, LABELS, seed))


def test_gamma_without_contrast_is_a_temperature(teacher):
    halved = drawn(teacher, CorrSynth(.5, .5, 0.).plan(PROMPTS, LABELS, 1))
    assert halved == drawn(teacher, FewGen().plan(PROMPTS, LABELS, 1), Sampling(max_new_tokens=8, temperature=2.))


@pytest.mark.parametrize('scale', [1.5, 3.])
def test_cfg_is_guidance_scale_of_transformers(teacher, scale):
    "With delta = 1 and one contrast row; transformers gets the prompts one at a time and without padding."
    plan = CFG(gamma=scale, delta=1., alpha=0.).plan(['a happy dog ran to', 'the old man was'], ['a', 'b'])
    ids, ours = teacher.encode(plan.prompts[:2]), drawn(teacher, plan, Sampling(max_new_tokens=20, temperature=0.))
    for own, other, tokens in zip(ids, ids[::-1], ours):
        theirs = teacher.model.generate(torch.tensor([own]), attention_mask=torch.ones(1, len(own), dtype=torch.long), negative_prompt_ids=torch.tensor([other]),
                                        guidance_scale=scale, do_sample=False, max_new_tokens=20)[0, len(own):].tolist()
        assert tokens == theirs[:len(tokens)] and len(tokens) > 3


def test_equal_prompts_give_independent_first_tokens(teacher):
    "Property 16: two rows with one prompt draw their first tokens independently from P^delta."
    method, groups = CorrSynth(delta=.8, alpha=0.), 1500
    plans = (method.plan(['one day a'] * 2, ['a', 'b'], seed) for seed in range(groups))
    pairs = torch.tensor([[c.token_ids[0] for c in completions] for _, completions in decode(teacher, plans, Sampling(max_new_tokens=1))])
    probs = (.8 * teacher.next_logits(teacher.encode(['one day a']))[0].double().log_softmax(-1)).softmax(-1)
    counts, likely = pairs.flatten().bincount(minlength=len(probs)), probs * 2 * groups >= 10
    def with_rest(x): return [*x[likely].tolist(), x[~likely].sum().item()]
    assert likely.sum() > 5
    assert chisquare(with_rest(counts), with_rest(probs * 2 * groups), sum_check=False).pvalue > 1e-4
    third, order = torch.zeros(len(probs), dtype=torch.long), probs.argsort(descending=True)
    third[order] = (3 * probs[order].cumsum(0)).long().clamp(max=2)                 # tokens in three classes of much the same probability
    table = (3 * third[pairs[:, 0]] + third[pairs[:, 1]]).bincount(minlength=9).reshape(3, 3)
    assert chi2_contingency(table.numpy()).pvalue > 1e-4


# ---- plans ----

@pytest.mark.parametrize('mode, contrast', [('cross', 2), ('intra', 1), ('hybrid', 3), ('all', 3)])
def test_forward_rows(teacher, mode, contrast):
    "Property 13: M rows a step for CorrSynth, M(1 + |A|) for CFG."
    for method, rows in ((FewGen(), 1), (CorrSynth(mode=mode, repeats=2), 1), (CFG(mode=mode, repeats=2), 1 + contrast)):
        decoding = decode(teacher, [method.plan(PROMPTS, LABELS)], Sampling(max_new_tokens=5))
        [(_, completions)] = decoding
        assert decoding.stats.forward_rows == rows * sum(c.steps - 1 for c in completions)
        assert decoding.stats.prefill_rows == rows * 4


def _naive_cfg(prompts, labels, weights):
    "One contrast row for every pair, none merged."
    pairs = [(m, n) for m in range(len(prompts)) for n in range(len(prompts)) if m != n and weights[m, n]]
    mixed = torch.diag(torch.cat([weights.diagonal(), torch.zeros(len(pairs))]))
    for row, (m, n) in enumerate(pairs, len(prompts)): mixed[m, row] = weights[m, n]
    return DecodePlan([*prompts, *(prompts[n] for _, n in pairs)], [*range(len(prompts)), *(m for m, _ in pairs)], mixed)


@pytest.mark.parametrize('mode', ['cross', 'intra', 'hybrid', 'all'])
@pytest.mark.parametrize('prompts', [PROMPTS, ['the dog', 'the dog', 'a sad girl', 'a sad girl']])
def test_merged_contrast_rows_change_nothing(teacher, prompts, mode):
    method = CFG(delta=.4, alpha=0., mode=mode, repeats=2)
    naive = _naive_cfg(prompts, LABELS, contrast_weights(LABELS, 1., .4, mode))
    greedy = Sampling(max_new_tokens=8, temperature=0.)
    assert drawn(teacher, method.plan(prompts, LABELS), greedy) == drawn(teacher, naive, greedy)


@pytest.mark.parametrize('kind', [CFG, CorrSynth])
@pytest.mark.parametrize('mode', ['cross', 'intra', 'hybrid', 'all'])
def test_explicit_weights_are_the_named_ones(kind, mode):
    named, explicit = kind(delta=.5, mode=mode, repeats=2), kind(mode=contrast_weights(LABELS, 1., .5, mode), repeats=2)
    assert torch.equal(named.plan(PROMPTS, LABELS).weights, explicit.plan(PROMPTS, LABELS).weights)
    assert explicit == kind(mode=contrast_weights(LABELS, 1., .5, mode).tolist(), repeats=2) and hash(explicit)
    with pytest.raises(ValueError, match=r'\(4, 4\)'): explicit.plan(PROMPTS[:2], LABELS[:2])


# ---- runs, on real weights ----

def rows_of(groups): return [row for group in groups for row in group.rows]


@pytest.mark.parametrize('method', [FewGen(), CFG(delta=.5), CorrSynth(delta=.5, repeats=2)], ids=lambda m: m.name)
def test_a_seed_gives_its_rows_whatever_the_batch_and_however_often_interrupted(teacher, method):
    usual = Sampling(max_new_tokens=8, temperature=.95, top_p=.9)
    def run(**options): return list(generate(method, PETS, teacher, 14, shots=1, **{'seed': 3, 'max_rows': 64, 'sampling': usual} | options))
    groups = run()
    assert run() == groups
    assert run(max_rows=len(groups[0].rows) * (3 if method.name == 'cfg' else 1)) == groups
    assert rows_of(run(seed=4)) != rows_of(groups)
    assert run(done=groups[:2]) == groups[2:]
    assert sorted(run(done={g: rows for g, rows in groups if g % 2})) == [group for group in groups if group.index % 2 == 0]
    assert run(done=groups) == []


def test_rows_say_where_they_come_from(teacher):
    run = generate(CorrSynth(repeats=2), PETS, teacher, 6, shots=2, seed=5)
    rows = rows_of(run)
    assert len({row['id'] for row in rows}) == len(rows) == 6
    for row in rows:
        plan = plan_group(run.method, PETS, teacher, row['group'], run.pool, shots=2, seed=row['seed'], cut=run.cut)
        assert prompt_hash(plan.prompts[row['member']]) == row['prompt_hash']
        assert plan.labels[row['member']] == row['label'] == row['label_target']
        assert all(demo['text'] in plan.prompts[row['member']] for demo in run.pool[row['label']] if demo['id'] in row['demos'])
        assert set(row) == {'id', 'text', 'label', 'label_target', 'recipe', 'group', 'member', 'demos', 'attributes', 'context', 'seed_text', 'prompt_hash',
                            'teacher', 'sampling', 'seed', 'status', 'reason', 'finish_reason', 'tokens', 'steps', 'mask_share', 'kl', 'live_contrast'}
        assert row['sampling']['temperature'] == .95 and row['sampling']['delta'] == .9 and len(row['demos']) == 2


def test_demonstrations_shared_or_not(teacher):
    def shown(shared):
        rows = rows_of(generate(CorrSynth(repeats=4), PETS, teacher, 12, shots=2, shared_demonstrations=shared, sampling=Sampling(max_new_tokens=1)))
        return [len({tuple(row['demos']) for row in rows if row['label'] == label and not row['group']}) for label in PETS.label_names]
    assert shown(True) == [1, 1, 1] and min(shown(False)) > 1


# ---- runs, on a teacher that is not there: only the counting is at work ----

class Words:
    "A teacher whose tokens are words and whose texts are made by `fake_decode`."
    name, revision, max_length, vocab_size = 'words', None, 200, 9
    def next_logits(self, sequences): raise AssertionError('nothing is to be decoded')
    def render(self, messages, cue): return '\n'.join([*(m['content'] for m in messages), cue])
    def encode(self, prompts): return [list(range(len(p.split()))) for p in prompts]
    def tokenizer(self, text, **_):
        ends = [len(' '.join(text.split()[:i + 1])) for i in range(len(text.split()))]
        return {'offset_mapping': [(0, end) for end in ends]}


def fake_decode(bad, order):
    "A stand-in for the decode loop: groups end in a random order, and a share of the texts is empty."
    class Fake:
        def __init__(self, teacher, plans, sampling, max_rows, observe): self.plans, self.stats = list(plans), DecodeStats(max_rows=max_rows)
        def __iter__(self):
            random.Random(order).shuffle(self.plans)
            for plan in self.plans:
                rng = random.Random(plan.seed)
                texts = ['' if rng.random() < bad else f'text {plan.seed} {m}' for m in plan.generating]
                self.stats.rows += len(texts)
                yield plan, [Completion(text, [1], 'stop', 1, 0., 0., 0.) for text in texts]
    return Fake


def counted(monkey, bad, order, n, repeats, weights, **options):
    "A finished run on the absent teacher, and its rows."
    monkey.setattr(corrsynth, 'decode', fake_decode(bad, order))
    run = generate(CorrSynth(repeats=repeats), PETS, Words(), n, shots=1, proportions=dict(zip(PETS.label_names, weights)), **options)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        return run, list(run), [str(w.message) for w in caught if 'nobody to contrast' not in str(w.message)]


@pytest.mark.filterwarnings('ignore:mode .cross. leaves')
@settings(max_examples=60, deadline=None)
@given(n=st.integers(1, 40), repeats=st.integers(1, 3), bad=st.sampled_from([0., .2, .6]), order=st.integers(0, 9),
       weights=st.tuples(*[st.integers(0, 5)] * 3).filter(any), budget=st.sampled_from([None, 10**4]))
def test_every_row_is_accounted_for(n, repeats, bad, order, weights, budget):
    with pytest.MonkeyPatch.context() as monkey:
        run, groups, told = counted(monkey, bad, order, n, repeats, weights, budget=budget)
        rows, accepted = rows_of(groups), Counter(row['label'] for row in rows_of(groups) if row['status'] == 'accepted')
        assert [group.index for group in groups] == list(range(len(groups)))
        assert run.counts.total() == len(rows) == run.stats.rows == len(groups) * len(run.quotas) * repeats
        assert {row['status'] for row in rows} <= set(STATUSES) and all((row['status'] == 'accepted') != bool(row['reason']) for row in rows)
        assert {label: accepted[label] + run.shortfall.get(label, 0) for label in run.quotas} == run.quotas and sum(run.quotas.values()) == n
        assert bool(run.shortfall) == bool(told) and not (budget and run.shortfall)
        if not bad: assert len(groups) == -(-max(run.quotas.values()) // repeats)
        assert counted(monkey, bad, order + 1, n, repeats, weights, budget=budget)[1] == groups
        cut = len(groups) // 2
        assert counted(monkey, bad, order, n, repeats, weights, budget=budget, done=groups[:cut])[1] == groups[cut:]


def test_a_shortfall_is_told(monkeypatch):
    run, groups, told = counted(monkeypatch, 1., 0, 6, 1, (1, 1, 1), budget=9)
    assert len(groups) == 3 and run.shortfall == {'cat': 2, 'dog': 2, 'hen': 2} and run.counts == {'empty text': 9}
    assert len(told) == 1 and '6 of 6 rows are missing after 9 candidates' in told[0]


def test_long_demonstrations_are_cut(monkeypatch):
    pool = {label: [{'id': '0', 'text': 'word ' * 150}] for label in PETS.label_names}
    monkeypatch.setattr(corrsynth, 'decode', fake_decode(0., 0))
    run = generate(FewGen(), PETS, Words(), 3, shots=1, pool=pool)
    assert run.plan(0).prompts[0].count('word') == 8


LONG = Task(**PETS.model_dump() | {'instruction': 'Write {{ label }}' + ' please' * 200})
TEXT_ONLY = SimpleNamespace(name='chat', revision=None)
REFUSED = {
    'no rows': (dict(n=0), 'n must be at least 1, got 0'),
    'negative shots': (dict(shots=-1), '-1'),
    'more shots than examples': (dict(shots=5), 'cannot show 5'),
    'unknown label': (dict(proportions={'cat': 1, 'dog': 1, 'cow': 1}), 'cow'),
    'label left out': (dict(proportions={'cat': 1}), 'missing'),
    'text-only teacher': (dict(teacher=TEXT_ONLY), r"use a CausalTeacher, such as CausalTeacher\('pocket'\)"),
    'group too large': (dict(max_rows=2), 'a group of corrsynth has 3 rows, and max_rows is 2: raise max_rows'),
    'CFG group too large': (dict(method=CFG(repeats=4)), 'a group of cfg has 108 rows'),
    'budget too small': (dict(budget=2), 'raise it to 3 or more'),
    'no room for the text': (dict(task=LONG, shots=0), "context holds 200"),
    'weights of another group': (dict(method=CorrSynth(mode=torch.eye(2))), r'\(2, 2\)'),
}


@pytest.mark.parametrize('change, message', REFUSED.values(), ids=REFUSED)
def test_refused_before_work_starts(change, message):
    asked = dict(method=CorrSynth(), task=PETS, teacher=Words(), n=3, shots=1) | change
    with pytest.raises(ValueError, match=message): generate(**asked)


@pytest.mark.parametrize('kind', [CFG, CorrSynth])
@pytest.mark.parametrize('wrong, message', [
    (dict(gamma=-1.), 'gamma'), (dict(delta=1.5), 'delta'), (dict(alpha=-.1), 'alpha'), (dict(mode='near'), 'near'), (dict(repeats=0), 'repeats'),
    (dict(repeats=1.5), 'repeats'), (dict(intra_share=2.), 'intra_share'), (dict(mode=[[1., 2.]]), r'\(1, 2\)'), (dict(mode=[[float('nan')]]), 'finite')])
def test_options_out_of_range(kind, wrong, message):
    with pytest.raises(ValueError, match=message): kind(**wrong)


@pytest.mark.parametrize('method, hazard', [(CorrSynth(alpha=0.), True), (CFG(alpha=0.), True), (CorrSynth(), False), (CorrSynth(delta=1., alpha=0.), False), (FewGen(), False)])
def test_the_end_of_text_hazard_is_told_once(method, hazard):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        generate(method, PETS, Words(), 3, shots=1)
    assert ['alpha = 0' in str(w.message) for w in caught] == [True] * hazard


@pytest.mark.filterwarnings('ignore')
def test_labels_without_rows_take_no_place(teacher):
    run = generate(CorrSynth(), PETS, teacher, 4, shots=1, proportions={PETS.label_names[0]: 1, PETS.label_names[1]: 1, PETS.label_names[2]: 0})
    assert {row['label_target'] for group in run for row in group.rows} == set(PETS.label_names[:2])


def test_too_few_rows_for_the_labels_are_told(teacher):
    with pytest.warns(UserWarning, match='2 rows are too few for the 3 labels'): generate(FewGen(), PETS, teacher, 2, shots=1)
