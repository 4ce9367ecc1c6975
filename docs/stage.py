"Write the sources of the site: notebooks and pages in the form that Sphinx reads (`python docs/stage.py _proc/pages`)."
import json
import posixpath
import re
import sys
from configparser import ConfigParser
from pathlib import Path

ROOT = Path(__file__).parents[1]
DIRECTIVE = re.compile(r'#\s*\|\s*(.+)')
LINK = re.compile(r'\]\(([^)#\s]+)')
# What Sphinx is told for a directive of nbdev; other directives (export, slow, gold) say nothing about the page.
TAGS = {'echo: false': 'remove-input', 'output: false': 'remove-output', 'code-fold: true': 'hide-input'}
# Texts that are pages under another name than their own, or that lie outside nbs/.
ELSEWHERE = {'nbs/index.ipynb': 'overview.ipynb', 'CHANGELOG.md': 'changelog.md', 'CONTRIBUTING.md': 'contributing.md'}
# Pages with another heading than their notebook: the first page of the site has the name of the package already.
HEADINGS = {'overview.ipynb': 'Overview'}
# Notebooks that docs/index.md lists itself.
LISTED = {'defaults.ipynb', 'index.ipynb', 'guide/09_glossary.ipynb', 'guide/10_paths.ipynb'}
# Folders in reading order: the title of each, and a sentence.
FOLDERS = {
    'tutorials': ('Lessons', 'Each lesson generates and computes as you read, needs no network, and has exercises with folded answers.'),
    'guide': ('Guide', 'How to install the library, write a dataset, go on with a run, and measure what came out.'),
    'decode': ('Decode', 'How tokens are drawn, and how the texts of a group are steered apart.'),
    'select': ('Select', 'Which real examples the model is shown.'),
    'prompt': ('Prompt', 'What the model is asked to write.'),
    'correct': ('Correct', 'Whether labels are right, and what becomes of rows whose labels are not.'),
    'align': ('Align', 'Whether the rows together are distributed like real ones, and weights that bring them nearer.'),
    'measure': ('Measure', 'How good a dataset is: variety, truth of labels, likeness to real texts, and what a student learns.'),
    'teacher': ('Teachers', 'Language models in this process and behind a server: requests, prices, limits.'),
    'store': ('Store', 'Calls and rows on disk, and files for other programs.'),
    'run': ('Run', 'From a recipe to a dataset, in which every row is accounted for.'),
    'bakeoff': ('Bake-off', 'Recipes side by side at the same number of tokens.'),
    'cli': ('Command line', 'The commands, and what a terminal shows.'),
    'tasks': ('Tasks', 'A task is data: labels, an instruction, examples, and rules that a row must keep.'),
    '.': ('Shared parts', 'What all stages use.'),
    'studies': ('Studies', 'What was measured, with the rows, seeds and commands that repeat it.'),
    'pocket': ('The embedded teacher', 'How the small model inside the package was made.'),
}


def settings():
    "The section of settings.ini."
    config = ConfigParser(delimiters=['='])
    config.read(ROOT/'settings.ini', encoding='utf-8')
    return config['DEFAULT']


def in_repository(path):
    "Address of a file or folder in the repository."
    return f"{settings()['git_url']}/{'tree' if (ROOT/path).is_dir() else 'blob'}/{settings()['branch']}/{path}"


# Cells

def directives(source):
    "The directives on the first lines of a cell, such as `export` or `echo: false`."
    found = []
    for line in source.splitlines():
        if not (match := DIRECTIVE.fullmatch(line.strip())): break
        found.append(match[1].strip())
    return found


def shown(cell):
    "A cell as readers see it, without directives; None for one that they do not see."
    if cell['cell_type'] != 'code': return cell
    said = directives(cell['source'])
    source = '\n'.join(cell['source'].splitlines()[len(said):]).strip('\n')
    if 'hide' in said or not source: return None
    tags = [TAGS[each] for each in said if each in TAGS] + ['columns'] * any(map(in_columns, cell['outputs']))
    metadata = cell['metadata'] | ({'tags': tags} if tags else {})
    return cell | {'source': source, 'metadata': metadata, 'outputs': [*map(breakable, cell['outputs'])]}


