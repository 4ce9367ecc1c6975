"""How fast is the decode loop? Ratios against peers measured in the same run.

    python tests/benchmarks/bench_decoding.py [--rows 64] [--tokens 64] [--lengths equal,ragged] [--repeats 3] [--json FILE]

Peers, on the same model, prompts and batch size: the bare forward loop (the model's own cache, next token by argmax, nothing
else), transformers' `generate` with sampling, and `generate` with `guidance_scale` (which runs a second row for each row).
Ours: FewGen, CorrSynth in groups of four, and CFG with one contrast row each. With equal lengths every text has `--tokens`
tokens; ragged lengths are geometric with mean 32, at most 128, two batches of texts: `generate` waits for the longest text
of a batch, our loop refills. The table gives useful tokens a second (median) and how the method compares with the bare loop.
On a GPU it also times one pass, called and recorded, against the time to read the weights and the cache once; decoding_h100.json has such a run:

    python tests/benchmarks/bench_decoding.py --device cuda --dtype bfloat16 --models llama --hidden 2048 --layers 16 --tokens 128 --rows 64
"""
import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from synthlab.decode.contrast import contrast_weights
from synthlab.decode.loop import DecodePlan, RecordedSteps, RowCache, Sampling, decode, read_prompts, recordable, step
from synthlab.teacher.causal import CausalTeacher
from transformers import DynamicCache, LlamaConfig, LlamaForCausalLM, StoppingCriteria, StoppingCriteriaList
from transformers.utils import logging

PROMPT, GROUP = 48, 4                                       # tokens of every prompt, rows of a group
NATS = 3.                                                   # entropy of a next token, about that of a trained model


def random_llama(device, dtype, vocab=50_000, hidden=256, layers=8):
    "A Llama with random weights, about 32 M parameters at the default sizes."
    torch.manual_seed(0)
    config = LlamaConfig(vocab_size=vocab, hidden_size=hidden, intermediate_size=3*hidden, num_hidden_layers=layers, num_attention_heads=max(8, hidden//128),
                         max_position_embeddings=1024, bos_token_id=2, eos_token_id=3, pad_token_id=0)
    with tempfile.TemporaryDirectory() as folder:
        LlamaForCausalLM(config).save_pretrained(folder)
        CausalTeacher('pocket', device='cpu').tokenizer.save_pretrained(folder)
        teacher = CausalTeacher(folder, device=device, dtype=dtype)
    teacher.vocab_size = vocab
    return teacher


def peaked_llama(device, dtype, **sizes):
    "The same Llama with scores as far apart as a trained model's: its next token has some `NATS` of entropy, and few words are plausible."
    teacher = random_llama(device, dtype, **sizes)
    scores = torch.stack([read.logits for read in read_prompts(teacher, prompts(teacher, 16))]).float()
    low, high = 1., 100.
    for _ in range(20):
        scale = (low + high)/2
        entropy = torch.distributions.Categorical(logits=scale*scores).entropy().mean()
        low, high = (scale, high) if entropy > NATS else (low, scale)
    with torch.no_grad(): teacher.model.lm_head.weight.mul_(scale)
    return teacher


def prompts(teacher, n):
    return torch.randint(4, 12_000, (n, PROMPT), generator=torch.Generator().manual_seed(0)).tolist()


class Lengths(StoppingCriteria):
    "Ends every row at its own length."
    def __init__(self, lengths, device): self.lengths = torch.tensor(lengths, device=device)
    def __call__(self, input_ids, scores, **kwargs): return input_ids.shape[1] - PROMPT >= self.lengths


@torch.inference_mode()
def bare(teacher, ids, lengths):
    "The model's forward passes with its own cache, and nothing else."
    ids, past = torch.tensor(ids, device=teacher.device), DynamicCache(config=teacher.model.config)
    for _ in range(max(lengths)):
        ids = teacher.forward(ids, past, logits_to_keep=1).logits[:, -1].argmax(-1, keepdim=True)


def generate(teacher, ids, lengths, **options):
    ids = torch.tensor(ids, device=teacher.device)
    if 'guidance_scale' in options: options['negative_prompt_ids'] = ids.roll(1, 0)
    teacher.model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=True, top_k=0, top_p=1., max_new_tokens=max(lengths), eos_token_id=-1,
                           pad_token_id=0, stopping_criteria=StoppingCriteriaList([Lengths(lengths, teacher.device)]), **options)


