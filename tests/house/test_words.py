"""What people read is true: every flag that --help prints is in the man page and completed, and man pages are clean."""
import glob
import os
import re
import shutil
import subprocess
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

    @unittest.skipUnless(shutil.which("groff"), "no groff")
    def test_man_pages_are_clean(self):
        for path in glob.glob(f"{ROOT}/docs/man/*.[1-8]"):
            run = subprocess.run(["groff", "-mandoc", "-Tutf8", "-ww", path], capture_output=True, text=True)
            self.assertEqual((run.returncode, run.stderr), (0, ""), path)


if __name__ == "__main__":
    unittest.main()
