"The logits processors draw the tokens of our loop, inside generate and inside stand-ins of vLLM's two model runners."
import inspect
import random
import sys
from abc import ABC, abstractmethod
from dataclasses import replace
from enum import Enum, auto
from importlib import import_module
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from synthlab.decode import CorrelatedLogitsProcessor, CorrSynth, Sampling, contrast_counts, decode, vllm_arguments
from synthlab.decode import processors
from synthlab.decode.draw import draw
from synthlab.decode.model import CausalModel, left_pad
from synthlab.decode.processors import BatchContrast, GroupContrast, SlotContrast, guide_groups
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, LogitsProcessor, PreTrainedTokenizerFast

STEPS, STOPS = 10, [3, 7, 11, 19, 23, 31, 38, 44, 52]
LABELS = {2: ['a', 'b'], 3: ['a', 'b', 'c'], 4: ['a', 'a', 'b', 'b']}
USUAL = Sampling(max_new_tokens=STEPS, temperature=.9, top_p=.9, top_k=30)
GREEDY = Sampling(max_new_tokens=STEPS, temperature=0)


@pytest.fixture(scope='module')
def tiny():
    "A random Llama with 60 words whose last layer has 64 columns."
    words = {'<pad>': 0, '<s>': 1, '<unk>': 2, '</s>': 3} | {f'w{i}': i for i in range(4, 60)}
    spelt = Tokenizer(models.WordLevel(words, unk_token='<unk>'))
    spelt.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=spelt, pad_token='<pad>', bos_token='<s>', eos_token='</s>', unk_token='<unk>')
    torch.manual_seed(0)
    config = LlamaConfig(vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=4, initializer_range=.25,
                         max_position_embeddings=64, pad_token_id=0, bos_token_id=1, eos_token_id=3)
    return CausalModel(LlamaForCausalLM(config), tokenizer)


def prompts(size, groups, seed=0):
    "Prompts of different length, group after group."
    rng = random.Random(seed)
    return [[rng.randrange(4, 60) for _ in range(rng.randint(2, 9))] for _ in range(size*groups)]


def grouped(sequences, labels, stops=STOPS, **options):
    "A plan of our loop for each group."
    size = len(labels)
    parts = [sequences[at:at + size] for at in range(0, len(sequences), size)]
    return [replace(CorrSynth(**options).plan(part, labels, seed=n, name=n), stops=stops) for n, part in enumerate(parts)]


def ours(teacher, plans, sampling, observe=None):
    "The loop's token ids, text after text."
    found = {plan.name: texts for plan, texts in decode(teacher, plans, sampling, observe=observe)}
    return [text.token_ids for name in sorted(found) for text in found[name]]


def uniforms(plans, steps=STEPS):
    "The loop's random numbers, (steps, rows)."
    return torch.cat([torch.rand(steps, len(p.prompts), generator=torch.Generator().manual_seed(p.seed)) for p in plans], -1)


class OurDraw(LogitsProcessor):
    "Draws as our loop does, and leaves one token possible."
    def __init__(self, numbers, sampling): self.numbers, self.sampling, self.guided = iter(numbers), sampling, []

    def __call__(self, input_ids, scores):
        self.guided.append(scores)
        return torch.full_like(scores, -torch.inf).scatter(-1, draw(scores, next(self.numbers), self.sampling)[:, None], 0.)


def arguments(teacher, sequences, stops=STOPS, **more):
    ids, mask = left_pad(sequences, teacher.pad_id)
    return dict(input_ids=ids, attention_mask=mask, eos_token_id=stops, pad_token_id=teacher.pad_id, max_new_tokens=STEPS, do_sample=False) | more


def cut(row, stops=STOPS): return row[:next((n + 1 for n, token in enumerate(row) if token in stops), None)]


def theirs(teacher, sequences, processors, stops=STOPS, **more):
    "The token ids of generate, text after text, up to the end of each text."
    given = arguments(teacher, sequences, stops, **more)
    rows = teacher.model.generate(**given, logits_processor=list(processors))
    return [cut(row, stops) for row in rows[:, given['input_ids'].shape[1]:].tolist()]


def processor(teacher, labels, stops=STOPS, **options): return CorrelatedLogitsProcessor(labels, stops, vocab_size=teacher.vocab_size, **options)


