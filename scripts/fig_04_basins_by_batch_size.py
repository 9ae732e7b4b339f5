"""Figure 4: basins by batch size, and how often minibatch noise changes where a start ends."""

import numpy as np
import optax
from matplotlib.figure import Figure

import landscape as ls
from landscape import plots
from landscape.estimate import from_samples, proportion
from landscape.gallery import Caption, Text, main
from landscape.problems import toy

CAPTION = Caption(
    title=Text("Basins by batch size: when noise decides the outcome", "批量大小与吸引域：噪声何时决定结果"),
    says=Text(
        "A full batch takes one steady step, a small batch many noisy ones; the noise can carry a run out of a "
        "place where the full batch would stay, and momentum carries it further.",
        "整批每次走稳定的一步，小批量走许多带噪声的步；噪声能把训练带出整批会停留的地方，动量则把它带得更远。",
    ),
    measured=Text(
        "The toy on {samples} noisy samples (y = x + {noise:g} z), {steps} updates at every batch size. Without "
        "momentum (η = {rates[0]:g}) the outcome differs from that of the full batch, averaged over the square, "
        "with probability {share[0][0]:.1%} [{low[0][0]:.1%}, {high[0][0]:.1%}] at B = 1 and {share[0][1]:.1%} "
        "[{low[0][1]:.1%}, {high[0][1]:.1%}] at B = 4; with momentum 0.9 (η = {rates[1]:g}) {share[1][0]:.1%} "
        "[{low[1][0]:.1%}, {high[1][0]:.1%}] and {share[1][1]:.1%} [{low[1][1]:.1%}, {high[1][1]:.1%}] (95 % "
        "intervals over {repetitions} repetitions). In no repetition does it differ on {never[0][0]:.0%} and "
        "{never[0][1]:.0%} of the square, with momentum on {never[1][0]:.0%} and {never[1][1]:.0%}, mostly in the "
        "middle. At B = {batches[2]} it is 0: that is the full batch, so its place shows a cut along the dashed "
        "line instead, with the 95 % interval of each start. Noise does not only lose starts: {gained[0]:.1%} of "
        "the square diverges with the full batch but reaches a minimum at B = 1 more often than not "
        "({gained[1]:.1%} at B = 4).",
        "玩具网络，{samples} 个带噪声的样本（y = x + {noise:g} z），每种批量大小都更新 {steps} 次。不带动量（η = "
        "{rates[0]:g}）时，结果与整批不同的概率（在正方形上平均）在 B = 1 时为 {share[0][0]:.1%} [{low[0][0]:.1%}, "
        "{high[0][0]:.1%}]，B = 4 时为 {share[0][1]:.1%} [{low[0][1]:.1%}, {high[0][1]:.1%}]；动量 0.9（η = "
        "{rates[1]:g}）时为 {share[1][0]:.1%} [{low[1][0]:.1%}, {high[1][0]:.1%}] 和 {share[1][1]:.1%} "
        "[{low[1][1]:.1%}, {high[1][1]:.1%}]（{repetitions} 次重复的 95% 区间）；在所有重复中结果从不改变的部分占正"
        "方形的 {never[0][0]:.0%} 和 {never[0][1]:.0%}，带动量时占 {never[1][0]:.0%} 和 {never[1][1]:.0%}，多在中间"
        "。B = {batches[2]} 就是整批，概率为 0，所以该处改画沿虚线的剖面及每个起点的 95% 区间。噪声并不只是丢失起点"
        "：正方形中有 {gained[0]:.1%} 在整批时发散，而在 B = 1 时多半能到达极小值（B = 4 时为 {gained[1]:.1%}）。",
    ),
    caveat=Text(
        "All starts of a map share one sequence of shuffles, and the same sequence is used for every batch size: a "
        "map shows one realisation of the noise (its boundaries are sharp because of that), the probability comes "
        "from {repetitions} realisations. So neighbouring starts are not independent, and the averages' intervals "
        "count repetitions, not starts; those of single starts are Wilson's (0 of {repetitions} still allows up to "
        "{zero_upper:.0%}). A run at B = 1 or 4 never comes to rest: its outcome is the branch that gradient flow "
        "would reach from where it is after {steps} updates, {epochs[0]}, {epochs[1]} and {epochs[2]} epochs; "
        "strong noise could still move it across later. Momentum runs at a tenth of the rate, which gives the same "
        "effective step η/(1 - 0.9). The ellipse is exact for the full batch without momentum (solid) and a "
        "reference elsewhere.",
        "一张图中的所有起点共用同一个打乱序列，各批量大小也用同一序列：一张图是噪声的一次实现（边界因此清晰），概率"
        "则来自 {repetitions} 次实现。因此相邻起点并不独立，平均值的区间以重复次数而非起点数计算；单个起点用 "
        "Wilson 区间（{repetitions} 次中 0 次仍容许高达 {zero_upper:.0%}）。B = 1 或 4 的运行永不静止：其结果取 "
        "{steps} 次更新（分别为 {epochs[0]}、{epochs[1]}、{epochs[2]} 个 epoch）之后，从所在位置出发的梯度流会到达"
        "的那一支；强噪声之后仍可能使它越过边界。动量运行的学习率取十分之一，使有效步长 η/(1 - 0.9) 相同。椭圆对不"
        "带动量的整批是精确的（实线），在别处仅作参照。",
    ),
)

