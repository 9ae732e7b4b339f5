"""Figure 13: two schedules. A decay that turns the chapter's Adagrad into Duchi's, and a warm-up that saves Adam."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.figure import Figure

import landscape as ls
from landscape import plots
from landscape.gallery import Caption, Text, main
from landscape.problems.datasets import Dataset

CAPTION = Caption(
    title=Text(
        "Two schedules: decay cures the bursts, warm-up saves Adam", "两种学习率调度：衰减治好爆发，预热救了 Adam"
    ),
    says=Text(
        "A learning rate that decays cures the bursts of Adagrad. Warm-up, a learning rate that first rises and then "
        "falls, helps Adam: its estimates of the squared gradient are poor at first, so its first steps should be "
        "small.",
        "让学习率衰减，可以治好 Adagrad 的爆发。预热（学习率先升后降）对 Adam 有帮助：刚开始它对梯度平方的估计还不准，"
        "所以前几步应当走得小一些。",
    ),
    measured=Text(
        "Decay: an identity, exact to rounding. Warm-up: it helps on this net; on the canyon it costs (see the "
        "caveat). (a, b) The chapter's Adagrad with η/√(t+1) for η is Duchi's Adagrad: √(t+1) cancels. Over {steps} "
        "updates in the canyon of figure 11 the two runs differ by at most {relative[0]:.1e} of (b, w), {ulp[0]:.0f} "
        "units in the last place, in float64, and {relative[1]:.1e}, {ulp[1]:.0f} units, in float32, and not at all "
        "after updates {last[0]} and {last[1]} (rounding decides when). Bursts at η = 1: {bursts[0]} without decay, "
        "{bursts[1]} with, {bursts[2]} for Duchi's. (c, d) Adam with all of {samples} digits at every update, a "
        "64-16-16-10 ReLU net, {seeds} starts: at η = {lr} the first update alone, which moves every weight that has a "
        "gradient by η, takes the median loss from {first[0]:.2f} to {first[1]:.1f}, and {fitted[0]} of {seeds} runs "
        "fit the digits (loss below {target} after {updates} updates; 95 % interval of the share {low[0]:.2f} to "
        "{high[0]:.2f}). With a warm-up of {warm_ups[1]:.0f} updates {fitted[1]} do ({low[1]:.2f} to {high[1]:.2f}). "
        "At η = {rates[2]}, {counts[2][0]} of {seeds} fit without warm-up; at η = {rates[4]}, {counts[4][0]} do, still "
        "{counts[4][1]} with a warm-up of {warm_ups[1]:.0f}, too short there, and {counts[4][2]} with one of "
        "{warm_ups[2]:.0f}.",
        "衰减：恒等式，只差舍入误差。预热：在这个网络上有帮助；在峡谷上反而更慢（见“注意”）。(a, b) 书中的 Adagrad 把 "
        "η 换成 η/√(t+1)，就是 Duchi 的 Adagrad：√(t+1) 正好约掉。在图 11 的峡谷中更新 {steps} 次，两条轨迹在 float64 "
        "下至多相差 (b, w) 的 {relative[0]:.1e}（末位的 {ulp[0]:.0f} 个单位），在 float32 下为 {relative[1]:.1e}（"
        "{ulp[1]:.0f} 个单位），分别在第 {last[0]} 和第 {last[1]} 次更新之后逐位相同（何时由舍入误差决定）。η = 1 时的"
        "爆发次数：不衰减 {bursts[0]}，衰减 {bursts[1]}，Duchi 的 {bursts[2]}。(c, d) Adam，每次更新都用全部 {samples} "
        "个手写数字，64-16-16-10 的 ReLU 网络，{seeds} 个起点：η = {lr} 时，第一次更新使每个有梯度的权重移动 η，单这一"
        "步就使损失的中位数从 {first[0]:.2f} 升到 {first[1]:.1f}，{seeds} 次运行中有 {fitted[0]} 次拟合成功（{updates} "
        "次更新后损失低于 {target}；比例的 95% 区间为 {low[0]:.2f} 到 {high[0]:.2f}）。预热 {warm_ups[1]:.0f} 次更新，"
        "则有 {fitted[1]} 次（{low[1]:.2f} 到 {high[1]:.2f}）。η = {rates[2]} 时，{seeds} 次中不预热也有 "
        "{counts[2][0]} 次成功；η = {rates[4]} 时，不预热有 {counts[4][0]} 次，预热 {warm_ups[1]:.0f} 次更新在这里太短"
        "，仍是 {counts[4][1]} 次，预热 {warm_ups[2]:.0f} 次则有 {counts[4][2]} 次。",
    ),
    caveat=Text(
        "Net and learning rates were picked so that warm-up shows, on other starts than these. The chapter's warm-up "
        "rises and then falls; ours rises and stays. By the threshold of {target} it buys no fit that a smaller "
        "learning rate would not: at η ≤ {safe} all {seeds} runs fit without it. By the loss itself it buys some: each "
        "at the best of these learning rates, the median after {updates} updates is {best[0]:.1e} without warm-up (η = "
        "{best_rate[0]}) and {best[1]:.1e} with {warm_ups[2]:.0f} updates of it (η = {best_rate[1]}), lower from "
        "{lower} of the {seeds} starts. On the canyon itself it only costs time: from {arrivals} random starts at η = "
        "1, Adam comes within a thousandth of the least loss after {arrive[0]:.0f} ± {arrive_error[0]:.0f} updates "
        "without warm-up, and {arrive[1]:.0f} ± {arrive_error[1]:.0f} with one of {long:.0f} (mean ± standard error; "
        "paired difference {delay:.0f} ± {delay_error:.0f}). Nor is noise the reason here, since every gradient is "
        "exact: the first steps have length η in every weight whether its gradient is large or small, and that is too "
        "far. Decay is not free either: the run slows down for good.",
        "网络和学习率是特意挑选的（用的是另外一些起点），好让预热的作用显出来。书中的预热先升后降；这里的只升不降。以 "
        "{target} 为界，用小一些的学习率同样能拟合：η ≤ {safe} 时，不预热的 {seeds} 次运行也全部成功。但就损失本身而言"
        "，预热确有好处：各取这几个学习率中最好的，{updates} 次更新后损失的中位数，不预热为 {best[0]:.1e}（η = "
        "{best_rate[0]}），预热 {warm_ups[2]:.0f} 次更新为 {best[1]:.1e}（η = {best_rate[1]}），{seeds} 个起点中有 "
        "{lower} 个更低。在峡谷上它只会多花时间：η = 1 时从 {arrivals} 个随机起点出发，Adam 使损失降到与最小损失相差千"
        "分之一之内，不预热需要 {arrive[0]:.0f} ± {arrive_error[0]:.0f} 次更新，预热 {long:.0f} 次则需要 "
        "{arrive[1]:.0f} ± {arrive_error[1]:.0f} 次（平均值 ± 标准误；成对之差 {delay:.0f} ± {delay_error:.0f}）。这里"
        "的原因也不是噪声，因为每个梯度都是精确的：不论梯度大小，最初几步在每个权重上都走 η，这就太远了。衰减也有代价："
        "训练从此越走越慢。",
    ),
)

JUMP, QUIET = 0.1, 100  # a burst, as in figure 12
WARM_UPS = (1.0, 10.0, 50.0)  # updates; 1 is none
LEARNING_RATES = (0.01, 0.05, 0.1, 0.2, 0.4)
SHOWN = 3  # the learning rate of panel (c)
TARGET = 0.01  # nats: fitted
LONG = 100.0  # updates of warm-up in the canyon
STYLES = ((plots.VERMILION, "o"), (plots.BLUE, "s"), (plots.GREEN, "^"))


def decayed(learning_rate):
    """The chapter's Adagrad with the learning rate η/√(t+1)."""
    return ls.optimizers.rms(lambda count: learning_rate / jnp.sqrt(count + 1.0))


