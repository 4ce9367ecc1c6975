"""Every prompt of the library with an answer to learn from: the package writes the prompt, rules and gold texts the
answer."""
import json

from synthlab.correct.choices import Correction
from synthlab.correct.questions import SHORT_REASON, correction_requests
from synthlab.decode.model import plain_prompt
from synthlab.decode.sampling import Sampling
from synthlab.prompt.records import extract_request, make_record, write_request
from synthlab.prompt.seeds import contexts_request, seeds_request
from synthlab.prompt.targeted import instance_request
from synthlab.prompt.values import simprompt_messages, values_request
from synthlab.tasks.strategies import find_strategy
from synthlab.tasks.strategy import Job, InstanceSeed
from synthlab.tasks.task import load_task
from synthlab.teacher.requests import Request

# What each kind of prompt takes of the training examples.
KINDS = {'few-shot': .26, 'classify': .05, 'simprompt': .04, 'attributes': .11, 'from attributes': .14,
         'several from attributes': .01, 'values': .02,
         'contexts': .03, 'seeds': .06, 'from seed': .16, 'correct': .12}

PLACES = ('a harbour', 'a small town', 'a village in the hills', 'a train station', 'a school', 'a kitchen at home',
          'an office', 'a hospital', 'a farm', 'a city market', 'an airport', 'a stadium', 'a library',
          'a shopping street', 'a factory', 'a theatre', 'a courtroom', 'a university', 'a beach', 'a mountain hut',
          'a garden', 'a bus', 'a ferry', 'a museum', 'a workshop', 'a hotel lobby', 'a suburb',
          'a capital city', 'an island', 'a border town', 'a parking lot', 'a community hall', 'a laboratory',
          'a newsroom', 'a barber shop', 'a playground', 'a church', 'a bank', 'a warehouse', 'a cafe')
TIMES = ('at dawn', 'on a monday morning', 'at lunch time', 'late at night', 'in early spring', 'in the heat of summer',
         'in autumn', 'in winter', 'during a storm', 'on a public holiday', 'before an election',
         'after a long strike', 'at the weekend', 'on the first day of school', 'during a power cut',
         'at the end of the month', 'in the rush hour', 'during a festival', 'after closing time', 'on a rainy evening')
PEOPLE = ('two old friends', 'a young family', 'a retired teacher', 'a student', 'a shop owner',
          'a nurse after her shift', 'a group of tourists', 'a local reporter', 'new neighbours', 'a truck driver',
          'a team of engineers', 'a grandmother', 'a collector', 'a first-time buyer', 'a coach', 'a mayor',
          'a musician', 'a night guard', 'a busy parent', 'an expert')
MANNERS = ('in a hurry', 'with much patience', 'in a cheerful mood', 'full of doubt', 'speaking plainly',
           'for the first time', 'for the last time', 'out of habit', 'on the phone', 'in a letter')


def some(rng, items): return items[rng.integers(len(items))]


def context(rng):
    "A context put together from our own lists."
    return (f'{some(rng, PLACES)} {some(rng, TIMES)}', f'{some(rng, PEOPLE)} in {some(rng, PLACES)}',
            f'{some(rng, PEOPLE)} {some(rng, TIMES)}',
            f'{some(rng, PEOPLE)} in {some(rng, PLACES)} {some(rng, TIMES)}',
            f'{some(rng, PEOPLE)}, {some(rng, MANNERS)}')[rng.integers(5)]


def context_of(row, rng):
    "A context in which a text stands: some of its key words, in a setting of our own; the setting alone without them."
    words = [word for word in json.loads(row['general']).get('topic', '').split(', ') if word not in ('', 'none')]
    if not words: return context(rng)
    about = ' and '.join(words[i] for i in sorted(rng.permutation(len(words))[:1 + rng.integers(2)]))
    return (f'a talk about {about}', f'{some(rng, PEOPLE)} talking about {about}',
            f'{context(rng)}, talking about {about}')[rng.integers(3)]


def distinct(draw, n):
    "Different values of a draw."
    found = {}
    while len(found) < n: found[draw()] = None
    return list(found)


def answer(**values): return json.dumps(values, ensure_ascii=False)


