"""Train `pocket` on by preference: part four, after heed.py.

    python nbs/pocket/prefer.py CORPUS OUT --start MODEL --prompts 2000 --minutes 20

The teacher writes several texts after each few-shot prompt of the training sets. The best of them is nearer to one of
its own demonstrations than to those of other texts, and gets its label from a classifier of real texts; the worst is
not, and does not. A text that repeats its demonstration word for word is never the best. Direct preference
optimisation (Rafailov et al. 2023, equation 7) then makes the best likelier against the worst,

    L = -log sigmoid(beta*((log p(best) - log p_start(best)) - (log p(worst) - log p_start(worst)))),

with a step on the training stream beside each, so that nothing is lost of what it knew. OUT/pairs.parquet holds the
texts; where it is, none are written again.
"""
import argparse
import json
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from synthlab.decode.model import plain_prompt
from synthlab.decode.sampling import Sampling
from synthlab.embeddings import GoldClassifier, default_embedder
from synthlab.tasks.task import messages
from synthlab.teacher.causal import CausalTeacher
from synthlab.teacher.requests import Request
from transformers import AutoModelForCausalLM, AutoTokenizer

from corpus import PARTS
from heed import report
from stream import MORE_WORDING, WORDING, Stream, choose, read_sources, renamed
from train import batches, collate, loss_of, optimiser_of, read_texts, save, shared_positions

TEXTS = 6                                                   # written after each prompt
SHOTS = {1: .5, 2: .15, 3: .25, 5: .1}
KNOWN, AGAIN = 600, .4                                      # texts of a classifier; share of word triples of a copy
BETA, OF_BEST = .1, .1                                      # strength of the preference, weight of the best's own loss


def drawn(sources, rng):
    "A task as it is put to the teacher, the label's name there, and the demonstrations and the label behind it."
    weights = np.sqrt([source.weight for source in sources])
    n = rng.choice(len(sources), p=weights/weights.sum())
    source, labels = sources[n], list(sources[n].by_label)
    label = labels[rng.choice(len(labels), p=source.prior)]
    rows = source.by_label[label]
    shown = rng.choice(rows, min(choose(rng, SHOTS), len(rows)), replace=False)
    task, name = renamed(source.task, label, choose(rng, WORDING if source.built_in else MORE_WORDING), rng)
    return {'source': n, 'label': label, 'task': task, 'name': name, 'shown': [source.texts[i] for i in shown]}


def write(teacher, prompts, part=64):
    "Several texts after each prompt, put beside it, and whether they ended of themselves."
    for first in range(0, len(prompts), part):
        group = prompts[first:first + part]
        requests = [Request(messages(p['task'], p['name'], p['shown']), Sampling(p['task'].max_new_tokens, .95, .9),
                            cue=p['task'].cue, seed=(first + i)*TEXTS + k)
                    for i, p in enumerate(group) for k in range(TEXTS)]
        replies = teacher.complete(requests, repair=False, progress=False)
        for i, prompt in enumerate(group):
            prompt['prompt'] = plain_prompt(requests[i*TEXTS].messages, requests[i*TEXTS].cue)
            mine = replies[i*TEXTS:(i + 1)*TEXTS]
            prompt['texts'] = [reply.text.strip() for reply in mine]
            prompt['whole'] = [reply.outcome == 'ok' for reply in mine]
        print(f'{first + len(group)} of {len(prompts)} prompts', flush=True)


def triples(text):
    "Runs of three words."
    words = text.lower().split()
    return set(zip(words, words[1:], words[2:]))


def copied(text, shown):
    "Share of a text's word triples that stand in a demonstration."
    own = triples(text)
    return max((len(own & triples(other)) for other in shown), default=0)/max(len(own), 1)


def scores(texts, near, others, right):
    "Standard scores: nearness to the own demonstrations beyond that to others, and log-odds of the label."
    def standard(x): return (x - x.mean())/(x.std() + 1e-6)
    return standard(near - others) + standard(np.clip(np.log(right + 1e-3), -4, 0))


def judge(prompts, sources, embedder):
    "Nearness and rightness of every text, put beside it."
    of_source = defaultdict(list)
    for prompt in prompts: of_source[prompt['source']].append(prompt)
    for n, group in of_source.items():
        source, rng = sources[n], np.random.default_rng(n)
        known = rng.choice(len(source.texts), min(KNOWN, len(source.texts)), replace=False)
        ruler = GoldClassifier(embedder).fit([source.texts[i] for i in known], source.labels[known])
        others = {label: np.asarray(embedder.encode([source.texts[i] for i in rows[:20]])).mean(0)
                  for label, rows in source.by_label.items()}
        written = np.asarray(embedder.encode([text or '-' for p in group for text in p['texts']]))
        shown = np.asarray(embedder.encode([text for p in group for text in p['shown']]))
        right, at = ruler.predict_proba(written), 0
        for i, p in enumerate(group):
            mine, own = written[i*TEXTS:(i + 1)*TEXTS], shown[at:at + len(p['shown'])]
            at += len(p['shown'])
            p['near'], p['others'] = (mine @ own.T).max(1), mine @ others[p['label']]
            known_label = p['label'] in ruler.labels
            p['right'] = right[i*TEXTS:(i + 1)*TEXTS, ruler.labels.index(p['label'])] if known_label else np.ones(TEXTS)


def pairs_of(prompt):
    "Best and worst, and the second of both."
    fit = np.array([bool(text) and whole and copied(text, prompt['shown']) < AGAIN
                    for text, whole in zip(prompt['texts'], prompt['whole'])])
    score = scores(prompt['texts'], prompt['near'], prompt['others'], prompt['right'])
    score[[any(end in text for end in ('"}', '"]')) for text in prompt['texts']]] -= 3
    best, worst = [i for i in np.argsort(-score) if fit[i]][:2], [i for i in np.argsort(score) if prompt['texts'][i]][:2]
    return [(prompt['prompt'], prompt['texts'][b], prompt['texts'][w]) for b, w in zip(best, worst)
            if score[b] > score[w] + 1]