CASES = [(2, 'cross'), (3, 'cross'), (3, 'all'), (4, 'cross'), (4, 'intra'), (4, 'hybrid'), (4, 'all')]


@pytest.mark.parametrize(('size', 'mode', 'eos'), [*((*case, 'renormalise') for case in CASES), (2, 'cross', 'drop'), (4, 'hybrid', 'drop'),
                                                    (2, 'cross', 'freeze'), (4, 'hybrid', 'freeze')])
def test_generate_draws_the_tokens_of_our_loop(tiny, size, mode, eos):
    sequences, options = prompts(size, 5), dict(delta=.2, alpha=.02, mode=mode, eos=eos)
    plans, own = grouped(sequences, LABELS[size], **options), processor(tiny, LABELS[size], **options)
    greedy = ours(tiny, plans, GREEDY)
    assert theirs(tiny, sequences, [own]) == greedy
    sampled = ours(tiny, plans, USUAL)
    assert theirs(tiny, sequences, [own, OurDraw(uniforms(plans), USUAL)]) == sampled
    lengths = [{len(text) for text in sampled[at:at + size]} for at in range(0, len(sampled), size)]
    assert sum(len(group) > 1 for group in lengths) > 1                              # rows of a group end at different steps
    assert greedy != ours(tiny, grouped(sequences, LABELS[size], delta=1., alpha=.02), GREEDY)


@pytest.mark.parametrize('options', [dict(gamma=1.6, delta=.7), dict(alpha=0.), dict(mode='hybrid', intra_share=.2),
                                     dict(mode=[[1., -.4, 0, 0], [0, 1, 0, -.3], [-.2, -.2, 1, 0], [0, 0, 0, 1]])], ids=str)
def test_every_option_acts_as_in_our_loop(tiny, options):
    sequences = prompts(4, 3, seed=1)
    plans = grouped(sequences, LABELS[4], **options)
    draws = OurDraw(uniforms(plans), USUAL)
    assert theirs(tiny, sequences, [processor(tiny, LABELS[4], **options), draws]) == ours(tiny, plans, USUAL)


def test_guided_scores_are_those_of_our_loop(tiny):
    sequences, options, seen = prompts(3, 1, seed=5), dict(delta=.3, alpha=.01), []
    plans = grouped(sequences, LABELS[3], **options)
    ours(tiny, plans, USUAL, observe=lambda plan, rows, logits, guided: seen.append((rows, guided.clone())))
    draws = OurDraw(uniforms(plans), USUAL)
    theirs(tiny, sequences, [processor(tiny, LABELS[3], **options), draws])
    assert len(seen) == len(draws.guided) > 2 and len({len(rows) for rows, _ in seen}) > 1
    for (rows, guided), scores in zip(seen, draws.guided):
        order = sorted(range(len(rows)), key=rows.__getitem__)
        assert scores[sorted(rows), 60:].isneginf().all()
        torch.testing.assert_close(scores[sorted(rows), :60].softmax(-1), guided[order].softmax(-1), atol=1e-4, rtol=0)


def test_greedy_on_the_embedded_teacher():
    teacher = CausalModel('pocket')
    stops, options = teacher.stop_ids.tolist(), dict(delta=.4, alpha=.01)
    sequences = teacher.encode(['A good review of a film:', 'A bad review:', 'A review of a hotel that says it is good:', 'A bad review of a hotel:'])
    plans = grouped(sequences, LABELS[2], None, **options)
    own = processor(teacher, LABELS[2], stops, **options)
    assert theirs(teacher, sequences, [own], stops) == ours(teacher, plans, GREEDY)


def test_one_processor_serves_call_after_call(tiny):
    options = dict(delta=.2, eos='freeze')
    own = processor(tiny, LABELS[2], **options)
    for groups in (2, 1, 3):
        sequences = prompts(2, groups, seed=groups)
        assert theirs(tiny, sequences, [own]) == ours(tiny, grouped(sequences, LABELS[2], **options), GREEDY)


def test_a_call_of_the_same_prompts_begins_anew(tiny):
    sequences, own = prompts(2, 2), processor(tiny, LABELS[2], delta=.2, eos='freeze')
    assert theirs(tiny, sequences, [own]) == theirs(tiny, sequences, [own])