def duchi(learning_rate):
    """Adagrad with the root of the sum of squares, and nothing added to it."""
    return optax.adagrad(learning_rate, initial_accumulator_value=0.0, eps=0.0)


def adam(learning_rate, warm_up):
    """Adam whose learning rate rises from η/warm_up to η in so many updates."""
    return optax.adam(lambda count: learning_rate * jnp.minimum((count + 1) / warm_up, 1.0))


def warmed(learning_rate):
    return adam(learning_rate, LONG)


def paths(problem, starts, factory, steps):
    """Paths (starts, steps + 1, 2) at learning rate 1, in the precision of the starts (count, 2)."""
    how = {"optimizer": factory, "hyper": {"learning_rate": 1.0}, "steps": steps}
    return np.stack(ls.paths.path(problem, type(problem.reference)(*starts.T), **how), axis=-1)


def bursts(path):
    jumps = np.flatnonzero(np.abs(np.diff(path[:, 1])) > JUMP)
    return np.sum(np.diff(jumps, prepend=-1) > QUIET)


def difference(one, other):
    """|one - other| after every update: relative, and in units in the last place; the larger of b and w."""
    away = np.abs(one.astype(np.float64) - other)
    return np.max(away / np.abs(other), axis=1), np.max(away / np.spacing(np.abs(other)), axis=1)


