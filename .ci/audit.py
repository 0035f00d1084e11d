"""Compare installed packages with known vulnerabilities: exit code 1 if there are any, 0 without a network.

Run by ``make audit``. Exit code 2: pip-audit cannot be run.
"""

from __future__ import annotations

import json
import subprocess
import sys

_TIMEOUT_S = 300
_USAGE = 2  # of pip-audit
_CANNOT_RUN = 2


def main() -> int:
    """Run pip-audit, print what it found, return the exit code."""
    command = [sys.executable, "-m", "pip_audit", "--format", "json", "--progress-spinner", "off", "--timeout", "10"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        print(f"audit: no answer in {_TIMEOUT_S} s; nothing was compared")
        return 0
    try:
        packages = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        print("audit: nothing was compared:", *done.stderr.strip().splitlines()[-1:])
        cannot_run = done.returncode == _USAGE or "No module named" in done.stderr
        return _CANNOT_RUN if cannot_run else 0
    compared = [package for package in packages if "vulns" in package]
    if not compared:
        print(f"audit: none of {len(packages)} packages could be compared: {packages[0]['skip_reason']}")
        return 0
    found = [(package, vulnerability) for package in compared for vulnerability in package["vulns"]]
    print(f"audit: {len(compared)} of {len(packages)} packages compared, {len(found)} known vulnerabilities")
    for package, vulnerability in found:
        fixed = ", ".join(vulnerability["fix_versions"]) or "no version yet"
        print(f"  {package['name']} {package['version']}: {vulnerability['id']}, fixed in {fixed}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