def test_a_group_does_not_depend_on_its_neighbours(tiny):
    sequences = prompts(3, 4)
    together = theirs(tiny, sequences, [processor(tiny, LABELS[3], delta=.2)])
    apart = [text for at in range(0, 12, 3) for text in theirs(tiny, sequences[at:at + 3], [processor(tiny, LABELS[3], delta=.2)])]
    assert together == apart


def test_noise_behind_an_ended_row_does_not_count():
    "By the formula, in NumPy; the row that has ended is nan."
    rng = np.random.default_rng(0)
    for ended in range(3):
        z = rng.normal(size=(3, 9))
        alive = torch.tensor([[n != ended for n in range(3)]])
        one, two = [n for n in range(3) if n != ended]
        z[ended] = np.nan
        contrast = GroupContrast(('a', 'b', 'c'), CorrSynth(delta=.3))
        guided = guide_groups(torch.tensor(z)[None], alive, contrast.weights(alive), 0.)[0]
        for m, n in ((one, two), (two, one)): np.testing.assert_allclose(guided[m], z[m] - .7*z[n], rtol=1e-5, atol=1e-5)


def test_the_input_is_left_as_it_was(tiny):
    scores = torch.randn(4, 64, generator=torch.Generator().manual_seed(0))
    before, ids = scores.clone(), torch.tensor([[5, 6], [7, 8], [9, 4], [6, 5]])
    processor(tiny, LABELS[2])(ids, scores)
    assert torch.equal(scores, before)


REFUSED = [
    (dict(labels='ab', stops=3), 'list with one label'), (dict(labels=[], stops=3), 'got none'), (dict(labels=['a', 'b']), 'stops is missing'),
    (dict(labels=['a', 'b'], stops=-1), 'whole numbers'), (dict(labels=['a', 'b'], stops=3, delta=1.2), 'delta'), (dict(labels=['a', 'b'], stops=3, alpha=2), 'alpha'),
    (dict(labels=['a', 'b'], stops=3, mode='crossed'), 'mode'), (dict(labels=['a', 'b'], stops=3, eos='pad'), 'eos'),
    (dict(labels=['a', 'b'], stops=3, mode=[[1.]]), 'weight matrix'), (dict(labels=['a', 'b'], stops=3, vocab_size=-4), 'vocab_size')]


@pytest.mark.parametrize(('options', 'message'), REFUSED, ids=str)
def test_options_that_are_refused(options, message):
    with pytest.raises(ValueError, match=message): CorrelatedLogitsProcessor(**options)


@pytest.mark.parametrize(('labels', 'rows', 'more', 'message'), [
    (['a', 'b'], 3, {}, 'has 3 rows, and a group 2'), (['a', 'b'], 2, dict(num_beams=2), 'stands 2 times in a row'),
    (['a', 'b'], 4, dict(num_beams=3), 'stands 3 times in a row'), (['a', 'a'], 4, dict(num_beams=2), 'stands 2 times in a row'),
    (['a', 'b'], 4, dict(num_return_sequences=2, do_sample=True), 'num_return_sequences')])
def test_batches_that_are_no_groups_are_refused_by_generate(tiny, labels, rows, more, message):
    own = processor(tiny, labels, mode='intra' if labels == ['a', 'a'] else 'cross')
    with pytest.raises(ValueError, match=message): theirs(tiny, prompts(2, 2)[:rows], [own], **more)


def test_beams_that_slip_through_at_first_are_refused_when_they_change_places():
    own = CorrelatedLogitsProcessor(['a', 'a'], 3, mode='intra')
    scores, ids = torch.randn(2, 9, generator=torch.Generator().manual_seed(0)), torch.tensor([[5, 6], [5, 6]])
    own(ids, scores)
    own(torch.tensor([[5, 6, 1], [5, 6, 2]]), scores)
    with pytest.raises(ValueError, match='changed places'): own(torch.tensor([[5, 6, 2, 4], [5, 6, 2, 5]]), scores)


