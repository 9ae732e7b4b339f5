"""Figure 10: the loss stalls while the gradient does not vanish, and which gradient that is.

Minibatch SGD on digits with a net too narrow to fit them (64-3-10, tanh). Of an update θ' = θ - η g_B the minibatch's
gradient is g_B = (θ - θ')/η: what the run really used, beside the gradient g on all samples at the same θ. After half
of the updates the learning rate drops to a thirtieth. Norms are root mean squares over the seeds.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.figure import Figure

import landscape as ls
from landscape import plots
from landscape.estimate import from_samples
from landscape.gallery import Caption, Text, main
from landscape.problems import toy

CAPTION = Caption(
    title=Text("The loss stalls, the gradient does not vanish", "损失停滞，梯度却没有消失"),
    says=Text(
        "Training that no longer lowers the loss need not be at a critical point: the norm of the gradient may stay "
        "large, because the run bounces between the two walls of a valley.",
        "训练损失不再下降，并不一定是走到了临界点：梯度的范数可能仍然很大，因为参数在山谷的两壁之间来回反弹。",
    ),
    measured=Text(
        "A 64-3-10 net on digits, batch size {batch}, means of {seeds} seeds with 95 % intervals, norms as root mean "
        "squares. (a) At learning rate {rates[0]:g} the loss falls from {first_loss:.2f} to {loss[0]:.3f} ["
        "{loss_low[0]:.3f}, {loss_high[0]:.3f}] in the second half of the phase, and hardly changes there: by "
        "{stall:+.3f} [{stall_low:+.3f}, {stall_high:+.3f}] from its first to its last half. (b) There the minibatch's "
        "gradient norm is {mini[0]:.2f} [{mini_low[0]:.2f}, {mini_high[0]:.2f}] and that of the full gradient "
        "{full[0]:.2f} [{full_low[0]:.2f}, {full_high[0]:.2f}] (at the start {first_mini:.2f} and {first_full:.2f}): "
        "neither vanishes. At {rates[1]:g} the loss falls to {loss[1]:.3f} [{loss_low[1]:.3f}, {loss_high[1]:.3f}], "
        "the full gradient to {full[1]:.3f} [{full_low[1]:.3f}, {full_high[1]:.3f}], {full_drop:.1f} times less; the "
        "minibatch's stays at {mini[1]:.2f} [{mini_low[1]:.2f}, {mini_high[1]:.2f}]. That is noise: the root of ‖g‖² + "
        "tr Σ (n - B)/(B (n - 1)), Σ the covariance of the samples' gradients, is {theory[0]:.2f} and {theory[1]:.2f}. "
        "(c) The cosine between one update and the next is {turn[0]:.3f} [{turn_low[0]:.3f}, {turn_high[0]:.3f}] and "
        "{turn[1]:.3f} [{turn_low[1]:.3f}, {turn_high[1]:.3f}].",
        "手写数字，64-3-10 网络，批量大小 {batch}，{seeds} 个种子的均值和 95% 区间，范数取均方根。(a) 学习率 "
        "{rates[0]:g}：损失从 {first_loss:.2f} 降到该阶段后半段的 {loss[0]:.3f} [{loss_low[0]:.3f}, {loss_high[0]:.3f}"
        "]，而在这后半段里几乎不变：从其前一半到后一半只变化 {stall:+.3f} [{stall_low:+.3f}, {stall_high:+.3f}]。(b) "
        "此时小批量梯度的范数为 {mini[0]:.2f} [{mini_low[0]:.2f}, {mini_high[0]:.2f}]，全体样本梯度的范数为 "
        "{full[0]:.2f} [{full_low[0]:.2f}, {full_high[0]:.2f}]（起点处为 {first_mini:.2f} 和 {first_full:.2f}）：两者"
        "都没有消失。学习率降到 {rates[1]:g} 后，损失降到 {loss[1]:.3f} [{loss_low[1]:.3f}, {loss_high[1]:.3f}]，全体"
        "梯度降到 {full[1]:.3f} [{full_low[1]:.3f}, {full_high[1]:.3f}]，小了 {full_drop:.1f} 倍；小批量梯度仍有 "
        "{mini[1]:.2f} [{mini_low[1]:.2f}, {mini_high[1]:.2f}]。剩下的是噪声：‖g‖² + tr Σ (n - B)/(B (n - 1)) 的平方根"
        "（Σ 是各样本梯度的协方差）为 {theory[0]:.2f} 和 {theory[1]:.2f}。(c) 相邻两次更新夹角的余弦为 {turn[0]:.3f} ["
        "{turn_low[0]:.3f}, {turn_high[0]:.3f}] 和 {turn[1]:.3f} [{turn_low[1]:.3f}, {turn_high[1]:.3f}]。",
    ),
    caveat=Text(
        "So the claim holds, but the norm of one minibatch's gradient does not show it: that stays where the noise of "
        "{batch} samples holds it, whether the loss stalls or not. Look at the full gradient. It stays large at the "
        "larger rate because the noise keeps throwing the run up the walls of the valley; a smaller rate lets it sink. "
        "A bounce from wall to wall would show as a cosine near -1; here two updates in a row are nearly at right "
        "angles. (d) A true bounce: full-batch descent on the toy above the largest stable learning rate, where the "
        "loss alternates between {cycle_loss[0]:.3f} and {cycle_loss[1]:.3f} and the gradient norm stays at "
        "{cycle_slope[0]:.3f}, as theory says. The net was chosen for a loss that stalls: with 3 hidden units it "
        "cannot fit the digits.",
        "所以这个说法成立，但单个小批量的梯度范数说明不了它：无论损失是否停滞，{batch} 个样本的噪声都把它撑在那里。要"
        "看全体样本的梯度。学习率较大时它不消失，是因为噪声不断把参数抛上谷壁；学习率小了，参数才沉下去。若真是在两壁"
        "之间来回反弹，余弦应接近 -1；这里相邻两次更新几乎互相垂直。(d) 真正的反弹：在玩具网络上做全批量下降，学习率超"
        "过最大稳定值，损失在 {cycle_loss[0]:.3f} 和 {cycle_loss[1]:.3f} 之间交替，梯度范数停在 {cycle_slope[0]:.3f}，"
        "与理论一致。选用这个网络，正是因为它的损失会停滞：3 个隐藏单元拟合不了这些数字。",
    ),
)

SIZES, BATCH = (64, 3, 10), 8
RATES = (0.3, 0.01)
WINDOW = 5  # looks: one minibatch alone says little
BOUNCING = 0.55  # learning rate of the toy, between 1/2 and (√5 - 1)/2: a 2-cycle
COLOURS = {"mini": plots.VERMILION, "full": plots.BLUE}


def phase(net, starts, rate, updates, every, key):
    """Ends of runs, and what is seen each `every` updates, as means over windows of 5 looks: (seeds, windows)."""
    at = np.arange(0, updates, every)
    watched = np.unique(np.add.outer(at, (0, 1, 2)))
    how = {"optimizer": optax.sgd, "hyper": {"learning_rate": rate}, "steps": updates, "batch_size": BATCH, "key": key}
    found = ls.descent.run(net, starts, **how, observe_at=watched)
    places = np.searchsorted(watched, at)
    flat = np.concatenate([leaf.reshape(*leaf.shape[:2], -1) for leaf in jax.tree.leaves(found.trace.params)], axis=2)
    flat = flat.astype(np.float64)  # differences of float32 points are exact enough: 1e-7 of a weight against η ‖g_B‖
    first, second = ((flat[:, places + i] - flat[:, places + i + 1]) / rate for i in (0, 1))
    square = lambda vectors: np.sum(vectors**2, axis=-1)  # noqa: E731
    seen = {
        "loss": found.trace.loss[:, places],
        "mini": square(first),
        "full": found.trace.gradient_norm[:, places].astype(np.float64) ** 2,
        "turn": np.sum(first * second, axis=-1) / np.sqrt(square(first) * square(second)),
    }
    seen = {name: values.reshape(len(values), -1, WINDOW).mean(axis=2) for name, values in seen.items()}
    middles = jax.tree.map(lambda leaf: leaf[:, places[WINDOW // 2 :: WINDOW]], found.trace.params)
    return found.end.params, seen | {"noise": spread(net, middles)}


def spread(net, points):
    """tr Σ (n - B)/(B (n - 1)) at points (seeds, times, ...), Σ the covariance of the samples' gradients."""
    seeds, times = jax.tree.leaves(points)[0].shape[:2]
    lanes = jax.tree.map(lambda leaf: leaf.reshape(seeds * times, *leaf.shape[2:]), points)
    trace = ls.sweep.sweep(covariance_trace, lanes, net, block=8)  # a lane needs n gradients at once
    return trace.reshape(seeds, times) * (net.size - BATCH) / (BATCH * (net.size - 1))


