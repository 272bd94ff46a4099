"""Checks that a binary takes the command lines of composed Kubernetes manifests.

    command_lines.py FLOTILLA COMPOSED.yaml
"""

import re
import subprocess
import sys

import yaml


def containers(path):
    with open(path, encoding="utf-8") as file:
        for manifest in yaml.safe_load_all(file):
            template = manifest.get("spec", {}).get("template") if manifest else None
            for container in template["spec"]["containers"] if template else []:
                yield manifest["metadata"]["name"], container


def main():
    binary, path = sys.argv[1:]
    checked = 0
    for name, container in containers(path):
        known = {variable["name"] for variable in container.get("env", [])}
        args = container["args"]
        unknown = set(re.findall(r"\$\((\w+)\)", " ".join(args))) - known
        assert not unknown, f"{name}: no variable {unknown}"
        # An id is a number, and any other text has digits as well.
        args = [re.sub(r"\$\(\w+\)", "1", arg) for arg in args]
        # Help is printed only if all that stands before it could be read.
        done = subprocess.run([binary, *args, "--help"], capture_output=True, text=True)
        assert done.returncode == 0, f"{name}: {done.stderr}"
        checked += 1
    assert checked, f"no command lines in {path}"
    print(f"{path}: {checked} command lines")


if __name__ == "__main__":
    main()
