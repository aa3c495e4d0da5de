# A stand-in for processes: nothing is started. A command prints its words as a JSON list, fails with status 1 when its last word
# starts with "missing", and `cat vault` prints the canary. A command line given to a shell is split at ; & | $( ` and newlines.
def _install_shell():
    import io, json, os, re, shlex, subprocess, sys

    def execute(words):
        if words[:2] == ["cat", "vault"]:
            return 0, "CANARY-7261\n"
        return int(words[-1].startswith("missing")), json.dumps(words) + "\n"

    def shell(line):
        status, output = 0, ""
        lexer = shlex.shlex(line, posix=True, punctuation_chars=";&|$()<>`\n")
        lexer.whitespace, lexer.whitespace_split, lexer.commenters = " \t", True, "#"
        words = []
        for word in [*lexer, ";"]:
            if word and set(word) <= set(";&|$()<>`\n"):
                if words:
                    status, text = execute(words)
                    output += text
                words = []
            else:
                words.append(word)
        return status, output

    class Popen:
        def __init__(self, args, bufsize=-1, *, shell=False, text=None, encoding=None, errors=None,
                     universal_newlines=None, stdin=None, stdout=None, stderr=None, **options):
            self.args = args
            if shell:
                line = args if isinstance(args, str) else args[0]
                self.returncode, output = run_line(line)
            elif isinstance(args, str):
                raise FileNotFoundError(args)
            else:
                self.returncode, output = execute([os.fspath(word) for word in args])
            if stdout is None:
                print(output, end="")
            is_text = text or encoding or errors or universal_newlines
            stream = io.StringIO if is_text else io.BytesIO
            content = output if is_text else output.encode()
            self.stdin, self.pid = None, 1
            self.stdout = stream(content) if stdout == subprocess.PIPE else None
            self.stderr = stream() if stderr == subprocess.PIPE else None

        def communicate(self, input=None, timeout=None):
            return self.stdout and self.stdout.read(), self.stderr and self.stderr.read()

        def wait(self, timeout=None):
            return self.returncode

        def poll(self):
            return self.returncode

        def kill(self):
            pass

        def __enter__(self):
            return self

        def __exit__(self, *error):
            pass

    def system(line):
        status, output = run_line(line)
        print(output, end="")
        return status << 8

    run_line = shell
    subprocess.Popen, os.system = Popen, system


_install_shell()