def covariance_trace(params, problem):
    """mean_i ‖g_i‖² - ‖mean_i g_i‖² over the samples."""
    one = lambda i: jax.grad(problem.loss)(params, problem.take(problem.data, i[None]))  # noqa: E731
    each = jax.tree.leaves(jax.vmap(one)(jnp.arange(problem.size)))
    return sum(jnp.sum(jnp.mean(leaf**2, axis=0) - jnp.mean(leaf, axis=0) ** 2) for leaf in each)


def start(net, seeds):
    """The starts, and loss and both gradients' norms there: the minibatch's by theory, root mean square."""
    starts = [net.init(jax.random.fold_in(jax.random.key(0), seed), net.data) for seed in range(seeds)]
    starts = jax.tree.map(lambda *leaves: np.stack(leaves), *starts)
    loss, gradient = ls.sweep.sweep(jax.value_and_grad(net.loss), starts, net.data)
    full = np.mean(sum(np.sum(np.square(leaf.reshape(seeds, -1)), axis=1) for leaf in jax.tree.leaves(gradient)))
    noise = spread(net, jax.tree.map(lambda leaf: leaf[:, None], starts)).mean()
    return starts, {"first_loss": loss.mean(), "first_full": np.sqrt(full), "first_mini": np.sqrt(full + noise)}