def in_columns(output):
    "Whether the lines of an output stand in columns, which would be lost if long lines were broken."
    data = output.get('data', {})
    text = ''.join(output.get('text', () if 'text/html' in data else data.get('text/plain', ())))
    return bool(re.search('[─━│┃]', text)) or len(re.findall(r'(?m)^.*\S {2,}\S', text)) > 2


def breakable(output):
    "An output whose tables may break a long word: after an underscore, or after twenty letters."
    if 'text/html' not in output.get('data', {}): return output
    def in_word(word): return re.sub(r'(_|\w{20})(?=\w)', r'\1<wbr>', word[0])
    def in_cell(cell): return cell[1] + re.sub(r'\w{12,}', in_word, cell[2])
    html = re.sub(r'(<t[dh]\b[^>]*>)([^<]+)', in_cell, ''.join(output['data']['text/html']))
    return output | {'data': output['data'] | {'text/html': html}}


def relink(text, source, page):
    "Links of a text in the repository (`source`) as links of a page of the site: to other pages, else to the repository."
    def target(match):
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), match[1]))
        if ':' in match[1] or not (ROOT/path).exists(): return match[0]
        place = place_of(path)
        return f"]({posixpath.relpath(place, posixpath.dirname(page) or '.') if place else in_repository(path)}"
    return LINK.sub(target, text)


def jupyter_anchor(title):
    "The anchor of a heading, as Jupyter makes it."
    return title.replace(' ', '-')


def place_of(path):
    "Where a file of the repository lies on the site; None if it is not there."
    if path in ELSEWHERE: return ELSEWHERE[path]
    return path.removeprefix('nbs/') if re.match(r'nbs/.*\.(ipynb|png)$', path) else None


# Notebooks

def read(path):
    "A notebook, with the text of each cell as one string."
    notebook = json.loads(path.read_text(encoding='utf-8'))
    for cell in notebook['cells']: cell['source'] = ''.join(cell['source'])
    return notebook


def module_of(notebook):
    "The module that a notebook defines, such as `decode.contrast`, or None."
    said = [each.split() for cell in notebook['cells'] if cell['cell_type'] == 'code' for each in directives(cell['source'])]
    return next((words[1] for words in said if words[0] == 'default_exp'), None)


def title_and_summary(notebook):
    "The title of a notebook and the line under it."
    title, *rest = notebook['cells'][0]['source'].splitlines()
    return title.removeprefix('# '), next((line.removeprefix('> ') for line in rest if line.startswith('> ')), '')


def origin(notebook, path, page):
    "A cell that says where a notebook lies, and which page lists what it defines."
    words = [f'[This notebook]({in_repository(path)})']
    if module := module_of(notebook):
        api = posixpath.relpath(f'api/{module}.rst', posixpath.dirname(page) or '.')
        words.insert(0, f'Module [synthlab.{module}]({api})')
    text = ':::{container} origin\n' + ' · '.join(words) + '\n:::'
    return {'cell_type': 'markdown', 'id': 'origin', 'metadata': {}, 'source': text}


def for_site(notebook, path, page):
    "A notebook of the repository (`path`) as a page of the site: without what is hidden, with links that hold there."
    first, *cells = [cell for cell in map(shown, notebook['cells']) if cell]
    if page in HEADINGS: first = first | {'source': re.sub('^# .*', f'# {HEADINGS[page]}', first['source'])}
    cells = [first, origin(notebook, path, page), *cells]
    for cell in cells:
        if cell['cell_type'] == 'markdown': cell['source'] = relink(cell['source'], path, page)
    return notebook | {'cells': cells, 'metadata': notebook['metadata'] | {'language_info': {'name': 'ipython3'}}}


def section(notebook, title):
    "The text of the cell under a title."
    found = [cell['source'] for cell in notebook['cells'] if cell['source'].startswith(f'## {title}\n')]
    if len(found) != 1: raise ValueError(f'{len(found)} cells with the title {title!r}; the page of papers needs one')
    return found[0]


# Pages

def toctree(names): return '\n```{toctree}\n:hidden:\n\n' + '\n'.join(names) + '\n```\n'


def folder_page(folder, notebooks):
    "The page of a folder: a table of its notebooks, given as file names and contents."
    title, lead = FOLDERS.get(folder, (folder.capitalize(), ''))
    rows = [f'| [{name}]({file}) | {summary} |' for file, (name, summary) in ((f, title_and_summary(nb)) for f, nb in notebooks.items())]
    table = '\n'.join(['| | |', '|---|---|', *rows])
    return f'# {title}\n\n{lead}\n\n{table}\n{toctree(file.removesuffix(".ipynb") for file in notebooks)}'


