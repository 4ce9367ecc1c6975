"The decode loop against a brute-force version, on real weights, and its promises about seeds, batches and memory."
from dataclasses import replace

import brute_force
import numpy as np
import pytest
import torch
from synthlab.decode import loop as decoding
from synthlab.decode.contrast import contrast_weights
from synthlab.decode.draw import nucleus
from synthlab.decode.loop import DecodePlan, Group, Sampling, constrain, decode, guide, make_block
from synthlab.decode.model import CausalModel
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


# A nucleus is drawn from by a rule that rounding hardly touches. Without one the edges of 12,000 tokens lie so close that batches of other shapes may tip a token.
STEADY = Sampling(max_new_tokens=9, top_p=.9)


def texts(teacher, plans, max_rows, sampling=STEADY):
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
    run = decode(teacher, plans(corrsynth, 6), STEADY, max_rows=24)
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
    size = teacher.vocab_size
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
    model.save_pretrained(tmp_path); CausalModel('pocket').tokenizer.save_pretrained(tmp_path)
    compare(CausalModel(tmp_path), corrsynth(WORDS['unequal'], seed=3, limits=[2, 7, 4, 7]), Sampling(max_new_tokens=7))


def test_nucleus_widens_until_the_share_is_reached():
    z = torch.randn(8, 3000, generator=torch.Generator().manual_seed(1)) * .1
    probs, ids = nucleus(z, .95, 0, width=4)
    assert (probs.sum(-1) >= .95).all() and (probs > 0).sum(-1).min() > 1000


def test_remembered_prompts_change_nothing(teacher):
    "Six groups with the same prompts, read once or twice in all, draw what each draws alone."
    same = [DecodePlan(WORDS['unequal'], range(4), contrast_weights(LABELS, delta=.4), .01, LABELS, seed, name=seed) for seed in range(6)]
    run = decode(teacher, same, Sampling(max_new_tokens=8), max_rows=8)
    together, memory = {}, None
    for plan, completions in run: together[plan.name], memory = [c.token_ids for c in completions], run.batch.memory
    assert {len(prompt) for prompt in memory.known} == set(map(len, teacher.encode(WORDS['unequal'])))
    for plan in same:
        [(_, alone)] = decode(teacher, [plan], Sampling(max_new_tokens=8))
        assert together[plan.name] == [c.token_ids for c in alone]


class Few:
    "At every step a few tokens, the dice's choice; the text is complete after `last` tokens."
    def __init__(self, vocab_size, seed, last=99, few=9): self.arguments, self.seen, self.is_done = (vocab_size, seed, last, few), [], False
    def start(self): return type(self)(*self.arguments)

    def allowed(self):
        vocab_size, seed, last, few = self.arguments
        mask = torch.zeros(vocab_size, dtype=torch.bool)
        mask[np.random.default_rng([seed, *self.seen]).choice(vocab_size, few, replace=False)] = True
        return mask

    def advance(self, token_id):
        assert self.allowed()[token_id]
        self.seen.append(token_id)
        self.is_done = len(self.seen) == self.arguments[2]


