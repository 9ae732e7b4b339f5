"""Figure 10: the loss stalls while the gradient does not vanish, and which gradient that is.

Minibatch SGD on digits with a net too narrow to fit them (64-3-10, tanh). Of an update θ' = θ - η g_B the minibatch's
gradient is g_B = (θ - θ')/η: what the run really used, beside the gradient g on all samples at the same θ. After half
of the updates the learning rate drops to a thirtieth. Norms are root mean squares over the seeds. The control takes all
samples at every update, from the same starts at the larger rate. A bounce is a full gradient that turns round from one
update to the next.
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
        "A 64-3-10 net on digits, batch size {batch}, means of {seeds} seeds with 95 % intervals (Student's; bands in "
        "the picture), norms as root mean squares. (a) At learning rate {rates[0]:g} the loss falls from "
        "{first_loss:.2f} to {loss[0]:.3f} [{loss_low[0]:.3f}, {loss_high[0]:.3f}] in the second half of the phase, "
        "and changes little there: by {stall:+.3f} [{stall_low:+.3f}, {stall_high:+.3f}] from its first to its last "
        "half. (b) There the minibatch's gradient norm is {mini[0]:.2f} [{mini_low[0]:.2f}, {mini_high[0]:.2f}] and "
        "that of the full gradient {full[0]:.2f} [{full_low[0]:.2f}, {full_high[0]:.2f}] (at the start "
        "{first_mini:.2f} and {first_full:.2f}): neither vanishes. At {rates[1]:g} the loss falls to {loss[1]:.3f} ["
        "{loss_low[1]:.3f}, {loss_high[1]:.3f}], the full gradient to {full[1]:.3f} [{full_low[1]:.3f}, "
        "{full_high[1]:.3f}], less by a factor of {full_drop:.1f}; the minibatch's stays at {mini[1]:.2f} ["
        "{mini_low[1]:.2f}, {mini_high[1]:.2f}]. That is noise: the root of ‖g‖² + tr Σ (n - B)/(B (n - 1)), Σ the "
        "covariance of the samples' gradients, is {theory[0]:.2f} and {theory[1]:.2f}. (c) In a bounce from wall to "
        "wall the full gradient turns round at every update: cosine -1. With minibatches the cosine of the full "
        "gradients of two updates in a row is {turn[0]:+.2f} [{turn_low[0]:+.2f}, {turn_high[0]:+.2f}] at {rates[0]:g} "
        "and {turn[1]:+.3f} [{turn_low[1]:+.3f}, {turn_high[1]:+.3f}] at {rates[1]:g}: no bounce. With all samples at "
        "every update ({control_seeds} of the same starts, learning rate {rates[0]:g}) its median over the seeds is "
        "{control_median:+.2f} (from {control_least:+.2f} to {control_most:+.2f}), and two updates apart it is "
        "{control_again:+.3f} [{control_again_low:+.3f}, {control_again_high:+.3f}]: those runs do bounce. One of them "
        "rests from it for a while, and there its gradient norm is {control_quiet:.2f}. Their loss is "
        "{control_loss:.3f} [{control_loss_low:.3f}, {control_loss_high:.3f}], their gradient norm {control_full:.2f} "
        "[{control_full_low:.2f}, {control_full_high:.2f}].",
        "手写数字，64-3-10 网络，批量大小 {batch}，{seeds} 个种子的均值和 95% 区间（学生 t 分布；图中为色带），范数"
        "取均方根。(a) 学习率 {rates[0]:g}：损失从 {first_loss:.2f} 降到该阶段后半段的 {loss[0]:.3f} ["
        "{loss_low[0]:.3f}, {loss_high[0]:.3f}]，而在这后半段里变化很小：从其前一半到后一半变化 {stall:+.3f} ["
        "{stall_low:+.3f}, {stall_high:+.3f}]。(b) 此时小批量梯度的范数为 {mini[0]:.2f} [{mini_low[0]:.2f}, "
        "{mini_high[0]:.2f}]，全体样本梯度的范数为 {full[0]:.2f} [{full_low[0]:.2f}, {full_high[0]:.2f}]（起点处为 "
        "{first_mini:.2f} 和 {first_full:.2f}）：两者都没有消失。学习率降到 {rates[1]:g} 后，损失降到 {loss[1]:.3f} "
        "[{loss_low[1]:.3f}, {loss_high[1]:.3f}]，全体梯度降到 {full[1]:.3f} [{full_low[1]:.3f}, {full_high[1]:.3f}]，"
        "降为原来的 1/{full_drop:.1f}；小批量梯度仍有 {mini[1]:.2f} [{mini_low[1]:.2f}, {mini_high[1]:.2f}]。剩下的"
        "是噪声：‖g‖² + tr Σ (n - B)/(B (n - 1)) 的平方根（Σ 是各样本梯度的协方差）为 {theory[0]:.2f} 和 "
        "{theory[1]:.2f}。(c) 若在两壁之间来回反弹，全体样本的梯度每次更新都会掉头：余弦为 -1。用小批量时，相邻两次"
        "更新处全体梯度的余弦在学习率 {rates[0]:g} 下为 {turn[0]:+.2f} [{turn_low[0]:+.2f}, {turn_high[0]:+.2f}]，在 "
        "{rates[1]:g} 下为 {turn[1]:+.3f} [{turn_low[1]:+.3f}, {turn_high[1]:+.3f}]：没有反弹。若每次更新都用全体样"
        "本（同样起点中的 {control_seeds} 个，学习率 {rates[0]:g}），各种子余弦的中位数为 {control_median:+.2f}（从 "
        "{control_least:+.2f} 到 {control_most:+.2f}），相隔两次更新则为 {control_again:+.3f} ["
        "{control_again_low:+.3f}, {control_again_high:+.3f}]：这才是反弹。其中一次运行有一段时间不反弹，那时它的梯"
        "度范数为 {control_quiet:.2f}。它们的损失为 {control_loss:.3f} [{control_loss_low:.3f}, "
        "{control_loss_high:.3f}]，梯度范数为 {control_full:.2f} [{control_full_low:.2f}, {control_full_high:.2f}]。",
    ),
    caveat=Text(
        "So the chapter's picture holds for descent on all samples: while a run bounces its gradient does not vanish. "
        "With minibatches the full gradient does not vanish either, but the run does not bounce, and its gradient is "
        "smaller than without noise, so that noise alone is not what keeps it large. With minibatches a smaller "
        "learning rate brings it down. The norm of one minibatch's gradient shows nothing of this: it stays where the "
        "noise of {batch} samples holds it, whether the loss stalls or not. Nor would the cosine of two updates: were "
        "the full gradient to turn round exactly, that of two independent minibatches would be about -‖g‖²/‖g_B‖² = "
        "{flip:.2f}. (d) The bounce in its simplest form: full-batch descent on the toy above the largest stable "
        "learning rate, where the loss alternates between {cycle_loss[0]:.3f} and {cycle_loss[1]:.3f} and the gradient "
        "norm stays at {cycle_slope[0]:.3f}, as theory says. The net was chosen for a loss that stalls: with 3 hidden "
        "units it cannot fit the digits.",
        "所以，对于用全体样本的下降，书中的图景成立：只要参数来回反弹，梯度就不消失。用小批量时，全体样本的梯度同样不"
        "消失，但参数并不反弹，而且它的梯度比没有噪声时更小，可见单凭噪声并不能解释梯度为何一直很大。用小批量时，减小"
        "学习率能使它降下来。单个小批量的梯度范数对此什么也说明不了：无论损失是否停滞，{batch} 个样本的噪声都把它撑在"
        "那里。相邻两次更新的余弦也说明不了：即使全体梯度恰好掉头，两个独立小批量的余弦也只有约 -‖g‖²/‖g_B‖² = "
        "{flip:.2f}。(d) 最简单的反弹：在玩具网络上做全批量下降，学习率超过最大稳定值，损失在 {cycle_loss[0]:.3f} 和 "
        "{cycle_loss[1]:.3f} 之间交替，梯度范数停在 {cycle_slope[0]:.3f}，与理论一致。选用这个网络，正是因为它的损失会"
        "停滞：3 个隐藏单元拟合不了这些数字。",
    ),
)

SIZES, BATCH = (64, 3, 10), 8
RATES = (0.3, 0.01)
WINDOW = 5  # looks: one minibatch alone says little
BOUNCING = 0.55  # learning rate of the toy, between 1/2 and (√5 - 1)/2: a 2-cycle
COLOURS = {"mini": plots.VERMILION, "full": plots.BLUE}


def phase(net, starts, rate, updates, every, key, batch=BATCH):
    """Ends of runs, and what is seen each `every` updates, as means over windows of 5 looks: (seeds, windows)."""
    at = np.arange(0, updates, every)
    watched = np.unique(np.add.outer(at, (0, 1, 2)))
    how = {"optimizer": optax.sgd, "hyper": {"learning_rate": rate}, "steps": updates, "batch_size": batch, "key": key}
    found = ls.descent.run(net, starts, **how, observe_at=watched, observe=("params",))
    places = np.searchsorted(watched, at)
    points, (loss, gradient) = flat(found.trace.params), on_all_samples(net, found.trace.params)
    # Points are float32, differences of them exact enough: 1e-7 of a weight against η ‖g_B‖.
    used = (points[:, places] - points[:, places + 1]) / rate
    now, following, second = (gradient[:, places + i] for i in (0, 1, 2))
    # The turn is that of the full gradient: two updates of a noisy run are nearly at right angles, bounce or not.
    seen = {
        "loss": loss[:, places],
        "mini": np.sum(used**2, axis=-1),
        "full": np.sum(now**2, axis=-1),
        "turn": cosine(now, following),
        "again": cosine(now, second),
    }
    seen = {name: values.reshape(len(values), -1, WINDOW).mean(axis=2) for name, values in seen.items()}
    middles = jax.tree.map(lambda leaf: leaf[:, places[WINDOW // 2 :: WINDOW]], found.trace.params)
    noise = np.zeros_like(seen["full"]) if batch is None else spread(net, middles)
    return found.end.params, seen | {"noise": noise}


def flat(points):
    """Pytrees (seeds, times, ...) as float64 vectors (seeds, times, parameters)."""
    leaves = [leaf.reshape(*leaf.shape[:2], -1) for leaf in jax.tree.leaves(points)]
    return np.concatenate(leaves, axis=2).astype(np.float64)


def on_all_samples(net, points):
    """Loss (seeds, times) and gradient (seeds, times, parameters) on all samples, at points (seeds, times, ...)."""
    seeds, times = jax.tree.leaves(points)[0].shape[:2]
    lanes = jax.tree.map(lambda leaf: leaf.reshape(seeds * times, *leaf.shape[2:]), points)
    loss, gradient = ls.sweep.sweep(jax.value_and_grad(net.loss), lanes, net.data)
    return loss.reshape(seeds, times), flat(jax.tree.map(lambda leaf: leaf.reshape(seeds, times, -1), gradient))


def cosine(first, second):
    return np.sum(first * second, axis=-1) / np.sqrt(np.sum(first**2, axis=-1) * np.sum(second**2, axis=-1))


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


def training(net, starts, updates, every):
    """Both phases one after the other, (seeds, times) each, and the means of the second half of each phase."""
    phases, points = [], starts
    for key, rate in enumerate(RATES):
        points, seen = phase(net, points, rate, updates, every, key)
        phases.append(seen)
    windows = phases[0]["loss"].shape[1]
    record = {f"{name}_runs": np.concatenate([seen[name] for seen in phases], axis=1) for name in phases[0]}
    stall = phases[0]["loss"][:, windows // 2 :].reshape(-1, 2, windows // 4).mean(axis=2)
    change, low, high = with_interval(stall[:, 1] - stall[:, 0])
    found = summary([late(seen) for seen in phases])
    return (
        record
        | {"at": (np.arange(2 * windows) + 0.5) * WINDOW * every, "stall": change, "stall_low": low, "stall_high": high}
        | found
        | {f"{name}_drop": found[name][0] / found[name][1] for name in ("mini", "full")}
        | {"flip": -((found["full"][0] / found["mini"][0]) ** 2)}
    )


def without_noise(net, starts, updates, every):
    """The control: all samples at every update, from the same starts, at the larger learning rate."""
    _, seen = phase(net, starts, RATES[0], updates, every, 0, batch=None)
    runs = {f"control_{name}_runs": seen[name] for name in ("loss", "full", "turn", "again")}
    found = {f"control_{name}": value[0] for name, value in summary([late(seen)]).items()}
    turns = late(seen)["turn"]
    middle = seen["turn"].shape[1] // 2
    steady = np.unravel_index(np.argmax(seen["turn"][:, middle:]), turns.shape + (middle,))
    quiet = {"control_quiet": np.sqrt(seen["full"][:, middle:][steady])}  # where a run bounces least
    spread_of = {"control_median": np.median(turns), "control_least": turns.min(), "control_most": turns.max()}
    return runs | found | quiet | spread_of | {"control_seeds": len(turns)}


def late(seen):
    """Means over the second half of a phase, one a seed."""
    return {name: values[:, values.shape[1] // 2 :].mean(axis=1) for name, values in seen.items()}


def with_interval(samples):
    """Mean over seeds and the ends of its 95 % interval, Student's: seeds are few."""
    mean = from_samples(samples)
    return mean.mean, *mean.interval(degrees=len(samples) - 1)


