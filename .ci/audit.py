"""Known vulnerabilities of the pinned dependencies: status 1 where there is one, a word where nobody could be asked.

pip-audit --disable-pip --no-deps -f json -r constraints.txt | python .ci/audit.py
"""

from __future__ import annotations

import json
import sys

text = sys.stdin.read()
pins = json.loads(text)["dependencies"] if text.strip() else []
asked = [pin for pin in pins if "skip_reason" not in pin]
found = [(pin["name"], pin["version"], flaw) for pin in asked for flaw in pin["vulns"]]
for name, version, flaw in found:
    print(f"{name} {version}: {flaw['id']}, mended in {', '.join(flaw['fix_versions']) or 'no version yet'}")
unasked = "" if len(asked) == len(pins) and pins else "; the others could not be looked up (no network?)"
print(f"audit: {len(found)} known vulnerabilities in {len(asked)} of {len(pins)} pinned packages{unasked}")
sys.exit(1 if found else 0)
