"""What bounds W GPUs on N scans: the formulas of docs/scaling.md. Seconds, bytes, bytes per second throughout."""

from __future__ import annotations

import math
from dataclasses import dataclass

from medssl.errors import UserError

FLOAT = 4
BACKWARD = 2 / 3
"""Share of forward and backward that is backward, behind which DDP hides its all-reduce."""


@dataclass(frozen=True)
class Inputs:
    """What the reader fills in.

    decode_s: one scan from .nii.gz into the cache; read_s: one scan from the warm cache; view_s: one view; all on one
    core. hand_s: one view out of a worker process, in the process that trains (views on the GPU are not handed over).
    net_s: forward and backward of all views of one scan on one GPU. view_gpu_s: one view on the GPU, where views are
    made there (None: on the cores). raw_bytes: a .nii.gz; voxels: of a cached scan; itemsize: 4, or 2 for float16.
    views, batch (scans per GPU), embedding (D), parameters (P): of the recipe. cores: per GPU. node: GPUs per node.
    memory: bytes per node that may hold cached files. disk: bytes/s per node (a shared file system: its total divided
    by the nodes). link: bytes/s per GPU inside a node; wire: bytes/s per node between nodes. latency_s: per hop.
    """

    decode_s: float
    read_s: float
    view_s: float
    net_s: float
    view_gpu_s: float | None = None
    hand_s: float = 0.004
    raw_bytes: float = 4e6
    voxels: int = 121 * 145 * 121
    itemsize: int = 4
    views: int = 2
    batch: int = 32
    embedding: int = 128
    parameters: float = 33e6
    cores: int = 8
    node: int = 8
    memory: float = 400e9
    disk: float = 2e9
    link: float = 200e9
    wire: float = 25e9
    latency_s: float = 20e-6

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value is not None and not (value > 0 or (name.endswith("_s") and value == 0)):
                raise UserError(f"{name} is {value}; it must be above 0")

    @property
    def scan_bytes(self) -> int:
        """S: one cached scan."""
        return self.voxels * self.itemsize


@dataclass(frozen=True)
class Plan:
    """One column of the table. Times of one step in seconds, of one GPU; all GPUs work at once.

    read, views: of the cores of one GPU; hand: views out of worker processes, by the one process that feeds the GPU;
    disk: cached bytes that are not in memory; net: forward and backward, with the views where they are made there;
    gather: embeddings and their gradients; reduce: gradients, what does not hide behind the backward pass. step: the
    slowest of cores (read + views), hand-over, disk and GPU (network + gather + reduce), which work at once; bound: the
    greatest part of that one. batch: scans per GPU. steps: per epoch. build: seconds until the cache is filled.
    cores_needed: per GPU, so that the GPU never waits for them.
    """

    gpus: int
    scans: int
    read: float
    views: float
    hand: float
    disk: float
    net: float
    gather: float
    reduce: float
    step: float
    bound: str
    batch: int
    steps: int
    build: float
    cores_needed: int

    @property
    def epoch(self) -> float:
        """Seconds of one epoch once the cache is filled."""
        return self.steps * self.step

    @property
    def rate(self) -> float:
        """Scans per second of all GPUs."""
        return self.gpus * self.batch / self.step


def gather_bytes(gpus: int, batch: int, views: int, embedding: int) -> int:
    """Embeddings that every GPU holds after the all-gather: W * B * V * D * 4."""
    return gpus * batch * views * embedding * FLOAT


def reduce_bytes(gpus: int, parameters: float) -> float:
    """What a ring all-reduce of the gradients sends per GPU: 2 * P * 4 * (W - 1) / W."""
    return 2 * parameters * FLOAT * (gpus - 1) / gpus


def plan(given: Inputs, gpus: int, scans: int) -> Plan:
    """Times and bound for W GPUs on N scans. Raises UserError where the cohort is smaller than one joint batch."""
    b, w = given.batch, gpus
    steps = scans // (b * w)
    if w < 1 or steps < 1:
        raise UserError(
            f"{scans} scans are fewer than one joint batch of {w} GPUs x {b}; use fewer GPUs, or a smaller batch"
        )
    nodes = math.ceil(w / given.node)
    on_cores = given.view_gpu_s is None
    read = b * given.read_s / given.cores
    views = b * given.views * given.view_s / given.cores if on_cores else 0.0
    hand = b * given.views * given.hand_s if on_cores else 0.0
    absent = max(0.0, 1 - given.memory / (scans * given.scan_bytes))
    disk = absent * given.scan_bytes * b * min(w, given.node) / given.disk
    net = b * (given.net_s + (0.0 if on_cores else given.views * (given.view_gpu_s or 0.0)))
    speed = given.link if nodes == 1 else min(given.link, given.wire)
    ring = (w - 1) / w / speed
    gather = 2 * (gather_bytes(w, b, given.views, given.embedding) * ring + (w - 1) * given.latency_s)
    whole = reduce_bytes(w, given.parameters) / speed + 2 * (w - 1) * given.latency_s
    reduce = max(0.0, whole - BACKWARD * b * given.net_s)
    sides = {"cores": read + views, "hand": hand, "disk": disk, "gpu": net + gather + reduce}
    side = max(sides, key=lambda name: sides[name])
    inside = {
        "cores": {"views": views, "read": read},
        "hand": {"hand-over": hand},
        "disk": {"disk": disk},
        "gpu": {"network": net, "all-gather": gather, "all-reduce": reduce},
    }[side]
    fill = max(
        given.decode_s * scans / (given.cores * w),
        scans * (given.raw_bytes + given.scan_bytes) / (given.disk * nodes),
    )
    per_scan = given.read_s + (given.views * given.view_s if on_cores else 0.0)
    return Plan(
        gpus=w,
        scans=scans,
        read=read,
        views=views,
        hand=hand,
        disk=disk,
        net=net,
        gather=gather,
        reduce=reduce,
        step=sides[side],
        bound=max(inside, key=lambda name: inside[name]),
        batch=b,
        steps=steps,
        build=fill,
        cores_needed=math.ceil(per_scan * b / sides["gpu"]) if sides["gpu"] else 0,
    )
