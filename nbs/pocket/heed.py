"""Train `pocket` on, so that it heeds what it is shown: part three, after train.py.

    python nbs/pocket/collection.py COLLECTION CORPUS             # tasks and texts of the collection, half a minute
    python nbs/pocket/near.py CORPUS                              # neighbours, twenty minutes
    python nbs/pocket/rules.py CORPUS                             # attributes, subjects, reasons, fifteen minutes
    python nbs/pocket/heed.py CORPUS COPY --start MODEL --minutes 15 --lr 1e-3 --copies .6 --repeated .4  # to read off
    python nbs/pocket/heed.py CORPUS OUT --start COPY/model --minutes 100 --lr 8e-4 # to heed

The learning rate rises, is constant, and falls to zero over the last two thirds of the minutes. OUT/state.pt is written
every `--save` steps; the same command goes on from it, with the minutes that were used counted.
"""
import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from corpus import PARTS
from stream import COPIES, REPEATED, Stream, read_sources
from train import batches, learn, optimiser_of, plain_nats, read_texts, resume, save


def share_of_rate(done, step, cooldown, warmup=100):
    "Share of the learning rate when a part `done` of the time is over."
    return min(1., (step + 1)/warmup, max(0., (1 - done)/cooldown))


def arguments():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument('corpus', type=Path); a.add_argument('out', type=Path)
    a.add_argument('--start', default='synthlab/resources/pocket'); a.add_argument('--minutes', type=float, default=100)
    a.add_argument('--tokens', type=int, default=4096); a.add_argument('--lr', type=float, default=5e-4)
    a.add_argument('--cooldown', type=float, default=.65, help='share of the minutes in which the rate falls to zero')
    a.add_argument('--few-shot', type=float, help='share of few-shot prompts, where it is to be another one')
    a.add_argument('--copies', type=float, default=COPIES, help='share of few-shot prompts with most of their text')
    a.add_argument('--repeated', type=float, default=REPEATED, help='share of examples of random tokens, repeated')
    a.add_argument('--save', type=int, default=200); a.add_argument('--steps', type=int, default=10**9)
    return a.parse_args()


def main():
    o = arguments()
    o.out.mkdir(parents=True, exist_ok=True)
    tests = {name: read_texts(o.corpus/f'{name}.test.parquet') for name in PARTS}
    sources, tokenizer = read_sources(o.corpus), AutoTokenizer.from_pretrained(o.start)
    model = AutoModelForCausalLM.from_pretrained(o.start, dtype=torch.float32)
    model.set_attn_implementation('float32_attention')
    optimiser = optimiser_of(model, o.lr)
    step, log = resume(o.out, model, optimiser)
    before, start, first, recent = log[-1]['minutes'] if log else 0., time.time(), step, []
    rng = np.random.default_rng(step)
    model.train()
    for ids, is_text in batches(Stream(sources, tokenizer, step, o.few_shot, o.copies, o.repeated), o.tokens):
        minutes = before + (time.time() - start)/60
        done = max(minutes/o.minutes, step/o.steps)
        if done >= 1: break
        recent.append(learn(model, optimiser, ids, is_text, rng, o.lr*share_of_rate(done, step, o.cooldown)))
        step += 1
        if step % 20 == 0:
            print(f'{step} loss {np.mean(recent[-20:]):.3f} {minutes:.1f} min '
                  f'{(step - first)*o.tokens/(time.time() - start):.0f} tokens/s', flush=True)
        if step % o.save == 0:
            log.append(report(model, tokenizer, sources, tests, step, o, minutes, recent))
            save(o.out, model, tokenizer, optimiser, step, log)
    log.append(report(model, tokenizer, sources, tests, step, o, minutes, recent))
    save(o.out, model, tokenizer, optimiser, step, log)


def report(model, tokenizer, sources, tests, step, o, minutes, recent):
    "A line of the log: nats a character of gold test texts, no demonstrations."
    nats = {source.task.name: round(plain_nats(model, tokenizer, source.task, tests[source.task.name]), 4)
            for source in sources if source.built_in}
    line = dict(step=step, tokens=step*o.tokens, minutes=round(minutes, 2), loss=float(np.mean(recent[-o.save:])),
                nats_per_char=nats)
    print(json.dumps(line), flush=True)
    return line


if __name__ == '__main__': main()