def api_page(module, notebook):
    "The page of a module, made from its docstrings."
    name, home = f'synthlab.{module}', notebook.removesuffix('.ipynb')
    return f'{headed(name, "=")}\nDefined and explained in the notebook :doc:`{home} </{home}>`.\n\n.. automodule:: {name}\n'


def public_names(stub):
    "Full names of what `import synthlab` offers, read from the text of `__init__.pyi`."
    return [f'synthlab{home}.{name}' for home, name in re.findall(r'(?m)^from (\.[\w.]+) import (\w+)', stub)]


def api_index(modules, names):
    "The first page of the reference: names of `synthlab`, then modules by folder."
    parts = [headed('API', '='), headed('What ``import synthlab`` offers'), autosummary(f'~{name}' for name in names)]
    for folder in dict.fromkeys(posixpath.dirname(home) or '.' for home in modules.values()):
        title = FOLDERS.get(folder, (folder,))[0]
        inside = [f'synthlab.{module}' for module, home in modules.items() if (posixpath.dirname(home) or '.') == folder]
        parts += [headed(title), autosummary(inside)]
    hidden = '.. toctree::\n   :hidden:\n\n' + ''.join(f'   {module}\n' for module in modules)
    return '\n'.join([*parts, hidden])


def headed(title, line='-'): return f'{title}\n{line * len(title)}\n'


def autosummary(names): return '.. autosummary::\n   :nosignatures:\n\n' + ''.join(f'   {name}\n' for name in names)


def order(path):
    "Sorts notebooks by folder, in reading order, then by number."
    folder = posixpath.dirname(path) or '.'
    return (list(FOLDERS).index(folder) if folder in FOLDERS else len(FOLDERS)), path


def pages(root=ROOT):
    "Every page of the site: path and text."
    files = [path for path in (root/'nbs').rglob('*.ipynb') if not any(part[0] in '._' for part in path.relative_to(root).parts)]
    notebooks = {path: read(root/'nbs'/path) for path in sorted((f.relative_to(root/'nbs').as_posix() for f in files), key=order)}
    for path, notebook in notebooks.items():
        page = place_of(f'nbs/{path}')
        yield page, json.dumps(for_site(notebook, f'nbs/{path}', page), ensure_ascii=False)
    yield from folder_pages(notebooks)
    yield from api_pages({module: path for path, notebook in notebooks.items() if (module := module_of(notebook))})
    yield 'papers.md', '# Papers\n\n' + relink(section(notebooks['guide/07_contents.ipynb'], 'From paper to function'),
                                              'nbs/guide/07_contents.ipynb', 'papers.md')
    for source in ('CHANGELOG.md', 'CONTRIBUTING.md', 'docs/index.md'):
        page = place_of(source) or Path(source).name
        yield page, relink((root/source).read_text(encoding='utf-8'), source, page)


def folder_pages(notebooks):
    "A page for each folder."
    listed = [path for path in notebooks if path not in LISTED]
    for folder in dict.fromkeys(map(posixpath.dirname, listed)):
        inside = {Path(path).name: notebooks[path] for path in listed if posixpath.dirname(path) == folder}
        yield (f'{folder}/index.md' if folder else 'shared.md'), folder_page(folder or '.', inside)


def api_pages(modules):
    "A page for each module, and one that lists them."
    yield 'api/index.rst', api_index(modules, public_names((ROOT/'synthlab'/'__init__.pyi').read_text(encoding='utf-8')))
    for module, notebook in modules.items(): yield f'api/{module}.rst', api_page(module, notebook)


def write(folder):
    "Write the pages into a folder; files that stay the same keep their time, and others are removed."
    wanted = {folder/name: text.encode() for name, text in pages()}
    wanted |= {folder/'images'/path.name: path.read_bytes() for path in (ROOT/'nbs'/'images').glob('*.png')}
    for path in folder.rglob('*'):
        if path.is_file() and path not in wanted: path.unlink()
    for path, data in wanted.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_bytes() != data: path.write_bytes(data)
    return len(wanted)


if __name__ == '__main__': print(write(Path(sys.argv[1])), 'files of the site written to', sys.argv[1])
