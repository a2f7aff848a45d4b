# ruff: noqa: E501  (a table: what is replaced stands beside what replaces it)
"""Mistakes in losses: wrong normalisers, pairs, weights and hand-written gradients."""

from __future__ import annotations

from tests.mutants.mutant import Group, Mutant

_WEAK = ("y_aware", "threshold", "exponential")
_TERMS = ("terms", "conditional")
_KERNEL_TESTS = ("tests/losses/test_kernel.py", "tests/losses/test_kernel_identities.py", "tests/losses/test_line.py")


def _loss(
    name: str, file: str, old: str, new: str, names: tuple[str, ...], own: tuple[str, ...] = (), by: Group = "common"
) -> Mutant:
    tests = own or (f"tests/losses/test_{file}.py",)
    return Mutant(f"{file}: {name}", f"medssl/losses/{file}.py", old, new, names, tests, by)


MUTANTS = (
    _loss("the anchor is its own candidate", "pairs", "rows_N[:, None] != torch.arange(m", "rows_N[:, None] >= torch.arange(m",
          ("simclr", *_WEAK)),
    _loss("rows of views are mixed up", "pairs", "x_B.repeat(views, *[1] * (x_B.ndim - 1))",
          "x_B.repeat_interleave(views, dim=0)", ("simclr", *_WEAK)),
    _loss("relatives repel", "pairs", "valid_NM & (scan_NM | ~person_NM)", "valid_NM", ("simclr",)),
    _loss("positives of a scan are ignored with its relatives", "pairs", "valid_NM & (scan_NM | ~person_NM)",
          "valid_NM & ~person_NM", ("simclr",)),
    _loss("relatives do not attract", "pairs", 'scan_NM | person_NM if relatives == "positive" else scan_NM',
          "scan_NM", ("simclr",)),
    _loss("the key has no temperature", "pairs", "own_N[:, None] / temperature, cosine", "own_N[:, None], cosine",
          ("moco",)),
    _loss("keys receive gradient", "pairs", "(query_ND, key_ND.detach())", "(query_ND, key_ND)", ("moco",), by="own"),
    _loss("relatives in the queue repel", "pairs", '(~person_NK if relatives == "ignore" else torch.ones_like(person_NK))',
          "torch.ones_like(person_NK)", ("moco",)),
    _loss("a missing label is like all labels", "pairs", "torch.where(same_subject_NM, 0.0, NO_WEIGHT).to(logw_NM.dtype)",
          "torch.zeros_like(logw_NM)", _WEAK),
    _loss("drop keeps, self drops", "pairs", 'known_NM if policy == "drop" else', 'known_NM if policy == "self" else', _WEAK),
    _loss("the second label is not read", "pairs", "for _, logw, known in parts]).sum(0)",
          "for _, logw, known in parts[:1]]).sum(0)", _WEAK),
    _loss("attraction and repulsion are exchanged", "contrastive", "weight_NM * (den - sim_NM)", "weight_NM * (sim_NM - den)",
          ("simclr", "moco", *_WEAK)),
    _loss("positives are not averaged", "contrastive", "pos_NM / pos_NM.sum(1, keepdim=True).clamp(min=1).to(sim_NM.dtype)",
          "pos_NM.to(sim_NM.dtype)", ("simclr",)),
    _loss("the positive is not in the denominator", "contrastive",
          "return weighted_rows(sim_NM, _uniform(pos_NM, sim_NM), masked_lse(sim_NM, valid_NM)[:, None], pos_NM)",
          "return weighted_rows(sim_NM, _uniform(pos_NM, sim_NM), masked_lse(sim_NM, valid_NM & ~pos_NM)[:, None], pos_NM)",
          ("simclr", "moco")),
    _loss("the denominator has no gradient", "contrastive",
          "return weighted_rows(sim_NM, _uniform(pos_NM, sim_NM), masked_lse(sim_NM, valid_NM)[:, None], pos_NM)",
          "return weighted_rows(sim_NM, _uniform(pos_NM, sim_NM), masked_lse(sim_NM, valid_NM)[:, None].detach(), pos_NM)",
          ("simclr", "moco")),
    _loss("SupCon in adds the wrong number of positives", "contrastive", "masked_lse(sim_NM, pos_NM) + count_N",
          "masked_lse(sim_NM, pos_NM) - count_N", (), by="own"),
    _loss("the margin has the wrong sign", "contrastive", "torch.logaddexp(neg_N1, sim_NM - eps)",
          "torch.logaddexp(neg_N1, sim_NM + eps)", (), by="own"),
    _loss("weights of DCLW sum to nothing", "contrastive", "2 - len(cos_B) *", "1 - len(cos_B) *", (), by="own"),
    _loss("y-aware weights are not normalised", "kernel",
          "weight_NM = softmax_over(logw_NM, valid_NM).to(sim_NM.dtype)\n    den_N1",
          "weight_NM = logw_NM.exp().to(sim_NM.dtype)\n    den_N1", ("y_aware",), _KERNEL_TESTS),
    _loss("alike labels repel most", "kernel", "-torch.expm1(logw_NM.to(sim_NM.dtype))", "torch.exp(logw_NM.to(sim_NM.dtype))",
          ("exponential",), _KERNEL_TESTS),
    _loss("the attracted one repels too", "kernel", "den = leave_one_out_lse(repelled_NM, valid_NM)",
          "den = masked_lse(repelled_NM, valid_NM)[:, None]", ("exponential",), _KERNEL_TESTS),
    _loss("the published code subtracts the smallest", "kernel", "sim_NM.detach().amax(1, keepdim=True)",
          "sim_NM.detach().amin(1, keepdim=True)", ("exponential",), _KERNEL_TESTS),
    _loss("who has nobody below counts", "kernel", "valid_NM & (below_NM > 0))", "valid_NM)", (), _KERNEL_TESTS, "own"),
    _loss("counts are of the anchor's row", "kernel", "return count_NN.T.contiguous()", "return count_NN.contiguous()",
          ("threshold",), _KERNEL_TESTS),
    _loss("sums from the left run the wrong way in the gradient", "line", "by_left.flip(1).cumsum(1).flip(1), mass_NM",
          "by_left.cumsum(1), mass_NM", ("threshold",)),
    _loss("the gradient forgets attraction", "line", "slope_NM = -weight_NM", "slope_NM = torch.zeros_like(weight_NM)",
          ("threshold",)),
    _loss("weights of the anchor are not normalised", "line", "1 / total_N1, 0.0))", "1.0, 0.0))", ("threshold",)),
    _loss("one from the sum of all, added", "lse", "torch.log1p(-share_NM)", "torch.log1p(share_NM)", ("exponential",)),
    _loss("blocks send no gradient to candidates", "rows", "slope_MD.addmm_(slope_bM.T, z_bD, alpha=1 / temperature)",
          "pass", ("block", "drop")),
    _loss("blocks forget the temperature in the gradient", "rows", "slope_bM @ z_MD / temperature", "slope_bM @ z_MD",
          ("block", "drop")),
    _loss("the gradient of blocks is a sum", "rows", "scale = slope / count\n        return *(None", "scale = slope\n        return *(None",
          ("block", "drop")),
    _loss("anchors without a term are counted", "rows", "torch.where(has_N, loss_N, 0.0).sum() / has_N.sum().clamp(min=1)",
          "torch.where(has_N, loss_N, 0.0).sum() / len(has_N)", _WEAK),
    _loss("rows without a label are counted", "cluster", "total / (label_N != -1).sum().clamp(min=1)", "total / len(label_N)",
          (), by="own"),
    _loss("variance for deviation", "reconstruct", "(variance + 1e-6).sqrt()", "(variance + 1e-6)", ("mae",)),
    _loss("visible patches count in the mean", "reconstruct", "(weight * error).sum() / total",
          "(weight * error).sum() / weight.numel()", ("mae",)),
    _loss("a sum over pairs", "adversarial", "F.softplus(-wide(encoded_N)).mean()", "F.softplus(-wide(encoded_N)).sum()",
          ("bigan",)),
    _loss("the generator plays the critic's game", "adversarial", "return ali_critic(generated_N, encoded_N)",
          "return ali_critic(encoded_N, generated_N)", ("bigan",)),
    _loss("one group alone decides", "fair", "for share_NM in (w_NM, 1 - w_NM):", "for share_NM in (w_NM,):", _TERMS),
    _loss("the spreads are not compared", "fair", "kappa * (var.sqrt() - var_other.sqrt()) ** 2", "kappa * 0", _TERMS),
    _loss("the mean has no gradient", "fair", "mean = (share_NM * used_NM).sum() / mass",
          "mean = (share_NM * used_NM).sum().detach() / mass", _TERMS),
    _loss("covariance by the number of its entries", "redundancy", "/ cov_DD.shape[0]", "/ cov_DD.numel()", _TERMS),
    _loss("the diagonal is decorrelated too", "redundancy", "(cov_DD.square().sum() - cov_DD.diagonal().square().sum())",
          "cov_DD.square().sum()", _TERMS),
    _loss("the biased variance", "redundancy", "/ (len(z_ND) - 1) + eps)", "/ len(z_ND) + eps)", _TERMS),
    _loss("distance attracts", "uniformity", ".log() - t * torch.where", ".log() + t * torch.where", _TERMS),
    _loss("alignment over all pairs", "uniformity", "/ w_NM.sum().clamp(min=1e-12)", "/ w_NM.numel()", _TERMS),
)  # fmt: skip