def decay(steps):
    canyon = ls.problems.surfaces.canyon()
    optimum, start = canyon.facts(canyon.data).points[0], np.array(canyon.reference)[None]
    found = [paths(canyon, start, factory, steps)[0] for factory in (ls.optimizers.rms, decayed, duchi)]
    single = [paths(canyon, start.astype(np.float32), factory, steps)[0] for factory in (decayed, duchi)]
    relative, ulp = np.stack([difference(*found[1:]), difference(*single)], axis=1)
    stretches = np.linspace(0, steps, 41).astype(int)  # each longer than the time from one burst to the next
    last = np.array([np.flatnonzero(r)[-1] if r.any() else 0 for r in relative])
    watched = np.unique([*np.geomspace(1, steps, 150).astype(int), *last, *np.minimum(last + 1, steps)])
    return {
        "steps": steps,
        "relative": relative.max(axis=1),
        "ulp": ulp.max(axis=1),
        "last": last,
        "watched": watched,
        "difference": relative[:, watched],
        "bursts": np.array([bursts(path) for path in found]),
        "stretches": stretches,
        "distance": np.array(
            [[d.max() for d in np.split(np.abs(p[:, 1] - optimum[1]), stretches[1:-1])] for p in found]
        ),
    }


def arrivals(count, steps=3000):
    """Updates until Adam in the canyon is within a thousandth of the least loss, with warm-up and without."""
    canyon = ls.problems.surfaces.canyon()
    low, high = (np.array(corner) for corner in canyon.box)
    starts = np.random.default_rng(0).uniform(low, high, (count, 2))
    x, y = (np.asarray(values) for values in canyon.data.coefficients)
    least = canyon.facts(canyon.data).loss[0]
    first = []
    for factory in (optax.adam, warmed):
        b, w = np.moveaxis(paths(canyon, starts, factory, steps), -1, 0)[..., None]
        arrived = np.sum((y - b - w * x) ** 2, axis=-1) < 1.001 * least
        assert np.all(arrived.any(axis=1)), "not all runs arrive: give more steps"
        first.append(arrived.argmax(axis=1))
    both, delay = ls.estimate.from_samples(np.array(first), axis=1), ls.estimate.from_samples(first[1] - first[0])
    return {"arrivals": count, "long": LONG, "arrived": np.array(first), "arrive": both.mean,
            "arrive_error": both.standard_error, "delay": delay.mean, "delay_error": delay.standard_error}  # fmt: skip


def warm_up(seeds, samples, updates):
    digits = ls.problems.datasets.digits()
    net = ls.problems.networks.mlp((64, 16, 16, 10), "relu", data=Dataset(digits.x[:samples], digits.y[:samples]))
    drawn = [net.init(jax.random.fold_in(jax.random.key(1), seed), net.data) for seed in range(seeds)]
    rates, warm_ups, seed = (a.ravel() for a in np.meshgrid(LEARNING_RATES, WARM_UPS, np.arange(seeds), indexing="ij"))
    starts = jax.tree.map(lambda *leaves: np.stack(leaves)[seed], *drawn)
    hyper = {"learning_rate": rates, "warm_up": warm_ups}
    watched = np.unique(np.concatenate([np.arange(4), np.geomspace(5, updates, 12).astype(int)]))
    how = {"steps": updates, "observe_at": watched, "observe": ("loss",)}
    loss = ls.descent.run(net, starts, optimizer=adam, hyper=hyper, **how).trace.loss
    loss = loss.reshape(len(LEARNING_RATES), len(WARM_UPS), seeds, -1)
    fitted = np.sum(loss[..., -1] < TARGET, axis=-1)
    share = ls.estimate.proportion(fitted, seeds)
    final, best = best_fit(loss[..., -1])
    always = [rate for rate, count in zip(LEARNING_RATES, fitted[:, 0], strict=True) if count == seeds]
    return {
        "samples": samples,
        "seeds": seeds,
        "updates": updates,
        "target": TARGET,
        "rates": np.array(LEARNING_RATES),
        "warm_ups": np.array(WARM_UPS),
        "lr": LEARNING_RATES[SHOWN],
        "training": watched,
        "loss": loss[SHOWN],
        "first": np.median(loss[SHOWN, 0], axis=0)[:2],
        "final": loss[..., -1],
        "best": np.median(final, axis=-1),
        "best_rate": np.array(LEARNING_RATES)[best],
        "lower": np.sum(final[1] < final[0]),
        "counts": fitted,
        "fitted": fitted[SHOWN],
        "low": share.lower[SHOWN],
        "high": share.upper[SHOWN],
        "shares": np.stack([share.share, share.lower, share.upper]),
        "safe": max(always, default=np.nan),
    }


