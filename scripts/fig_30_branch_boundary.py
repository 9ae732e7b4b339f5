"""Figure 30: the boundary between the toy's two branches under gradient descent is fractal, as its theory predicts."""

import numpy as np
import optax
from matplotlib.figure import Figure

import landscape as ls
from landscape import labelling, plots, uncertainty
from landscape.gallery import Caption, Text, main

CAPTION = Caption(
    title=Text("The branches' boundary, measured and predicted", "两支极小值之间的边界：实测与预测"),
    says=Text(
        "Gradient descent goes downhill, so a start should reach the minimum on its own side; the learning rate is "
        "only a matter of speed.",
        "梯度下降沿坡向下走，所以起点应当到达自己这一侧的极小值；学习率只关系到快慢。",
    ),
    measured=Text(
        "(a) Starts just inside the ellipse of convergence, two of them a distance ε apart, {pairs:,} pairs a point: "
        "the share f(ε) that reaches different branches falls as ε^α with α far below 1. (b) The same on the map "
        "θ → π - 3θ, to which a step reduces along the ellipse, {reduced_pairs:,} pairs a point. (c) The exponents, "
        "with 95 % intervals: on the toy {toy[0]:.3f} ± {toy_half[0]:.3f}, {toy[1]:.3f} ± {toy_half[1]:.3f}, "
        "{toy[2]:.3f} ± {toy_half[2]:.3f}, {toy[3]:.3f} ± {toy_half[3]:.3f} at η = {rates[0]:g}, {rates[1]:g}, "
        "{rates[2]:g}, {rates[3]:g}; on the reduced map {reduced[0]:.3f} ± {reduced_half[0]:.3f}, {reduced[1]:.3f} ± "
        "{reduced_half[1]:.3f}, {reduced[2]:.3f} ± {reduced_half[2]:.3f}, {reduced[3]:.3f} ± {reduced_half[3]:.3f}; "
        "the transfer operator predicts {exact[0]:.3f}, {exact[1]:.3f}, {exact[2]:.3f}, {exact[3]:.3f}: within "
        "{toy_within} of 4 intervals on the toy, and {reduced_within} of 4 on the reduced map. To halve the share of "
        "wrong guesses, a start must be known {halving:.1f} times as exactly. Only pairs of which both starts reach a "
        "branch count: {lost:.1e} of them on the toy are left out.",
        "(a) 在收敛椭圆内侧附近取相距 ε 的两个起点，每个 ε 取 {pairs:,} 对：到达不同分支的比例 f(ε) 按 ε^α 下降，α 远"
        "小于 1。(b) 沿椭圆一步化为映射 θ → π - 3θ，对它做同样的测量，每个 ε 取 {reduced_pairs:,} 对。(c) 指数及其 "
        "95% 区间：玩具网络在 η = {rates[0]:g}、{rates[1]:g}、{rates[2]:g}、{rates[3]:g} 时为 {toy[0]:.3f} ± "
        "{toy_half[0]:.3f}、{toy[1]:.3f} ± {toy_half[1]:.3f}、{toy[2]:.3f} ± {toy_half[2]:.3f}、{toy[3]:.3f} ± "
        "{toy_half[3]:.3f}；化简后的映射为 {reduced[0]:.3f} ± {reduced_half[0]:.3f}、{reduced[1]:.3f} ± "
        "{reduced_half[1]:.3f}、{reduced[2]:.3f} ± {reduced_half[2]:.3f}、{reduced[3]:.3f} ± {reduced_half[3]:.3f}；"
        "转移算子预测 {exact[0]:.3f}、{exact[1]:.3f}、{exact[2]:.3f}、{exact[3]:.3f}：玩具网络的 4 个区间中有 "
        "{toy_within} 个、化简后的映射的 4 个区间中有 {reduced_within} 个包含预测。要把猜错的比例减半，起点必须精确 "
        "{halving:.1f} 倍。只计两个起点都到达某一支的点对：玩具网络上有 {lost:.1e} 的点对不计。",
    ),
    caveat=Text(
        "The prediction is asymptotic and heuristic: at finite distances measurements lie beside it, here and there by "
        "more than their statistical error. Starts are uniform in the shell from {inner:g} to 1 times the ellipse, a "
        "choice made after a trial, and α depends on it: with as many pairs in the shell from 0.99 it reads 0.652 ± "
        "0.043, 0.643 ± 0.029, 0.639 ± 0.024, 0.606 ± 0.018 (nearer starts need smaller distances), from 0.8 on "
        "0.77 ± 0.15, 0.73 ± 0.13, 0.74 ± 0.10, 0.74 ± 0.09. In the whole box, at the distances that a map shows "
        "(hollow: {coarse[0]:g} to 1e-4), α reads {box[0]:.3f} ± {box_half[0]:.3f}, {box[1]:.3f} ± {box_half[1]:.3f}, "
        "{box[2]:.3f} ± {box_half[2]:.3f}, {box[3]:.3f} ± {box_half[3]:.3f}. Theory expects it too high at small η, "
        "where smooth parts of the boundary prevail; these intervals do not show it. Of those pairs {box_lost:.0%} are "
        "left out, as a start diverges: counted, they would mix the smooth edge of divergence in.",
        "这个预测是渐近的、启发式的：在有限的距离上，实测值在它附近，有时偏离超出统计误差。起点均匀取自椭圆的 "
        "{inner:g} 到 1 倍之间的壳层，这是试过之后的选择，α 也与它有关：同样多的点对，在 0.99 起的壳层中为 0.652 ± "
        "0.043、0.643 ± 0.029、0.639 ± 0.024、0.606 ± 0.018（起点越近，需要的距离越小），在 0.8 起的壳层中为 0.77 ± "
        "0.15、0.73 ± 0.13、0.74 ± 0.10、0.74 ± 0.09。在整个方框中，用图像能显示的距离（空心：{coarse[0]:g} 到 "
        "1e-4），α 为 {box[0]:.3f} ± {box_half[0]:.3f}、{box[1]:.3f} ± {box_half[1]:.3f}、{box[2]:.3f} ± "
        "{box_half[2]:.3f}、{box[3]:.3f} ± {box_half[3]:.3f}。理论预期 η 小时它偏高，因为边界中光滑的部分占优；这些区"
        "间看不出这一点。其中 {box_lost:.0%} 的点对因有起点发散而不计：若计入，就会混入光滑的发散边界。",
    ),
)