@pytest.mark.parametrize(('more', 'message'), [
    (dict(attention_mask=None), 'attention_mask is missing'), (dict(input_ids=None), 'input_ids is missing'), (dict(num_beams=2), 'num_beams=2'),
    (dict(num_return_sequences=2), 'num_return_sequences=2'), (dict(stop_strings=['x']), 'stop_strings'), (dict(assistant_model='m'), 'assistant_model'),
    (dict(eos_token_id=3), r'at the tokens \[3\]'), (dict(eos_token_id=None), r'at the tokens \[\]'), (dict(attention_mask=torch.ones(4, 1)), 'has the shape')], ids=str)
def test_arguments_that_are_refused(tiny, more, message):
    own, given = processor(tiny, LABELS[2]), arguments(tiny, prompts(2, 2))
    own.check(tiny.model, **given)
    with pytest.raises(ValueError, match=message): own.check(tiny.model, **given | more)


def test_padding_on_the_right_is_refused(tiny):
    given = arguments(tiny, prompts(2, 2))
    with pytest.raises(ValueError, match='padded on the right'):
        processor(tiny, LABELS[2]).check(tiny.model, **given | {name: given[name].flip(-1) for name in ('input_ids', 'attention_mask')})


# --- vLLM's V1 model runner, as its interface describes it -----------------------------------------------------------

class Direction(Enum):
    UNIDIRECTIONAL = auto()
    SWAP = auto()


class V1Base(ABC):
    "The abstract methods of vllm.v1.sample.logits_processor.LogitsProcessor."
    @classmethod
    def validate_params(cls, sampling_params): return None
    @abstractmethod
    def __init__(self, vllm_config, device, is_pin_memory): raise NotImplementedError
    @abstractmethod
    def apply(self, logits): raise NotImplementedError
    @abstractmethod
    def is_argmax_invariant(self): raise NotImplementedError
    @abstractmethod
    def update_state(self, batch_update): raise NotImplementedError
    def needs_output_token_ids(self): return False


class V2Base(ABC):
    "The methods of vllm.v1.worker.gpu.sample.logits_processor.LogitsProcessor."
    def __init__(self, vllm_config, req_states): pass
    @classmethod
    def validate_params(cls, sampling_params): pass
    def add_request(self, req_idx, sampling_params): return True
    def apply_staged_writes(self): pass
    @abstractmethod
    def apply(self, logits, ctx): raise NotImplementedError


@pytest.fixture
def vllm(monkeypatch):
    "Modules with vLLM's two base classes."
    for name, base in (('vllm.v1.sample.logits_processor', V1Base), ('vllm.v1.worker.gpu.sample.logits_processor', V2Base)):
        parts = name.split('.')
        for n in range(1, len(parts) + 1): monkeypatch.setitem(sys.modules, '.'.join(parts[:n]), sys.modules.get('.'.join(parts[:n])) or ModuleType('.'.join(parts[:n])))
        sys.modules[name].LogitsProcessor = base


def load(name):
    "A class by its full name, as vLLM loads it."
    module, qualname = name.split(':')
    return getattr(import_module(module), qualname)


@pytest.mark.parametrize(('name', 'base'), [('CorrelatedV1', V1Base), ('CorrelatedV2', V2Base)])
def test_the_classes_keep_the_contract(vllm, name, base):
    kind = load(f'synthlab.decode.processors:{name}')
    assert issubclass(kind, base) and not kind.__abstractmethods__ and kind is load(f'synthlab.decode.processors:{name}')
    for method in [m for m in vars(base) if inspect.isfunction(getattr(base, m)) or inspect.ismethod(getattr(base, m))]:
        mine, its = (list(inspect.signature(getattr(k, method)).parameters) for k in (kind, base))
        assert mine == its, method
    assert kind.validate_params(SimpleNamespace(extra_args=None)) is None


def test_vllm_is_imported_when_its_classes_are_asked_for():
    assert not any(name.split('.')[0] == 'vllm' for name in sys.modules)
    with pytest.raises(ImportError, match='CorrelatedV1 needs vLLM'): processors.CorrelatedV1
    with pytest.raises(AttributeError, match='CorrelatedV9'): processors.CorrelatedV9


class Request:
    "A request in flight, with the random numbers of its row."
    def __init__(self, prompt, extra_args, numbers, limit=STEPS):
        self.params = SimpleNamespace(extra_args=extra_args, n=1, structured_outputs=None)
        self.prompt, self.numbers, self.output, self.limit = prompt, numbers, [], limit

    @property
    def done(self): return bool(self.output) and (self.output[-1] in STOPS or len(self.output) == self.limit)