def ours(teacher, ids, lengths, rows, method):
    labels = list('abcd')
    eye, cross = torch.eye(GROUP), contrast_weights(labels, delta=.5)
    def plan(first):
        here, limits = ids[first:first + GROUP], lengths[first:first + GROUP]
        if method == 'cfg':
            weights = torch.cat([torch.cat([1.5*eye, -.5*eye], 1), torch.zeros(GROUP, 2*GROUP)])
            return DecodePlan([*here, *here[1:], here[0]], [*range(GROUP)]*2, weights, 1e-3, limits=limits, seed=first)
        return DecodePlan(here, range(GROUP), eye if method == 'fewgen' else cross, 0. if method == 'fewgen' else 1e-3, labels, first, limits=limits)
    for _ in decode(teacher, map(plan, range(0, len(ids), GROUP)), Sampling(max(lengths)), max_rows=rows): pass


def filled_cache(teacher, ids, width):
    "A cache that holds these prompts, and their scores."
    cache, prompts = RowCache(len(ids)), read_prompts(teacher, ids)
    cache.reserve(prompts[0], width)
    cache.append(prompts)
    return cache, torch.stack([prompt.logits for prompt in prompts])


def bare_recorded(teacher, ids, lengths):
    "The bare loop with our cache and recorded passes."
    cache, scores = filled_cache(teacher, ids, PROMPT + max(lengths))
    steps = RecordedSteps(teacher, cache)
    for _ in range(max(lengths) - 1): scores = steps.step(scores.argmax(-1).tolist())


def milliseconds(work, times=20):
    "Mean of some runs on a GPU after a few others."
    for _ in range(3): work()
    torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(times): work()
    torch.cuda.synchronize()
    return 1e3*(time.perf_counter() - start)/times


def one_pass(teacher, rows, columns=113):
    "Milliseconds of a pass, called and recorded, and the bound: weights and cache read once, as fast as a device copy reads and writes."
    cache, _ = filled_cache(teacher, torch.randint(4, 12_000, (rows, columns - 1), generator=torch.Generator().manual_seed(1)).tolist(), columns)
    steps, numbers = RecordedSteps(teacher, cache), torch.arange(2**30, dtype=torch.int32, device=teacher.device)
    def again(take, *args):
        cache.places.lengths = [columns - 1]*rows
        take(*args)
    copied, copy = 2*numbers.nbytes, torch.empty_like(numbers)
    speed = copied/milliseconds(lambda: copy.copy_(numbers))
    weights = sum(p.nbytes for p in teacher.model.parameters()) - teacher.model.get_input_embeddings().weight.nbytes
    past = sum(part[:, :, :columns].numel()*part.element_size() for layer in cache.layers for part in (layer.keys, layer.values))
    return {'bound': (weights + past)/speed, 'called': milliseconds(lambda: again(step, teacher, [9]*rows, cache)),
            'recorded': milliseconds(lambda: again(steps.step, [9]*rows)), 'copy, TB/s': speed/1e9}


def in_batches(run, ids, lengths, rows):
    for first in range(0, len(ids), rows): run(ids[first:first + rows], lengths[first:first + rows])


