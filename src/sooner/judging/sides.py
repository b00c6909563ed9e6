"""The two sides of a comparison: what each is, how to tell whether it is still the same, and the folder it runs in."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from sooner.error import SoonerError
from sooner.judging.process import Program

WORKING_TREE = "."


@dataclass(frozen=True)
class Side:
    """One of the two that are compared.

    Args:
        name: for people, such as "main (3f2a91c)".
        identity: a digest of its files and of what is run.
        program: what is run.
        commit: to check out, None to run in the present folder.
    """

    name: str
    identity: str
    program: Program
    commit: str | None = None


class Repository:
    """The git repository around a folder.

    Raises:
        SoonerError: there is none, or no git.
    """

    def __init__(self, here: Path) -> None:
        self._here = here
        self.root = Path(self.git("rev-parse", "--show-toplevel"))
        self.inside = here.resolve().relative_to(self.root.resolve())

    def git(self, *words: str, at: Path | None = None, index: Path | None = None) -> str:
        """Return what git prints.

        Raises:
            SoonerError: it fails.
        """
        # a hook of git that calls us has set these to its own repository
        environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
        if index is not None:
            environment["GIT_INDEX_FILE"] = str(index)
        try:
            done = subprocess.run(
                ["git", *words], cwd=at or self._here, capture_output=True, check=False, env=environment
            )
        except OSError as error:
            raise SoonerError(f"cannot start git ({error.strerror}); install it, or compare two commands") from None
        if done.returncode:
            said = done.stderr.decode(errors="replace").strip().splitlines() or ["nothing"]
            raise SoonerError(
                f"git {words[0]} failed in {at or self._here} ({said[-1]}); mend that, or compare two commands with "
                "--baseline-command and --candidate-command"
            )
        return done.stdout.decode(errors="replace").rstrip("\n")

    def commit_of(self, revision: str) -> str:
        """Return the commit that a revision names.

        Raises:
            SoonerError: it names none.
        """
        try:
            return self.git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
        except SoonerError:
            raise SoonerError(
                f"{revision!r} is no revision of {self.root}; `git log` and `git branch` list them"
            ) from None

    def changed(self) -> list[str]:
        """Return the files that differ from HEAD, new ones that git does not ignore included."""
        return [
            line[3:] for line in self.git("status", "--porcelain", "--untracked-files=all", at=self.root).splitlines()
        ]

    def snapshot(self, scratch: Path) -> str:
        """Return a commit of the working tree as it stands, new files included; index and branches stay as they are.

        Args:
            scratch: a folder for an index of its own.
        """
        scratch.mkdir(parents=True, exist_ok=True)
        index = scratch / "index"
        index.unlink(missing_ok=True)
        try:
            self.git("read-tree", "HEAD", at=self.root, index=index)
            self.git("add", "--all", at=self.root, index=index)
            tree = self.git("write-tree", at=self.root, index=index)
        finally:
            index.unlink(missing_ok=True)
        names = ("-c", "user.name=sooner", "-c", "user.email=sooner@localhost")
        return self.git(*names, "commit-tree", tree, "-p", "HEAD", "-m", "working tree, as judged")

    @contextmanager
    def checked_out(self, commit: str, place: Path, shared: Sequence[str]) -> Iterator[Tree]:
        """Check a commit out into a folder of its own, which is gone afterwards."""
        self.remove(place)  # of one that was killed
        place.parent.mkdir(parents=True, exist_ok=True)
        self.git("worktree", "add", "--detach", "--force", str(place), commit)
        try:
            tree = Tree(self, place, shared)
            tree.clean()
            yield tree
        finally:
            self.remove(place)

    def remove(self, place: Path) -> None:
        """Remove a folder that a commit was checked out into, and what git knows of it."""
        if place.exists():
            with suppress(SoonerError):
                self.git("worktree", "remove", "--force", "--force", str(place))
            shutil.rmtree(place, ignore_errors=True)
        self.git("worktree", "prune")


@dataclass(frozen=True)
class Tree:
    """A commit that is checked out.

    Args:
        repository: that it belongs to.
        place: where it is.
        shared: files and folders that git does not keep, such as data, linked from the working tree.
    """

    repository: Repository
    place: Path
    shared: Sequence[str]

    @property
    def folder(self) -> Path:
        """Where programs run: the same folder of the repository as the one the command was given in."""
        return self.place / self.repository.inside

    def clean(self) -> None:
        """Undo what a run left, so that none goes on from another's checkpoint.

        Raises:
            SoonerError: something shared is not there, or is in the commit.
        """
        self.repository.git("reset", "--hard", "--quiet", at=self.place)
        self.repository.git("clean", "-ffdxq", at=self.place)
        for name in self.shared:
            source, link = self.repository.root / name, self.place / name
            if not source.exists() or Path(name).is_absolute() or ".." in Path(name).parts:
                raise SoonerError(f"--share {name}: there is no such file or folder in {self.repository.root}")
            if link.exists():
                raise SoonerError(
                    f"--share {name}: git keeps it, so each revision has its own; {self._instead_of(name)}"
                )
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(source.resolve(), target_is_directory=source.is_dir())
        if not self.folder.is_dir():
            raise SoonerError(
                f"there is no folder {self.repository.inside} in this revision; start from one that both have"
            )

    def _instead_of(self, name: str) -> str:
        """Return what to share instead of something that git keeps: of a folder, what it holds besides."""
        besides = self.repository.git("ls-files", "-z", "--others", "--", name, at=self.repository.root).split("\0")
        files = [file for file in besides if file]
        return f"share what it holds besides, such as --share {files[0]}" if files else "leave it out"


def of_revisions(
    repository: Repository, baseline: str, candidate: str, program: Program, scratch: Path
) -> tuple[Side, Side]:
    """Return the two sides for two revisions of a repository; "." is the working tree as it stands.

    Raises:
        SoonerError: one is not there, or the candidate is HEAD and there are changes beside it that would silently be
            left out.
    """
    head = repository.commit_of("HEAD")
    sides = []
    for revision in (baseline, candidate):
        commit = repository.snapshot(scratch) if revision == WORKING_TREE else repository.commit_of(revision)
        tree = repository.git("rev-parse", f"{commit}^{{tree}}")
        name = "the working tree" if revision == WORKING_TREE else _named(revision, commit)
        sides.append(Side(name, _digest("tree", tree, str(repository.inside)), program, commit))
    if sides[1].commit == head and (changed := repository.changed()):
        more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
        raise SoonerError(
            f"{changed[0]}{more} in {repository.root} differ from the candidate {candidate}, so they would not be "
            f"judged; commit them, or judge the working tree as it stands with --candidate {WORKING_TREE}"
        )
    return sides[0], sides[1]


def of_commands(here: Path, baseline: Program, candidate: Program) -> tuple[Side, Side]:
    """Return the two sides for two commands that run in this folder.

    What identifies them are their words, the files these name, and the state of the git repository around, where there
    is one.
    """
    return _command(here, baseline), _command(here, candidate)


def _command(here: Path, program: Program) -> Side:
    named = [Path(here, word) for word in program.words]
    files = [hashlib.sha256(path.read_bytes()).hexdigest() for path in named if path.is_file()]
    state = ""
    with suppress(SoonerError):  # no repository
        repository = Repository(here)
        state = repository.git("rev-parse", "HEAD^{tree}") + repository.git("diff", "HEAD", "--binary")
    return Side(" ".join(program.words), _digest("command", *program.words, "", *files, "", state), program)


def _named(revision: str, commit: str) -> str:
    return revision if commit.startswith(revision) else f"{revision} ({commit[:8]})"


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
