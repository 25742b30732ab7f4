"""Every command of docs/databases.md, in its order, on real databases; the model is a made-up one under the true one's name."""

from __future__ import annotations

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "databases.md").read_text(encoding="utf-8")
HELPERS = runpy.run_path(str(Path(__file__).with_name("stores_helpers.py")))
unit, text = HELPERS["unit"], HELPERS["text"]
WIDTH, ROWS = 512, 40

IMMICH = f"""
CREATE TABLE asset (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), "originalPath" text NOT NULL);
CREATE TABLE smart_search ("assetId" uuid NOT NULL, embedding vector({WIDTH}) NOT NULL,
  CONSTRAINT smart_search_pkey PRIMARY KEY ("assetId"),
  CONSTRAINT "smart_search_assetId_fkey" FOREIGN KEY ("assetId") REFERENCES asset (id) ON UPDATE NO ACTION ON DELETE CASCADE);
ALTER TABLE smart_search ALTER COLUMN embedding SET STORAGE EXTERNAL;
CREATE INDEX clip_index ON smart_search USING hnsw (embedding vector_cosine_ops) WITH (ef_construction = 300, m = 16);
CREATE TABLE system_metadata (key varchar NOT NULL PRIMARY KEY, value jsonb NOT NULL);
"""
"""Immich's tables as far as they matter here, by its public schema."""


def blocks(title: str) -> list[str]:
    """The commands below a heading."""
    section = re.search(rf"^## {re.escape(title)}$(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    return re.findall(r"^```bash\n(.*?)^```", section[1], re.MULTILINE | re.DOTALL)


@pytest.fixture
def shell(tmp_path, server):
    """Run a block of the page; return what it printed."""
    model = tmp_path / "huggingface" / "hub" / "models--openai--clip-vit-base-patch32"
    snapshot = model / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (model / "refs").mkdir()
    (model / "refs" / "main").write_text("0" * 40)
    rng = np.random.default_rng(0)
    tensors = {"visual_projection.weight": (WIDTH, 768), "text_projection.weight": (WIDTH, WIDTH)}
    save_file(
        {name: rng.standard_normal(shape, np.float32) for name, shape in tensors.items()},
        snapshot / "model.safetensors",
    )
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "isomix").write_text(f'#!/bin/sh\nexec {sys.executable} -m isomix "$@"\n')
    (programs / "psql").write_text(f'#!/bin/sh\nexec {server.psql} -X -A -t "$@"\n')
    for program in programs.iterdir():
        program.chmod(0o755)

    def run(block: str, **environment: str) -> str:
        told = {
            **os.environ,
            "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
            "HF_HOME": str(tmp_path / "huggingface"),
            **environment,
        }
        done = subprocess.run(
            ["bash", "-e", "-c", block], capture_output=True, text=True, cwd=tmp_path, env=told, check=False
        )
        assert done.returncode == 0, f"{block}\n{done.stderr}"
        return done.stdout

    return run


def test_every_block_belongs_to_a_section_that_is_run():
    titles = ["PostgreSQL: once, in bulk", "PostgreSQL: kept in step, without Python", "Immich", "Qdrant"]
    titles.append("LanceDB, and Lance tables of others")
    assert sum(len(blocks(title)) for title in titles) == PAGE.count("```bash\n")


def test_postgresql(shell, database):
    database.connection.execute(f"CREATE TABLE photos (id bigint PRIMARY KEY, embedding vector({WIDTH}))")
    database.fill("photos", list(enumerate(unit(ROWS, WIDTH))))
    before = database.schema()
    dry, done = blocks("PostgreSQL: once, in bulk")
    assert "nothing was written" in shell(dry, DATABASE=database.url)
    assert database.schema() == before
    shell(done, DATABASE=database.url)
    vectors = database.vectors("photos_isoclip")
    assert len(vectors) == ROWS and len(vectors[0]) == WIDTH - 200  # the preset band
    database.connection.execute("DROP TABLE photos_isoclip")

    install, query, undo, together = blocks("PostgreSQL: kept in step, without Python")
    shell(install, DATABASE=database.url)
    inside = database.vectors("isomix.vectors")
    assert max(np.abs(inside[key] - vectors[key]).max() for key in vectors) < 1e-6
    nearest = [int(line) for line in shell(query, DATABASE=database.url).split()]
    expected = sorted(set(vectors) - {7}, key=lambda key: -float(vectors[key] @ vectors[7]))
    assert nearest == expected[:10]
    shell(undo, DATABASE=database.url)
    assert database.schema() == before
    assert f"{ROWS} vectors written" in shell(together, DATABASE=database.url)
    assert database.schema() == before