def contestants(teacher, rows):
    return {'bare forward loop': lambda i, n: in_batches(lambda *a: bare(teacher, *a), i, n, rows),
            'generate, sampling': lambda i, n: in_batches(lambda *a: generate(teacher, *a), i, n, rows),
            'FewGen': lambda i, n: ours(teacher, i, n, rows, 'fewgen'),
            'CorrSynth': lambda i, n: ours(teacher, i, n, rows, 'corrsynth'),
            'generate, guidance_scale': lambda i, n: in_batches(lambda *a: generate(teacher, *a, guidance_scale=1.5), i, n, rows),
            'CFG': lambda i, n: ours(teacher, i, n, 2*rows, 'cfg'),
            **({'bare loop, recorded': lambda i, n: in_batches(lambda *a: bare_recorded(teacher, *a), i, n, rows)} if recordable(teacher) else {})}


def measure(teacher, rows, lengths, repeats):
    "Median useful tokens a second of each contestant; the contestants take turns."
    runs, ids, times = contestants(teacher, rows), prompts(teacher, len(lengths)), {}
    for run in runs.values(): run(ids[:rows], [2]*rows if teacher.device.type == 'cpu' else lengths[:rows])        # warm-up; a GPU plans each shape
    for _ in range(repeats):
        for name, run in runs.items():
            start = time.perf_counter()
            run(ids, lengths)
            if teacher.device.type == 'cuda': torch.cuda.synchronize()
            times.setdefault(name, []).append(time.perf_counter() - start)
    return {name: sum(lengths)/statistics.median(t) for name, t in times.items()}


def report(title, speeds):
    print(f'\n{title}\n{"":26}{"tokens/s":>10}{"of bare loop":>14}{"of generate":>13}{"of guidance_scale":>19}')
    for name, s in speeds.items():
        ratios = [s/speeds[peer] for peer in ('bare forward loop', 'generate, sampling', 'generate, guidance_scale')]
        print(f'{name:26}{s:10.0f}{ratios[0]:14.2f}{ratios[1]:13.2f}{ratios[2]:19.2f}', flush=True)


def main():
    logging.set_verbosity_error(); logging.disable_progress_bar()
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument('--rows', type=int, default=64); a.add_argument('--tokens', type=int, default=64)
    a.add_argument('--repeats', type=int, default=3); a.add_argument('--device', default='auto'); a.add_argument('--dtype', default='auto')
    a.add_argument('--models', default='pocket,llama,peaked'); a.add_argument('--json', type=Path)
    a.add_argument('--lengths', default='equal,ragged')
    a.add_argument('--hidden', type=int, default=256); a.add_argument('--layers', type=int, default=8)
    o = a.parse_args()
    ragged = np.random.default_rng(0).geometric(1/32, 2*o.rows).clip(max=128).tolist()
    results = {}
    for name in o.models.split(','):
        teacher = (CausalTeacher('pocket', dtype=o.dtype, device=o.device) if name == 'pocket' else
                   {'llama': random_llama, 'peaked': peaked_llama}[name](o.device, o.dtype, hidden=o.hidden, layers=o.layers))
        teacher.stop_ids = teacher.stop_ids[:0]
        size = f'{name}, {sum(p.numel() for p in teacher.model.parameters())/1e6:.0f} M parameters, {teacher.vocab_size} tokens, {teacher.device}, {teacher.dtype}'
        if recordable(teacher):
            results[f'{name}, one pass, {o.rows} rows, ms'] = times = one_pass(teacher, o.rows)
            print(f'\n{size}: one pass, {o.rows} rows\n', {k: round(v, 2) for k, v in times.items()})
        kinds = {'equal': (f'equal lengths, {o.rows} rows of {o.tokens}', [o.tokens]*o.rows), 'ragged': (f'ragged lengths, {2*o.rows} rows', ragged)}
        for title, lengths in map(kinds.get, o.lengths.split(',')):
            speeds = results[f'{name}, {title}'] = measure(teacher, o.rows, lengths, o.repeats)
            report(f'{size}: {title}', speeds)
    if o.json: o.json.write_text(json.dumps(results, indent=1))


if __name__ == '__main__': main()
