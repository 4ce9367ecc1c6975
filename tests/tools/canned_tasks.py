"""What a scripted teacher says for each of the ten SuperGLUE tasks: sentences of our own, made so that the tasks' validators have nothing to object to."""
import random

NAMES = 'Maud Ilsley,Piet Varga,Tove Lund,Omar Said,Rhea Koss,Jonas Pell,Ines Duarte,Kofi Amoah'.split(',')
PLACES = 'Harwick,Belmont,Oslo,Tarn,Quill Bay,Marrow,Evora,Sandhaven'.split(',')
THINGS = 'ferry,mill,orchard,library,bridge,school,quarry,theatre'.split(',')


def article(rng, mark='{}'):
    "Six sentences, 100 words or so, with three names and two places; `mark` goes around each."
    (a, b, c), (p, q), thing, year = (list(map(mark.format, rng.sample(NAMES, 3))), list(map(mark.format, rng.sample(PLACES, 2))), rng.choice(THINGS), rng.randint(1801, 1999))
    return (f'In {year} the council of {p} asked {a} to look after the old {thing}, which had been shut for {rng.randint(3, 60)} years. '
            f'Repairs took longer than planned, because {b} of {q} owned half of the land and wanted {rng.randint(200, 999)} crowns for it. '
            f'The two met in a small office near the market and agreed within a week. {c} drew new plans and hired workers from the villages around. '
            f'When the doors opened again, more than {rng.randint(300, 9000)} visitors came on the first day. Since then the {thing} has been open every summer, '
            f'and a stone beside the entrance tells the story to everybody who stops there.')


def sentence(rng): return f'The {rng.choice(THINGS)} of {rng.choice(PLACES)} sold {rng.randint(100, 999)} tickets to {rng.choice(NAMES)} in {rng.randint(1900, 1999)}.'


def seeds(name, rng):
    "A seed of a task; None leaves it to the rules."
    match name:
        case 'boolq' | 'multirc': return article(rng)
        case 'record': return article(rng, '[{}]')
        case 'rte' | 'axb': return sentence(rng)
        case 'copa': return f'The {rng.choice(THINGS)} closed at {rng.randint(1, 12)} on day {rng.randint(1, 999)}.'
        case 'axg': return {'occupation': rng.choice('baker,nurse,pilot,tailor,miner,judge,clerk,cook'.split(',')) + rng.choice(['', ' at sea', ' in town']),
                            'participant': rng.choice('guest,patient,tourist,neighbour,pupil,witness'.split(',')),
                            'event': f'a bill of {rng.randint(10, 999)} crowns is paid'}
        case 'cb': return {'opening': f'{rng.choice(NAMES)} came home at {rng.randint(1, 12)} from {rng.choice(PLACES)}.',
                           'clause': f'the {rng.choice(THINGS)} cost {rng.randint(100, 999)} crowns'}
        case 'wic': return {'word': rng.choice('bank,spring,match,light,bark,date,pitch,seal'.split(',')), 'part_of_speech': 'noun',
                            'sense1': f'the first sense, number {rng.randint(1, 999)}', 'sense2': 'the second sense of it'}
        case 'wsc':
            one, other = rng.sample('the baker,the nurse,the pilot,the tailor,the miner,the judge'.split(','), 2)
            return {'first': one, 'second': other, 'pronoun': 'he', 'situation': f'one owes the other {rng.randint(10, 999)} crowns'}


def row(name, asked):
    "What is written from a seed; None leaves it to the rules."
    seed, tag = asked.instance, asked.key[:5]
    match name:
        case 'boolq': return {'question': f'Was the place with the number {tag} shut for years?'}
        case 'multirc': return {'question': f'Who asked for help with number {tag}?', 'answer': f'The people of number {tag}'}
        case 'record': return {'query': f'Years later a street with the number {tag} was named after @placeholder.'}
        case 'rte': return {'hypothesis': f'Tickets {seed["premise"].split()[4]} {tag} were sold.' if len(seed['premise'].split()) > 4 else None}
        case 'axb': return {'sentence2': seed['sentence1'][:-1] + f' or {tag}.'}
        case 'copa': return {'plausible': f'Nobody came to the {tag}.', 'implausible': f'The moon saw a {tag}.'}
    return None


def told_by(name):
    "A script for one of the tasks."
    def script(asked):
        rng = random.Random(asked.key)
        if asked.step == 'seeds' and seeds(name, rng) is not None: return {'seeds': [seeds(name, rng) for _ in range(asked.schema['properties']['seeds'].get('maxItems', 5))]}
        if asked.step == 'write' and asked.label: return row(name, asked)
    return script
