"""Keys are changed as docs/operations.md says: by stock tools, and nothing the old ones made is lost."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from etcdguard.etcd.local import LocalCluster
from tests.e2e.running import Installation
from tests.support.commands import command_path

DOCUMENT = Path(__file__).parents[2] / "docs" / "operations.md"


def commands(heading: str) -> str:
    """The first block below that heading."""
    text = DOCUMENT.read_text().partition(f"### {heading}\n")[2]
    found = re.search(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert found is not None, heading
    return found[1]


def run(here: Installation, script: str) -> None:
    for tool in ("age-keygen", "openssl"):
        command_path(tool, package=tool.partition("-")[0])
    script = script.replace("/etc/etcdguard", str(here.folder))
    subprocess.run(["bash", "-euo", "pipefail", "-c", script], cwd=here.folder, check=True)


def outcomes(here: Installation, code: int = 0) -> dict[str, list[str]]:
    found = here.run("verify", "--all", "--level", "data", "-o", "json", code=code).document["results"]
    return {one["id"]: one["problems"] for one in found}


def test_a_new_identity_and_a_new_signing_key(tmp_path: Path, shared_cluster: LocalCluster) -> None:
    here = Installation.of(tmp_path / "here", shared_cluster)
    before = here.backup()

    run(here, commands("The age identity"))
    fresh = (here.folder / "identity-new.txt").read_text()
    public = re.search(r"age1[0-9a-z]+", fresh)
    assert public is not None
    here.settings["encryption"]["recipients"] = [public[0]]
    here.settings["encryption"]["identity_file"] = str(here.folder / "identity-new.txt")
    here.save()
    here.backup()
    assert "none of the" in here.run("verify", before, code=12).problem[0]
    both = here.folder / "both.txt"
    both.write_text(here.identity_file.read_text() + fresh)
    both.chmod(0o600)
    here.settings["encryption"]["identity_file"] = str(both)
    here.save()
    assert set(map(tuple, outcomes(here).values())) == {()}

    run(here, commands("The signing key"))
    new_key, new_public = (here.folder / f"signing-new.{name}.pem" for name in ("key", "pub"))
    here.settings["signing"] = {"key_file": str(new_key), "trusted_signers": [str(new_public)]}
    here.save()
    after = here.backup()
    problems = outcomes(here, code=13)
    assert problems.pop(after) == []
    assert all("by no trusted signer" in found[0] for found in problems.values())
    assert len(problems) == 2
    here.settings["signing"]["trusted_signers"].append(str(here.public_key))
    here.save()
    assert set(map(tuple, outcomes(here).values())) == {()}