def test_immich(shell, database):
    database.connection.execute(IMMICH)
    E, upsert = (
        unit(ROWS, WIDTH),
        (
            'INSERT INTO smart_search ("assetId", embedding) VALUES (%s, %s) '
            'ON CONFLICT ("assetId") DO UPDATE SET embedding = excluded.embedding'
        ),
    )
    ids = {}
    for row in range(ROWS):
        found = database.connection.execute(
            'INSERT INTO asset ("originalPath") VALUES (%s) RETURNING id', [f"/p/{row:02}.jpg"]
        )
        ids[row] = found.fetchone()[0]
        database.connection.execute(upsert, [ids[row], text(E[row])])
    before = database.schema()
    model, install, undo = blocks("Immich")
    assert shell(model, DATABASE=database.url).strip() == "ViT-B-32__openai"
    database.connection.execute(
        """INSERT INTO system_metadata VALUES ('system-config', '{"machineLearning": {"clip": {"modelName": "ViT-L-14__openai"}}}')"""
    )
    assert shell(model, DATABASE=database.url).strip() == "ViT-L-14__openai"
    nearest = shell(install, DATABASE=database.url).split()[-5:]
    vectors = database.vectors("isomix.vectors")
    expected = sorted(range(1, ROWS), key=lambda row: -float(vectors[ids[row]] @ vectors[ids[0]]))
    assert nearest == [f"/p/{row:02}.jpg" for row in expected[:5]]
    database.connection.execute(upsert, [ids[3], text(E[4])])  # a picture that Immich encodes again
    database.connection.execute("DELETE FROM asset WHERE id = %s", [ids[5]])
    after = database.vectors("isomix.vectors")
    assert np.abs(after[ids[3]] - vectors[ids[4]]).max() < 1e-6 and ids[5] not in after
    plain = database.connection.execute(
        'SELECT embedding::real[] FROM smart_search WHERE "assetId" = %s', [ids[0]]
    ).fetchone()[0]
    assert np.abs(np.array(plain) - E[0]).max() < 1e-6
    # What Immich does when its model becomes one of another width.
    database.connection.execute("TRUNCATE smart_search")
    database.connection.execute("ALTER TABLE smart_search ALTER COLUMN embedding SET DATA TYPE vector(768)")
    assert database.vectors("isomix.vectors") == {}
    shell(undo, DATABASE=database.url)
    assert database.schema() == before


@pytest.mark.filterwarnings("ignore:Local mode is not recommended")
def test_qdrant(shell, tmp_path):
    qdrant = pytest.importorskip(
        "qdrant_client", reason="no Qdrant client here: make test-stores", exc_type=ImportError
    )
    folder = tmp_path / "q"
    client = qdrant.QdrantClient(path=str(folder))
    client.create_collection("photos", vectors_config=qdrant.models.VectorParams(size=WIDTH, distance="Cosine"))
    points = [
        qdrant.models.PointStruct(id=row, vector=vector.tolist(), payload={})
        for row, vector in enumerate(unit(5, WIDTH))
    ]
    client.upsert("photos", points)
    client.close()
    (block,) = blocks("Qdrant")
    assert "5 vectors written" in shell(block.replace("http://localhost:6333", f"qdrant://{folder}"))


def test_lance_tables_of_others(shell, tmp_path):
    import lance
    import pyarrow as pa
    import pyarrow.parquet as pq

    E = unit(5, WIDTH)
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(E.ravel()), WIDTH)
    table = pa.table(
        {"sku": pa.array(["a", "b", "c", "d", "e"]), "vector": vectors, "price": pa.array([1, 2, 3, 4, 5])}
    )
    (tmp_path / "shop.lancedb").mkdir()
    lance.write_dataset(table, tmp_path / "shop.lancedb" / "photos.lance")
    (block,) = blocks("LanceDB, and Lance tables of others")
    shell(block)
    found = pq.read_table(tmp_path / "photos-isoclip.parquet")
    assert set(found.column_names) == {"sku", "vector", "price"} and found["sku"].to_pylist() == list("abcde")
    assert len(found["vector"][0]) == WIDTH - 200
