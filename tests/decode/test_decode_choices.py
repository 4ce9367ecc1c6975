"The three methods on real weights: their limits and their equals; demonstrations that are cut."
from types import SimpleNamespace

import pytest
import torch
from scipy.stats import chi2_contingency, chisquare
from synthlab.decode.contrast import contrast_weights
from synthlab.run.rows import shorten
from synthlab.decode.choices import CFG, CorrSynth, FewGen
from synthlab.decode.loop import DecodePlan, Sampling, decode
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import ByT5Tokenizer, PreTrainedTokenizerFast

LABELS = ['a', 'a', 'b', 'b']
PROMPTS = ['once upon a time', 'the dog', 'a sad girl went', 'one day']
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
    for decoder in (CorrSynth(1., 1., 0., mode), CFG(1., 1., 0., mode)):
        for seed in range(3): assert drawn(teacher, decoder.plan(PROMPTS, LABELS, seed)) == drawn(teacher, FewGen().plan(PROMPTS, LABELS, seed))


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
    decoder, groups = CorrSynth(delta=.8, alpha=0.), 1500
    plans = (decoder.plan(['one day a'] * 2, ['a', 'b'], seed) for seed in range(groups))
    pairs = torch.tensor([[c.token_ids[0] for c in completions] for _, completions in decode(teacher, plans, Sampling(max_new_tokens=1))])
    probs = (.8 * teacher.next_logits(teacher.encode(['one day a']))[0].double().log_softmax(-1)).softmax(-1)
    counts, likely = pairs.flatten().bincount(minlength=len(probs)), probs * 2 * groups >= 10
    def with_rest(x): return [*x[likely].tolist(), x[~likely].sum().item()]
    assert likely.sum() > 5
    assert chisquare(with_rest(counts), with_rest(probs * 2 * groups), sum_check=False).pvalue > 1e-4
    third, order = torch.zeros(len(probs), dtype=torch.long), probs.argsort(descending=True)
    third[order] = (3 * (probs[order].cumsum(0) - probs[order])).long()             # tokens in up to three classes of much the same probability
    table = (3 * third[pairs[:, 0]] + third[pairs[:, 1]]).bincount(minlength=9).reshape(3, 3)
    assert chi2_contingency(table[table.sum(1) > 0][:, table.sum(0) > 0].numpy()).pvalue > 1e-4 and (table.sum(0) > 0).sum() > 1


# ---- plans ----

@pytest.mark.parametrize('mode, contrast', [('cross', 2), ('intra', 1), ('hybrid', 3), ('all', 3)])
def test_forward_rows(teacher, mode, contrast):
    "Property 13: M rows a step for CorrSynth, M(1 + |A|) for CFG."
    for decoder, rows in ((FewGen(), 1), (CorrSynth(mode=mode, repeats=2), 1), (CFG(mode=mode, repeats=2), 1 + contrast)):
        decoding = decode(teacher, [decoder.plan(PROMPTS, LABELS)], Sampling(max_new_tokens=5))
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
    decoder = CFG(delta=.4, alpha=0., mode=mode, repeats=2)
    naive = _naive_cfg(prompts, LABELS, contrast_weights(LABELS, 1., .4, mode))
    greedy = Sampling(max_new_tokens=8, temperature=0.)
    assert drawn(teacher, decoder.plan(prompts, LABELS), greedy) == drawn(teacher, naive, greedy)


@pytest.mark.parametrize('kind', [CFG, CorrSynth])
@pytest.mark.parametrize('mode', ['cross', 'intra', 'hybrid', 'all'])
def test_explicit_weights_are_the_named_ones(kind, mode):
    named, explicit = kind(delta=.5, mode=mode, repeats=2), kind(mode=contrast_weights(LABELS, 1., .5, mode), repeats=2)
    assert torch.equal(named.plan(PROMPTS, LABELS).weights, explicit.plan(PROMPTS, LABELS).weights)
    assert explicit == kind(mode=contrast_weights(LABELS, 1., .5, mode).tolist(), repeats=2) and hash(explicit)
    with pytest.raises(ValueError, match=r'\(4, 4\)'): explicit.plan(PROMPTS[:2], LABELS[:2])


@pytest.mark.parametrize('kind', [CFG, CorrSynth])
@pytest.mark.parametrize('wrong, message', [
    (dict(gamma=-1.), 'gamma'), (dict(delta=1.5), 'delta'), (dict(alpha=-.1), 'alpha'), (dict(mode='near'), 'near'), (dict(repeats=0), 'repeats'),
    (dict(repeats=1.5), 'repeats'), (dict(intra_share=2.), 'intra_share'), (dict(mode=[[1., 2.]]), r'\(1, 2\)'), (dict(mode=[[float('nan')]]), 'finite')])
def test_options_out_of_range(kind, wrong, message):
    with pytest.raises(ValueError, match=message): kind(**wrong)


# ---- demonstrations ----

def bytewise(normalizer=None):
    "A tokenizer with a token for each byte and no other."
    vocab = {letter: n for n, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(vocab, []))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    if normalizer: tokenizer.normalizer = normalizer
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


TOKENIZERS = {'bytes': bytewise, 'bytes, spelt out': lambda: bytewise(normalizers.NFKC()), 'in Python': ByT5Tokenizer}
CUT = {'chinese': '今天天气很好'*10, 'letters': 'the dog ran home again '*10, 'mixed': 'Perú, 今天 🦊 '*12,
       'accents': 'e\u0301'*60, 'ligatures': 'ﷺ'*3 + 'ﬃ'*40, 'short': '今天', 'empty': ''}


@pytest.mark.parametrize('most', [1, 2, 16, 64])
@pytest.mark.parametrize('text', CUT.values(), ids=CUT)
@pytest.mark.parametrize('kind', TOKENIZERS)
def test_a_demonstration_has_no_more_tokens_than_a_text(kind, text, most):
    tokenizer = TOKENIZERS[kind]()
    def size(text): return len(tokenizer(text, add_special_tokens=False)['input_ids'])
    found = shorten(text, SimpleNamespace(tokenizer=tokenizer), most)
    assert size(found) <= most and text.startswith(found)
    assert found == text or size(text) > most
    longer = [text[:end] for end in range(len(found) + 1, len(text) + 1) if text[:end].rstrip() != found]
    if kind == 'bytes' and longer: assert size(longer[0].rstrip()) > most                  # and none is wasted


def test_sixty_chinese_characters_are_not_sixty_tokens():
    "Three bytes each: 21 fit into 64 tokens."
    assert len(shorten('天'*60, SimpleNamespace(tokenizer=bytewise()), 64)) == 21


@pytest.mark.parametrize('most', [3, 8, 20])
def test_a_text_of_letters_is_cut_where_it_ever_was(teacher, most):
    text = 'Tender, sly and gloriously acted, this is the rare family portrait that earns every one of its tears.'
    spans = teacher.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)['offset_mapping']
    assert shorten(text, teacher, most) == text[:spans[most - 1][1]].rstrip()