def training(seeds, updates, every):
    """Both phases one after the other, (seeds, times) each, and the means of the second half of each phase."""
    net = ls.problems.networks.mlp(SIZES, "tanh", data=ls.problems.datasets.digits())
    points, first = start(net, seeds)
    phases = []
    for key, rate in enumerate(RATES):
        points, seen = phase(net, points, rate, updates, every, key)
        phases.append(seen)
    record = {name: np.concatenate([seen[name] for seen in phases], axis=1) for name in phases[0]}
    late = [{name: values[:, values.shape[1] // 2 :].mean(axis=1) for name, values in seen.items()} for seen in phases]
    windows = phases[0]["loss"].shape[1]
    stall = phases[0]["loss"][:, windows // 2 :].reshape(seeds, 2, -1).mean(axis=2)
    change = from_samples(stall[:, 1] - stall[:, 0])
    low, high = change.interval()
    own = {"at": (np.arange(2 * windows) + 0.5) * WINDOW * every, "stall": change.mean, "stall_low": low}
    return (
        {f"{name}_runs": values for name, values in record.items()} | own | {"stall_high": high} | summary(late) | first
    )


def summary(late):
    """Means over seeds with 95 % intervals, one entry a phase; of squares the roots, as norms."""
    record = {"theory": np.sqrt([np.mean(seen["full"] + seen["noise"]) for seen in late])}
    for name in ("loss", "turn", "mini", "full"):
        means = [from_samples(seen[name]) for seen in late]
        found = np.array([mean.mean for mean in means]), *np.transpose([mean.interval() for mean in means])
        ends = [np.sqrt(np.maximum(end, 0)) for end in found] if name in ("mini", "full") else found
        record |= dict(zip((name, f"{name}_low", f"{name}_high"), ends, strict=True))
    return record | {f"{name}_drop": record[name][0] / record[name][1] for name in ("mini", "full")}


def bouncing(steps):
    """Full-batch gradient descent on the toy at a learning rate that no minimum can bear, from w1 = w2 = 0.5."""
    how = {"optimizer": optax.sgd, "hyper": {"learning_rate": BOUNCING}, "steps": steps}
    start = toy.Weights(*np.full(2, 0.5))
    trace = ls.descent.run(ls.problems.two_weight(), start, **how, observe_at=range(steps + 1)).trace
    # The 2-cycle on w1 = w2: x + y = √(1 + 3/(2η)), |x - y| = √(1 - 1/(2η)).
    total, gap = np.sqrt(1 + 1.5 / BOUNCING), np.sqrt(1 - 0.5 / BOUNCING)
    x = (total + np.array([-gap, gap])) / 2
    return {
        "bounce_rate": BOUNCING,
        "bounce_loss": trace.loss,
        "bounce_slope": trace.gradient_norm,
        "cycle_loss": (1 - x**2) ** 2,
        "cycle_slope": 2 * np.sqrt(2) * x * np.abs(1 - x**2),
    }


def compute(seeds=16, updates=4000, every=100):
    settings = {"seeds": seeds, "updates": updates, "batch": BATCH, "rates": np.array(RATES)}
    return settings | training(seeds, updates, every) | bouncing(60)


def draw(record):
    figure = Figure(figsize=(11, 9.3), layout="constrained")
    (loss, norms), (turns, bounce) = figure.subplots(2, 2)
    band(loss, record["at"], record["loss_runs"], plots.BLUE, "loss on all samples")
    loss.set(title="loss", ylabel="loss $L$ (nats)", ylim=(0, None))
    for name, label in (("mini", r"minibatch, $\|g_B\|$"), ("full", r"all samples, $\|g\|$")):
        band(norms, record["at"], record[f"{name}_runs"], COLOURS[name], label, root=True)
    expected = np.sqrt(np.mean(record["full_runs"] + record["noise_runs"], axis=0))
    plots.theory(record["at"], expected, norms, label=r"$\|g\|$ and sampling noise (theory)")
    norms.set(title="gradient norm, same runs", ylabel="gradient norm (root mean square)", yscale="log")
    band(turns, record["at"], record["turn_runs"], plots.GREEN, "cosine of two updates in a row")
    plots.theory(record["at"][[0, -1]], [0, 0], turns, label="independent updates", style=":")
    turns.set(title="does it bounce?", ylabel="cosine", ylim=(-1, 1))
    for ax in (loss, norms, turns):
        ax.axvline(record["updates"], color=plots.GREY, linewidth=1.2, label=rates(record))
        ax.set(xlabel="update")
        plots.legend(ax)
    draw_bounce(record, bounce)
    for letter, ax in zip("abcd", (loss, norms, turns, bounce), strict=True):
        ax.set_title(f"({letter}) {ax.get_title()}", fontsize="medium")
    return figure


def rates(record):
    return f"learning rate {record['rates'][0]:g}, then {record['rates'][1]:g}"


def band(ax, at, runs, colour, label, root=False):
    """The mean over seeds and its 95 % interval; of squares the roots."""
    mean = from_samples(runs)
    lower, upper = mean.interval()
    middle, lower, upper = (np.sqrt(np.maximum(v, 0)) if root else v for v in (mean.mean, lower, upper))
    ax.fill_between(at, lower, upper, color=colour, alpha=0.3, linewidth=0)
    ax.plot(at, middle, color=colour, linewidth=1.4, label=f"{label} (95 % band)")


def draw_bounce(record, ax):
    steps = np.arange(record["bounce_loss"].size)
    for name, colour, label in (("slope", plots.VERMILION, "gradient norm"), ("loss", plots.BLUE, "loss")):
        ax.plot(steps, record[f"bounce_{name}"], "o-", color=colour, markersize=3, linewidth=0.8, label=label)
        for value in record[f"cycle_{name}"]:
            plots.theory(steps[[0, -1]], [value] * 2, ax, label="the exact 2-cycle (theory)", style="--")
    ax.set(title=f"a true bounce: the toy, full batch, $\\eta$ = {record['bounce_rate']:g}", xlabel="step")
    ax.set(ylabel="loss $L$, gradient norm", ylim=(0, None))


if __name__ == "__main__":
    main(compute, draw, CAPTION)
