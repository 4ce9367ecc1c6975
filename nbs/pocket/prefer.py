"""Train `pocket` on by preference: part four, after heed.py.

    python nbs/pocket/prefer.py pairs CORPUS PAIRS.parquet --start MODEL --seed 0    # seven minutes
    python nbs/pocket/prefer.py learn CORPUS OUT PAIRS.parquet --start MODEL         # six minutes

The teacher writes several texts after each few-shot prompt of the training sets. The best of them is nearer to one of
its own demonstrations than other texts of the label are, gets its label from a classifier of real texts, and holds no
made-up words; the worst does not. A text that repeats a demonstration is never the best. Direct preference
optimisation (Rafailov et al. 2023, equation 7) makes the best y+ likelier than the worst y-, against the model r that
wrote both,

    L = -log sigmoid(beta*((log p(y+) - log r(y+)) - (log p(y-) - log r(y-)))),

beside some of the best's own likelihood and a step on the training stream, so that nothing is lost of what it knew.
Pairs of several seeds may be written at once, each by a process of its own; a second round begins from the first's OUT.
"""
import argparse
import json
import re
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from synthlab.decode.model import plain_prompt
from synthlab.decode.sampling import Sampling
from synthlab.embeddings import Embedder, GoldClassifier
from synthlab.tasks.task import messages
from synthlab.teacher.causal import CausalTeacher
from synthlab.teacher.requests import Request
from transformers import AutoModelForCausalLM, AutoTokenizer

from corpus import PARTS
from heed import report
from stream import LONGEST, MORE_WORDING, WORDING, Stream, choose, read_sources, renamed
from train import batches, collate, loss_of, optimiser_of, read_texts, save, shared_positions

TEXTS = 6                                                   # written after each prompt
SHOTS = {1: .5, 2: .15, 3: .25, 5: .1}
KNOWN, AGAIN = 300, .4                                      # texts of a classifier; share of word triples of a copy
MADE_UP = 10.                                               # what a text loses for being all made-up words
BETA, OF_BEST = .1, .1                                      # strength of the preference, weight of the best's own loss


# ---- texts after few-shot prompts

def drawn(sources, rng):
    "A task as it is put to the teacher, the label's name there, and the demonstrations and the label behind it."
    n = choose(rng, source_shares(sources))
    source, labels = sources[n], list(sources[n].by_label)
    label = labels[rng.choice(len(labels), p=source.prior)]
    rows = source.by_label[label]
    shown = rng.choice(rows, min(choose(rng, SHOTS), len(rows)), replace=False)
    task, name = renamed(source.task, label, choose(rng, WORDING if source.built_in else MORE_WORDING), rng)
    return {'source': n, 'label': label, 'task': task, 'name': name, 'shown': [source.texts[i] for i in shown]}


def source_shares(sources):
    "Built-in tasks and those of the collection take half each, by the root of their weights."
    roots = np.sqrt([source.weight for source in sources])
    built_in = np.array([source.built_in for source in sources])
    return dict(enumerate(roots/np.where(built_in, roots[built_in].sum(), roots[~built_in].sum())))


def write(teacher, prompts, part=64):
    "Several texts after each prompt, put beside it, and whether they ended of themselves."
    for first in range(0, len(prompts), part):
        group = prompts[first:first + part]
        requests = [Request(messages(p['task'], p['name'], p['shown']), Sampling(p['task'].max_new_tokens, .95, .9),
                            cue=p['task'].cue, seed=(first + i)*TEXTS + k)
                    for i, p in enumerate(group) for k in range(TEXTS)]
        replies = teacher.complete(requests, repair=False, progress=False)
        for i, prompt in enumerate(group):
            mine = replies[i*TEXTS:(i + 1)*TEXTS]
            prompt['prompt'] = plain_prompt(requests[i*TEXTS].messages, requests[i*TEXTS].cue)
            prompt['texts'] = [reply.text.strip() for reply in mine]
            prompt['whole'] = [reply.outcome == 'ok' for reply in mine]
        print(f'{first + len(group)} of {len(prompts)} prompts', flush=True)


# ---- which are good