class V1Engine:
    "Steps of the V1 runner: lines are freed, filled by new requests or from the back, and sometimes swapped."
    def __init__(self, teacher, seed=0):
        self.teacher, self.rng, self.lines = teacher, random.Random(seed), []
        self.processor = load('synthlab.decode.processors:CorrelatedV1')(SimpleNamespace(), 'cpu', False)

    def update(self, new=(), leave=()):
        "Tell the processor how the batch changes."
        free = sorted(n for n, r in enumerate(self.lines) if r.done or r in leave)
        added, moved = [], []
        for request in new:
            line = free.pop(0) if free else len(self.lines)
            self.lines[line:line + 1] = [request]
            added.append((line, request.params, request.prompt, request.output))
        removed = list(free)
        while free:
            last = len(self.lines) - 1
            if last in free: free.remove(last)
            else:
                moved.append((last, free[0], Direction.UNIDIRECTIONAL))
                removed.remove(free[0])
                self.lines[free.pop(0)] = self.lines[last]
            self.lines.pop()
        if len(self.lines) > 1 and self.rng.random() < .5:
            one, two = self.rng.sample(range(len(self.lines)), 2)
            self.lines[one], self.lines[two] = self.lines[two], self.lines[one]
            moved.append((one, two, Direction.SWAP))
        changed = removed or added or moved
        self.processor.update_state(SimpleNamespace(batch_size=len(self.lines), removed=sorted(removed, reverse=True), added=added, moved=moved) if changed else None)

    def step(self, new=(), leave=()):
        self.update(new, leave)
        if self.lines: choose(self.lines, self.processor.apply(scored(self.teacher, self.lines)))


def scored(teacher, requests):
    "Scores of the next token of each request, which may be changed in place."
    return teacher.next_logits([r.prompt + r.output for r in requests]).clone()


def choose(requests, logits):
    for request, scores in zip(requests, logits):
        number = torch.as_tensor(request.numbers[len(request.output)]).reshape(1)
        request.output.append(draw(scores[None], number, USUAL).item())


class V2Engine:
    "Steps of Model Runner V2: slots are used again without notice, and the order is another at every step."
    def __init__(self, teacher, slots=24, seed=0):
        self.teacher, self.rng, self.slots = teacher, random.Random(seed), {}
        self.states = SimpleNamespace(**{name: SimpleNamespace(np=np.zeros(slots, int)) for name in ('prompt_len', 'prefill_len')})
        self.processor, self.free = load('synthlab.decode.processors:CorrelatedV2')(SimpleNamespace(speculative_config=None), self.states), list(range(slots))

    def update(self, new=(), leave=()):
        for slot, request in list(self.slots.items()):
            if request.done or request in leave: del self.slots[slot]; self.free.insert(0, slot)
        for request in new:
            slot = self.free.pop(0)
            self.slots[slot], self.states.prompt_len.np[slot] = request, len(request.prompt)
            self.states.prefill_len.np[slot] = len(request.prompt) + len(request.output)
            assert self.processor.add_request(slot, request.params) == ('corrsynth_group' in (request.params.extra_args or ()))

    def step(self, new=(), leave=(), reading=(), left_out=()):
        "Draw a token for every request but those whose prompts are still being read, and those that the step leaves out."
        self.update(new, leave)
        order = [slot for slot in self.rng.sample(list(self.slots), len(self.slots)) if self.slots[slot] not in left_out]
        if not order: return
        requests, indices = [self.slots[slot] for slot in order], np.array(order, dtype=np.int32)
        lengths = np.array([1 if r in reading else len(r.prompt + r.output) for r in requests])
        ctx = SimpleNamespace(idx_mapping_np=indices, idx_mapping=torch.tensor(order), expanded_idx_mapping=torch.tensor(order), seq_lens_upper_bound_np=lengths)
        logits = self.processor.apply(scored(self.teacher, requests), ctx)
        drawing = [n for n, r in enumerate(requests) if r not in reading]
        choose([requests[n] for n in drawing], logits[drawing])