BATCHES = (1, 4, 32)
METHODS = ({"learning_rate": 0.1, "momentum": None}, {"learning_rate": 0.01, "momentum": 0.9})
NAMES = ("SGD", "momentum 0.9")
NOISE = 0.5
MARGIN = 1.1  # half the side of the square, in units of the box that the ellipse touches
CUT = 0.55  # height of the cut, in the same units


def noisy_toy(samples=32):
    """x uniform with variance 1, so that some samples pull harder than others, and y = x + noise."""
    rng = np.random.default_rng(3)
    x = rng.uniform(-np.sqrt(3), np.sqrt(3), samples)
    return ls.problems.two_weight(x, x + NOISE * rng.normal(size=samples))


def ellipse(problem, rate):
    """The full batch's exact boundary in these weights, and half the side of the box that it touches."""
    facts = problem.facts(problem.data)
    root, effective = np.sqrt(facts.product), rate * facts.rate_scale
    return root * np.stack(toy.ellipse(effective)), root * np.sqrt(2 / effective)


def labels(problem, grid, hyper, batch, seed, steps):
    """Label of every start; all starts share the shuffles of one seed."""
    block = 64 * -(-grid.count // 128)  # two blocks, one for each core: a quarter faster than the default
    options = {"batch_size": batch, "seeds": seed, "steps": steps, "block": block}
    found = ls.basins.map(problem, grid, optimizer=optax.sgd, hyper=hyper, **options)
    # What is still moving under noise counts with the branch where it is in the end, as the caption says.
    outcome = ls.basins.Outcome
    moving = np.isin(found.outcome, (outcome.UNSETTLED, outcome.UNDECIDED)) & (batch < problem.size)
    branch = np.asarray(found.ends.branch).reshape(found.shape)
    return np.where(moving, branch, found.labels).astype(np.int8), found.names


def one_method(problem, grid, hyper, repetitions, steps):
    """One map a batch size, and in how many repetitions each outcome differs from the full batch's."""
    full, names = labels(problem, grid, hyper, BATCHES[-1], 0, steps)
    maps, counts, shares, gained = [], [], [], []
    for batch in BATCHES[:-1]:
        runs = np.stack([labels(problem, grid, hyper, batch, seed, steps)[0] for seed in range(repetitions)])
        differs = runs != full
        maps.append(runs[0])
        counts.append(differs.sum(axis=0))
        shares.append(from_samples(differs.mean(axis=(1, 2))))
        rescued = (full == len(names) - 1) & (np.mean(runs < 2, axis=0) > 0.5)
        gained.append(rescued.mean())
    low, high = zip(*(share.interval() for share in shares), strict=True)
    found = {"maps": [*maps, full], "counts": counts, "share": [s.mean for s in shares], "low": low, "high": high}
    found["never"] = [np.mean(count == 0) for count in counts]
    return {name: np.array(value) for name, value in found.items()} | {
        "gained": np.array(gained),
        "names": np.array(names),
    }


def compute(side=112, repetitions=16, steps=256):
    problem = noisy_toy()
    curve, half = ellipse(problem, METHODS[0]["learning_rate"])
    limits = (-MARGIN * half, MARGIN * half, side)
    grid = ls.plane.box(problem, w1=limits, w2=limits)
    plain, heavy = (one_method(problem, grid, hyper, repetitions, steps) for hyper in METHODS)
    cut = np.argmin(np.abs(grid.axes[1] - CUT * half))
    return {
        **{name: np.stack([plain[name], heavy[name]]) for name in ("maps", "counts", "share", "low", "high", "never")},
        "gained": plain["gained"],
        "names": plain["names"],
        "w1": grid.axes[0],
        "w2": grid.axes[1],
        "cut": cut,
        "ellipse": curve,
        "batches": np.array(BATCHES),
        "epochs": np.array([steps * batch // problem.size for batch in BATCHES]),
        "rates": np.array([hyper["learning_rate"] for hyper in METHODS]),
        "samples": problem.size,
        "noise": NOISE,
        "repetitions": repetitions,
        "steps": steps,
        "zero_upper": proportion(0, repetitions).upper,
    }


def draw(record):
    figure = Figure(figsize=(15, 10.6), layout="constrained")
    panels = figure.subplots(3, 4)
    frame = plots.Frame((record["w1"], record["w2"]), ("w1", "w2"))
    for method in (0, 1):
        for row, batch in enumerate(record["batches"]):
            ax = panels[row, 2 * method]
            plots.basins(plots.Labels(frame, record["maps"][method, row], record["names"].tolist()), ax)
            exact = method == 0 and batch == record["samples"]
            label = "full-batch GD: exact boundary" if exact else "the same curve, as a reference"
            plots.theory(*record["ellipse"], ax, label=label, style="-" if exact else "--")
            ax.set_title(f"{NAMES[method]}, B = {batch}", fontsize="medium")
        for row in (0, 1):
            chances(record, frame, method, row, panels[row, 2 * method + 1])
        cut(record, method, panels[2, 2 * method + 1])
    plots.shared_legend(figure, panels[:, ::2].flat)
    return figure


def chances(record, frame, method, row, ax):
    """The map of the probability that the outcome is not the full batch's."""
    plots.probability(frame, record["counts"][method, row] / record["repetitions"], ax, label="P(outcome differs)")
    ax.axhline(record["w2"][record["cut"]], color="white", linewidth=1, linestyle="--")
    mean, low, high = (100 * record[name][method, row] for name in ("share", "low", "high"))
    ax.set_title(f"differs from full batch: {mean:.1f} %\n95 % interval {low:.1f} to {high:.1f} %", fontsize="medium")


def cut(record, method, ax):
    """The same probability along one line, with its interval."""
    for row, colour in ((0, plots.VERMILION), (1, plots.BLUE)):
        share = proportion(record["counts"][method, row, :, record["cut"]], record["repetitions"])
        ax.fill_between(record["w1"], share.lower, share.upper, color=colour, alpha=0.25, linewidth=0)
        ax.plot(record["w1"], share.share, color=colour, linewidth=1.2, label=f"B = {record['batches'][row]}")
    ax.set(
        xlim=record["w1"][[0, -1]],
        ylim=(0, 1.18),
        yticks=np.linspace(0, 1, 6),
        xlabel="$w_1$",
        ylabel="P(outcome differs)",
    )
    ax.set_title(
        f"{NAMES[method]}: along $w_2$ = {record['w2'][record['cut']]:.2f}\nband: 95 % Wilson interval",
        fontsize="medium",
    )
    ax.set_box_aspect(1)
    ax.legend(loc="upper center", ncols=2, fontsize="small")


if __name__ == "__main__":
    main(compute, draw, CAPTION)