class Prompts:
    """Prompt and answer of a training example, for one task: a built-in one by its name, or a Task.

    A row is a Mapping with `text`, `label`, `own`, `general` (attributes as JSON), `subject` and `reason`, as
    `rules.py` writes them.
    """
    def __init__(self, task, rows):
        self.task = load_task(task) if isinstance(task, str) else task
        self.plain = self.task.model_copy(update={'attributes': {}})
        self.strategy, self.rows = find_strategy(self.task), rows
        self.by_label = {label: [row for row in rows if row['label'] == label] for label in self.task.label_names}
        self.subjects = sorted({row['subject'] for row in rows if row['subject']})
        own = [json.loads(row['own']) for row in rows[:600]]
        self.values = {key: sorted({a[key].lower() for a in own}) for key in own[0]}

    def _attributes(self, row, rng):
        "Task and attributes: the task's own, or now and then the general ones that a user's task has."
        return (self.plain, json.loads(row['general'])) if rng.random() < .25 else (self.task, json.loads(row['own']))

    def simprompt(self, row, rng):
        return Request(simprompt_messages(self.task, row['label']), Sampling(self.task.max_new_tokens, .95, .9),
                       cue=self.task.cue), row['text']

    def attributes(self, row, rng):
        task, told = self._attributes(row, rng)
        return extract_request(task, row['label'], {'id': 'one', 'text': row['text']},
                               Sampling(24*len(told))), answer(**told)

    def from_attributes(self, row, rng):
        task, told = self._attributes(row, rng)
        return write_request(task, make_record(row['label'], told)), row['text']

    def several_from_attributes(self, row, rng):
        task, told = self._attributes(row, rng)
        n = int(rng.integers(2, 4))
        return write_request(task, make_record(row['label'], told), n), answer(texts=[row['text'],
            *(some(rng, self.by_label[row['label']])['text'] for _ in range(n - 1))])

    def for_values(self, row, rng):
        key, n = some(rng, list(self.values)), int(rng.integers(2, 11))
        n = min(n, len(self.values[key]))
        label = row['label'] if rng.random() < .3 else ''
        return values_request(self.task, key, label, n), answer(values=distinct(lambda: some(rng, self.values[key]), n))

    def contexts(self, row, rng):
        n = 10 if rng.random() < .6 else int(rng.integers(1, 11))
        known = n if rng.random() < .5 else 0
        def draw(): return context_of(some(rng, self.rows), rng) if rng.random() < .5 else context(rng)
        items = distinct(draw, n + known)
        return contexts_request(self.strategy, n, items[n:]), answer(contexts=items[:n])

    def seeds(self, row, rng):
        n = 10 if rng.random() < .6 else int(rng.integers(1, 11))
        known = int(rng.integers(1, 21)) if rng.random() < .4 else 0
        around, first = context_of(row, rng) if rng.random() < .9 else '', [row['subject']]*bool(row['subject'])
        others = distinct(lambda: some(rng, self.subjects), min(n + known + 1, len(self.subjects)))
        items = [*first, *(subject for subject in others if subject not in first)][:n + known]
        return seeds_request(self.strategy, around, n,
                             [InstanceSeed({'subject': s}) for s in items[n:]]), answer(seeds=items[:n])

    def from_seed(self, row, rng):
        if not row['subject']:
            row = some(rng, [other for other in self.by_label[row['label']] if other['subject']]
                       or [row | {'subject': row['text'].split()[0].lower()}])
        around = context_of(row, rng) if rng.random() < .9 else ''
        request = instance_request(self.strategy, Job(0, row['label'], InstanceSeed({'subject': row['subject']},
            around), {}))
        return request, answer(text=row['text'])

    def correct(self, row, rng):
        blind, right = rng.random() < .3, rng.random() < .6
        given = row['label'] if right else some(rng, self.task.label_names)
        shown = {'text': row['text'], 'label': given}
        request = correction_requests(shown, self.strategy, Correction(show_label=not blind), int(rng.integers(2**31)),
                                      longest=SHORT_REASON)[0]
        told = {'explanation': row['reason'], 'label': row['label'].lower()}
        return request, answer(**{key: told[key] for key in request.schema.model_fields})

    makers = {'simprompt': simprompt, 'attributes': attributes, 'from attributes': from_attributes,
              'several from attributes': several_from_attributes, 'values': for_values,
              'contexts': contexts, 'seeds': seeds, 'from seed': from_seed, 'correct': correct}

    def make(self, kind, row, rng):
        "Prompt as the teacher sees it, and the answer."
        request, target = self.makers[kind](self, row, rng)
        return plain_prompt(request.messages, request.cue), target