def asked(plans, labels, **options):
    "The requests of the groups of some plans, group after group."
    return [Request(list(p.prompts[row]), extra, uniforms([p])[:, row]) for p in plans for row, extra in enumerate(vllm_arguments(labels, p.name, **options))]


def counts(engine): return dict(engine.processor.lockstep.counts)


@pytest.fixture(params=[V1Engine, V2Engine])
def engine(request, vllm, tiny): return request.param(tiny)


@pytest.mark.parametrize(('size', 'mode', 'eos'), [*((*case, 'renormalise') for case in CASES), (3, 'cross', 'drop')])
def test_an_engine_draws_the_tokens_of_our_loop(tiny, engine, size, mode, eos):
    "Groups enter at different steps, beside a request of somebody else."
    options, rng = dict(delta=.2, alpha=.02, mode=mode, eos=eos), random.Random(1)
    plans = grouped(prompts(size, 4), LABELS[size], **options)
    requests, stranger = asked(plans, LABELS[size], **options), Request([5, 6, 7], None, torch.rand(STEPS))
    waiting = [requests[at:at + size] for at in range(0, len(requests), size)]
    engine.step([stranger, *waiting.pop(0)])
    while not all(r.done for r in requests): engine.step(waiting.pop(0) if waiting and rng.random() < .5 else ())
    expected = ours(tiny, plans, USUAL)
    assert [r.output for r in requests] == expected
    assert counts(engine) == dict(together=sum(map(len, expected)), alone=0, groups_apart=0)


def alone(tiny, request):
    "The text of a request that nobody changes the scores of."
    twin = Request(request.prompt, None, request.numbers)
    while not twin.done: choose([twin], scored(tiny, [twin]))
    return twin.output


@pytest.fixture
def group(tiny): return asked(grouped(prompts(3, 1, seed=8), LABELS[3]), LABELS[3], delta=.2)


def finish(engine, requests):
    while not all(r.done for r in requests): engine.step()


def test_a_row_that_comes_late_leaves_all_without_contrast(tiny, engine, group, caplog):
    engine.step(group[:2])
    engine.step(group[2:])
    finish(engine, group)
    assert [r.output for r in group] == [alone(tiny, r) for r in group]
    assert counts(engine) == dict(together=0, alone=sum(len(r.output) for r in group), groups_apart=1)
    assert [record.message for record in caplog.records] == ['group 0 is sampled without contrast from here to its end: the rows [2] are not in the batch']


def test_a_row_that_is_put_off_ends_the_contrast_when_it_returns(engine, group):
    engine.step(group)
    put_off = next(r for r in group if not r.done)
    engine.step(leave=[put_off])
    living = [r for r in group if not r.done and r is not put_off]
    before = counts(engine)
    assert before['alone'] == 0
    engine.step([put_off])
    assert counts(engine)['groups_apart'] == 1 and counts(engine)['together'] == before['together'] and counts(engine)['alone'] == 1 + len(living)


def test_a_whole_group_that_is_put_off_is_apart_when_it_returns(engine, group):
    engine.step(group)
    living = [r for r in group if not r.done]
    engine.step([Request([5, 6], None, torch.rand(STEPS))], leave=living)
    engine.step(living)
    assert counts(engine) == dict(together=3, alone=len(living), groups_apart=1)


def test_rows_that_a_step_leaves_out(vllm, tiny, group, caplog):
    "Model Runner V2 keeps their slots; they come back without notice."
    one, engine = group[0], V2Engine(tiny)
    engine.step(group)
    engine.step(left_out=[one])
    assert counts(engine)['alone'] == 0 and not one.done
    engine.step()
    assert 'its rows have written [1, 2] tokens' in caplog.text and counts(engine)['groups_apart'] == 1
    engine = V2Engine(tiny)
    late = asked(grouped(prompts(3, 1, seed=8), LABELS[3]), LABELS[3], delta=.2)
    engine.step([*late, Request([5, 6], None, torch.rand(STEPS))])
    engine.step(left_out=late)
    engine.step()
    assert 'a row was put off and returned' in caplog.text and counts(engine)['together'] == 3


def test_two_requests_of_one_row(engine, group):
    twin = Request(group[0].prompt, group[0].params.extra_args, group[0].numbers)
    engine.step([*group, twin])
    assert counts(engine) == dict(together=0, alone=4, groups_apart=1)


