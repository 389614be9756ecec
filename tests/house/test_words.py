"""What people read is true: every flag that --help prints is in the man page and completed, and man pages are clean."""
import glob
import json
import os
import re
import shutil
import subprocess
import tempfile
import unittest

ROOT, BUILD = os.environ["TAKT_ROOT"], os.environ["TAKT_BUILD"]
COMMANDS = {**{name: [f"{BUILD}/src/cli/takt", name] for name in ("run", "status", "top", "load", "advise", "doctor")},
            "taktd": [f"{BUILD}/src/node/taktd"]}


def man_page(command):
    return open(f"{ROOT}/docs/man/" + ("taktd.8" if command == "taktd" else f"takt-{command}.1")).read()


def helped(command):
    """The flags that --help names, and --help itself."""
    out = subprocess.run([*COMMANDS[command], "--help"], capture_output=True, text=True, check=True).stdout
    return set(re.findall(r"(?<![\w-])--([a-z][a-z0-9-]*)", out)) | {"help"}


def completed(line):
    """What the completion offers after `line`."""
    script = f'source {ROOT}/deploy/takt.bash-completion; COMP_WORDS=({line} ""); COMP_CWORD={len(line.split())}; _takt; echo "${{COMPREPLY[@]}}"'
    return set(subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True).stdout.split())


class Words(unittest.TestCase):
    def test_man_page_has_the_flags_of_help_and_no_others(self):
        for command in COMMANDS:
            items = set(re.findall(r"^\.It Fl -([a-z0-9-]+)", man_page(command), re.M))
            self.assertEqual(items, helped(command), command)

    def test_defaults_of_help_are_those_of_the_page(self):
        for command in COMMANDS:
            out = subprocess.run([*COMMANDS[command], "--help"], capture_output=True, text=True, check=True).stdout
            for flag, default in re.findall(r"^  --([a-z0-9-]+).*\(default: ([\w./:-]+)\)$", out, re.M):
                entry = re.search(rf"^\.It Fl -{flag}\b(.*?)(?=^\.It|^\.El)", man_page(command), re.M | re.S)[1]
                self.assertRegex(entry.replace("\n.Pa", ""), rf"(?m)^Default:(\n\.Pa)? {re.escape(default)}\b|^\.Cm {default}\b|\(default\)", (command, flag))

    def test_exit_codes_of_the_commands_are_in_their_pages(self):
        with open(f"{ROOT}/src/cli/cli.h") as file:
            codes = set(re.findall(r"EXIT_\w+ = (\d+)", file.read()))
        pages = "".join(open(path).read().partition(".Sh EXIT STATUS")[2] for path in glob.glob(f"{ROOT}/docs/man/takt-*.1"))
        self.assertEqual({code for code in codes if not re.search(rf"\b{code}\b", pages)}, set())
        summary = open(f"{ROOT}/docs/man/takt.1").read().partition(".Sh EXIT STATUS")[2]
        for code in codes:
            self.assertRegex(summary, rf"\b{code}\b")

    def test_environment_is_in_the_pages(self):
        """Every variable that takt reads or sets."""
        used = set()
        for path in glob.glob(f"{ROOT}/src/cli/*.c"):
            used |= set(re.findall(r'(?:get|set)env\("([A-Z_]+)"', open(path).read()))
        pages = "".join(open(path).read() for path in glob.glob(f"{ROOT}/docs/man/*.[18]"))
        self.assertEqual({name for name in used - {"TAKTD"} if name not in pages}, set())

    def test_completion_offers_the_flags_of_help_and_no_others(self):
        for command in set(COMMANDS) - {"taktd"}:
            self.assertEqual(completed(f"takt {command}") - {"--"}, {f"--{flag}" for flag in helped(command)}, command)

    def test_every_command_is_completed_and_named_in_takts_own_page(self):
        page = open(f"{ROOT}/docs/man/takt.1").read()
        self.assertEqual(completed("takt") - {"--help", "--version"}, set(COMMANDS) - {"taktd"})
        for command in set(COMMANDS) - {"taktd"}:
            self.assertRegex(page, rf"(?m)^\.Nm takt Cm {command}\b")
            self.assertRegex(page, rf"(?m)^\.Xr takt-{command} 1")

    def test_every_page_is_installed_and_every_reference_is_there(self):
        pages = {os.path.basename(path) for path in glob.glob(f"{ROOT}/docs/man/*.[1-8]")}
        self.assertEqual(set(re.findall(r"'([\w-]+\.[1-8])'", open(f"{ROOT}/docs/man/meson.build").read())), pages)
        for name in pages:
            text = open(f"{ROOT}/docs/man/{name}").read()
            for page, section in re.findall(r"^\.Xr ([\w-]+) (\d)", text, re.M):
                self.assertIn(f"{page}.{section}", pages, name)

    def test_help_of_the_demo_installs_nothing(self):
        with tempfile.TemporaryDirectory() as cache:
            run = subprocess.run([f"{ROOT}/script/demo", "--help"], capture_output=True, text=True, env={**os.environ, "TAKT_CACHE": cache, "PIP_NO_INDEX": "1"})
            self.assertEqual((run.returncode, run.stdout[:18], run.stderr, os.listdir(cache)), (0, "usage: script/demo", "", []))

    def test_protocol_names_all_that_the_daemon_knows(self):
        """Members of a contract and of its answer, and kinds of errors."""
        page = open(f"{ROOT}/docs/PROTOCOL.md").read()
        code = open(f"{ROOT}/src/node/control.c").read()
        table = re.findall(r"(?m)^\| (`.*?) \|", page)
        known = re.search(r"numbers\[\] = \{(.*?)NULL", code, re.S)[1] + '"class" "reclaim" "name"'
        self.assertEqual(set(re.findall(r"`(\w+)`", " ".join(table))), set(re.findall(r'"(\w+)"', known)))
        kinds = set(re.findall(r'answer_error\(node, stream, "(\w+)"', code)) | {"contract", "admission"}
        self.assertIn('? "contract" : "admission"', code)
        errors = page.partition('"error":KIND')[2].partition("`{")[0]
        self.assertEqual(set(re.findall(r"`(\w+)` \(", errors)), kinds)
        answer = re.search(r'Answer: `(\{.*?\})`', page)[1]
        self.assertEqual(list(json.loads(answer)), re.findall(r'"(\w+)"', re.search(r'"ok", 1, "tenant".*?;', code, re.S)[0]))

    def test_every_load_of_the_demo_is_named_and_said_what_it_is(self):
        out = subprocess.run([f"{ROOT}/script/demo", "--help"], capture_output=True, text=True, check=True, env={**os.environ, "COLUMNS": "1000"}).stdout
        for name, what in re.findall(r'(?m)^    "([\w-]+)": "(.*)",$', open(f"{ROOT}/agents/demo/loads.py").read()):
            self.assertIn(f"{name}, {what}", out)
        loads = re.search(r"--load \{([\w,-]+)\}", out)[1].split(",")
        self.assertLessEqual({"demo", "light", "too-much"}, set(loads))
        with open(f"{ROOT}/README.md") as readme:
            self.assertEqual(set(re.findall(r"--load ([\w-]+)", readme.read())), set(loads) - {"demo"})

    @unittest.skipUnless(shutil.which("groff"), "no groff")
    def test_man_pages_are_clean(self):
        for path in glob.glob(f"{ROOT}/docs/man/*.[1-8]"):
            run = subprocess.run(["groff", "-mandoc", "-Tutf8", "-ww", path], capture_output=True, text=True)
            self.assertEqual((run.returncode, run.stderr), (0, ""), path)


if __name__ == "__main__":
    unittest.main()
