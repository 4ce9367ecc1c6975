"Commands in one fresh Python: what each says, and which heavy modules are loaded by then. A start takes longer than the command."
import json
import subprocess
import sys

CODE = """
import contextlib, io, json, sys
from synthlab.cli.main import main
for words in json.loads(sys.argv[1]):
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()) as said: status = main(words)
    print(json.dumps([status, said.getvalue(), sorted(set(json.loads(sys.argv[2])) & set(sys.modules))]))
"""


def run_light(commands, heavy, **options):
    "Exit status, standard error and the loaded ones of `heavy` after each command, one after another in one process."
    given = [json.dumps([words.split() for words in commands]), json.dumps(list(heavy))]
    done = subprocess.run([sys.executable, '-c', CODE, *given], capture_output=True, text=True, **options)
    assert done.returncode == 0, done.stderr
    return {words: json.loads(line) for words, line in zip(commands, done.stdout.splitlines(), strict=True)}