RATES = (0.05, 0.1, 0.25, 0.4)
DISTANCES = 10 ** -np.arange(4, 8.1, 0.5)
COARSE = 10 ** -np.arange(1, 4.1, 0.5)  # the distances that a map shows
INNER = 0.95
BLOCK = 4096  # one program for all numbers of runs


def shell(rate):
    """Starts uniform along the angle of the ellipse, and from INNER to 1 times as far out."""

    def draw(rng, count):
        angle, size = rng.uniform(0, 2 * np.pi, count), rng.uniform(INNER, 1, count)
        total = 2 * np.sqrt((1 + rate) / rate) * np.sin(angle)
        difference = 2 * np.sqrt((1 - rate) / rate) * np.cos(angle)
        return (size * np.stack([total + difference, total - difference]) / 2).T

    return draw


def one_rate(problem, rate, count, reduced_count, steps, seed):
    """f(ε) on the toy near the ellipse and in the whole box, and on the reduced map."""
    label = labelling.runs(
        problem, optimizer=optax.sgd, hyper={"learning_rate": rate}, steps=steps, block=BLOCK, kind=branches
    )
    box = uncertainty.uniform((-np.sqrt(2 / rate),) * 2, (np.sqrt(2 / rate),) * 2)
    strip = uncertainty.uniform((0, 0), (2 * np.pi, 0.3))
    found = {
        "toy": uncertainty.pairs(label, shell(rate), DISTANCES, count=count, seed=seed),
        "box": uncertainty.pairs(label, box, COARSE, count=count, seed=seed + 1),
        "reduced": uncertainty.pairs(
            lambda points: labelling.reduced_branch(points, rate), strip, DISTANCES, count=reduced_count, seed=seed + 2
        ),
    }
    record = {"exact": labelling.branch_exponent(rate)}
    for name, pairs in found.items():
        share, alpha = pairs.share(), pairs.exponent()
        record |= {name: alpha.mean, f"{name}_half": alpha.interval()[1] - alpha.mean, f"{name}_lost": alpha.undecided}
        record[f"{name}_share"] = np.stack([share.share, share.lower, share.upper])
    return record