def summary(phases):
    """Means over seeds with 95 % intervals, one entry a phase; of squares the roots, as norms."""
    record = {"theory": np.sqrt([np.mean(seen["full"] + seen["noise"]) for seen in phases])}
    for name in ("loss", "turn", "again", "mini", "full"):
        found = np.transpose([with_interval(seen[name]) for seen in phases])
        ends = [np.sqrt(np.maximum(end, 0)) for end in found] if name in ("mini", "full") else found
        record |= dict(zip((name, f"{name}_low", f"{name}_high"), ends, strict=True))
    return record


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


def compute(seeds=16, updates=4000, every=100, control_seeds=8):
    net = ls.problems.networks.mlp(SIZES, "tanh", data=ls.problems.datasets.digits())
    starts, first = start(net, seeds)
    some = jax.tree.map(lambda leaf: leaf[:control_seeds], starts)
    settings = {"seeds": seeds, "updates": updates, "batch": BATCH, "rates": np.array(RATES)}
    noisy, control = training(net, starts, updates, every), without_noise(net, some, updates, every)
    return settings | first | noisy | control | bouncing(60)


def draw(record):
    figure = Figure(figsize=(11, 9.3), layout="constrained")
    (loss, norms), (turns, bounce) = figure.subplots(2, 2)
    noisy, control = f"B = {record['batch']}", f"full batch, $\\eta$ = {record['rates'][0]:g}"
    first = record["at"][: record["control_loss_runs"].shape[1]]
    band(loss, record["at"], record["loss_runs"], plots.BLUE, noisy)
    band(loss, first, record["control_loss_runs"], plots.PURPLE, control, style="--")
    loss.set(title="loss on all samples", ylabel="loss $L$ (nats)", ylim=(0, None))
    for name, label in (("mini", rf"{noisy}: minibatch $\|g_B\|$"), ("full", rf"{noisy}: full $\|g\|$")):
        band(norms, record["at"], record[f"{name}_runs"], COLOURS[name], label, root=True)
    expected = np.sqrt(np.mean(record["full_runs"] + record["noise_runs"], axis=0))
    plots.theory(record["at"], expected, norms, label=r"full $\|g\|$ and noise (theory)")
    band(norms, first, record["control_full_runs"], plots.PURPLE, control, root=True, style="--")
    norms.set(title="gradient norm, same runs", ylabel="gradient norm (root mean square)", yscale="log")
    band(turns, record["at"], record["turn_runs"], plots.BLUE, noisy)
    turns.plot(first, record["control_turn_runs"].T, "--", color=plots.PURPLE, linewidth=1)
    turns.plot([], [], "--", color=plots.PURPLE, linewidth=1, label=f"{control}: each seed")
    plots.theory(record["at"][[0, -1]], [-1, -1], turns, label="bounce from wall to wall", style=":")
    turns.set(title="does it bounce? full gradient, one update to the next", ylabel="cosine", ylim=(-1.1, 1.1))
    for ax in (loss, norms, turns):
        ax.axvline(record["updates"], color=plots.GREY, linewidth=1.2, label=rates(record))
        ax.set(xlabel="update")
        plots.legend(ax)
    draw_bounce(record, bounce)
    for letter, ax in zip("abcd", (loss, norms, turns, bounce), strict=True):
        ax.set_title(f"({letter}) {ax.get_title()}", fontsize="medium")
    return figure


def rates(record):
    return f"$\\eta$ = {record['rates'][0]:g}, then {record['rates'][1]:g}"


def band(ax, at, runs, colour, label, root=False, style="-"):
    """The mean over seeds and, shaded, its 95 % interval; of squares the roots."""
    middle, lower, upper = (np.sqrt(np.maximum(v, 0)) if root else v for v in with_interval(runs))
    ax.fill_between(at, lower, upper, color=colour, alpha=0.3, linewidth=0)
    ax.plot(at, middle, style, color=colour, linewidth=1.4, label=label)


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