def test_rows_of_different_options(engine, group):
    group[1].params.extra_args = group[1].params.extra_args | {'corrsynth_delta': .3}
    engine.step(group)
    assert counts(engine) == dict(together=0, alone=3, groups_apart=1)


def test_a_name_is_used_again_once_a_group_is_gone(tiny, engine):
    for seed in range(3):
        plans = grouped(prompts(2, 1, seed), LABELS[2], delta=.2)
        requests = asked(plans, LABELS[2], delta=.2)
        engine.step(requests)
        finish(engine, requests)
        assert [r.output for r in requests] == ours(tiny, plans, USUAL)
    assert counts(engine)['alone'] == 0


def test_prompts_that_are_read_in_parts(vllm, tiny, group):
    "Model Runner V2 tells; nothing is drawn before all have read their prompts."
    engine = V2Engine(tiny)
    engine.step(group, reading=group)
    engine.step()
    assert counts(engine) == dict(together=3, alone=0, groups_apart=0)
    late = asked([replace(grouped(prompts(3, 1, seed=9), LABELS[3])[0], name='late')], LABELS[3], delta=.2)
    engine = V2Engine(tiny)
    engine.step(late, reading=late[:1])
    assert counts(engine) == dict(together=0, alone=2, groups_apart=1)


def test_a_batch_of_strangers_is_left_alone(engine):
    engine.step([Request([5, 6, 7], None, torch.rand(STEPS)), Request([8], {'top_n': 3}, torch.rand(STEPS))])
    assert counts(engine) == dict(together=0, alone=0, groups_apart=0)


def test_counts_are_added_up_over_processors(engine, group):
    before = contrast_counts()
    engine.step(group)
    assert contrast_counts()['together'] - before['together'] == 3


def test_greedy_decoding_is_not_left_alone(): assert not BatchContrast(SimpleNamespace(), 'cpu', False).is_argmax_invariant()


@pytest.mark.parametrize('kind', [lambda config: BatchContrast(config, 'cpu', False), lambda config: SlotContrast(config, None)])
def test_engines_in_which_rows_do_not_keep_step_are_refused(kind):
    kind(SimpleNamespace(speculative_config=None, scheduler_config=SimpleNamespace(async_scheduling=False)))
    with pytest.raises(ValueError, match='speculative_config'): kind(SimpleNamespace(speculative_config=object()))
    with pytest.raises(ValueError, match='async_scheduling=False'): kind(SimpleNamespace(scheduler_config=SimpleNamespace(async_scheduling=True)))


GOOD = vllm_arguments(['a', 'b'], 'g')[0]


@pytest.mark.parametrize(('more', 'message'), [
    (dict(extra_args={'corrsynth_row': 1}), 'corrsynth_group is missing'), (dict(extra_args=GOOD | {'corrsynth_row': 2}), 'from 0 to 1'),
    (dict(extra_args=GOOD | {'corrsynth_row': '0'}), 'whole number'), (dict(extra_args=GOOD | {'corrsynth_labels': 'ab'}), 'must be a list'),
    (dict(extra_args=GOOD | {'corrsynth_labels': 7}), 'must be a list'), (dict(extra_args=GOOD | {'corrsynth_group': ['g']}), 'words or numbers'),
    (dict(extra_args=GOOD | {'corrsynth_detla': .5}), "did you mean 'delta'"), (dict(extra_args=GOOD | {'corrsynth_eos': 'freeze'}), 'renormalise or drop'),
    (dict(extra_args=GOOD | {'corrsynth_delta': 3}), 'delta'), (dict(extra_args=GOOD | {'corrsynth_gamma': 'x'}), 'gamma'),
    (dict(extra_args=GOOD | {'corrsynth_mode': [[1.]]}), 'weight matrix'), (dict(n=2), 'n=2'), (dict(structured_outputs='json'), 'structured_outputs')], ids=str)
def test_requests_that_are_refused(more, message):
    params = SimpleNamespace(**dict(extra_args=GOOD, n=1, structured_outputs=None) | more)
    for kind in (BatchContrast, SlotContrast):
        with pytest.raises(ValueError, match=message): kind.validate_params(params)
    BatchContrast.validate_params(SimpleNamespace(extra_args=GOOD, n=1, structured_outputs=None))