def triples(text):
    "Runs of three words."
    words = text.lower().split()
    return set(zip(words, words[1:], words[2:]))


def copied(text, shown):
    "Share of a text's word triples that stand in a demonstration."
    own = triples(text)
    return max((len(own & triples(other)) for other in shown), default=0)/max(len(own), 1)


def words_of(text):
    "Words of three and more letters."
    return re.findall('[a-z]{3,}', text.lower())


def made_up(text, known):
    "Share of a text's words that stand in no training text."
    words = words_of(text)
    return sum(word not in known for word in words)/max(len(words), 1)


def scores(near, others, right, invented):
    "Standard scores of the nearness beyond that to others and of log p(label), less what made-up words cost."
    def standard(x): return (x - x.mean())/(x.std() + 1e-6)
    return standard(near - others) + standard(np.clip(np.log(right + 1e-3), -4, 0)) - MADE_UP*invented


def judge(prompts, sources, embedder):
    "Nearness and rightness of every text, put beside it."
    of_source = defaultdict(list)
    for prompt in prompts: of_source[prompt['source']].append(prompt)
    for n, group in of_source.items(): judge_source(group, sources[n], embedder, np.random.default_rng(n))


def some_of_each(source, rng):
    "Rows of up to KNOWN texts, as many of every label where there are so many."
    each = max(KNOWN//len(source.by_label), 10)
    return np.concatenate([rng.choice(rows, min(each, len(rows)), replace=False) for rows in source.by_label.values()])


def judge_source(group, source, embedder, rng):
    "The same for the prompts of one source; others are the mean of the label's texts."
    known = some_of_each(source, rng)
    vectors, labels = encoded_by(embedder, [source.texts[i] for i in known]), source.labels[known]
    ruler = GoldClassifier().fit(vectors, list(labels))
    others = {label: vectors[labels == label].mean(0) for label in source.by_label}
    written = encoded_by(embedder, [text or '-' for p in group for text in p['texts']]).reshape(len(group), TEXTS, -1)
    shown = iter(encoded_by(embedder, [text for p in group for text in p['shown']]))
    for p, mine in zip(group, written):
        own = np.array([next(shown) for _ in p['shown']])
        right = ruler.predict_proba(mine)[:, ruler.labels.index(p['label'])]
        p |= {'near': (mine @ own.T).max(1), 'others': mine @ others[p['label']], 'right': right}


def encoded_by(embedder, texts): return np.asarray(embedder.encode(texts))


def pairs_of(prompt, known):
    "Best and worst, and the second of both."
    texts = prompt['texts']
    invented = np.array([made_up(text, known) for text in texts])
    score = scores(prompt['near'], prompt['others'], prompt['right'], invented)
    broken = np.array([not text or not whole or '"}' in text or '"]' in text or copied(text, prompt['shown']) > AGAIN
                       for text, whole in zip(texts, prompt['whole'])])
    best = [i for i in np.argsort(-score) if not broken[i]][:2]
    worst = [i for i in np.argsort(score - 3*broken) if texts[i]][:2]
    return [(prompt['prompt'], texts[b], texts[w]) for b, w in zip(best, worst) if score[b] > score[w] + 1]


def make_pairs(o):
    "Pairs of the texts that the teacher writes, stored."
    sources, rng = read_sources(o.corpus), np.random.default_rng(o.seed)
    prompts = [drawn(sources, rng) for _ in range(o.prompts)]
    write(CausalTeacher(o.start, dtype='bfloat16'), prompts)
    judge(prompts, sources, Embedder(batch_size=32))
    known = {word for source in sources for text in source.texts for word in words_of(text)}
    print(json.dumps(told(prompts, known)), flush=True)
    pairs = [pair for p in prompts for pair in pairs_of(p, known)]
    pd.DataFrame(pairs, columns=['prompt', 'best', 'worst']).to_parquet(o.out)


def told(prompts, known):
    "What the texts were like, on average."
    texts = [(text, p['shown']) for p in prompts for text in p['texts']]
    return {'beyond others': round(float(np.mean([p['near'].mean() - p['others'].mean() for p in prompts])), 3),
            'right': round(float(np.mean([p['right'].mean() for p in prompts])), 3),
            'copied': round(float(np.mean([copied(text, shown) > AGAIN for text, shown in texts])), 3),
            'made up': round(float(np.mean([made_up(text, known) for text, _ in texts])), 4)}


# ---- the preference

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
    out = [[example(encode(prompt), encode(text) + [3]) for text in (best, worst)]
           for prompt, best, worst in pairs.itertuples(index=False)]
    return [pair for pair in out if max(len(ids) for ids, _ in pair) <= LONGEST]


def in_batches(pairs, rows=12):
    "Padded batches of pairs of like length, the best texts first, in random order."
    order = sorted(range(len(pairs)), key=lambda i: len(pairs[i][0][0]))
    groups = [order[i:i + rows] for i in range(0, len(order), rows)]
    return [collate([pairs[i][k] for k in (0, 1) for i in groups[j]])
            for j in np.random.default_rng(0).permutation(len(groups))]


def preference_loss(log_p, log_r, is_text):
    "The loss of the preference and of the best texts themselves, and the share of pairs in the right order."
    best, worst = (log_p - log_r).chunk(2)
    lengths = is_text.sum(1).chunk(2)[0]
    loss = -F.logsigmoid(BETA*(best - worst)).mean() - OF_BEST*(log_p.chunk(2)[0]/lengths).mean()
    return loss, (best > worst).float().mean().item()


def prefer(model, batch, log_r, plain, rng):
    "Gradients of both losses; the two, and the share of pairs in the right order."
    with torch.autocast('cpu', torch.bfloat16):
        log_p = log_probs(model, *batch, shared_positions(batch[0].shape[1], rng))
        loss, order = preference_loss(log_p, log_r, batch[1])
        usual = loss_of(model, *plain)
    (loss + usual).backward()
    return loss.item(), usual.item(), order


def learn_pairs(o):
    "One pass over the pairs; the rate falls to zero over the last two thirds."
    sources, tokenizer = read_sources(o.corpus), AutoTokenizer.from_pretrained(o.start)
    pairs = in_batches(encoded(pd.concat([pd.read_parquet(path) for path in o.pairs]), tokenizer))
    model = AutoModelForCausalLM.from_pretrained(o.start, dtype=torch.float32)
    model.set_attn_implementation('float32_attention')
    with torch.no_grad(), torch.autocast('cpu', torch.bfloat16): started = [log_probs(model, *batch) for batch in pairs]
    optimiser, rng, start, recent = optimiser_of(model, o.lr), np.random.default_rng(o.seed), time.time(), []
    stream = batches(Stream(sources, tokenizer, 10**6 + o.seed), o.tokens)
    for step, (batch, log_r, plain) in enumerate(zip(pairs, started, stream), 1):
        for group in optimiser.param_groups: group['lr'] = o.lr*min(step/20, 1, 1.5*(1 - (step - 1)/len(pairs)))
        recent.append(prefer(model, batch, log_r, plain, rng))
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.)
        optimiser.step(); optimiser.zero_grad()
        if step % 20 == 0: print(f'{step} of {len(pairs)}', np.mean(recent[-20:], 0).round(3), flush=True)
    tests = {name: read_texts(o.corpus/f'{name}.test.parquet') for name in PARTS}
    o.save = 20
    log = [report(model, tokenizer, sources, tests, step, o, (time.time() - start)/60, [r[1] for r in recent])]
    save(o.out, model, tokenizer, optimiser, step, log)


def arguments():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument('what', choices=('pairs', 'learn')); a.add_argument('corpus', type=Path)
    a.add_argument('out', type=Path); a.add_argument('pairs', type=Path, nargs='*')
    a.add_argument('--start', required=True); a.add_argument('--prompts', type=int, default=900)
    a.add_argument('--lr', type=float, default=1e-4); a.add_argument('--tokens', type=int, default=2048)
    a.add_argument('--seed', type=int, default=0)
    return a.parse_args()


def main():
    o = arguments()
    if o.what == 'pairs': return make_pairs(o)
    o.out.mkdir(parents=True, exist_ok=True)
    learn_pairs(o)


if __name__ == '__main__': main()