def branches(found):
    """The branch; a run that diverges, or ends at the saddle, is of neither, and its pair is left out."""
    label = labelling.by_name(found)
    return np.where(label > 1, labelling.UNKNOWN, label)


def compute(count=60_000, reduced_count=100_000, steps=2000):
    problem = ls.problems.two_weight()
    rows = [one_rate(problem, rate, count, reduced_count, steps, 3 * i) for i, rate in enumerate(RATES)]
    record = {field: np.stack([row[field] for row in rows]) for field in rows[0]}
    fine = np.linspace(0.005, 0.495, 50)
    within = {
        f"{name}_within": np.sum(np.abs(record[name] - record["exact"]) < record[f"{name}_half"])
        for name in ("toy", "reduced")
    }
    return (
        record
        | within
        | {
            "rates": np.array(RATES),
            "distances": DISTANCES,
            "pairs": count,
            "reduced_pairs": reduced_count,
            "lost": record["toy_lost"].mean(),
            "box_lost": record["box_lost"].mean(),
            "inner": INNER,
            "coarse": COARSE,
            "halving": 2 ** (1 / record["exact"].mean()),
            "fine": fine,
            "predicted": np.array([labelling.branch_exponent(rate) for rate in fine]),
        }
    )


STYLES = ((plots.BLUE, "o"), (plots.GREEN, "s"), (plots.ORANGE, "^"), (plots.VERMILION, "D"))


def draw_shares(record, name, ax):
    rows = zip(record["rates"], STYLES, record[f"{name}_share"], record["exact"], strict=True)
    for rate, (colour, marker), share, exact in rows:
        at, shown = record["distances"], share[0] > 0
        middle, low, high = share[:, shown]
        bars = np.stack([middle - low, high - middle])
        look = {"fmt": marker, "color": colour, "markersize": 4, "capsize": 2}
        ax.errorbar(at[shown], middle, bars, **look, label=f"η = {rate:g}")
        height = share[0].mean() / np.mean(at**exact)  # the most likely one, for this slope
        plots.theory(at, height * at**exact, ax, label="slope α of the prediction, height fitted")
    ax.set(xscale="log", yscale="log", xlabel="distance ε", ylabel="share f(ε) of pairs that differ")
    plots.legend(ax)


def draw_exponents(record, ax):
    plots.theory(record["fine"], record["predicted"], ax, label="transfer operator")
    hollow = {"markerfacecolor": "none", "markersize": 6}
    for name, shift, marker, colour, look, label in (  # beside each other
        ("toy", 0, "o", plots.BLUE, {}, "toy, starts near the ellipse"),
        ("reduced", -0.008, "s", plots.VERMILION, {}, "reduced map"),
        ("box", 0.008, "D", plots.GREY, hollow, r"toy, uniform starts, $\varepsilon \geq 10^{-4}$"),
    ):
        bars = {"fmt": marker, "color": colour, "capsize": 3, "label": label, "markersize": 5} | look
        ax.errorbar(record["rates"] + shift, record[name], record[f"{name}_half"], **bars)
    plots.theory([0, 0.5], [1, 1], ax, label="smooth boundary", style=":")
    ax.set(xlabel="learning rate η", ylabel="uncertainty exponent α (95 %)", xlim=(0, 0.5), ylim=(0.5, 1.05))
    plots.legend(ax)


def draw(record):
    figure = Figure(figsize=(13, 4.6), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    draw_shares(record, "toy", left)
    draw_shares(record, "reduced", middle)
    draw_exponents(record, right)
    left.set_title("(a) the toy, starts near the ellipse")
    middle.set_title(r"(b) the reduced map $\theta \to \pi - 3\theta$")
    right.set_title("(c) exponents against the prediction")
    return figure


if __name__ == "__main__":
    main(compute, draw, CAPTION, x64=True)
