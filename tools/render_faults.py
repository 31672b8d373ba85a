"""The table of docs/reliability.md from what tests/e2e/test_faults.py has measured.

usage: SE_REMOTE_MEASURE=/tmp/faults.json python -m pytest tests/e2e/test_faults.py
       python tools/render_faults.py /tmp/faults.json docs/reliability.md
The lines between the two markers of the page are replaced.
"""

import json
import sys
from pathlib import Path

BEGIN, END = "<!-- measured: begin -->\n", "<!-- measured: end -->\n"


def seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"


def verdict(row: dict[str, object]) -> str:
    code = row["code"]
    if code == 0:
        return "success"
    return "failure" if code == 1 else "(killed)"


def main(measured: str, page: str) -> None:
    rows = json.loads(Path(measured).read_text())
    lines = [
        "| fault | when | lease | scenario | noticed | client ended | all clean | on_stop |",
        "|---" * 8 + "|",
    ]
    for row in rows:
        cells = [
            row["name"],
            row["when"],
            row["lease"],
            verdict(row),
            seconds(row["noticed"]),
            seconds(row["ended"]),
            seconds(row["clean"]),
            "ran" if row["on_stop"] else "",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    text = Path(page).read_text()
    head, _, rest = text.partition(BEGIN)
    _, _, tail = rest.partition(END)
    Path(page).write_text(head + BEGIN + "\n".join(lines) + "\n" + END + tail)


if __name__ == "__main__":
    main(*sys.argv[1:])