def make_pairs(o, sources):
    "Pairs of the texts that the teacher writes, stored."
    path = o.out/'pairs.parquet'
    if path.exists(): return pd.read_parquet(path)
    rng, teacher = np.random.default_rng(o.seed), CausalTeacher(o.start)
    prompts = [drawn(sources, rng) for _ in range(o.prompts)]
    write(teacher, prompts)
    judge(prompts, sources, default_embedder())
    gap = np.mean([p['near'].mean() - p['others'].mean() for p in prompts])
    print(f"nearness beyond that to others {gap:.3f}, right {np.mean([p['right'].mean() for p in prompts]):.3f}, copied "
          f"{np.mean([copied(text, p['shown']) > AGAIN for p in prompts for text in p['texts']]):.3f}", flush=True)
    pairs = pd.DataFrame([pair for p in prompts for pair in pairs_of(p)], columns=['prompt', 'best', 'worst'])
    pairs.to_parquet(path)
    return pairs


def log_probs(model, ids, is_text, first=0):
    "Log-likelihood of the text tokens of each row."
    hidden = model.bert(ids, position_ids=torch.arange(first, first + ids.shape[1])[None]).last_hidden_state[:, :-1]
    mask = is_text[:, 1:]
    nats = F.cross_entropy(model.cls(hidden[mask]).float(), ids[:, 1:][mask], reduction='none')
    return torch.zeros(len(ids)).index_add(0, mask.nonzero()[:, 0], -nats)


def encoded(pairs, tokenizer):
    "Tokens of prompt and text of both texts of each pair, with a mark of those of the text."
    def encode(text): return tokenizer(text, add_special_tokens=False)['input_ids']
    def example(prompt, text): return [2] + prompt + text, [0]*(1 + len(prompt)) + [1]*len(text)
    out = []
    for prompt, best, worst in pairs.itertuples(index=False):
        prompt = encode(prompt)
        out.append([example(prompt, encode(text) + [3]) for text in (best, worst)])
    return [pair for pair in out if max(len(ids) for ids, _ in pair) <= 768]


def in_batches(pairs, rows=12):
    "Padded batches of pairs of like length, the best texts first, in random order."
    order = sorted(range(len(pairs)), key=lambda i: len(pairs[i][0][0]))
    groups = [order[i:i + rows] for i in range(0, len(order), rows)]
    return [collate([pairs[i][k] for k in (0, 1) for i in groups[j]])
            for j in np.random.default_rng(0).permutation(len(groups))]


def preference_loss(log_p, log_start, is_text):
    "The loss of the preference and of the best texts themselves, and the share of pairs in the right order."
    best, worst = (log_p - log_start).chunk(2)
    lengths = is_text.sum(1).chunk(2)[0]
    loss = -F.logsigmoid(BETA*(best - worst)).mean() - OF_BEST*(log_p.chunk(2)[0]/lengths).mean()
    return loss, (best > worst).float().mean().item()


def arguments():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument('corpus', type=Path); a.add_argument('out', type=Path)
    a.add_argument('--start', default='synthlab/resources/pocket'); a.add_argument('--prompts', type=int, default=2000)
    a.add_argument('--lr', type=float, default=1e-4); a.add_argument('--minutes', type=float, default=20)
    a.add_argument('--seed', type=int, default=0); a.add_argument('--tokens', type=int, default=3072)
    return a.parse_args()


def main():
    o = arguments()
    o.out.mkdir(parents=True, exist_ok=True)
    sources, tokenizer = read_sources(o.corpus), AutoTokenizer.from_pretrained(o.start)
    pairs = in_batches(encoded(make_pairs(o, sources), tokenizer))
    model = AutoModelForCausalLM.from_pretrained(o.start, dtype=torch.float32)
    model.set_attn_implementation('float32_attention')
    model.eval()
    with torch.no_grad(), torch.autocast('cpu', torch.bfloat16):
        started = [log_probs(model, *batch) for batch in pairs]
    print(f'{len(pairs)} batches of pairs', flush=True)
    optimiser, rng, start, recent = optimiser_of(model, o.lr), np.random.default_rng(o.seed), time.time(), []
    model.train()
    for step, (batch, log_start, plain) in enumerate(zip(pairs, started, batches(Stream(sources, tokenizer, 10**6 + o.seed),
                                                                                 o.tokens))):
        share = min((step + 1)/20, 1, 1.5*(1 - step/len(pairs)))
        for group in optimiser.param_groups: group['lr'] = o.lr*share
        with torch.autocast('cpu', torch.bfloat16):
            first = shared_positions(batch[0].shape[1], rng)
            loss, order = preference_loss(log_probs(model, *batch, first), log_start, batch[1])
            usual = loss_of(model, *plain)
        (loss + usual).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.)
        optimiser.step(); optimiser.zero_grad()
        recent.append((loss.item(), usual.item(), order))
        if (step + 1) % 20 == 0:
            print(f'{step + 1} preference {np.mean(recent[-20:], 0).round(3)} {(time.time() - start)/60:.1f} min', flush=True)
    tests = {name: read_texts(o.corpus/f'{name}.test.parquet') for name in PARTS}
    log = [report(model, tokenizer, sources, tests, step + 1, argparse.Namespace(tokens=o.tokens, save=20),
                  (time.time() - start)/60, [r[1] for r in recent])]
    save(o.out, model, tokenizer, optimiser, step + 1, log)


if __name__ == '__main__': main()
