"""An hour at the studio in a second: what ``isomix serve`` writes while somebody labels, votes and looks at pictures.

The requests go to the studio's own application, without a socket, in a process that ``tools/crash.py`` kills.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

TABLE = "t.lance"
HOST = "127.0.0.1:7317"


def session() -> None:
    """Requests that may be sent again: two times the same gives what once gives."""
    from starlette.testclient import TestClient

    from isomix.web import Studio, create_app
    from isomix.web.security import Access

    access = Access(7317, frozenset({HOST}), token="of a studio that is killed")
    app = create_app(Studio(Path(TABLE)), access)
    headers = {"host": HOST, "authorization": f"Bearer {access.token}"}
    client = TestClient(app, base_url=f"http://{HOST}", headers=headers)

    def post(path: str, **body: object) -> None:
        answer = client.post(path, json=body)
        if answer.status_code != 200:
            raise RuntimeError(f"{path}: {answer.status_code} {answer.text}")

    for row in range(8):
        post("/api/labels", rows=[row], label="cat" if row % 2 else "bird")
        client.get(f"/api/picture/{row}").raise_for_status()
    post("/api/classes", action="rename", name="dog", new="hound")
    post("/api/labels", rows=[8, 9], label=None)
    for row in range(4):
        post("/api/votes", query=f"row:{row}", space="isoclip 9/9", choice="adapted")
        post("/api/verdicts", left=row, right=row + 10, verdict="different")
    post("/api/export/table-labels")


def before() -> None:
    """What an earlier session has left: labels of other rows, a vote, a verdict, and no thumbnails."""
    from isomix.store.side_file import SideFile, Vote
    from isomix.store.table import EmbeddingTable
    from isomix.store.thumbnails import thumbnails_path

    ids = [row["id"] for row in EmbeddingTable.open(TABLE).rows(columns=["id"])]
    side = SideFile(TABLE)
    side.label([ids[row] for row in (0, 1, 8, 9, 10)], "ant")
    side.label([ids[row] for row in (11, 12)], "dog")
    side.vote(Vote(f"row:{ids[0]}", "isoclip 9/9", "plain"))
    side.judge(ids[0], ids[10], "same")
    thumbnails_path(TABLE).unlink()


def state(folder: Path) -> dict[str, str]:
    """What is known of every row, also that nothing is: what is lost is another value, not a missing one."""
    from isomix.store.side_file import SideFile
    from isomix.store.table import EmbeddingTable
    from isomix.store.thumbnails import Thumbnails

    table = EmbeddingTable.open(folder / TABLE)
    side, small = SideFile(folder / TABLE), Thumbnails(folder / TABLE)
    labels, votes, verdicts = side.labels, {vote.query: vote.choice for vote in side.votes}, side.verdicts
    rows = list(table.rows(columns=["id", "path", "content_hash", "label"]))
    pictures = small.get([row["content_hash"] for row in rows])
    found: dict[str, str] = {}
    for row, vector in zip(rows, table.embeddings(), strict=True):
        name, judged = row["path"], {b: v for (a, b), v in verdicts.items() if a == row["id"]}
        found[f"{name} vector"] = hashlib.sha256(vector.tobytes()).hexdigest()
        found[f"{name} label"] = labels.get(row["id"], "")
        found[f"{name} label in the table"] = row["label"] or ""
        found[f"{name} vote"] = votes.get(f"row:{row['id']}", "")
        found[f"{name} verdicts"] = json.dumps(judged, sort_keys=True)
        found[f"{name} thumbnail"] = hashlib.sha256(pictures.get(row["content_hash"], b"")).hexdigest()
    return found