@pytest.mark.parametrize('alpha', [0., .2, 1.])
@pytest.mark.parametrize('sampling', [dict(), dict(temperature=.7, top_p=.9), dict(top_k=3)], ids=str)
def test_constrained_rows_against_brute_force(teacher, alpha, sampling):
    "Guided scores from the definition, grammar mask (in place of the plausibility mask where nothing is left), then the draw."
    sampling = Sampling(max_new_tokens=6, **sampling)
    rules = [Few(teacher.vocab_size, 0), None, Few(teacher.vocab_size, 2), Few(teacher.vocab_size, 3, few=teacher.vocab_size//2)]
    plan, seen = replace(corrsynth(WORDS['unequal'], seed=8, alpha=alpha), constraints=rules, stops=()), []
    [(_, texts)] = decode(teacher, [plan], sampling, observe=lambda p, rows, z, guided: seen.append(z.double().numpy()))
    uniforms, states = Group(plan, teacher.encode(plan.prompts), sampling).uniforms, [rule and rule.start() for rule in rules]
    for step, z in enumerate(seen):
        for m, rule in enumerate(states):
            scores, free = (brute_force.guided_scores(p, z, [True]*4, {}, m) for p in (plan, replace(plan, alpha=0.)))
            if rule is not None:
                forbidden = ~rule.allowed().numpy()
                scores[forbidden] = free[forbidden] = -np.inf
                if not np.isfinite(scores).any(): scores = free
            token = texts[m].token_ids[step]
            assert token == brute_force.draw(scores, float(uniforms[step, m]), sampling)
            if rule is not None: rule.advance(token)


@pytest.mark.parametrize('seed', range(5))
def test_constrain_on_a_toy_vocabulary(seed):
    dice = np.random.default_rng(seed)
    z, allowed = torch.tensor(dice.normal(size=(4, 7)), dtype=torch.float32), dice.random((4, 7)) < .4
    allowed[np.arange(4), dice.integers(0, 7, 4)] = True
    rules = [Few(7, 0) if dice.random() < .7 else None for _ in range(4)]
    for rule, mask in zip(rules, allowed):
        if rule: rule.start = lambda mask=mask: type('Fixed', (), {'allowed': lambda self: torch.tensor(mask)})()
    plan = DecodePlan([[1]]*4, range(4), contrast_weights(LABELS, delta=.2), float(dice.choice([0., .3, 1.])), LABELS, constraints=rules)
    group = Group(plan, plan.prompts, Sampling())
    block = make_block([(group, r) for r in range(4)], range(4), torch.device('cpu'))
    guided = guide(z, block, [])[0]
    found = constrain(guided, z, block) if block.constraints else guided
    for m, rule in enumerate(rules):
        raw = (plan.weights @ z)[m]
        for v in range(7):
            is_plausible = z[m, v] >= z[m].max() + np.log(plan.alpha) if plan.alpha else True
            if rule is None: expected = raw[v] if is_plausible else -np.inf
            elif any(guided[m].isfinite().numpy() & allowed[m]): expected = raw[v] if is_plausible and allowed[m, v] else -np.inf
            else: expected = raw[v] if allowed[m, v] else -np.inf
            assert found[m, v] == pytest.approx(float(expected), abs=1e-5)


def test_the_grammar_wins_over_scores_of_minus_infinity():
    z = torch.tensor([[0., -torch.inf, -torch.inf, -torch.inf]])
    class Last:
        is_done = False
        def start(self): return self
        def allowed(self): return torch.tensor([False, False, True, True])
    for alpha in (0., .5):
        group = Group(DecodePlan([[1]], [0], torch.eye(1), alpha, constraints=[Last()]), [[1]], Sampling())
        block = make_block([(group, 0)], [0], torch.device('cpu'))
        guided = guide(z, block, [])[0] if alpha else z
        assert constrain(guided, z, block).softmax(-1).tolist() == [[0, 0, .5, .5]]


def test_constrained_groups_change_no_neighbour(teacher):
    rules = [Few(teacher.vocab_size, seed, last=3 + seed) for seed in range(4)]
    mixed = [replace(plan, constraints=rules if n % 2 else None) for n, plan in enumerate(plans(corrsynth, 6))]
    alone = {}
    for plan in mixed: alone |= texts(teacher, [plan], 16)
    assert texts(teacher, mixed, 64) == alone
    for n in (0, 2, 4): assert alone[n] == texts(teacher, [plans(corrsynth, 6)[n]], 16)[n]


def test_a_complete_text_stops(teacher):
    plan = replace(fewgen(WORDS['equal']), constraints=[Few(teacher.vocab_size, seed, last=seed + 2) for seed in range(4)], stops=())
    [(_, found)] = decode(teacher, [plan], Sampling(max_new_tokens=4))
    assert [(c.steps, c.finish_reason) for c in found] == [(2, 'stop'), (3, 'stop'), (4, 'stop'), (4, 'length')]


def test_constraints_begin_again_after_running_out_of_memory(teacher, monkeypatch):
    made = [replace(plan, constraints=[Few(teacher.vocab_size, seed, last=4 + seed) for seed in range(4)]) for plan in plans(corrsynth, 6)]
    expected, step = texts(teacher, made, 64), decoding.step
    def small(teacher, tokens, cache):
        if len(tokens) > 9: raise torch.OutOfMemoryError('no room')
        return step(teacher, tokens, cache)
    monkeypatch.setattr(decoding, 'step', small)
    assert texts(teacher, made, 24) == expected


def test_plans_of_different_sampling_share_a_batch(teacher):
    ways = [Sampling(9), Sampling(5, temperature=0), Sampling(7, top_p=.8), None, Sampling(9, top_k=4)]
    mixed = [replace(plan, sampling=ways[n % 5], limits=None) for n, plan in enumerate(plans(corrsynth, 10))]
    run = decode(teacher, mixed, Sampling(6, temperature=.5), max_rows=64)
    together = {plan.name: [c.token_ids for c in found] for plan, found in run}
    for plan in mixed: assert together[plan.name] == texts(teacher, [replace(plan, sampling=None)], 16, plan.sampling or Sampling(6, temperature=.5))[plan.name]
    assert run.stats.steps <= 8                                  # all at the same time


def test_a_plan_may_have_stops_of_its_own(teacher):
    "Line breaks do not end a text whose plan says so, and stay in it."
    breaks = [i for i in teacher.stop_ids.tolist() if i not in teacher.end_ids.tolist()] or teacher.stop_ids.tolist()
    class Lines(Few):
        def allowed(self): return torch.zeros(teacher.vocab_size, dtype=torch.bool).index_fill_(0, torch.tensor(breaks[:1]), True)
    plan = replace(fewgen(WORDS['equal']), constraints=[Lines(1, 1)]*4)
    [(_, ended)] = decode(teacher, [plan], Sampling(max_new_tokens=3))
    [(_, goes_on)] = decode(teacher, [replace(plan, stops=())], Sampling(max_new_tokens=3))
    class Between(Few):
        "A word, a line break, a word."
        def allowed(self): return torch.zeros(teacher.vocab_size, dtype=torch.bool).index_fill_(0, torch.tensor((word, breaks[0], word)[len(self.seen)]), True)
    word = teacher.tokenizer('dog', add_special_tokens=False)['input_ids'][0]
    [(_, lines)] = decode(teacher, [replace(plan, constraints=[Between(1, 1)]*4, stops=())], Sampling(max_new_tokens=3))
    assert all(c.text == teacher.tokenizer.decode([word, breaks[0], word], skip_special_tokens=True).strip() for c in lines)
    assert [(c.steps, c.finish_reason) for c in ended] == [(1, 'stop')]*4 and [(c.steps, c.finish_reason) for c in goes_on] == [(3, 'length')]*4


def test_none_among_the_plans_is_a_pause(teacher):
    "The loop goes on with what it has, and asks again."
    made, asked = plans(fewgen, 3), 0
    def slowly():
        nonlocal asked
        for plan in made:
            for _ in range(2): asked += 1; yield None
            yield plan
    given, found = slowly(), {}
    while len(found) < 3: found |= texts(teacher, given, 16)     # the loop ends when nothing is under way
    assert found == texts(teacher, made, 64) and asked == 6


def test_long_prompts_are_read_in_parts(teacher, monkeypatch):
    prompts = [[5]*3, [6]*5, [5]*3, [7]*9, [8]*2, [9]*4]
    monkeypatch.setattr(decoding, 'READ_AT_ONCE', 10)
    parts = list(decoding.in_parts(prompts))
    assert [len(part) for part in parts] == [3, 1, 2] and [list(p) for part in parts for p in part] == prompts
    plans = [corrsynth(WORDS['unequal'], seed=seed) for seed in range(3)]
    small = [c.token_ids for _, done in decode(teacher, plans, STEADY) for c in done]
    monkeypatch.undo()
    assert small == [c.token_ids for _, done in decode(teacher, plans, STEADY) for c in done]


def test_rows_in_flight_are_bounded_by_their_tokens(teacher, monkeypatch):
    plans = [corrsynth(WORDS['unequal'], seed=seed, name=seed) for seed in range(6)]
    wide = {plan.name: [c.token_ids for c in done] for plan, done in decode(teacher, plans, Sampling(max_new_tokens=8))}
    monkeypatch.setattr(decoding, 'most_tokens', lambda teacher: 9*(8 + max(map(len, teacher.encode(WORDS['unequal'])))))
    run, seen, narrow = decode(teacher, plans, Sampling(max_new_tokens=8)), set(), {}
    step = run._step
    monkeypatch.setattr(run, '_step', lambda: (seen.add(len(run.batch.rows)), step())[1])
    for plan, done in run: narrow[plan.name] = [c.token_ids for c in done]
    assert narrow == wide and max(seen) == 8


def test_zeros_take_no_memory_before_they_are_written():
    from pathlib import Path
    if not Path('/proc/self/statm').exists(): pytest.skip('the memory of a process is read from /proc')
    pages = lambda: int(Path('/proc/self/statm').read_text().split()[1])*4096
    before = pages()
    kept = decoding.one_block(torch.zeros(1, dtype=torch.bfloat16), [(64, 1024, 1024), (64, 1024, 1024)])
    assert pages() - before < 20e6 and all(part.dtype == torch.bfloat16 and not part[:2].any() for part in kept)
