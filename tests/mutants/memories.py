# ruff: noqa: E501  (a table: what is replaced stands beside what replaces it)
"""Mistakes in memory: what remembers, and who tells it to."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

_MOCO = "medssl/methods/contrastive/momentum_queue.py"
_EMA, _QUEUE = "medssl/memory/ema.py", "medssl/memory/queue.py"
_BANK, _LABELS = "medssl/memory/bank.py", "medssl/memory/assignments.py"
_CLUSTER = "medssl/methods/cluster/deepcluster.py"
_MEMORY = ("tests/memory",)
_CLUSTER_TESTS = ("tests/methods/test_deepcluster.py",)


def _moco(name: str, old: str, new: str, file: str = _MOCO, equivalent: str = "") -> Mutant:
    return Mutant(name, file, old, new, ("moco",), ("tests/methods/test_momentum_queue.py",), equivalent=equivalent)


MUTANTS = (
    _moco("moco: the teacher never moves", "self.teacher.update(self._online(), progress.fraction)", "pass"),
    _moco("moco: the teacher is not reset after the spread", "self.teacher.reset(self._online())", "pass"),
    _moco("moco: keys by the online encoder", "slow = self.teacher.module[0]", "slow = self.encoder"),
    _moco("moco: keys by the online projector", "slow = self.teacher.module[1]", "slow = self.projector"),
    _moco("moco: keys of the query's own view", "slow(key).pooled for _, key in", "slow(key).pooled for key, _ in"),
    _moco("moco: the keys of the other view are remembered", '"keys": k_QBD[0]}', '"keys": k_QBD[-1]}'),
    _moco("moco: queries are remembered", '"keys": k_QBD[0]}', '"keys": q_QBD[0].detach()}'),
    _moco("moco: keys of any length", "F.normalize(slow(h_BE), dim=1) for", "slow(h_BE) for"),
    _moco("moco: scans in place of persons", 'step.carry["keys"], batch.meta["subject"])',
          'step.carry["keys"], batch.index)'),
    _moco("moco: keys are pushed twice", "self.queue.push(keys, subjects, step=progress.step)",
          "[self.queue.push(keys, subjects, step=progress.step) for _ in range(2)]"),
    _moco("moco: keys in the order of the batch",
          'gather_scans(batch.index, step.carry["keys"], batch.meta["subject"])',
          'step.carry["keys"], batch.meta["subject"]'),
    _moco("moco: relatives in the queue repel", "subject_K=self.queue.ids", "subject_K=self.queue.ids * 0 - 1"),
    _moco("moco: half the temperature", "temperature=self.temperature,", "temperature=self.temperature / 2,"),
    _moco("moco: the second view never asks", "[: 1 + self.symmetric]", "[:1]"),
    _moco("moco: sum over views in place of the mean", "torch.stack(losses).mean()", "torch.stack(losses).sum()"),
    _moco("moco: only the first view's loss", "torch.stack(losses).mean()", "losses[0]"),
    _moco("moco: a step pushes keys", "        ages = self.queue.age(progress.step)\n",
          '        self.queue.push(k_QBD[0], batch.meta["subject"])\n        ages = self.queue.age(progress.step)\n'),
    _moco("moco: momentum the wrong way round", "self.projector]), momentum, end", "self.projector]), 1 - momentum, end"),
    _moco("moco: random first keys are no negatives", "torch.ones_like(self.queue.filled)", "self.queue.filled"),
    _moco("moco: the spread in every epoch", "if progress.step == 0:", "if True:"),
    _moco("ema: momentum the wrong way round", "slow.mul_(m).add_(fast[name].detach().to(slow.dtype), alpha=1 - m)",
          "slow.mul_(1 - m).add_(fast[name].detach().to(slow.dtype), alpha=m)", _EMA),
    _moco("ema: biases stay", "            slow.mul_(m).add_(",
          "            if slow.ndim < 2:\n                continue\n            slow.mul_(m).add_(", _EMA),
    _moco("ema: running statistics stay", "kept.copy_(fast_buffers[name])", "pass", _EMA),
    _moco("ema: running statistics follow slowly", 'if self.policy == "ema" and', "if", _EMA),
    _moco("ema: updates are not counted", "        self.updates += 1", "        pass", _EMA),
    _moco("ema: it shares the weights", "copy.deepcopy(module).requires_grad_(False)", "module", _EMA),
    Mutant("ema: the schedule runs backwards", _EMA, "(math.cos(math.pi * fraction) + 1) / 2",
           "(1 - math.cos(math.pi * fraction)) / 2", own=_MEMORY, by="own"),
    _moco("queue: the pointer stands still", "self.pointer.copy_((self.pointer + n) % size)", "pass", _QUEUE),
    _moco("queue: of too many keys the first stay", "last = slice(max(0, n - size), n)",
          "last = slice(0, min(n, size))", _QUEUE),
    _moco("queue: it counts beyond its size", "(self.count + n).clamp(max=size)", "self.count + n", _QUEUE),
    _moco("queue: keys have no date", "self.born.index_fill_(0, place_N[last], step)", "pass", _QUEUE),
    _moco("queue: persons are not kept", 'stored = {"keys": z_ND, "ids": ids_N, **', 'stored = {"keys": z_ND, **', _QUEUE),
    _moco("queue: two halves in the order they came",
          "order = torch.argsort(gather(index_B, own_first=False), stable=True)",
          "order = torch.arange(len(gather(index_B, own_first=False)))", "medssl/distributed.py"),
    _moco("accumulate: only the last micro-batch is remembered",
          "torch.cat([s.carry[k] for s in steps]) if v.ndim else v", "v", "medssl/training/batches.py"),
    Mutant("bank: old and new by the same weight", _BANK, "(1 - self.momentum) * z", "self.momentum * z",
           own=_MEMORY, by="own"),
    Mutant("bank: rows lose their length", _BANK,
           "moved = F.normalize(self.momentum * self.z[index] + (1 - self.momentum) * z, dim=1)",
           "moved = self.momentum * self.z[index] + (1 - self.momentum) * z", own=_MEMORY, by="own"),
    Mutant("bank: the first of a double counts", _BANK, 'position_N, "amax")', 'position_N, "amin")',
           own=_MEMORY, by="own"),
    Mutant("bank: the last of a double is not looked for", _BANK, "self.z)[position], dim=1)",
           "self.z)[: len(index)], dim=1)", own=_MEMORY, by="own"),
    Mutant("bank: rows by place in the batch", _BANK, "self.z.index_copy_(0, index, moved)",
           "self.z.index_copy_(0, torch.arange(len(index)), moved)", own=_MEMORY, by="own"),
    Mutant("labels: counts of this call alone", _LABELS, "self.labels[self.labels >= 0], minlength",
           "label_N[label_N >= 0], minlength", own=_MEMORY, by="own"),
    Mutant("labels: the order of the rows is lost", _LABELS, "label_N[position].to(self.labels)",
           "label_N[: len(index)].to(self.labels)", own=_MEMORY, by="own"),
    Mutant("labels: large clusters are drawn more often", _LABELS, "1.0 / size_R, 0.0)", "1.0 * size_R, 0.0)",
           ("deepcluster",), (*_MEMORY, *_CLUSTER_TESTS), by="own"),
    Mutant("deepcluster: labels by place in the batch", _CLUSTER, "self.assigned.labels[batch.index]",
           "self.assigned.labels[: len(batch)]", ("deepcluster",), _CLUSTER_TESTS),
    Mutant("deepcluster: the classifier is kept", _CLUSTER, "nn.init.normal_(self.classifier.weight, std=0.01)",
           "pass", ("deepcluster",), _CLUSTER_TESTS),
    Mutant("deepcluster: the optimiser keeps its moments", _CLUSTER, "return (self.classifier,)", "return None",
           ("deepcluster",), _CLUSTER_TESTS, by="own"),
    Mutant("deepcluster: every clustering has the same seed", _CLUSTER, "seed=progress.epoch)", "seed=0)",
           ("deepcluster",), _CLUSTER_TESTS, by="own"),
    Mutant("deepcluster: it clusters in every epoch", _CLUSTER, "if progress.epoch % self.every:", "if False:",
           ("deepcluster",), _CLUSTER_TESTS, by="own"),
    Mutant("deepcluster: it clusters in the first epoch alone", _CLUSTER, "if progress.epoch % self.every:",
           "if progress.epoch:", ("deepcluster",), _CLUSTER_TESTS),
    Mutant("deepcluster: labels in the order of the pass", _CLUSTER, "self.assigned.set(index_N.to(device),",
           "self.assigned.set(torch.arange(len(index_N)),", ("deepcluster",), _CLUSTER_TESTS, by="own"),
    Mutant("deepcluster: each process divides by its own labels", _CLUSTER,
           "over_processes(pseudo_label_loss(logits_BK, label_B), (label_B != -1).sum)",
           "pseudo_label_loss(logits_BK, label_B)", ("deepcluster",), by="processes",
           equivalent="every scan that is trained on has a label, so all processes have equally many"),
)  # fmt: skip
