"""At which temperature are texts without contrast as uncertain as those of CorrSynth? The control of the bake-off.

    python nbs/studies/entropy.py --work runs/entropy                     all tasks: twenty minutes on a CPU core
    python nbs/studies/entropy.py --work runs/entropy --collect nbs/studies/entropy.json

Measured on development seeds, which no bake-off uses, with demonstrations out of the train part. What is finished is
not done again. The page nbs/decode/08_entropy.ipynb derives the control; bakeoff.py reads the exponents. Only numbers
are kept. Gold data is found through SYNTHLAB_GOLD.
"""
import argparse
import json
from dataclasses import replace
from functools import cache
from pathlib import Path

from synthlab.decode.entropy import matching_gamma, mean_entropy, without_contrast
from synthlab.run.produce import begin, check, make_config
from synthlab.run.recipe import Recipe
from synthlab.teacher.causal import CausalTeacher

from protocol import GOLD, USUAL, gold_task, stamp, train_file
from steps import once, rounded

DELTAS = (.9, .5, .2)
SEEDS, TEXTS = (100, 101, 102, 103), 64
TOLERANCE = .02                                  # relative, of the exponent


def groups(name, teacher, seeds=SEEDS, texts=TEXTS):
    "Groups of CorrSynth as a run plans them, about so many texts in all, and how their tokens are drawn."
    task, plans = gold_task(name), []
    for seed in seeds:
        writer = begin(check(make_config(Recipe.corrsynth(), task, teacher, texts, gold=str(train_file(name)), seed=seed), teacher)).writer
        plans += [writer.item(number) for number in range(max(1, texts//len(seeds)//len(task.labels)))]
    return plans, writer.config.sampling


def contrasted(plan, delta):
    "The same group with another contrast."
    from synthlab.decode.choices import CorrSynth
    return replace(plan, weights=CorrSynth(delta=delta).weights(plan.labels))


def measure(name, teacher):
    "Entropy with each contrast and with none, and the exponents that match, of one task."
    plans, sampling = groups(name, teacher)
    @cache
    def measured(gamma): return mean_entropy(teacher, [without_contrast(plan, gamma) for plan in plans], sampling)
    found = {}
    for delta in DELTAS:
        contrast = mean_entropy(teacher, [contrasted(plan, delta) for plan in plans], sampling)
        gamma = matching_gamma(contrast.mean, lambda gamma: measured(gamma).mean, tol=TOLERANCE)
        found[str(delta)] = {'gamma': gamma, 'temperature': sampling.temperature/gamma, 'contrast': contrast._asdict(), 'alone': measured(gamma)._asdict()}
        print(name, delta, rounded(found[str(delta)], 3), flush=True)
    return {'groups': len(plans), 'texts': sum(len(plan.prompts) for plan in plans), 'masked': measured(1.)._asdict(), 'deltas': found}


def collect(work, path):
    "One file of all tasks."
    found = {name: json.loads((work/name/'entropy.json').read_text(encoding='utf-8')) for name in GOLD if (work/name/'entropy.json').exists()}
    mark = stamp(CausalTeacher('pocket'), USUAL, n=f'about {TEXTS} texts for each exponent and task', seeds=SEEDS)
    Path(path).write_text(json.dumps({'stamp': mark} | rounded(found, 4), indent=1) + '\n', encoding='utf-8')


def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument('--work', type=Path, default=Path('runs/entropy')); a.add_argument('--tasks', default=','.join(GOLD))
    a.add_argument('--collect', type=Path, help='write the numbers of all finished tasks, and do no more')
    o = a.parse_args()
    if o.collect: return collect(o.work, o.collect)
    teacher = CausalTeacher('pocket')
    for name in o.tasks.split(','): once(o.work/name/'entropy.json', lambda: measure(name, teacher))


if __name__ == '__main__': main()
