"""The nodes of a Ray cluster: which there are, how much room they have, and why cells don't run on some of them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from sooner.error import SoonerError
from sooner.race.machine import processor, versions


@dataclass
class Node:
    """A machine of the cluster, as far as this race knows it.

    Args:
        id: Ray's.
        name: of the host.
        room: how many cells fit in at once.
        accelerator: kind of its GPUs, "" for none.
        known: whether a seat on it has told what it is.
        failures: how often in a row no seat could be made there.
        why_not: half a sentence on why cells don't run there, "" where they do.
    """

    id: str
    name: str
    room: int
    accelerator: str
    known: bool = False
    failures: int = 0
    why_not: str = ""


def alive(ray: Any, before: Mapping[str, Node], cpus: int, gpus: int) -> dict[str, Node]:
    """Return the nodes with room for a cell, by Ray's id.

    Args:
        ray: the module, connected.
        before: what was known of them.
        cpus: that a cell takes.
        gpus: that a cell takes; nodes with GPUs of another kind than the first one's are told why not.
    """
    found = {}
    for node in ray.nodes():
        if not node["Alive"]:
            continue
        resources = node["Resources"]
        room = int(resources.get("CPU", 0) // cpus)
        if gpus:
            room = min(room, int(resources.get("GPU", 0) // gpus))
        if room:
            kinds = [name.partition(":")[2] for name in resources if name.startswith("accelerator_type:")]
            kind = kinds[0] if kinds and gpus else ""
            made = Node(node["NodeID"], node["NodeManagerHostname"], room, kind)
            found[made.id] = before.get(made.id, made)
    here = found.get(ray.get_runtime_context().get_node_id())
    if gpus and found:
        chosen = here or found[min(found)]
        for one in found.values():
            if one.accelerator != chosen.accelerator:
                one.why_not = f"its GPUs are {one.accelerator or 'of no known kind'}, not {chosen.accelerator}"
    return found


def unlike_this_one(about: Mapping[str, Any]) -> str:
    """Return why a node is not like this machine, half a sentence; "" where it is.

    Args:
        about: what its seat says of it: `name`, `processor` and `versions`.
    """
    why_not = ""
    ours, theirs = versions(), about["versions"]
    if about["processor"] != processor():
        why_not = f"its processor is {about['processor']}, not {processor()}"
    for name in ours:
        if theirs.get(name) != ours[name]:
            why_not = f"it has {name} {theirs.get(name)}, not {ours[name]}"
    return why_not


def refuse_nowhere(nodes: Collection[Node], cpus: int, gpus: int) -> None:
    """Refuse to wait for a cluster that will never have room.

    Raises:
        SoonerError: says what a cell takes, and why it is not there.
    """
    if any(not node.why_not for node in nodes):
        return
    needs = f"{cpus} CPU{'s' * (cpus != 1)}" + f" and {gpus} GPU{'s' * (gpus != 1)}" * (gpus > 0)
    reasons = "; ".join(sorted({f"{node.name}: {node.why_not}" for node in nodes})[:3])
    raise SoonerError(
        f"no node of the cluster can run a cell, which takes {needs}, this machine's processor and its versions"
        f"{f' ({reasons})' if reasons else ''}; start the race on a node like those that are to run it"
    )


def described(node: Node) -> dict[str, str]:
    """Return where a cell ran, for the journal."""
    return {"name": node.name, "id": node.id[:8], "processor": processor(), "accelerator": node.accelerator}