def best_fit(final):
    """Final losses (2, seeds) without warm-up and with the longest, at the rates of least median, and which these are.

    `final` is (rates, warm-ups, seeds).
    """
    ends = final[:, [0, -1]]
    best = np.median(ends, axis=-1).argmin(axis=0)
    return ends[best, [0, 1]], best


def compute(steps=100_000, seeds=16, samples=128, updates=200, count=32):
    return decay(steps) | arrivals(count) | warm_up(seeds, samples, updates)


def draw(record):
    figure = Figure(figsize=(11, 9.3), layout="constrained")
    (identity, cure), (loss, share) = figure.subplots(2, 2)
    draw_identity(record, identity)
    draw_cure(record, cure)
    draw_loss(record, loss)
    draw_share(record, share)
    for letter, ax in zip("abcd", (identity, cure, loss, share), strict=True):
        ax.set_title(f"({letter}) {ax.get_title()}", fontsize="medium")
    return figure


def draw_identity(record, ax):
    ends = record["watched"][[0, -1]]
    for values, dtype, (colour, marker), style in zip(
        record["difference"], (np.float64, np.float32), STYLES[1::-1], ("-", "--"), strict=True
    ):
        shown = np.where(values > 0, values, 3e-18)  # equal: at the foot of the axis
        ax.plot(record["watched"], shown, marker, color=colour, markersize=3, label=f"measured, {dtype.__name__}")
        eps = [np.finfo(dtype).eps] * 2
        plots.theory(ends, eps, ax, label=f"one rounding, {dtype.__name__} (theory)", style=style)
    ax.set(title="the chapter's Adagrad with decay, less Duchi's", xlabel="update $t$", xscale="log", yscale="log")
    ax.set(ylabel="relative difference of $(b, w)$ (foot: none)", ylim=(1e-18, 1e-4))


def draw_cure(record, ax):
    middle = (record["stretches"][1:] + record["stretches"][:-1]) / 2
    names = (r"chapter's Adagrad, constant $\eta$", r"the same, $\eta/\sqrt{t+1}$")
    for distance, name, (colour, marker) in zip(record["distance"], names, STYLES, strict=False):
        ax.plot(middle, distance, marker, color=colour, markersize=5, label=name)
    plots.theory(middle, record["distance"][2], ax, label="Duchi's Adagrad (theory: the same)")
    ax.set(title=f"bursts in the canyon: {record['bursts'][0]} without decay, {record['bursts'][1]} with")
    ax.set(xlabel="update $t$", yscale="log", ylabel=f"largest $|w - w^*|$ in each of {middle.size} stretches")


def name(warm_up):
    return "no warm-up" if warm_up == 1 else f"warm-up of {warm_up:.0f} updates"


def draw_loss(record, ax):
    for runs, warm_up, (colour, marker) in zip(record["loss"], record["warm_ups"], STYLES, strict=True):
        low, middle, high = np.quantile(runs, (0.25, 0.5, 0.75), axis=0)
        ax.fill_between(record["training"], low, high, color=colour, alpha=0.25, linewidth=0)
        ax.plot(record["training"], middle, marker=marker, color=colour, markersize=4, label=name(warm_up))
    ax.axhline(record["target"], color=plots.BLACK, linestyle="--", linewidth=0.9, label="counts as fitted below")
    ax.set(title=rf"Adam on digits, $\eta$ = {record['lr']}: median, quartiles", xlabel="update $t$")
    ax.set(xscale="symlog", xlim=(0, None), yscale="log", ylabel="loss $L$ (nats)")
    plots.legend(ax)


def draw_share(record, ax):
    share, low, high = np.moveaxis(record["shares"], -1, 1)
    for i, (warm_up, (colour, marker)) in enumerate(zip(record["warm_ups"], STYLES, strict=True)):
        place = record["rates"] * 1.06 ** (i - 1)  # side by side
        bars = [share[i] - low[i], high[i] - share[i]]
        options = {"color": colour, "marker": marker, "capsize": 3, "linewidth": 1, "label": name(warm_up)}
        ax.errorbar(place, share[i], bars, **options)
    ax.set(title=f"share of {record['seeds']} starts that fit the digits, 95 % intervals", xscale="log")
    ax.set(xlabel=r"learning rate $\eta$ of Adam", ylabel="share fitted", ylim=(-0.03, 1.03))
    ax.set_xticks(record["rates"], record["rates"])
    ax.minorticks_off()
    plots.legend(ax)


if __name__ == "__main__":
    main(compute, draw, CAPTION, x64=True)
